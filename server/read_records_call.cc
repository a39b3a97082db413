#include "server/read_records_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "server/record_convert.h"

namespace icepie::server {
namespace {

constexpr int64_t kMessageBytes = int64_t{1} << 20;
constexpr int64_t kFetchBytes = int64_t{256} << 10;  // compressed; several times as much decoded
constexpr int64_t kRecordOverheadBytes = 64;
// Commits come every fraction of a millisecond; a follower looks for its records less often.
constexpr auto kFollowInterval = std::chrono::milliseconds(1);
// Blocks whose records are all filtered out: then other calls have their turn.
constexpr int64_t kStepBytes = int64_t{2} << 20;
// How often a reading that finds nothing for long says where it is.
constexpr auto kProgressInterval = std::chrono::seconds(1);

}  // namespace

ReadRecordsCall::ReadRecordsCall(Core* core, FeedScheduler* scheduler,
                                 const icepie::v1::ReadRecordsRequest& request)
    : FeedCall(scheduler), core_(core), request_(request) {}

absl::Status ReadRecordsCall::Begin(SteadyTime now) {
  ICEPIE_ASSIGN_OR_RETURN(bounds_, ResolveReadBounds(*core_, request_));
  next_ = bounds_.from_position;
  left_ = bounds_.max_records;
  control_time_ = now + bounds_.heartbeat_interval;
  begun_ = true;
  return absl::OkStatus();
}

FeedStep ReadRecordsCall::Step(icepie::v1::ReadRecordsResponse& response) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (!begun_) {
    if (absl::Status status = Begin(now); !status.ok()) return FeedStep::Finish(std::move(status));
  }
  if (sent_any_ && AtEnd()) return FeedStep::Finish(absl::OkStatus());
  if (now < not_before_) return FeedStep::Wait(std::nullopt, not_before_);
  const int64_t head = core_->head_position();
  response.Clear();
  message_bytes_ = 0;
  step_bytes_ = 0;
  if (absl::Status status = Fill(std::min(head, bounds_.end_position), response); !status.ok()) {
    return FeedStep::Finish(std::move(status));
  }
  const bool caught_up = next_ >= head;
  if (response.records_size() == 0 && sent_any_ && AtEnd()) {
    return FeedStep::Finish(absl::OkStatus());
  }
  if (response.records_size() == 0 && !AtEnd() && !ControlDue(now, caught_up)) {
    return WaitForMore(now, head);
  }
  return Send(now, head, response);
}

bool ReadRecordsCall::ControlDue(SteadyTime now, bool caught_up) const {
  return now >= control_time_ || (caught_up && !sent_caught_up_);
}

FeedStep ReadRecordsCall::WaitForMore(SteadyTime now, int64_t head) {
  if (next_ < std::min(head, bounds_.end_position)) return FeedStep::Wait(std::nullopt, now);
  not_before_ = now + kFollowInterval;
  if (next_wake_ && *next_wake_ > now && *next_wake_ <= control_time_) {
    return FeedStep::Wait(head, std::nullopt);
  }
  next_wake_ = control_time_;
  return FeedStep::Wait(head, control_time_);
}

FeedStep ReadRecordsCall::Send(SteadyTime now, int64_t head,
                               icepie::v1::ReadRecordsResponse& response) {
  sent_any_ = true;
  response.set_heartbeat(response.records_size() == 0 && next_ >= head && sent_caught_up_);
  sent_caught_up_ = next_ >= head;
  response.set_caught_up(sent_caught_up_);
  response.set_next_position(next_);
  response.set_head_position(head);
  control_time_ = now + (sent_caught_up_ ? bounds_.heartbeat_interval
                                         : std::min<std::chrono::milliseconds>(
                                               kProgressInterval, bounds_.heartbeat_interval));
  return FeedStep::Write();
}

absl::Status ReadRecordsCall::Fill(int64_t target, icepie::v1::ReadRecordsResponse& response) {
  while (left_ > 0 && next_ < std::min(target, bounds_.end_position)) {
    if (block_ && block_index_ < block_->records().size()) {
      ICEPIE_ASSIGN_OR_RETURN(const bool added, AddRecord(response));
      if (!added) return absl::OkStatus();
    } else if (step_bytes_ > kStepBytes) {
      return absl::OkStatus();
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

bool ReadRecordsCall::Wanted(const RecordView& view) const {
  return view.position >= next_ &&  // the block may begin before where reading begins
         view.offset >= bounds_.from_offset &&
         (bounds_.key_prefix.empty() ||
          (view.key && absl::StartsWith(*view.key, bounds_.key_prefix)));
}

// False when the message is full.
absl::StatusOr<bool> ReadRecordsCall::AddRecord(icepie::v1::ReadRecordsResponse& response) {
  const RecordView& view = block_->records()[block_index_];
  if (view.offset >= bounds_.end_offset) bounds_.end_position = std::max(next_, view.position);
  if (view.position >= bounds_.end_position) {
    next_ = bounds_.end_position;
    return true;
  }
  if (!Wanted(view)) {
    next_ = std::max(next_, view.position + 1);
    ++block_index_;
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
  // The bound was beyond the stream's end when reading began.
  if (view.offset + 1 >= bounds_.end_offset) bounds_.end_position = next_;
  return true;
}

absl::Status ReadRecordsCall::FetchBlocks(int64_t target) {
  ICEPIE_ASSIGN_OR_RETURN(BlockRange range,
                          core_->ReadBlocks(bounds_.streams, next_, target, kFetchBytes));
  for (StoredBlock& block : range.blocks) blocks_.push_back(std::move(block));
  fetched_position_ = range.complete_position;
  return absl::OkStatus();
}

absl::Status ReadRecordsCall::OpenBlock() {
  step_bytes_ += static_cast<int64_t>(blocks_.front().data.size());
  ICEPIE_ASSIGN_OR_RETURN(block_, DecodedBlock::Decode(blocks_.front().data));
  block_stream_ = std::move(blocks_.front().stream);
  block_index_ = 0;
  blocks_.pop_front();
  return absl::OkStatus();
}

}  // namespace icepie::server
