#include "slices/apply/flight_record.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

namespace icepie::slices {
namespace {

class FlightRecordTest : public ::testing::Test {
 protected:
  FlightRecordTest() : path_(::testing::TempDir() + "flight-" + std::to_string(getpid())) {}
  ~FlightRecordTest() override { unlink(path_.c_str()); }

  // What is in the file after a process that did `work`; `signal` is sent to it once it waits in
  // pause().
  std::vector<FlightNote> After(const std::function<void()>& work, int signal = 0) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      if (!StartFlightRecord(path_).ok()) _exit(9);
      ready_ = ready[1];
      work();
      _exit(0);
    }
    close(ready[1]);
    char byte = 0;
    if (signal != 0 && read(ready[0], &byte, 1) == 1) kill(child, signal);
    close(ready[0]);
    EXPECT_EQ(waitpid(child, &status_, 0), child);
    return ReadFlightRecord(path_);
  }

  // In the child: says that it is ready, and waits for its end.
  void Pause() const {
    if (write(ready_, "x", 1) == 1) pause();
  }

  const std::string path_;
  int ready_ = -1;
  int status_ = 0;
};

// Deeper than any stack.
int Recurse(int depth) {
  volatile char room[1024] = {};
  return room[depth % 1024] + (depth < 0 ? 0 : Recurse(depth + 1));
}

TEST_F(FlightRecordTest, SaysWhatWasUnderWayAtAKill) {
  const auto notes = After(
      [&] {
        const FlightEntry apply(Activity::kApply, "volume/7", 100, 250);
        { const FlightEntry over(Activity::kSave, "volume/7"); }
        std::thread([this] {
          const FlightEntry query(Activity::kQuery, "abc123");
          Pause();
        }).join();
      },
      SIGKILL);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_EQ(notes[0].activity, Activity::kApply);
  EXPECT_EQ(notes[0].subject, "volume/7");
  EXPECT_EQ(notes[0].begin, 100);
  EXPECT_EQ(notes[0].end, 250);
  EXPECT_FALSE(notes[0].blamed);
  EXPECT_EQ(notes[1].activity, Activity::kQuery);
}

TEST_F(FlightRecordTest, ACrashBlamesTheThreadAndItsInnermostWork) {
  const auto notes = After([] {
    const FlightEntry apply(Activity::kApply, "volume/7", 1, 2);
    const FlightEntry check(Activity::kCheck, "volume/7/small");
    std::abort();
  });
  ASSERT_EQ(notes.size(), 1U) << "the check is what the thread was at";
  EXPECT_EQ(notes[0].activity, Activity::kCheck);
  EXPECT_EQ(notes[0].subject, "volume/7/small");
  EXPECT_TRUE(notes[0].blamed);
  EXPECT_TRUE(WIFSIGNALED(status_));
  EXPECT_EQ(WTERMSIG(status_), SIGABRT) << "it ends as it would have without";
}

TEST_F(FlightRecordTest, EveryActivityIsRead) {
  for (const Activity activity :
       {Activity::kOpen, Activity::kApply, Activity::kRecompute, Activity::kSave, Activity::kQuery,
        Activity::kCheck, Activity::kProbe}) {
    const auto notes = After([&] {
      const FlightEntry entry(activity, "volume/7");
      std::abort();
    });
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_EQ(notes[0].activity, activity);
  }
}

TEST_F(FlightRecordTest, AStackThatOverflowsIsACrash) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer handles it itself";
#endif
  const auto notes = After([] {
    const FlightEntry query(Activity::kQuery, "abc123");
    _exit(Recurse(0));
  });
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_TRUE(notes[0].blamed);
  EXPECT_EQ(WTERMSIG(status_), SIGSEGV);
}

TEST_F(FlightRecordTest, ASignalFromOutsideBlamesNobody) {
  const auto notes = After(
      [&] {
        const FlightEntry apply(Activity::kApply, "volume/7", 1, 2);
        Pause();
      },
      SIGSEGV);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_FALSE(notes[0].blamed);
  EXPECT_EQ(WTERMSIG(status_), SIGSEGV);
}

TEST_F(FlightRecordTest, WhatIsNoRecordHasNoNotes) {
  EXPECT_TRUE(ReadFlightRecord(path_ + "-missing").empty());
  std::ofstream(path_) << std::string(100, '\x01');
  EXPECT_TRUE(ReadFlightRecord(path_).empty());
  std::ofstream(path_) << std::string(4096, '\xff');
  EXPECT_TRUE(ReadFlightRecord(path_).empty());
}

}  // namespace
}  // namespace icepie::slices
