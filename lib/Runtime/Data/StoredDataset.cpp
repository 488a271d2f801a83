//===- StoredDataset.cpp - samples that lie in files in an order ---------- -===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StoredDataset.h"
#include <algorithm>
#include <cerrno>
#include <glob.h>
#include <iterator>
#include <sys/stat.h>

namespace zopt::runtime {

Status StoredDataset::putInOrder(const DatasetOptions &options) {
  if (sampleCount == 0)
    return inputError(options.files.front(), ": the data has no samples");
  if (!keepsRemainder && sampleCount < batch)
    return inputError(options.files.front(), ": the data has ", sampleCount, " samples, fewer than a global batch of ",
                      batch, " (micro-batch ", micro, ", accumulation ", accumulation, ", ranks ", world, ")");
  order = SampleOrder(sampleCount, options.shuffle, options.seed);
  return success();
}

std::string StoredDataset::nameOfFiles(const std::string &first) const {
  return firstSamples.size() == 1 ? first : concat(first, " and ", firstSamples.size() - 1, " more");
}

void StoredDataset::noteDropped(const std::string &what) {
  int64_t left = sampleCount % batch;
  if (left && !keepsRemainder)
    noteLines.push_back(concat(what, ": an epoch is ", stepsPerEpoch(), " steps of ", batch, " samples; the ", left,
                               " samples left of ", sampleCount, ", less than one global batch, are dropped"));
}

size_t StoredDataset::fileOf(int64_t sample) const {
  return size_t(std::upper_bound(firstSamples.begin(), firstSamples.end(), sample) - firstSamples.begin()) - 1;
}

int64_t StoredDataset::sampleAt(int64_t step, int64_t microStep, int64_t rank, int64_t row) const {
  Place place = placeOf(step, microStep, rank, row);
  return order.at(place.epoch, std::min(place.position, sampleCount - 1));
}

namespace {

bool endsWith(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Result<DataFormat> formatOf(const std::string &path) {
  if (endsWith(path, ".safetensors"))
    return DataFormat::Safetensors;
  if (endsWith(path, ".txt"))
    return DataFormat::Bytes;
  if (endsWith(path, ".bin"))
    return DataFormat::Tokens;
  if (endsWith(path, ".jsonl"))
    return DataFormat::Jsonl;
  return inputError(path, ": the name ends in none of .safetensors, .txt, .bin, .jsonl: give "
                          "--data-format=safetensors, bytes, tokens or jsonl");
}

} // namespace

Result<DataFormat> formatOfFiles(const DatasetOptions &options) {
  DataFormat common = options.format;
  for (size_t i = 0; i < options.files.size() && options.format == DataFormat::Auto; ++i) {
    Result<DataFormat> format = formatOf(options.files[i]);
    if (format.failed())
      return format.getStatus();
    if (i > 0 && *format != common)
      return inputError(options.files[i], ": is of another format than ", options.files.front());
    common = *format;
  }
  return common;
}

Status expandPatterns(std::vector<std::string> &files) {
  std::vector<std::string> expanded;
  for (std::string &file : files) {
    struct stat information;
    if (file.find_first_of("*?[") == std::string::npos || stat(file.c_str(), &information) == 0) {
      expanded.push_back(std::move(file));
      continue;
    }
    glob_t found;
    int code = glob(file.c_str(), GLOB_ERR, nullptr, &found); // in the order of their bytes: the program sets no locale
    std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (code == 0 ? found.gl_pathc : 0));
    int number = errno;
    globfree(&found);
    if (code == GLOB_NOMATCH)
      return inputError(file, ": no file has a name like this");
    if (code != 0)
      return fileError(file, "glob", number);
    expanded.insert(expanded.end(), std::make_move_iterator(paths.begin()), std::make_move_iterator(paths.end()));
  }
  files = std::move(expanded);
  return success();
}

} // namespace zopt::runtime
