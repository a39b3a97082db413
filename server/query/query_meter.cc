#include "server/query/query_meter.h"

#include <algorithm>
#include <cmath>

namespace icepie::server {

void LatencyCounts::Add(absl::Duration took) {
  const double us = std::max(1.0, absl::ToDoubleMicroseconds(took));
  const int bucket = std::min(kBuckets - 1, static_cast<int>(std::log2(us) * 4));
  ++buckets_.at(static_cast<size_t>(bucket));
  ++count_;
}

void LatencyCounts::Add(const LatencyCounts& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_.at(i) += other.buckets_.at(i);
  count_ += other.count_;
}

void LatencyCounts::Clear() { *this = LatencyCounts(); }

int64_t LatencyCounts::Quantile(double share) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(count_)));
  int64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_.at(i);
    // The bucket's middle.
    if (seen >= wanted) return std::llround(std::exp2((static_cast<double>(i) + 0.5) / 4));
  }
  return 0;
}

void QueryMeter::Counts::Turn(absl::Time now) {
  if (now - span_begin < kSpan) return;
  const bool is_next = now - span_begin < 2 * kSpan;
  before = is_next ? span : LatencyCounts();
  span.Clear();
  span_begin = is_next ? span_begin + kSpan : now;
}

void QueryMeter::Add(const std::string& slice, bool ok, absl::Duration took, absl::Time now) {
  const MutexLock lock(mutex_);
  Counts& counts = slices_[slice];
  counts.Turn(now);
  ++counts.total;
  if (!ok) ++counts.errors;
  counts.span.Add(took);
}

icepie::v1::QueryLoad QueryMeter::Load(const std::string& slice, absl::Time now) const {
  icepie::v1::QueryLoad load;
  const MutexLock lock(mutex_);
  auto found = slices_.find(slice);
  if (found == slices_.end()) return load;
  Counts& counts = found->second;
  counts.Turn(now);
  LatencyCounts recent = counts.before;
  recent.Add(counts.span);
  const absl::Duration span = std::max(absl::Seconds(1), now - counts.span_begin) +
                              (counts.before.count() > 0 ? kSpan : absl::ZeroDuration());
  load.set_total(counts.total);
  load.set_errors(counts.errors);
  load.set_per_second(static_cast<double>(recent.count()) / absl::ToDoubleSeconds(span));
  load.set_p50_us(recent.Quantile(0.5));
  load.set_p99_us(recent.Quantile(0.99));
  return load;
}

void QueryMeter::KeepOnly(const std::set<std::string>& slices) {
  const MutexLock lock(mutex_);
  for (auto it = slices_.begin(); it != slices_.end();) {
    it = slices.count(it->first) > 0 ? std::next(it) : slices_.erase(it);
  }
}

}  // namespace icepie::server
