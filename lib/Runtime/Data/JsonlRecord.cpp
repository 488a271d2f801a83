//===- JsonlRecord.cpp - a line of jsonl as token ids ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Data/JsonlRecord.h"
#include "zopt/Runtime/Core/Status.h"
#include <limits>
#include <nlohmann/json.hpp>

namespace zopt::runtime {

namespace {

/// Takes the arrays of the keys of interest from nlohmann's events, without building a document. An event that returns
/// false ends the parse.
class RecordHandler : public nlohmann::json_sax<nlohmann::json> {
public:
  RecordHandler(std::array<std::vector<int64_t>, JsonlRecord::kKeys> &values,
                std::array<bool, JsonlRecord::kKeys> &given)
      : values(values), given(given) {}

  std::string problem;

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a truth value"); }
  bool number_integer(number_integer_t value) override { return number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (isWanted() && value > uint64_t(std::numeric_limits<int64_t>::max()))
      return refuse(concat(where(), "holds ", value, ", which is no token"));
    return number(int64_t(value));
  }
  bool number_float(number_float_t, const string_t &text) override {
    return scalar(concat("the number ", text.substr(0, 40), ", which is no integer").c_str());
  }
  bool string(string_t &) override {
    return scalar(wanted == JsonlRecord::Prompt || wanted == JsonlRecord::Completion
                      ? "text, not token ids (python/zopt_data makes them)"
                      : "text");
  }
  bool binary(binary_t &) override { return scalar("bytes"); }

  bool start_object(std::size_t) override {
    if (depth > 0 && isWanted())
      return refuse(concat(where(), "holds an object, not token ids"));
    ++depth;
    return true;
  }
  bool end_object() override { return end(); }
  bool start_array(std::size_t) override {
    if (depth == 0)
      return refuse("is a list, not an object");
    if (isWanted() && depth > 1)
      return refuse(concat(where(), "holds a list in a list: a record is one row"));
    ++depth;
    return true;
  }
  bool end_array() override { return end(); }
  bool key(string_t &name) override {
    if (depth != 1)
      return true;
    wanted = JsonlRecord::kKeys;
    for (int i = 0; i < JsonlRecord::kKeys; ++i)
      if (name == JsonlRecord::nameOf(JsonlRecord::Key(i)))
        wanted = JsonlRecord::Key(i);
    if (isWanted() && given[wanted])
      return refuse(concat(where(), "is given twice"));
    if (isWanted())
      given[wanted] = true;
    return true;
  }
  bool parse_error(std::size_t position, const std::string &, const nlohmann::detail::exception &error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while parsing value - ...; last
    // read: '...'"
    // and "[json.exception.out_of_range.406] number overflow parsing '9999...'", with all the digits
    const std::string text = error.what();
    const size_t colon = text.find(": "), bracket = text.find("] ");
    const size_t begin = colon != std::string::npos ? colon + 2 : bracket != std::string::npos ? bracket + 2 : 0;
    return refuse(concat("is no JSON: column ", position, ": ", text.substr(begin, 120)));
  }

private:
  bool isWanted() const { return wanted != JsonlRecord::kKeys; }
  std::string where() const { return concat(JsonlRecord::nameOf(wanted), ": "); }
  bool refuse(const std::string &text) {
    if (problem.empty())
      problem = text;
    return false;
  }
  bool end() {
    --depth;
    return true;
  }
  bool scalar(const char *what) {
    if (depth == 0)
      return refuse("is not an object");
    return !isWanted() || refuse(concat(where(), "holds ", what));
  }
  bool number(int64_t value) {
    if (depth == 0)
      return refuse("is not an object");
    if (!isWanted())
      return true;
    if (depth == 1)
      return refuse(concat(where(), "is a number, not a list of them"));
    values[wanted].push_back(value);
    return true;
  }

  std::array<std::vector<int64_t>, JsonlRecord::kKeys> &values;
  std::array<bool, JsonlRecord::kKeys> &given;
  int64_t depth = 0;
  JsonlRecord::Key wanted = JsonlRecord::kKeys;
};

/// Bytes of the line come back in messages of the parser.
std::string onOneLine(std::string text) {
  for (char &c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
      c = ' ';
  return text;
}

} // namespace

const char *JsonlRecord::nameOf(Key key) {
  static constexpr const char *names[] = {"input_ids",      "labels",         "prompt",       "completion",
                                          "attention_mask", "token_type_ids", "position_ids", ""};
  return names[key];
}

std::string JsonlRecord::parse(std::string_view line, bool wantsLabels) {
  for (std::vector<int64_t> &list : values)
    list.clear();
  given.fill(false);
  RecordHandler handler(values, given);
  if (!nlohmann::json::sax_parse(line.begin(), line.end(), &handler))
    return onOneLine(handler.problem.empty() ? "is no JSON" : handler.problem);
  return join(wantsLabels);
}

std::string JsonlRecord::join(bool wantsLabels) {
  if (given[Prompt] != given[Completion])
    return concat("has ", nameOf(given[Prompt] ? Prompt : Completion), ", but no ",
                  nameOf(given[Prompt] ? Completion : Prompt));
  if (given[Prompt]) {
    if (given[InputIds] || given[Labels])
      return concat("has ", nameOf(given[InputIds] ? InputIds : Labels), " beside prompt and completion");
    if (values[Completion].empty())
      return "completion: is empty";
    std::vector<int64_t> &tokens = values[InputIds], &labels = values[Labels];
    tokens = values[Prompt];
    tokens.insert(tokens.end(), values[Completion].begin(), values[Completion].end());
    labels.assign(values[Prompt].size(), kUncountedLabel);
    labels.insert(labels.end(), values[Completion].begin(), values[Completion].end());
  } else {
    if (!given[InputIds])
      return "has neither input_ids nor prompt and completion";
    if (wantsLabels && !given[Labels])
      return "has input_ids, but no labels";
    if (values[InputIds].empty())
      return "input_ids: is empty";
  }
  const size_t count = tokens().size();
  for (Key key : {Labels, AttentionMask, TokenTypeIds, PositionIds})
    if (given[key] && values[key].size() != count)
      return concat(nameOf(key), ": has ", values[key].size(), " elements, but ",
                    isPromptAndCompletion() ? "prompt and completion have " : "input_ids has ", count);
  for (int64_t value : values[AttentionMask])
    if (value != 0 && value != 1)
      return concat("attention_mask: holds ", value, ", which is neither 0 nor 1");
  return "";
}

} // namespace zopt::runtime
