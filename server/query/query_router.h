// Routes a question to the process that can answer it: the live worker, or the standby when the
// live one cannot. gRPC and HTTP both ask here.
#ifndef ICEPIE_SERVER_QUERY_QUERY_ROUTER_H_
#define ICEPIE_SERVER_QUERY_QUERY_ROUTER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// Under way at a time, waiting ones included.
inline constexpr int kQuestionsPerDomain = 64;

// The largest answer that is collected at all.
inline constexpr int64_t kAnswerBytesMax = int64_t{256} << 20;

// As long as it lives, the answer's bytes count against what answers may take of the daemon's
// memory (answer_budget.h): whoever writes the answer out keeps it until that is done.
using AnswerHold = std::shared_ptr<const void>;

// Threads: any.
// Errors: those of Slices.Query; WORKER_LOST only after the standby was tried.
class QueryRouter {
 public:
  virtual ~QueryRouter() = default;

  // Calls `done` exactly once, from any thread, at the latest a little before `deadline`. The
  // answer is whole, with `meta` filled; RESULT_TOO_LARGE when its rows have more than `bytes_max`
  // bytes. A question in flight when its worker dies is asked again of the standby.
  //
  // The result tells that nobody waits for the answer any more: what is done for it ends, and
  // `done` is called soon with CANCELLED or what has just come. After `done` it does nothing, and
  // may be null. Any thread, not after the router's end.
  using Done = std::function<void(absl::StatusOr<icepie::v1::QueryResponse>, AnswerHold)>;
  using CallOff = std::function<void()>;
  virtual CallOff Ask(const icepie::v1::QueryRequest& request, absl::Time deadline,
                      int64_t bytes_max, Done done) = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_ROUTER_H_
