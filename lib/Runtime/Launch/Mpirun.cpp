//===- Mpirun.cpp - starts ranks through mpirun ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Launch/Hosts.h"
#include "zopt/Runtime/Launch/Launcher.h"
#include "zopt/Runtime/Launch/RankStatus.h"
#include "zopt/Runtime/Launch/Run.h"
#include "zopt/Runtime/Monitor/Machine.h"
#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace zopt::runtime {

namespace {

/// Passes ranks' lines on and keeps back what mpirun itself says: help texts between two rulers and remarks about signals. Those explain a failure that no rank does.
class OutputFilter {
public:
  void feed(const char *data, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      line += data[i];
      if (data[i] == '\n')
        endLine();
    }
  }
  void finish() {
    if (!line.empty())
      endLine();
  }
  /// mpirun's words in one line.
  std::string remarks() const {
    std::string text;
    for (char character : kept) {
      char c = character == '\n' ? ' ' : character;
      if (c != ' ' || (!text.empty() && text.back() != ' '))
        text += c;
    }
    while (!text.empty() && text.back() == ' ')
      text.pop_back();
    return text;
  }

private:
  void endLine() {
    bool ruler = line.size() > 40 && line.find_first_not_of("-\n") == std::string::npos;
    bool remark = inHelp || line.rfind("mpirun: ", 0) == 0 || isFramework(line);
    if (ruler)
      inHelp = !inHelp;
    else if (remark)
      kept += line;
    else
      [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    line.clear();
  }
  /// "[host:1234] ..." is how Open MPI's own processes begin.
  static bool isFramework(const std::string &line) {
    size_t colon = line.find(':'), close = line.find("] ");
    return line[0] == '[' && colon != std::string::npos && close != std::string::npos && colon < close && line.find_first_not_of("0123456789", colon + 1) == close;
  }

  std::string line, kept;
  bool inHelp = false;
};

/// Ranks of one machine exchange messages through files in memory, each of some megabytes. Where a limit on file sizes forbids those, they talk through the loopback network.
bool sharedMemoryFits() {
  rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= rlim_t(64) << 20;
}

/// Where the machines stand that --include and --exclude leave.
std::string chosenHosts(const std::string &directory) { return directory + "/hosts"; }

std::vector<std::string> commandLine(const RunOptions &options, const std::string &programPath, const std::string &statusDirectory, int ranks) {
  char self[PATH_MAX] = "";
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  std::vector<std::string> command = {"mpirun", "-n", std::to_string(ranks), "--oversubscribe", "--bind-to", "none"};
  if (geteuid() == 0)
    command.push_back("--allow-run-as-root");
  // When a rank dies, the others get this long to say where they stood.
  command.insert(command.end(), {"--mca", "odls_base_sigkill_timeout", "4"});
  if (options.hostfile.empty()) // one machine: no search for networks, nor for a remote shell, without which mpirun would not start
    command.insert(command.end(), {"--mca", "plm", "isolated", "--mca", "pml", "ob1", "--mca", "btl", sharedMemoryFits() ? "self,vader" : "self,tcp"});
  else
    command.insert(command.end(),
                   {"--hostfile", options.include.empty() && options.exclude.empty() ? options.hostfile
                                                                                     : chosenHosts(statusDirectory)});
  command.emplace_back(self, length > 0 ? size_t(length) : 0);
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  if (options.checkpoint.restart > 0)
    command.insert(command.end(), {"--internal-restart", std::to_string(options.checkpoint.restart)});
  command.insert(command.end(), {"--internal-program", programPath, "--internal-status", statusDirectory});
  return command;
}

class Mpirun {
public:
  Mpirun(const RunOptions &options, const std::string &programPath, int ranks) : options(options), programPath(programPath), ranks(ranks) {}

  RunEnd run() {
    std::string pattern = "/tmp/zrun-XXXXXX";
    if (const char *folder = std::getenv("TMPDIR"); folder && *folder)
      pattern = std::string(folder) + "/zrun-XXXXXX";
    // Ranks of other machines leave how they ended where they also find the compiled program.
    if (!options.hostfile.empty())
      pattern = options.cacheDirectory + "/run-XXXXXX";
    if (!mkdtemp(pattern.data())) {
      reportError(callError("mkdtemp", pattern + ": " + std::strerror(errno)));
      return {3, false};
    }
    directory = pattern;
    oomKills = readOomKills();
    int code = writeHosts() && start() ? watch() : 3;
    unlink(chosenHosts(directory).c_str());
    removeRankStatus(directory, ranks);
    return {code, lost};
  }

private:
  bool writeHosts() {
    if (options.include.empty() && options.exclude.empty())
      return true;
    Result<std::vector<Host>> hosts = chooseHosts(options);
    Status status = hosts.getStatus();
    if (status.succeeded()) {
      std::ofstream file(chosenHosts(directory));
      for (const Host &host : *hosts)
        file << host.name << " slots=" << host.slots << "\n";
      if (!file.flush())
        status = fileError(chosenHosts(directory), "write", errno);
    }
    if (status.failed())
      reportError(status);
    return status.succeeded();
  }

