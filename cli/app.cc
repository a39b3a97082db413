#include "cli/app.h"

#include <pwd.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::cli {
namespace {

std::string Environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// Of the account that runs the program: services and containers have no $USER.
std::string LoginName() {
  // Called once, before any thread.
  const passwd* account = getpwuid(getuid());  // NOLINT(concurrency-mt-unsafe)
  return account == nullptr ? absl::StrCat("uid ", getuid()) : account->pw_name;
}

void AddGlobalOptions(CLI::App& app, Context& context) {
  context.options.address = Environment("ICEPIE_ADDRESS", "127.0.0.1:7420");
  context.options.actor = Environment("USER", "");
  if (context.options.actor.empty()) context.options.actor = LoginName();
  app.add_option("--address", context.options.address,
                 "the daemon's gRPC address (ICEPIE_ADDRESS; default 127.0.0.1:7420)");
  app.add_option("--actor", context.options.actor, "who asks, written down with every change");
  app.add_option("--request-id", context.options.request_id,
                 "of a change: asked for again under the same one, it is not made again");
  app.set_version_flag("--version", "icepie " ICEPIE_VERSION);
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
        context.options.own_timeout = true;
      },
      "how long a call may take (default 30s; what the daemon itself takes longer for has longer)");
}

// The word where a command was expected, with the commands there are.
std::optional<std::string> UnknownCommand(const CLI::App& app) {
  const CLI::App* at = &app;
  std::string before;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().back();
    absl::StrAppend(&before, at->get_name(), " ");
  }
  const std::vector<const CLI::App*> commands =
      at->get_subcommands([](const CLI::App*) { return true; });
  const std::vector<std::string> words = app.remaining(true);
  if (commands.empty() || words.empty() || absl::StartsWith(words[0], "-")) return std::nullopt;
  return absl::StrCat("unknown command '", before, words[0], "' (have: ",
                      absl::StrJoin(commands, ", ",
                                    [](std::string* out, const CLI::App* command) {
                                      absl::StrAppend(out, command->get_name());
                                    }),
                      ")");
}

// Only the name of a file may be other bytes than UTF-8; all else goes into requests as text.
absl::Status CheckText(absl::string_view argument) {
  const bool is_option = absl::StartsWith(argument, "--");
  const size_t equals = argument.find('=');
  const absl::string_view value =
      is_option && equals != absl::string_view::npos ? argument.substr(equals + 1) : argument;
  std::error_code error;
  if (IsUtf8(argument) || std::filesystem::exists(std::string(value), error)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(argument), "\" is not UTF-8"));
}

// For errors in the arguments themselves, of which not all may have been read.
bool AsksForJson(const std::vector<std::string>& arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  return std::find(arguments.begin(), end, "--json") != end;
}

int Fail(const absl::Status& error, bool json, const Terminal& terminal) {
  if (json) {
    *terminal.err << ErrorJson(error);
  } else {
    PrintError(error, terminal);
  }
  return ExitCodeOf(error);
}

// CLI11's own messages are one line; help goes to standard output and is no error.
int UsageError(const CLI::App& app, const CLI::ParseError& error, bool json,
               const Terminal& terminal) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = app.exit(error, out, err);
  if (code == 0) {
    *terminal.out << out.str();
    return kExitDone;
  }
  const std::string what = UnknownCommand(app).value_or(error.what());
  return Fail(absl::InvalidArgumentError(absl::StrCat(what, "; see icepie --help")), json,
              terminal);
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  const bool refused = status.code() == absl::StatusCode::kFailedPrecondition ||
                       status.code() == absl::StatusCode::kAborted;
  return refused ? kExitRefused : kExitError;
}

std::string ErrorJson(const absl::Status& status) {
  nlohmann::json json = {{"code", absl::StatusCodeToString(status.code())},
                         {"detail", std::string(status.message())}};
  if (const auto detail = GetErrorDetail(status)) {
    json["reason"] = detail->reason;
    if (!detail->metadata.empty()) json["metadata"] = detail->metadata;
    for (const FieldViolation& violation : detail->violations) {
      json["violations"].push_back(
          {{"field", violation.field}, {"description", violation.description}});
    }
    if (detail->retry_after_ms) json["retry_after_ms"] = *detail->retry_after_ms;
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void PrintError(const absl::Status& status, const Terminal& terminal) {
  // gRPC itself may have nothing to say but its code.
  const std::string text = status.message().empty() ? absl::StatusCodeToString(status.code())
                                                    : std::string(status.message());
  const std::string message = absl::StrReplaceAll(text, {{"\n", " "}});
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
  for (const std::string& argument : arguments) {
    const absl::Status valid = CheckText(argument);
    if (!valid.ok()) return Fail(valid, AsksForJson(arguments), terminal);
  }
  Context context(terminal);
  CLI::App app("Ice Pie: slices of one frozen, append-only core", "icepie");
  app.require_subcommand(1);
  app.fallthrough();
  AddGlobalOptions(app, context);
  AddStreamCommands(app, context);
  AddProofCommands(app, context);
  AddVerifyCommand(app, context);
  AddBackupCommand(app, context);
  AddSliceCommands(app, context);
  AddQueryCommand(app, context);
  AddDomainCommands(app, context);
  AddTestCommand(app, context);
  AddOperationCommands(app, context);
  AddStatusCommand(app, context);
  AddSafeModeCommand(app, context);
  AddWorkersCommand(app, context);
  AddEventCommands(app, context);
  AddTopCommand(app, context);
  AddDoctorCommand(app, context);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return UsageError(app, error, AsksForJson(arguments), terminal);
  }
  const absl::StatusOr<int> code = context.action();
  terminal.out->flush();
  return code.ok() ? *code : Fail(code.status(), context.options.json, terminal);
}

}  // namespace icepie::cli
