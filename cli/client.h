// The daemon as the commands see it: stubs over one channel, deadlines, and errors as one line with
// the remedy.
#ifndef ICEPIE_CLI_CLIENT_H_
#define ICEPIE_CLI_CLIENT_H_

#include <google/protobuf/message.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "icepie/v1/core.grpc.pb.h"
#include "icepie/v1/slices.grpc.pb.h"
#include "server/base/rpc_status.h"

namespace icepie::cli {

// Threads: any, with a request id one. Errors: the daemon's; UNAVAILABLE names the address and how
// to start it.
class Client {
 public:
  Client(const std::string& address, absl::Duration timeout);

  icepie::v1::Core::StubInterface& core() { return *core_; }
  icepie::v1::Slices::StubInterface& slices() { return *slices_; }
  icepie::v1::Admin::StubInterface& admin() { return *admin_; }
  google::longrunning::Operations::StubInterface& operations() { return *operations_; }

  // One unary call within the timeout, e.g.
  //   client.Call(client.core(), &Core::StubInterface::GetStream, request)
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    grpc::ClientContext context;
    SetDeadline(&context);
    Response response;
    Request identified = request;
    Identify(identified);
    const grpc::Status status = (stub.*method)(&context, identified, &response);
    if (!status.ok()) return ErrorOf(status);
    return response;
  }

  // What a change is known by when it is asked for again; empty: each is another. Further ones of
  // one command get -2, -3 … behind it.
  void SetRequestId(std::string request_id) { request_id_ = std::move(request_id); }

  // Sets it in a request that has a place for it; Call does so by itself.
  void Identify(google::protobuf::Message& request);

  // Ends the call after the timeout; streams that follow something set none.
  void SetDeadline(grpc::ClientContext* context) const;

  // Whether the daemon can be reached, at the latest after `timeout`.
  bool WaitForConnection(absl::Duration timeout);

  // The status of a finished call. An unreachable daemon gets the remedy.
  absl::Status ErrorOf(const grpc::Status& status) const;

 private:
  const std::string address_;
  std::string request_id_;
  int identified_ = 0;
  const absl::Duration timeout_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<icepie::v1::Core::Stub> core_;
  std::unique_ptr<icepie::v1::Slices::Stub> slices_;
  std::unique_ptr<icepie::v1::Admin::Stub> admin_;
  std::unique_ptr<google::longrunning::Operations::Stub> operations_;
};

// `message` as protobuf JSON on several lines, with the fields' own names and every plain field.
std::string ToJson(const google::protobuf::Message& message);
// One of many, on a line of its own.
std::string ToJsonLine(const google::protobuf::Message& message);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_CLIENT_H_
