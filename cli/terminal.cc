#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"

namespace icepie::cli {
namespace {

int WidthOf(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Terminal Terminal::Standard() {
  Terminal terminal{&std::cin, &std::cout, &std::cerr};
  terminal.out_is_terminal = isatty(STDOUT_FILENO) == 1;
  terminal.err_is_terminal = isatty(STDERR_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  terminal.colour = terminal.out_is_terminal && (no_colour == nullptr || *no_colour == '\0');
  if (terminal.out_is_terminal) terminal.width = WidthOf(STDOUT_FILENO);
  return terminal;
}

std::string Terminal::Painted(absl::string_view code, absl::string_view text) const {
  if (!colour) return std::string(text);
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

}  // namespace icepie::cli
