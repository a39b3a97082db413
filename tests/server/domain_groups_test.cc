// What is written where, in a tree of files; and real processes in the kernel's own hierarchy,
// where this user may make groups there.
#include "server/supervisor/domain_groups.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/supervisor/supervisor.h"
#include "tests/core/broken_directory.h"
#include "tests/core/temp_directory.h"
#include "tests/server/real_group.h"

namespace icepie::server {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

class DomainGroupsTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) const {
    const std::string file = directory_.path() + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << text;
  }
  std::string Read(const std::string& path) const {
    return ReadFile(directory_.path() + path).value_or("(missing)");
  }
  bool IsThere(const std::string& path) const {
    return std::filesystem::exists(directory_.path() + path);
  }

  // This process alone in the group `path` below `mount`, with these controllers.
  void MakeOwn(const std::string& mount, const std::string& path,
               const std::string& controllers = "cpuset cpu io memory pids\n") const {
    Write("/proc/self/cgroup", absl::StrCat("9:name=systemd:/\n0::", path, "\n"));
    Write(mount + "/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    for (const auto& [file, text] : std::vector<std::pair<std::string, std::string>>{
             {"cgroup.controllers", controllers},
             {"cgroup.events", "populated 1\nfrozen 0\n"},
             {"cgroup.procs", absl::StrCat(::getpid(), "\n")},
             {"cgroup.subtree_control", ""}}) {
      Write(absl::StrCat(mount, path, "/", file), text);
    }
  }
  // As systemd marks what Delegate= gives away; not every file system keeps it.
  bool Mark(const std::string& path) const {
    const std::string group = directory_.path() + path;
    return ::geteuid() != 0 || ::setxattr(group.c_str(), "trusted.delegate", "1", 1, 0) == 0;
  }
  auto Enter() const { return DomainGroups::Enter(directory_.path()); }
  std::string EnterError() const { return std::string(Enter().status().message()); }

  // Workers that run for long, in the group that they are told.
  WorkerSettings Settings(std::shared_ptr<DomainGroups> groups) const {
    const std::string program = directory_.path() + "/worker.sh";
    std::ofstream(program)
        << "#!/bin/sh\nfor argument; do\n  case $argument in --cgroup=*)"
           " echo 0 > \"${argument#--cgroup=}/cgroup.procs\";;\n  esac\ndone\nexec sleep 1000\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    WorkerSettings settings;
    settings.program = program;
    settings.socket_directory = directory_.path();
    settings.restart.first_backoff = absl::Milliseconds(1);
    settings.groups = std::move(groups);
    return settings;
  }
  static icepie::worker::v1::Assignment Shop() {
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain("shop");
    assignment.add_generations()->set_slice("s");
    return assignment;
  }

  static bool Soon(const std::function<bool()>& holds) {
    const absl::Time deadline = SteadyNow() + absl::Seconds(60);
    while (!holds()) {
      if (SteadyNow() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  TempDirectory directory_;
};

TEST_F(DomainGroupsTest, ADelegatedGroupHasOneForEachDomain) {
  const std::string own = "/sys/fs/cgroup";
  MakeOwn(own, "/");
  std::filesystem::create_directories(directory_.path() + own + "/domain-old/answers");
  std::filesystem::create_directories(directory_.path() + own + "/of-others");
  const auto groups = Enter();
  ASSERT_TRUE(groups.ok()) << groups.status();
  EXPECT_EQ((*groups)->controllers(), "cpu, memory");
  EXPECT_EQ(Read(own + "/daemon/cgroup.procs"), absl::StrCat(::getpid()));
  EXPECT_EQ(Read(own + "/cgroup.subtree_control"), "+memory") << "the last of two commands";
  EXPECT_EQ(Read(own + "/daemon/cpu.weight"), "1000");
  EXPECT_FALSE(IsThere(own + "/domain-old"));
  EXPECT_TRUE(IsThere(own + "/of-others"));

  const std::string shop = own + "/domain-shop";
  EXPECT_EQ((*groups)->ForWorker("shop", "standby", kGiB), directory_.path() + shop + "/answers");
  EXPECT_EQ(Read(shop + "/cgroup.subtree_control"), "+cpu");
  EXPECT_EQ(Read(shop + "/memory.max"), absl::StrCat(7 * kGiB));
  EXPECT_EQ(Read(shop + "/answers/cpu.weight"), "100");
  EXPECT_FALSE(IsThere(shop + "/memory.high"));
  EXPECT_EQ((*groups)->ForWorker("shop", "live", kGiB), directory_.path() + shop + "/answers");
  EXPECT_EQ((*groups)->ForWorker("shop", "build", kGiB / 4), directory_.path() + shop + "/builds");
  EXPECT_EQ(Read(shop + "/builds/cpu.weight"), "10");
  EXPECT_EQ(Read(shop + "/memory.max"), absl::StrCat(7 * kGiB)) << "those that run have more";
  EXPECT_EQ((*groups)->ForPlanner(), directory_.path() + own + "/planners");
  EXPECT_EQ(Read(own + "/planners/cpu.weight"), "100");
}

TEST_F(DomainGroupsTest, WhatIsNotOfferedIsLeftOut) {
  MakeOwn("/sys/fs/cgroup", "/", "memory pids\n");
  const auto groups = Enter();
  ASSERT_TRUE(groups.ok()) << groups.status();
  EXPECT_EQ((*groups)->controllers(), "memory");
  EXPECT_EQ(Read("/sys/fs/cgroup/cgroup.subtree_control"), "+memory");
  const std::string group = (*groups)->ForWorker("shop", "live", kGiB);
  EXPECT_FALSE(std::filesystem::exists(group + "/cpu.weight"));
  EXPECT_FALSE(IsThere("/sys/fs/cgroup/domain-shop/cgroup.subtree_control"));
  EXPECT_EQ(Read("/sys/fs/cgroup/domain-shop/memory.max"), absl::StrCat(7 * kGiB));
}

// The kernel takes all that one write asks for, or nothing of it.
TEST_F(DomainGroupsTest, EachControllerIsAskedForByItself) {
  const std::string own = "/sys/fs/cgroup";
  MakeOwn(own, "/");
  const std::string commands = directory_.path() + own + "/cgroup.subtree_control";
  std::filesystem::remove(commands);
  ASSERT_EQ(::mkfifo(commands.c_str(), 0600), 0);
  const int reader = ::open(commands.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  const auto groups = Enter();
  char said[64];
  const ssize_t size = ::read(reader, said, sizeof said);
  ::close(reader);
  ASSERT_TRUE(groups.ok()) << groups.status();
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(said, static_cast<size_t>(size)), "+cpu+memory");
}

TEST_F(DomainGroupsTest, WhatTheKernelRefusesIsLeftOutAndTheOtherIsUsed) {
  if (::getpid() > 999'999) GTEST_SKIP() << "the number of this process is no shorter file";
  MakeOwn("/sys/fs/cgroup", "/");
  const auto before = ::signal(SIGXFSZ, SIG_IGN);
  rlimit all{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &all), 0);
  const rlimit short_files{std::string("+memory").size() - 1, all.rlim_max};  // no longer command
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &short_files), 0);
  const auto groups = Enter();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &all), 0);
  ::signal(SIGXFSZ, before);
  ASSERT_TRUE(groups.ok()) << groups.status();
  EXPECT_EQ((*groups)->controllers(), "cpu");
  EXPECT_EQ(Read("/sys/fs/cgroup/daemon/cpu.weight"), "1000");
  EXPECT_NE((*groups)->ForWorker("shop", "build", kGiB), "");
  EXPECT_EQ(Read("/sys/fs/cgroup/domain-shop/builds/cpu.weight"), "10");
  EXPECT_FALSE(IsThere("/sys/fs/cgroup/domain-shop/memory.max"));
}

