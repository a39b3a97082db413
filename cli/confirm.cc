#include "cli/confirm.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace icepie::cli {

absl::Status Confirm(Context& context, const std::string& standing, const std::string& to) {
  if (!context.terminal.out_is_terminal) {
    return absl::FailedPreconditionError(
        absl::StrCat(standing, "; nobody can be asked here: say --yes ", to));
  }
  context.out() << standing << ". Go? [y/N] " << std::flush;
  std::string answer;
  std::getline(*context.terminal.in, answer);
  answer = absl::AsciiStrToLower(absl::StripAsciiWhitespace(answer));
  if (answer == "y" || answer == "yes") return absl::OkStatus();
  return absl::FailedPreconditionError("nothing was changed");
}

}  // namespace icepie::cli
