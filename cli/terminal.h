// Where a command reads and writes: the process's own streams, or a test's.
#ifndef ICEPIE_CLI_TERMINAL_H_
#define ICEPIE_CLI_TERMINAL_H_

#include <istream>
#include <ostream>
#include <string>

#include "absl/strings/string_view.h"

namespace icepie::cli {

struct Terminal {
  std::istream* in;
  std::ostream* out;
  std::ostream* err;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  bool colour = false;  // only on a terminal, and not with NO_COLOR
  int width = 0;        // columns of the terminal; 0: not one, nothing is cut

  // Standard input, output and error, with the width asked of the terminal.
  static Terminal Standard();

  // `text` in bold, red or yellow where colours are on.
  std::string Bold(absl::string_view text) const { return Painted("1", text); }
  std::string Red(absl::string_view text) const { return Painted("31", text); }
  std::string Yellow(absl::string_view text) const { return Painted("33", text); }

 private:
  std::string Painted(absl::string_view code, absl::string_view text) const;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_TERMINAL_H_
