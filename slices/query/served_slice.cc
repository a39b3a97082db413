#include "slices/query/served_slice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "slices/apply/slice_log.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {
namespace {

bool IsStopped(SliceState state) {
  switch (state) {
    case SliceState::kFrozen:
    case SliceState::kFaulted:
    case SliceState::kHeld:
    case SliceState::kBlocked:
    case SliceState::kSuspended:
      return true;
    default:
      return false;
  }
}

}  // namespace

const char* StateName(SliceState state) {
  switch (state) {
    case SliceState::kStarting:
      return "STARTING";
    case SliceState::kBackfilling:
      return "BACKFILLING";
    case SliceState::kRunning:
      return "RUNNING";
    case SliceState::kLagging:
      return "LAGGING";
    case SliceState::kFrozen:
      return "FROZEN";
    case SliceState::kFaulted:
      return "FAULTED";
    case SliceState::kHeld:
      return "HELD";
    case SliceState::kBlocked:
      return "BLOCKED";
    case SliceState::kSuspended:
      return "SUSPENDED";
  }
  return "";
}

AttachedDatabase::~AttachedDatabase() {
  auto connection = DuckConnection::Connect(instance_);
  if (!connection.ok()) return;
  const absl::Status status = (*connection)->Run(absl::StrCat("DETACH ", QuoteIdentifier(alias_)));
  if (!status.ok()) spdlog::warn("detaching {}: {}", alias_, status.ToString());
}

std::shared_ptr<AttachedDatabase> ServedSlice::database() const {
  MutexLock lock(mutex_);
  return database_;
}

void ServedSlice::SetDatabase(std::shared_ptr<AttachedDatabase> database) {
  // Swapped under the lock and destroyed outside of it: detaching takes a while.
  MutexLock lock(mutex_);
  database_.swap(database);
}

std::shared_ptr<AttachedDatabase> ServedSlice::storage() const {
  MutexLock lock(mutex_);
  return storage_;
}

void ServedSlice::SetStorage(std::shared_ptr<AttachedDatabase> storage) {
  MutexLock lock(mutex_);
  storage_.swap(storage);
}

void ServedSlice::Publish(const Progress& row) {
  MutexLock lock(mutex_);
  row_ = row;
  passed_to_ = std::max(passed_to_, row.applied_position);
}

void ServedSlice::PassTo(int64_t position) {
  MutexLock lock(mutex_);
  passed_to_ = std::max(passed_to_, position);
}

int64_t ServedSlice::applied_position() const {
  MutexLock lock(mutex_);
  return passed_to_;
}

ServedSlice::Standing ServedSlice::standing() const {
  MutexLock lock(mutex_);
  return {row_.applied_position, passed_to_};
}

bool ServedSlice::ChangeState(SliceState state) {
  const bool changed = report_.state != state;
  if (changed || report_.state_since == absl::UnixEpoch()) report_.state_since = absl::Now();
  report_.state = state;
  report_.next_retry_time.reset();
  return changed;
}

void ServedSlice::SetState(SliceState state) {
  SliceState before = state;
  {
    MutexLock lock(mutex_);
    before = report_.state;
    ChangeState(state);
  }
  if (before == state) return;
  SliceInfo(info_.slice, "generation {}: {} → {}", info_.number, StateName(before),
            StateName(state));
}

void ServedSlice::SetFault(SliceState state, SliceFault fault,
                           std::optional<absl::Time> next_retry) {
  const std::string why = absl::StrCat(fault.reason, ": ", fault.message);
  bool changed = false;
  {
    MutexLock lock(mutex_);
    changed = ChangeState(state);
    report_.last_error = std::move(fault);
    report_.next_retry_time = next_retry;
  }
  if (changed) SliceWarn(info_.slice, "generation {}: {}: {}", info_.number, StateName(state), why);
}

SliceState ServedSlice::state() const {
  MutexLock lock(mutex_);
  return report_.state;
}

bool ServedSlice::stopped() const { return IsStopped(state()); }

void ServedSlice::SetSnapshot(SnapshotInfo snapshot) {
  MutexLock lock(mutex_);
  report_.snapshot = std::move(snapshot);
  report_.not_saved.reset();
}

