#include "server/record/read_bounds.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

using icepie::v1::ReadRecordsRequest;

constexpr std::chrono::milliseconds kHeartbeatMin{100};
constexpr std::chrono::milliseconds kHeartbeatMax{10 * 60 * 1000};

absl::Status Bad(absl::string_view field, absl::string_view what) {
  return MakeError(
      absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", what),
      ErrorDetail{
          "PARAMETER_INVALID", {}, {{std::string(field), std::string(what)}}, std::nullopt});
}

absl::Status CheckHeartbeat(const ReadRecordsRequest& request) {
  if (!request.has_heartbeat_interval()) return absl::OkStatus();
  const auto& interval = request.heartbeat_interval();
  const bool in_range =
      interval.nanos() >= 0 && interval.nanos() <= 999999999 && interval.seconds() >= 0 &&
      interval.seconds() <= 600 &&
      interval.seconds() * 1000 + interval.nanos() / 1000000 >= kHeartbeatMin.count() &&
      interval.seconds() * 1000 + interval.nanos() / 1000000 <= kHeartbeatMax.count();
  return in_range ? absl::OkStatus()
                  : Bad("heartbeat_interval", "is not between 100 ms and 10 minutes");
}

absl::Status CheckPositions(const ReadRecordsRequest& request) {
  if (request.from_position() < 0) {
    return Bad("from_position",
               absl::StrCat("is ", request.from_position(), "; positions begin at 0"));
  }
  if (!request.has_end_position() || request.end_position() >= request.from_position()) {
    return absl::OkStatus();
  }
  return Bad("end_position", absl::StrCat("is ", request.end_position(), ", before from_position ",
                                          request.from_position()));
}

absl::Status CheckFromOffset(const ReadRecordsRequest& request) {
  if (!request.has_from_offset()) return absl::OkStatus();
  if (request.from_position() != 0) {
    return Bad("from_offset", "is given together with from_position; give one of them");
  }
  if (request.from_offset() >= 0) return absl::OkStatus();
  return Bad("from_offset", absl::StrCat("is ", request.from_offset(), "; offsets begin at 0"));
}

absl::Status CheckEndOffset(const ReadRecordsRequest& request) {
  const int64_t from_offset = request.has_from_offset() ? request.from_offset() : 0;
  if (!request.has_end_offset() || request.end_offset() >= from_offset) return absl::OkStatus();
  return Bad("end_offset", absl::StrCat("is ", request.end_offset(), ", before ", from_offset));
}

absl::Status CheckFields(const ReadRecordsRequest& request) {
  FieldErrors errors;
  if (request.max_records() < 0) {
    errors.Add(Bad("max_records",
                   absl::StrCat("is ", request.max_records(), "; 0 means that there is no limit")));
  }
  errors.Add(CheckPositions(request));
  const bool by_offset = request.has_from_offset() || request.has_end_offset();
  if (by_offset && request.streams_size() != 1) {
    errors.Add(Bad("streams",
                   "must be one stream when from_offset or end_offset is given: offsets "
                   "count within a stream"));
  }
  errors.Add(CheckFromOffset(request));
  errors.Add(CheckEndOffset(request));
  errors.Add(CheckHeartbeat(request));
  return errors.ToStatus();
}

// Where the offsets are in the whole core; both have been checked.
absl::Status ResolveOffsets(const Core& core, const ReadRecordsRequest& request,
                            ReadBounds& bounds) {
  const std::string& stream = request.streams(0);
  if (request.has_from_offset()) {
    bounds.from_offset = request.from_offset();
    ICEPIE_ASSIGN_OR_RETURN(bounds.from_position, core.PositionOf(stream, bounds.from_offset));
  }
  if (!request.has_end_offset()) return absl::OkStatus();
  bounds.end_offset = request.end_offset();
  ICEPIE_ASSIGN_OR_RETURN(const StreamInfo info, core.GetStream(stream));
  if (bounds.end_offset >= info.end_offset) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const int64_t end, core.PositionOf(stream, bounds.end_offset));
  bounds.end_position = std::max(bounds.from_position, std::min(bounds.end_position, end));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReadBounds> ResolveReadBounds(const Core& core, const ReadRecordsRequest& request) {
  ICEPIE_RETURN_IF_ERROR(CheckFields(request));
  ReadBounds bounds;
  bounds.streams.assign(request.streams().begin(), request.streams().end());
  bounds.follow = request.follow();
  bounds.key_prefix = request.key_prefix();
  bounds.from_position = request.from_position();
  if (request.has_end_position()) bounds.end_position = request.end_position();
  if (!bounds.follow) bounds.end_position = std::min(bounds.end_position, core.head_position());
  if (request.max_records() != 0) bounds.max_records = request.max_records();
  if (request.has_heartbeat_interval()) {
    const auto& interval = request.heartbeat_interval();
    bounds.heartbeat_interval =
        std::chrono::milliseconds(interval.seconds() * 1000 + interval.nanos() / 1000000);
  }
  if (request.has_from_offset() || request.has_end_offset()) {
    ICEPIE_RETURN_IF_ERROR(ResolveOffsets(core, request, bounds));
  }
  // Names and position are checked by a reading that reads nothing.
  ICEPIE_RETURN_IF_ERROR(
      core.ReadBlocks(bounds.streams, bounds.from_position, bounds.from_position, 1).status());
  return bounds;
}

}  // namespace icepie::server
