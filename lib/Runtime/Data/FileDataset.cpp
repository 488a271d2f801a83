//===- FileDataset.cpp - samples from files -------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DataFile.h"
#include "DatasetKinds.h"
#include "StoredDataset.h"
#include "ValueRange.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cstring>

namespace zopt::runtime {

namespace {

template <typename T>
void widen(const void *from, int64_t *to, int64_t count) {
  const char *bytes = static_cast<const char *>(from);
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, bytes + i * int64_t(sizeof(T)), sizeof(T));
    to[i] = int64_t(value);
  }
}

template <typename T>
void narrow(const int64_t *from, void *to, int64_t count) {
  char *bytes = static_cast<char *>(to);
  for (int64_t i = 0; i < count; ++i) {
    T value = T(from[i]);
    std::memcpy(bytes + i * int64_t(sizeof(T)), &value, sizeof(T));
  }
}

void loadIntegers(const Column &column, const void *from, int64_t *to, int64_t count) {
  switch (column.type) {
  case DataType::I64:
  case DataType::U64: // its bits
    return widen<int64_t>(from, to, count);
  case DataType::U32:
    return widen<uint32_t>(from, to, count);
  case DataType::I32:
    return column.isUnsigned32 ? widen<uint32_t>(from, to, count) : widen<int32_t>(from, to, count);
  case DataType::I16:
    return widen<int16_t>(from, to, count);
  case DataType::U16:
    return widen<uint16_t>(from, to, count);
  case DataType::I8:
    return widen<int8_t>(from, to, count);
  default:
    return widen<uint8_t>(from, to, count);
  }
}

void storeIntegers(DataType type, const int64_t *from, void *to, int64_t count) {
  switch (type) {
  case DataType::I64:
  case DataType::U64:
    return narrow<int64_t>(from, to, count);
  case DataType::U32:
    return narrow<uint32_t>(from, to, count);
  case DataType::I32:
    return narrow<int32_t>(from, to, count);
  case DataType::I16:
    return narrow<int16_t>(from, to, count);
  case DataType::U16:
    return narrow<uint16_t>(from, to, count);
  case DataType::I8:
    return narrow<int8_t>(from, to, count);
  default:
    return narrow<uint8_t>(from, to, count);
  }
}

class FileDataset : public StoredDataset {
public:
  static Result<std::unique_ptr<Dataset>> open(const Program &program, const DatasetOptions &options);
  Status checkFirstBatch() const override;

protected:
  Status fillInput(size_t input, int64_t step, int64_t microStep, int64_t rank, void *destination) const override;

private:
  FileDataset(const Program &program, const DatasetOptions &options)
      : StoredDataset(program, options), labelShift(options.labelShift) {}

  Status openFiles(const Program &program, const DatasetOptions &options);
  Status checkShift(const Program &program) const;
  void writeNotes();
  /// `rows` samples from `first` on, numbered within the file.
  Status readRows(const DataFile &data, size_t input, int64_t first, int64_t rows, char *destination) const;
  Status readIntegers(const DataFile &data, size_t input, int64_t first, int64_t count, char *destination) const;
  Status readFloats(const DataFile &data, size_t input, int64_t first, int64_t count, char *destination) const;
  Status outOfRange(const DataFile &data, size_t input, int64_t element, int64_t value) const;
  void shiftRows(const Input &input, char *data) const;

  LabelShift labelShift;
  bool isText = false; // labels are made from the tokens, shifted
  std::vector<DataFile> files;
};

Result<std::unique_ptr<Dataset>> FileDataset::open(const Program &program, const DatasetOptions &options) {
  std::unique_ptr<FileDataset> dataset(new FileDataset(program, options));
  ZOPT_RETURN_IF_FAILED(dataset->openFiles(program, options));
  ZOPT_RETURN_IF_FAILED(dataset->checkShift(program));
  ZOPT_RETURN_IF_FAILED(dataset->putInOrder(options));
  dataset->writeNotes();
  return Result<std::unique_ptr<Dataset>>(std::move(dataset));
}

