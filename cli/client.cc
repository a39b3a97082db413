#include "cli/client.h"

#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

// A streamed answer's parts and a page of a list stay far below it.
constexpr int kMessageBytesMax = 64 * 1024 * 1024;

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // The daemon is on this machine: a proxy of the environment must not be asked for it.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A daemon that restarts is back within seconds.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Client::Client(const std::string& address, absl::Duration timeout)
    : address_(address),
      timeout_(timeout),
      channel_(Connect(address)),
      core_(icepie::v1::Core::NewStub(channel_)),
      slices_(icepie::v1::Slices::NewStub(channel_)),
      admin_(icepie::v1::Admin::NewStub(channel_)),
      operations_(google::longrunning::Operations::NewStub(channel_)) {}

void Client::Identify(google::protobuf::Message& request) {
  if (request_id_.empty()) return;
  const auto* field = request.GetDescriptor()->FindFieldByName("request_id");
  const auto* reflection = request.GetReflection();
  if (field == nullptr || !reflection->GetString(request, field).empty()) return;
  const std::string id =
      ++identified_ == 1 ? request_id_ : absl::StrCat(request_id_, "-", identified_);
  reflection->SetString(&request, field, id);
}

void Client::SetDeadline(grpc::ClientContext* context) const {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout_));
}

bool Client::WaitForConnection(absl::Duration timeout) {
  return channel_->WaitForConnected(absl::ToChronoTime(absl::Now() + timeout));
}

absl::Status Client::ErrorOf(const grpc::Status& status) const {
  const absl::Status error = server::FromGrpcStatus(status);
  const bool unreachable =
      error.code() == absl::StatusCode::kUnavailable && ErrorReason(error).empty() &&
      (absl::StrContains(error.message(), "connect") || absl::StrContains(error.message(), "DNS"));
  if (!unreachable) return error;
  return absl::UnavailableError(
      absl::StrCat("cannot reach the daemon at ", address_,
                   ": start it (icepied --config=config/icepie.yaml), or name another address with "
                   "--address or ICEPIE_ADDRESS"));
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::StrCat("{\"error\": \"", status.ToString(), "\"}\n");
  return json;
}

std::string ToJsonLine(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::StrCat("{\"error\": \"", status.ToString(), "\"}\n");
  return json + "\n";
}

}  // namespace icepie::cli
