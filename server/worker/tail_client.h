// The feed of a worker: sealed records from the segment files, read here, and the tail from the
// daemon, over Host.Tail, which also says which files those are and keeps them meanwhile. And its
// turns to write, over Host.PaceWrite.
#ifndef ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_
#define ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "icepie/worker/v1/worker.grpc.pb.h"
#include "slices/apply/feed.h"

namespace icepie::server {

// A connection with the daemon's Unix socket, made before the sandbox, which forbids connecting.
absl::StatusOr<int> ConnectToHost(const std::string& socket);

// Threads: any.
// Errors: the readers' are those of the stream, and DATA_LOSS for damaged segments; the caller
// opens anew where it stands.
class TailClient : public slices::Feed {
 public:
  // Takes `host`, a connection with the daemon; once that is gone, every call fails. What is in
  // `core_directory`, the core's, is read there; empty: everything comes over the connection.
  TailClient(int host, std::string core_directory);

  std::unique_ptr<slices::FeedReader> Open(const std::vector<std::string>& streams, int64_t from,
                                           std::optional<int64_t> end) override;

  // How long to wait before `bytes` more of a snapshot are written. A daemon that does not say is
  // not waited for: UNAVAILABLE or DEADLINE_EXCEEDED.
  absl::StatusOr<absl::Duration> PaceWrite(int64_t bytes);

 private:
  const std::string core_directory_;
  std::unique_ptr<icepie::worker::v1::Host::Stub> stub_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_TAIL_CLIENT_H_
