#include "server/worker/tail_client.h"

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/support/channel_arguments.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <deque>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/segment/segment_reader.h"
#include "server/base/rpc_status.h"
#include "slices/reading/payload_schema.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::Host;
using icepie::worker::v1::TailRequest;
using icepie::worker::v1::TailResponse;

// Of a piece from a segment, about what the daemon sends in a message: each is applied by itself,
// and small ones cost more folds.
constexpr int64_t kPieceRecords = 65536;
constexpr auto kPaceTimeout = std::chrono::seconds(1);

// Hands out what one message named: segments, piece by piece.
class SegmentPieces {
 public:
  SegmentPieces(std::string directory, std::set<std::string> streams)
      : directory_(std::move(directory)), streams_(std::move(streams)) {}

  // What the message names, from `position` on, behind what is there already.
  void Add(const TailResponse& response, int64_t position) {
    if (empty()) next_ = position;
    for (const auto& segment : response.segments()) {
      segments_.push_back({segment.path(), segment.first_position(), segment.end_position()});
    }
    complete_ = response.complete_position();
    head_ = response.head_position();
  }

  bool empty() const { return chunks_.empty() && segments_.empty(); }

  absl::StatusOr<slices::FeedPiece> Next() {
    if (chunks_.empty()) ICEPIE_RETURN_IF_ERROR(OpenSegment());
    slices::FeedPiece piece;
    int64_t records = 0;
    while (!chunks_.empty() && records < kPieceRecords) {
      SegmentReader::StreamChunk& front = chunks_.front();
      records += front.chunk->header().record_count;
      next_ = front.chunk->header().end_position();
      piece.blocks.push_back({std::move(front.stream), std::move(front.chunk)});
      chunks_.pop_front();
    }
    if (chunks_.empty()) next_ = segment_end_;
    next_ = std::min(next_, complete_);
    piece.complete_position = next_;
    piece.head_position = head_;
    return piece;
  }

 private:
  struct Segment {
    std::string path;
    int64_t first_position;
    int64_t end_position;
  };

  static absl::Status MissingError(const std::string& path, const Segment& segment) {
    return MakeError(
        absl::StatusCode::kDataLoss,
        absl::StrCat("segment ", path, " with the positions from ", segment.first_position, " to ",
                     segment.end_position,
                     ": the file is missing; put it back from a backup, and the slices go on by "
                     "themselves (icepie verify says what else is missing)"),
        "RECORD_DAMAGED", {{"position", absl::StrCat(segment.first_position)}, {"file", path}});
  }

  absl::Status OpenSegment() {
    const Segment segment = std::move(segments_.front());
    segments_.pop_front();
    const std::string path = absl::StrCat(directory_, "/", segment.path);
    const auto reader = SegmentReader::Open(path);
    if (absl::IsNotFound(reader.status())) return MissingError(path, segment);
    ICEPIE_RETURN_IF_ERROR(reader.status());
    auto chunks = (*reader)->Chunks(streams_, next_, complete_);
    std::move(chunks.begin(), chunks.end(), std::back_inserter(chunks_));
    segment_end_ = segment.end_position;
    return absl::OkStatus();
  }

  const std::string directory_;
  const std::set<std::string> streams_;
  int64_t next_ = 0;
  int64_t complete_ = 0;
  int64_t head_ = 0;
  int64_t segment_end_ = 0;
  std::deque<Segment> segments_;
  std::deque<SegmentReader::StreamChunk> chunks_;  // of the segment that is open
};

// One call after another: the daemon keeps segment files as long as the call that named them lasts,
// so a new one begins when they are read.
class TailReader : public slices::FeedReader {
 public:
  TailReader(Host::Stub& stub, TailRequest request, const std::string& core_directory)
      : stub_(stub),
        request_(std::move(request)),
        segments_(core_directory, {request_.streams().begin(), request_.streams().end()}),
        complete_(request_.from_position()) {
    Begin();
  }

  ~TailReader() override { End(); }

