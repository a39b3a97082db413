// Each layer of a worker's sandbox alone and both together, in forked processes that try what a
// worker must not do (fault: a worker opens /etc/passwd, connects, starts programs, signals).
#include "server/worker/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/thread_priority.h"
#include "server/supervisor/worker_process.h"
#include "server/worker/ahead.h"
#include "server/worker/exit_codes.h"
#include "server/worker/process_limits.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

// The errno of a call that failed, 0 of one that did not.
int ErrorOf(int64_t result) { return result < 0 ? errno : 0; }

int OpenError(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  const int error = ErrorOf(fd);
  if (fd >= 0) ::close(fd);
  return error;
}

int SocketError(int domain, int type = SOCK_STREAM) {
  const int fd = ::socket(domain, type, 0);
  const int error = ErrorOf(fd);
  if (fd >= 0) ::close(fd);
  return error;
}

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

// A socket as another process has it, whose connections nobody takes yet.
int Listen(const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd, 8), 0);
  return fd;
}

class SandboxTest : public testing::Test {
 protected:
  SandboxTest() {
    ::mkdir((directory_.path() + "/own").c_str(), 0700);
    ::mkdir((directory_.path() + "/segments").c_str(), 0700);
    ::mkdir((directory_.path() + "/other").c_str(), 0700);
    for (const char* file : {"/own/a", "/segments/a", "/other/a"}) {
      EXPECT_EQ(OpenError(directory_.path() + file, O_CREAT | O_WRONLY), 0);
    }
    paths_.written = {directory_.path() + "/own"};
    paths_.read = SandboxSystemPaths();
    paths_.read.push_back(directory_.path() + "/segments");
  }

  inline static const std::vector<std::string> kTold = {"--role=standby", "--domain=own"};

  enum Layer { kFiles = 1, kCalls = 2 };

  // Runs `body` in a process that has entered the layers, and in one that was started ahead; what
  // it returns must be 0: the number of the first expectation that failed.
  void InSandbox(int layers, const std::function<int()>& body) {
    for (const bool ahead : {false, true}) {
      SCOPED_TRACE(ahead ? "started ahead" : "started for it");
      RunInSandbox(layers, ahead, body);
    }
  }

  // What it has done before it knew whose it is must leave nothing by which it gets out.
  static bool WaitsAhead(int fd) {
    const auto told = AwaitStart(fd);
    return told.ok() && *told == kTold;
  }

  void RunInSandbox(int layers, bool ahead, const std::function<int()>& body) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ASSERT_TRUE(SendStart(pair[0], kTold, {STDERR_FILENO}));
    const pid_t child = ::fork();
    ::close(pair[child == 0 ? 0 : 1]);
    if (child == 0 && ahead && !WaitsAhead(pair[1])) ::_exit(253);
    if (child == 0) {
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      int version = 0;
      if ((layers & kFiles) != 0 && !RestrictFiles(paths_, &version).ok()) ::_exit(254);
      if ((layers & kCalls) != 0 && !RestrictSystemCalls().ok()) ::_exit(255);
      ::_exit(body());
    }
    ASSERT_GT(child, 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    char ready = 'x';
    if (ahead) EXPECT_EQ(::recv(pair[0], &ready, 1, 0), 1);
    ::close(pair[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) >= 254) {
      GTEST_SKIP() << "this kernel or build has no such layer";
    }
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << "the attempt of this number went otherwise than it should";
  }

  std::string Path(const std::string& name) const { return directory_.path() + name; }

  TempDirectory directory_;
  SandboxPaths paths_;
};

// Numbers the attempts, for the exit code of the forked process.
class Attempts {
 public:
  void Expect(bool held) {
    ++number_;
    if (!held && failed_ == 0) failed_ = number_;
  }
  int failed() const { return failed_; }

 private:
  int number_ = 0;
  int failed_ = 0;
};

TEST_F(SandboxTest, FilesOutsideItsDirectoryCannotBeOpened) {
  InSandbox(kFiles, [&] {
    Attempts attempts;
    attempts.Expect(OpenError("/etc/passwd", O_RDONLY) == EACCES);
    attempts.Expect(OpenError(Path("/other/a"), O_RDONLY) == EACCES);
    attempts.Expect(OpenError(Path("/other/new"), O_CREAT | O_WRONLY) == EACCES);
    attempts.Expect(ErrorOf(::unlink(Path("/other/a").c_str())) == EACCES);
    attempts.Expect(ErrorOf(::rename(Path("/own/a").c_str(), Path("/other/b").c_str())) == EXDEV ||
                    errno == EACCES);
    attempts.Expect(ErrorOf(::symlink("/etc", Path("/own/etc").c_str())) == EACCES);
    attempts.Expect(OpenError(Path("/own/../other/a"), O_RDONLY) == EACCES);
    return attempts.failed();
  });
}