void ServedSlice::SetNotSaved(SliceFault why) {
  MutexLock lock(mutex_);
  if (report_.not_saved) why.time = report_.not_saved->time;  // since then
  if (why.reason == "DOMAIN_DISK_FULL" && !IsStopped(report_.state)) report_.last_error = why;
  report_.not_saved = std::move(why);
}

int64_t ServedSlice::snapshot_position() const {
  MutexLock lock(mutex_);
  return report_.snapshot ? report_.snapshot->position : -1;
}

bool ServedSlice::HasSaved(const Progress& progress) const {
  MutexLock lock(mutex_);
  return report_.snapshot && report_.snapshot->position >= progress.applied_position &&
         report_.snapshot->content_version >= progress.content_version;
}

void ServedSlice::SetNextRefresh(std::optional<absl::Time> time) {
  MutexLock lock(mutex_);
  report_.next_refresh_time = time;
}

void ServedSlice::SetOldestWaiting(absl::Time time) {
  MutexLock lock(mutex_);
  report_.oldest_unapplied =
      time == absl::InfiniteFuture() ? std::nullopt : std::optional<absl::Time>(time);
}

void ServedSlice::SetServing(bool serving) {
  MutexLock lock(mutex_);
  report_.serving = serving;
}

void ServedSlice::SetExpectations(std::vector<ExpectationResult> results) {
  MutexLock lock(mutex_);
  expectations_ = std::move(results);
}

void ServedSlice::SetBackfillTarget(int64_t position) {
  MutexLock lock(mutex_);
  backfill_target_ = position;
}

int ServedSlice::BackfillPercent() const {
  MutexLock lock(mutex_);
  if (backfill_target_ <= 0) return 0;
  return static_cast<int>(std::min<int64_t>(99, passed_to_ * 100 / backfill_target_));
}

void ServedSlice::SetAcknowledged(PositionRanges acknowledged) {
  MutexLock lock(mutex_);
  acknowledged_ = std::move(acknowledged);
}

PositionRanges ServedSlice::acknowledged() const {
  MutexLock lock(mutex_);
  return acknowledged_;
}

void ServedSlice::SetUnacknowledged(int64_t count) {
  MutexLock lock(mutex_);
  unacknowledged_ = count;
}

void ServedSlice::SetOverflow(std::vector<QuarantinedRecord> records) {
  MutexLock lock(mutex_);
  overflow_ = std::move(records);
}

std::vector<QuarantinedRecord> ServedSlice::overflow() const {
  MutexLock lock(mutex_);
  return overflow_;
}

void ServedSlice::SetFreshFrom(int64_t position) {
  MutexLock lock(mutex_);
  fresh_from_ = position;
}

// `least_position`: what the row is known to have stood for.
SliceReport ServedSlice::ReportLocked(const Progress& row, int64_t least_position) const {
  SliceReport report = report_;
  report.info = info_;
  report.progress = row;
  report.unacknowledged = std::min(row.quarantined, unacknowledged_.value_or(row.quarantined));
  // Only the row that was passed over from stands for the later position.
  int64_t& position = report.progress.applied_position;
  if (row.applied_position == row_.applied_position) position = passed_to_;
  position = std::max(position, least_position);
  if (report.state == SliceState::kRunning && position < fresh_from_) {
    report.state = SliceState::kLagging;
  }
  return report;
}

SliceReport ServedSlice::Report() const {
  MutexLock lock(mutex_);
  SliceReport report = ReportLocked(row_, 0);
  report.no_rows = database_ == nullptr;
  report.expectations = expectations_;
  return report;
}

SliceReport ServedSlice::ReportAt(const Progress& row, const Standing& before) const {
  MutexLock lock(mutex_);
  SliceReport report =
      ReportLocked(row, row.applied_position == before.row_position ? before.passed_to : 0);
  for (const ExpectationResult& result : expectations_) {
    if (result.status != ExpectationResult::Status::kFailed &&
        result.status != ExpectationResult::Status::kStopped) {
      continue;
    }
    ExpectationResult& failed = report.expectations.emplace_back();
    failed.name = result.name;
    failed.severity = result.severity;
    failed.status = result.status;
  }
  return report;
}

}  // namespace icepie::slices
