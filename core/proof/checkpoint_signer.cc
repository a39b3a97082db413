#include "core/proof/checkpoint_signer.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/proof/tree_check.h"
#include "core/proof/tree_store.h"
#include "core/read/block_reader.h"

namespace icepie {
namespace {

constexpr int64_t kChunkBytes = int64_t{4} << 20;
// A signature comes at least so often while much is hashed again, so that little is done twice
// after a restart.
constexpr int64_t kSignRecords = int64_t{1} << 20;
constexpr int kIdleIntervals = 10;
constexpr int kPacePerWork = 9;  // unasked it rests nine times as long as it works
constexpr absl::Duration kIdleMin = absl::Milliseconds(100);

absl::Status Damage(const std::string& what) {
  return MakeError(absl::StatusCode::kDataLoss, what, "PROOF_DAMAGED");
}

}  // namespace

CheckpointSigner::CheckpointSigner(const Parts& parts, std::string directory, SigningState state,
                                   absl::Duration interval)
    : parts_(parts),
      directory_(std::move(directory)),
      key_(std::move(state.key)),
      interval_(interval),
      mark_(state.mark),
      last_(std::move(state.last)) {
  if (!state.damage.empty()) {
    damage_ = Damage(state.damage);
    spdlog::error("core: no checkpoints are signed: {}", state.damage);
  }
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "signer");
}

CheckpointSigner::~CheckpointSigner() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

std::string CheckpointSigner::verifier_key() const {
  return key_ ? key_->verifier().ToString() : "";
}

std::optional<SignedCheckpoint> CheckpointSigner::Last() const {
  const MutexLock lock(mutex_);
  return last_;
}

std::vector<absl::Status> CheckpointSigner::CheckFiles() const {
  std::vector<absl::Status> damage;
  if (!key_) return damage;
  damage.push_back(CheckKeyFile(directory_, *key_));
  if (const std::optional<SignedCheckpoint> last = Last(); last) {
    damage.push_back(CheckCheckpointFile(directory_, key_->verifier(), *last));
  }
  damage.erase(std::remove(damage.begin(), damage.end(), absl::OkStatus()), damage.end());
  return damage;
}

