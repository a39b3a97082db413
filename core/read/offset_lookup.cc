#include "core/read/offset_lookup.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "core/block/block.h"

namespace icepie {
namespace {

absl::Status CheckOffset(const Stream& stream, int64_t offset, int64_t end_offset) {
  if (offset < 0) {
    const std::string what = absl::StrCat("offset ", offset, " is negative; offsets begin at 0");
    return WithField(MakeError(absl::StatusCode::kInvalidArgument, what, "PARAMETER_INVALID"),
                     "offset");
  }
  if (offset <= end_offset) return absl::OkStatus();
  return MakeError(absl::StatusCode::kOutOfRange,
                   absl::StrCat("offset ", offset, " is beyond the end ", end_offset, " of stream ",
                                stream.name, "; was the core restored from an older backup?"),
                   "POSITION_AHEAD_OF_CORE",
                   {{"stream", stream.name}, {"end_offset", absl::StrCat(end_offset)}});
}

absl::StatusOr<int64_t> FindHot(const LogStore& store, const Stream& stream, int64_t offset) {
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> block,
                          store.BlockAtOffset(stream.id, offset));
  BlockHeader header;
  if (block) {
    ICEPIE_ASSIGN_OR_RETURN(header, ReadBlockHeader(*block));
  }
  if (header.stream_id != stream.id || offset < header.first_offset ||
      offset >= header.first_offset + header.record_count) {
    return MakeError(
        absl::StatusCode::kDataLoss,
        absl::StrCat("stream ", stream.name, " has no block that holds offset ", offset),
        "RECORD_DAMAGED", {{"stream", stream.name}, {"offset", absl::StrCat(offset)}});
  }
  return header.first_position + offset - header.first_offset;
}

}  // namespace

absl::StatusOr<int64_t> FindOffset(const LogStore& store, SegmentSet& segments,
                                   const Stream& stream, int64_t offset, int64_t head) {
  const int64_t end_offset = stream.end_offset.load();
  ICEPIE_RETURN_IF_ERROR(CheckOffset(stream, offset, end_offset));
  if (offset == end_offset) return head;
  while (true) {
    const int64_t sealed = segments.sealed_position();
    ICEPIE_ASSIGN_OR_RETURN(const std::optional<int64_t> position,
                            segments.FindOffset(stream.id, offset));
    if (position) return *position;
    const absl::StatusOr<int64_t> hot = FindHot(store, stream, offset);
    // A commit moves the stream's end before the head.
    if (hot.ok()) return std::min(head, *hot);
    // What was not found may have been sealed since.
    if (segments.sealed_position() == sealed) return hot.status();
  }
}

}  // namespace icepie
