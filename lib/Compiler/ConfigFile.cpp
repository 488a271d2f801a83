//===- ConfigFile.cpp - zopt's flags from a config ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/ConfigFile.h"
#include "zopt/Compiler/Pipelines.h"
#include "zopt/Dialect/Train/Train.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <map>

using namespace mlir;

namespace zopt {

std::optional<int64_t> getHiddenSize(ModuleOp forward) {
  std::map<int64_t, int64_t> counts;
  for (train::StateOp state : forward.getOps<train::StateOp>())
    if (auto type = dyn_cast<RankedTensorType>(state.getTensorType()); type && state.getTrained() && type.getRank() == 2)
      for (int64_t size : type.getShape())
        ++counts[size];
  std::optional<int64_t> hidden;
  for (auto [size, count] : counts)
    if (!hidden || count > counts[*hidden])
      hidden = size;
  return hidden;
}

namespace {
std::optional<std::string> readText(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/true);
  if (!buffer)
    return std::nullopt;
  return (*buffer)->getBuffer().str();
}
} // namespace

int ConfigFile::apply(llvm::StringRef file, llvm::ArrayRef<FlagValue> flags, int64_t ranks, bool strict) {
  path = file.str();
  auto buffer = llvm::MemoryBuffer::getFile(file, /*IsText=*/true);
  if (!buffer) {
    llvm::errs() << path << ": error: cannot read: " << buffer.getError().message() << '\n';
    return 1;
  }
  text = (*buffer)->getBuffer().str();
  for (const FlagValue &flag : flags)
    if (flag.option->getNumOccurrences())
      request.given[flag.option->ArgStr.str()] = flag.value;
  request.ranks = ranks;
  resolved = config::resolveFile(path, text, request, readText);
  llvm::errs() << config::report(resolved, path, strict);
  if (!resolved.accepted(strict))
    return 1;
  set(flags, {});
  return 0;
}

void ConfigFile::applyModel(ModuleOp forward, llvm::ArrayRef<FlagValue> flags) {
  request.hiddenSize = getHiddenSize(forward);
  if (!request.hiddenSize)
    return;
  config::Resolved before = std::exchange(resolved, config::resolveFile(path, text, request, readText));
  // Notes of the first report are not repeated.
  config::Resolved news;
  for (const config::Finding &note : resolved.notes)
    if (llvm::none_of(before.notes, [&](const config::Finding &old) { return old.key == note.key && old.text == note.text; }))
      news.notes.push_back(note);
  llvm::errs() << config::report(news, path, /*strict=*/false);
  set(flags, before);
}

void ConfigFile::set(llvm::ArrayRef<FlagValue> flags, const config::Resolved &before) {
  for (const config::Setting &setting : resolved.settings) {
    if (setting.ofRun || setting.origin == config::Origin::Flag || before.find(setting.flag))
      continue;
    for (const FlagValue &flag : flags)
      if (flag.option->ArgStr == setting.flag)
        for (llvm::StringRef value : llvm::split(setting.value, '\n'))
          flag.option->addOccurrence(0, flag.option->ArgStr, value);
  }
}

std::string ConfigFile::runSettings() const {
  std::string list;
  for (const config::Setting &setting : resolved.settings)
    if (setting.ofRun)
      list += (list.empty() ? "" : ";") + setting.flag + "=" + encodeSetting(setting.value);
  return list;
}

void ConfigFile::print(llvm::ArrayRef<FlagValue> flags, llvm::raw_ostream &stream) const {
  config::Resolved all = resolved;
  for (const FlagValue &flag : flags)
    if (std::string name = flag.option->ArgStr.str(); !all.find(name))
      all.settings.push_back({name, flag.value, request.given.count(name) ? config::Origin::Flag : config::Origin::Default, ""});
  stream << config::toJson(all, path).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

} // namespace zopt
