#include "tests/e2e/terminal_program.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace icepie::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kReadMs = 100;

}  // namespace

TerminalProgram::TerminalProgram(const std::vector<std::string>& command) {
  winsize size{};
  size.ws_col = 120;
  size.ws_row = 40;
  EXPECT_EQ(openpty(&master_, &slave_, nullptr, nullptr, &size), 0);
  const char* bin = std::getenv("ICEPIE_BIN");
  std::vector<std::string> words = command;
  words[0] = std::string(bin != nullptr ? bin : ".") + "/" + words[0];
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  setsid();
  ioctl(slave_, TIOCSCTTY, 0);
  for (int fd = 0; fd < 3; ++fd) dup2(slave_, fd);
  close(master_);
  execv(pointers[0], pointers.data());
  _exit(127);
}

TerminalProgram::~TerminalProgram() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(master_);
  close(slave_);
}

bool TerminalProgram::Read() {
  pollfd output = {master_, POLLIN, 0};
  if (poll(&output, 1, kReadMs) <= 0) return false;
  std::array<char, 4096> piece{};
  const ssize_t got = read(master_, piece.data(), piece.size());
  if (got <= 0) return false;
  seen_.append(piece.data(), static_cast<size_t>(got));
  return true;
}

bool TerminalProgram::WaitFor(const std::string& text) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (absl::Now() < deadline) {
    const size_t at = seen_.find(text, found_);
    if (at != std::string::npos) {
      found_ = at;
      return true;
    }
    Read();
  }
  return false;
}

void TerminalProgram::Type(const std::string& keys) const {
  EXPECT_EQ(write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

void TerminalProgram::Signal(int signal) const { kill(pid_, signal); }

int TerminalProgram::Wait() {
  const absl::Time deadline = absl::Now() + kPatience;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) != pid_) {
    if (absl::Now() >= deadline) {
      ADD_FAILURE() << "it does not end";
      return -1;
    }
    Read();
  }
  pid_ = 0;
  while (Read()) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool TerminalProgram::is_raw() const {
  termios settings{};
  EXPECT_EQ(tcgetattr(slave_, &settings), 0);
  return (settings.c_lflag & (ICANON | ECHO)) == 0;
}

}  // namespace icepie::testing
