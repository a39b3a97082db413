#include "server/record/read_record.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/block/block.h"
#include "server/record/record_convert.h"

namespace icepie::server {
namespace {

using icepie::v1::GetRecordRequest;

absl::Status Ahead(int64_t position, int64_t head) {
  return MakeError(
      absl::StatusCode::kOutOfRange,
      absl::StrCat("there is no record at position ", position, " yet: the core's head is ", head),
      "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
}

absl::StatusOr<int64_t> PositionIn(const Core& core, const GetRecordRequest& request) {
  switch (request.place_case()) {
    case GetRecordRequest::kPosition:
      return request.position();
    case GetRecordRequest::kStreamOffset:
      return core.PositionOf(request.stream_offset().stream(), request.stream_offset().offset());
    case GetRecordRequest::PLACE_NOT_SET:
      break;
  }
  return MakeError(absl::StatusCode::kInvalidArgument,
                   "place is missing: give position, or stream_offset",
                   ErrorDetail{"PARAMETER_INVALID", {}, {{"place", "is missing"}}, std::nullopt});
}

}  // namespace

absl::StatusOr<icepie::v1::Record> ReadRecord(const Core& core, const GetRecordRequest& request) {
  ICEPIE_ASSIGN_OR_RETURN(const int64_t position, PositionIn(core, request));
  const int64_t head = core.head_position();
  ICEPIE_ASSIGN_OR_RETURN(const BlockRange range, core.ReadBlocks({}, position, position + 1, 1));
  if (range.blocks.empty()) return Ahead(position, head);
  const StoredBlock& stored = range.blocks.front();
  ICEPIE_ASSIGN_OR_RETURN(const DecodedBlock block, DecodedBlock::Decode(stored.data));
  const int64_t index = position - block.header().first_position;
  if (index < 0 || index >= static_cast<int64_t>(block.records().size())) {
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat("the block at position ", position, " does not hold it"),
                     "RECORD_DAMAGED", {{"position", absl::StrCat(position)}});
  }
  icepie::v1::Record record;
  const RecordView& view = block.records()[static_cast<size_t>(index)];
  ICEPIE_RETURN_IF_ERROR(SetRecord(stored.stream, view, record));
  return record;
}

}  // namespace icepie::server
