#include "server/supervisor/worker_process.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "server/worker/exit_codes.h"
#include "spdlog/spdlog.h"

extern char** environ;

namespace icepie::server {
namespace {

constexpr absl::string_view kZero("", 1);

// Opened for appending; the child's output goes straight to the file.
absl::StatusOr<int> OpenLogFile(const WorkerProcessOptions& options) {
  struct stat info {};
  const std::string& path = options.log_file;
  if (stat(path.c_str(), &info) == 0 && info.st_size > options.log_bytes_max) {
    std::rename(path.c_str(), absl::StrCat(path, ".1").c_str());
  }
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("opening log file ", path));
  return fd;
}

absl::StatusOr<int> OpenLog(const WorkerProcessOptions& options) {
  auto log_fd = OpenLogFile(options);
  if (log_fd.ok()) return log_fd;
  spdlog::warn("{}; what the worker says is lost", log_fd.status().ToString());
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return ErrnoError(errno, "open /dev/null for a worker");
  return nowhere;
}

std::vector<std::string> ChildEnvironment() {
  std::vector<std::string> out = {"MALLOC_ARENA_MAX=2", "TZ=UTC"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, "MALLOC_ARENA_MAX=") && !absl::StartsWith(*entry, "TZ=")) {
      out.emplace_back(*entry);
    }
  }
  return out;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (std::string& text : strings) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

// The two halves of what posix_spawn is told, freed together.
struct SpawnPlan {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;

  SpawnPlan(int log_fd, int life_fd) {
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, log_fd, 1);
    posix_spawn_file_actions_adddup2(&files, log_fd, 2);
    if (life_fd >= 0) posix_spawn_file_actions_adddup2(&files, life_fd, kLifeFd);
    posix_spawn_file_actions_addclosefrom_np(&files, life_fd >= 0 ? kLifeFd + 1 : kLifeFd);
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    // A group of its own: Ctrl-C in a terminal reaches the daemon only, which then stops its
    // workers in order.
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
};

// Best effort: a worker without these still works.
void SetPriorities(pid_t pid, const WorkerProcessOptions& options) {
  std::ofstream(absl::StrCat("/proc/", pid, "/oom_score_adj")) << options.oom_score_adj;
  setpriority(PRIO_PROCESS, static_cast<id_t>(pid), options.nice);
  sched_param parameters{};
  if (options.batch) sched_setscheduler(pid, SCHED_BATCH, &parameters);
}

// Of a status as waitpid's.
std::string CauseOf(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrCat("signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  if (WEXITSTATUS(status) == kExitUnboxed) {
    return "exit code 5: workers.require_sandbox is set, and the kernel cannot confine it fully";
  }
  if (WEXITSTATUS(status) == kExitUnsaved) {
    return "exit code 6: a state could not be saved, as its log says";
  }
  return absl::StrCat("exit code ", WEXITSTATUS(status));
}

}  // namespace

bool SendStart(int socket, const std::vector<std::string>& arguments, const std::vector<int>& fds) {
  std::string text;
  for (const std::string& argument : arguments) absl::StrAppend(&text, argument, kZero);
  iovec part = {text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kStartFdsMax * sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* const given = CMSG_FIRSTHDR(&header);
  given->cmsg_level = SOL_SOCKET;
  given->cmsg_type = SCM_RIGHTS;
  given->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(given), fds.data(), fds.size() * sizeof(int));
  return text.size() <= kStartBytesMax &&
         sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(text.size());
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Spawn(
    const WorkerProcessOptions& options) {
  ICEPIE_ASSIGN_OR_RETURN(const int log_fd, OpenLog(options));
  std::vector<std::string> arguments = {options.program};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = ChildEnvironment();
  const SpawnPlan plan(log_fd, options.life_fd);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, options.program.c_str(), &plan.files, &plan.attributes,
                                Pointers(arguments).data(), Pointers(environment).data());
  close(log_fd);
  if (error != 0) return ErrnoError(error, absl::StrCat("starting ", options.program));
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) {
    const int open_error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return ErrnoError(open_error, "watching a worker by pidfd_open");
  }
  fcntl(pidfd, F_SETFD, FD_CLOEXEC);
  SetPriorities(pid, options);
  return std::unique_ptr<WorkerProcess>(new WorkerProcess(pid, pidfd));
}

absl::StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::SpawnAhead(
    WorkerProcessOptions options) {
  std::array<int, 2> pair = {};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    return ErrnoError(errno, "making sockets for a worker");
  }
  options.life_fd = pair[1];
  options.arguments.push_back(absl::StrCat("--ahead-fd=", kLifeFd));
  auto process = Spawn(options);
  close(pair[1]);
  if (process.ok()) {
    (*process)->ahead_ = pair[0];
  } else {
    close(pair[0]);
  }
  return process;
}

bool WorkerProcess::GoOn(const WorkerProcessOptions& options) {
  char byte = 0;
  ready_ = ready_ || recv(ahead_, &byte, 1, MSG_DONTWAIT) == 1;
  if (!ready_) return false;
  const auto log_fd = OpenLog(options);
  if (!log_fd.ok()) return false;
  std::vector<int> fds = {*log_fd};
  if (options.life_fd >= 0) fds.push_back(options.life_fd);
  const sched_param none = {};
  if (!options.batch) sched_setscheduler(pid_, SCHED_OTHER, &none);
  SetPriorities(pid_, options);
  const bool told = SendStart(ahead_, options.arguments, fds);
  close(*log_fd);
  if (told) close(std::exchange(ahead_, -1));
  return told;
}

WorkerProcess::~WorkerProcess() {
  if (!reaped_) {
    Signal(SIGKILL);
    Reap();
  }
  close(pidfd_);
  if (ahead_ >= 0) close(ahead_);
}

void WorkerProcess::Signal(int signal) {
  if (!reaped_) syscall(SYS_pidfd_send_signal, pidfd_, signal, nullptr, 0);
}

std::string WorkerProcess::Reap() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  ended_in_order_ = WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0;
  return CauseOf(status);
}

// The last field of /proc/<pid>/stat, which is 0 as long as nothing ends the process. Some fields
// before it may be longer or more than today, but none has a space except the program's name.
std::string WorkerProcess::Cause() const {
  const auto stat = ReadFile(absl::StrCat("/proc/", pid_, "/stat"));
  if (reaped_ || !stat.ok()) return "";
  const absl::string_view text = absl::StripAsciiWhitespace(*stat);
  int status = 0;
  if (!absl::SimpleAtoi(text.substr(text.rfind(' ') + 1), &status) || status == 0) return "";
  return CauseOf(status);
}

}  // namespace icepie::server
