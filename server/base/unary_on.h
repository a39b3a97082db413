// Runs a unary call of the callback API on an executor, for calls that wait.
#ifndef ICEPIE_SERVER_BASE_UNARY_ON_H_
#define ICEPIE_SERVER_BASE_UNARY_ON_H_

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/executor.h"
#include "server/base/rpc_status.h"

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
inline absl::Status NotTaken(const ExecutorLine& at) {
  if (at.executor.draining()) return Draining();
  const bool of_line = !at.line.empty() && at.executor.IsFull(at.line);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("too many calls ", of_line ? "of " + at.line + " " : "",
                                "are waiting; try again"),
                   ErrorDetail{"TOO_MANY_CALLS", {}, {}, 1000});
}

// `work` returns StatusOr<Response>. The call must be finished before the executor stops.
template <typename Response, typename Work>
grpc::ServerUnaryReactor* UnaryOn(const ExecutorLine& at, grpc::CallbackServerContext* context,
                                  Response* response, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool taken =
      at.executor.Run([reactor, response,
                       work = std::move(work)] { FinishWith<Response>(reactor, work(), response); },
                      at.line);
  if (!taken) reactor->Finish(ToGrpcStatus(NotTaken(at)));
  return reactor;
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_UNARY_ON_H_
