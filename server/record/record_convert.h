// Records between messages and the core's own types.
#ifndef ICEPIE_SERVER_RECORD_RECORD_CONVERT_H_
#define ICEPIE_SERVER_RECORD_RECORD_CONVERT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"

namespace icepie::server {

// Takes the payloads out of `request`. INVALID_ARGUMENT/PARAMETER_INVALID naming the field when a
// client sets what only the core sets or a time is out of range; STREAM_NAME_RESERVED for streams
// that belong to the core. Times are cut to microseconds.
absl::StatusOr<AppendBatch> TakeBatch(icepie::v1::AppendRecordsRequest& request);

void SetResponse(const AppendResult& result, icepie::v1::AppendRecordsResponse& response);

// DATA_LOSS when the record's headers are damaged.
absl::Status SetRecord(absl::string_view stream, const RecordView& view,
                       icepie::v1::Record& record);

void SetStream(const StreamInfo& info, icepie::v1::Stream& stream);

// INVALID_ARGUMENT for a number that names no format.
absl::StatusOr<PayloadFormat> FormatOf(icepie::v1::PayloadFormat format);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_RECORD_CONVERT_H_
