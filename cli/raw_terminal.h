// The terminal as a picture: keys arrive one by one and unseen, the screen is a second one that
// goes away again.
#ifndef ICEPIE_CLI_RAW_TERMINAL_H_
#define ICEPIE_CLI_RAW_TERMINAL_H_

#include <optional>
#include <string>

#include "absl/time/time.h"

namespace icepie::cli {

struct ScreenSize {
  int width = 80;
  int height = 24;
};

// At most one at a time. Standard input and output are a terminal.
// Threads: one.
// Lifetime: the destructor, std::exit, signals that end the process (also of a crash) and Ctrl-Z
//   give the terminal back as it was. Only SIGKILL cannot be helped.
class RawTerminal {
 public:
  RawTerminal();
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  ScreenSize Size() const;
  // Shows these lines, each cut by the caller, and nothing else.
  void Draw(const std::string& text) const;
  // The next key, or nothing within `timeout`; nothing, too, when the size has changed or the
  // process has come back from Ctrl-Z.
  std::optional<char> ReadKey(absl::Duration timeout) const;
  // Ctrl-C, SIGTERM or SIGHUP came, or the terminal is gone.
  bool ended() const;

 private:
  mutable bool gone_ = false;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_RAW_TERMINAL_H_
