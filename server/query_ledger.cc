#include "server/query_ledger.h"

#include <algorithm>

namespace icepie::server {

std::optional<absl::Time> QueryLedger::BlockedUntil(const std::string& fingerprint,
                                                    absl::Time now) const {
  const MutexLock lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  const auto found = entries_.find(fingerprint);
  if (found == entries_.end() || found->second.until <= now) return std::nullopt;
  return found->second.until;
}

void QueryLedger::OnAnswered(const std::string& fingerprint) {
  const MutexLock lock(mutex_);
  if (entries_.empty()) return;
  const auto found = entries_.find(fingerprint);
  if (found == entries_.end()) return;
  found->second.points = found->second.points_blamed;
  if (found->second.points == 0 && found->second.blocks == 0) entries_.erase(found);
}

void QueryLedger::DropOldest() {
  const auto oldest =
      std::min_element(entries_.begin(), entries_.end(),
                       [](const auto& a, const auto& b) { return a.second.last < b.second.last; });
  entries_.erase(oldest);
}

bool QueryLedger::OnDeath(const std::string& fingerprint, bool blamed, absl::Time now) {
  const MutexLock lock(mutex_);
  Entry& entry = entries_[fingerprint];
  if (now - entry.last > kBlockMax) entry.points = entry.points_blamed = 0;  // long ago
  entry.last = now;
  entry.points += blamed ? kPointsOfBlamed : 1;
  if (blamed) entry.points_blamed += kPointsOfBlamed;
  const bool block = entry.points >= kPointsToBlock;
  if (block) {
    const absl::Duration longer = kBlockFor * (1 << std::min(entry.blocks, 10));
    entry.until = now + std::min(longer, kBlockMax);
    ++entry.blocks;
    // When it is tried again, it has one chance.
    entry.points = entry.points_blamed = kPointsToBlock - kPointsOfBlamed;
  }
  if (entries_.size() > kEntriesMax) DropOldest();
  return block;
}

}  // namespace icepie::server
