//===- Checkpoints.cpp - checkpoints in the run of a rank -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Launch/Checkpoints.h"
#include "zopt/Runtime/Core/Fingerprint.h"
#include "zopt/Runtime/Core/StopRequest.h"
#include "zopt/Runtime/Launch/Patience.h"
#include <algorithm>
#include <sys/stat.h>
#include <utility>

namespace zopt::runtime {

namespace {

/// Saves in a row that fail before a run ends.
constexpr int kFailuresInARow = 3;

bool isFile(const std::string &path) {
  struct stat information;
  return ::stat(path.c_str(), &information) == 0 && S_ISREG(information.st_mode);
}

bool isCheckpoint(const std::string &path) { return isFile(path + "/" + kIndexName); }

/// The folders in `directory` that hold checkpoints, as paths.
Result<std::vector<std::string>> pathsIn(const std::string &directory) {
  Result<std::vector<std::string>> tags = listCheckpoints(directory);
  if (tags.failed())
    return tags;
  for (std::string &tag : *tags)
    tag = directory + "/" + tag;
  return tags;
}

Result<std::vector<std::string>> candidatesOf(const CheckpointOptions &options) {
  using Resume = CheckpointOptions::Resume;
  if (options.restart > 0) {
    // What this run has saved itself comes first; before its first checkpoint it begins as it was told to.
    Result<std::vector<std::string>> own = pathsIn(options.directory);
    if (own.failed() || !own->empty())
      return own;
  }
  if (options.resume == Resume::None)
    return std::vector<std::string>();
  if (options.resume == Resume::Path) {
    if (isCheckpoint(options.resumePath))
      return std::vector<std::string>{options.resumePath};
    Result<std::vector<std::string>> there = pathsIn(options.resumePath);
    if (!there.failed() && there->empty())
      return inputError(options.resumePath, ": holds no checkpoint and is none");
    return there;
  }
  Result<std::vector<std::string>> own = pathsIn(options.directory);
  if (!own.failed() && own->empty() && options.resume == Resume::Newest)
    return inputError(options.directory,
                      ": holds no checkpoint to resume from (--resume=auto begins a run where there is none)");
  return own;
}

} // namespace

Status checkCheckpoints(const CheckpointOptions &options, bool &resumes) {
  resumes = false;
  Result<std::vector<std::string>> found = candidatesOf(options);
  if (found.failed())
    return found.getStatus();
  resumes = !found->empty();
  if (options.directory.empty() || options.restart > 0 || options.resume == CheckpointOptions::Resume::Newest ||
      options.resume == CheckpointOptions::Resume::Auto)
    return success();
  Result<std::vector<std::string>> there = listCheckpoints(options.directory);
  if (there.failed())
    return there.getStatus();
  // A run that goes on from one of the folder's own checkpoints knows of them.
  bool own = options.resume == CheckpointOptions::Resume::Path &&
             (options.resumePath == options.directory || options.resumePath.rfind(options.directory + "/", 0) == 0);
  if (!there->empty() && !own)
    return inputError(options.directory, ": holds checkpoints already, the newest is ", there->front(),
                      ": --resume goes on from it, --resume=auto whether there is one or not");
  return success();
}

Result<int64_t> plannedCheckpointBytes(const CheckpointOptions &options, const Program &program) {
  int64_t most = 0;
  if (options.directory.empty() || program.mode != "train")
    return most;
  CheckpointLayout layout = layOutCheckpoint(program);
  for (int64_t rank = 0; rank < program.worldSize; ++rank) {
    Result<int64_t> bytes = ShardImage::plannedBytes(layout, int(rank));
    if (bytes.failed())
      return bytes;
    most = std::max(most, *bytes);
  }
  return most;
}

RankCheckpoints::RankCheckpoints(const Run &run, Communicator &communicator,
                                 std::function<void(const SaveResult &)> report)
    : run(run), options(run.options.checkpoint), communicator(communicator), root(communicator.rank() == 0),
      report(std::move(report)) {}

Status RankCheckpoints::open() {
  if (run.program.mode != "train")
    return success();
  Patience patience(communicator, run.options.timeoutSeconds);
  auto prepare = [&]() -> Status {
    if (options.directory.empty())
      return success();
    ZOPT_RETURN_IF_FAILED(makeFolders(options.directory));
    std::string note;
    Result<std::unique_ptr<DirectoryLock>> acquired = DirectoryLock::acquire(options.directory, note);
    if (acquired.failed())
      return acquired.getStatus();
    lock = std::move(*acquired);
    if (!note.empty())
      reportNote(note);
    removeLeftovers(options.directory);
    return success();
  };
  ZOPT_RETURN_IF_FAILED(togetherAt("checkpoint folder", root ? prepare() : success()));
  if (root)
    for (const std::string &path : run.options.data.files) {
      Fingerprint fingerprint;
      std::string error;
      fingerprintFile(path, fingerprint, error); // a file that cannot be read is the data set's to tell
      dataFiles.push_back(concat(fingerprint.size, " ", fingerprint.text.empty() ? "-" : fingerprint.text, " ",
                                 path.substr(path.rfind('/') + 1)));
    }
  if (!options.directory.empty())
    ZOPT_RETURN_IF_FAILED(readBest());
  return resume();
}

/// Opens and verifies the first of the paths that rank 0 has found; with `goesBack` the first good one. None: there is
/// no reader.
Status RankCheckpoints::choose(const Result<std::vector<std::string>> &found, bool goesBack) {
  std::string joined;
  if (root && !found.failed())
    for (const std::string &path : *found)
      joined += path + "\n";
  ZOPT_RETURN_IF_FAILED(togetherAt("resume", root ? found.getStatus() : success()));
  ZOPT_RETURN_IF_FAILED(communicator.broadcast("resume", joined));
  for (size_t begin = 0; begin < joined.size() && !reader;) {
    size_t end = joined.find('\n', begin);
    std::string path = joined.substr(begin, end - begin);
    begin = end + 1;
    Result<std::shared_ptr<CheckpointReader>> opened = CheckpointReader::open(path);
    Status mine = opened.failed() ? opened.getStatus() : (*opened)->verify(communicator.rank(), communicator.size());
    Status verdict = togetherAt("resume", mine);
    if (verdict.succeeded()) {
      reader = *opened;
      break;
    }
    if (!isAgreed(verdict))
      return verdict;
    std::string what = verdict.getError().text;
    if (size_t line = what.find('\n'); line != std::string::npos)
      what = what.substr(0, line) + " (and more)";
    if (!goesBack)
      return inputError(what, begin < joined.size() ? "; " + joined.substr(begin, joined.find('\n', begin) - begin) +
                                                          " is the one before (--resume=auto takes it)"
                                                    : "")
          .onRank(verdict.getError().rank);
    if (begin >= joined.size())
      return inputError(what, "; there is no other checkpoint, and this run does not begin anew over a damaged one")
          .onRank(verdict.getError().rank);
    if (root)
      reportNote(concat(what, "; goes back to ", joined.substr(begin, joined.find('\n', begin) - begin)));
  }
  if (reader) {
    restored = reader->source();
    resumedPath = reader->path();
  }
  return success();
}

Status RankCheckpoints::resume() {
  // Only who says "auto" (or is restarted) has left the choice to us.
  const bool goesBack = options.restart > 0 || options.resume == CheckpointOptions::Resume::Auto;
  ZOPT_RETURN_IF_FAILED(choose(root ? candidatesOf(options) : std::vector<std::string>(), goesBack));
  if (!reader)
    return success();
  ZOPT_RETURN_IF_FAILED(togetherAt("resume", root ? compare() : success()));
  const CheckpointIndex &index = reader->index();
  start.step = index.step;
  start.samples = index.data.consumed;
  // With another global batch the epoch goes on at the next whole batch.
  const int64_t batch = run.dataset->globalBatch(), perEpoch = run.dataset->stepsPerEpoch();
  int64_t inEpoch = (index.data.position + batch - 1) / batch;
  start.dataStep = perEpoch > 0 ? index.data.epoch * perEpoch + std::min(inEpoch, perEpoch) : inEpoch;
  return success();
}

Result<bool> RankCheckpoints::goBack(int64_t done) {
  Patience patience(communicator, run.options.timeoutSeconds);
  std::optional<SaveResult> result;
  ZOPT_RETURN_IF_FAILED(saver->finish(result));
  ZOPT_RETURN_IF_FAILED(took(result));
  ZOPT_RETURN_IF_FAILED(choose(root ? pathsIn(options.directory) : std::vector<std::string>(), /*goesBack=*/true));
  if (!reader)
    return false;
  const DataPosition consumed = dataPosition(done);
  start.dataStep += done - start.step;
  start.samples = consumed.consumed;
  start.step = reader->index().step;
  saver->resumedFrom(start.step);
  return true;
}

Status RankCheckpoints::compare() const {
  std::string refused;
  std::set<std::string> kinds;
  for (const CheckpointDifference &difference : compareCheckpoint(reader->index(), run.program, dataPosition(0))) {
    std::string line = concat(reader->path(), ": ", difference.text); // as a note or an error, each stands for itself
    if (options.allowChange.count(difference.kind)) {
      reportNote(line);
      continue;
    }
    refused += (refused.empty() ? "" : "\n") + line;
    kinds.insert(difference.kind);
  }
  if (refused.empty())
    return success();
  std::string flag;
  for (const std::string &kind : kinds)
    flag += (flag.empty() ? "" : ",") + kind;
  return inputError(refused, "\n", reader->path(),
                    ": this run differs from the one that saved it; --allow-change=", flag, " goes on all the same");
}

DataPosition RankCheckpoints::dataPosition(int64_t done) const {
  const Dataset &dataset = *run.dataset;
  DataPosition data;
  const int64_t step = start.dataStep + (done - start.step), perEpoch = dataset.stepsPerEpoch();
  data.epoch = dataset.epochOf(step);
  data.position = (step - data.epoch * perEpoch) * dataset.globalBatch();
  data.consumed = start.samples + (done - start.step) * dataset.globalBatch();
  data.samples = dataset.samples();
  data.shuffle = run.options.data.shuffle;
  data.seed = run.options.data.seed;
  data.files = dataFiles;
  return data;
}

Status RankCheckpoints::makeSaver(Executor &executor) {
  if (options.directory.empty() || run.program.mode != "train")
    return success();
  SaverOptions settings;
  settings.directory = options.directory;
  settings.everySteps = options.everySteps;
  settings.everySeconds = options.everySeconds;
  settings.keep = options.keep;
  Result<std::unique_ptr<CheckpointSaver>> made = CheckpointSaver::create(executor, settings, std::move(lock));
  if (made.failed())
    return made.getStatus();
  saver = std::move(*made);
  saver->protect(best.step);
  if (!resumedPath.empty() && resumedPath.rfind(options.directory + "/", 0) == 0)
    saver->resumedFrom(start.step);
  return success();
}

uint8_t RankCheckpoints::word() {
  bool requested = StopRequest::takeSaveRequest();
  if (saver)
    return saver->word(requested);
  if (requested)
    reportNote("SIGUSR1 asks for a checkpoint, but there is no --checkpoint-dir");
  return 0;
}

Status RankCheckpoints::begin(int64_t done) {
  return saver->begin(done, [&](CheckpointIndex &index) {
    index.learningRate = run.program.learningRate;
    index.seed = run.options.seed;
    index.data = dataPosition(done);
  });
}

Status RankCheckpoints::readBest() {
  std::string text;
  if (root && options.keepBest)
    text = formatBest(runtime::readBest(options.directory));
  ZOPT_RETURN_IF_FAILED(communicator.broadcast("best checkpoint", text));
  best = parseBest(text);
  return success();
}

Status RankCheckpoints::evaluated(double loss, int64_t done) {
  if (!saver || !options.keepBest || !(loss < best.loss))
    return success(); // nor is NaN the best of anything
  Patience patience(communicator, run.options.timeoutSeconds);
  // It must be this step that is saved: what is in flight of another is waited for.
  std::optional<SaveResult> result;
  ZOPT_RETURN_IF_FAILED(saver->finish(result));
  ZOPT_RETURN_IF_FAILED(took(result));
  best = {done, loss};
  bestUnderWay = best;
  if (saver->lastStep() != done)
    return begin(done);
  // It was saved already.
  SaveResult there;
  there.step = done;
  return recordBest(there);
}

Status RankCheckpoints::recordBest(const SaveResult &result) {
  if (!bestUnderWay || bestUnderWay->step != result.step)
    return success();
  BestCheckpoint saved = *std::exchange(bestUnderWay, std::nullopt);
  if (result.failure.failed()) {
    best = {}; // the next evaluation tries again
    return success();
  }
  saver->protect(saved.step);
  if (root)
    if (Status written = writeBest(options.directory, saved); written.failed())
      reportNote("warning: " + written.message());
  return success();
}

Status RankCheckpoints::took(const std::optional<SaveResult> &result) {
  if (!result)
    return success();
  if (root)
    report(*result);
  ZOPT_RETURN_IF_FAILED(recordBest(*result));
  failures = result->failure.failed() ? failures + 1 : 0;
  if (failures >= kFailuresInARow)
    return Status(Error{ErrorKind::Runtime, 0, "", "",
                        concat(failures, " checkpoints in a row could not be saved in ", options.directory,
                               "; the last good one there stays")});
  return success();
}

Status RankCheckpoints::exchange(const std::vector<uint8_t> &words, int64_t done) {
  if (!saver)
    return success();
  std::optional<SaveResult> result;
  ZOPT_RETURN_IF_FAILED(saver->exchange(
      words, done,
      [&](CheckpointIndex &index) {
        index.learningRate = run.program.learningRate;
        index.seed = run.options.seed;
        index.data = dataPosition(done);
      },
      result));
  return took(result);
}

Status RankCheckpoints::finish(int64_t done) {
  if (!saver)
    return success();
  Patience patience(communicator, run.options.timeoutSeconds);
  std::optional<SaveResult> result;
  ZOPT_RETURN_IF_FAILED(saver->finish(result));
  ZOPT_RETURN_IF_FAILED(took(result));
  if (saver->lastStep() != done) {
    ZOPT_RETURN_IF_FAILED(begin(done));
    std::optional<SaveResult> last;
    ZOPT_RETURN_IF_FAILED(saver->finish(last));
    ZOPT_RETURN_IF_FAILED(took(last));
    if (last->failure.failed())
      return Status(
          Error{ErrorKind::Runtime, 0, "", "",
                concat("the last checkpoint, of step ", done, ", could not be saved in ", options.directory)});
  }
  saver.reset(); // and with it the lock
  return success();
}

} // namespace zopt::runtime