TEST_F(SandboxTest, ItsDirectoryIsItsOwnAndSegmentsAreOnlyRead) {
  InSandbox(kFiles | kCalls, [&] {
    Attempts attempts;
    attempts.Expect(OpenError(Path("/own/new"), O_CREAT | O_RDWR) == 0);
    attempts.Expect(::rename(Path("/own/new").c_str(), Path("/own/named").c_str()) == 0);
    attempts.Expect(OpenError(Path("/own/named"), O_WRONLY | O_TRUNC) == 0);
    attempts.Expect(::unlink(Path("/own/named").c_str()) == 0);
    attempts.Expect(OpenError(Path("/segments/a"), O_RDONLY) == 0);
    attempts.Expect(OpenError(Path("/segments/a"), O_WRONLY) == EACCES);
    attempts.Expect(ErrorOf(::unlink(Path("/segments/a").c_str())) == EACCES);
    attempts.Expect(OpenError("/proc/self/statm", O_RDONLY) == 0);
    attempts.Expect(OpenError("/proc/1/environ", O_RDONLY) == EACCES);
    return attempts.failed();
  });
}

// Of the daemon's user, as the core's files are; one may be read, the other is out of reach.
// seccomp alone shows that it does not need a Landlock that knows of lengths (from 6.2 on).
TEST_F(SandboxTest, FilesAreNeitherEmptiedNorTakenAwayFromTheirOwner) {
  for (const int layers : {int{kCalls}, kFiles | kCalls}) {
    for (const std::string& file : {Path("/segments/a"), Path("/other/a")}) {
      ASSERT_TRUE(WriteFileAtomically(file, "records", 0600).ok());
      InSandbox(layers, [&] {
        Attempts attempts;
        const char* path = file.c_str();
        const auto is_refused = [](int64_t result) {
          const int error = ErrorOf(result);
          return error == EPERM || error == EACCES;
        };
        attempts.Expect(is_refused(::truncate(path, 0)));
        for (const int flags : {O_RDONLY | O_TRUNC, O_ACCMODE, O_ACCMODE | O_TRUNC}) {
          attempts.Expect(is_refused(::open(path, flags)));
          attempts.Expect(is_refused(::syscall(SYS_openat, AT_FDCWD, path, flags)));
        }
        uint64_t how[3] = {O_RDONLY | O_TRUNC, 0, 0};
        attempts.Expect(ErrorOf(::syscall(SYS_openat2, AT_FDCWD, path, how, sizeof(how))) ==
                        ENOSYS);
        attempts.Expect(is_refused(::chmod(path, 0)));
        attempts.Expect(is_refused(::fchmodat(AT_FDCWD, path, 0, 0)));
        attempts.Expect(is_refused(::chown(path, ::getuid(), ::getgid())));
        attempts.Expect(is_refused(::utimensat(AT_FDCWD, path, nullptr, 0)));
        attempts.Expect(is_refused(::setxattr(path, "user.a", "b", 1, 0)));
        // By what it may open.
        const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return attempts.failed();
        attempts.Expect(is_refused(::fchmod(fd, 0)));
        attempts.Expect(is_refused(::fchown(fd, ::getuid(), ::getgid())));
        attempts.Expect(is_refused(::futimens(fd, nullptr)));
        attempts.Expect(is_refused(::fsetxattr(fd, "user.a", "b", 1, 0)));
        attempts.Expect(ErrorOf(::ftruncate(fd, 0)) == EINVAL);  // it is not open to be written
        return attempts.failed();
      });
      if (IsSkipped()) return;
      struct stat info {};
      ASSERT_EQ(::stat(file.c_str(), &info), 0);
      EXPECT_EQ(info.st_size, 7);
      EXPECT_EQ(info.st_mode & 07777, mode_t{0600});
    }
  }
}

TEST_F(SandboxTest, NoProgramsNoProcessesNoNetwork) {
  InSandbox(kCalls, [] {
    Attempts attempts;
    char shell[] = "/bin/sh";
    char* arguments[] = {shell, nullptr};
    attempts.Expect(ErrorOf(::execv(shell, arguments)) == EPERM);
    attempts.Expect(ErrorOf(::fork()) == EPERM);
    attempts.Expect(SocketError(AF_INET) == EPERM);
    attempts.Expect(SocketError(AF_INET6) == EPERM);
    attempts.Expect(SocketError(AF_NETLINK) == EPERM);
    attempts.Expect(ErrorOf(::kill(::getppid(), 0)) == EPERM);
    attempts.Expect(ErrorOf(::kill(-1, 0)) == EPERM);
    attempts.Expect(ErrorOf(::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr)) == EPERM);
    attempts.Expect(ErrorOf(::syscall(SYS_pidfd_open, ::getppid(), 0)) == EPERM);
    attempts.Expect(ErrorOf(::syscall(SYS_bpf, 0, nullptr, 0)) == EPERM);
    attempts.Expect(ErrorOf(::syscall(SYS_unshare, 0)) == EPERM);
    attempts.Expect(ErrorOf(::syscall(SYS_io_uring_setup, 1, nullptr)) == EPERM);
    rlimit limit{};
    attempts.Expect(ErrorOf(::prlimit(::getppid(), RLIMIT_AS, nullptr, &limit)) == EPERM);
    return attempts.failed();
  });
}

