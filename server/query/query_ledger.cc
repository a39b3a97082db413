#include "server/query/query_ledger.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

// A dying worker may have named anything.
bool IsPlainWord(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

}  // namespace

QueryLedger::QueryLedger(std::string file) : file_(std::move(file)) {
  const MutexLock lock(mutex_);
  if (!file_.empty()) Read();
}

void QueryLedger::Read() {
  std::ifstream file(file_);
  std::string fingerprint;
  Entry entry;
  int64_t last = 0;
  int64_t until = 0;
  while (entries_.size() < kEntriesMax &&
         file >> fingerprint >> entry.points_blamed >> entry.blocks >> last >> until) {
    entry.points = entry.points_blamed;
    entry.last = absl::FromUnixMicros(last);
    entry.until = absl::FromUnixMicros(until);
    entries_[fingerprint] = entry;
  }
}

std::string QueryLedger::Lines() const {
  std::string lines;
  const MutexLock lock(mutex_);
  for (const auto& [fingerprint, entry] : entries_) {
    if (entry.points_blamed == 0 && entry.blocks == 0) continue;
    if (!IsPlainWord(fingerprint)) continue;
    absl::StrAppend(&lines, fingerprint, " ", entry.points_blamed, " ", entry.blocks, " ",
                    absl::ToUnixMicros(entry.last), " ", absl::ToUnixMicros(entry.until), "\n");
  }
  return lines;
}

void QueryLedger::Write() {
  if (file_.empty()) return;
  const MutexLock one_at_a_time(writing_);
  const std::string temporary = absl::StrCat(file_, ".tmp");
  std::ofstream file(temporary, std::ios::trunc);
  file << Lines() << std::flush;
  if (file.good() && std::rename(temporary.c_str(), file_.c_str()) == 0) return;
  spdlog::warn("which queries ended workers is forgotten with this daemon: {}",
               ErrnoError(errno, file_).ToString());
}

std::optional<absl::Time> QueryLedger::BlockedUntil(const std::string& fingerprint,
                                                    absl::Time now) const {
  const MutexLock lock(mutex_);
  if (entries_.empty()) return std::nullopt;
  const auto found = entries_.find(fingerprint);
  if (found == entries_.end()) return std::nullopt;
  const absl::Time until = found->second.until;
  // None lasts longer: the clock was set back.
  if (until <= now || until - now > kBlockMax) return std::nullopt;
  return until;
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
  const bool block = Count(fingerprint, blamed, now);
  if (blamed || block) Write();
  return block;
}

bool QueryLedger::Count(const std::string& fingerprint, bool blamed, absl::Time now) {
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
