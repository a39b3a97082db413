// The program icepie, apart from main(): arguments, dispatch, errors and exit codes.
#ifndef ICEPIE_CLI_APP_H_
#define ICEPIE_CLI_APP_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/terminal.h"

namespace icepie::cli {

// Runs one command line (without the program's name) and returns the exit code.
int RunProgram(const std::vector<std::string>& arguments, const Terminal& terminal);

// 3 for what a guard refused, 1 for every other error.
int ExitCodeOf(const absl::Status& status);

// "icepie: message", then one line for each bad field.
void PrintError(const absl::Status& status, const Terminal& terminal);

// The same for programs, in one line: {"code", "detail"} and where known "reason", "metadata",
// "violations" [{"field", "description"}] and "retry_after_ms".
std::string ErrorJson(const absl::Status& status);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_APP_H_