Status FileDataset::openFiles(const Program &program, const DatasetOptions &options) {
  Result<DataFormat> format = formatOfFiles(options);
  if (format.failed())
    return format.getStatus();
  for (const std::string &path : options.files) {
    Result<DataFile> data = *format == DataFormat::Safetensors ? openSafetensorsData(path, program)
                            : *format == DataFormat::Bytes
                                ? openBytesData(path, program, options.format == DataFormat::Bytes)
                                : openTokensData(path, program, options.tokenType);
    if (data.failed())
      return data.getStatus();
    for (size_t i = 0; i < inputs.size() && !files.empty(); ++i)
      if (data->columns[i].isMade != files.front().columns[i].isMade)
        return inputError(path, ": ", data->columns[i].isMade ? "lacks " : "has ", inputs[i].name, ", unlike ",
                          options.files.front());
    addFile(data->samples);
    files.push_back(std::move(*data));
  }
  isText = *format != DataFormat::Safetensors;
  if (options.tokenType != TokenType::Auto && *format != DataFormat::Tokens)
    return usageError("--token-dtype applies to token files, but ", options.files.front(), " is none");
  return success();
}

Status FileDataset::checkShift(const Program &program) const {
  if (labelShift != LabelShift::Shift)
    return success();
  if (isText)
    return usageError("--shift-labels applies to labels of safetensors; those of ", files.front().file.path(),
                      " are made shifted");
  for (const Input &input : inputs)
    if (input.kind == InputKind::Label && (input.shape.size() != 2 || isFloat(input.type) || !input.hasIgnoreIndex))
      return inputError(program.model, ": --shift-labels cannot shift the label ", input.name, " of shape ",
                        shapeText(input.shape), " and type ", nameOf(input.type),
                        ": it shifts integer sequences whose loss has an ignored index");
  return success();
}

void FileDataset::writeNotes() {
  const std::string &name = files.front().file.path();
  std::string what = nameOfFiles(name);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (files.front().columns[i].isMade)
      noteLines.push_back(concat(what, ": has no ", inputs[i].name, ", which is made: ",
                                 inputs[i].name == "position_ids"     ? "0, 1, ... in every sample"
                                 : inputs[i].name == "attention_mask" ? "1 everywhere"
                                                                      : "0 everywhere"));
  std::string ignored;
  for (const std::string &tensor : files.front().ignored)
    ignored += (ignored.empty() ? "" : ", ") + tensor;
  if (!ignored.empty())
    noteLines.push_back(concat(what, ": the plan has no input for ", ignored, ", which is ignored"));
  noteDropped(what);
}

Status FileDataset::fillInput(size_t index, int64_t step, int64_t microStep, int64_t rank, void *destination) const {
  const Input &input = inputs[index];
  char *to = static_cast<char *>(destination);
  if (files.front().columns[index].isMade) {
    makeInput(input, destination);
    return success();
  }
  const int64_t rowBytes = files.front().columns[index].elements * sizeOf(input.type);
  for (int64_t row = 0; row < micro;) {
    int64_t sample = sampleAt(step, microStep, rank, row);
    size_t file = fileOf(sample);
    int64_t local = sample - firstSamples[file], rows = 1;
    while (row + rows < micro && local + rows < files[file].samples &&
           sampleAt(step, microStep, rank, row + rows) == sample + rows)
      ++rows;
    ZOPT_RETURN_IF_FAILED(readRows(files[file], index, local, rows, to + row * rowBytes));
    row += rows;
  }
  if (input.kind == InputKind::Label && labelShift == LabelShift::Shift)
    shiftRows(input, to);
  return success();
}

Status FileDataset::readRows(const DataFile &data, size_t index, int64_t first, int64_t rows, char *destination) const {
  const Column &column = data.columns[index];
  int64_t count = rows * column.elements;
  return isFloat(inputs[index].type) ? readFloats(data, index, first * column.elements, count, destination)
                                     : readIntegers(data, index, first * column.elements, count, destination);
}

Status FileDataset::readIntegers(const DataFile &data, size_t index, int64_t first, int64_t count,
                                 char *destination) const {
  constexpr int64_t chunk = 1024;
  const Column &column = data.columns[index];
  const Input &input = inputs[index];
  const ValueRange range(input);
  const int64_t size = sizeOf(column.type);
  alignas(8) char raw[chunk * 8];
  int64_t values[chunk];
  for (int64_t done = 0; done < count; done += chunk) {
    int64_t part = std::min(chunk, count - done);
    ZOPT_RETURN_IF_FAILED(data.file.read(column.offset + (first + done) * size, raw, part * size));
    loadIntegers(column, raw, values, part);
    for (int64_t i = 0; i < part; ++i)
      if (!range.allows(values[i]))
        return outOfRange(data, index, first + done + i, values[i]);
    storeIntegers(input.type, values, destination + done * sizeOf(input.type), part);
  }
  return success();
}

