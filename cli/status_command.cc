// status: what is unhealthy first, the healthy folded into a count.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/status_text.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ServerStatus;
using icepie::v1::Slice;

// Of slices, and of workers, that are shown one by one: with a thousand domains nobody reads all.
constexpr int kLinesMax = 40;

std::string DomainOf(const std::string& slice) { return slice.substr(0, slice.find('.')); }

// When everything was last found to be what was committed: "verified 02:00Z".
std::string VerifiedText(const ServerStatus& status) {
  if (!status.has_core_scrub()) return "";
  if (!status.core_scrub().has_verified_time()) return "  not verified yet";
  const absl::Time time = ToTime(status.core_scrub().verified_time());
  const bool is_recent = absl::Now() - time < absl::Hours(20);
  return absl::StrCat("  verified ", absl::FormatTime(is_recent ? "%H:%MZ" : "%Y-%m-%d %H:%MZ",
                                                      time, absl::UTCTimeZone()));
}

void PrintDamage(Context& context, const ServerStatus& status) {
  for (const auto& finding : status.core_scrub().findings()) {
    context.out() << context.terminal.Red(absl::StrCat("core damaged at position ",
                                                       FormatCount(finding.position()), ": ",
                                                       Printable(finding.what())))
                  << '\n';
  }
}

std::string NextText(const Slice& slice) {
  if (slice.state() == icepie::v1::DELETING) return "";
  if (slice.desired().mode() == icepie::v1::DesiredState::FREEZE) {
    const std::string reminder = ReminderText(slice.desired());
    return absl::StrCat(reminder, reminder.empty() ? "" : "; ", "thaw: icepie slice thaw ",
                        slice.name());
  }
  if (slice.desired().mode() == icepie::v1::DesiredState::SUSPEND) {
    return absl::StrCat("resume: icepie slice resume ", slice.name());
  }
  if (slice.has_next_retry_time()) {
    const absl::Duration in = ToTime(slice.next_retry_time()) - absl::Now();
    return absl::StrCat("next retry in ", FormatElapsed(in));
  }
  if (slice.state() == icepie::v1::BLOCKED) return "goes on when what it reads does";
  const bool needs_change =
      slice.state() == icepie::v1::FAULTED || slice.state() == icepie::v1::HELD;
  return needs_change ? "next retry: none, needs a change" : "";
}

// Why its worker is not there, if it has been; empty: it is.
std::string WorkerText(const Slice& slice) {
  for (const auto& condition : slice.conditions()) {
    if (condition.type() == "ANSWERS") return Printable(condition.message());
  }
  return "";
}

std::string WhyText(const Slice& slice) {
  if (slice.state() == icepie::v1::DELETING) {
    return slice.conditions().empty() ? "" : Printable(slice.conditions(0).message());
  }
  if (slice.desired().mode() != icepie::v1::DesiredState::RUN) {
    const std::string& reason = slice.desired().reason();
    return absl::StrCat(reason, reason.empty() ? "by " : " by ", slice.desired().actor());
  }
  for (const auto& condition : slice.conditions()) {
    if (condition.reason() == "AWAITS_TURN") return "waits for its turn";
  }
  if (slice.state() == icepie::v1::STARTING) return WorkerText(slice);
  if (slice.state() == icepie::v1::LAGGING) {
    if (!slice.meta().has_lag_time()) return "";
    return absl::StrCat("a record waits ", FormatElapsed(ToDuration(slice.meta().lag_time())));
  }
  if (!IsStoppedByError(slice)) return IsInSafeMode(slice) ? "safe mode" : "";
  const auto& error = slice.last_error();
  // Only the message names the slice that it waits for.
  const bool says_more = slice.state() == icepie::v1::BLOCKED && !error.message().empty();
  if (says_more || error.reason().empty()) return Printable(error.message());
  return error.reason();
}

std::string AgeText(const Slice& slice) {
  const auto& meta = slice.meta();
  for (const auto& condition : slice.conditions()) {
    const bool answers = condition.status() != icepie::v1::SliceCondition::FALSE;
    if (condition.type() != "ANSWERS" || answers) continue;
    return condition.reason() == "NO_SNAPSHOT_YET" ? "no answers yet" : "no answers";
  }
  if (!meta.stale()) return "answers fresh";
  return absl::StrCat("stale for ", FormatElapsed(absl::Now() - ToTime(meta.stale_since())), " (",
                      meta.source() == icepie::v1::STANDBY ? "standby" : "live", ")");
}

// "900 LAGGING, 60 STARTING".
std::string MoreText(const std::map<std::string, int64_t>& counts) {
  std::vector<std::string> texts;
  for (const auto& [state, count] : counts) {
    texts.push_back(absl::StrCat(FormatCount(count), " ", state));
  }
  return absl::StrJoin(texts, ", ");
}

