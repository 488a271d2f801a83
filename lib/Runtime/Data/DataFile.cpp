//===- DataFile.cpp - where a file keeps the samples of each input --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DataFile.h"
#include "Packing.h"
#include "DatasetKinds.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <algorithm>

namespace zopt::runtime {

namespace {

const char *kindName(const Input &input) { return input.kind == InputKind::Label ? "label" : "input"; }

std::string listTensors(const SafetensorsFile &file) {
  std::string text;
  for (const SafetensorsTensor &tensor : file.tensors())
    text += concat(text.empty() ? "" : ", ", tensor.name, " ", shapeText(tensor.shape), " ", safetensorsName(tensor.type));
  return text.empty() ? "no tensors" : text;
}

/// The shape that the data must have: the input's, with samples in the place of the micro-batch.
std::string wantedShape(const Input &input) {
  std::string text = "[samples";
  for (size_t i = 1; i < input.shape.size(); ++i)
    text += concat(", ", input.shape[i]);
  return text + "]";
}

int64_t sampleElements(const Input &input) {
  return elementCount(std::vector<int64_t>(input.shape.begin() + 1, input.shape.end()));
}

/// A file of `count` tokens of `type` that begin at `offset`.
Result<DataFile> makeTextFile(InputFile file, const Program &program, const TextInputs &text, Column tokens, int64_t count) {
  // Sample i needs one token behind its sequence, as its last label.
  int64_t extra = text.labels >= 0 ? 1 : 0;
  DataFile data{std::move(file), (count - extra) / text.sequence, {}, {}};
  if (count <= extra || data.samples == 0)
    return inputError(data.file.path(), ": has ", count, " tokens, too few for one sample of ", text.sequence + extra);
  tokens.elements = text.sequence;
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    Column column = tokens;
    column.isMade = int(i) != text.tokens && int(i) != text.labels;
    if (column.isMade)
      ZOPT_RETURN_IF_FAILED(checkMadeInput(program.model, program.inputs[i]));
    if (int(i) == text.labels)
      column.offset += sizeOf(tokens.type);
    data.columns.push_back(column);
  }
  return Result<DataFile>(std::move(data));
}

/// llm.c's token files begin with 256 integers: a magic, a version, the number of tokens.
constexpr int64_t kHeaderIntegers = 256;
struct TokenFileKind {
  int32_t magic, version;
  TokenType type;
  const char *name;
};
constexpr TokenFileKind kTokenFileKinds[] = {{20240520, 1, TokenType::UInt16, "GPT-2"}, {20240801, 7, TokenType::UInt32, "Llama 3"}};

} // namespace

Result<TextInputs> findTextInputs(const std::string &path, const Program &program, bool withPairMask) {
  TextInputs text;
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const Input &input = program.inputs[i];
    if (isMadeInput(input) || (withPairMask && !input.shape.empty() && isPairMask(input, input.shape.back())))
      continue;
    bool isSequence = input.shape.size() == 2 && !isFloat(input.type) && input.type != DataType::Bool;
    int &slot = input.kind == InputKind::Label ? text.labels : text.tokens;
    if (!isSequence)
      return inputError(path, ": holds tokens, but the plan's ", kindName(input), " ", input.name, " is ", shapeText(input.shape), " of ",
                        nameOf(input.type), ", not a batch of integer sequences");
    if (slot >= 0)
      return inputError(path, ": holds tokens for one ", kindName(input), ", but the plan has ", program.inputs[slot].name, " and ",
                        input.name);
    slot = int(i);
  }
  if (text.tokens < 0)
    return inputError(path, ": holds tokens, but the plan has no input for them");
  const Input &tokens = program.inputs[text.tokens];
  text.sequence = tokens.shape[1];
  text.vocabulary = tokens.limit;
  if (text.labels >= 0) {
    const Input &labels = program.inputs[text.labels];
    if (labels.shape != tokens.shape)
      return inputError(path, ": holds tokens, but the plan's input ", tokens.name, " is ", shapeText(tokens.shape), " and its label ",
                        labels.name, " ", shapeText(labels.shape));
    if (text.vocabulary == 0)
      text.vocabulary = labels.limit;
  }
  if (text.sequence < 1)
    return inputError(path, ": holds tokens, but the plan's input ", tokens.name, " is ", shapeText(tokens.shape));
  return text;
}

