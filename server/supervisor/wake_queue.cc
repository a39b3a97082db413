#include "server/supervisor/wake_queue.h"

#include <algorithm>

namespace icepie::server {

void WakeQueue::Begin(absl::Time now) {
  ++round_;
  now_ = now;
  awake_ = 0;
  leaving_ = 0;
  stuck_ = 0;
  idle_.clear();
  over_.clear();
  for (auto& [domain, waiting] : waiting_) waiting.wanted = false;
}

void WakeQueue::Awake(const std::string& domain, Work work, absl::Time since) {
  const bool is_over = now_ - since >= turn_;
  if (work == Work::kCannotRest && is_over) {
    ++stuck_;
    return;
  }
  ++awake_;
  if (work == Work::kNothing) idle_.emplace_back(since, domain);
  if (work == Work::kRecords && is_over) over_.emplace_back(since, domain);
}

void WakeQueue::Want(const std::string& domain) {
  waiting_.try_emplace(domain, Waiting{round_, true}).first->second.wanted = true;
}

// Without those that are wanted no more.
std::vector<std::pair<int64_t, std::string>> WakeQueue::WaitingInOrder() {
  std::vector<std::pair<int64_t, std::string>> line;
  for (auto each = waiting_.begin(); each != waiting_.end();) {
    if (!each->second.wanted) {
      each = waiting_.erase(each);
      continue;
    }
    line.emplace_back(each->second.round, each->first);
    ++each;
  }
  std::sort(line.begin(), line.end());
  return line;
}

WakeQueue::Turns WakeQueue::End() {
  Turns turns;
  const auto line = WaitingInOrder();
  const int reserve = std::max(1, awake_max_ / 4);
  const int staying = awake_ + std::min(stuck_, std::max(0, awake_max_ - reserve));
  const int room = awake_max_ - staying - leaving_;
  int woken = 0;
  for (const auto& [round, domain] : line) {
    if (awake_max_ == 0 || woken < room) {
      ++woken;
      waiting_.erase(domain);
      turns.wake.push_back(domain);
    } else if (round == round_) {
      turns.wait.push_back(domain);
    }
  }
  if (awake_max_ == 0) return turns;
  turns.crowded = !waiting_.empty();
  // Places of those that are leaving are free soon.
  const int places = staying + woken + static_cast<int>(waiting_.size());
  std::sort(idle_.begin(), idle_.end());
  std::sort(over_.begin(), over_.end());
  idle_.insert(idle_.end(), over_.begin(), over_.end());
  for (const auto& [since, domain] : idle_) {
    if (static_cast<int>(turns.rest.size()) >= places - awake_max_) break;
    turns.rest.push_back(domain);
  }
  return turns;
}

int AwakeMaxByMemory(int64_t memory_bytes) {
  constexpr int64_t kBytesEach = int64_t{2} * (int64_t{64} << 20);
  return static_cast<int>(std::clamp<int64_t>(memory_bytes / 2 / kBytesEach, 8, 1 << 20));
}

}  // namespace icepie::server
