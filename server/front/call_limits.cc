#include "server/front/call_limits.h"

#include <grpcpp/server_context.h>

#include "core/base/steady_clock.h"
#include "server/front/peer_host.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);

}  // namespace

// One call, for as long as gRPC holds it.
class CallLimits::Call : public grpc::experimental::Interceptor {
 public:
  Call(CallLimits& limits, grpc::ServerContextBase& context)
      : limits_(limits), context_(context), admitted_(limits.Open()) {}
  ~Call() override { limits_.Close(); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      if (limits_.on_call_) limits_.on_call_(context_);
      if (!admitted_) context_.TryCancel();
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) && admitted_ &&
        can_be_asked_ && context_.IsCancelled()) {
      const bool short_lived = SteadyNow() - opened_ < kWindow;
      limits_.OnReset(short_lived ? PeerOf(context_.peer()).host : "");
    }
    methods->Proceed();
  }

 private:
  CallLimits& limits_;
  grpc::ServerContextBase& context_;
  const bool admitted_;
  // Whether its client gave it up. A call of the blocking interface, which gRPC's reflection has,
  // runs this very interceptor to find out, and that without end where the call's own queue has
  // just been shut down.
  const bool can_be_asked_ = dynamic_cast<grpc::CallbackServerContext*>(&context_) != nullptr;
  const absl::Time opened_ = SteadyNow();
};

grpc::experimental::Interceptor* CallLimits::CreateServerInterceptor(
    grpc::experimental::ServerRpcInfo* info) {
  return new Call(*this, *info->server_context());
}

void CallLimits::OnReset(const std::string& host) {
  bool of_host = false;
  {
    MutexLock lock(mutex_);
    const absl::Time now = SteadyNow();
    if (now - counted_since_ >= kWindow) {
      counted_since_ = now;
      resets_ = 0;
      resets_by_host_.clear();
    }
    of_host = !host.empty() && ++resets_by_host_[host] % limits_.resets_max == 0;
    if (++resets_ % limits_.resets_max != 0 && !of_host) return;
  }
  on_flood_(of_host ? host : "");
}

}  // namespace icepie::server
