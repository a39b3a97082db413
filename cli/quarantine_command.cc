// slice quarantine: what a slice could not take: groups, records, one record with the place of its
// error; trying them again, and acknowledging them.
#include <CLI/App.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/operations.h"
#include "cli/slice_report.h"
#include "cli/table.h"
#include "cli/whole_number.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ApplyDomainRequest;
using icepie::v1::RecordJudgement;
using Retried = icepie::v1::RetryQuarantinedRecordsResponse;

// Around the place of an error so many bytes of the payload are shown.
constexpr int64_t kBytesBefore = 40;
constexpr int64_t kBytesShown = 100;

struct QuarantineArguments {
  std::string name;
  int32_t records = 0;
  int64_t show = -1;
  bool retry = false;
  bool dry_run = false;
  bool no_wait = false;
  std::string promote;
  std::string acknowledge;
  std::string withdraw;
  std::string reason;
};

std::string PositionsText(const icepie::v1::QuarantineGroup& group) {
  return absl::StrCat(FormatCount(group.first_position()), " … ",
                      FormatCount(group.last_position()));
}

void PrintGroups(Context& context, const icepie::v1::ListQuarantineGroupsResponse& answer) {
  Table groups({{"records", true},
                {"code"},
                {"column"},
                {"path"},
                {"sample"},
                {"positions"},
                {"not acknowledged", true},
                {"all with header"}});
  for (const auto& group : answer.groups()) {
    groups.AddRow({FormatCount(group.count()), group.code(), group.column(), group.path(),
                   group.sample(), PositionsText(group), FormatCount(group.unacknowledged()),
                   absl::StrJoin(group.common_headers(), ", ")});
  }
  if (!groups.empty()) groups.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(answer.total(), "quarantined record");
  if (answer.total() > 0) {
    context.out()
        << ", " << FormatCount(answer.unacknowledged())
        << " not acknowledged (--records 20 lists the first 20, --show POSITION shows one)";
  }
  context.out() << '\n';
}

absl::StatusOr<int> Groups(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::ListQuarantineGroupsRequest request;
  request.set_name(arguments.name);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::ListQuarantineGroups, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else {
    PrintGroups(context, answer);
  }
  return kExitDone;
}

void PrintRecords(Context& context, const icepie::v1::ListQuarantinedRecordsResponse& answer) {
  Table records({{"position", true},
                 {"stream"},
                 {"offset", true},
                 {"code"},
                 {"column"},
                 {"message"},
                 {"acknowledged"}});
  for (const auto& record : answer.records()) {
    records.AddRow({FormatCount(record.position()), record.stream(), FormatCount(record.offset()),
                    record.code(), record.column(), record.message(),
                    record.acknowledged() ? "yes" : ""});
  }
  if (!records.empty()) records.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(answer.total(), "quarantined record");
  if (answer.more()) context.out() << ", " << answer.records_size() << " listed";
  context.out() << '\n';
}

absl::StatusOr<int> Records(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::ListQuarantinedRecordsRequest request;
  request.set_name(arguments.name);
  request.set_page_size(arguments.records);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::ListQuarantinedRecords, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else {
    PrintRecords(context, answer);
  }
  return kExitDone;
}

bool BeginsCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }

