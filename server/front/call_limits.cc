#include "server/front/call_limits.h"

#include <grpc/grpc.h>
#include <grpcpp/server_context.h>

#include "absl/strings/str_cat.h"
#include "core/base/steady_clock.h"
#include "server/front/peer_host.h"

namespace icepie::server {
namespace {

constexpr absl::Duration kWindow = absl::Seconds(1);

}  // namespace

// One call, for as long as gRPC holds it.
class CallLimits::Call : public grpc::experimental::Interceptor {
 public:
  Call(CallLimits& limits, const grpc::experimental::ServerRpcInfo& info,
       grpc::ServerContextBase& context)
      : limits_(limits),
        context_(context),
        is_unary_(info.type() == grpc::experimental::ServerRpcInfo::Type::UNARY),
        admitted_(limits.Open()) {}
  ~Call() override { limits_.Close(); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      if (limits_.on_call_) limits_.on_call_(context_);
      if (!admitted_) Refuse();
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_CLOSE) && admitted_ &&
        can_be_asked_ && context_.IsCancelled()) {
      const bool short_lived = SteadyNow() - opened_ < kWindow;
      limits_.OnReset(short_lived ? PeerOf(context_.peer()).host : "");
    }
    methods->Proceed();
  }

 private:
  // An interceptor cannot keep gRPC from running what serves the call: ending the call first is all
  // that it can do, with a code and a text, but no details. What serves a streaming call comes upon
  // the end with its first step, so whoever made it may make it again. One that is not has come
  // with its message, and what serves it may carry it out with nobody to answer to: nothing is
  // promised of it.
  void Refuse() {
    const std::string why =
        absl::StrCat("TOO_MANY_CALLS: ", limits_.limits_.open_calls_max,
                     " calls are open, the most that the server keeps; try again in a second");
    grpc_call_cancel_with_status(
        context_.c_call(), is_unary_ ? GRPC_STATUS_CANCELLED : GRPC_STATUS_RESOURCE_EXHAUSTED,
        (is_unary_ ? why + ", but this call may have been carried out" : why).c_str(), nullptr);
  }

  CallLimits& limits_;
  grpc::ServerContextBase& context_;
  const bool is_unary_;
  const bool admitted_;
  // Whether its client gave it up. A call of the blocking interface, which gRPC's reflection has,
  // runs this very interceptor to find out, and that without end where the call's own queue has
  // just been shut down.
  const bool can_be_asked_ = dynamic_cast<grpc::CallbackServerContext*>(&context_) != nullptr;
  const absl::Time opened_ = SteadyNow();
};

grpc::experimental::Interceptor* CallLimits::CreateServerInterceptor(
    grpc::experimental::ServerRpcInfo* info) {
  return new Call(*this, *info, *info->server_context());
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
