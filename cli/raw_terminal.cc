#include "cli/raw_terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace icepie::cli {
namespace {

// Second screen, no cursor, no wrapping; and back. All written at once, by write(2) only.
constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr char kLeave[] = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::array<int, 3> kEnding = {SIGINT, SIGTERM, SIGHUP};
constexpr std::array<int, 6> kFatal = {SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

termios terminal_before;
volatile std::sig_atomic_t terminal_active = 0;
volatile std::sig_atomic_t terminal_ending = 0;

void WriteOut(const char* text, size_t size) {
  while (size > 0) {
    const ssize_t written = write(STDOUT_FILENO, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text += written;
    size -= static_cast<size_t>(written);
  }
}

void Enter() {
  termios raw = terminal_before;
  raw.c_lflag &= static_cast<tcflag_t>(~(ICANON | ECHO));
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  WriteOut(kEnter, sizeof(kEnter) - 1);
  terminal_active = 1;
}

// Only calls that a signal handler may make.
void Leave() {
  if (terminal_active == 0) return;
  terminal_active = 0;
  WriteOut(kLeave, sizeof(kLeave) - 1);
  tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

void OnEnding(int /*signal*/) { terminal_ending = 1; }

void OnFatal(int signal) {
  Leave();
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void OnStop(int /*signal*/) {
  const int error = errno;
  Leave();
  raise(SIGSTOP);
  Enter();  // continued
  errno = error;
}

void OnResize(int /*signal*/) {}  // ends the poll

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(signal, &action, nullptr);
}

}  // namespace

RawTerminal::RawTerminal() {
  tcgetattr(STDIN_FILENO, &terminal_before);
  static const bool registered = std::atexit(Leave) == 0;
  (void)registered;
  for (const int signal : kEnding) Handle(signal, OnEnding);
  for (const int signal : kFatal) Handle(signal, OnFatal);
  Handle(SIGTSTP, OnStop);
  Handle(SIGWINCH, OnResize);
  Enter();
}

RawTerminal::~RawTerminal() {
  Leave();
  for (const int signal : kEnding) Handle(signal, SIG_DFL);
  for (const int signal : kFatal) Handle(signal, SIG_DFL);
  Handle(SIGTSTP, SIG_DFL);
  Handle(SIGWINCH, SIG_DFL);
}

ScreenSize RawTerminal::Size() const {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
  return {size.ws_col, size.ws_row};
}

void RawTerminal::Draw(const std::string& text) const {
  // Each line is cleared behind its text, and the screen below the last one: nothing flickers.
  const std::string screen =
      absl::StrCat("\x1b[H", absl::StrReplaceAll(text, {{"\n", "\x1b[K\r\n"}}), "\x1b[J");
  WriteOut(screen.data(), screen.size());
}

std::optional<char> RawTerminal::ReadKey(absl::Duration timeout) const {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  const auto ms = std::max<int64_t>(0, absl::ToInt64Milliseconds(timeout));
  if (ended() || poll(&input, 1, static_cast<int>(ms)) <= 0) return std::nullopt;
  char key = 0;
  const ssize_t got = read(STDIN_FILENO, &key, 1);
  if (got == 1) return key;
  gone_ = got == 0 || errno != EINTR;
  return std::nullopt;
}

bool RawTerminal::ended() const { return gone_ || terminal_ending != 0; }

}  // namespace icepie::cli
