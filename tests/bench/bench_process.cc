#include "tests/bench/bench_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/base/check.h"

extern char** environ;

namespace icepie::bench {
namespace {

struct Started {
  pid_t pid = 0;
  int output = -1;
};

// Standard output goes to the pipe; errors too, or to `error_file`.
Started Start(std::vector<std::string> arguments, const std::string& error_file) {
  int ends[2];
  ICEPIE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, ends[1], 1);
  if (error_file.empty()) {
    posix_spawn_file_actions_adddup2(&files, ends[1], 2);
  } else {
    posix_spawn_file_actions_addopen(&files, 2, error_file.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                     0644);
  }
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  Started started;
  const int error =
      posix_spawnp(&started.pid, pointers[0], &files, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  ICEPIE_CHECK(error == 0);
  started.output = ends[0];
  return started;
}

}  // namespace

std::optional<std::string> FindProgram(const std::string& name,
                                       const std::vector<std::string>& places) {
  const char* path = std::getenv("PATH");
  std::vector<std::string> directories = absl::StrSplit(path != nullptr ? path : "", ':');
  directories.insert(directories.end(), places.begin(), places.end());
  for (const std::string& directory : directories) {
    const std::string program = absl::StrCat(directory, "/", name);
    if (access(program.c_str(), X_OK) == 0) return program;
  }
  return std::nullopt;
}

Background::Background(std::vector<std::string> arguments, const std::string& log_file) {
  // Ends also when the benchmark is killed.
  std::vector<std::string> all = {"setpriv", "--pdeathsig", "KILL"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Started started = Start(std::move(all), log_file);
  pid_ = started.pid;
  output_ = started.output;
}

Background::~Background() {
  if (pid_ != 0) kill(pid_, SIGKILL);
  WaitForEnd();
}

std::string Background::ReadLine() {
  std::string line;
  char c = 0;
  while (read(output_, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

void Background::Signal(int signal) const { kill(pid_, signal); }

void Background::Interrupt() {
  Signal(SIGINT);
  WaitForEnd();
}

void Background::WaitForEnd() {
  if (pid_ != 0) waitpid(pid_, nullptr, 0);
  pid_ = 0;
  if (output_ >= 0) close(output_);
  output_ = -1;
}

Ran RunToEnd(std::vector<std::string> arguments) {
  const Started started = Start(std::move(arguments), "");
  Ran ran;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(started.output, buffer, sizeof buffer)) > 0;) {
    ran.output.append(buffer, static_cast<size_t>(n));
  }
  close(started.output);
  int status = 0;
  waitpid(started.pid, &status, 0);
  ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void WaitUntilIdle(absl::Duration rest) {
  constexpr double kShare = 0.02;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  for (double before = CpuSeconds(); absl::Now() < deadline;) {
    absl::SleepFor(rest);
    const double now = CpuSeconds();
    if (now - std::exchange(before, now) < kShare * absl::ToDoubleSeconds(rest)) return;
  }
}

void WriteDirtyPages(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ICEPIE_CHECK(fd >= 0);
  (void)syncfs(fd);
  close(fd);
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ICEPIE_CHECK(bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0);
  ICEPIE_CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

Scratch::Scratch() {
  const char* parent = std::getenv("TMPDIR");
  path_ = absl::StrCat(parent != nullptr ? parent : "/tmp", "/icepie-bench-XXXXXX");
  ICEPIE_CHECK(mkdtemp(path_.data()) != nullptr);
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace icepie::bench
