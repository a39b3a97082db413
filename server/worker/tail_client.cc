#include "server/worker/tail_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::Host;
using icepie::worker::v1::TailRequest;
using icepie::worker::v1::TailResponse;

class TailReader : public slices::FeedReader {
 public:
  TailReader(Host::Stub& stub, const TailRequest& request)
      : end_(request.has_end_position() ? std::optional<int64_t>(request.end_position())
                                        : std::nullopt) {
    reader_ = stub.Tail(&context_, request);
  }

  ~TailReader() override {
    if (finished_) return;
    context_.TryCancel();
    (void)reader_->Finish();
  }

  absl::StatusOr<std::optional<slices::FeedPiece>> Next() override {
    TailResponse response;
    if (finished_) return absl::UnavailableError("the tail has ended");
    if (reader_->Read(&response)) return ToPiece(response);
    finished_ = true;
    const absl::Status status = FromGrpcStatus(reader_->Finish());
    if (!status.ok()) return status;
    if (end_ && complete_ >= *end_) return std::optional<slices::FeedPiece>();
    return absl::UnavailableError(absl::StrCat("the tail ended at position ", complete_));
  }

  void Cancel() override { context_.TryCancel(); }

 private:
  std::optional<slices::FeedPiece> ToPiece(TailResponse& response) {
    slices::FeedPiece piece;
    piece.complete_position = response.complete_position();
    piece.head_position = response.head_position();
    piece.blocks.reserve(static_cast<size_t>(response.blocks_size()));
    for (auto& block : *response.mutable_blocks()) {
      piece.blocks.push_back(
          {std::move(*block.mutable_stream()), std::move(*block.mutable_data())});
    }
    complete_ = piece.complete_position;
    return piece;
  }

  std::optional<int64_t> end_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<TailResponse>> reader_;
  int64_t complete_ = 0;
  bool finished_ = false;
};

}  // namespace

TailClient::TailClient(const std::string& host_socket) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the daemon bounds its pieces
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  stub_ = Host::NewStub(grpc::CreateCustomChannel(absl::StrCat("unix:", host_socket),
                                                  grpc::InsecureChannelCredentials(), arguments));
}

std::unique_ptr<slices::FeedReader> TailClient::Open(const std::vector<std::string>& streams,
                                                     int64_t from, std::optional<int64_t> end) {
  TailRequest request;
  for (const std::string& stream : streams) request.add_streams(stream);
  request.set_from_position(from);
  if (end) request.set_end_position(*end);
  return std::make_unique<TailReader>(*stub_, request);
}

}  // namespace icepie::server