Status FileDataset::readFloats(const DataFile &data, size_t index, int64_t first, int64_t count,
                               char *destination) const {
  constexpr int64_t chunkBytes = 16 << 10;
  const Column &column = data.columns[index];
  const DataType type = inputs[index].type;
  const int64_t size = sizeOf(column.type), chunk = chunkBytes / size;
  if (column.type == type)
    return data.file.read(column.offset + first * size, destination, count * size);
  alignas(8) char raw[chunkBytes];
  for (int64_t done = 0; done < count; done += chunk) {
    int64_t part = std::min(chunk, count - done);
    ZOPT_RETURN_IF_FAILED(data.file.read(column.offset + (first + done) * size, raw, part * size));
    convertElements(column.type, raw, type, destination + done * sizeOf(type), part);
  }
  return success();
}

Status FileDataset::outOfRange(const DataFile &data, size_t index, int64_t element, int64_t value) const {
  const Input &input = inputs[index];
  const ValueRange range(input);
  int64_t elements = data.columns[index].elements, rest = element % elements;
  std::string position;
  if (input.shape.size() == 2)
    position = concat(", position ", rest);
  else if (input.shape.size() > 2) {
    std::vector<int64_t> place(input.shape.size() - 1);
    for (size_t i = place.size(); i-- > 0; rest /= input.shape[i + 1])
      place[i] = rest % input.shape[i + 1];
    position = concat(", position ", shapeText(place));
  }
  return inputError(data.file.path(), ": ", input.name, ": sample ", element / elements, position, ": ",
                    range.refusal(value));
}

/// Hugging Face's labels repeat the input; the loss compares the logits at t with the label at t + 1, and the last
/// position has none.
void FileDataset::shiftRows(const Input &input, char *data) const {
  const int64_t length = input.shape[1], size = sizeOf(input.type);
  for (int64_t row = 0; row < micro; ++row) {
    char *labels = data + row * length * size;
    std::memmove(labels, labels + size, size_t((length - 1) * size));
    storeInteger(input.type, labels, length - 1, input.ignoreIndex);
  }
}

Status FileDataset::checkFirstBatch() const {
  std::vector<std::vector<char>> buffers;
  std::vector<void *> destinations;
  for (const Input &input : inputs)
    buffers.emplace_back(size_t(std::max<int64_t>(1, elementCount(input.shape) * sizeOf(input.type))));
  for (std::vector<char> &buffer : buffers)
    destinations.push_back(buffer.data());

  // For each label, the inputs it could repeat: sequences of integers of the same shape.
  struct Pair {
    size_t input, label;
    int64_t counted = 0, equal = 0;
  };
  std::vector<Pair> pairs;
  for (size_t l = 0; l < inputs.size(); ++l)
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[l].kind == InputKind::Label && inputs[i].kind == InputKind::Input &&
          !files.front().columns[i].isMade && !isFloat(inputs[l].type) && !isFloat(inputs[i].type) &&
          inputs[l].shape.size() == 2 && inputs[l].shape == inputs[i].shape)
        pairs.push_back({i, l});

  for (int64_t microStep = 0; microStep < accumulation; ++microStep)
    for (int64_t rank = 0; rank < world; ++rank) {
      ZOPT_RETURN_IF_FAILED(fill(0, microStep, rank, destinations.data()));
      for (Pair &pair : pairs) {
        const Input &input = inputs[pair.input], &label = inputs[pair.label];
        for (int64_t k = 0, count = elementCount(label.shape); k < count; ++k) {
          int64_t value = loadAsInteger(label.type, destinations[pair.label], k);
          if (label.hasIgnoreIndex && value == label.ignoreIndex)
            continue;
          ++pair.counted;
          pair.equal += value == loadAsInteger(input.type, destinations[pair.input], k);
        }
      }
    }
  if (labelShift != LabelShift::Check || isText)
    return success();
  for (const Pair &pair : pairs)
    if (pair.counted > 0 && pair.equal * 100 >= pair.counted * 95)
      return inputError(files.front().file.path(), ": ", inputs[pair.label].name, ": ", pair.equal,
                        " of the first batch's ", pair.counted, " counted labels equal ", inputs[pair.input].name,
                        " at the same position, so they seem not to be shifted: give --shift-labels to shift them, or "
                        "--no-shift-labels if they are meant");
  return success();
}

} // namespace

Result<std::unique_ptr<Dataset>> openFileDataset(const Program &program, const DatasetOptions &options) {
  return FileDataset::open(program, options);
}

} // namespace zopt::runtime
