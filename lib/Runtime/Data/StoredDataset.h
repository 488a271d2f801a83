//===- StoredDataset.h - samples that lie in files in an order --- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DATA_STOREDDATASET_H
#define ZOPT_LIB_RUNTIME_DATA_STOREDDATASET_H

#include "zopt/Runtime/Data/Dataset.h"
#include "zopt/Runtime/Data/SampleOrder.h"

namespace zopt::runtime {

/// What all formats share: samples are numbered over files, and visited in an order.
class StoredDataset : public Dataset {
protected:
  StoredDataset(const Program &program, const DatasetOptions &options)
      : Dataset(program, options), order(1, false, 0) {}

  /// A further file.
  void addFile(int64_t samples) {
    firstSamples.push_back(sampleCount);
    sampleCount += samples;
  }
  /// After the last file: fails where there is less than one global batch.
  Status putInOrder(const DatasetOptions &options);
  /// "a.txt and 3 more".
  std::string nameOfFiles(const std::string &first) const;
  void noteDropped(const std::string &what);

  size_t fileOf(int64_t sample) const;
  int64_t sampleAt(int64_t step, int64_t microStep, int64_t rank, int64_t row) const;

  std::vector<int64_t> firstSamples; // one a file
  SampleOrder order;
};

/// The format of all files together; fails where they differ or a name does not tell.
Result<DataFormat> formatOfFiles(const DatasetOptions &options);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_DATA_STOREDDATASET_H
