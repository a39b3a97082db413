// slice logs: what the domain's workers have written down, also while they are dead
#include <grpcpp/support/sync_stream.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::LogLine;

struct LogArguments {
  std::string name;
  std::optional<absl::Duration> since;
  LogLine::Level level_min = LogLine::LEVEL_UNSPECIFIED;
  int32_t lines = 0;
  bool follow = false;
};

// "2026-11-22 02:58:41.120Z live     WARNING payments.volume  generation 7: FAULTED: …"
std::string LineText(const LogLine& line) {
  const std::string time =
      absl::FormatTime("%Y-%m-%d %H:%M:%E3SZ", ToTime(line.time()), absl::UTCTimeZone());
  const std::string level =
      line.level() == LogLine::LEVEL_UNSPECIFIED ? "-" : LogLine::Level_Name(line.level());
  return absl::StrCat(absl::StrFormat("%s  %-7s  %-8s  ", time, line.role(), level),
                      line.slice().empty() ? "" : absl::StrCat(line.slice(), "  "),
                      Printable(line.message()));
}

void PrintLine(Context& context, const LogLine& line) {
  if (context.options.json) {
    context.out() << ToJsonLine(line);
    return;
  }
  const std::string text = LineText(line);
  const bool bad = line.level() >= LogLine::ERROR || line.level() == LogLine::LEVEL_UNSPECIFIED;
  const bool warns = line.level() == LogLine::WARNING;
  context.out() << (bad     ? context.terminal.Red(text)
                    : warns ? context.terminal.Yellow(text)
                            : text)
                << '\n';
}

absl::StatusOr<int> Logs(Context& context, const LogArguments& arguments) {
  icepie::v1::TailLogsRequest request;
  request.set_name(arguments.name);
  request.set_line_count_max(arguments.lines);
  request.set_level_min(arguments.level_min);
  request.set_follow(arguments.follow);
  if (arguments.since) {
    request.mutable_since()->set_seconds(absl::ToUnixSeconds(absl::Now() - *arguments.since));
  }
  Client& client = context.client();
  grpc::ClientContext call_context;
  if (!arguments.follow) client.SetDeadline(&call_context);
  const auto reader = client.admin().TailLogs(&call_context, request);
  LogLine line;
  while (reader->Read(&line)) {
    PrintLine(context, line);
    if (arguments.follow) context.out() << std::flush;
    if (context.out()) continue;
    call_context.TryCancel();  // nobody reads any more
    return kExitDone;
  }
  ICEPIE_RETURN_IF_ERROR(client.ErrorOf(reader->Finish()));
  return kExitDone;
}

absl::Duration ReadDuration(const std::string& option, const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) return duration;
  throw CLI::ValidationError(option, "a duration such as 10m or 24h, not " + text);
}

LogLine::Level ReadLevel(const std::string& text) {
  LogLine::Level level = LogLine::LEVEL_UNSPECIFIED;
  const std::string name = absl::AsciiStrToUpper(text);
  if (LogLine::Level_Parse(name == "WARN" ? "WARNING" : name, &level) &&
      level != LogLine::LEVEL_UNSPECIFIED) {
    return level;
  }
  throw CLI::ValidationError("--level", "debug, info, warning, error or critical, not " + text);
}

}  // namespace

void AddLogCommand(CLI::App* slice, Context& context) {
  auto arguments = std::make_shared<LogArguments>();
  CLI::App* logs = slice->add_subcommand(
      "logs", "what the workers of a slice or domain have written, also of dead ones");
  logs->add_option("NAME", arguments->name,
                   "domain.slice: lines about it and about its workers; or a domain")
      ->required();
  logs->add_option_function<std::string>(
      "--since",
      [arguments](const std::string& text) { arguments->since = ReadDuration("--since", text); },
      "so long ago at most, as in 10m");
  logs->add_option_function<std::string>(
      "--level", [arguments](const std::string& text) { arguments->level_min = ReadLevel(text); },
      "at least debug, info, warning, error or critical");
  logs->add_option("--lines", arguments->lines, "of the past at most so many, the newest (1000)")
      ->check(CLI::Range(1, 10000));
  logs->add_flag("--follow", arguments->follow, "go on with those to come until Ctrl-C");
  logs->footer("With --json one object a line. Two files of 8 MiB are kept of each worker.");
  logs->callback([&context, arguments] {
    context.action = [&context, arguments] { return Logs(context, *arguments); };
  });
}

}  // namespace icepie::cli
