// Runs a unary call that changes something: once for each request_id.
#ifndef ICEPIE_SERVER_ADMIN_CHANGE_ON_H_
#define ICEPIE_SERVER_ADMIN_CHANGE_ON_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/admin/request_replay.h"
#include "server/base/unary_on.h"

namespace icepie::server {

// As UnaryOn; `method` tells calls apart that take the same message. Without a request_id it is run
// each time.
template <typename Request, typename Response, typename Work>
grpc::ServerUnaryReactor* ChangeOn(const ExecutorLine& at, RequestReplay& replay,
                                   grpc::CallbackServerContext* context, const char* method,
                                   const Request* request, Response* response, Work work) {
  const std::string& id = request->request_id();
  if (id.empty()) return UnaryOn(at, context, response, std::move(work));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto answer = [reactor, response](const RequestReplay::Answer& first) {
    if (first.ok()) response->ParseFromString(*first);
    reactor->Finish(ToGrpcStatus(first.status()));
  };
  const bool is_first =
      replay.Begin(id, absl::StrCat(method, " ", request->SerializeAsString()), answer);
  if (!is_first) return reactor;
  const bool taken = at.executor.Run(
      [&replay, id = std::string(id), reactor, response, work = std::move(work)] {
        absl::StatusOr<Response> result = work();
        replay.Finish(id, result.ok() ? RequestReplay::Answer(result->SerializeAsString())
                                      : RequestReplay::Answer(result.status()));
        FinishWith<Response>(reactor, std::move(result), response);
      },
      at.line);
  if (taken) return reactor;
  const absl::Status refused = NotTaken(at);
  replay.Finish(id, refused);
  reactor->Finish(ToGrpcStatus(refused));
  return reactor;
}

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_CHANGE_ON_H_
