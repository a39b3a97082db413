#include "tests/fault/kept_together.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>

#include "core/base/directory.h"

namespace icepie::fault {
namespace {

sigset_t Awaited() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&signals, signal);
  return signals;
}

// Its status, or that of being ended as this process was told to.
int WaitFor(pid_t work) {
  const sigset_t awaited = Awaited();
  while (true) {
    int status = 0;
    for (pid_t ended = 0; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
      if (ended == work) return status;  // else it was started by what has ended
    }
    const int signal = sigwaitinfo(&awaited, nullptr);
    if (signal != SIGINT && signal != SIGTERM) continue;
    kill(work, SIGKILL);
    waitpid(work, &status, 0);
    return signal;
  }
}

// Of /proc/PID/stat, whose second field may hold any character; 0 when it has just ended. Not every
// kernel lists a process's children (CONFIG_PROC_CHILDREN).
pid_t ParentOf(const std::filesystem::path& process) {
  std::ifstream file(process / "stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = stat.rfind(')');
  char state = 0;
  pid_t parent = 0;
  if (name_end == std::string::npos) return 0;
  std::istringstream(stat.substr(name_end + 1)) >> state >> parent;
  return parent;
}

void KillChildren() {
  std::error_code error;
  for (const auto& process : DirectoryEntries("/proc", error)) {
    const pid_t pid = std::atoi(process.path().filename().c_str());
    if (pid > 0 && ParentOf(process.path()) == getpid()) kill(pid, SIGKILL);
  }
}

// They became this process's children when their parents ended, and so will theirs.
void EndOrphans() {
  do {
    KillChildren();
  } while (waitpid(-1, nullptr, 0) >= 0);
}

}  // namespace

int RunKeptTogether(const std::function<int(const TellDirectory&)>& work, bool keep_directory) {
  int told[2];
  if (pipe2(told, O_CLOEXEC) != 0) return 1;
  const sigset_t awaited = Awaited();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &awaited, &before);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(1);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    std::exit(work([&told](const std::string& directory) {
      // Shorter than what a pipe takes at once.
      if (write(told[1], directory.data(), directory.size()) < 0) std::perror("pipe");
    }));
  }
  close(told[1]);
  const int status = WaitFor(child);
  EndOrphans();
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status);
  std::string directory(PATH_MAX, '\0');
  const ssize_t bytes = read(told[0], directory.data(), directory.size());
  directory.resize(bytes < 0 ? 0 : static_cast<size_t>(bytes));
  std::error_code ignored;
  if (!keep_directory && !directory.empty()) std::filesystem::remove_all(directory, ignored);
  std::fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
  return 128 + WTERMSIG(status);
}

}  // namespace icepie::fault