// A weight or a cap that cannot be set costs no worker its group.
TEST_F(DomainGroupsTest, AWorkerHasItsGroupWithoutAllThatItShouldHave) {
  for (const char* refused : {"cgroup.subtree_control", "memory.max", "answers/cpu.weight"}) {
    const std::string base = std::string("/groups-") + refused[0];
    DomainGroups groups(directory_.path() + base, std::set<std::string>{"cpu", "memory"});
    std::filesystem::create_directories(
        absl::StrCat(directory_.path(), base, "/domain-shop/", refused));
    EXPECT_EQ(groups.ForWorker("shop", "live", kGiB),
              absl::StrCat(directory_.path(), base, "/domain-shop/answers"))
        << refused;
    const bool is_cap = refused == std::string("memory.max");
    EXPECT_EQ(Read(base + (is_cap ? "/domain-shop/answers/cpu.weight" : "/domain-shop/memory.max")),
              is_cap ? "100" : absl::StrCat(7 * kGiB))
        << refused;
  }
}

TEST_F(DomainGroupsTest, GroupsThatCannotAllBeListedEndNoDaemon) {
  std::filesystem::create_directories(directory_.path() + "/groups/domain-old/answers");
  const BrokenDirectory broken(directory_.path() + "/groups", 3);
  const DomainGroups groups(directory_.path() + "/groups", std::set<std::string>{"cpu"});
  EXPECT_FALSE(IsThere("/groups/domain-old"));
}

