//===- JsonlDataset.cpp - rows of token ids, padded -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every line is parsed when the data is opened, so that bad ones are known before step 1 and the number of samples does
// not depend on what a run happens to visit. What stays in memory is where each record begins, 24 bytes each; a
// batch parses its lines again.
//
//===----------------------------------------------------------------------===//

#include "DataFile.h"
#include "DatasetKinds.h"
#include "Packing.h"
#include "StoredDataset.h"
#include "ValueRange.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Data/JsonlRecord.h"
#include <algorithm>
#include <cstring>

namespace zopt::runtime {

namespace {

constexpr int64_t kLongestLine = 64 << 20;
constexpr size_t kProblemsTold = 10;

/// The lines of a file, one after the other.
class LineReader {
public:
  explicit LineReader(const InputFile &file) : file(file) {}

  /// False at the end of the file. A line longer than kLongestLine is passed over: its text is empty, its length is
  /// not.
  Result<bool> next() {
    begin += length + 1;
    length = 0;
    text = {};
    if (begin >= file.size())
      return false;
    for (;;) {
      int64_t known = bufferBegin + int64_t(buffer.size()), from = begin + length;
      if (from < known) {
        const char *data = buffer.data() + (from - bufferBegin);
        const void *end = std::memchr(data, '\n', size_t(known - from));
        length += end ? static_cast<const char *>(end) - data : known - from;
        if (end)
          break;
      }
      if (begin + length >= file.size())
        break; // the last line has no newline
      ZOPT_RETURN_IF_FAILED(readOn());
    }
    if (length <= kLongestLine)
      text = std::string_view(buffer.data() + (begin - bufferBegin), size_t(length));
    ++number;
    return true;
  }
  int64_t begin = -1, length = 0; // of the line, in bytes
  int64_t number = 0;             // the first is 1
  std::string_view text;

private:
  /// Reads behind what is known, and keeps the line of it (unless it is too long to be of use).
  Status readOn() {
    constexpr int64_t chunk = 1 << 20;
    int64_t known = bufferBegin + int64_t(buffer.size()),
            keepFrom = length > kLongestLine ? known : std::min(begin, known);
    if (known < begin)
      known = keepFrom = begin;
    buffer.erase(0, std::min(buffer.size(), size_t(keepFrom - bufferBegin)));
    bufferBegin = keepFrom;
    int64_t count = std::min(chunk, file.size() - known);
    size_t kept = buffer.size();
    buffer.resize(kept + size_t(count));
    return file.read(known, buffer.data() + kept, count);
  }

  const InputFile &file;
  std::string buffer; // bytes from bufferBegin on
  int64_t bufferBegin = 0;
};

class JsonlDataset : public StoredDataset {
public:
  static Result<std::unique_ptr<Dataset>> open(const Program &program, const DatasetOptions &options);
  Status checkFirstBatch() const override;
  Status fill(int64_t step, int64_t microStep, int64_t rank, void *const *destinations) const override;

private:
  JsonlDataset(const Program &program, const DatasetOptions &options)
      : StoredDataset(program, options), options(options.jsonl), labelShift(options.labelShift),
        shifts(options.labelShift != LabelShift::Keep) {}

  struct Row {
    int64_t offset, bytes, length; // of the line; tokens that are taken of it
  };

  Status chooseInputs(const Program &program, const std::string &path);
  Status openFile(const std::string &path);
  /// What is wrong with the line, or nothing; `record` holds it.
  std::string read(std::string_view line, JsonlRecord &record) const;
  Status readRow(size_t file, int64_t row, std::string &line, JsonlRecord &record) const;
  /// Calls `use` with each record of a sample, the only one where rows are not packed.
  template <typename Use>
  Status forRecords(int64_t sample, std::string &line, JsonlRecord &record, Use use) const {
    const size_t file = fileOf(sample);
    const int64_t number = sample - firstSamples[file];
    const int64_t begin = options.pack ? firstRows[file][size_t(number)] : number, end = options.pack ? firstRows[file][size_t(number + 1)] : number + 1;
    for (int64_t row = begin; row < end; ++row) {
      ZOPT_RETURN_IF_FAILED(readRow(file, row, line, record));
      use(record);
    }
    return success();
  }
  /// The label of position `position` of a sample, in the graph's alignment.
  int64_t labelAt(const JsonlRecord &record, int64_t position) const;
  /// Writes one record from position `begin` of a row on.
  void store(const JsonlRecord &record, int64_t row, int64_t begin, void *const *destinations) const;
  /// Writes what stands behind `used` positions of a row.
  void pad(int64_t row, int64_t used, void *const *destinations) const;
  /// What keeps packed rows apart is there, and so are their positions; otherwise it says what is not.
  Status checkPacking(const std::string &path);
  /// Makes samples of a file's rows.
  void packFile(const std::vector<Row> &found);
  int64_t lengthOf(const JsonlRecord &record) const { return std::min(int64_t(record.tokens().size()), text.sequence); }
  void writeNotes(const DatasetOptions &all);

