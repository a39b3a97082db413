// Which path asks for what. Knows nothing of sockets, so that its tests need none.
#ifndef ICEPIE_SERVER_HTTP_ROUTES_H_
#define ICEPIE_SERVER_HTTP_ROUTES_H_

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "server/http/append_body.h"
#include "server/http/http_message.h"
#include "server/http/http_target.h"
#include "server/http/tree_files.h"
#include "server/query/query_router.h"

namespace icepie::server {

// Threads: any.
// Lifetime: the router outlives it.
class Routes {
 public:
  using Done = std::function<void(HttpAnswer)>;
  using StatusSource = std::function<icepie::v1::ServerStatus()>;

  Routes(QueryRouter& router, StatusSource status, TreeFiles tree, AppendSink append,
         absl::Duration query_timeout)
      : router_(router),
        status_(std::move(status)),
        tree_(std::move(tree)),
        append_(std::move(append)),
        query_timeout_(query_timeout) {}

  // Calls `done` exactly once, at once or later and from any thread. HEAD is answered as GET; the
  // body is left out on the wire. The result is to be called when the client has gone before that;
  // null: the work is done whether it is there or not.
  QueryRouter::CallOff Handle(const HttpRequest& request, Done done) const;

  // Not ready any more: the daemon is about to stop.
  void Drain() { draining_ = true; }

 private:
  QueryRouter::CallOff Rows(const HttpRequest& request, const HttpTarget& target, Done done) const;
  QueryRouter::CallOff Query(const HttpRequest& request, const HttpTarget& target, Done done) const;
  void Append(const HttpRequest& request, const HttpTarget& target, Done done) const;
  QueryRouter::CallOff Post(const HttpRequest& request, const HttpTarget& target, Done done) const;
  QueryRouter::CallOff Ask(const icepie::v1::QueryRequest& query, const std::string& if_none_match,
                           Done done) const;
  absl::StatusOr<icepie::v1::QueryRequest> RowsQuery(const HttpTarget& target) const;
  absl::StatusOr<icepie::v1::Slice> FindSlice(const std::string& domain,
                                              const std::string& slice_name) const;
  HttpAnswer Ready() const;

  QueryRouter& router_;
  const StatusSource status_;
  const TreeFiles tree_;
  const AppendSink append_;
  const absl::Duration query_timeout_;
  std::atomic<bool> draining_{false};
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_ROUTES_H_