absl::StatusOr<SignedCheckpoint> CheckpointSigner::Get(int64_t min_size, absl::Duration max_wait) {
  const int64_t head = parts_.head->position();
  if (min_size > head) {
    return MakeError(absl::StatusCode::kOutOfRange,
                     absl::StrCat("the core has ", head, " records, fewer than ", min_size),
                     "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
  }
  const absl::Time deadline = SteadyNow() + max_wait;
  const bool can_sign = parts_.guard->Check().ok();
  const MutexLock lock(mutex_);
  if (can_sign) {
    const int64_t target = min_size > 0 ? min_size : head;
    wanted_size_ = std::max(wanted_size_, target);
    changed_.SignalAll();
    while (damage_.ok() && !stopping_ && last_ && last_->checkpoint.size < target) {
      const absl::Duration left = deadline - SteadyNow();
      if (left <= absl::ZeroDuration() || !parts_.guard->Check().ok()) break;
      changed_.WaitFor(mutex_, std::min(left, absl::Milliseconds(200)));
    }
  }
  ICEPIE_RETURN_IF_ERROR(damage_);
  if (!last_)
    return parts_.guard->Check().ok() ? Damage("there is no checkpoint yet")
                                      : parts_.guard->Check();
  if (last_->checkpoint.size < min_size) {
    if (!can_sign) return parts_.guard->Check();
    return absl::DeadlineExceededError(
        absl::StrCat("checkpoints are signed up to position ", last_->checkpoint.size,
                     " so far, not yet up to ", min_size, "; ask again"));
  }
  return *last_;
}

bool CheckpointSigner::IsAsked() const { return last_ && last_->checkpoint.size < wanted_size_; }

// False when it is time to stop. Returns when somebody asks, or when the time has come.
bool CheckpointSigner::WaitForWork() {
  const absl::Duration idle = std::max(interval_ * kIdleIntervals, kIdleMin);
  const MutexLock lock(mutex_);
  const absl::Time unasked = SteadyNow() + idle;
  while (!stopping_) {
    const absl::Time now = SteadyNow();
    const absl::Time due = IsAsked() ? sign_time_ + interval_ : unasked;
    if (damage_.ok() && now >= due) return true;
    changed_.WaitFor(mutex_, damage_.ok() ? due - now : idle);
  }
  return false;
}

// Leaves the machine to others while nobody waits.
void CheckpointSigner::Pace(absl::Duration work_time) {
  const absl::Time until = SteadyNow() + work_time * kPacePerWork;
  const MutexLock lock(mutex_);
  while (!stopping_ && !IsAsked()) {
    const absl::Duration left = until - SteadyNow();
    if (left <= absl::ZeroDuration()) return;
    changed_.WaitFor(mutex_, left);
  }
}

void CheckpointSigner::Run() {
  while (WaitForWork()) {
    if (!parts_.guard->Check().ok()) {
      const MutexLock lock(mutex_);
      wanted_size_ = 0;  // a read-only core signs nothing, whoever asks
      changed_.SignalAll();
      continue;
    }
    const absl::Status status = SignUpTo(parts_.head->position());
    const MutexLock lock(mutex_);
    if (!status.ok()) {
      edge_.reset();
      spdlog::error("core: no checkpoint is signed: {}", std::string(status.message()));
      if (absl::IsDataLoss(status)) damage_ = status;
      wanted_size_ = 0;
    }
    changed_.SignalAll();
  }
}

absl::Status CheckpointSigner::SignUpTo(int64_t target) {
  const std::optional<SignedCheckpoint> last = Last();
  if (!last || !key_ || last->checkpoint.size >= target) return absl::OkStatus();
  if (!edge_) {
    TiledNodes nodes(TreeReader(*parts_.store));
    ICEPIE_ASSIGN_OR_RETURN(edge_, RightEdge(last->checkpoint.size, nodes));
    if (edge_->Root() != last->checkpoint.root) {
      return Damage(absl::StrCat("the stored tree of ", last->checkpoint.size,
                                 " records does not lead to the root that was signed for it"));
    }
  }
  while (edge_->size() < target) {
    int64_t next = std::min(target, edge_->size() + kSignRecords);
    if (mark_ && mark_->position > edge_->size()) next = std::min(next, mark_->position);
    ICEPIE_RETURN_IF_ERROR(Grow(next));
    {
      const MutexLock lock(mutex_);
      if (stopping_) return absl::OkStatus();
    }
    ICEPIE_RETURN_IF_ERROR(CompareMark());
    ICEPIE_RETURN_IF_ERROR(Sign());
  }
  return absl::OkStatus();
}

absl::Status CheckpointSigner::Grow(int64_t target) {
  StoredNodes stored(TreeReader(*parts_.store), target);
  while (edge_->size() < target) {
    const absl::Time start = SteadyNow();
    {
      const MutexLock lock(mutex_);
      if (stopping_) return absl::OkStatus();
    }
    ICEPIE_ASSIGN_OR_RETURN(
        const BlockRange range,
        ReadBlockRange(parts_.records(), target, {{}, edge_->size(), target, kChunkBytes}));
    ICEPIE_RETURN_IF_ERROR(GrowAndCompare(range, *parts_.streams, target, stored, *edge_));
    if (edge_->size() < range.complete_position) {
      return Damage(absl::StrCat("there is no record at position ", edge_->size()));
    }
    Pace(SteadyNow() - start);
  }
  return absl::OkStatus();
}

absl::Status CheckpointSigner::CompareMark() {
  if (!mark_ || !mark_->root) return absl::OkStatus();
  const int64_t position = mark_->position;
  if (position > edge_->size()) return absl::OkStatus();
  Digest root = edge_->Root();
  if (position < edge_->size()) {  // signed before
    TiledNodes nodes(TreeReader(*parts_.store));
    ICEPIE_ASSIGN_OR_RETURN(root, RootOf(position, nodes));
  }
  if (root != *mark_->root) {
    return Damage(absl::StrCat("the first ", position,
                               " records do not lead to the root that the high-water mark had for "
                               "them at the start: other records were acknowledged"));
  }
  mark_.reset();
  return absl::OkStatus();
}

void CheckpointSigner::Reached(WriteStep step) const {
  if (parts_.on_step) parts_.on_step(step);
}

absl::Status CheckpointSigner::Sign() {
  Reached(WriteStep::kHashed);
  SignedCheckpoint next;
  next.checkpoint = {key_->verifier().name(), edge_->size(), edge_->Root()};
  ICEPIE_ASSIGN_OR_RETURN(next.note, key_->Sign(EncodeCheckpoint(next.checkpoint)));
  // Nobody sees a signature that a restart would not know of.
  ICEPIE_RETURN_IF_ERROR(SaveCheckpoint(directory_, next.note));
  Reached(WriteStep::kSigned);
  const MutexLock lock(mutex_);
  last_ = std::move(next);
  sign_time_ = SteadyNow();
  changed_.SignalAll();
  return absl::OkStatus();
}

}  // namespace icepie
