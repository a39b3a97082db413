#include "server/read_records_call.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/record_convert.h"

namespace icepie::server {
namespace {

constexpr int64_t kMessageBytes = int64_t{1} << 20;
constexpr int64_t kFetchBytes = int64_t{256} << 10;  // compressed; several times as much decoded
constexpr int64_t kRecordOverheadBytes = 64;
// Commits come every fraction of a millisecond; a follower looks for its records less often.
constexpr auto kFollowInterval = std::chrono::milliseconds(1);
constexpr int64_t kNoEnd = std::numeric_limits<int64_t>::max();

}  // namespace

ReadRecordsCall::ReadRecordsCall(Core* core, FeedScheduler* scheduler,
                                 const icepie::v1::ReadRecordsRequest& request)
    : FeedCall(scheduler),
      core_(core),
      streams_(request.streams().begin(), request.streams().end()),
      follow_(request.follow()),
      next_(request.from_position()),
      end_(request.has_end_position() ? request.end_position() : kNoEnd),
      left_(request.max_records() == 0 ? kNoEnd : request.max_records()) {
  if (!follow_) end_ = std::min(end_, core_->head_position());
}

absl::Status ReadRecordsCall::Check() const {
  if (left_ < 0) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "max_records is negative; 0 means no limit",
                     ErrorDetail{"PARAMETER_INVALID", {}, {{"max_records", "is negative"}}, {}});
  }
  // Names and position are checked by a reading that reads nothing.
  return core_->ReadBlocks(streams_, next_, next_, 1).status();
}

FeedStep ReadRecordsCall::Step(icepie::v1::ReadRecordsResponse& response) {
  if (!checked_) {
    if (absl::Status status = Check(); !status.ok()) return FeedStep::Finish(std::move(status));
    checked_ = true;
  }
  if (sent_any_ && AtEnd()) return FeedStep::Finish(absl::OkStatus());
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now < not_before_) return FeedStep::Wait(std::nullopt, not_before_);
  const int64_t head = core_->head_position();
  response.Clear();
  message_bytes_ = 0;
  if (absl::Status status = Fill(std::min(head, end_), response); !status.ok()) {
    return FeedStep::Finish(std::move(status));
  }
  if (response.records_size() == 0 && !(AtEnd() && !sent_any_)) {
    if (AtEnd()) return FeedStep::Finish(absl::OkStatus());
    not_before_ = now + kFollowInterval;
    return FeedStep::Wait(head, std::nullopt);
  }
  response.set_next_position(next_);
  response.set_head_position(head);
  sent_any_ = true;
  return FeedStep::Write();
}

absl::Status ReadRecordsCall::Fill(int64_t target, icepie::v1::ReadRecordsResponse& response) {
  while (left_ > 0 && next_ < target) {
    if (block_ && block_index_ < block_->records().size()) {
      ICEPIE_ASSIGN_OR_RETURN(const bool added, AddRecord(response));
      if (!added) return absl::OkStatus();
    } else if (!blocks_.empty()) {
      ICEPIE_RETURN_IF_ERROR(OpenBlock());
    } else if (next_ < fetched_position_) {
      next_ = fetched_position_;
    } else {
      ICEPIE_RETURN_IF_ERROR(FetchBlocks(target));
    }
  }
  return absl::OkStatus();
}

// False when the message is full.
absl::StatusOr<bool> ReadRecordsCall::AddRecord(icepie::v1::ReadRecordsResponse& response) {
  const RecordView& view = block_->records()[block_index_];
  if (view.position < next_) {  // the block begins before where reading begins
    ++block_index_;
    return true;
  }
  if (view.position >= end_) {
    next_ = end_;
    return true;
  }
  const auto bytes = static_cast<int64_t>(view.payload.size() + view.headers.size() +
                                          (view.key ? view.key->size() : 0)) +
                     kRecordOverheadBytes;
  if (message_bytes_ > 0 && message_bytes_ + bytes > kMessageBytes) return false;
  ICEPIE_RETURN_IF_ERROR(SetRecord(block_stream_, view, *response.add_records()));
  message_bytes_ += bytes;
  ++block_index_;
  --left_;
  next_ = view.position + 1;
  return true;
}

absl::Status ReadRecordsCall::FetchBlocks(int64_t target) {
  ICEPIE_ASSIGN_OR_RETURN(BlockRange range,
                          core_->ReadBlocks(streams_, next_, target, kFetchBytes));
  for (StoredBlock& block : range.blocks) blocks_.push_back(std::move(block));
  fetched_position_ = range.complete_position;
  return absl::OkStatus();
}

absl::Status ReadRecordsCall::OpenBlock() {
  ICEPIE_ASSIGN_OR_RETURN(block_, DecodedBlock::Decode(blocks_.front().data));
  block_stream_ = std::move(blocks_.front().stream);
  block_index_ = 0;
  blocks_.pop_front();
  return absl::OkStatus();
}

}  // namespace icepie::server
