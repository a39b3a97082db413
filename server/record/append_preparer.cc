#include "server/record/append_preparer.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "server/record/record_convert.h"

namespace icepie::server {
namespace {

// About 0.1 ms of work.
constexpr int64_t kSmallBytes = int64_t{32} << 10;
constexpr int64_t kWaitingBytesMax = int64_t{64} << 20;
constexpr int kNicer = 5;
constexpr int64_t kRetryMs = 200;
constexpr uint32_t kNameBytesMax = 256;

// Large batches are mostly waited for by imports: they may have every processor, but give way.
int Threads() { return std::max(2, static_cast<int>(std::thread::hardware_concurrency())); }

absl::StatusOr<AppendBatch> Take(icepie::v1::AppendRecordsRequest& request, uint64_t peer) {
  ICEPIE_ASSIGN_OR_RETURN(AppendBatch batch, TakeBatch(request));
  batch.peer = peer;
  return batch;
}

absl::StatusOr<AppendBatch> Decode(grpc::ByteBuffer bytes, uint64_t peer) {
  icepie::v1::AppendRecordsRequest request;
  using Traits = grpc::SerializationTraits<icepie::v1::AppendRecordsRequest>;
  if (!Traits::Deserialize(&bytes, &request).ok()) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "the message is no icepie.v1.AppendRecordsRequest", "PARAMETER_INVALID");
  }
  return Take(request, peer);
}

// Of the first record, when it stands where it usually does: at the start of what is sent first.
// Only fairness goes by it.
std::string StreamOfFirst(const grpc::ByteBuffer& bytes) {
  using google::protobuf::internal::WireFormatLite;
  using google::protobuf::io::CodedInputStream;
  constexpr auto kFirstText = WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
  std::vector<grpc::Slice> slices;
  if (!bytes.Dump(&slices).ok() || slices.empty()) return "";
  CodedInputStream input(slices[0].begin(), static_cast<int>(slices[0].size()));
  uint32_t length = 0;
  std::string stream;
  const bool record =
      input.ReadTag() == WireFormatLite::MakeTag(
                             icepie::v1::AppendRecordsRequest::kRecordsFieldNumber, kFirstText) &&
      input.ReadVarint32(&length);
  const bool named = record &&
                     input.ReadTag() == WireFormatLite::MakeTag(
                                            icepie::v1::Record::kStreamFieldNumber, kFirstText) &&
                     input.ReadVarint32(&length) && length <= kNameBytesMax;
  if (!named || !input.ReadString(&stream, static_cast<int>(length))) return "";
  return stream;
}

}  // namespace

AppendPreparer::AppendPreparer() : executor_(Threads(), kNicer, kWaitingBytesMax) {}

uint64_t PeerOf(const grpc::CallbackServerContext& context) {
  return std::hash<std::string>()(context.peer()) | 1;  // 0 is nobody's
}

grpc::ByteBuffer ResponseBytes(const AppendResult& result) {
  icepie::v1::AppendRecordsResponse response;
  SetResponse(result, response);
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  using Traits = grpc::SerializationTraits<icepie::v1::AppendRecordsResponse>;
  ICEPIE_CHECK(Traits::Serialize(response, &bytes, &own_buffer).ok());  // all of it is set
  return bytes;
}

absl::Status AppendPreparer::Run(const grpc::ByteBuffer& bytes, uint64_t peer, Append append) {
  const auto size = static_cast<int64_t>(bytes.Length());
  if (size <= kSmallBytes) {
    append(Decode(bytes, peer));
    return absl::OkStatus();
  }
  return RunLater(peer, StreamOfFirst(bytes), size,
                  [bytes, peer, append] { append(Decode(bytes, peer)); });
}

absl::Status AppendPreparer::Run(icepie::v1::AppendRecordsRequest request, uint64_t peer,
                                 Append append) {
  const auto size = static_cast<int64_t>(request.ByteSizeLong());
  if (size <= kSmallBytes) {
    append(Take(request, peer));
    return absl::OkStatus();
  }
  const std::string stream = request.records_size() > 0 ? request.records(0).stream() : "";
  const auto owned = std::make_shared<icepie::v1::AppendRecordsRequest>(std::move(request));
  return RunLater(peer, stream, size, [owned, peer, append] { append(Take(*owned, peer)); });
}

absl::Status AppendPreparer::RunLater(uint64_t peer, const std::string& stream, int64_t bytes,
                                      std::function<void()> append) {
  const LinePlace at = {peer, std::hash<std::string>()(stream)};
  if (executor_.Run(at, bytes, std::move(append))) return absl::OkStatus();
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("too many large appends to stream ", stream,
                                " or of this connection are waiting; send the batch again later"),
                   ErrorDetail{"APPEND_QUEUE_FULL", {}, {}, kRetryMs});
}

}  // namespace icepie::server
