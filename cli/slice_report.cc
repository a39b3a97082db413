#include "cli/slice_report.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/answer.h"
#include "cli/event_line.h"
#include "cli/format.h"
#include "cli/limits_text.h"
#include "cli/status_text.h"
#include "cli/table.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::cli {
namespace {

using icepie::v1::Generation;
using icepie::v1::Slice;

constexpr int kSamplesOnATerminal = 5;

std::string StateName(const Slice& slice) { return icepie::v1::SliceState_Name(slice.state()); }

std::string StaleText(const icepie::v1::SliceMeta& meta) {
  return meta.stale() ? icepie::v1::StaleReason_Name(meta.stale_reason()) : "fresh";
}

void PrintField(Context& context, const char* name, const std::string& value) {
  if (!value.empty()) context.out() << absl::StreamFormat("%-14s", name) << value << '\n';
}

std::string ColumnsText(const Slice& slice) {
  std::vector<std::string> columns;
  for (const auto& column : slice.columns()) {
    columns.push_back(absl::StrCat(column.name(), " ", column.type()));
  }
  return absl::StrJoin(columns, ", ");
}

std::string ColumnChangeText(const icepie::v1::GenerationDiff::ColumnChange& column) {
  if (column.base_type().empty()) return absl::StrCat("new, ", column.new_type());
  if (column.new_type().empty()) return absl::StrCat("gone, was ", column.base_type());
  return absl::StrCat(column.base_type(), " → ", column.new_type());
}

std::string StateText(const Slice& slice) {
  std::string text = absl::StrCat(StateName(slice), " since ", FormatTime(slice.state_since()));
  if (slice.has_next_retry_time()) {
    absl::StrAppend(&text, ", next retry ", FormatTime(slice.next_retry_time()));
  } else if (slice.last_error().permanent()) {
    absl::StrAppend(&text, ", next retry: none, needs a change");
  }
  return text;
}

// "4m 12s ago"; empty when it is not known.
std::string AgoText(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "";
  return absl::StrCat(FormatElapsed(absl::Now() - ToTime(time)), " ago");
}

std::string ConditionText(const icepie::v1::SliceCondition& condition) {
  using icepie::v1::SliceCondition;
  std::string text = absl::StrCat(condition.type(),
                                  condition.status() == SliceCondition::FALSE ? "=FALSE" : "=TRUE",
                                  " ", condition.reason());
  if (!condition.message().empty()) absl::StrAppend(&text, ": ", Printable(condition.message()));
  if (condition.has_time()) {
    absl::StrAppend(&text, " (since ", FormatTime(condition.time()), ")");
  }
  return text;
}

std::string LoadText(const icepie::v1::QueryLoad& load) {
  if (load.total() == 0) return "none since the daemon started";
  std::string text = absl::StrCat(FormatCount(load.total()), " since the daemon started");
  if (load.errors() > 0) absl::StrAppend(&text, ", ", FormatCounted(load.errors(), "error"));
  if (load.p99_us() == 0) return text;
  return absl::StrCat(text, "; now ", FormatRate(load.per_second()), ", p50 ",
                      absl::StrFormat("%.1f", static_cast<double>(load.p50_us()) / 1000),
                      " ms, p99 ",
                      absl::StrFormat("%.1f", static_cast<double>(load.p99_us()) / 1000), " ms");
}

std::string MaxStaleText(const Slice& slice) {
  if (!slice.has_max_stale()) return "";
  return absl::StrCat(FormatElapsed(absl::Milliseconds(slice.max_stale().after_ms())), ", then ",
                      slice.max_stale().then() == icepie::v1::MaxStale::FAIL
                          ? "queries fail with STALENESS_EXCEEDED"
                          : "served on");
}

// "FREEZE since 2026-11-22 02:58:41Z by ann: INC-4711"
template <typename Word>
std::string WordText(icepie::v1::DesiredState::Mode mode, const Word& word) {
  return absl::StrCat(icepie::v1::DesiredState::Mode_Name(mode), " since ",
                      FormatTime(word.since()), " by ", word.actor(),
                      word.reason().empty() ? "" : ": ", word.reason());
}

std::string DesiredText(const Slice& slice) {
  const icepie::v1::DesiredState& desired = slice.desired();
  if (desired.mode() == icepie::v1::DesiredState::RUN) return "RUN";
  std::string text = WordText(desired.mode(), desired);
  if (desired.has_freeze()) {
    absl::StrAppend(&text, "; then ", WordText(icepie::v1::DesiredState::FREEZE, desired.freeze()));
  }
  const std::string reminder = ReminderText(desired);
  return absl::StrCat(text, reminder.empty() ? "" : "; ", reminder);
}

std::string ErrorText(const icepie::v1::SliceError& error) {
  if (error.reason().empty() && error.message().empty()) return "";
  return absl::StrCat(error.reason(), ": ", Printable(error.message()), " (",
                      FormatTime(error.time()), ")");
}

// That of the slice: whether it is over, and how it is forgotten.
std::string LastErrorText(const Slice& slice) {
  const std::string text = ErrorText(slice.last_error());
  if (text.empty() || IsStoppedByError(slice)) return text;
  return absl::StrCat(text, "; over (icepie slice clear-error ", slice.name(), " forgets it)");
}

std::string PositionText(const Slice& slice) {
  return absl::StrCat(
      FormatCount(slice.meta().applied_position()), " (", FormatCount(slice.meta().lag_records()),
      " behind), ", StaleText(slice.meta()),
      slice.meta().has_lag_time() ? absl::StrCat(", oldest record waits ",
                                                 FormatElapsed(ToDuration(slice.meta().lag_time())))
                                  : "");
}

std::string CountsText(const icepie::v1::SliceCounts& counts) {
  return absl::StrCat("input ", FormatCount(counts.input()), " = applied ",
                      FormatCount(counts.applied()), " + filtered ", FormatCount(counts.filtered()),
                      " + quarantined ", FormatCount(counts.quarantined()), " (",
                      FormatCount(counts.unacknowledged()), " not acknowledged)");
}

std::string ExpectationsText(const Slice& slice) {
  using icepie::v1::ExpectationResult;
  if (slice.expectations().empty()) return "";
  std::vector<std::string> failed;
  int passed = 0;
  for (const ExpectationResult& result : slice.expectations()) {
    if (result.status() == ExpectationResult::FAILED) failed.push_back(result.name());
    if (result.status() == ExpectationResult::PASSED) ++passed;
  }
  std::string text = absl::StrCat(passed, " of ", slice.expectations_size(), " passed");
  if (!failed.empty()) absl::StrAppend(&text, ", failed: ", absl::StrJoin(failed, ", "));
  return text;
}

std::string SnapshotText(int64_t position, const google::protobuf::Timestamp& time) {
  if (position < 0) return "none yet";
  return absl::StrCat("at position ", FormatCount(position), ", ", FormatTime(time));
}

void PrintGenerations(Context& context, const Slice& slice) {
  if (slice.generations().empty()) return;
  Table table({{"generation", true},
               {"state"},
               {"position", true},
               {"state of"},
               {"revision", true},
               {"created"},
               {"definition"},
               {"error"}});
  for (const Generation& generation : slice.generations()) {
    table.AddRow({FormatCount(generation.number()), Generation::State_Name(generation.state()),
                  FormatCount(generation.applied_position()), AgoText(generation.applied_time()),
                  FormatCount(generation.revision()), FormatTime(generation.create_time()),
                  generation.definition_hash().substr(0, 12), ErrorText(generation.error())});
  }
  table.Print(context.out(), context.terminal.width);
}

void PrintSamplesLeftOut(Context& context, const icepie::v1::GenerationDiff& diff, int shown) {
  const int64_t differences = diff.added() + diff.removed() + diff.changed();
  const int64_t all = std::max<int64_t>(differences, diff.samples_size());
  if (shown == all) return;
  context.out() << "  … " << FormatCount(all - shown) << " more";
  if (diff.samples_size() == all) {
    context.out() << " (--json shows all)";
  } else if (shown < diff.samples_size()) {
    context.out() << " (--json shows " << diff.samples_size() << ")";
  }
  context.out() << '\n';
}

}  // namespace

