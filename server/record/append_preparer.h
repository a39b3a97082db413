// Where the batches of appends are decoded, checked, hashed and compressed before the core's
// sequencer takes them: small ones at once, in gRPC's thread, and large ones in threads of their
// own, so that a flood of them does not stand in the way of every other call. gRPC has two threads
// for all of them on two processors, so it hands out appends as bytes.
#ifndef ICEPIE_SERVER_RECORD_APPEND_PREPARER_H_
#define ICEPIE_SERVER_RECORD_APPEND_PREPARER_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"
#include "server/base/fair_executor.h"

namespace icepie::server {

// The connection that a call came by, for AppendBatch::peer.
uint64_t PeerOf(const grpc::CallbackServerContext& context);

// The answer to an append as it is sent.
grpc::ByteBuffer ResponseBytes(const AppendResult& result);

// Threads: any.
// Lifetime: the destructor runs what waits.
class AppendPreparer {
 public:
  AppendPreparer();

  // Decodes `bytes` and runs `append` with the batch, of `peer`, or why there is none: before it
  // returns, or later and in another thread. RESOURCE_EXHAUSTED/APPEND_QUEUE_FULL when too many of
  // its peer or stream wait; it then never runs.
  using Append = std::function<void(absl::StatusOr<AppendBatch>)>;
  absl::Status Run(const grpc::ByteBuffer& bytes, uint64_t peer, Append append);
  absl::Status Run(icepie::v1::AppendRecordsRequest request, uint64_t peer, Append append);

 private:
  absl::Status RunLater(uint64_t peer, const std::string& stream, int64_t bytes,
                        std::function<void()> append);

  FairExecutor executor_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_APPEND_PREPARER_H_
