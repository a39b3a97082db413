#include "server/http/metrics.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace icepie::server {
namespace {

using icepie::v1::ServerStatus;
using icepie::v1::Slice;
using icepie::v1::WorkerStatus;
using Labels = std::vector<std::pair<absl::string_view, std::string>>;

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

// Writes families one after the other: help and type once, then all its samples.
class Writer {
 public:
  void Family(absl::string_view name, absl::string_view type, absl::string_view help) {
    name_ = std::string(name);
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }

  void Sample(const Labels& labels, double value) {
    absl::StrAppend(&text_, name_);
    absl::string_view separator = "{";
    for (const auto& [label, label_value] : labels) {
      absl::StrAppend(&text_, separator, label, "=\"", Escaped(label_value), "\"");
      separator = ",";
    }
    absl::StrAppend(&text_, labels.empty() ? "" : "}", " ", Number(value), "\n");
  }

  std::string Take() { return std::move(text_); }

 private:
  static std::string Escaped(const std::string& value) {
    return absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}});
  }

  // Positions are whole numbers beyond what six significant digits show.
  static std::string Number(double value) {
    const auto whole = static_cast<int64_t>(value);
    return static_cast<double>(whole) == value ? absl::StrCat(whole) : absl::StrCat(value);
  }

  std::string name_;
  std::string text_;
};

Labels SliceLabels(const Slice& slice) {
  const size_t dot = slice.name().find('.');
  if (dot == std::string::npos) return {{"domain", ""}, {"slice", slice.name()}};
  return {{"domain", slice.name().substr(0, dot)}, {"slice", slice.name().substr(dot + 1)}};
}

Labels WorkerLabels(const WorkerStatus& worker) {
  return {{"domain", worker.domain()}, {"role", worker.role()}};
}

void WriteScrub(const icepie::v1::CoreScrub& scrub, Writer* out) {
  out->Family("icepie_core_scrub_findings", "gauge",
              "Damaged places of the core that the last scrub found.");
  out->Sample({}, static_cast<double>(scrub.finding_count()));
  out->Family("icepie_core_scrub_position", "gauge", "Where the scrub's pass is.");
  out->Sample({}, static_cast<double>(scrub.position()));
  out->Family("icepie_core_scrub_bytes_total", "counter", "Bytes that the scrub has read.");
  out->Sample({}, static_cast<double>(scrub.bytes_read()));
  if (!scrub.has_verified_time()) return;
  out->Family("icepie_core_scrub_verified_time_seconds", "gauge",
              "When the last pass ended that found no damage, Unix time.");
  out->Sample({}, static_cast<double>(scrub.verified_time().seconds()));
}

void WriteCore(const ServerStatus& status, Writer* out) {
  out->Family("icepie_core_head_position", "gauge", "Number of records in the raw core.");
  out->Sample({}, static_cast<double>(status.head_position()));
  out->Family("icepie_core_read_only", "gauge", "1 while the core takes no change.");
  out->Sample({}, status.core_read_only() ? 1 : 0);
  out->Family("icepie_core_disk_full", "gauge", "1 while appends are refused for want of space.");
  out->Sample({}, status.core_disk_full() ? 1 : 0);
  out->Family("icepie_core_disk_free_bytes", "gauge", "Free on the core's disk at the last look.");
  out->Sample({}, static_cast<double>(status.core_disk_free_bytes()));
  const auto& storage = status.core_storage();
  out->Family("icepie_core_sealed_position", "gauge", "Records below it are in segment files.");
  out->Sample({}, static_cast<double>(storage.sealed_position()));
  out->Family("icepie_core_segments", "gauge", "Number of segment files.");
  out->Sample({}, static_cast<double>(storage.segment_count()));
  out->Family("icepie_core_segment_bytes", "gauge", "Bytes of all segment files.");
  out->Sample({}, static_cast<double>(storage.segment_bytes()));
  if (storage.has_hot_bytes()) {
    out->Family("icepie_core_hot_bytes", "gauge", "Bytes of blocks that are still in the log.");
    out->Sample({}, static_cast<double>(storage.hot_bytes()));
  }
  if (status.has_core_scrub()) WriteScrub(status.core_scrub(), out);
  out->Family("icepie_build_info", "gauge", "The running version.");
  out->Sample({{"version", status.version()}}, 1);
  out->Family("icepie_start_time_seconds", "gauge", "When the daemon started, Unix time.");
  out->Sample({}, static_cast<double>(status.start_time().seconds()));
}

// Every state has a sample, so that a state left behind goes to 0 instead of vanishing.
void WriteStates(const ServerStatus& status, Writer* out) {
  out->Family("icepie_slice_state", "gauge", "1 for the state that the slice is in.");
  for (const Slice& slice : status.slices()) {
    for (int state = icepie::v1::STARTING; state <= icepie::v1::DELETING; ++state) {
      Labels labels = SliceLabels(slice);
      labels.emplace_back("state",
                          icepie::v1::SliceState_Name(static_cast<icepie::v1::SliceState>(state)));
      out->Sample(labels, slice.state() == state ? 1 : 0);
    }
  }
}

