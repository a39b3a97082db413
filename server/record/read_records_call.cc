#include "server/record/read_records_call.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/record/shared_slice.h"

namespace icepie::server {
namespace {

// Commits come every fraction of a millisecond; a follower looks for its records less often.
constexpr auto kFollowInterval = std::chrono::milliseconds(1);
// Blocks whose records are all filtered out: then other calls have their turn.
constexpr int64_t kStepBytes = int64_t{8} << 20;
// How often a reading that finds nothing for long says where it is.
constexpr auto kReadProgressInterval = std::chrono::seconds(1);

}  // namespace

ReadRecordsCall::ReadRecordsCall(Core* core, Readers* readers, FeedScheduler* scheduler,
                                 grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer& request)
    : FeedCall(scheduler, context, readers->limits.stall), core_(core), readers_(readers) {
  grpc::ByteBuffer bytes(request);  // the buffer is emptied, its bytes are shared
  using Traits = grpc::SerializationTraits<icepie::v1::ReadRecordsRequest>;
  is_request_ = Traits::Deserialize(&bytes, &request_).ok();
}

absl::Status ReadRecordsCall::Begin(SteadyTime now) {
  if (!is_request_) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "the message is no icepie.v1.ReadRecordsRequest", "PARAMETER_INVALID");
  }
  ICEPIE_ASSIGN_OR_RETURN(bounds_, ResolveReadBounds(*core_, request_));
  next_ = bounds_.from_position;
  next_offset_ = bounds_.from_offset;
  left_ = bounds_.max_records;
  control_time_ = now + bounds_.heartbeat_interval;
  begun_ = true;
  return absl::OkStatus();
}

FeedStep ReadRecordsCall::Step(grpc::ByteBuffer& message) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (!begun_) {
    if (absl::Status status = Begin(now); !status.ok()) return FeedStep::Finish(std::move(status));
  }
  if (sent_any_ && AtEnd()) return FeedStep::Finish(absl::OkStatus());
  if (now < not_before_) return FeedStep::Wait(std::nullopt, not_before_);
  message_bytes_ = 0;
  step_bytes_ = 0;
  const int64_t target = std::min(core_->head_position(), bounds_.end_position);
  absl::Status status = Fill(target);
  // What was read before the damage goes out first; the next step meets it again.
  if (!status.ok() && pieces_.empty()) return FeedStep::Finish(std::move(status));
  // Read after the records, which may be newer than `target`: another reader's.
  const int64_t head = core_->head_position();
  if (pieces_.empty() && sent_any_ && AtEnd()) return FeedStep::Finish(absl::OkStatus());
  if (pieces_.empty() && !AtEnd() && !ControlDue(now, next_ >= head)) {
    message.Clear();  // the one before, which has been taken
    return WaitForMore(now, head);
  }
  return Send(now, head, message);
}

bool ReadRecordsCall::ControlDue(SteadyTime now, bool caught_up) const {
  return now >= control_time_ || (caught_up && !sent_caught_up_);
}

FeedStep ReadRecordsCall::WaitForMore(SteadyTime now, int64_t head) {
  if (next_ < std::min(head, bounds_.end_position)) return FeedStep::Wait(std::nullopt, now);
  not_before_ = now + kFollowInterval;
  range_.reset();  // whoever waits at the head holds nothing
  if (next_wake_ && *next_wake_ > now && *next_wake_ <= control_time_) {
    return FeedStep::Wait(head, std::nullopt);
  }
  next_wake_ = control_time_;
  return FeedStep::Wait(head, control_time_);
}

FeedStep ReadRecordsCall::Send(SteadyTime now, int64_t head, grpc::ByteBuffer& message) {
  icepie::v1::ReadRecordsResponse control;
  sent_any_ = true;
  control.set_heartbeat(pieces_.empty() && next_ >= head && sent_caught_up_);
  sent_caught_up_ = next_ >= head;
  control.set_caught_up(sent_caught_up_);
  control.set_next_position(next_);
  control.set_head_position(head);
  control_time_ = now + (sent_caught_up_ ? bounds_.heartbeat_interval
                                         : std::min<std::chrono::milliseconds>(
                                               kReadProgressInterval, bounds_.heartbeat_interval));
  message = MakeMessage(control);
  return FeedStep::Write();
}

