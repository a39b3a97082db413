// HTTP for dashboards, auditors and simple producers: rows of slices and queries as JSON, /healthz,
// /readyz and /metrics, the core's signed checkpoint and tiles, appending.
// Boost.Beast behind it; paths, parameters and headers are those of API.md, section 4.
#ifndef ICEPIE_SERVER_HTTP_HTTP_SERVER_H_
#define ICEPIE_SERVER_HTTP_HTTP_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"
#include "server/http/append_body.h"
#include "server/http/tree_files.h"
#include "server/query/query_router.h"

namespace icepie::server {

// Beast sets no limit by itself; each of these has a test that runs into it.
struct HttpLimits {
  uint32_t header_bytes_max = 16 * 1024;             // 431 beyond it
  size_t target_bytes_max = 8 * 1024;                // 414
  uint64_t body_bytes_max = 256 * 1024;              // 413
  absl::Duration read_timeout = absl::Seconds(10);   // from a request's first byte to its last
  absl::Duration idle_timeout = absl::Seconds(75);   // between two requests
  absl::Duration write_timeout = absl::Seconds(30);  // for a client to take one answer
  absl::Duration query_timeout = absl::Seconds(30);  // given to the router
  int connections_max = 512;                         // 503 beyond it
};

// Threads: any; it has two of its own. `status`, `tree`, `append` and `router` are called from
// them, and answers of `append` and `router` may come from any thread. Lifetime: router and
// whatever the others refer to outlive the server; answers that come after Stop are dropped.
class HttpServer {
 public:
  using StatusSource = std::function<icepie::v1::ServerStatus()>;

  // Listens on `address` ("127.0.0.1:7421"; port 0 picks a free one) and answers from now on.
  // INVALID_ARGUMENT for an address that is none, UNAVAILABLE when it is taken.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           QueryRouter& router, StatusSource status,
                                                           TreeFiles tree, AppendSink append,
                                                           const HttpLimits& limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port that it listens on.
  int port() const;

  // /readyz says no from now on; everything else goes on.
  void Drain();

  // Closes every connection and ends the threads. Idempotent.
  void Stop();

 private:
  class Listener;
  explicit HttpServer(std::unique_ptr<Listener> listener);
  std::unique_ptr<Listener> listener_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_HTTP_SERVER_H_
