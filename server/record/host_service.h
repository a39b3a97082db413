// The daemon's side of the private socket: hands the core's blocks to workers, and each its turn to
// write.
#ifndef ICEPIE_SERVER_RECORD_HOST_SERVICE_H_
#define ICEPIE_SERVER_RECORD_HOST_SERVICE_H_

#include "core/base/write_pacer.h"
#include "core/core.h"
#include "icepie/worker/v1/worker.grpc.pb.h"
#include "server/record/feed_scheduler.h"

namespace icepie::server {

// Threads: gRPC's; reading is done by two threads of its own, for any number of tails.
// Lifetime: the core outlives it; the gRPC server that serves it is shut down before.
class HostService final : public icepie::worker::v1::Host::CallbackService {
 public:
  explicit HostService(Core* core, int64_t write_bytes_per_second = int64_t{64} << 20);

  // Blocks are forwarded as stored, about 2 MiB a message at most. The first message comes at once,
  // blocks as soon as they are committed (a message a millisecond), and progress of the head alone
  // every 50 ms at most. A worker that reads segments itself gets their names instead of blocks,
  // and blocks only from the sealed position on; it goes over to segments again should it fall
  // behind. A wanted stream that does not exist yet is empty until it does. A worker may take as
  // long as it likes for a message, since it works through segments meanwhile; one that hangs is
  // ended by the supervisor, and its tails and their leases with it.
  grpc::ServerWriteReactor<icepie::worker::v1::TailResponse>* Tail(
      grpc::CallbackServerContext* context,
      const icepie::worker::v1::TailRequest* request) override;

  grpc::ServerUnaryReactor* PaceWrite(grpc::CallbackServerContext* context,
                                      const icepie::worker::v1::PaceWriteRequest* request,
                                      icepie::worker::v1::PaceWriteResponse* response) override;

 private:
  Core* const core_;
  FeedScheduler scheduler_;
  WritePacer pacer_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_HOST_SERVICE_H_