  bool start() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      reportError(callError("pipe", std::strerror(errno)));
      return false;
    }
    if (!sharedMemoryFits())
      reportNote("a limit on file sizes (ulimit -f) leaves no room for messages through shared memory: ranks use the network, which is slower");
    std::vector<std::string> command = commandLine(options, programPath, directory, ranks);
    std::vector<char *> arguments;
    for (std::string &argument : command)
      arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    child = fork();
    if (child < 0) {
      reportError(callError("fork", std::strerror(errno)));
      return false;
    }
    if (child == 0) {
      // A session of its own: the terminal's SIGINT reaches the launcher alone, which passes it on in a way that lets ranks finish their step. mpirun ends with the launcher.
      setsid();
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      for (int signal : {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2, SIGPIPE})
        ::signal(signal, SIG_DFL);
      if (!sharedMemoryFits())
        setenv("PMIX_MCA_gds", "hash", 1);
      dup2(ends[1], STDERR_FILENO);
      int nothing = open("/dev/null", O_RDONLY);
      dup2(nothing, STDIN_FILENO);
      execvp("mpirun", arguments.data());
      std::string text = std::string("mpirun: ") + std::strerror(errno) +
                         ": install Open MPI (Debian's openmpi-bin), or give --comm=local\n";
      [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
      _exit(127);
    }
    close(ends[1]);
    output = ends[0];
    return true;
  }

  int watch() {
    int passedOn = 0;
    bool open = true;
    int status = 0;
    bool ended = false;
    while (open || !ended) {
      pollfd descriptor{output, POLLIN, 0};
      int ready = poll(&descriptor, open ? 1 : 0, 50);
      if (ready > 0) {
        char chunk[4096];
        ssize_t got = ::read(output, chunk, sizeof chunk);
        if (got > 0)
          filter.feed(chunk, size_t(got));
        else if (got == 0 || errno != EINTR)
          open = false;
      }
      if (StopRequest::requested() && !passedOn) {
        passedOn = StopRequest::exitCode();
        kill(child, passedOn == 130 ? SIGALRM : SIGUSR2);
      }
      // Before ranks run there is nothing to save, and the signal would end mpirun.
      if (StopRequest::takeSaveRequest() && int(readRankStatus(directory, ranks).size()) == ranks)
        kill(child, SIGUSR1);
      if (StopRequest::atOnce()) {
        endAtOnce();
        return 130;
      }
      if (!ended && waitpid(child, &status, WNOHANG) == child)
        ended = true;
      // Orphans may hold the pipe open; what matters has been read by then.
      if (ended && ready == 0)
        open = false;
    }
    close(output);
    filter.finish();
    return verdict(status);
  }

  /// A second SIGINT: nothing is waited for.
  void endAtOnce() {
    // Those of other machines are mpirun's to end: their numbers are of other processes here.
    if (options.hostfile.empty())
      for (const RankStatus &rank : readRankStatus(directory, ranks))
        kill(pid_t(rank.process), SIGKILL);
    kill(child, SIGTERM);
    for (int i = 0; i < 40; ++i) {
      if (waitpid(child, nullptr, WNOHANG) == child)
        return;
      usleep(50000);
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }

  int verdict(int status) {
    std::vector<RankStatus> statuses = readRankStatus(directory, ranks);
    int worst = 0;
    bool allEnded = int(statuses.size()) == ranks;
    for (const RankStatus &rank : statuses) {
      worst = std::max(worst, rank.exitCode);
      allEnded &= rank.ended;
      lost |= !rank.orderly;
    }
    std::string remarks = filter.remarks();
    if (allEnded) {
      if (worst == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        reportError(runtimeError("mpirun failed: ", remarks));
        return 3;
      }
      return worst;
    }
    if (statuses.empty()) {
      reportError(runtimeError("mpirun started no rank: ", remarks.empty() ? concat("it ended with code ", WIFEXITED(status) ? WEXITSTATUS(status) : -1) : remarks));
      return 3;
    }
    lost = true;
    // mpirun kills what still runs when the first rank dies, so that several may have ended without a word: it names the first.
    int named = -1, signal = 0;
    if (size_t at = remarks.find("process rank "); at != std::string::npos) {
      named = std::atoi(remarks.c_str() + at + std::strlen("process rank "));
      if (size_t by = remarks.find("exited on signal ", at); by != std::string::npos)
        signal = std::atoi(remarks.c_str() + by + std::strlen("exited on signal "));
    }
    for (const RankStatus &rank : statuses)
      if (!rank.ended && (named < 0 || named == rank.rank)) {
        reportError(runtimeError("rank ", rank.rank, " (process ", rank.process, ") ", signal ? concat("was killed by signal ", signal, " (", strsignal(signal), ")", outOfMemoryText(signal, oomKills)) : "died without a word"));
        if (named == rank.rank)
          break;
      }
    return 3;
  }

  const RunOptions &options;
  const std::string &programPath;
  const int ranks;
  std::string directory;
  pid_t child = -1;
  int output = -1;
  OutputFilter filter;
  int64_t oomKills = -1; // when ranks were started
  bool lost = false; // a rank died or left the others
};

} // namespace

RunEnd runUnderMpirun(const RunOptions &options, const std::string &programPath, int ranks) { return Mpirun(options, programPath, ranks).run(); }

} // namespace zopt::runtime
