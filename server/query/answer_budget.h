// What answers take of the daemon's memory, from their first byte out of a worker to their last one
// into a socket: bounded for each domain and in all, so that clients that ask for much and read
// nothing end neither the daemon nor the answers of other domains.
#ifndef ICEPIE_SERVER_QUERY_ANSWER_BUDGET_H_
#define ICEPIE_SERVER_QUERY_ANSWER_BUDGET_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"

namespace icepie::server {

struct AnswerLimits {
  int64_t bytes_max = int64_t{1} << 30;
  int64_t domain_bytes_max = int64_t{256} << 20;
};

// Threads: any.
// Lifetime: shares may outlive it.
class AnswerBudget {
 public:
  // An answer that is no larger may take it from a sixteenth that is kept beyond each limit, so
  // that a few large ones do not stand in the way of all the small ones.
  static constexpr int64_t kSmallBytes = int64_t{64} << 10;

  // What one answer has taken; its end gives it back.
  class Share;

  explicit AnswerBudget(AnswerLimits limits);

  std::shared_ptr<Share> Open(const std::string& domain) const;

  // Taken now, in all.
  int64_t bytes() const;

 private:
  struct State {
    const AnswerLimits limits;
    mutable Mutex mutex;
    int64_t bytes ABSL_GUARDED_BY(mutex) = 0;
    std::map<std::string, int64_t> by_domain ABSL_GUARDED_BY(mutex);  // none that is 0
  };

  const std::shared_ptr<State> state_;
};

class AnswerBudget::Share {
 public:
  Share(std::shared_ptr<State> state, std::string domain);
  ~Share();
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  // Makes the share at least `least` bytes large, and up to `most` (no less) as far as there is
  // room; what it has then. RESOURCE_EXHAUSTED/TOO_MANY_QUERIES when others have taken what is
  // needed, RESULT_TOO_LARGE when it could not be had without them either; the share is as it was
  // then.
  absl::StatusOr<int64_t> Grow(int64_t least, int64_t most);

 private:
  const std::shared_ptr<State> state_;
  const std::string domain_;
  int64_t bytes_ = 0;  // changed under the state's mutex
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_ANSWER_BUDGET_H_
