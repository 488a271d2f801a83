//===- Dataset.h - what a run is fed with -----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Fills a Program's inputs from files (safetensors, bytes, tokens, jsonl) or with synthetic values. Which sample goes where depends on nothing but step, micro-step and process rank:
//
//   step s, micro-step a, rank r, row i  <-  position s * globalBatch + (a * world + r) * micro + i,   globalBatch = micro * accumulation * world
//
// counted over epochs of `stepsPerEpoch` steps, and the position is the sample's place in file order, or in the epoch's permutation of it. So a resumed run needs to know its step only.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_DATA_DATASET_H
#define ZOPT_RUNTIME_DATA_DATASET_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace zopt::runtime {

enum class DataFormat { Auto, Safetensors, Bytes, Tokens, Jsonl };
/// Elements of a token file without a header.
enum class TokenType { Auto, UInt16, UInt32 };
/// What is done with the labels of safetensors: stop where they look unshifted, shift them, or take them as they are.
enum class LabelShift { Check, Shift, Keep };

/// How rows of jsonl become samples.
struct JsonlOptions {
  enum class BadRecords { Stop, Skip } badRecords = BadRecords::Stop;
  enum class LongRows { Truncate, Drop } longRows = LongRows::Truncate; ///< rows of more tokens than the plan's sequence
  int64_t padToken = 0;                                                 ///< behind shorter ones
  bool pack = false; ///< several rows in a sample, where the plan has inputs that keep them apart
  bool given = false;                                                   ///< refused for data of other formats
};

struct DatasetOptions {
  std::vector<std::string> files; ///< in the order of their samples; none: synthetic batches
  DataFormat format = DataFormat::Auto;
  TokenType tokenType = TokenType::Auto;
  LabelShift labelShift = LabelShift::Check;
  bool shuffle = false;
  uint64_t seed = 0; ///< of the shuffle and of synthetic values
  /// Held-out data: a step is one micro-batch a rank, and where all labels have an ignored index the last one is partial.
  bool evaluation = false;
  JsonlOptions jsonl;
};

/// Puts the files that a pattern of a shell (*, ?, [...]) matches in its place, in the order of the bytes of their names. A pattern that is the name of a file is that file; one that matches none fails.
Status expandPatterns(std::vector<std::string> &files);

/// The samples of a run. Const functions may be called from several threads; fill() allocates nothing but where it parses jsonl.
class Dataset {
public:
  /// Opens the files and checks that they have what the Program wants: formats, names, types, shapes, and samples for at least one global batch. `program` is not kept.
  static Result<std::unique_ptr<Dataset>> open(const Program &program, const DatasetOptions &options);
  virtual ~Dataset() = default;

  /// Of all files together; 0 for synthetic data.
  int64_t samples() const { return sampleCount; }
  int64_t globalBatch() const { return batch; }
  /// 0 for synthetic data, which has no end. A training run drops what is less than a global batch; a forward run takes it as a last, partial step, and so does evaluation where labels can be ignored.
  int64_t stepsPerEpoch() const;
  /// Steps and epochs count from 0.
  int64_t epochOf(int64_t step) const { return stepsPerEpoch() ? step / stepsPerEpoch() : 0; }
  /// The steps of a whole run, from --steps and --epochs (0: not given): the smaller where both are; one epoch, or 100 steps of synthetic data, where neither is.
  int64_t totalSteps(int64_t steps, int64_t epochs) const;
  /// How many rows of this micro-batch are samples: the micro-batch but in a partial step, whose other rows repeat the last sample.
  int64_t rowsIn(int64_t step, int64_t microStep, int64_t rank) const;

  /// Lines that the user should read before step 1: what is dropped, ignored, made or synthetic.
  const std::vector<std::string> &notes() const { return noteLines; }

  /// Reads the first global batch: every value is checked, and labels that look unshifted are refused.
  virtual Status checkFirstBatch() const;

  /// Writes one micro-batch: destinations[i] has room for Program::inputs[i], in its type and shape. Values out of range fail with file, sample (in the file), position and value; the destinations
  /// are not to be used then.
  virtual Status fill(int64_t step, int64_t microStep, int64_t rank, void *const *destinations) const;
  /// Gives the rows of a filled micro-batch from `from` on ignored labels, so that they count for nothing.
  void ignoreRows(int64_t from, void *const *destinations) const;

protected:
  Dataset(const Program &program, const DatasetOptions &options);
  /// The place of row `row` in the run's sequence of samples: epoch and position in it.
  struct Place {
    int64_t epoch, position;
  };
  Place placeOf(int64_t step, int64_t microStep, int64_t rank, int64_t row) const;
  /// Writes inputs[input] of one micro-batch, for fill().
  virtual Status fillInput(size_t input, int64_t step, int64_t microStep, int64_t rank, void *destination) const;

  std::vector<Input> inputs;
  int64_t world, micro, accumulation, batch;
  int64_t sampleCount = 0;
  bool keepsRemainder; // forward runs, and evaluation where it can ignore rows
  std::vector<std::string> noteLines;
};

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_DATA_DATASET_H
