//===- CudaExecutorTest.cpp - execution of Programs on a fake GPU ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

// The CUDA executor against the host's, on the driver of FakeCuda.h: same numbers, with graphs and without, whatever order the fake device takes where the executor gives none.
#include "FakeCuda.h"
#include "TemporaryFolder.h"
#include "TinyProgram.h"
#include "Variable.h"
#include "zopt/Runtime/Comm/Local.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/Executor.h"
#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Core/States.h"
#include "zopt/Runtime/Device/CUDA/Devices.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <thread>

using namespace zopt::runtime;

namespace {

#define ASSERT_SUCCESS(expression)                                                                                     \
  do {                                                                                                                 \
    Status status = (expression);                                                                                      \
    ASSERT_FALSE(status.failed()) << status.message();                                                                 \
  } while (false)

struct Outcome {
  std::vector<double> losses, norms, finite;
  std::vector<float> a, b, gradientA;
  std::vector<size_t> resultsAfter; // how many were known after each step
  std::string exchange, remark;
  TierPeak peak;
  std::vector<Status> failures;
  std::vector<ExecutedCommand> trace;

  bool sameNumbers(const Outcome &other) const {
    return losses == other.losses && norms == other.norms && a == other.a && b == other.b && gradientA == other.gradientA;
  }
};

struct TrainOptions {
  int steps = 5, nanStep = -1, tracedStep = -1;
  bool poison = false;
  DeviceExchange exchange = DeviceExchange::Host;
  double timeout = 30;
};

class CudaExecutor : public testing::Test {
protected:
  void SetUp() override {
    setenv("ZOPT_CUDA_LIBRARY_PATH", ZOPT_FAKE_CUDA, 1);
    std::ofstream(folder.path("kernels.ptx")) << ".version 8.0\n";
  }

  Status trainOnRank(const Program &program, Communicator &communicator, const TrainOptions &train, Outcome &outcome) {
    ExecutorOptions options;
    options.poison = train.poison;
    options.kernelFile = folder.path("kernels.ptx");
    options.exchange = train.exchange;
    options.timeoutSeconds = train.timeout;
    communicator.setTimeout(train.timeout);
    const bool root = communicator.rank() == 0;
    Result<std::unique_ptr<Executor>> created = Executor::create(program, tinyKernels(), communicator, options);
    ZOPT_RETURN_IF_FAILED(created.getStatus());
    Executor &executor = **created;
    ZOPT_RETURN_IF_FAILED(initializeStates(executor, {}));
    const int64_t world = program.worldSize;
    auto take = [&](const std::optional<StepResult> &result) {
      if (!root || !result)
        return;
      outcome.losses.push_back(result->loss);
      outcome.norms.push_back(result->norm);
      outcome.finite.push_back(result->finite);
    };
    std::optional<StepResult> result;
    std::vector<ExecutedCommand> ofRank;
    for (int step = 0; step < train.steps; ++step) {
      if (step == train.tracedStep)
        executor.traceInto(root ? &outcome.trace : &ofRank);
      ZOPT_RETURN_IF_FAILED(executor.write("zopt.lr", program.learningRate));
      for (int64_t micro = 0; micro < program.accumSteps; ++micro) {
        Result<void *const *> inputs = executor.inputs();
        ZOPT_RETURN_IF_FAILED(inputs.getStatus());
        float *x = static_cast<float *>((*inputs)[0]);
        for (int i = 0; i < 2; ++i) {
          int64_t sample = (micro * world + communicator.rank()) * 2 + i;
          x[i] = step == train.nanStep ? std::numeric_limits<float>::quiet_NaN() : (0.3f + 0.01f * float(sample) + 0.1f * float(step)) / float(world * program.accumSteps);
        }
        ZOPT_RETURN_IF_FAILED(executor.run("micro_step", micro == 0));
      }
      ZOPT_RETURN_IF_FAILED(executor.run("apply_step"));
      ZOPT_RETURN_IF_FAILED(executor.endTrace());
      ZOPT_RETURN_IF_FAILED(executor.finishStep(result));
      take(result);
      if (root)
        outcome.resultsAfter.push_back(outcome.losses.size());
    }
    ZOPT_RETURN_IF_FAILED(executor.lastResult(result));
    take(result);
    std::vector<float> ignored;
    auto collect = [&](const char *name, StateValue value, std::vector<float> &into) -> Status {
      for (const State &state : program.states)
        if (state.name == name)
          ZOPT_RETURN_IF_FAILED(collectState(executor, state, value, 1, [&](const void *data, int64_t count) {
            const float *values = static_cast<const float *>(data);
            into.insert(into.end(), values, values + count);
            return success();
          }));
      return success();
    };
    ZOPT_RETURN_IF_FAILED(collect("a", StateValue::Current, root ? outcome.a : ignored));
    ZOPT_RETURN_IF_FAILED(collect("b", StateValue::Current, root ? outcome.b : ignored));
    ZOPT_RETURN_IF_FAILED(collect("a", StateValue::Gradient, root ? outcome.gradientA : ignored));
    if (root) {
      outcome.peak = executor.peak().measure().at(Tier::Device);
      outcome.exchange = executor.exchange();
      outcome.remark = executor.remark();
    }
    return success();
  }

