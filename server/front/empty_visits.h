// Finds hosts that connect again and again and ask nothing. A client that breaks the rules of
// HTTP/2, with a flood of pings or of settings, is closed by gRPC after a few frames; what it costs
// others is that it comes again at once, hundreds of times a second.
#ifndef ICEPIE_SERVER_FRONT_EMPTY_VISITS_H_
#define ICEPIE_SERVER_FRONT_EMPTY_VISITS_H_

#include <atomic>
#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/front/peer_host.h"

namespace icepie::server {

// Counts, for each host, connections that came and went within kVisit and made no call.
// Threads: any. Times are the caller's, of one clock.
class EmptyVisits {
 public:
  static constexpr absl::Duration kVisit = absl::Seconds(1);
  // Those of one host within a second. Who breaks the rules comes hundreds of times; who only looks
  // whether the port is open, less often, also where many do so from behind one address.
  static constexpr int kVisitsMax = 100;

  void OnCome(const Peer& peer, absl::Time now);
  // `endpoint` as in Peer; unknown ones are passed over.
  void OnCall(const std::string& endpoint);
  // True with each kVisitsMax of the host within a second.
  bool OnGone(const Peer& peer, absl::Time now);

  // Forgets the connections that came earlier than kVisit ago.
  void ForgetOld(absl::Time now);
  // Whether there is one that is not forgotten: without, nobody needs to tell of calls.
  bool HasNew() const { return new_count_.load(std::memory_order_relaxed) > 0; }

 private:
  struct Visit {
    absl::Time come;
    bool made_call = false;
  };

  void ForgetBefore(absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  absl::flat_hash_map<std::string, Visit> visits_ ABSL_GUARDED_BY(mutex_);  // by endpoint
  std::deque<std::pair<absl::Time, std::string>> by_time_ ABSL_GUARDED_BY(mutex_);
  absl::Time counted_since_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::flat_hash_map<std::string, int> empty_by_host_ ABSL_GUARDED_BY(mutex_);
  std::atomic<size_t> new_count_{0};
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_EMPTY_VISITS_H_
