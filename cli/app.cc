#include "cli/app.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

std::string Environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

void AddGlobalOptions(CLI::App& app, Context& context) {
  context.options.address = Environment("ICEPIE_ADDRESS", "127.0.0.1:7420");
  context.options.actor = Environment("USER", "unknown");
  app.add_option("--address", context.options.address,
                 "the daemon's gRPC address (ICEPIE_ADDRESS; default 127.0.0.1:7420)");
  app.add_option("--actor", context.options.actor, "who asks, written down with every change");
  app.add_flag("--json", context.options.json, "answers as JSON, for programs");
  app.add_option_function<std::string>(
      "--timeout",
      [&context](const std::string& text) {
        absl::Duration timeout;
        if (!absl::ParseDuration(text, &timeout) || timeout <= absl::ZeroDuration()) {
          throw CLI::ValidationError("--timeout",
                                     "a duration such as 500ms, 30s or 2m, not " + text);
        }
        context.options.timeout = timeout;
      },
      "how long a call may take (default 30s)");
}

// CLI11's own messages are one line; help goes to standard output and is no error.
int UsageError(const CLI::App& app, const CLI::ParseError& error, const Terminal& terminal) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = app.exit(error, out, err);
  if (code == 0) {
    *terminal.out << out.str();
    return kExitDone;
  }
  *terminal.err << "icepie: " << error.what() << "; see icepie --help\n";
  return kExitError;
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  const bool refused = status.code() == absl::StatusCode::kFailedPrecondition ||
                       status.code() == absl::StatusCode::kAborted;
  return refused ? kExitRefused : kExitError;
}

void PrintError(const absl::Status& status, const Terminal& terminal) {
  const std::string message =
      absl::StrReplaceAll(absl::string_view(status.message()), {{"\n", " "}});
  *terminal.err << "icepie: " << message << '\n';
  const auto detail = GetErrorDetail(status);
  if (!detail) return;
  for (const FieldViolation& violation : detail->violations) {
    // The only violation is often the message itself.
    if (absl::StrContains(status.message(), violation.description)) continue;
    *terminal.err << "  "
                  << (absl::StrContains(violation.description, violation.field)
                          ? violation.description
                          : absl::StrCat(violation.field, ": ", violation.description))
                  << '\n';
  }
}

int RunProgram(const std::vector<std::string>& arguments, const Terminal& terminal) {
  Context context(terminal);
  CLI::App app("Ice Pie: slices of one frozen, append-only core", "icepie");
  app.require_subcommand(1);
  app.fallthrough();
  AddGlobalOptions(app, context);
  AddStreamCommands(app, context);
  AddSliceCommands(app, context);
  AddQueryCommand(app, context);
  AddDomainCommands(app, context);
  AddOperationCommands(app, context);
  AddStatusCommand(app, context);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return UsageError(app, error, terminal);
  }
  const absl::StatusOr<int> code = context.action();
  terminal.out->flush();
  if (code.ok()) return *code;
  PrintError(code.status(), terminal);
  return ExitCodeOf(code.status());
}

}  // namespace icepie::cli
