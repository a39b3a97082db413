// One of our programs on a terminal of its own (a pseudo-terminal): what it shows, and keys for it.
#ifndef ICEPIE_TESTS_E2E_TERMINAL_PROGRAM_H_
#define ICEPIE_TESTS_E2E_TERMINAL_PROGRAM_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace icepie::testing {

// Threads: one.
// Lifetime: the destructor kills what still runs.
class TerminalProgram {
 public:
  // `command[0]` is found in ICEPIE_BIN.
  explicit TerminalProgram(const std::vector<std::string>& command);
  ~TerminalProgram();
  TerminalProgram(const TerminalProgram&) = delete;
  TerminalProgram& operator=(const TerminalProgram&) = delete;

  // Whether `text` was shown since the last WaitFor that found something, now or within a minute.
  bool WaitFor(const std::string& text);
  void Type(const std::string& keys) const;
  void Signal(int signal) const;
  // Its exit code, or 128 and the signal that ended it.
  int Wait();

  // Keys arrive one by one and unseen.
  bool is_raw() const;
  const std::string& seen() const { return seen_; }

 private:
  // Takes what has been written; false when nothing came for a while.
  bool Read();

  int master_ = -1;
  int slave_ = -1;  // open, so that the terminal stays when the program has gone
  pid_t pid_ = 0;
  std::string seen_;
  size_t found_ = 0;
};

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_TERMINAL_PROGRAM_H_