// The worst come first.
void PrintSlices(Context& context, const ServerStatus& status) {
  Table table({{"slice"}, {"state"}, {"why"}, {"answers"}, {"next"}});
  int shown = 0;
  std::map<std::string, int64_t> more;
  for (const Slice& slice : status.slices()) {
    if (IsHealthy(slice)) continue;
    if (++shown > kLinesMax) {
      ++more[icepie::v1::SliceState_Name(slice.state())];
      continue;
    }
    table.AddRow({slice.name(), icepie::v1::SliceState_Name(slice.state()), WhyText(slice),
                  AgeText(slice), NextText(slice)});
  }
  if (!table.empty()) table.Print(context.out(), context.terminal.width);
  if (more.empty()) return;
  context.out() << "and " << MoreText(more) << " more: icepie slice list\n";
}

void PrintWorkers(Context& context, const ServerStatus& status) {
  int shown = 0;
  std::map<std::string, int64_t> more;
  for (const auto& worker : status.workers()) {
    const bool rests = worker.state() == "hibernating" || worker.state() == "waiting";
    if (worker.state() == "running" || rests) continue;
    if (++shown > kLinesMax) {
      ++more[worker.state()];
      continue;
    }
    context.out() << context.terminal.Yellow(absl::StrCat(
                         "worker ", worker.domain(), " (", worker.role(), ") ", worker.state(),
                         ", ", FormatCounted(worker.restarts(), "restart")))
                  << (worker.last_error().empty() ? "" : ": ") << worker.last_error() << '\n';
  }
  if (more.empty()) return;
  context.out() << context.terminal.Yellow(absl::StrCat("and workers: ", MoreText(more), " more"))
                << ": icepie status --json\n";
}

int64_t CountLive(const ServerStatus& status, const std::string& state) {
  return std::count_if(status.workers().begin(), status.workers().end(), [&](const auto& worker) {
    return worker.role() == "live" && worker.state() == state;
  });
}

void PrintHibernating(Context& context, const ServerStatus& status) {
  if (const int64_t domains = CountLive(status, "hibernating"); domains > 0) {
    context.out() << FormatCounted(domains, "domain")
                  << " hibernating: a question or a record wakes " << (domains == 1 ? "it" : "them")
                  << "\n";
  }
  if (const int64_t domains = CountLive(status, "waiting"); domains > 0) {
    context.out() << FormatCounted(domains, "domain")
                  << " waiting: they have records to apply, and others have their turn first "
                     "(workers.awake_domains_max)\n";
  }
}

// "4 workers, sandbox full (seccomp, Landlock 7)".
void PrintSandbox(Context& context, const ServerStatus& status) {
  std::map<std::string, int64_t> levels;
  for (const auto& worker : status.workers()) {
    if (!worker.sandbox().empty() && worker.pid() > 0) ++levels[worker.sandbox()];
  }
  for (const auto& [level, count] : levels) {
    const std::string line = absl::StrCat(FormatCounted(count, "worker"), ", sandbox ", level);
    const bool full = absl::StartsWith(level, "full");
    context.out() << (full ? line : context.terminal.Yellow(line)) << '\n';
  }
}

absl::StatusOr<int> Status(Context& context) {
  icepie::v1::GetServerStatusRequest request;
  request.set_with_domains(context.options.json);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const ServerStatus status,
      client.Call(client.admin(), &Admin::StubInterface::GetServerStatus, request));
  if (context.options.json) {
    context.out() << ToJson(status);
    return kExitDone;
  }
  std::set<std::string> domains;
  for (const Slice& slice : status.slices()) domains.insert(DomainOf(slice.name()));
  const std::string core = absl::StrCat("core ", CoreText(status));
  context.out() << (IsCoreWell(status) ? core : context.terminal.Red(core)) << "  head "
                << FormatCount(status.head_position()) << VerifiedText(status) << "    "
                << FormatCounted(static_cast<int64_t>(domains.size()), "domain") << ", "
                << FormatCounted(status.slices_size(), "slice") << ": " << StatesText(status)
                << '\n';
  if (status.safe_mode()) {
    context.out() << context.terminal.Yellow(
                         "SAFE MODE: no slice applies records; end it: icepie leave-safe-mode")
                  << '\n';
  }
  PrintDamage(context, status);
  PrintSlices(context, status);
  PrintWorkers(context, status);
  PrintHibernating(context, status);
  PrintSandbox(context, status);
  return kExitDone;
}

}  // namespace

void AddStatusCommand(CLI::App& app, Context& context) {
  app.add_subcommand("status", "the core and what is unhealthy")->callback([&context] {
    context.action = [&context] { return Status(context); };
  });
}

}  // namespace icepie::cli
