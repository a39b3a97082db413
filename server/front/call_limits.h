// Bounds what calls can cost that gRPC 1.51 does not bound: a call that is open holds about 12 KiB,
// and one that was reset 20 KiB until it is cleaned up, which gRPC puts off while it has more to
// read. GRPC_ARG_MAX_CONCURRENT_STREAMS limits one connection only, and does not count resets.
#ifndef ICEPIE_SERVER_FRONT_CALL_LIMITS_H_
#define ICEPIE_SERVER_FRONT_CALL_LIMITS_H_

#include <grpcpp/support/server_interceptor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie::server {

// Sees how each call of a server begins and ends. One too many ends with the word TOO_MANY_CALLS:
// RESOURCE_EXHAUSTED where it streams, CANCELLED where it does not and may have been carried out.
// Threads: any.
class CallLimits : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  struct Limits {
    int open_calls_max = 16384;  // of all connections; one more is ended at once
    // Given up by clients within a second; each so many: on_flood. Of the callback interface alone.
    int resets_max = 2048;
  };

  // `on_flood` gets the host (server/front/peer_host.h) of whose calls they were when so many were
  // one host's and none had been open for a second, else "": it finds out by itself.
  using OnFlood = std::function<void(const std::string& host)>;
  // `on_call` gets each call that has come, before anybody answers it.
  using OnCall = std::function<void(const grpc::ServerContextBase&)>;
  CallLimits(Limits limits, OnFlood on_flood, OnCall on_call = nullptr)
      : limits_(limits), on_flood_(std::move(on_flood)), on_call_(std::move(on_call)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override;

 private:
  class Call;

  bool Open() { return ++open_calls_ <= limits_.open_calls_max; }
  void Close() { --open_calls_; }
  void OnReset(const std::string& host);

  const Limits limits_;
  const OnFlood on_flood_;
  const OnCall on_call_;
  std::atomic<int> open_calls_{0};
  Mutex mutex_;
  absl::Time counted_since_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int resets_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, int> resets_by_host_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_FRONT_CALL_LIMITS_H_
