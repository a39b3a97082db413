#include "cli/whole_number.h"

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace icepie::cli {

CLI::Validator WholeNumberFrom(int64_t least) {
  const auto check = [least](const std::string& text) {
    int64_t number = 0;
    if (absl::SimpleAtoi(text, &number) && number >= least) return std::string();
    return absl::StrCat("\"", text, "\" is not a whole number from ", least);
  };
  return CLI::Validator(check, least == 0 ? "NONNEGATIVE" : "POSITIVE");
}

}  // namespace icepie::cli