std::string OutcomeLine(const Slice& slice) {
  std::string line = absl::StrCat(slice.name(), " ", StateName(slice));
  if (slice.meta().stale()) absl::StrAppend(&line, " (stale: ", StaleText(slice.meta()), ")");
  absl::StrAppend(&line, " · generation ", slice.meta().generation(), " · as of position ",
                  FormatCount(slice.meta().applied_position()), " (",
                  FormatCount(slice.meta().lag_records()), " behind) · ",
                  FormatCount(slice.meta().quarantined_count()), " quarantined");
  if (slice.last_error().reason().empty()) return line;
  // It is kept after its cause has gone, until somebody clears it.
  return absl::StrCat(line, " · last error ", slice.last_error().reason());
}

void PrintSliceList(Context& context, const icepie::v1::ListSlicesResponse& slices) {
  Table table({{"slice"},
               {"state"},
               {"answers"},
               {"position", true},
               {"behind", true},
               {"generation", true},
               {"quarantined", true},
               {"strategy"}});
  for (const Slice& slice : slices.slices()) {
    table.AddRow({slice.name(), StateName(slice), StaleText(slice.meta()),
                  FormatCount(slice.meta().applied_position()),
                  FormatCount(slice.meta().lag_records()), FormatCount(slice.meta().generation()),
                  FormatCount(slice.meta().quarantined_count()), slice.strategy()});
  }
  table.Print(context.out(), context.terminal.width);
  context.out() << FormatCounted(slices.slices_size(), "slice") << " · head position "
                << FormatCount(slices.head_position()) << '\n';
}

