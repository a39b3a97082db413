// One record of the core by its position or by its offset in a stream.
#ifndef ICEPIE_SERVER_RECORD_READ_RECORD_H_
#define ICEPIE_SERVER_RECORD_READ_RECORD_H_

#include "absl/status/statusor.h"
#include "core/core.h"
#include "icepie/v1/core.pb.h"

namespace icepie::server {

// Core.GetRecord. Waits for the disk. OUT_OF_RANGE/POSITION_AHEAD_OF_CORE, NOT_FOUND/
// STREAM_NOT_FOUND, DATA_LOSS/RECORD_DAMAGED.
absl::StatusOr<icepie::v1::Record> ReadRecord(const Core& core,
                                              const icepie::v1::GetRecordRequest& request);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_READ_RECORD_H_
