#include "slices/snapshot/snapshot_writer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "slices/apply/flight_record.h"
#include "slices/apply/slice_fault.h"
#include "slices/apply/slice_log.h"

namespace icepie::slices {
namespace {

// Than answering and applying. Somebody may wait for a snapshot: it is not left without processor.
constexpr int kNicer = 10;
// Snapshots of slices that do not change get older, too.
constexpr absl::Duration kCleanUpInterval = absl::Minutes(1);

// What its expectations decide, or have not decided yet, is no failure to save; that their check
// does not end is.
void NoteNotSaved(const absl::Status& status, ServedSlice& served) {
  if (ErrorReason(status) == "EXPECTATION_FAILED") return;
  SliceFault fault = MakeFault(status, "SNAPSHOT_FAILED");
  const bool lasts = fault.reason == "DOMAIN_DISK_FULL" || fault.reason == "EXPECTATION_STOPPED";
  if (absl::IsUnavailable(status) && !lasts) return;
  served.SetNotSaved(std::move(fault));
}

// The processor time of the calling thread: DuckDB computes in it. What a save waits for (the disk,
// the pace of writes, a turn of the processor, which others get first) takes nothing from anybody,
// and where it counted, a busy machine would have no snapshots when it may need them.
absl::Duration Spent() { return ProcessorTime(ThisThread()); }

// `check` with the processor time that it takes added to `spent`.
SnapshotCheck Metered(SnapshotCheck check, absl::Duration& spent) {
  if (!check) return nullptr;
  return [check = std::move(check), &spent](DuckConnection& connection, const std::string& alias,
                                            SnapshotManifest& copy) {
    const absl::Duration before = Spent();
    absl::Status status = check(connection, alias, copy);
    spent += Spent() - before;
    return status;
  };
}

}  // namespace

SnapshotWriter::SnapshotWriter(DuckDatabase& instance, const SnapshotStore& store, double share,
                               std::function<void()> on_saved,
                               std::function<void(const std::string& why)> on_broken)
    : instance_(instance),
      store_(store),
      rest_per_work_(1 / share - 1),
      on_saved_(std::move(on_saved)),
      on_broken_(std::move(on_broken)),
      thread_([this] { Loop(); }) {}

SnapshotWriter::~SnapshotWriter() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
  for (const Job& job : jobs_) {
    for (const Done& done : job.done) done(absl::UnavailableError("the worker is stopping"));
  }
}

bool SnapshotWriter::Request(std::shared_ptr<ServedSlice> served,
                             std::shared_ptr<AttachedDatabase> database, bool urgent,
                             SnapshotCheck check) {
  MutexLock lock(mutex_);
  if (!urgent && (saving_ == served || SteadyNow() < NextCheap(served->info().slice))) return false;
  for (Job& job : jobs_) {
    if (job.served != served) continue;
    job.urgent = job.urgent || urgent;
    return false;
  }
  jobs_.push_back({std::move(served), std::move(database), urgent, std::move(check), {}});
  changed_.SignalAll();
  return true;
}

void SnapshotWriter::Request(std::shared_ptr<ServedSlice> served,
                             std::shared_ptr<AttachedDatabase> database, Done done,
                             SnapshotCheck check) {
  MutexLock lock(mutex_);
  auto job = std::find_if(jobs_.begin(), jobs_.end(),
                          [&](const Job& waiting) { return waiting.served == served; });
  if (job == jobs_.end()) {
    job = jobs_.insert(jobs_.end(),
                       {std::move(served), std::move(database), true, std::move(check), {}});
  }
  job->urgent = true;
  job->done.push_back(std::move(done));
  changed_.SignalAll();
}

bool SnapshotWriter::Has(const ServedSlice& served) {
  MutexLock lock(mutex_);
  return saving_.get() == &served || std::any_of(jobs_.begin(), jobs_.end(), [&](const Job& job) {
           return job.served.get() == &served;
         });
}

void SnapshotWriter::Flush() {
  MutexLock lock(mutex_);
  while (!stopping_ && (saving_ != nullptr || !jobs_.empty())) changed_.Wait(mutex_);
}

void SnapshotWriter::Save(const Job& job) {
  const GenerationInfo& info = job.served->info();
  const FlightEntry flight(Activity::kSave, absl::StrCat(info.slice, "/", info.number));
  const absl::Time begin = SteadyNow();
  const absl::Duration before = Spent();
  absl::Duration checks;
  const auto manifest = store_.Save(instance_, job.database->alias(), info,
                                    job.served->result_rows_max(), Metered(job.check, checks));
  const absl::Duration saving = Spent() - before - checks;
  if (manifest.ok()) {
    job.served->SetSnapshot(manifest->Info());
    LogSlice(spdlog::level::debug, job.served->info().slice, "saved at {} in {}",
             manifest->progress.applied_position, absl::FormatDuration(SteadyNow() - begin));
  } else {
    SliceError(job.served->info().slice, "{}", manifest.status().ToString());
    NoteNotSaved(manifest.status(), *job.served);
    if (absl::IsInternal(manifest.status())) on_broken_(manifest.status().ToString());
  }
  for (const Done& done : job.done) done(manifest);
  MutexLock lock(mutex_);
  const absl::Time now = SteadyNow();
  next_cheap_ = std::max(next_cheap_, now) + saving * rest_per_work_;
  next_check_[info.slice] = now + checks * rest_per_work_;
  saving_ = nullptr;
  changed_.SignalAll();
}

// What the expectations of one slice cost, only its own snapshots pay for.
absl::Time SnapshotWriter::NextCheap(const std::string& slice) const {
  const auto found = next_check_.find(slice);
  return found == next_check_.end() ? next_cheap_ : std::max(next_cheap_, found->second);
}

// The next that is to be saved; nothing when it is time to clean up instead.
std::optional<SnapshotWriter::Job> SnapshotWriter::NextJob(absl::Time clean_up) {
  MutexLock lock(mutex_);
  while (jobs_.empty() && !stopping_ && SteadyNow() < clean_up) {
    changed_.WaitFor(mutex_, clean_up - SteadyNow());
  }
  if (stopping_ || jobs_.empty()) return std::nullopt;
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  saving_ = job.served;
  return job;
}

bool SnapshotWriter::stopping() {
  MutexLock lock(mutex_);
  return stopping_;
}

void SnapshotWriter::Loop() {
  BeNicer(kNicer);
  BeLastAtDisk();
  absl::Time clean_up = SteadyNow() + kCleanUpInterval;
  while (!stopping()) {
    const std::optional<Job> job = NextJob(clean_up);
    if (job) {
      Save(*job);
      if (on_saved_) on_saved_();
    }
    if (SteadyNow() < clean_up || stopping()) continue;
    store_.CleanUpAll();
    clean_up = SteadyNow() + kCleanUpInterval;
  }
}

}  // namespace icepie::slices
