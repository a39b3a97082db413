#include "server/call_limits.h"

#include <grpcpp/server_context.h>

#include "core/base/steady_clock.h"

namespace icepie::server {

// One call, for as long as gRPC holds it.
class CallLimits::Call : public grpc::experimental::Interceptor {
 public:
  Call(CallLimits& limits, grpc::ServerContextBase& context)
      : limits_(limits), context_(context), admitted_(limits.Open()) {}
  ~Call() override { limits_.Close(); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (!admitted_ &&
        methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      context_.TryCancel();
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) && admitted_ &&
        context_.IsCancelled()) {
      limits_.OnReset();
    }
    methods->Proceed();
  }

 private:
  CallLimits& limits_;
  grpc::ServerContextBase& context_;
  const bool admitted_;
};

grpc::experimental::Interceptor* CallLimits::CreateServerInterceptor(
    grpc::experimental::ServerRpcInfo* info) {
  return new Call(*this, *info->server_context());
}

void CallLimits::OnReset() {
  {
    MutexLock lock(mutex_);
    const absl::Time now = SteadyNow();
    if (now - counted_since_ >= absl::Seconds(1)) {
      counted_since_ = now;
      resets_ = 0;
    }
    if (++resets_ % limits_.resets_max != 0) return;
  }
  on_flood_();
}

}  // namespace icepie::server