void PrintSlice(Context& context, const Slice& slice) {
  context.out() << context.terminal.Bold(slice.name()) << '\n';
  PrintField(context, "state", StateText(slice));
  PrintField(context, "desired", DesiredText(slice));
  PrintField(context, "last error", LastErrorText(slice));
  PrintField(context, "position", PositionText(slice));
  if (slice.meta().has_event_time_max()) {
    PrintField(context, "newest event", FormatTime(slice.meta().event_time_max()));
  }
  PrintField(context, "records", CountsText(slice.counts()));
  PrintField(context, "expectations", ExpectationsText(slice));
  for (const auto& condition : slice.conditions()) {
    PrintField(context, "condition", ConditionText(condition));
  }
  PrintField(context, "snapshot", SnapshotText(slice.snapshot_position(), slice.snapshot_time()));
  PrintField(context, "standby", SnapshotText(slice.standby_position(), slice.standby_time()));
  if (slice.meta().has_next_refresh_time()) {
    PrintField(context, "next refresh", FormatTime(slice.meta().next_refresh_time()));
  }
  PrintField(context, "strategy", slice.strategy());
  PrintField(context, "reads", absl::StrJoin(slice.reads(), ", "));
  PrintField(context, "read by", absl::StrJoin(slice.dependants(), ", "));
  PrintField(context, "queries", LoadText(slice.queries()));
  PrintField(context, "max stale", MaxStaleText(slice));
  PrintField(context, "key", absl::StrJoin(slice.key(), ", "));
  PrintField(context, "columns", ColumnsText(slice));
  PrintField(context, "sql", Printable(slice.sql()));
  PrintField(context, "observed", FormatTime(slice.observed_time()));
  PrintGenerations(context, slice);
}

void PrintOwner(Context& context, const icepie::v1::Domain& domain) {
  const auto root = slices::ParseYaml(domain.file());
  if (!root.ok()) return;  // of a domain that is held
  std::vector<std::string> said;
  for (const auto& [part, owner] : root->entries) {
    if (part.text != "owner") continue;
    for (const auto& [key, value] : owner.entries) {
      said.push_back(Printable(absl::StrCat(key.text, " ", value.text)));
    }
  }
  PrintField(context, "owner", absl::StrJoin(said, ", "));
}

void PrintLimits(Context& context, const icepie::v1::Domain& domain) {
  std::vector<std::string> stated;
  for (const auto& limit : domain.limits()) {
    if (limit.file_key().empty()) continue;
    const bool own = limit.source() == icepie::v1::DomainLimit::FILE;
    stated.push_back(absl::StrCat(limit.name(), " ", LimitText(limit), own ? " (its file)" : ""));
  }
  if (stated.empty()) return;
  PrintField(
      context, "limits",
      absl::StrCat(absl::StrJoin(stated, ", "), "; all: icepie domain limits ", domain.name()));
}

void PrintLastEvents(Context& context, const icepie::v1::ListEventsResponse& events) {
  if (events.events().empty()) return;
  context.out() << "\nlast events (icepie events)\n";
  for (const auto& event : events.events()) context.out() << "  " << EventLine(event) << '\n';
}

void PrintDiff(Context& context, const icepie::v1::GenerationDiff& diff) {
  if (!diff.unavailable().empty()) {
    context.out() << "no row diff: " << diff.unavailable() << '\n';
    return;
  }
  context.out() << "against generation " << diff.base_generation() << ", both at position "
                << FormatCount(diff.base_position());
  if (diff.position() != diff.base_position()) {
    context.out() << " (the new one at " << FormatCount(diff.position()) << ")";
  }
  context.out() << "\nrows " << FormatCount(diff.base_rows()) << " → " << FormatCount(diff.rows())
                << "  added " << FormatCount(diff.added()) << "  removed "
                << FormatCount(diff.removed()) << "  changed " << FormatCount(diff.changed())
                << '\n';
  if (diff.has_from_quarantine()) {
    const auto& part = diff.from_quarantine();
    context.out() << "of these because of " << FormatCounted(part.records(), "record")
                  << " that the serving one has in quarantine: added " << FormatCount(part.added())
                  << "  removed " << FormatCount(part.removed()) << "  changed "
                  << FormatCount(part.changed()) << '\n';
  }
  for (const auto& column : diff.columns()) {
    context.out() << "column " << Printable(column.name()) << ": " << ColumnChangeText(column)
                  << '\n';
  }
  if (!diff.not_by_key().empty()) {
    context.out() << "compared as whole rows: " << Printable(diff.not_by_key()) << '\n';
  }
  const int shown = context.terminal.out_is_terminal
                        ? std::min(diff.samples_size(), kSamplesOnATerminal)
                        : diff.samples_size();
  for (int i = 0; i < shown; ++i) {
    const std::string line = absl::StrCat("  ", Printable(diff.samples(i)));
    context.out() << (context.terminal.width > 0 ? CutToWidth(line, context.terminal.width) : line)
                  << '\n';
  }
  PrintSamplesLeftOut(context, diff, shown);
}

}  // namespace icepie::cli