Result<DataFile> openSafetensorsData(const std::string &path, const Program &program) {
  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  if (file.failed())
    return file.getStatus();

  // All that is missing, in one line.
  std::string missing;
  for (const Input &input : program.inputs)
    if (!file->find(input.name) && !isMadeInput(input))
      missing += concat(missing.empty() ? "" : " and ", kindName(input), " ", input.name, " ", wantedShape(input));
  if (!missing.empty())
    return inputError(path, ": has no tensor for the plan's ", missing, "; it has ", listTensors(*file));

  int64_t samples = -1;
  std::string counted;
  std::vector<Column> columns;
  for (const Input &input : program.inputs) {
    const SafetensorsTensor *tensor = file->find(input.name);
    Column column;
    if (!tensor) {
      column.isMade = true;
      ZOPT_RETURN_IF_FAILED(checkMadeInput(program.model, input));
      columns.push_back(column);
      continue;
    }
    std::string where = concat(path, ": ", input.name, ": ");
    bool fits = tensor->shape.size() == input.shape.size() && !input.shape.empty() && input.shape[0] == program.microBatch &&
                std::equal(tensor->shape.begin() + 1, tensor->shape.end(), input.shape.begin() + 1);
    if (!fits)
      return inputError(where, "has shape ", shapeText(tensor->shape), ", but the plan wants ", wantedShape(input));
    if (isFloat(tensor->type) && !isFloat(input.type))
      return inputError(where, "has type ", safetensorsName(tensor->type), ", but the plan wants integers (", nameOf(input.type), ")");
    if (samples >= 0 && tensor->shape[0] != samples)
      return inputError(where, "has ", tensor->shape[0], " samples, but ", counted, " has ", samples);
    samples = tensor->shape[0];
    counted = input.name;
    column.type = tensor->type;
    column.offset = tensor->offset;
    column.elements = sampleElements(input);
    columns.push_back(column);
  }
  if (samples <= 0)
    return inputError(path, samples < 0 ? ": is of no use to a plan that has no inputs" : ": has no samples");

  DataFile data{file->takeInput(), samples, std::move(columns), {}};
  for (const SafetensorsTensor &tensor : file->tensors())
    if (std::none_of(program.inputs.begin(), program.inputs.end(), [&](const Input &input) { return input.name == tensor.name; }))
      data.ignored.push_back(tensor.name);
  return Result<DataFile>(std::move(data));
}

Result<DataFile> openBytesData(const std::string &path, const Program &program, bool askedFor) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  Result<TextInputs> text = findTextInputs(path, program);
  if (text.failed())
    return text.getStatus();
  if (!askedFor && text->vocabulary != 0 && text->vocabulary != 256)
    return inputError(path, ": would be read as bytes, but the plan's input ", program.inputs[text->tokens].name, " has a vocabulary of ",
                      text->vocabulary, ", not 256: give --data-format=bytes if that is meant");
  Column tokens;
  tokens.type = DataType::U8;
  int64_t count = file->size();
  return makeTextFile(std::move(*file), program, *text, tokens, count);
}

Result<DataFile> openTokensData(const std::string &path, const Program &program, TokenType tokenType) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  Result<TextInputs> text = findTextInputs(path, program);
  if (text.failed())
    return text.getStatus();

  int64_t headerBytes = 0, announced = -1;
  int32_t header[3] = {};
  if (file->size() >= kHeaderIntegers * int64_t(sizeof(int32_t)))
    ZOPT_RETURN_IF_FAILED(file->read(0, header, sizeof header));
  for (const TokenFileKind &kind : kTokenFileKinds) {
    if (header[0] != kind.magic)
      continue;
    if (header[1] != kind.version)
      return inputError(path, ": has the magic ", kind.magic, " of llm.c's ", kind.name, " token files, but version ", header[1], ", not ",
                        kind.version);
    if (tokenType != TokenType::Auto && tokenType != kind.type)
      return inputError(path, ": has the magic ", kind.magic, " of llm.c's ", kind.name, " token files, whose tokens are ",
                        kind.type == TokenType::UInt16 ? "uint16" : "uint32", ", which is not what --token-dtype asks for");
    tokenType = kind.type;
    headerBytes = kHeaderIntegers * int64_t(sizeof(int32_t));
    announced = header[2];
  }
  if (tokenType == TokenType::Auto && text->vocabulary > 65536)
    return inputError(path, ": has no header that tells the type of its tokens, and a vocabulary of ", text->vocabulary,
                      " does not fit uint16: give --token-dtype=uint16 or uint32");

  Column tokens;
  tokens.type = tokenType == TokenType::UInt32 ? DataType::I32 : DataType::U16;
  tokens.isUnsigned32 = tokenType == TokenType::UInt32;
  tokens.offset = headerBytes;
  int64_t bytes = file->size() - headerBytes, size = sizeOf(tokens.type);
  if (announced >= 0 && bytes != announced * size)
    return inputError(path, ": has a header of ", announced, " tokens, but ", bytes, " bytes follow, not ", announced * size,
                      " (is it truncated?)");
  if (bytes % size != 0)
    return inputError(path, ": has ", bytes, " bytes of tokens, which is no multiple of ", size);
  return makeTextFile(std::move(*file), program, *text, tokens, bytes / size);
}

} // namespace zopt::runtime
