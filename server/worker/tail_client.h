// The feed of records from the daemon, over Host.Tail.
#ifndef ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_
#define ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "icepie/worker/v1/worker.grpc.pb.h"
#include "slices/feed.h"

namespace icepie::server {

// Threads: any.
// Errors: the readers' are those of the stream; the caller opens anew where it stands.
class TailClient : public slices::Feed {
 public:
  // `host_socket` is the path of the daemon's Unix socket.
  explicit TailClient(const std::string& host_socket);

  std::unique_ptr<slices::FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                           std::optional<int64_t> end) override;

 private:
  std::unique_ptr<icepie::worker::v1::Host::Stub> stub_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_
