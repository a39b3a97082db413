#include "cli/record_messages.h"

namespace icepie::cli {

RecordMessages::RecordMessages(Client& client, const icepie::v1::ReadRecordsRequest& request)
    : client_(client), request_(request) {
  Open();
}

RecordMessages::~RecordMessages() {
  if (ended_) return;
  context_->TryCancel();
  // What it says no longer matters; without it the call would not end.
  icepie::v1::ReadRecordsResponse message;
  while (reader_->Read(&message)) {
  }
  (void)reader_->Finish();
}

void RecordMessages::Open() {
  reader_.reset();
  context_ = std::make_unique<grpc::ClientContext>();
  reader_ = client_.core().ReadRecords(context_.get(), request_);
}

bool RecordMessages::Read(icepie::v1::ReadRecordsResponse* message) {
  while (!ended_) {
    if (reader_->Read(message)) {
      Advance(*message);
      return true;
    }
    status_ = client_.ErrorOf(reader_->Finish());
    // Only READER_TOO_SLOW aborts a reading; the reason is missing when it came over a full window.
    if (absl::IsAborted(status_) && !all_read_) {
      Open();
      continue;
    }
    if (absl::IsAborted(status_)) status_ = absl::OkStatus();
    ended_ = true;
  }
  return false;
}

void RecordMessages::Advance(const icepie::v1::ReadRecordsResponse& message) {
  request_.clear_from_offset();
  request_.set_from_position(message.next_position());
  // Without an end it is the head at the beginning, also for what is taken up again.
  if (!request_.follow() && !request_.has_end_position()) {
    request_.set_end_position(message.head_position());
  }
  if (request_.max_records() == 0) return;  // no limit
  const int64_t left = request_.max_records() - message.records_size();
  all_read_ = left <= 0;
  if (!all_read_) request_.set_max_records(left);
}

}  // namespace icepie::cli