// The unit that is given away is the one above: the manager has put the daemon into daemon/.
TEST_F(DomainGroupsTest, AUnitsGroupIsUsedWhereItIsMarked) {
  const std::string unit = "/sys/fs/cgroup/unified/system.slice/icepied.service";
  MakeOwn("/sys/fs/cgroup/unified", "/system.slice/icepied.service");
  if (::geteuid() == 0) {
    EXPECT_NE(EnterError().find("is not delegated"), std::string::npos) << EnterError();
    EXPECT_FALSE(IsThere(unit + "/daemon"));
  }
  if (!Mark(unit)) GTEST_SKIP() << "no marks in " << directory_.path();
  MakeOwn("/sys/fs/cgroup/unified", "/system.slice/icepied.service/daemon");
  Write(unit + "/cgroup.procs", "");
  const auto groups = Enter();
  ASSERT_TRUE(groups.ok()) << groups.status();
  EXPECT_EQ(Read(unit + "/cgroup.subtree_control"), "+memory");
  EXPECT_FALSE(IsThere(unit + "/daemon/daemon"));
  EXPECT_EQ((*groups)->ForWorker("shop", "live", kGiB),
            directory_.path() + unit + "/domain-shop/answers");
}

TEST_F(DomainGroupsTest, WhatIsNotDelegatedIsLeftAsItIs) {
  const std::string own = "/sys/fs/cgroup";
  EXPECT_EQ(EnterError(), "this process has no control group of version 2");
  MakeOwn(own, "/", "hugetlb\n");
  EXPECT_NE(EnterError().find("offers neither cpu nor memory"), std::string::npos);
  MakeOwn(own, "/");
  Write(own + "/cgroup.procs", absl::StrCat("1\n", ::getpid(), "\n"));
  EXPECT_NE(EnterError().find("also holds other processes"), std::string::npos);
  MakeOwn(own, "/");
  std::filesystem::remove(directory_.path() + own + "/cgroup.subtree_control");
  EXPECT_EQ(ErrorReason(Enter().status()), "CGROUP_NOT_DELEGATED");
  EXPECT_FALSE(IsThere(own + "/daemon"));
  // The kernel refuses: the daemon goes back to where it was.
  std::filesystem::create_directory(directory_.path() + own + "/cgroup.subtree_control");
  EXPECT_EQ(ErrorReason(Enter().status()), "CGROUP_NOT_DELEGATED");
  EXPECT_EQ(Read(own + "/cgroup.procs"), absl::StrCat(::getpid()));
}