  Outcome train(const Program &program, const TrainOptions &options = {}) {
    Outcome outcome;
    outcome.trace.reserve(100);
    outcome.failures.resize(size_t(program.worldSize));
    std::vector<std::unique_ptr<Communicator>> communicators = makeLocalWorld(int(program.worldSize));
    std::vector<std::thread> ranks;
    for (std::unique_ptr<Communicator> &communicator : communicators)
      ranks.emplace_back([&] {
        int rank = communicator->rank();
        outcome.failures[size_t(rank)] = trainOnRank(program, *communicator, options, outcome);
        communicator.reset();
      });
    for (std::thread &rank : ranks)
      rank.join();
    return outcome;
  }

  void expectSuccess(const Outcome &outcome) {
    for (const Status &status : outcome.failures)
      EXPECT_FALSE(status.failed()) << status.message();
  }

  static FakeCudaCounts counts() {
    void *fake = dlopen(ZOPT_FAKE_CUDA "/libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<decltype(&fakeCudaCounts)>(dlsym(fake, "fakeCudaCounts"))();
  }

  TemporaryFolder folder;
};

TEST_F(CudaExecutor, programsByHandAreValid) {
  for (int world : {1, 2, 3, 4, 8})
    for (int stage : {0, 1, 2, 3})
      ASSERT_SUCCESS(verifyProgram(makeTinyDeviceProgram(world, stage)));
}

TEST_F(CudaExecutor, givesTheNumbersOfTheHost) {
  for (int world : {1, 2, 3})
    for (int stage : {0, 1, 2, 3})
      for (int accumulation : {1, 2}) {
        Outcome host = train(makeTinyProgram(world, stage, accumulation));
        ASSERT_EQ(host.losses.size(), 5u);
        for (const char *graph : {"1", "0"}) {
          SCOPED_TRACE(concat("world ", world, " stage ", stage, " accumulation ", accumulation, " graph ", graph));
          Variable variable("ZOPT_CUDA_GRAPH", graph);
          FakeCudaCounts before = counts();
          Outcome device = train(makeTinyDeviceProgram(world, stage, accumulation));
          FakeCudaCounts after = counts();
          expectSuccess(device);
          EXPECT_TRUE(device.sameNumbers(host));
          // Replayed where nothing needs the host: the first time by commands, then captured.
          bool replayed = world == 1 && graph[0] == '1';
          EXPECT_EQ(after.captures - before.captures, replayed ? (accumulation == 1 ? 2 : 3) : 0);
          EXPECT_EQ(after.graphLaunches - before.graphLaunches, replayed ? (accumulation == 1 ? 8 : 12) : 0);
          // Nothing is left behind.
          EXPECT_EQ(after.deviceBytes, 0);
          EXPECT_EQ(after.pinnedBytes, 0);
        }
      }
}

TEST_F(CudaExecutor, measuresParametersAsTheHostDoes) {
  for (int world : {1, 2, 3}) {
    std::optional<Outcome> first;
    for (int stage : {0, 1, 2, 3}) {
      SCOPED_TRACE(concat("world ", world, " stage ", stage));
      Program program = withTrustRatio(makeTinyDeviceProgram(world, stage));
      ASSERT_SUCCESS(verifyProgram(program));
      Outcome host = train(withTrustRatio(makeTinyProgram(world, stage))), device = train(program);
      expectSuccess(host);
      expectSuccess(device);
      ASSERT_EQ(host.losses.size(), 5u);
      EXPECT_TRUE(device.sameNumbers(host));
      // A norm of a whole parameter does not depend on who has which part.
      if (!first)
        first = host;
      EXPECT_EQ(host.a, first->a);
      EXPECT_EQ(host.b, first->b);
      EXPECT_NE(host.a, train(makeTinyProgram(world, stage)).a);
      Variable devices("FAKE_CUDA_DEVICES", std::to_string(world));
      TrainOptions options;
      options.exchange = DeviceExchange::Nccl;
      Outcome nccl = train(program, options);
      expectSuccess(nccl);
      nccl.losses = host.losses; // scalars that NCCL sums in their type
      EXPECT_TRUE(nccl.sameNumbers(host));
    }
  }
}

TEST_F(CudaExecutor, exchangesByNccl) {
  for (int world : {1, 2, 3}) {
    Variable devices("FAKE_CUDA_DEVICES", std::to_string(world));
    for (int stage : {0, 1, 2, 3})
      for (int accumulation : {1, 2}) {
        Outcome host = train(makeTinyProgram(world, stage, accumulation));
        for (const char *graph : {"1", "0"})
          for (auto [engines, rankOrder] : {std::pair("1", "0"), {"0", "0"}, {"0", "1"}}) {
            SCOPED_TRACE(concat("world ", world, " stage ", stage, " accumulation ", accumulation, " graph ", graph, " copy engines ", engines, " rank order ", rankOrder));
            if (graph[0] == '0' && rankOrder[0] == '1')
              continue;
            Variable variable("ZOPT_CUDA_GRAPH", graph), copies("ZOPT_COPY_ENGINES", engines), sums("ZOPT_RANK_ORDER_SUMS", rankOrder);
            TrainOptions options;
            options.exchange = world == 3 ? DeviceExchange::Automatic : DeviceExchange::Nccl;
            FakeCudaCounts before = counts();
            Outcome device = train(makeTinyDeviceProgram(world, stage, accumulation), options);
            FakeCudaCounts after = counts();
            expectSuccess(device);
            EXPECT_EQ(device.exchange, "nccl");
            EXPECT_EQ(device.remark, "");
            EXPECT_EQ(device.peak.measured, device.peak.planned);
            EXPECT_EQ(after.opened - before.opened, world > 1 && engines[0] != '0' ? world * (world - 1) * 2 : 0); // an arena and the words
            EXPECT_EQ(after.mapped, 0);
            EXPECT_EQ(after.deviceBytes, 0);
            // The fake sums in rank order, as the host does; but NCCL sums scalars in their type, and the host in f64.
            ASSERT_EQ(device.losses.size(), host.losses.size());
            for (size_t i = 0; i < host.losses.size(); ++i)
              EXPECT_NEAR(device.losses[i], host.losses[i], 1e-6 * host.losses[i]);
            device.losses = host.losses;
            EXPECT_TRUE(device.sameNumbers(host));
            EXPECT_EQ(after.graphLaunches > before.graphLaunches, graph[0] == '1');
            EXPECT_GT(after.collectives, before.collectives);
          }
      }
  }
}

TEST_F(CudaExecutor, copyEnginesTakeWhatNcclDidAndNoMore) {
  Variable devices("FAKE_CUDA_DEVICES", "2");
  TrainOptions options;
  options.exchange = DeviceExchange::Nccl;
  std::map<std::string, int64_t> byNccl;
  Outcome host = train(makeTinyProgram(2, 3));
  for (const char *engines : {"0", "gathers", "1"}) {
    Variable copies("ZOPT_COPY_ENGINES", engines), graph("ZOPT_CUDA_GRAPH", "0");
    FakeCudaCounts before = counts();
    Outcome device = train(makeTinyDeviceProgram(2, 3), options);
    expectSuccess(device);
    device.losses = host.losses;
    EXPECT_TRUE(device.sameNumbers(host));
    byNccl[engines] = counts().collectives - before.collectives;
  }
  EXPECT_GT(byNccl["0"], byNccl["gathers"]);
  EXPECT_GT(byNccl["gathers"], byNccl["1"]);
  EXPECT_GT(byNccl["1"], 0); // scalars
}

TEST_F(CudaExecutor, ncclCarriesEverythingWhereMemoryIsOutOfReach) {
  Variable devices("FAKE_CUDA_DEVICES", "2");
  TrainOptions options;
  options.exchange = DeviceExchange::Nccl;
  Outcome host = train(makeTinyProgram(2, 3));
  // One rank that fails is enough, whatever it fails at.
  for (auto [variable, value, said] : {std::tuple("FAKE_CUDA_FAIL", "cuIpcGetMemHandle:1:801", ": cuIpcGetMemHandle: CUDA_ERROR_OF_THE_FAKE"),
                                       {"FAKE_CUDA_FAIL", "cuIpcOpenMemHandle:1:217", "cuIpcOpenMemHandle: CUDA_ERROR_OF_THE_FAKE"},
                                       {"FAKE_CUDA_FAIL", "cuStreamBatchMemOp:2:801", "cuStreamBatchMemOp: CUDA_ERROR_OF_THE_FAKE"},
                                       {"FAKE_CUDA_FAIL", "cuMemAlloc:3:2", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"},
                                       {"FAKE_CUDA_IPC_SHIFT", "16", "rank 0: an arena of rank 1 is not where it was mapped"}}) {
    SCOPED_TRACE(value);
    Variable fault(variable, value);
    Outcome outcome = train(makeTinyDeviceProgram(2, 3), options);
    expectSuccess(outcome);
    EXPECT_EQ(outcome.remark.find("NCCL's kernels carry everything, which slows down others beside them: GPUs do not reach each other's memory: rank "), 0u) << outcome.remark;
    EXPECT_NE(outcome.remark.find(said), std::string::npos) << outcome.remark;
    outcome.losses = host.losses;
    EXPECT_TRUE(outcome.sameNumbers(host));
    EXPECT_EQ(counts().mapped, 0);
    EXPECT_EQ(counts().deviceBytes, 0);
  }
  Variable copies("ZOPT_COPY_ENGINES", "yes");
  for (const Status &status : train(makeTinyDeviceProgram(2, 3), options).failures)
    EXPECT_NE(status.message().find("ZOPT_COPY_ENGINES is 'yes', but must be 0, gathers or 1"), std::string::npos) << status.message();
}

TEST_F(CudaExecutor, ranksThatShareAGpuExchangeThroughTheHost) {
  TrainOptions options;
  options.exchange = DeviceExchange::Automatic;
  Outcome outcome = train(makeTinyDeviceProgram(2, 3), options);
  expectSuccess(outcome);
  EXPECT_EQ(outcome.exchange, "local");
  options.exchange = DeviceExchange::Nccl;
  outcome = train(makeTinyDeviceProgram(2, 3), options);
  for (const Status &status : outcome.failures) {
    ASSERT_TRUE(status.failed());
    EXPECT_NE(status.message().find("more than one rank runs on this GPU, which NCCL refuses"), std::string::npos) << status.message();
  }
}

TEST_F(CudaExecutor, tellsResultsOneStepLate) {
  Outcome outcome = train(makeTinyDeviceProgram(1, 0));
  expectSuccess(outcome);
  EXPECT_EQ(outcome.resultsAfter, std::vector<size_t>({0, 1, 2, 3, 4}));
  EXPECT_EQ(outcome.losses.size(), 5u);
}

TEST_F(CudaExecutor, poisonChangesNothing) {
  for (int stage : {0, 2, 3}) {
    Outcome plain = train(makeTinyDeviceProgram(2, stage));
    TrainOptions options;
    options.poison = true;
    Outcome poisoned = train(makeTinyDeviceProgram(2, stage), options);
    expectSuccess(poisoned);
    EXPECT_TRUE(poisoned.sameNumbers(plain));
  }
}

TEST_F(CudaExecutor, nonFiniteStepLeavesStatesAsTheyWere) {
  TrainOptions two, three;
  two.steps = 2;
  three.steps = 3;
  three.nanStep = 2;
  Outcome before = train(makeTinyDeviceProgram(1, 0), two), after = train(makeTinyDeviceProgram(1, 0), three);
  expectSuccess(after);
  ASSERT_EQ(after.norms.size(), 3u);
  EXPECT_TRUE(std::isnan(after.norms[2]));
  EXPECT_EQ(after.finite, std::vector<double>({1, 1, 0}));
  EXPECT_EQ(before.a, after.a);
}

TEST_F(CudaExecutor, tracesACommandOnEveryStream) {
  TrainOptions options;
  options.tracedStep = 2;
  Variable devices("FAKE_CUDA_DEVICES", "2");
  options.exchange = DeviceExchange::Nccl;
  Program program = makeTinyDeviceProgram(2, 3);
  Outcome plain = train(program), traced = train(program, options);
  expectSuccess(traced);
  EXPECT_TRUE(traced.sameNumbers(plain));
  ASSERT_EQ(traced.trace.size(), program.sequences[0].commands.size() + program.sequences[1].commands.size());
  for (const ExecutedCommand &command : traced.trace)
    EXPECT_TRUE(command.ended);
}

TEST_F(CudaExecutor, measuresWhatItAllocated) {
  for (int stage : {0, 3}) {
    Program program = makeTinyDeviceProgram(2, stage);
    Outcome outcome = train(program);
    EXPECT_EQ(outcome.peak.planned, program.arenas[0].bytes);
    EXPECT_EQ(outcome.peak.measured, outcome.peak.planned);
  }
}

TEST_F(CudaExecutor, refusesWhatDoesNotFit) {
  Program program = makeTinyDeviceProgram(2, 0);
  Variable memory("FAKE_CUDA_MEMORY", std::to_string(program.arenas[0].bytes * 2 - 1));
  FakeCudaCounts before = counts();
  Outcome outcome = train(program);
  for (const Status &status : outcome.failures) {
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.kind(), ErrorKind::Input);
    EXPECT_NE(status.message().find(concat("the plans of 2 ranks need ")), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(concat("(", program.arenas[0].bytes * 2 - 1, " bytes)")), std::string::npos) << status.message();
  }
  EXPECT_EQ(counts().deviceBytes, before.deviceBytes);
  // One of them alone fits.
  expectSuccess(train(makeTinyDeviceProgram(1, 0)));
}

TEST_F(CudaExecutor, kernelsThatAreNotThereAreNamed) {
  Program program = makeTinyDeviceProgram(1, 0);
  program.kernels[3].symbol = "adamw";
  Outcome outcome = train(program);
  ASSERT_TRUE(outcome.failures[0].failed());
  EXPECT_EQ(outcome.failures[0].message().find("rank 0: kernel 'adamw': cuModuleGetFunction: CUDA_ERROR_NOT_FOUND"), 0u) << outcome.failures[0].message();
  std::ofstream(folder.path("kernels.ptx")) << "nonsense";
  outcome = train(makeTinyDeviceProgram(1, 0));
  EXPECT_NE(outcome.failures[0].message().find("cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX: as the fake driver was told: ptxas fatal: no .version;ptxas fatal: line two"), std::string::npos)
      << outcome.failures[0].message();
}

TEST_F(CudaExecutor, kernelsAreToldBeforeLibrariesThatFailBesideThem) {
  Program program = makeTinyDeviceProgram(1, 0);
  Command &product = program.sequences[0].commands.emplace_back();
  product.kind = Command::Kind::Matmul;
  product.algorithm = 0;
  Outcome outcome = train(program);
  EXPECT_NE(
      outcome.failures[0].message().find("this plan has algorithms of products, but does not say for which library"),
      std::string::npos)
      << outcome.failures[0].message();
  std::ofstream(folder.path("kernels.ptx")) << "nonsense";
  outcome = train(program);
  EXPECT_NE(outcome.failures[0].message().find("cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX"), std::string::npos)
      << outcome.failures[0].message();
  EXPECT_EQ(counts().deviceBytes, 0);
}

TEST_F(CudaExecutor, warmDevicesAreHeldAndGivenBack) {
  const int64_t before = counts().retained;
  Variable devices("FAKE_CUDA_DEVICES", "2");
  for (int ranks : {1, 2, 3}) {
    std::shared_ptr<void> warmth = warmDevices(ranks);
    expectSuccess(train(makeTinyDeviceProgram(ranks, 0)));
    EXPECT_EQ(counts().retained - before, std::min(ranks, 2));
    warmth.reset();
    EXPECT_EQ(counts().retained, before);
  }
  // What fails there is left to those who need it.
  {
    Variable fail("FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain:1:2");
    warmDevices(1).reset();
  }
  EXPECT_EQ(counts().retained, before);
  expectSuccess(train(makeTinyDeviceProgram(1, 0)));
}

TEST_F(CudaExecutor, aFailureOfOneRankIsToldByAll) {
  // Of the arenas of two ranks the second cannot be allocated: both leave, naming whoever it was.
  Variable fail("FAKE_CUDA_FAIL", "cuMemAlloc:2:2");
  Outcome outcome = train(makeTinyDeviceProgram(2, 0));
  for (const Status &status : outcome.failures) {
    ASSERT_TRUE(status.failed());
    EXPECT_EQ(status.getError().rank, outcome.failures[0].getError().rank);
    EXPECT_NE(status.message().find("arena 'device' of "), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY"), std::string::npos) << status.message();
  }
}

TEST_F(CudaExecutor, launchesThatFailNameTheirCommand) {
  // The first step launches backward, sums of squares, norm, finite and two updates.
  Variable fail("FAKE_CUDA_FAIL", "cuLaunchKernel:4:1");
  Outcome outcome = train(makeTinyDeviceProgram(1, 0));
  ASSERT_TRUE(outcome.failures[0].failed());
  EXPECT_EQ(outcome.failures[0].kind(), ErrorKind::Runtime);
  EXPECT_EQ(outcome.failures[0].message().find("rank 0: finite: cuLaunchKernel: CUDA_ERROR_INVALID_VALUE"), 0u) << outcome.failures[0].message();
}

TEST_F(CudaExecutor, hangsEndWithTheTime) {
  Variable hang("FAKE_CUDA_HANG", "1");
  TrainOptions options;
  options.timeout = 0.3;
  Outcome outcome = train(makeTinyDeviceProgram(1, 0), options);
  ASSERT_TRUE(outcome.failures[0].failed());
  EXPECT_NE(outcome.failures[0].message().find("timed out after 0.3 s"), std::string::npos) << outcome.failures[0].message();
}

TEST_F(CudaExecutor, whoWaitsForARankThatEndedSaysWhere) {
  Variable devices("FAKE_CUDA_DEVICES", "2");
  TrainOptions options;
  options.exchange = DeviceExchange::Nccl;
  // In the first step a command is known, in a graph what the device came past.
  for (auto [failure, where] : {std::pair("cuLaunchKernel:1:719", ": reduce_scatter bucket0: rank "), std::pair("cuGraphLaunch:3:719", "_step, at or before collective '")}) {
    Variable fail("FAKE_CUDA_FAIL", failure);
    Outcome outcome = train(makeTinyDeviceProgram(2, 2), options);
    ASSERT_TRUE(outcome.failures[0].failed() && outcome.failures[1].failed());
    const bool first = outcome.failures[0].message().find("CUDA_ERROR_LAUNCH_FAILED") != std::string::npos;
    const Status &failed = outcome.failures[!first], &waiting = outcome.failures[first];
    EXPECT_NE(failed.message().find("CUDA_ERROR_LAUNCH_FAILED"), std::string::npos) << failed.message();
    EXPECT_NE(waiting.message().find(where), std::string::npos) << waiting.message();
    EXPECT_NE(waiting.message().find(concat("rank ", int(!first), " has ended, and this rank stands waiting for it")), std::string::npos) << waiting.message();
  }
}

TEST_F(CudaExecutor, ncclErrorsEndTheRun) {
  Variable devices("FAKE_CUDA_DEVICES", "2"), hang("FAKE_CUDA_HANG", "1"), asynchronous("FAKE_NCCL_ASYNC", "1");
  TrainOptions options;
  options.exchange = DeviceExchange::Nccl;
  Outcome outcome = train(makeTinyDeviceProgram(2, 0), options);
  for (const Status &status : outcome.failures) {
    ASSERT_TRUE(status.failed());
    EXPECT_NE(status.message().find("remote process exited"), std::string::npos) << status.message();
  }
}

// The last test: the driver tells the error for ever.
TEST_F(CudaExecutor, zzKernelsThatCrashAreToldWithTheirCommand) {
  Variable fail("FAKE_CUDA_FAIL", "kernel:3:700");
  Outcome outcome = train(makeTinyDeviceProgram(1, 0));
  ASSERT_TRUE(outcome.failures[0].failed());
  EXPECT_EQ(outcome.failures[0].kind(), ErrorKind::Runtime);
  EXPECT_EQ(outcome.failures[0].message().find("rank 0: norm: cuStreamQuery: CUDA_ERROR_ILLEGAL_ADDRESS"), 0u) << outcome.failures[0].message();
}

} // namespace
