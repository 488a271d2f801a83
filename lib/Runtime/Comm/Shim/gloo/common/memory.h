//===- memory.h - a header that Debian's libgloo-dev lacks ------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Headers of gloo's TCP transport that Debian installs include this one, which it does not. They hold these pointers as
// members; nothing of ours uses them, so that all that matters is their size: one std::weak_ptr and one
// std::shared_ptr. Searched for behind all other folders (-idirafter), so that gloo's own is taken where there is one.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_SHIM_GLOO_COMMON_MEMORY_H
#define ZOPT_SHIM_GLOO_COMMON_MEMORY_H

#include <memory>

namespace gloo {

template <typename T>
class NonOwningPtr;

template <typename T>
class ShareableNonOwningPtr {
public:
  std::shared_ptr<T> pointer;
};

template <typename T>
class WeakNonOwningPtr {
public:
  WeakNonOwningPtr() = default;
  explicit WeakNonOwningPtr(const ShareableNonOwningPtr<T> &shared) : pointer(shared.pointer) {}
  std::weak_ptr<T> pointer;
};

} // namespace gloo

#endif // ZOPT_SHIM_GLOO_COMMON_MEMORY_H