// A message is its fields one after the other, so it can be put together from parts.
grpc::ByteBuffer ReadRecordsCall::MakeMessage(const icepie::v1::ReadRecordsResponse& control) {
  std::vector<grpc::Slice> slices;
  slices.reserve(pieces_.size() + 1);
  for (Piece& piece : pieces_) {
    slices.push_back(SharedSlice(std::move(piece.block), piece.begin, piece.end));
  }
  pieces_.clear();
  slices.emplace_back(control.SerializeAsString());
  return {slices.data(), slices.size()};
}

absl::Status ReadRecordsCall::Stalled() {
  range_.reset();
  ++readers_->too_slow_count;
  spdlog::info("a reader takes no messages; it is told to go on from position {}", next_);
  std::map<std::string, std::string> metadata = {{"resume_position", absl::StrCat(next_)}};
  if (request_.has_from_offset()) {
    metadata["stream"] = request_.streams(0);
    metadata["resume_offset"] = absl::StrCat(next_offset_);
  }
  return MakeError(absl::StatusCode::kAborted,
                   absl::StrCat("the reader did not take a message for ",
                                readers_->limits.stall.stall_timeout.count(),
                                " ms; go on reading from position ", next_),
                   "READER_TOO_SLOW", std::move(metadata));
}

absl::Status ReadRecordsCall::Cut() {
  return absl::AbortedError(absl::StrCat(
      "READER_TOO_SLOW: the reader took nothing for ",
      (readers_->limits.stall.stall_timeout + readers_->limits.stall.cut_timeout).count(),
      " ms and is cut off; go on reading from the next_position of the last message it has, or, "
      "without one, from where this reading began"));
}

absl::Status ReadRecordsCall::Fill(int64_t target) {
  while (left_ > 0 && next_ < std::min(target, bounds_.end_position)) {
    if (range_ && block_index_ < range_->blocks.size()) {
      if (!AddRecords(range_->blocks[block_index_])) return absl::OkStatus();
    } else if (range_ && next_ < range_->complete_position) {
      next_ = range_->complete_position;
    } else if (step_bytes_ > kStepBytes) {
      return absl::OkStatus();
    } else {
      ICEPIE_RETURN_IF_ERROR(NextRange(target));
    }
  }
  return absl::OkStatus();
}

bool ReadRecordsCall::Wanted(const EncodedBlock& block, size_t i) const {
  if (block.first_offset() + static_cast<int64_t>(i) < bounds_.from_offset) return false;
  if (bounds_.key_prefix.empty()) return true;
  const std::optional<absl::string_view> key = block.KeyOf(i);
  return key && absl::StartsWith(*key, bounds_.key_prefix);
}

bool ReadRecordsCall::AddRecords(const std::shared_ptr<const EncodedBlock>& block) {
  // The block may begin before where reading begins.
  auto i = static_cast<size_t>(std::max<int64_t>(0, next_ - block->first_position()));
  for (; i < block->size() && left_ > 0; ++i) {
    const int64_t position = block->first_position() + static_cast<int64_t>(i);
    const int64_t offset = block->first_offset() + static_cast<int64_t>(i);
    if (offset >= bounds_.end_offset) bounds_.end_position = std::max(next_, position);
    if (position >= bounds_.end_position) {
      next_ = bounds_.end_position;
      return true;
    }
    if (Wanted(*block, i)) {
      const auto bytes = static_cast<int64_t>(block->end_of(i) - block->begin_of(i));
      if (message_bytes_ > 0 && message_bytes_ + bytes > readers_->limits.message_bytes_max)
        return false;
      AddPiece(block, i);
      message_bytes_ += bytes;
      --left_;
    }
    next_ = position + 1;
    next_offset_ = offset + 1;
    // The bound was beyond the stream's end when reading began.
    if (next_offset_ >= bounds_.end_offset) bounds_.end_position = next_;
  }
  if (i >= block->size()) ++block_index_;
  return true;
}

void ReadRecordsCall::AddPiece(const std::shared_ptr<const EncodedBlock>& block, size_t i) {
  const size_t begin = block->begin_of(i);
  if (!pieces_.empty() && pieces_.back().block == block && pieces_.back().end == begin) {
    pieces_.back().end = block->end_of(i);
  } else {
    pieces_.push_back({block, begin, block->end_of(i)});
  }
}

absl::Status ReadRecordsCall::NextRange(int64_t target) {
  ICEPIE_ASSIGN_OR_RETURN(range_, readers_->blocks.Read(bounds_.streams, next_, target));
  block_index_ = 0;
  step_bytes_ += range_->bytes;
  return absl::OkStatus();
}

}  // namespace icepie::server
