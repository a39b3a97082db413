#include "server/front/empty_visits.h"

namespace icepie::server {

void EmptyVisits::OnCome(const Peer& peer, absl::Time now) {
  if (peer.endpoint.empty()) return;
  MutexLock lock(mutex_);
  visits_[peer.endpoint] = {now};  // of one that had the same port before, nobody asks any more
  by_time_.emplace_back(now, peer.endpoint);
  new_count_.store(by_time_.size(), std::memory_order_relaxed);
}

void EmptyVisits::OnCall(const std::string& endpoint) {
  MutexLock lock(mutex_);
  const auto visit = visits_.find(endpoint);
  if (visit != visits_.end()) visit->second.made_call = true;
}

bool EmptyVisits::OnGone(const Peer& peer, absl::Time now) {
  MutexLock lock(mutex_);
  ForgetBefore(now - kVisit);
  const auto visit = visits_.find(peer.endpoint);
  if (visit == visits_.end()) return false;
  const bool was_empty = !visit->second.made_call;
  visits_.erase(visit);
  if (!was_empty) return false;
  if (now - counted_since_ >= kVisit) {
    counted_since_ = now;
    empty_by_host_.clear();
  }
  return ++empty_by_host_[peer.host] % kVisitsMax == 0;
}

void EmptyVisits::ForgetOld(absl::Time now) {
  MutexLock lock(mutex_);
  ForgetBefore(now - kVisit);
}

void EmptyVisits::ForgetBefore(absl::Time time) {
  for (; !by_time_.empty() && by_time_.front().first < time; by_time_.pop_front()) {
    const auto visit = visits_.find(by_time_.front().second);
    if (visit != visits_.end() && visit->second.come < time) visits_.erase(visit);
  }
  new_count_.store(by_time_.size(), std::memory_order_relaxed);
}

}  // namespace icepie::server
