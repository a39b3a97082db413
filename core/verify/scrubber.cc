#include "core/verify/scrubber.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "core/proof/tree_store.h"
#include "core/verify/scrub_file.h"

namespace icepie {
namespace {

constexpr size_t kFindingsMax = 10;
constexpr absl::Duration kSaveInterval = absl::Minutes(1);
constexpr absl::Duration kRetryInterval = absl::Minutes(1);

// The position that an error names; `otherwise` when it names none.
int64_t PositionOf(const absl::Status& status, int64_t otherwise) {
  const auto detail = GetErrorDetail(status);
  int64_t position = otherwise;
  if (!detail) return position;
  const auto named = detail->metadata.find("position");
  if (named == detail->metadata.end() || !absl::SimpleAtoi(named->second, &position)) {
    return otherwise;
  }
  return position;
}

}  // namespace

int64_t ScrubBytesPerSecond(const ScrubOptions& options, int64_t bytes) {
  const double seconds = absl::ToDoubleSeconds(options.interval) * 3 / 4;
  const double needed = std::min(static_cast<double>(bytes) / seconds, 1e15);
  return std::max(options.bytes_per_second, static_cast<int64_t>(needed) + 1);
}

Scrubber::Scrubber(const Parts& parts, std::string directory, const ScrubOptions& options)
    : parts_(parts),
      path_(absl::StrCat(directory, "/", kScrubFile)),
      options_(options),
      bytes_per_second_(options.bytes_per_second) {
  const absl::StatusOr<std::string> saved = ReadFile(path_);
  if (saved.ok()) state_ = DecodeScrubState(*saved);
  if (saved.ok() && EncodeScrubState(state_) != *saved) {
    spdlog::warn("core: {} is damaged; what was verified is not known, and a pass begins anew",
                 path_);
  }
  if (state_.position > parts_.head->position()) state_ = ScrubState();
  found_in_pass_ = state_.finding_count > 0;
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "scrubber");
}

Scrubber::~Scrubber() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
}

ScrubState Scrubber::State() const {
  const MutexLock lock(mutex_);
  return state_;
}

bool Scrubber::WaitUntil(absl::Time time) {
  const MutexLock lock(mutex_);
  while (!stopping_ && SteadyNow() < time) changed_.WaitFor(mutex_, time - SteadyNow());
  return !stopping_;
}

absl::Time Scrubber::NextPass() const {
  const MutexLock lock(mutex_);
  if (state_.pass_begin) return retry_;  // it was interrupted
  if (last_begin_ != absl::InfinitePast()) return last_begin_ + options_.interval;
  if (!state_.verified_time) return absl::InfinitePast();
  // A time to come is a clock's that was set back since.
  const absl::Duration age = std::max(absl::ZeroDuration(), absl::Now() - *state_.verified_time);
  return SteadyNow() + options_.interval - age;
}

void Scrubber::Run() {
  if (!BeLast()) spdlog::debug("core: scrubbing runs at normal priority");
  if (!WaitUntil(SteadyNow() + options_.first_delay)) return;
  while (WaitUntil(NextPass())) {
    RunPass();
    Save();
  }
}

int64_t Scrubber::BeginPass() {
  const MutexLock lock(mutex_);
  last_begin_ = SteadyNow();
  if (!state_.pass_begin) {
    state_.pass_begin = absl::Now();
    state_.position = 0;
  }
  if (state_.position == 0) found_in_pass_ = false;  // everything is read, also once more
  return state_.position;
}

void Scrubber::ChoosePace() {
  int64_t bytes = parts_.segments->sealed_bytes();
  const absl::StatusOr<std::vector<LogStore::StoredFile>> files = parts_.store->ListFiles();
  for (const LogStore::StoredFile& file : files.value_or(std::vector<LogStore::StoredFile>())) {
    bytes += 2 * file.bytes;  // as a file, and as the records in it
  }
  bytes_per_second_ = ScrubBytesPerSecond(options_, bytes);
  spdlog::debug("core: a scrub of {} bytes, {} a second", bytes, bytes_per_second_);
}

void Scrubber::RunPass() {
  ChoosePace();
  // Files first: what a table file's damage means for records is seen when those are read.
  if (BeginPass() == 0) {
    if (!CheckFiles()) return;
    CheckSegments();
  }
  CheckRecords();
}

