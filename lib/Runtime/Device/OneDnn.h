//===- OneDnn.h - what all calls of oneDNN share ----------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DEVICE_ONEDNN_H
#define ZOPT_LIB_RUNTIME_DEVICE_ONEDNN_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <memory>
#include <oneapi/dnnl/dnnl.h>
#include <string>

namespace zopt::runtime::onednn {

inline dnnl_data_type_t libraryType(DataType type) { return type == DataType::F32 ? dnnl_f32 : dnnl_bf16; }

inline std::string textOf(dnnl_status_t status) {
  switch (status) {
  case dnnl_out_of_memory:
    return "out of memory";
  case dnnl_invalid_arguments:
    return "invalid arguments";
  case dnnl_unimplemented:
    return "unimplemented";
  case dnnl_runtime_error:
    return "runtime error";
  default:
    return concat("status ", int(status));
  }
}

/// One CPU engine serves the process: a stateless handle for the OpenMP runtime.
inline dnnl_engine_t engine() {
  static dnnl_engine_t instance = [] {
    dnnl_engine_t made = nullptr;
    return dnnl_engine_create(&made, dnnl_cpu, 0) == dnnl_success ? made : nullptr;
  }();
  return instance;
}

struct Destroy {
  void operator()(dnnl_primitive_desc_t handle) const { dnnl_primitive_desc_destroy(handle); }
  void operator()(dnnl_primitive_t handle) const { dnnl_primitive_destroy(handle); }
  void operator()(dnnl_stream_t handle) const { dnnl_stream_destroy(handle); }
  void operator()(dnnl_memory_t handle) const { dnnl_memory_destroy(handle); }
  void operator()(dnnl_primitive_attr_t handle) const { dnnl_primitive_attr_destroy(handle); }
};
template <typename Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

/// Attributes under which all scratch is ours; null where the library has none.
inline Owned<dnnl_primitive_attr_t> plannedScratch() {
  dnnl_primitive_attr_t made = nullptr;
  if (dnnl_primitive_attr_create(&made) != dnnl_success)
    return nullptr;
  Owned<dnnl_primitive_attr_t> attributes(made);
  return dnnl_primitive_attr_set_scratchpad_mode(made, dnnl_scratchpad_mode_user) == dnnl_success ? std::move(attributes) : nullptr;
}

} // namespace zopt::runtime::onednn

#endif // ZOPT_LIB_RUNTIME_DEVICE_ONEDNN_H