// Other workers, the daemon, whoever else listens on the machine.
TEST_F(SandboxTest, NobodysSocketIsReached) {
  const int other = Listen(Path("/other/s"));
  const int own = Listen(Path("/own/s"));
  InSandbox(kCalls, [&] {
    Attempts attempts;
    for (const char* path : {"/other/s", "/own/s"}) {
      const sockaddr_un address = AddressOf(Path(path));
      const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
      attempts.Expect(fd >= 0);
      const auto* to = reinterpret_cast<const sockaddr*>(&address);
      attempts.Expect(ErrorOf(::connect(fd, to, sizeof(address))) == EPERM);
      attempts.Expect(::sendto(fd, "x", 1, MSG_NOSIGNAL, to, sizeof(address)) < 0);
      ::close(fd);
    }
    attempts.Expect(SocketError(AF_UNIX, SOCK_DGRAM) == EPERM);
    attempts.Expect(SocketError(AF_UNIX, SOCK_SEQPACKET) == EPERM);
    return attempts.failed();
  });
  ::close(other);
  ::close(own);
}

TEST_F(SandboxTest, PrioritiesAreItsOwnThreadsOnly) {
  InSandbox(kCalls, [] {
    Attempts attempts;
    const auto parent = static_cast<id_t>(::getppid());
    attempts.Expect(ErrorOf(::setpriority(PRIO_PROCESS, parent, 19)) == EPERM);
    attempts.Expect(ErrorOf(::setpriority(PRIO_USER, 0, 19)) == EPERM);
    attempts.Expect(ErrorOf(::setpriority(PRIO_PGRP, 0, 19)) == EPERM);
    // One thread of another, as the watch of queries does.
    std::promise<ThreadName> name;
    std::promise<void> looked;
    int scheduler = SCHED_OTHER;
    std::thread thread([&] {
      name.set_value(ThisThread());
      looked.get_future().wait();
      scheduler = ::sched_getscheduler(0);
      attempts.Expect(BeNicer(1));
    });
    attempts.Expect(MakeBulk(name.get_future().get()));
    looked.set_value();
    thread.join();
    attempts.Expect(scheduler == SCHED_BATCH);
    attempts.Expect(::sched_getscheduler(0) != SCHED_BATCH);
    return attempts.failed();
  });
}

TEST_F(SandboxTest, WhatAWorkerDoesStillWorks) {
  InSandbox(kFiles | kCalls, [&] {
    Attempts attempts;
    bool ran = false;
    std::thread([&] { ran = true; }).join();
    attempts.Expect(ran);
    attempts.Expect(SocketError(AF_UNIX) == 0);
    attempts.Expect(::kill(::getpid(), 0) == 0);
    rlimit limit{};
    attempts.Expect(::getrlimit(RLIMIT_AS, &limit) == 0);
    const std::string path = Path("/own/s");
    const sockaddr_un address = AddressOf(path);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    attempts.Expect(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    attempts.Expect(::unlink(path.c_str()) == 0);
    return attempts.failed();
  });
}

TEST_F(SandboxTest, AnAbortInsideIsStillAnAbort) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)RestrictSystemCalls();
    std::abort();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
}

