//===- MatmulChoice.cpp - the fastest of a library's algorithms -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LibraryTables.h"
#include <algorithm>
#include <cmath>

namespace zopt::runtime::cuda {

namespace {

constexpr int kRounds = 7;
/// A sample is at least so long, so that the resolution of events (0.5 us) and the start of the first kernel do not matter.
constexpr double kSampleMilliseconds = 0.2;
/// What is slower than the best by this factor when it warms up is timed no further.
constexpr double kHopeless = 1.5;
/// What is not faster by more than this is not faster.
constexpr double kNoise = 0.01;

struct Candidate {
  int64_t algorithm = 0;
  std::unique_ptr<DeviceMatmul> matmul;
  double warm = 0;
  std::vector<double> samples;

  double median() const {
    std::vector<double> sorted = samples;
    std::nth_element(sorted.begin(), sorted.begin() + long(sorted.size() / 2), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

class Stopwatch {
public:
  Stopwatch(LibraryContext::Implementation &library, CUstream stream, const std::vector<MatmulPlace> &places) : library(library), stream(stream), places(places) {}
  ~Stopwatch() {
    for (CUevent event : {begin, end})
      if (event)
        library.driver.eventDestroy(event);
  }
  Status start() {
    ZOPT_CUDA(library, eventCreate, &begin, CU_EVENT_DEFAULT);
    ZOPT_CUDA(library, eventCreate, &end, CU_EVENT_DEFAULT);
    return success();
  }

  /// Milliseconds of one run, by so many.
  Result<double> time(DeviceMatmul &matmul, int64_t runs) {
    ZOPT_CUDA(library, eventRecord, begin, stream);
    for (int64_t i = 0; i < runs; ++i)
      ZOPT_RETURN_IF_FAILED(matmul.run(stream, places[size_t(next++) % places.size()].data()));
    ZOPT_CUDA(library, eventRecord, end, stream);
    ZOPT_CUDA(library, eventSynchronize, end);
    float milliseconds = 0;
    ZOPT_CUDA(library, eventElapsedTime, &milliseconds, begin, end);
    return double(milliseconds) / double(runs);
  }

private:
  LibraryContext::Implementation &library;
  CUstream stream;
  const std::vector<MatmulPlace> &places;
  CUevent begin = nullptr, end = nullptr;
  uint64_t next = 0;
};

} // namespace

Result<MatmulChoice> chooseMatmul(LibraryContext &context, const Command &command, int64_t scratchBytes, CUstream stream, const std::vector<MatmulPlace> &places, int limit) {
  Command tried = command;
  auto make = [&](int64_t algorithm) {
    tried.algorithm = algorithm;
    return createMatmul(context, tried, scratchBytes);
  };
  Stopwatch watch(context.get(), stream, places);
  ZOPT_RETURN_IF_FAILED(watch.start());

  std::vector<Candidate> candidates;
  double warm = INFINITY;
  auto add = [&](int64_t algorithm, std::unique_ptr<DeviceMatmul> matmul) -> Status {
    // The first run loads the kernel; the others tell whether it is worth more.
    Status cold = watch.time(*matmul, 1).getStatus();
    Result<double> time = watch.time(*matmul, 2);
    // An algorithm that the library offers and then refuses is none; of the first one that is what a run would meet.
    if (cold.failed() || time.failed())
      return !candidates.empty() ? success() : cold.failed() ? cold : time.getStatus();
    warm = std::min(warm, *time);
    candidates.push_back({algorithm, std::move(matmul), *time, {}});
    return success();
  };

  Result<std::unique_ptr<DeviceMatmul>> first = make(0);
  if (first.failed())
    return first.getStatus();
  const int64_t planned = (*first)->plannedCandidates(), others = (*first)->candidates() - planned;
  const int64_t ofOthers = std::min<int64_t>(others, std::max<int64_t>(limit / 3, limit - planned)), ofPlanned = std::min(planned, limit - ofOthers);
  ZOPT_RETURN_IF_FAILED(add(0, std::move(*first)));
  for (int64_t i = 1; i < ofPlanned + ofOthers; ++i) {
    const int64_t algorithm = i < ofPlanned ? i : planned + i - ofPlanned;
    if (Result<std::unique_ptr<DeviceMatmul>> made = make(algorithm); !made.failed())
      ZOPT_RETURN_IF_FAILED(add(algorithm, std::move(*made)));
  }

  candidates.erase(std::remove_if(candidates.begin() + 1, candidates.end(), [&](const Candidate &candidate) { return candidate.warm > kHopeless * warm; }), candidates.end());

  // In turns, so that a clock that changes meanwhile changes for all.
  const int64_t runs = std::clamp<int64_t>(int64_t(std::ceil(kSampleMilliseconds / std::max(warm, 1e-6))), 1, 200);
  for (int round = 0; round < kRounds; ++round)
    for (Candidate &candidate : candidates) {
      Result<double> sample = watch.time(*candidate.matmul, runs);
      if (sample.failed())
        return sample.getStatus();
      candidate.samples.push_back(*sample);
    }
  double best = INFINITY;
  for (const Candidate &candidate : candidates)
    best = std::min(best, candidate.median());
  MatmulChoice choice;
  choice.firstMilliseconds = candidates.front().median();
  for (const Candidate &candidate : candidates)
    if (candidate.median() <= best * (1 + kNoise)) {
      choice.algorithm = candidate.algorithm;
      choice.milliseconds = candidate.median();
      break;
    }
  return choice;
}

} // namespace zopt::runtime::cuda
