//===- ParameterGroups.cpp - rates and decays by name ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ParameterGroups.h"
#include <cmath>

using namespace mlir;
using namespace zopt;

bool zopt::matches(const llvm::Regex &expression, train::StateOp state) {
  return expression.match(state.getSymName()) || (state.getSourceName() && expression.match(*state.getSourceName()));
}

FailureOr<SmallVector<ParameterGroup>> zopt::parseParameterGroups(Location loc, StringRef text) {
  SmallVector<ParameterGroup> groups;
  bool failed = false;
  SmallVector<StringRef> parts;
  text.split(parts, ';', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    auto problem = [&]() -> InFlightDiagnostic {
      failed = true;
      return emitError(loc) << "parameter group '" << part << "' ";
    };
    // Expressions may have colons; settings have none.
    auto [expression, settings] = part.rsplit(':');
    ParameterGroup group{expression.str(), llvm::Regex(expression), {}, {}};
    std::string error;
    if (expression.empty() || settings.empty())
      problem() << "is no REGEX:lr=X,weight-decay=Y";
    else if (!group.expression.isValid(error))
      problem() << "has no regular expression: " << error;
    SmallVector<StringRef> pairs;
    settings.split(pairs, ',', -1, false);
    for (StringRef pair : pairs) {
      auto [key, value] = pair.split('=');
      double number = 0;
      std::optional<double> *place = key == "lr"             ? &group.learningRate
                                     : key == "weight-decay" ? &group.weightDecay
                                                             : nullptr;
      if (!place)
        problem() << "sets '" << key << "', expected lr or weight-decay";
      else if (*place)
        problem() << "sets " << key << " twice";
      else if (value.getAsDouble(number) || !std::isfinite(number) || number < 0)
        problem() << "sets " << key << " to '" << value << "', which is not a number of at least 0";
      else
        *place = number;
    }
    groups.push_back(std::move(group));
  }
  if (failed)
    return failure();
  return groups;
}

ParameterGroup *zopt::groupOf(MutableArrayRef<ParameterGroup> groups, train::StateOp state) {
  ParameterGroup *first = nullptr;
  for (ParameterGroup &group : groups)
    if (matches(group.expression, state)) {
      group.matched = true;
      first = first ? first : &group;
    }
  return first;
}