// Without no_new_privs and privileges, the kernel takes no filter: the level says so, and whoever
// requires the sandbox does not run.
TEST_F(SandboxTest, WhatIsMissingIsNamedAndRefusedWhenRequired) {
  const pid_t child = ::fork();
  if (child == 0) {
    // A ruleset cannot be entered either; as root both can, so root gives up being it.
    if (::getuid() == 0 && ::setuid(65534) != 0) ::_exit(1);
    std::string level;
    const absl::Status tolerated = EnterSandbox(paths_, false, &level);
    if (!tolerated.ok()) ::_exit(2);
    if (level.rfind("none (", 0) != 0) ::_exit(3);
    const absl::Status required = EnterSandbox(paths_, true, &level);
    if (ErrorReason(required) != "SANDBOX_INCOMPLETE") ::_exit(4);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// From here on, and in every program that the process becomes, the kernel seems to lack Landlock.
void HideLandlock() {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {std::size(filter), filter};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) ::_exit(255);
}

// No sandbox would confine the other.
TEST_F(SandboxTest, WhoWasStartedAheadMustHaveOneThread) {
  std::promise<void> end;
  std::thread other([&] { end.get_future().wait(); });
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  ::shutdown(pair[0], SHUT_WR);  // it would wait else
  EXPECT_EQ(AwaitStart(pair[1]).status().code(), absl::StatusCode::kInternal);
  char ready = 'x';
  EXPECT_EQ(::recv(pair[0], &ready, 1, MSG_DONTWAIT), -1);
  end.set_value();
  other.join();
  ::close(pair[0]);
  ::close(pair[1]);
}

// Where the planners are it would have their share of the processor, and no cap.
TEST_F(SandboxTest, AWorkerWithoutItsGroupIsWhereItsDaemonIs) {
  for (const bool has_group : {false, true}) {
    for (const char* group : {"/daemon", "/domain"}) {
      std::filesystem::create_directory(Path(group));
      std::ofstream(Path(group) + "/cgroup.procs", std::ios::trunc);
    }
    if (!has_group) std::filesystem::remove(Path("/domain/cgroup.procs"));
    WorkerProcessOptions options;
    options.program = std::string(std::getenv("ICEPIE_BIN")) + "/icepie-worker";
    options.log_file = Path("/log");
    options.arguments = {"--role=standby",
                         "--domain=shop",
                         "--directory=" + Path("/own"),
                         "--socket=" + Path("/own/s"),
                         "--host-socket=" + Path("/own/none"),
                         "--cgroup=" + Path("/domain"),
                         "--else-in=" + Path("/daemon")};
    auto process = WorkerProcess::Spawn(options);
    ASSERT_TRUE(process.ok()) << process.status();
    EXPECT_EQ((*process)->Reap(), "exit code 1") << "nobody is there";
    EXPECT_EQ(ReadFile(Path("/daemon/cgroup.procs")).value_or(""), has_group ? "" : "0");
    EXPECT_EQ(ReadFile(Path("/domain/cgroup.procs")).value_or(""), has_group ? "0" : "");
  }
}

// Nor one that crashes before it is told whose it is.
TEST_F(SandboxTest, WhoWasStartedAheadLeavesNoCore) {
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_CORE, &before), 0);
  if (before.rlim_max == 0) GTEST_SKIP() << "nobody leaves one here";
  const rlimit all = {before.rlim_max, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_CORE, &all), 0);
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  WorkerProcessOptions options;
  options.program = std::string(std::getenv("ICEPIE_BIN")) + "/icepie-worker";
  options.log_file = Path("/log");
  options.life_fd = pair[1];
  options.arguments = {absl::StrCat("--ahead-fd=", kGivenFd)};
  auto process = WorkerProcess::Spawn(options);
  ::setrlimit(RLIMIT_CORE, &before);
  ::close(pair[1]);
  ASSERT_TRUE(process.ok()) << process.status();
  char ready = 'x';
  EXPECT_EQ(::recv(pair[0], &ready, 1, 0), 1);
  rlimit of_it = all;
  EXPECT_EQ(::prlimit((*process)->pid(), RLIMIT_CORE, nullptr, &of_it), 0);
  EXPECT_EQ(of_it.rlim_cur, 0U);
  EXPECT_EQ(of_it.rlim_max, 0U);
  ::close(pair[0]);
}

TEST_F(SandboxTest, AWorkerThatRequiresItEndsWhereTheKernelLacksALayer) {
  const std::string program = std::string(std::getenv("ICEPIE_BIN")) + "/icepie-worker";
  std::vector<std::string> arguments = {program,
                                        "--role=standby",
                                        "--domain=shop",
                                        "--directory=" + Path("/own"),
                                        "--socket=" + Path("/own/s"),
                                        "--host-socket=" + Path("/own/host"),
                                        "--require-sandbox"};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int host = Listen(Path("/own/host"));
  const pid_t child = ::fork();
  if (child == 0) {
    HideLandlock();
    ::execv(program.c_str(), argv.data());
    ::_exit(254);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 255) GTEST_SKIP() << "this kernel takes no filter";
  EXPECT_EQ(WEXITSTATUS(status), kExitUnboxed);
  ::close(host);
}

// In a process of its own, as it takes rights away.
TEST(ProcessLimitsTest, APlannerIsNoBuildAndHasTheProcessorForSoLong) {
  const pid_t child = ::fork();
  if (child == 0) {
    WorkerOptions options;
    options.role = "planner";
    const int scheduler = ::sched_getscheduler(0);
    rlimit limit = {};
    const bool limited = ApplyProcessLimits(options).ok() && ::getrlimit(RLIMIT_CPU, &limit) == 0 &&
                         limit.rlim_cur == kPlannerProcessorSeconds;
    ::_exit(limited && ::sched_getscheduler(0) == scheduler ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace icepie::server
