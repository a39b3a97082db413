// slice expect: what the checks of a slice's rows have found, and waiving one of them.
#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/slice_report.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ExpectationResult;

struct ExpectArguments {
  std::string name;
  std::string waive;
  std::string end_waiver;
  std::string reason;
  std::string until;
};

// "2h" from now, or a time: 2026-11-24T12:00:00Z.
absl::StatusOr<google::protobuf::Timestamp> UntilOf(const std::string& text) {
  absl::Duration duration;
  absl::Time time;
  std::string error;
  if (absl::ParseDuration(text, &duration) && duration > absl::ZeroDuration()) {
    time = absl::Now() + duration;
  } else if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--until ", text, ": give a duration or a time, as in 2h or 2026-11-24T12:00:00Z"));
  }
  google::protobuf::Timestamp out;
  out.set_seconds(absl::ToUnixSeconds(time));
  return out;
}

absl::StatusOr<int> Waive(Context& context, const ExpectArguments& arguments) {
  icepie::v1::WaiveExpectationRequest request;
  request.set_name(arguments.name);
  request.set_end(arguments.waive.empty());
  request.set_expectation(request.end() ? arguments.end_waiver : arguments.waive);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  if (!arguments.until.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(*request.mutable_until(), UntilOf(arguments.until));
  }
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const icepie::v1::Slice slice,
      client.Call(client.admin(), &Admin::StubInterface::WaiveExpectation, request));
  if (context.options.json) {
    context.out() << ToJson(slice);
  } else {
    context.out() << OutcomeLine(slice) << '\n';
  }
  return kExitDone;
}

std::string FindingOf(const ExpectationResult& result) {
  if (!result.message().empty()) return result.message();
  return result.samples().empty() ? "" : absl::StrCat("e.g. ", result.samples(0));
}

std::string WaiverText(const ExpectationResult& result) {
  if (!result.has_waiver()) return "";
  const auto& waiver = result.waiver();
  std::string text = absl::StrCat(waiver.actor(), ": ", waiver.reason());
  if (waiver.has_until()) absl::StrAppend(&text, ", until ", FormatTime(waiver.until()));
  return text;
}

void Print(Context& context, const icepie::v1::ListExpectationResultsResponse& answer) {
  Table table({{"expectation"},
               {"check"},
               {"severity"},
               {"result"},
               {"rows", true},
               {"position", true},
               {"found"},
               {"waived by"}});
  int failed = 0;
  for (const ExpectationResult& result : answer.results()) {
    if (result.status() == ExpectationResult::FAILED) ++failed;
    table.AddRow(
        {result.name(), result.check(), ExpectationResult::Severity_Name(result.severity()),
         ExpectationResult::Status_Name(result.status()), FormatCount(result.failing_rows()),
         FormatCount(result.position()), FindingOf(result), WaiverText(result)});
  }
  if (!table.empty()) table.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(answer.results_size(), "expectation") << ", " << failed
                << " failed\n";
}

absl::StatusOr<int> List(Context& context, const ExpectArguments& arguments) {
  icepie::v1::ListExpectationResultsRequest request;
  request.set_name(arguments.name);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::ListExpectationResults, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else {
    Print(context, answer);
  }
  return kExitDone;
}

}  // namespace

void AddExpectCommand(CLI::App* slice, Context& context) {
  auto arguments = std::make_shared<ExpectArguments>();
  CLI::App* expect = slice->add_subcommand(
      "expect", "what the checks of a slice's rows found; waive one that holds it");
  expect->add_option("SLICE", arguments->name, "domain.slice")->required();
  CLI::Option* waive = expect->add_option("--waive", arguments->waive,
                                          "this expectation does not hold the slice any more");
  CLI::Option* end = expect->add_option("--end-waiver", arguments->end_waiver,
                                        "this expectation holds the slice again when it fails");
  waive->excludes(end);
  expect->add_option("--reason", arguments->reason, "written down with the waiver");
  expect->add_option("--until", arguments->until, "when it ends: 2h, or 2026-11-24T12:00:00Z")
      ->needs(waive);
  expect->callback([&context, arguments, waive, end] {
    const bool change = waive->count() + end->count() > 0;
    context.action = [&context, arguments, change] {
      return change ? Waive(context, *arguments) : List(context, *arguments);
    };
  });
}

}  // namespace icepie::cli
