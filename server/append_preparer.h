// Where the batches of appends are checked, hashed and compressed before the core's sequencer takes
// them: small ones at once, in gRPC's thread, and large ones in threads of their own, so that a
// flood of them does not stand in the way of every other call.
#ifndef ICEPIE_SERVER_APPEND_PREPARER_H_
#define ICEPIE_SERVER_APPEND_PREPARER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "icepie/v1/core.pb.h"
#include "server/fair_executor.h"

namespace icepie::server {

// Threads: any.
// Lifetime: the destructor runs what waits.
class AppendPreparer {
 public:
  AppendPreparer();

  // Runs `append` for a request of `bytes`: before it returns, or later and in another thread.
  // RESOURCE_EXHAUSTED/APPEND_QUEUE_FULL when too many of its stream wait; it then never runs.
  absl::Status Run(const icepie::v1::AppendRecordsRequest& request, int64_t bytes,
                   std::function<void()> append);

 private:
  FairExecutor executor_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_APPEND_PREPARER_H_
