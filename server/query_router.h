// Routes a question to the process that can answer it: the live worker, or the standby when the
// live one cannot. gRPC and HTTP both ask here.
#ifndef ICEPIE_SERVER_QUERY_ROUTER_H_
#define ICEPIE_SERVER_QUERY_ROUTER_H_

#include <functional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// Under way at a time, waiting ones included.
inline constexpr int kQuestionsPerDomain = 64;

// Threads: any.
// Errors: those of Slices.Query; WORKER_LOST only after the standby was tried.
class QueryRouter {
 public:
  virtual ~QueryRouter() = default;

  // Calls `done` exactly once, from any thread, at the latest a little before `deadline`. The
  // answer is whole (up to the router's own limit of bytes, far above a unary answer's), with
  // `meta` filled. A question in flight when its worker dies is asked again of the standby.
  using Done = std::function<void(absl::StatusOr<icepie::v1::QueryResponse>)>;
  virtual void Ask(const icepie::v1::QueryRequest& request, absl::Time deadline, Done done) = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_ROUTER_H_
