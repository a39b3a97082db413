// Runs a unary call of the callback API on an executor, for calls that wait.
#ifndef ICEPIE_SERVER_UNARY_ON_H_
#define ICEPIE_SERVER_UNARY_ON_H_

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/statusor.h"
#include "core/base/status.h"
#include "server/executor.h"
#include "server/rpc_status.h"

namespace icepie::server {

// Ends the call with `result`, whose value becomes the response.
template <typename Response>
void FinishWith(grpc::ServerUnaryReactor* reactor, absl::StatusOr<Response> result,
                Response* response) {
  const grpc::Status status = ToGrpcStatus(result.status());
  if (result.ok()) *response = *std::move(result);
  reactor->Finish(status);
}

// Why the executor has not taken a call.
inline absl::Status NotTaken(const Executor& executor) {
  if (executor.draining()) return Draining();
  return MakeError(absl::StatusCode::kResourceExhausted, "too many calls are waiting; try again",
                   ErrorDetail{"TOO_MANY_CALLS", {}, {}, 1000});
}

// `work` returns StatusOr<Response>. The call must be finished before the executor stops.
template <typename Response, typename Work>
grpc::ServerUnaryReactor* UnaryOn(Executor& executor, grpc::CallbackServerContext* context,
                                  Response* response, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool taken = executor.Run([reactor, response, work = std::move(work)] {
    FinishWith<Response>(reactor, work(), response);
  });
  if (!taken) reactor->Finish(ToGrpcStatus(NotTaken(executor)));
  return reactor;
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_UNARY_ON_H_
