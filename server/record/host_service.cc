#include "server/record/host_service.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/record/feed_call.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::TailRequest;
using icepie::worker::v1::TailResponse;

constexpr int kThreads = 2;
// ReadBlocks may go beyond it by one block, which is about as large.
constexpr int64_t kMessageBytes = int64_t{1} << 20;
// Commits come every fraction of a millisecond; a message for each would cost more than it brings.
constexpr auto kBlockInterval = std::chrono::milliseconds(1);
constexpr auto kProgressInterval = std::chrono::milliseconds(50);
// About 100 bytes each.
constexpr size_t kSegmentsInMessage = 1024;

class TailCall final : public FeedCall<TailResponse> {
 public:
  TailCall(Core* core, FeedScheduler* scheduler, const TailRequest& request)
      : FeedCall(scheduler),
        core_(core),
        streams_(request.streams().begin(), request.streams().end()),
        unknown_(streams_),
        reads_segments_(request.reads_segments() && !streams_.empty()),
        next_(request.from_position()),
        end_(request.has_end_position() ? request.end_position()
                                        : std::numeric_limits<int64_t>::max()) {}

 protected:
  FeedStep Step(TailResponse& response) override {
    if (sent_any_ && next_ >= end_) return FeedStep::Finish(absl::OkStatus());
    const SteadyTime now = std::chrono::steady_clock::now();
    if (now < not_before_) return FeedStep::Wait(std::nullopt, not_before_);
    const int64_t head = core_->head_position();
    if (TakeSegments(head, response)) {
      AddSchemas(response);
      return FeedStep::Write();
    }
    absl::StatusOr<BlockRange> range = Read(head);
    if (!range.ok()) return FeedStep::Finish(range.status());
    next_ = range->complete_position;
    if (range->blocks.empty() && sent_any_ && next_ < end_ && now < progress_time_) {
      not_before_ = now + kBlockInterval;
      const bool news = head > sent_head_;
      return FeedStep::Wait(head, news ? std::optional(progress_time_) : std::nullopt);
    }
    if (range->blocks.empty() && sent_any_ && next_ < end_ && head == sent_head_) {
      return FeedStep::Wait(head, std::nullopt);
    }
    Fill(std::move(*range), head, response);
    AddSchemas(response);
    progress_time_ = now + kProgressInterval;
    if (next_ >= head) not_before_ = now + kBlockInterval;
    return FeedStep::Write();
  }

 private:
  // The worker has the call open as long as it reads, and so the lease.
  bool TakeSegments(int64_t head, TailResponse& response) {
    if (!reads_segments_ || next_ < 0) return false;
    auto lease = core_->LeaseSegments(next_, end_, kSegmentsInMessage);
    if (lease->segments().empty()) return false;
    response.Clear();
    for (const SealedSegment& segment : lease->segments()) {
      auto* out = response.add_segments();
      out->set_path(segment.path);
      out->set_first_position(segment.first_position);
      out->set_end_position(segment.end_position);
    }
    next_ = std::min(lease->segments().back().end_position, end_);
    response.set_complete_position(next_);
    response.set_head_position(head);
    sent_head_ = head;
    sent_any_ = true;
    leases_.push_back(std::move(lease));
    return true;
  }

  // Of streams that are there and whose schema was not sent. A stream was made before its records.
  void AddSchemas(TailResponse& response) {
    const auto known = [&](const std::string& stream) {
      const auto info = core_->GetStream(stream);
      if (!info.ok()) return false;
      if (info->schema == nullptr) return true;
      auto* out = response.add_schemas();
      out->set_stream(stream);
      out->mutable_schema()->set_descriptor_set(info->schema->descriptor_set);
      out->mutable_schema()->set_message(info->schema->message);
      return true;
    };
    unknown_.erase(std::remove_if(unknown_.begin(), unknown_.end(), known), unknown_.end());
  }

  absl::StatusOr<BlockRange> Read(int64_t head) {
    // In this order: a stream that is not there yet has no record below `head`.
    std::vector<std::string> existing;
    for (const std::string& stream : streams_) {
      if (core_->GetStream(stream).ok()) existing.push_back(stream);
    }
    if (!existing.empty() || next_ > head || next_ < 0) {
      return core_->ReadBlocks(existing, next_, std::min(head, end_), kMessageBytes);
    }
    BlockRange nothing;
    nothing.complete_position = std::max(next_, std::min(head, end_));
    return nothing;
  }

  void Fill(BlockRange range, int64_t head, TailResponse& response) {
    response.Clear();
    for (StoredBlock& block : range.blocks) {
      auto* out = response.add_blocks();
      out->set_stream(std::move(block.stream));
      out->set_data(std::move(block.data));
    }
    response.set_complete_position(next_);
    response.set_head_position(head);
    sent_head_ = head;
    sent_any_ = true;
  }

  Core* const core_;
  const std::vector<std::string> streams_;
  std::vector<std::string> unknown_;  // whether they have a schema
  const bool reads_segments_;
  std::vector<std::shared_ptr<const SegmentLease>> leases_;
  int64_t next_;
  const int64_t end_;
  bool sent_any_ = false;
  int64_t sent_head_ = 0;
  SteadyTime not_before_;     // of the next reading
  SteadyTime progress_time_;  // of the next message without blocks
};

}  // namespace

HostService::HostService(Core* core, int64_t write_bytes_per_second)
    : core_(core), scheduler_(core, kThreads), pacer_(write_bytes_per_second) {}

grpc::ServerWriteReactor<TailResponse>* HostService::Tail(grpc::CallbackServerContext* /*context*/,
                                                          const TailRequest* request) {
  return FeedCall<TailResponse>::Start(std::make_shared<TailCall>(core_, &scheduler_, *request));
}

grpc::ServerUnaryReactor* HostService::PaceWrite(
    grpc::CallbackServerContext* context, const icepie::worker::v1::PaceWriteRequest* request,
    icepie::worker::v1::PaceWriteResponse* response) {
  response->set_wait_us(absl::ToInt64Microseconds(
      pacer_.Next(static_cast<uint64_t>(request->pid()), request->bytes(), SteadyNow())));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace icepie::server