// The payload around the error, and a line with a mark below it.
void PrintPlace(Context& context, const std::string& payload, int64_t offset, int64_t count,
                const std::string& message) {
  const auto size = static_cast<int64_t>(payload.size());
  int64_t from = std::clamp<int64_t>(offset - kBytesBefore, 0, size);
  while (from > 0 && from < size && !BeginsCharacter(payload[static_cast<size_t>(from)])) --from;
  int64_t to = std::min(size, from + kBytesShown);
  while (to < size && !BeginsCharacter(payload[static_cast<size_t>(to)])) ++to;
  const auto part = [&](int64_t begin, int64_t end) {
    return Printable(payload.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
  };
  const std::string before = absl::StrCat("  ", from > 0 ? "… " : "", part(from, offset));
  const int64_t end = std::clamp(offset + count, offset, to);
  const int marks = std::max(1, DisplayWidth(part(offset, end)));
  context.out() << before << part(offset, to) << (to < size ? " …" : "") << '\n'
                << std::string(static_cast<size_t>(DisplayWidth(before)), ' ')
                << context.terminal.Red(std::string(static_cast<size_t>(marks), '^')) << ' '
                << Printable(message) << '\n';
}

std::string JudgementText(const RecordJudgement& judgement) {
  switch (judgement.verdict()) {
    case RecordJudgement::READABLE:
      return "the definition that serves can read it now; whether its SQL takes it, a build tells "
             "(--retry)";
    case RecordJudgement::FILTERED:
      return "the definition that serves filters it now (--retry)";
    case RecordJudgement::BAD:
      return absl::StrCat(judgement.code(), judgement.column().empty() ? "" : " in column ",
                          judgement.column());
    default:
      return "no worker can judge it now";
  }
}

absl::StatusOr<int> Show(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::GetQuarantinedRecordRequest request;
  request.set_name(arguments.name);
  request.set_position(arguments.show);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const auto answer,
      client.Call(client.admin(), &Admin::StubInterface::GetQuarantinedRecord, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  const auto& quarantined = answer.quarantined();
  const RecordJudgement& judgement = answer.judgement();
  context.out() << "position " << FormatCount(quarantined.position()) << "  "
                << quarantined.stream() << " offset " << FormatCount(quarantined.offset()) << "  "
                << FormatTime(answer.record().ingest_time())
                << "  quarantined: " << quarantined.code() << ' '
                << Printable(quarantined.message()) << '\n';
  for (const auto& header : answer.record().headers()) {
    context.out() << "  " << Printable(header.name()) << ": " << Printable(header.value()) << '\n';
  }
  const bool placed = judgement.has_byte_offset();
  PrintPlace(context, answer.record().payload(), placed ? judgement.byte_offset() : 0,
             judgement.byte_count(), placed ? judgement.message() : quarantined.message());
  context.out() << "now: " << JudgementText(judgement) << '\n';
  if (answer.has_acknowledgement()) {
    const auto& known = answer.acknowledgement();
    context.out() << "acknowledged by " << Printable(known.actor()) << ", "
                  << FormatTime(known.create_time()) << ": " << Printable(known.reason()) << '\n';
  }
  return kExitDone;
}

std::string OutcomeOf(const Retried& answer, bool dry_run) {
  const std::string counted =
      absl::StrCat(FormatCount(answer.readable()), " of ",
                   FormatCounted(answer.looked_at(), "record"), " can be read now");
  if (answer.method() != Retried::NEW_GENERATION) {
    return absl::StrCat(counted, ": nothing is done; change the definition, or --acknowledge");
  }
  return absl::StrCat(counted,
                      dry_run ? ": a new generation would be built" : ": a new generation is built",
                      ", which tells whether the SQL takes them");
}

absl::StatusOr<int> Retry(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::RetryQuarantinedRecordsRequest request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  request.set_validate_only(arguments.dry_run);
  if (arguments.promote == "auto") request.set_promote(ApplyDomainRequest::AUTO);
  if (arguments.promote == "manual") request.set_promote(ApplyDomainRequest::MANUAL);
  context.AllowTime(kWholeStateTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const Retried answer,
      client.Call(client.admin(), &Admin::StubInterface::RetryQuarantinedRecords, request));
  if (context.options.json) {
    context.out() << ToJson(answer);
  } else {
    context.out() << OutcomeOf(answer, arguments.dry_run) << '\n';
  }
  if (answer.operation().empty() || arguments.no_wait) return kExitDone;
  context.out().flush();
  ICEPIE_RETURN_IF_ERROR(FollowOperations(context, {answer.operation()}));
  if (!context.options.json) {
    context.out() << "icepie slice diff " << arguments.name << ", then icepie slice promote "
                  << arguments.name << ", unless it serves by itself\n";
  }
  return kExitDone;
}

// "all", "81203950", or "81203950-81204988", of which the last is part.
template <typename Request>
absl::Status SetRange(const std::string& option, const std::string& text, Request& request) {
  if (text == "all") return absl::OkStatus();
  const std::pair<std::string, std::string> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  int64_t first = 0;
  int64_t last = 0;
  const std::string& second = absl::StrContains(text, "-") ? ends.second : ends.first;
  if (!absl::SimpleAtoi(ends.first, &first) || !absl::SimpleAtoi(second, &last) || first < 0 ||
      last < first) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, " ", text, ": give all, a position, or the first and the last ",
                     "one, as in 81203950-81204988"));
  }
  request.set_first_position(first);
  request.set_end_position(last + 1);
  return absl::OkStatus();
}

