//===- Doctor.cpp - what this machine has for a run -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Doctor.h"
#include "LibraryProbes.h"
#include "zopt/Runtime/Core/Status.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <sys/resource.h>

namespace zopt::runtime {

namespace {

/// The oldest driver that --target=cuda takes, as Device/CUDA/Devices.h says.
constexpr int kOldestDriver = 13000;

std::string limitText(int64_t bytes) { return bytes < 0 ? "unlimited" : bytesText(bytes); }

Finding examineCpu() {
  CpuFacts cpu = readCpu();
  Finding finding{"cpu", cpu.model.empty() ? "unknown model" : cpu.model, ""};
  finding.text += concat(", ", cpu.cores, " cores, ", cpu.allowed, " of ", cpu.logical, " processors usable");
  if (cpu.cgroupLimit >= 0)
    finding.text += concat(", cgroup allows the time of ", cpu.cgroupLimit);
  std::string features;
  for (const std::string &feature : cpu.features)
    features += " " + feature;
  finding.text += features.empty() ? ", no vector features that matter here" : "," + features;
  if (cpu.cgroupLimit >= 0 && cpu.cgroupLimit < cpu.allowed)
    finding.advice = concat("keep ranks times --threads at or below ", std::max(1, int(cpu.cgroupLimit)), ", or raise the container's cpu limit");
  else if (!cpu.has("avx2"))
    finding.advice = "training is slow without avx2: use a newer processor";
  else if (!cpu.has("avx512_bf16") && !cpu.has("amx_bf16"))
    finding.advice = "bf16 saves memory but no time on a processor without avx512_bf16 or amx_bf16";
  return finding;
}

Finding examineMemory() {
  MemoryFacts memory = readMemory();
  Finding finding{"memory", concat(bytesText(memory.total), ", ", bytesText(memory.available), " available"), ""};
  if (memory.cgroupLimit < 0) {
    finding.text += ", no cgroup limit";
    return finding;
  }
  finding.text += concat(", cgroup limit ", bytesText(memory.cgroupLimit), ", ", bytesText(memory.cgroupUsed), " used");
  if (memory.cgroupLimit < memory.total / 2)
    finding.advice = "the container sees less than half of the machine's memory: raise its limit if more is needed";
  return finding;
}

Finding examineSharedMemory() {
  Finding finding{"shared memory", "", ""};
  Result<FolderFacts> folder = readFolder("/dev/shm");
  if (folder.failed() || folder->path != "/dev/shm") {
    finding.text = "no /dev/shm";
    finding.advice = "mount a tmpfs at /dev/shm: MPI's ranks exchange messages through it";
    return finding;
  }
  finding.text = concat("/dev/shm ", bytesText(folder->free), " free of ", bytesText(folder->total));
  if (folder->free < 256 << 20)
    finding.advice = "enlarge it (docker run --shm-size=1g): MPI's ranks exchange messages through it, 5 MB each";
  return finding;
}

Finding examineMpi() {
  LibraryFacts mpi = probeMpi();
  std::string launcher = findProgram("mpirun");
  Finding finding{"mpi", mpi.found ? mpi.version : mpi.problem, ""};
  finding.text += launcher.empty() ? ", no mpirun on PATH" : ", " + launcher;
  if (!mpi.found)
    finding.advice = "install Open MPI (apt-get install libopenmpi-dev openmpi-bin), or run ranks as threads with "
                     "--comm=local, or start them yourself for --launcher=env";
  else if (launcher.empty())
    finding.advice = "put mpirun on PATH (apt-get install openmpi-bin): --nproc starts ranks through it";
  return finding;
}

Finding examineGloo() {
  LibraryFacts gloo = probeGloo();
  return {"gloo", gloo.found ? gloo.file : gloo.problem, gloo.found ? "" : gloo.advice};
}

/// The driver and its devices, and the libraries that a run on them needs.
void examineGpus(std::vector<Finding> &findings) {
  DriverFacts driver = probeDriver();
  Finding finding{"gpu", "", ""};
  if (!driver.found) {
    finding.text = concat(driver.devicesSeen ? "an NVIDIA device on the bus, but " : "none: ", driver.problem);
    if (driver.devicesSeen)
      finding.advice = "install NVIDIA's driver, or start the container with --gpus all";
  } else if (driver.devices.empty()) {
    finding.text = concat("none: driver for CUDA ", driver.version, driver.problem.empty() ? ", no device" : ", " + driver.problem);
    finding.advice = "check nvidia-smi and CUDA_VISIBLE_DEVICES";
  } else {
    finding.text = concat("driver for CUDA ", driver.version, ", ", driver.devices.size(), driver.devices.size() == 1 ? " device: " : " devices: ");
    for (size_t i = 0; i < driver.devices.size(); ++i)
      finding.text += (i ? "; " : "") + driver.devices[i];
    if (driver.versionNumber < kOldestDriver)
      finding.advice = "update NVIDIA's driver to one that serves CUDA 13.0 (580 or newer): --target=cuda needs it";
    else if (!driver.problem.empty())
      finding.advice = driver.problem + ": see nvidia-smi";
  }
  findings.push_back(finding);

  for (const LibraryFacts &library : {probeCudaRuntime(), probeCublasLt(), probeCudnn(), probeNccl(), probeCupti()}) {
    Finding line{library.name, library.found ? concat(library.version, " (", library.file, ")") : library.problem, ""};
    // On a machine without a GPU nothing is missing.
    if (!library.found && !driver.devices.empty())
      line.advice = library.advice;
    findings.push_back(line);
  }
}

Finding examineDisk(const std::string &path) {
  Finding finding{"disk", "", ""};
  Result<FolderFacts> folder = readFolder(path);
  if (folder.failed()) {
    finding.text = folder.getStatus().message();
    finding.advice = "run in a folder that can be read and written";
    return finding;
  }
  finding.text = concat(folder->path == "." ? "here" : folder->path, ": ", folder->type.empty() ? "unknown type" : folder->type, ", ", bytesText(folder->free), " free of ", bytesText(folder->total));
  if (folder->free < int64_t(1) << 30)
    finding.advice = "free some space: weights and checkpoints are written whole beside the old ones";
  else if (folder->type == "tmpfs")
    finding.advice = "outputs on a tmpfs take memory and are lost when the machine restarts";
  return finding;
}

Finding examineLimits() {
  int64_t locked = readLimit(RLIMIT_MEMLOCK), space = readLimit(RLIMIT_AS), files = readLimit(RLIMIT_NOFILE), fileSize = readLimit(RLIMIT_FSIZE);
  Finding finding{"limits", concat("locked memory ", limitText(locked), ", address space ", limitText(space), ", open files ", files < 0 ? "unlimited" : std::to_string(files), ", file size ", limitText(fileSize)), ""};
  if (space >= 0)
    finding.advice = "lift the limit on address space (ulimit -v unlimited): a run maps what it has planned at once";
  else if (fileSize >= 0)
    finding.advice = "lift the limit on file size (ulimit -f unlimited), or outputs fail";
  else if (files >= 0 && files < 1024)
    finding.advice = "allow more open files (ulimit -n 4096): MPI opens some for each rank";
  else if (locked >= 0 && locked < 64 << 20)
    finding.advice = "allow more locked memory (ulimit -l unlimited) before using InfiniBand or GPUs, which pin memory";
  return finding;
}

} // namespace

std::vector<Finding> examineMachine(const std::string &folder) {
  std::vector<Finding> findings = {examineCpu(), examineMemory(), examineSharedMemory(), examineMpi(), examineGloo()};
  examineGpus(findings);
  findings.push_back(examineDisk(folder));
  findings.push_back(examineLimits());
  return findings;
}

std::string doctorReport(const std::vector<Finding> &findings) {
  size_t width = 0;
  for (const Finding &finding : findings)
    width = std::max(width, finding.subject.size());
  std::string report;
  for (const Finding &finding : findings) {
    report += finding.subject + std::string(width + 2 - finding.subject.size(), ' ') + finding.text + "\n";
    if (!finding.advice.empty())
      report += std::string(width + 2, ' ') + "-> " + finding.advice + "\n";
  }
  return report;
}

} // namespace zopt::runtime
