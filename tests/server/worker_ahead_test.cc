// With a program that notes its starts, in place of the worker's.
#include "server/supervisor/worker_ahead.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

class WorkerAheadTest : public testing::Test {
 protected:
  WorkerAheadTest() { PutProgram(); }
  ~WorkerAheadTest() override {
    OnLoop([&] {
      taken_.reset();
      if (ahead_) ahead_->Stop();
    });
    loop_.Stop();
  }

  // `says`: what it does when it is ready.
  void PutProgram(const std::string& says = "printf r >&3") {
    std::ofstream(Program() + ".new")
        << "#!/bin/sh\necho \"$$ $1\" >> " << Notes() << "\n"
        << says << "\ntouch " << directory_.path() << "/said-$$\nexec sleep 100\n";
    std::filesystem::permissions(Program() + ".new", std::filesystem::perms::owner_all);
    std::filesystem::rename(Program() + ".new", Program());
  }

  std::string Program() const { return directory_.path() + "/program"; }
  std::string Notes() const { return directory_.path() + "/notes"; }

  void OnLoop(const std::function<void()>& task) {
    absl::Notification done;
    loop_.Post([&] {
      task();
      done.Notify();
    });
    done.WaitForNotification();
  }

  static bool Eventually(const std::function<bool()>& holds) {
    for (const absl::Time end = absl::Now() + absl::Seconds(60); absl::Now() < end;
         absl::SleepFor(absl::Milliseconds(1))) {
      if (holds()) return true;
    }
    return false;
  }

