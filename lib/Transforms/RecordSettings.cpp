//===- RecordSettings.cpp - what a plan was compiled with -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/BuiltinOps.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"

namespace zopt {
#define GEN_PASS_DEF_RECORDSETTINGSPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;

namespace {
struct RecordSettingsPass : zopt::impl::RecordSettingsPassBase<RecordSettingsPass> {
  using RecordSettingsPassBase::RecordSettingsPassBase;

  void runOnOperation() final {
    if (failed(record("compiled", compiled)) || failed(record("run", run)))
      signalPassFailure();
  }

private:
  /// `%XX` as its byte; nothing where that is no hexadecimal number.
  static std::optional<std::string> decode(StringRef text) {
    std::string plain;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        plain += text[i];
        continue;
      }
      unsigned byte = 0;
      if (i + 2 >= text.size() || text.substr(i + 1, 2).getAsInteger(16, byte))
        return std::nullopt;
      plain += static_cast<char>(byte);
      i += 2;
    }
    return plain;
  }

  LogicalResult record(StringRef option, StringRef list) {
    NamedAttrList attributes;
    Builder builder(&getContext());
    for (StringRef entry : llvm::split(list, ';')) {
      if (entry.empty())
        continue;
      auto [flag, value] = entry.split('=');
      std::optional<std::string> plain = decode(value);
      if (flag.empty() || !plain)
        return getOperation().emitError("zopt-record-settings: ")
               << option << " is a list of flag=value, but has '" << entry << "'";
      if (attributes.get(flag))
        return getOperation().emitError("zopt-record-settings: ") << option << " has '" << flag << "' twice";
      attributes.set(flag, builder.getStringAttr(*plain));
    }
    if (!attributes.empty())
      getOperation()->setAttr(("train." + option).str(), attributes.getDictionary(&getContext()));
    return success();
  }
};
} // namespace
