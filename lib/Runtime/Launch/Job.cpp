//===- Job.cpp - the job that a process finds itself in -------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Job.h"
#include "zopt/Runtime/Device/ThreadTeam.h"
#include <algorithm>
#include <cstdlib>

namespace zopt::runtime {

static int numberIn(const char *variable, int otherwise) {
  const char *text = std::getenv(variable);
  if (!text || !*text)
    return otherwise;
  char *end = nullptr;
  long value = std::strtol(text, &end, 10);
  return *end == '\0' ? int(value) : otherwise;
}

Job detectJob() {
  Job job;
  for (const char *variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "WORLD_SIZE"})
    if (int size = numberIn(variable, 0); size > 0 && job.announced == 0) {
      job.announced = size;
      job.variable = variable;
    }
  // A launcher tells each process its rank; batch scripts only see the size.
  for (const char *variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
    if (int rank = numberIn(variable, -1); rank >= 0 && !job.joined) {
      job.joined = true;
      job.first = rank == 0;
    }
  for (const char *variable : {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"})
    if (int ranks = numberIn(variable, 0); ranks > 0) {
      job.localRanks = ranks;
      break;
    }
  return job;
}

Status checkJob(const Job &job, const RunOptions &options) {
  if (job.joined) {
    if (options.ranksGiven && job.announced > 0 && job.announced != options.ranks)
      return usageError("--nproc is ", options.ranks, ", but the job that this process belongs to has ", job.announced, " ranks (", job.variable, ")");
    if (options.comm == "local" && job.announced > 1)
      return usageError("--comm=local makes its ranks itself, but ", job.variable, " says that this process is one of ", job.announced);
    return success();
  }
  if (job.announced > 1 && job.announced != options.ranks)
    return usageError(job.variable, " announces ", job.announced, " ranks, but this process would run ", options.ranks,
                      ": start it through mpirun or srun, give ",
                      job.variable == "WORLD_SIZE" ? "--launcher=env (torchrun, PyTorchJob) or " : "", "--nproc ",
                      job.announced, ", or unset the variable");
  return success();
}

Status checkWorld(const Job &job, const RunOptions &options, int worldSize) {
  if (job.announced > 0 && job.announced != worldSize)
    return usageError(job.variable, " announces ", job.announced, " ranks, but MPI connects ", worldSize, ": is this the mpirun of another MPI library?");
  if (options.ranksGiven && options.ranks != worldSize)
    return usageError("--nproc is ", options.ranks, ", but the job has ", worldSize, " ranks");
  return success();
}

int chooseThreads(const RunOptions &options, int localRanks) { return options.threads > 0 ? options.threads : std::max(1, availableCores() / std::max(1, localRanks)); }

} // namespace zopt::runtime
