#include "core/base/write_pacer.h"

#include <algorithm>
#include <iterator>

namespace icepie {

absl::Duration WritePacer::Next(uint64_t writer, int64_t bytes, absl::Time now) {
  const MutexLock lock(mutex_);
  for (auto at = due_.begin(); at != due_.end();) {
    at = at->second <= now ? due_.erase(at) : std::next(at);
  }
  const auto waiting = due_.find(writer);
  if (waiting != due_.end()) return waiting->second - now;
  free_at_ = std::max(free_at_, now);
  const absl::Duration wait = free_at_ - now;
  if (wait >= kWaitMax) return kWaitMax;
  const auto taken = static_cast<double>(std::clamp<int64_t>(bytes, 0, kPieceBytesMax));
  due_[writer] = free_at_;
  free_at_ += absl::Seconds(taken / static_cast<double>(bytes_per_second_));
  return wait;
}

}  // namespace icepie
