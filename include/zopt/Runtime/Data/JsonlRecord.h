//===- JsonlRecord.h - a line of jsonl as token ids -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A record is an object on a line of its own, in one of two forms:
//
//   {"input_ids": [...], "labels": [...]}     Hugging Face's convention: labels[i] belongs to input_ids[i], -100 is not
//   counted
//   {"prompt": [...], "completion": [...]}    one sequence, of which only the completion is learnt
//
// attention_mask, token_type_ids and position_ids may stand beside them, one value a token. Other keys are passed over,
// whatever they hold.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DATA_JSONLRECORD_H
#define ZOPT_RUNTIME_DATA_JSONLRECORD_H

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zopt::runtime {

/// Hugging Face's label of a position that is not counted.
constexpr int64_t kUncountedLabel = -100;

/// Reused from line to line, it allocates little.
class JsonlRecord {
public:
  enum Key { InputIds, Labels, Prompt, Completion, AttentionMask, TokenTypeIds, PositionIds, kKeys };
  static const char *nameOf(Key key);

  /// Takes a line, without its newline. Gives what is wrong with it in words without a newline, or nothing. After an
  /// error the record is not to be read.
  std::string parse(std::string_view line, bool wantsLabels);

  /// At least one.
  const std::vector<int64_t> &tokens() const { return values[InputIds]; }
  /// As many as tokens, at the tokens' positions; empty where none were wanted nor given.
  const std::vector<int64_t> &labels() const { return values[Labels]; }
  bool isPromptAndCompletion() const { return given[Prompt]; }
  /// One a token, or null where the line has none. For AttentionMask, TokenTypeIds and PositionIds.
  const std::vector<int64_t> *find(Key key) const { return given[key] ? &values[key] : nullptr; }

private:
  std::string join(bool wantsLabels);

  std::array<std::vector<int64_t>, kKeys> values;
  std::array<bool, kKeys> given{};
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DATA_JSONLRECORD_H