TEST_F(DomainGroupsTest, AWorkerThatTheKernelEndsForItsMemorySaysSo) {
  const std::string events = "/groups/domain-shop/memory.events";
  Write(events, "low 0\nmax 9\noom 3\noom_kill 3\n");  // before
  const auto groups = std::make_shared<DomainGroups>(directory_.path() + "/groups",
                                                     std::set<std::string>{"memory"});
  Supervisor supervisor(Settings(groups), directory_.path() + "/domains", directory_.path());
  supervisor.SetDomain(Shop());
  const auto lose = [&] {
    int64_t lost = 0;
    EXPECT_TRUE(supervisor.WaitFor("shop", absl::Seconds(60), [&](const DomainView& view) {
      lost = view.live.incarnation;
      return view.live.status.pid() > 0;
    }));
    const auto pid = static_cast<pid_t>(supervisor.View("shop").live.status.pid());
    ::kill(pid, SIGKILL);
    std::string error;
    EXPECT_TRUE(supervisor.WaitFor("shop", absl::Seconds(60), [&](const DomainView& view) {
      error = view.live.status.last_error();
      return view.live.incarnation != lost || view.live.status.pid() == 0;
    }));
    return error;
  };
  EXPECT_EQ(lose(), "ended with signal 9 (Killed)");
  Write(events, "low 0\nmax 12\noom 4\noom_kill 4\n");
  EXPECT_EQ(lose(),
            "ended with signal 9 (Killed): its domain's workers together reached their memory cap "
            "of 7168 MiB");
  Write(events, "low 0\nmax 12\noom 4\noom_kill 5\n");  // for the machine's memory
  EXPECT_EQ(lose(), "ended with signal 9 (Killed)");
  Write(events, "low 0\nmax 20\noom 9\noom_kill 6\n");  // five of its threads met the cap
  EXPECT_NE(lose(), "ended with signal 9 (Killed)");
  Write(events, "low 0\nmax 20\noom 9\noom_kill 7\n");  // for the machine's again
  EXPECT_EQ(lose(), "ended with signal 9 (Killed)");
}

TEST_F(DomainGroupsTest, WorkersAreInTheirDomainsGroupAndItGoesWithTheDomain) {
  const RealGroup real;
  if (!real.usable()) GTEST_SKIP() << "no groups of this user's in the kernel's hierarchy";
  std::filesystem::create_directories(real.path() +
                                      "/domain-left/builds");  // by one that was killed
  const auto groups = std::make_shared<DomainGroups>(real.path(), std::set<std::string>{});
  EXPECT_FALSE(std::filesystem::exists(real.path() + "/domain-left"));
  Supervisor supervisor(Settings(groups), directory_.path() + "/domains", directory_.path());
  supervisor.SetDomain(Shop());
  supervisor.StartBuild(1, Shop(), [](const WorkerView&) {});
  const std::string shop = real.name() + "/domain-shop";
  const std::set<std::pair<std::string, std::string>> expected = {
      {"build", shop + "/builds"}, {"live", shop + "/answers"}, {"standby", shop + "/answers"}};
  EXPECT_TRUE(Soon([&] {
    std::set<std::pair<std::string, std::string>> found;
    for (const auto& worker : supervisor.Statuses("shop")) {
      if (worker.pid() > 0) found.emplace(worker.role(), RealGroup::Of(worker.pid()));
    }
    return found == expected;
  }));
  supervisor.StopBuild(1, [] {});
  supervisor.RemoveDomain("shop");
  EXPECT_TRUE(Soon([&] { return !std::filesystem::exists(real.path() + "/domain-shop"); }));
}

// As an earlier daemon's workers do that end while this one starts, or what somebody else has put
// there.
TEST_F(DomainGroupsTest, AnEarlierDaemonsGroupGoesWhenWhatIsInItHasEnded) {
  const RealGroup real;
  if (!real.usable()) GTEST_SKIP() << "no groups of this user's in the kernel's hierarchy";
  const std::string left = real.path() + "/domain-left";
  std::filesystem::create_directories(left + "/answers");
  const std::string join = absl::StrCat("echo $$ > ", left, "/answers/cgroup.procs; exec cat");
  FILE* const inside = ::popen(join.c_str(), "w");  // until it is closed
  ASSERT_NE(inside, nullptr);
  ASSERT_TRUE(Soon([&] { return ReadFile(left + "/answers/cgroup.procs").value_or("") != ""; }));
  const auto groups = std::make_shared<DomainGroups>(real.path(), std::set<std::string>{});
  Supervisor supervisor(Settings(groups), directory_.path() + "/domains", directory_.path());
  EXPECT_TRUE(std::filesystem::exists(left));
  ::pclose(inside);
  EXPECT_TRUE(Soon([&] { return !std::filesystem::exists(left); }));
}

}  // namespace
}  // namespace icepie::server