  struct Run {
    pid_t pid = 0;
    std::string argument;
  };
  std::vector<Run> Runs() const {
    std::vector<Run> runs;
    for (const absl::string_view line :
         absl::StrSplit(ReadFile(Notes()).value_or(""), '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      runs.push_back({std::atoi(words[0].c_str()), words[1]});
    }
    return runs;
  }

  // The pid of the `count`-th process, once it has come as far as to wait.
  pid_t AwaitRun(size_t count) const {
    EXPECT_TRUE(Eventually([&] {
      return Runs().size() >= count && std::filesystem::exists(absl::StrCat(
                                           directory_.path(), "/said-", Runs()[count - 1].pid));
    }));
    return Runs().size() < count ? 0 : Runs()[count - 1].pid;
  }

  pid_t PrepareOne() {
    OnLoop([&] {
      WorkerProcessOptions options;
      options.program = Program();
      options.log_file = directory_.path() + "/log";
      options.arguments = {"waits"};
      ahead_ = std::make_unique<WorkerAhead>(loop_, options);
      ahead_->Prepare();
    });
    return AwaitRun(1);
  }

  pid_t Start() {
    pid_t pid = 0;
    OnLoop([&] {
      WorkerProcessOptions options;
      options.program = Program();
      options.log_file = directory_.path() + "/log";
      options.arguments = {"works"};
      auto process = ahead_->Start(options);
      ASSERT_TRUE(process.ok()) << process.status();
      taken_ = *std::move(process);
      pid = taken_->pid();
    });
    return pid;
  }

  // Until the loop has done whatever was to come a while after the last start.
  void RunBeyondTheDelay() {
    absl::Notification done;
    loop_.RunAfter(2 * WorkerAhead::kDelay, [&] { done.Notify(); });
    done.WaitForNotification();
  }

  static std::string Maps(pid_t pid) {
    return ReadFile(absl::StrCat("/proc/", pid, "/maps")).value_or("");
  }
  // The library that it is in.
  static std::string LibraryOf(const char* function) {
    Dl_info info{};
    EXPECT_NE(dladdr(dlsym(RTLD_DEFAULT, function), &info), 0);
    return info.dli_fname;
  }

  static bool IsThere(pid_t pid) { return kill(pid, 0) == 0; }

  TempDirectory directory_;
  std::unique_ptr<WorkerProcess> taken_;
  std::unique_ptr<WorkerAhead> ahead_;
  EventLoop loop_;
};

TEST_F(WorkerAheadTest, TheOneThatWaitsIsTakenAndAnotherOnePrepared) {
  const pid_t first = PrepareOne();
  EXPECT_EQ(Start(), first);
  const pid_t next = AwaitRun(2);
  EXPECT_NE(next, first);
  EXPECT_EQ(Runs()[1].argument, "waits");
  EXPECT_EQ(Start(), next);
}

TEST_F(WorkerAheadTest, OneThatIsNotReadyIsLeftToBecomeSo) {
  PutProgram("true");
  const pid_t first = PrepareOne();
  const pid_t started = Start();
  EXPECT_NE(started, first);
  EXPECT_EQ(AwaitRun(2), started);
  EXPECT_EQ(Runs()[1].argument, "works");
  EXPECT_TRUE(IsThere(first));
}

TEST_F(WorkerAheadTest, OneOfAnotherProgramIsEnded) {
  const pid_t first = PrepareOne();
  PutProgram();
  const pid_t started = Start();
  EXPECT_NE(started, first);
  EXPECT_FALSE(IsThere(first));
  EXPECT_EQ(AwaitRun(2), started);
  const pid_t next = AwaitRun(3);
  EXPECT_EQ(Start(), next) << "of the program that is there now";
}

// Behind a script that stays as it is.
TEST_F(WorkerAheadTest, OneOfAnotherProgramOrLibraryBehindAScriptIsEnded) {
  const std::string file = directory_.path() + "/file";
  for (const bool library : {false, true}) {
    const std::string source = library ? LibraryOf("atoi") : "/bin/sleep";
    std::filesystem::copy_file(source, file, std::filesystem::copy_options::overwrite_existing);
    PutProgram("printf r >&3\ntouch " + directory_.path() + "/said-$$\n" +
               (library ? "LD_PRELOAD=" + file + " exec sleep 100" : "exec " + file + " 100"));
    std::filesystem::remove(Notes());
    const pid_t first = PrepareOne();
    ASSERT_TRUE(Eventually([&] { return Maps(first).find(file) != std::string::npos; }));
    std::filesystem::copy_file(source, file + ".new");
    std::filesystem::rename(file + ".new", file);
    EXPECT_NE(Start(), first) << source;
    EXPECT_FALSE(IsThere(first)) << source;
    OnLoop([&] {
      taken_.reset();
      ahead_->Stop();
    });
  }
}

TEST_F(WorkerAheadTest, AnotherOneIsPreparedWhenAsked) {
  const pid_t first = PrepareOne();
  OnLoop([&] { ahead_->Renew(); });
  EXPECT_FALSE(IsThere(first));
  const pid_t next = AwaitRun(2);
  EXPECT_EQ(Runs()[1].argument, "waits");
  EXPECT_EQ(Start(), next);
}

TEST_F(WorkerAheadTest, NoneIsPreparedBeforeOneIsWanted) {
  OnLoop([&] {
    WorkerProcessOptions options;
    options.program = Program();
    options.log_file = directory_.path() + "/log";
    ahead_ = std::make_unique<WorkerAhead>(loop_, options);
    ahead_->Renew();
  });
  RunBeyondTheDelay();
  EXPECT_EQ(Runs().size(), 0U);
}

TEST_F(WorkerAheadTest, OneThatHasDiedIsNotMissed) {
  const pid_t first = PrepareOne();
  kill(first, SIGKILL);
  ASSERT_TRUE(Eventually([&] { return !IsThere(first); })) << "it is reaped";
  const pid_t started = Start();
  EXPECT_EQ(AwaitRun(2), started);
  const pid_t next = AwaitRun(3);
  EXPECT_EQ(Start(), next);
}

TEST_F(WorkerAheadTest, NoneWaitsAfterTheEnd) {
  const pid_t first = PrepareOne();
  OnLoop([&] { ahead_->Stop(); });
  EXPECT_FALSE(IsThere(first));
  const pid_t started = Start();
  EXPECT_EQ(AwaitRun(2), started);
  RunBeyondTheDelay();
  EXPECT_EQ(Runs().size(), 2U);
}

}  // namespace
}  // namespace icepie::server
