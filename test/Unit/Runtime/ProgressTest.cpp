//===- ProgressTest.cpp - how far a run is, on stderr ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Progress.h"
#include <cmath>
#include <cstdlib>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

using namespace zopt::runtime;
using testing::HasSubstr;
using testing::Not;

namespace {

ProgressState someState() {
  ProgressState state;
  state.step = 50;
  state.totalSteps = 200;
  state.loss = 3.14159;
  state.samplesPerSecond = 194.2;
  state.tokensPerSecond = 24854.4;
  state.memoryBytes = 1'234'000'000;
  state.secondsLeft = 41.2;
  return state;
}

TEST(Progress, SaysWhatTheInterfacePromises) {
  EXPECT_EQ(progressLine(someState()), "step 50/200 loss 3.1416 194 samples/s (24.9k tokens/s) 1.2 GB 0:41 left");
  ProgressState state = someState();
  state.tokensPerSecond = 0;
  state.memoryBytes = 0;
  state.skipped = true;
  state.loss = NAN;
  state.samplesPerSecond = 9.87;
  state.secondsLeft = 3725;
  EXPECT_EQ(progressLine(state), "step 50/200 loss nan (skipped) 9.87 samples/s 1:02:05 left");
  state.hasLoss = false;
  state.step = 200;
  EXPECT_EQ(progressLine(state), "step 200/200 9.87 samples/s");
}

TEST(Progress, TheBarFitsEveryWidth) {
  ProgressState state = someState();
  EXPECT_EQ(progressBar(state, 200), "step 50/200 [=======>                      ] loss 3.1416 194 samples/s (24.9k tokens/s) 1.2 GB 0:41 left");
  for (int width = 0; width < 200; ++width)
    EXPECT_LE(int(progressBar(state, width).size()), width);
  EXPECT_THAT(progressBar(state, 79), testing::AllOf(HasSubstr("loss 3.1416"), HasSubstr("left"), HasSubstr("=>")));
  EXPECT_THAT(progressBar(state, 45), testing::AllOf(HasSubstr("loss 3.1416"), HasSubstr("0:41 left"), Not(HasSubstr("samples"))));
  EXPECT_EQ(progressBar(state, 20), "step 50/200 loss 3.1");
  state.step = 200;
  EXPECT_THAT(progressBar(state, 200), HasSubstr("[==============================]"));
}

/// What is written to a pipe.
class Pipe {
public:
  Pipe() { EXPECT_EQ(pipe2(ends, O_NONBLOCK), 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  int descriptor() const { return ends[1]; }
  std::string read() const {
    char buffer[4096];
    ssize_t got = ::read(ends[0], buffer, sizeof buffer);
    return got > 0 ? std::string(buffer, size_t(got)) : "";
  }

private:
  int ends[2];
};

TEST(Progress, WritesALineEveryFewSecondsWithoutATerminal) {
  Pipe pipe;
  ProgressOptions options;
  options.descriptor = pipe.descriptor();
  options.totalSteps = 10;
  options.samplesPerStep = 8;
  Progress progress(options);
  progress.update(1, 5.5, false, 2, 100);
  EXPECT_EQ(pipe.read(), "step 1/10 loss 5.5000 4.00 samples/s 0:18 left\n");
  progress.update(2, 5, false, 2, 102);
  progress.update(3, 4.5, false, 2, 104);
  EXPECT_EQ(pipe.read(), "");
  progress.update(4, 4, false, 2, 106);
  EXPECT_EQ(pipe.read(), "step 4/10 loss 4.0000 4.00 samples/s 0:12 left\n");
  progress.note("warning: something");
  EXPECT_EQ(pipe.read(), "warning: something\n");
  progress.finish();
  EXPECT_EQ(pipe.read(), "") << "the last step has its line already";
  progress.update(5, 3, false, 2, 107);
  progress.finish();
  EXPECT_EQ(pipe.read(), "step 5/10 loss 3.0000 4.00 samples/s 0:10 left\n");
  progress.finish();
  EXPECT_EQ(pipe.read(), "");
}

TEST(Progress, DrawsOneBarOnATerminal) {
  int leader = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  ASSERT_GE(leader, 0);
  ASSERT_EQ(grantpt(leader), 0);
  ASSERT_EQ(unlockpt(leader), 0);
  int follower = open(ptsname(leader), O_RDWR | O_NOCTTY);
  ASSERT_GE(follower, 0);
  winsize size{};
  size.ws_col = 60;
  ASSERT_EQ(ioctl(follower, TIOCSWINSZ, &size), 0);
  ASSERT_EQ(setenv("TERM", "xterm", 1), 0);
  // The terminal's other end gets its text a moment later.
  auto readTo = [&](const std::string &end) {
    std::string text;
    pollfd waiting{leader, POLLIN, 0};
    while ((text.size() < end.size() || text.compare(text.size() - end.size(), end.size(), end) != 0) && poll(&waiting, 1, 10000) == 1) {
      char byte; // one at a time, so as not to read on behind `end`
      if (::read(leader, &byte, 1) != 1)
        break;
      text += byte;
    }
    return text;
  };
  ProgressOptions options;
  options.descriptor = follower;
  options.totalSteps = 4;
  options.samplesPerStep = 8;
  Progress progress(options);
  progress.update(1, 5.5, false, 0.05, 100);
  std::string bar = readTo("\x1b[K");
  EXPECT_THAT(bar, testing::StartsWith("\rstep 1/4 [=="));
  EXPECT_THAT(bar, testing::EndsWith("\x1b[K"));
  EXPECT_LE(bar.size(), 1 + 59 + 3u);
  // Redrawn only ten times a second: the next thing to be read is the note, above the bar.
  progress.update(2, 5, false, 0.05, 100.05);
  progress.note("note");
  EXPECT_EQ(readTo("note\r\n"), "\r\x1b[Knote\r\n");
  EXPECT_THAT(readTo("\x1b[K"), testing::StartsWith("\rstep 2/4"));
  progress.finish();
  EXPECT_THAT(readTo("\r\n"), testing::AllOf(testing::StartsWith("\rstep 2/4"), testing::EndsWith("\r\n")));
  close(follower);
  close(leader);
}

} // namespace