// Of those that answer, or should: who deletes one need not hear that it is stale.
template <typename Value>
void WriteSlices(const ServerStatus& status, absl::string_view name, absl::string_view help,
                 Value value, Writer* out) {
  out->Family(name, "gauge", help);
  for (const Slice& slice : status.slices()) {
    if (slice.state() == icepie::v1::DELETING) continue;
    out->Sample(SliceLabels(slice), static_cast<double>(value(slice)));
  }
}

// Every expectation has a sample, so that one that passes again goes to 0. SQL that fails on the
// data counts as one row.
void WriteExpectations(const ServerStatus& status, Writer* out) {
  using icepie::v1::ExpectationResult;
  out->Family("icepie_slice_expectation_failures", "gauge",
              "Rows that break the expectation, as last checked.");
  for (const Slice& slice : status.slices()) {
    for (const ExpectationResult& result : slice.expectations()) {
      Labels labels = SliceLabels(slice);
      labels.emplace_back("expectation", result.name());
      labels.emplace_back("severity",
                          result.severity() == ExpectationResult::WARN ? "warn" : "error");
      const bool failed = result.status() == ExpectationResult::FAILED;
      out->Sample(labels,
                  failed ? static_cast<double>(std::max<int64_t>(1, result.failing_rows())) : 0);
    }
  }
}

void WriteStandbyAges(const ServerStatus& status, absl::Time now, Writer* out) {
  out->Family("icepie_standby_age_seconds", "gauge",
              "Age of the snapshot that the standby would answer from.");
  for (const Slice& slice : status.slices()) {
    if (!slice.has_standby_time()) continue;
    out->Sample(SliceLabels(slice), absl::ToDoubleSeconds(now - ToTime(slice.standby_time())));
  }
}

void WriteWorkers(const ServerStatus& status, Writer* out) {
  out->Family("icepie_worker_up", "gauge", "1 while the worker process runs.");
  for (const WorkerStatus& worker : status.workers()) {
    out->Sample(WorkerLabels(worker), worker.state() == "running" ? 1 : 0);
  }
  out->Family("icepie_worker_restarts_total", "counter", "Starts of the worker after a death.");
  for (const WorkerStatus& worker : status.workers()) {
    out->Sample(WorkerLabels(worker), static_cast<double>(worker.restarts()));
  }
  out->Family("icepie_worker_hibernating", "gauge",
              "1 while the worker is stopped because nobody needs it.");
  for (const WorkerStatus& worker : status.workers()) {
    out->Sample(WorkerLabels(worker), worker.state() == "hibernating" ? 1 : 0);
  }
  out->Family(
      "icepie_worker_waiting", "gauge",
      "1 while the worker is stopped and has records to apply when others have had their turn.");
  for (const WorkerStatus& worker : status.workers()) {
    out->Sample(WorkerLabels(worker), worker.state() == "waiting" ? 1 : 0);
  }
  out->Family("icepie_worker_resident_bytes", "gauge", "Memory of the worker process.");
  for (const WorkerStatus& worker : status.workers()) {
    out->Sample(WorkerLabels(worker), static_cast<double>(worker.resident_bytes()));
  }
}

}  // namespace

std::string MetricsText(const ServerStatus& status, absl::Time now) {
  Writer out;
  WriteCore(status, &out);
  WriteStates(status, &out);
  WriteSlices(
      status, "icepie_slice_stale", "1 while answers are marked stale.",
      [](const Slice& slice) { return slice.meta().stale() ? 1 : 0; }, &out);
  WriteSlices(
      status, "icepie_slice_lag_records", "Head position minus applied position.",
      [](const Slice& slice) { return slice.meta().lag_records(); }, &out);
  WriteSlices(
      status, "icepie_slice_lag_seconds",
      "Since the ingest of the oldest record that concerns the slice and is not applied.",
      [](const Slice& slice) {
        const auto& lag = slice.meta().lag_time();
        return static_cast<double>(lag.seconds()) + lag.nanos() / 1e9;
      },
      &out);
  WriteSlices(
      status, "icepie_slice_applied_position", "Answers show the records below it.",
      [](const Slice& slice) { return slice.meta().applied_position(); }, &out);
  WriteSlices(
      status, "icepie_slice_quarantined_records", "Records that the slice could not take.",
      [](const Slice& slice) { return slice.meta().quarantined_count(); }, &out);
  WriteSlices(
      status, "icepie_slice_unacknowledged_records", "Of those: nobody has acknowledged them.",
      [](const Slice& slice) { return slice.meta().unacknowledged_count(); }, &out);
  WriteSlices(
      status, "icepie_slice_generation", "The generation that serves.",
      [](const Slice& slice) { return slice.meta().generation(); }, &out);
  WriteExpectations(status, &out);
  WriteStandbyAges(status, now, &out);
  WriteWorkers(status, &out);
  return out.Take();
}

}  // namespace icepie::server
