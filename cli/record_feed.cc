#include "cli/record_feed.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/interrupt.h"
#include "core/base/status.h"

namespace icepie::cli {

RecordFeed::RecordFeed(Client& client, const icepie::v1::ReadRecordsRequest& request,
                       std::function<void(int64_t)> progress)
    : all_keys_(request.key_prefix().empty()),
      progress_(std::move(progress)),
      messages_(client, request),
      last_offset_(request.from_offset() - 1) {}

absl::StatusOr<const icepie::v1::Record*> RecordFeed::Next() {
  while (next_ >= message_.records_size()) {
    if (ended_) return nullptr;
    if (Interrupted()) return absl::CancelledError("stopped");
    next_ = 0;
    if (!messages_.Read(&message_)) {
      ended_ = true;
      message_.Clear();
      ICEPIE_RETURN_IF_ERROR(messages_.status());
      return nullptr;
    }
    progress_(records_);
  }
  const icepie::v1::Record& record = message_.records(next_++);
  ICEPIE_RETURN_IF_ERROR(CheckOffset(record));
  ++records_;
  payload_bytes_ += static_cast<int64_t>(record.payload().size());
  last_offset_ = record.offset();
  return &record;
}

absl::Status RecordFeed::CheckOffset(const icepie::v1::Record& record) {
  const bool follows =
      all_keys_ ? record.offset() == last_offset_ + 1 : record.offset() > last_offset_;
  if (follows) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the daemon sent offset ", record.offset(), " of stream ",
                                          record.stream(), " after offset ", last_offset_));
}

}  // namespace icepie::cli