  /// An input beside tokens and labels, and the record's key for it.
  struct Companion {
    size_t input;
    JsonlRecord::Key key;
    bool isOfRows; // of micro-batch x sequence; otherwise it is made
  };
  JsonlOptions options;
  LabelShift labelShift;
  bool shifts;
  TextInputs text;
  std::vector<Companion> companions;
  std::vector<ValueRange> ranges; // one an input
  std::vector<InputFile> files;
  std::vector<std::vector<Row>> rows; // one list a file; packed: in the order of samples
  std::vector<std::vector<int64_t>> firstRows; // packed: of each sample of a file, and the end
  int pairMask = -1;                           // the input that keeps packed rows apart
  std::vector<std::string> problems;  // the first ones
  int64_t records = 0, bad = 0, truncated = 0, dropped = 0, padded = 0, uncounted = 0, packedTokens = 0;
};

Result<std::unique_ptr<Dataset>> JsonlDataset::open(const Program &program, const DatasetOptions &options) {
  if (options.tokenType != TokenType::Auto)
    return usageError("--token-dtype applies to token files, but ", options.files.front(), " is none");
  std::unique_ptr<JsonlDataset> dataset(new JsonlDataset(program, options));
  ZOPT_RETURN_IF_FAILED(dataset->chooseInputs(program, options.files.front()));
  for (const std::string &path : options.files)
    ZOPT_RETURN_IF_FAILED(dataset->openFile(path));
  if (dataset->bad > 0 && options.jsonl.badRecords == JsonlOptions::BadRecords::Stop) {
    std::string list;
    for (const std::string &problem : dataset->problems)
      list += (list.empty() ? "" : "; ") + problem;
    if (dataset->bad > int64_t(dataset->problems.size()))
      list += concat("; and ", dataset->bad - int64_t(dataset->problems.size()), " more");
    return inputError(list, dataset->bad == 1 ? "" : concat(" (", dataset->bad, " of ", dataset->records, " records)"),
                      "; --bad-records=skip leaves such records out");
  }
  dataset->writeNotes(options);
  if (Status order = dataset->putInOrder(options); order.failed()) {
    // What was left out explains it.
    std::string why;
    for (const std::string &note : dataset->noteLines)
      why += "; " + note;
    return inputError(order.message(), why);
  }
  dataset->noteDropped(dataset->nameOfFiles(options.files.front()));
  return Result<std::unique_ptr<Dataset>>(std::move(dataset));
}

Status JsonlDataset::chooseInputs(const Program &program, const std::string &path) {
  Result<TextInputs> found = findTextInputs(path, program, /*withPairMask=*/true);
  if (found.failed())
    return found.getStatus();
  text = *found;
  for (const Input &input : inputs)
    ranges.emplace_back(input);
  if (text.labels >= 0 && !inputs[size_t(text.labels)].hasIgnoreIndex)
    return inputError(path, ": holds rows of several lengths, but the loss has no ignored index for the label ",
                      inputs[size_t(text.labels)].name, " of padding");
  if (!ranges[size_t(text.tokens)].contains(options.padToken))
    return usageError("--pad-token: ", inputs[size_t(text.tokens)].name, ": ",
                      ranges[size_t(text.tokens)].refusal(options.padToken));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (int(i) == text.tokens || int(i) == text.labels)
      continue;
    if (isPairMask(inputs[i], text.sequence)) {
      pairMask = int(i);
      continue;
    }
    ZOPT_RETURN_IF_FAILED(checkMadeInput(program.model, inputs[i]));
    JsonlRecord::Key key = inputs[i].name == "attention_mask"   ? JsonlRecord::AttentionMask
                           : inputs[i].name == "token_type_ids" ? JsonlRecord::TokenTypeIds
                                                                : JsonlRecord::PositionIds;
    companions.push_back({i, key, inputs[i].shape == inputs[size_t(text.tokens)].shape});
  }
  return options.pack ? checkPacking(path) : success();
}

Status JsonlDataset::checkPacking(const std::string &path) {
  if (pairMask < 0)
    return inputError(path, ": --pack puts several rows into one sequence, but the plan has no input attention_mask of [batch, ", text.sequence, ", ", text.sequence, "] or [batch, 1, ", text.sequence, ", ", text.sequence,
                      "] that could keep them apart; without --pack rows are padded");
  return success();
}

std::string JsonlDataset::read(std::string_view line, JsonlRecord &record) const {
  std::string problem = record.parse(line, text.labels >= 0);
  if (!problem.empty())
    return problem;
  if (!shifts && text.labels >= 0 && record.isPromptAndCompletion())
    return "has prompt and completion, whose labels are made and shifted: --no-shift-labels cannot be obeyed";
  auto check = [&](size_t input, const char *name, const std::vector<int64_t> &values, bool isLabel) -> std::string {
    for (size_t i = 0; i < values.size(); ++i)
      if (!(isLabel ? ranges[input].allows(values[i]) || values[i] == kUncountedLabel
                    : ranges[input].contains(values[i])))
        return concat(name, ": position ", i, ": ", ranges[input].refusal(values[i]));
    return "";
  };
  const bool joined = record.isPromptAndCompletion();
  problem = check(size_t(text.tokens), joined ? "prompt and completion" : "input_ids", record.tokens(), false);
  if (problem.empty() && text.labels >= 0)
    problem = check(size_t(text.labels), joined ? "prompt and completion" : "labels", record.labels(), true);
  for (const Companion &companion : companions)
    if (const std::vector<int64_t> *values = companion.isOfRows ? record.find(companion.key) : nullptr;
        values && problem.empty())
      problem = check(companion.input, JsonlRecord::nameOf(companion.key), *values, false);
  return problem;
}

Status JsonlDataset::openFile(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  LineReader lines(*file);
  JsonlRecord record;
  std::vector<Row> found;
  for (;;) {
    Result<bool> more = lines.next();
    if (more.failed())
      return more.getStatus();
    if (!*more)
      break;
    if (lines.length <= kLongestLine && lines.text.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    ++records;
    std::string problem = lines.length > kLongestLine
                              ? concat("has ", lines.length, " bytes, more than a record may have, ", kLongestLine)
                              : read(lines.text, record);
    if (!problem.empty()) {
      ++bad;
      if (problems.size() < kProblemsTold)
        problems.push_back(concat(path, ":", lines.number, ": ", problem));
      continue;
    }
    const int64_t count = int64_t(record.tokens().size());
    if (count > text.sequence && options.longRows == JsonlOptions::LongRows::Drop) {
      ++dropped;
      continue;
    }
    truncated += count > text.sequence;
    padded += count < text.sequence;
    if (text.labels >= 0) {
      bool counts = false;
      for (int64_t i = 0; i < text.sequence && !counts; ++i)
        counts = labelAt(record, i) != inputs[size_t(text.labels)].ignoreIndex;
      uncounted += !counts;
    }
    found.push_back({lines.begin, lines.length, std::min(count, text.sequence)});
  }
  if (options.pack) {
    packFile(found);
  } else {
    addFile(int64_t(found.size()));
    found.shrink_to_fit();
    rows.push_back(std::move(found));
  }
  files.push_back(std::move(*file));
  return success();
}

void JsonlDataset::packFile(const std::vector<Row> &found) {
  std::vector<int64_t> lengths;
  for (const Row &row : found)
    lengths.push_back(row.length);
  const std::vector<int64_t> samples = packRows(lengths, text.sequence);
  int64_t count = 0;
  for (int64_t sample : samples)
    count = std::max(count, sample + 1);
  std::vector<int64_t> firsts(size_t(count + 1));
  for (int64_t sample : samples)
    ++firsts[size_t(sample + 1)];
  for (size_t i = 1; i < firsts.size(); ++i)
    firsts[i] += firsts[i - 1];
  std::vector<int64_t> next(firsts.begin(), firsts.end() - 1);
  std::vector<Row> ordered(found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    ordered[size_t(next[size_t(samples[i])]++)] = found[i];
    packedTokens += found[i].length;
  }
  addFile(count);
  rows.push_back(std::move(ordered));
  firstRows.push_back(std::move(firsts));
}

void JsonlDataset::writeNotes(const DatasetOptions &all) {
  const std::string what = nameOfFiles(all.files.front());
  auto many = [](int64_t count, const char *one, const char *several) {
    return concat(count, " ", count == 1 ? one : several);
  };
  for (const std::string &problem : problems)
    noteLines.push_back("skips " + problem);
  if (bad > 0)
    noteLines.push_back(concat(what, ": ", bad, " of ", many(records, "record", "records"), " skipped"));
  if (dropped > 0)
    noteLines.push_back(
        concat(what, ": ", many(dropped, "row", "rows"), " of more than ", text.sequence, " tokens dropped"));
  if (truncated > 0)
    noteLines.push_back(
        concat(what, ": ", many(truncated, "row", "rows"), " of more than ", text.sequence, " tokens truncated"));
  if (uncounted > 0)
    noteLines.push_back(concat(what, ": ", many(uncounted, "row has", "rows have"), " no label that counts",
                               truncated > 0 ? " (a prompt that fills the sequence leaves none)" : ""));
  if (options.pack) {
    size_t count = 0;
    for (const std::vector<Row> &file : rows)
      count += file.size();
    const bool hasPositions = std::any_of(companions.begin(), companions.end(), [](const Companion &companion) { return companion.isOfRows && companion.key == JsonlRecord::PositionIds; });
    noteLines.push_back(concat(what, ": ", many(int64_t(count), "row is", "rows are"), " packed into ", many(sampleCount, "sequence", "sequences"), " of ", text.sequence, " tokens, ",
                               sampleCount > 0 ? 100 * packedTokens / (sampleCount * text.sequence) : 0, "% of which are theirs",
                               hasPositions ? "" : "; the plan has no position_ids, so positions go on from row to row"));
    return;
  }
  bool hasMask = pairMask >= 0 || std::any_of(companions.begin(), companions.end(), [](const Companion &companion) {
    return companion.isOfRows && companion.key == JsonlRecord::AttentionMask;
  });
  if (padded > 0 && !hasMask)
    noteLines.push_back(concat(
        what, ": ", many(padded, "row is", "rows are"), " padded to ", text.sequence,
        " tokens; the plan has no attention_mask, so padding is hidden from a row's tokens by causal attention alone"));
}

int64_t JsonlDataset::labelAt(const JsonlRecord &record, int64_t position) const {
  const Input &input = inputs[size_t(text.labels)];
  const int64_t count = std::min(int64_t(record.tokens().size()), text.sequence), from = position + shifts;
  int64_t label = from < count ? record.labels()[size_t(from)] : kUncountedLabel;
  return label == kUncountedLabel ? input.ignoreIndex : label;
}

void JsonlDataset::store(const JsonlRecord &record, int64_t row, int64_t begin, void *const *destinations) const {
  const int64_t count = lengthOf(record), first = row * text.sequence + begin;
  for (int64_t i = 0; i < count; ++i) {
    storeInteger(inputs[size_t(text.tokens)].type, destinations[text.tokens], first + i, record.tokens()[size_t(i)]);
    if (text.labels >= 0)
      storeInteger(inputs[size_t(text.labels)].type, destinations[text.labels], first + i, labelAt(record, i));
  }
  for (const Companion &companion : companions) {
    if (!companion.isOfRows)
      continue;
    const std::vector<int64_t> *values = record.find(companion.key);
    for (int64_t i = 0; i < count; ++i)
      storeInteger(inputs[companion.input].type, destinations[companion.input], first + i,
                   values                                        ? (*values)[size_t(i)]
                   : companion.key == JsonlRecord::AttentionMask ? 1
                   : companion.key == JsonlRecord::PositionIds   ? i
                                                                 : 0);
  }
}

void JsonlDataset::pad(int64_t row, int64_t used, void *const *destinations) const {
  const int64_t first = row * text.sequence;
  for (int64_t i = used; i < text.sequence; ++i) {
    storeInteger(inputs[size_t(text.tokens)].type, destinations[text.tokens], first + i, options.padToken);
    if (text.labels >= 0)
      storeInteger(inputs[size_t(text.labels)].type, destinations[text.labels], first + i,
                   inputs[size_t(text.labels)].ignoreIndex);
    for (const Companion &companion : companions)
      if (companion.isOfRows)
        storeInteger(inputs[companion.input].type, destinations[companion.input], first + i,
                     companion.key == JsonlRecord::PositionIds ? i : 0);
  }
}

Status JsonlDataset::readRow(size_t file, int64_t row, std::string &line, JsonlRecord &record) const {
  const Row &place = rows[file][size_t(row)];
  line.resize(size_t(place.bytes));
  ZOPT_RETURN_IF_FAILED(files[file].read(place.offset, line.data(), place.bytes));
  if (std::string problem = read(line, record); !problem.empty())
    return inputError(files[file].path(), ": the record at byte ", place.offset,
                      " has changed since the file was opened: ", problem);
  return success();
}

Status JsonlDataset::fill(int64_t step, int64_t microStep, int64_t rank, void *const *destinations) const {
  JsonlRecord record;
  std::string line;
  std::vector<int64_t> lengths;
  for (const Companion &companion : companions)
    if (!companion.isOfRows)
      makeInput(inputs[companion.input], destinations[companion.input]);
  for (int64_t row = 0; row < micro; ++row) {
    int64_t used = 0;
    lengths.clear();
    ZOPT_RETURN_IF_FAILED(forRecords(sampleAt(step, microStep, rank, row), line, record, [&](const JsonlRecord &each) {
      store(each, row, used, destinations);
      lengths.push_back(lengthOf(each));
      used += lengths.back();
    }));
    pad(row, used, destinations);
    if (pairMask >= 0) {
      const Input &mask = inputs[size_t(pairMask)];
      storePairMask(mask.type, static_cast<char *>(destinations[pairMask]) + row * text.sequence * text.sequence * sizeOf(mask.type), lengths, text.sequence, /*causal=*/shifts); // labels of their own places may look both ways
    }
  }
  return success();
}

Status JsonlDataset::checkFirstBatch() const {
  if (text.labels < 0 || labelShift != LabelShift::Check)
    return success();
  // Labels that were shifted already lead every token by two.
  JsonlRecord record;
  std::string line;
  int64_t counted = 0, same = 0, next = 0;
  for (int64_t position = 0; position < std::min(batch, sampleCount); ++position) {
    ZOPT_RETURN_IF_FAILED(forRecords(order.at(0, position), line, record, [&](const JsonlRecord &each) {
      for (size_t i = 0; i + 1 < each.labels().size() && !each.isPromptAndCompletion(); ++i) {
        if (each.labels()[i] == kUncountedLabel)
          continue;
        ++counted;
        same += each.labels()[i] == each.tokens()[i];
        next += each.labels()[i] == each.tokens()[i + 1];
      }
    }));
  }
  if (counted > 0 && next * 100 >= counted * 95 && same * 100 < counted * 95)
    return inputError(files.front().path(), ": labels: ", next, " of the first batch's ", counted,
                      " counted labels equal the next token of input_ids, so they seem to be shifted already; "
                      "jsonl has Hugging Face's convention, labels at the place of their tokens: give "
                      "--no-shift-labels to take them as they are, or --shift-labels if they are meant");
  return success();
}

} // namespace

Result<std::unique_ptr<Dataset>> openJsonlDataset(const Program &program, const DatasetOptions &options) {
  return JsonlDataset::open(program, options);
}

} // namespace zopt::runtime
