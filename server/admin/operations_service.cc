#include "server/admin/operations_service.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "core/base/utf8.h"
#include "server/base/call_metadata.h"
#include "server/base/proto_time.h"
#include "server/base/unary_on.h"

namespace icepie::server {
namespace {

namespace lro = google::longrunning;
using google::protobuf::Empty;

constexpr absl::Duration kWaitMax = absl::Seconds(60);

// The standard requests have no place for who asks.
std::string ActorOf(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(kActorMetadata);
  if (found == metadata.end()) return "";
  std::string actor(found->second.data(), found->second.size());
  return IsUtf8(actor) ? actor : "";  // as any other actor, a text
}

}  // namespace

grpc::ServerUnaryReactor* OperationsService::ListOperations(
    grpc::CallbackServerContext* context, const lro::ListOperationsRequest* request,
    lro::ListOperationsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, builds_.List(*request), response);
  return reactor;
}

grpc::ServerUnaryReactor* OperationsService::GetOperation(grpc::CallbackServerContext* context,
                                                          const lro::GetOperationRequest* request,
                                                          lro::Operation* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  FinishWith(reactor, builds_.Describe(OperationNumber(request->name())), response);
  return reactor;
}

grpc::ServerUnaryReactor* OperationsService::CancelOperation(
    grpc::CallbackServerContext* context, const lro::CancelOperationRequest* request,
    google::protobuf::Empty* response) {
  const auto cancel = [this, request](AdminAction& action) -> absl::StatusOr<Empty> {
    const int64_t number = OperationNumber(request->name());
    ICEPIE_ASSIGN_OR_RETURN(const lro::Operation operation, builds_.Describe(number));
    if (operation.done()) return Empty();
    ICEPIE_RETURN_IF_ERROR(action.Begin());
    ICEPIE_RETURN_IF_ERROR(builds_.Cancel(number));
    return Empty();
  };
  const std::string actor = ActorOf(*context);
  return UnaryOn(executor_, context, response, [this, request, cancel, actor] {
    return RunAction(&log_, "CancelOperation", actor, *request, cancel);
  });
}

grpc::ServerUnaryReactor* OperationsService::WaitOperation(grpc::CallbackServerContext* context,
                                                           const lro::WaitOperationRequest* request,
                                                           lro::Operation* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const int64_t number = OperationNumber(request->name());
  absl::Duration timeout = absl::FromChrono(context->deadline()) - absl::Now();
  timeout -= absl::Milliseconds(100);
  if (request->has_timeout()) timeout = std::min(timeout, FromProto(request->timeout()));
  builds_.WhenDone(number, std::clamp(timeout, absl::ZeroDuration(), kWaitMax),
                   [this, reactor, response, number] {
                     FinishWith(reactor, builds_.Describe(number), response);
                   });
  return reactor;
}

}  // namespace icepie::server