absl::StatusOr<int> Acknowledge(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::AcknowledgeQuarantineRequest request;
  request.set_name(arguments.name);
  ICEPIE_RETURN_IF_ERROR(SetRange("--acknowledge", arguments.acknowledge, request));
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const icepie::v1::Slice slice,
      client.Call(client.admin(), &Admin::StubInterface::AcknowledgeQuarantine, request));
  if (context.options.json) {
    context.out() << ToJson(slice);
  } else {
    context.out() << OutcomeLine(slice) << '\n';
  }
  return kExitDone;
}

absl::StatusOr<int> Withdraw(Context& context, const QuarantineArguments& arguments) {
  icepie::v1::WithdrawAcknowledgementRequest request;
  request.set_name(arguments.name);
  ICEPIE_RETURN_IF_ERROR(SetRange("--withdraw", arguments.withdraw, request));
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const icepie::v1::Slice slice,
      client.Call(client.admin(), &Admin::StubInterface::WithdrawAcknowledgement, request));
  if (context.options.json) {
    context.out() << ToJson(slice);
  } else {
    context.out() << OutcomeLine(slice) << '\n';
  }
  return kExitDone;
}

absl::StatusOr<int> Run(Context& context, const QuarantineArguments& arguments) {
  if (arguments.show >= 0) return Show(context, arguments);
  if (arguments.retry) return Retry(context, arguments);
  if (!arguments.acknowledge.empty()) return Acknowledge(context, arguments);
  if (!arguments.withdraw.empty()) return Withdraw(context, arguments);
  return arguments.records > 0 ? Records(context, arguments) : Groups(context, arguments);
}

}  // namespace

void AddQuarantineCommand(CLI::App* slice, Context& context) {
  auto arguments = std::make_shared<QuarantineArguments>();
  CLI::App* quarantine = slice->add_subcommand(
      "quarantine", "records that the slice could not take; retry or acknowledge them");
  quarantine->add_option("SLICE", arguments->name, "domain.slice")->required();
  CLI::Option* records = quarantine
                             ->add_option("--records", arguments->records,
                                          "list the first N of them, not their groups")
                             ->check(CLI::Range(1, 1000));
  CLI::Option* show = quarantine
                          ->add_option("--show", arguments->show,
                                       "the record at this position, with the place of its error")
                          ->check(WholeNumberFrom(0));
  CLI::Option* retry =
      quarantine->add_flag("--retry", arguments->retry,
                           "read them again by the definition that serves, and rebuild if "
                           "some can be taken now");
  CLI::Option* acknowledge = quarantine->add_option(
      "--acknowledge", arguments->acknowledge,
      "let them be, uncounted by the budget: all, a position, or FIRST-LAST; needs --reason");
  CLI::Option* withdraw =
      quarantine->add_option("--withdraw", arguments->withdraw,
                             "take acknowledgements back: all, a position, or FIRST-LAST; the "
                             "budget counts the records again; needs --reason");
  for (CLI::Option* one : {records, show, retry, acknowledge, withdraw}) {
    for (CLI::Option* other : {records, show, retry, acknowledge, withdraw}) {
      if (one != other) one->excludes(other);
    }
  }
  quarantine->add_flag("--dry-run", arguments->dry_run, "say what a retry would do")->needs(retry);
  quarantine->add_flag("--no-wait", arguments->no_wait, "do not follow the build")->needs(retry);
  quarantine
      ->add_option("--promote", arguments->promote,
                   "auto: what a retry builds serves as soon as it is ready, within the limits of "
                   "the file; manual: never by itself; otherwise as the file says")
      ->check(CLI::IsMember({"auto", "manual"}))
      ->needs(retry);
  quarantine->add_option("--reason", arguments->reason, "written down with the change");
  quarantine->callback([&context, arguments] {
    context.action = [&context, arguments] { return Run(context, *arguments); };
  });
}

}  // namespace icepie::cli
