//===- LossTerms.cpp - what --loss says -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Transforms/LossTerms.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace llvm;

/// Where the first `separator` without a '\' before it stands; npos where there is none.
static size_t findPlain(StringRef text, char separator) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == separator)
      return i;
  }
  return StringRef::npos;
}

static SmallVector<StringRef> splitPlain(StringRef text, char separator) {
  SmallVector<StringRef> parts;
  for (size_t at = findPlain(text, separator); at != StringRef::npos; at = findPlain(text, separator)) {
    parts.push_back(text.take_front(at));
    text = text.drop_front(at + 1);
  }
  parts.push_back(text);
  return parts;
}

static std::string unescape(StringRef text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && StringRef("+:*\\").contains(text[i + 1]))
      ++i;
    plain += text[i];
  }
  return plain;
}

static bool parseTerm(StringRef text, zopt::LossTerm &term, std::string &error) {
  text = text.trim();
  StringRef whole = text;
  // A weight stands before the kind, so that a '*' in a file's name is none.
  if (size_t star = findPlain(text, '*'); star != StringRef::npos && star < findPlain(text, ':')) {
    StringRef number = text.take_front(star).trim();
    if (number.getAsDouble(term.weight) || !std::isfinite(term.weight)) {
      error = ("the weight '" + number + "' of '" + whole + "' is no finite number").str();
      return false;
    }
    text = text.drop_front(star + 1).trim();
  }
  const size_t colon = findPlain(text, ':');
  term.kind = text.take_front(colon).str();
  StringRef rest = colon == StringRef::npos ? StringRef() : text.drop_front(colon + 1);
  if (!is_contained({"cross_entropy", "mse", "bce_with_logits", "l1", "output", "onnx"}, StringRef(term.kind))) {
    error = ("expected " + zopt::kLossKinds).str();
    if (whole != term.kind)
      error += ", but a term is '" + whole.str() + "'";
    return false;
  }
  if (term.kind == "output" || term.kind == "onnx") {
    term.output = unescape(rest);
    if (term.kind == "onnx" && term.output.empty()) {
      error = "onnx needs a file: onnx:FILE";
      return false;
    }
    return true;
  }
  SmallVector<StringRef> names = splitPlain(rest, ':');
  if (names.size() > 2) {
    error = ("'" + whole + "' has more than an output and labels; a '\\' takes a ':' into a name").str();
    return false;
  }
  term.output = unescape(names[0]);
  if (names.size() == 2)
    term.labels = unescape(names[1]);
  return true;
}

std::optional<SmallVector<zopt::LossTerm, 1>> zopt::parseLoss(StringRef text, std::string &error) {
  SmallVector<LossTerm, 1> terms;
  for (StringRef part : splitPlain(text, '+'))
    if (!parseTerm(part, terms.emplace_back(), error))
      return std::nullopt;
  if (count_if(terms, [](const LossTerm &term) { return term.kind == "onnx"; }) > 1) {
    error = "expected at most one onnx:FILE; a graph of its own can be a sum of losses";
    return std::nullopt;
  }
  return terms;
}

SmallVector<std::string> zopt::nameTerms(ArrayRef<LossTerm> terms) {
  SmallVector<std::string> names;
  StringMap<int> counts;
  for (const LossTerm &term : terms) {
    std::string name = term.kind;
    if (term.kind == "onnx")
      name += ":" + sys::path::filename(term.output).str();
    else if (!term.output.empty() || !term.labels.empty())
      name += ":" + term.output;
    if (!term.labels.empty())
      name += ":" + term.labels;
    const int count = ++counts[name];
    names.push_back(count == 1 ? name : name + "#" + std::to_string(count));
  }
  return names;
}

std::optional<SmallVector<double>> zopt::parseWeights(StringRef text, std::string &error) {
  SmallVector<double> numbers;
  SmallVector<StringRef> parts;
  text.split(parts, ',');
  for (StringRef part : parts) {
    double number;
    if (part.trim().getAsDouble(number) || !std::isfinite(number) || number < 0) {
      error = ("'" + part.trim() + "' is no finite number of at least 0").str();
      return std::nullopt;
    }
    numbers.push_back(number);
  }
  if (all_of(numbers, [](double number) { return number == 0; })) {
    error = "all of them are 0";
    return std::nullopt;
  }
  return numbers;
}
