// How many questions read each slice, and how long they took: of the last 10 to 20 seconds.
#ifndef ICEPIE_SERVER_QUERY_QUERY_METER_H_
#define ICEPIE_SERVER_QUERY_QUERY_METER_H_

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// Durations in buckets of which each is a quarter of a power of two wide, from 1 µs to over an
// hour: a quantile is known within 10 percent.
class LatencyCounts {
 public:
  void Add(absl::Duration took);
  void Add(const LatencyCounts& other);
  void Clear();
  int64_t count() const { return count_; }
  // In microseconds, `share` from 0 to 1; 0 when there are none.
  int64_t Quantile(double share) const;

 private:
  static constexpr int kBuckets = 32 * 4;
  std::array<uint32_t, kBuckets> buckets_{};
  int64_t count_ = 0;
};

// Threads: any.
class QueryMeter {
 public:
  static constexpr absl::Duration kSpan = absl::Seconds(10);

  // A question that read `slice` ("domain.slice") was answered.
  void Add(const std::string& slice, bool ok, absl::Duration took, absl::Time now);
  icepie::v1::QueryLoad Load(const std::string& slice, absl::Time now) const;
  // Forgets all others.
  void KeepOnly(const std::set<std::string>& slices);

 private:
  struct Counts {
    int64_t total = 0;
    int64_t errors = 0;
    absl::Time span_begin = absl::InfinitePast();
    LatencyCounts span;    // since span_begin
    LatencyCounts before;  // in the span before
    // Begins a new span when the old one is over.
    void Turn(absl::Time now);
  };

  mutable Mutex mutex_;
  mutable std::map<std::string, Counts> slices_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_METER_H_
