//===- Patience.h - times at which no rank is late ---------------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_LAUNCH_PATIENCE_H
#define ZOPT_RUNTIME_LAUNCH_PATIENCE_H

#include "zopt/Runtime/Comm/Communicator.h"
#include <algorithm>

namespace zopt::runtime {

/// While ranks load, save and evaluate, none of them is late. A rank that dies is noticed all the same.
class Patience {
public:
  Patience(Communicator &communicator, double usual) : communicator(communicator), usual(usual) {
    communicator.setTimeout(std::max(usual, 86400.0));
  }
  ~Patience() { communicator.setTimeout(usual); }
  Patience(const Patience &) = delete;
  Patience &operator=(const Patience &) = delete;

private:
  Communicator &communicator;
  const double usual;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_LAUNCH_PATIENCE_H
