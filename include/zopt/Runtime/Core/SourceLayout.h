//===- SourceLayout.h - states by the names and in the layouts of the source model ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An exporter may have renamed and transposed a weight. State::sourceName and State::sourcePermutation take it back: axis k of the source's layout is axis sourcePermutation[k] of ours.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_SOURCELAYOUT_H
#define ZOPT_RUNTIME_CORE_SOURCELAYOUT_H

#include "zopt/Runtime/Core/Program.h"
#include <cstdint>
#include <string>
#include <vector>

namespace zopt::runtime {

inline bool isLearned(const State &state) { return state.role == Role::Parameter || state.role == Role::Buffer; }

inline const std::string &nameIn(const State &state, bool sourceNames) { return sourceNames && !state.sourceName.empty() ? state.sourceName : state.name; }

inline bool isPermuted(const State &state, bool sourceNames) {
  if (!sourceNames)
    return false;
  for (size_t i = 0; i < state.sourcePermutation.size(); ++i)
    if (state.sourcePermutation[i] != int64_t(i))
      return true;
  return false;
}

inline std::vector<int64_t> shapeIn(const State &state, bool sourceNames) {
  if (!isPermuted(state, sourceNames))
    return state.shape;
  std::vector<int64_t> shape;
  for (int64_t axis : state.sourcePermutation)
    shape.push_back(state.shape[size_t(axis)]);
  return shape;
}

/// Where element `index` of our layout stands in the source's.
class SourceIndex {
public:
  explicit SourceIndex(const State &state) : shape(state.shape), strides(state.shape.size()) {
    int64_t stride = 1;
    for (size_t k = state.sourcePermutation.size(); k-- > 0;) {
      strides[size_t(state.sourcePermutation[k])] = stride;
      stride *= state.shape[size_t(state.sourcePermutation[k])];
    }
  }
  int64_t operator()(int64_t index) const {
    int64_t position = 0;
    for (size_t axis = shape.size(); axis-- > 0;) {
      position += index % shape[axis] * strides[axis];
      index /= shape[axis];
    }
    return position;
  }

private:
  std::vector<int64_t> shape, strides;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_SOURCELAYOUT_H