bool Scrubber::CheckFiles() {
  const auto found = [this](const absl::Status& status) {
    Found({parts_.segments->sealed_position(), parts_.head->position(),
           std::string(status.message())});
  };
  const absl::StatusOr<std::vector<LogStore::StoredFile>> files = parts_.store->ListFiles();
  if (!files.ok()) found(files.status());
  for (const LogStore::StoredFile& file : files.value_or(std::vector<LogStore::StoredFile>())) {
    absl::Time begin = SteadyNow();
    const absl::Status status =
        parts_.store->CheckFile(file, {[&](int64_t bytes) { return Pace(bytes, begin); }});
    if (absl::IsCancelled(status)) return false;
    if (absl::IsDeadlineExceeded(status)) {
      spdlog::warn("core: the scrub waits: {}", status.ToString());
      retry_ = SteadyNow() + kRetryInterval;
      return false;
    }
    if (!status.ok()) found(status);
  }
  const int64_t head = parts_.head->position();
  for (const absl::Status& status : parts_.proofs->CheckFiles()) {
    Found({head, head, std::string(status.message())});
  }
  // Records are read from where damage is, and not from memory.
  parts_.store->DropCache();
  parts_.segments->ForgetReaders();
  return true;
}

void Scrubber::CheckSegments() {
  const absl::Status status = parts_.segments->CheckFiles();
  if (status.ok()) return;
  const int64_t position = PositionOf(status, 0);
  Found({position, position + 1, std::string(status.message())});
}

// The tree grows from the records alone. A pass that was interrupted goes on with the stored tree,
// or from the beginning when that cannot be read.
std::unique_ptr<Verification> Scrubber::StartVerification() {
  VerificationTask task;
  task.records = parts_.records();
  const auto last = parts_.proofs->GetCheckpoint(0, absl::ZeroDuration());
  if (absl::IsDataLoss(last.status())) {
    const int64_t at = PositionOf(last.status(), 0);
    Found({at, at + 1,
           absl::StrCat("no checkpoint is signed until a restart: ", last.status().message())});
  }
  task.head = parts_.head->position();
  TiledNodes nodes(TreeReader(*parts_.store));
  absl::StatusOr<CompactRange> edge = RightEdge(State().position, nodes);
  if (!edge.ok()) edge = CompactRange();
  if (last.ok() && last->checkpoint.size >= edge->size()) task.last_signed = last->checkpoint;
  {
    const MutexLock lock(mutex_);
    state_.position = edge->size();
    state_.end_position = task.head;
  }
  return std::make_unique<Verification>(task, *std::move(edge));
}

void Scrubber::CheckRecords() {
  const std::unique_ptr<Verification> verification = StartVerification();
  size_t findings = 0;
  for (bool more = true; more;) {
    absl::Time begin = SteadyNow();
    const int64_t bytes = verification->bytes();
    more = verification->Step();
    for (; findings < verification->findings().size(); ++findings) {
      Found(verification->findings()[findings]);
    }
    {
      const MutexLock lock(mutex_);
      state_.position = verification->position();
    }
    if (!Pace(verification->bytes() - bytes, begin)) return;
  }
  CheckRoot(*verification);
  EndPass();
}

void Scrubber::CheckRoot(Verification& verification) {
  const VerificationAnswer root = verification.Finish().tree_recomputed;
  if (root.state == VerificationAnswer::State::kFails) {
    Found({0, verification.end_position(), root.detail});
  }
}

void Scrubber::EndPass() {
  const MutexLock lock(mutex_);
  if (!found_in_pass_) {
    if (state_.finding_count > 0) spdlog::info("core: the scrub finds no damage any more");
    state_.findings.clear();
    state_.finding_count = 0;
    state_.verified_time = absl::Now();
    state_.verified_position = state_.end_position;
  }
  spdlog::debug("core: scrubbed {} records", state_.end_position);
  if (const absl::Duration taken = SteadyNow() - last_begin_; taken > options_.interval) {
    spdlog::warn("core: the scrub took {}, longer than core.scrub_interval_ms ({})",
                 absl::FormatDuration(taken), absl::FormatDuration(options_.interval));
  }
  state_.pass_begin.reset();
}

bool Scrubber::Pace(int64_t bytes, absl::Time& begin) {
  {
    const MutexLock lock(mutex_);
    state_.bytes_read += bytes;
  }
  if (SteadyNow() - saved_ >= kSaveInterval) Save();
  const bool goes_on = WaitUntil(
      begin + absl::Seconds(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_)));
  begin = SteadyNow();
  return goes_on;
}

void Scrubber::Found(const VerificationFinding& finding) {
  const MutexLock lock(mutex_);
  if (!found_in_pass_) {
    state_.findings.clear();
    state_.finding_count = 0;
    found_in_pass_ = true;
  }
  ++state_.finding_count;
  if (state_.findings.size() >= kFindingsMax) return;
  spdlog::error("core: damage at positions {} to {}: {}", finding.position, finding.end_position,
                finding.what);
  state_.findings.push_back({finding.position, finding.end_position, finding.what});
}

void Scrubber::Save() {
  saved_ = SteadyNow();
  const absl::Status written = WriteFileAtomically(path_, EncodeScrubState(State()));
  if (written.ok()) return;
  spdlog::warn("core: where the scrub stands is not saved: {}", written.ToString());
}

}  // namespace icepie