  absl::StatusOr<std::optional<slices::FeedPiece>> Next() override {
    if (cancelled_) return absl::UnavailableError("the tail was cancelled");
    if (!segments_.empty()) return FromSegments();
    if (finished_) return absl::UnavailableError("the tail has ended");
    if (std::exchange(has_segments_, false) && !AtEnd()) {
      End();
      Begin();
    }
    TailResponse response;
    if (reader_->Read(&response)) {
      ICEPIE_RETURN_IF_ERROR(TakeSchemas(response));
      if (response.segments().empty()) return ToPiece(response);
      segments_.Add(response, complete_);
      has_segments_ = true;
      return FromSegments();
    }
    finished_ = true;
    const absl::Status status = FromGrpcStatus(reader_->Finish());
    if (!status.ok()) return status;
    if (AtEnd()) return std::optional<slices::FeedPiece>();
    return absl::UnavailableError(absl::StrCat("the tail ended at position ", complete_));
  }

  void Cancel() override {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    context_->TryCancel();
  }

 private:
  bool AtEnd() const { return request_.has_end_position() && complete_ >= request_.end_position(); }

  void Begin() {
    request_.set_from_position(complete_);
    auto context = std::make_unique<grpc::ClientContext>();
    reader_ = stub_.Tail(context.get(), request_);
    const MutexLock lock(mutex_);
    context_ = std::move(context);
    if (cancelled_) context_->TryCancel();
  }

  // The context stays until the next call: somebody may be cancelling it.
  void End() {
    if (finished_) return;
    context_->TryCancel();
    (void)reader_->Finish();
    reader_.reset();
  }

  static absl::Status TakeSchemas(const TailResponse& response) {
    for (const auto& given : response.schemas()) {
      const auto& schema = given.schema();
      const absl::Status taken = slices::PayloadSchemas::Get().Set(
          given.stream(), schema.descriptor_set(), schema.message());
      // It was checked when the stream was made.
      if (!taken.ok()) return Annotate(taken, absl::StrCat("schema of stream ", given.stream()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<slices::FeedPiece>> FromSegments() {
    ICEPIE_ASSIGN_OR_RETURN(slices::FeedPiece piece, segments_.Next());
    complete_ = piece.complete_position;
    return std::optional<slices::FeedPiece>(std::move(piece));
  }

  absl::StatusOr<std::optional<slices::FeedPiece>> ToPiece(TailResponse& response) {
    slices::FeedPiece piece;
    piece.complete_position = response.complete_position();
    piece.head_position = response.head_position();
    piece.blocks.reserve(static_cast<size_t>(response.blocks_size()));
    for (auto& block : *response.mutable_blocks()) {
      ICEPIE_ASSIGN_OR_RETURN(auto chunk, ChunkOfBlock(std::move(*block.mutable_data())));
      piece.blocks.push_back({std::move(*block.mutable_stream()), std::move(chunk)});
    }
    complete_ = piece.complete_position;
    return std::optional<slices::FeedPiece>(std::move(piece));
  }

  Host::Stub& stub_;
  TailRequest request_;
  Mutex mutex_;
  std::unique_ptr<grpc::ClientContext> context_;  // set under mutex_, used by others under it
  std::unique_ptr<grpc::ClientReader<TailResponse>> reader_;
  SegmentPieces segments_;
  int64_t complete_;
  bool has_segments_ = false;  // of this call
  bool finished_ = false;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

absl::StatusOr<int> ConnectToHost(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(socket, " is too long for a socket"));
  }
  socket.copy(address.sun_path, socket.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoError(errno, "making a socket for the daemon");
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  ::close(fd);
  return ErrnoError(error, absl::StrCat("connecting with the daemon at ", socket));
}

TailClient::TailClient(int host, std::string core_directory)
    : core_directory_(std::move(core_directory)) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the daemon bounds its pieces
  stub_ = Host::NewStub(grpc::CreateCustomInsecureChannelFromFd("icepied", host, arguments));
}

absl::StatusOr<absl::Duration> TailClient::PaceWrite(int64_t bytes) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPaceTimeout);
  icepie::worker::v1::PaceWriteRequest request;
  icepie::worker::v1::PaceWriteResponse response;
  request.set_pid(::getpid());
  request.set_bytes(bytes);
  const grpc::Status status = stub_->PaceWrite(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return absl::Microseconds(response.wait_us());
}

std::unique_ptr<slices::FeedReader> TailClient::Open(const std::vector<std::string>& streams,
                                                     int64_t from, std::optional<int64_t> end) {
  TailRequest request;
  for (const std::string& stream : streams) request.add_streams(stream);
  request.set_from_position(from);
  if (end) request.set_end_position(*end);
  request.set_reads_segments(!core_directory_.empty());
  return std::make_unique<TailReader>(*stub_, std::move(request), core_directory_);
}

}  // namespace icepie::server
