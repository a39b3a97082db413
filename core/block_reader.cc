#include "core/block_reader.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/block.h"

namespace icepie {
namespace {

absl::Status MissingAt(int64_t position) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the index has no entry for position ", position), "RECORD_DAMAGED",
                   {{"position", absl::StrCat(position)}});
}

absl::Status CheckBounds(int64_t head, const BlockQuery& query) {
  if (query.from < 0 || query.end < 0) {
    return MakeError(absl::StatusCode::kInvalidArgument, "positions are not negative; begin at 0",
                     "PARAMETER_INVALID");
  }
  if (query.from > head) {
    return MakeError(absl::StatusCode::kOutOfRange,
                     absl::StrCat("position ", query.from, " is beyond the core's head ", head,
                                  "; was the core restored from an older backup?"),
                     "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
  }
  return absl::OkStatus();
}

// Collects the wanted blocks of one call.
class Collector {
 public:
  Collector(const LogStore& store, const StreamRegistry& streams, const BlockQuery& query,
            std::unordered_set<uint32_t> wanted)
      : store_(store),
        streams_(streams),
        query_(query),
        wanted_(std::move(wanted)),
        next_position_(query.from) {}

  // False ends the visit.
  bool Visit(const BlockPlace& place) {
    status_ = Take(place);
    return status_.ok() && !full_;
  }

  absl::StatusOr<BlockRange> Finish(int64_t end) {
    ICEPIE_RETURN_IF_ERROR(status_);
    if (!full_ && next_position_ < end) return MissingAt(next_position_);
    range_.complete_position = full_ ? next_position_ : std::max(end, query_.from);
    return std::move(range_);
  }

 private:
  absl::Status Take(const BlockPlace& place) {
    const bool first = next_position_ == query_.from;
    if (first ? place.first_position > next_position_ : place.first_position != next_position_) {
      return MissingAt(next_position_);
    }
    if (wanted_.empty() || wanted_.count(place.stream_id) != 0) {
      if (bytes_ >= query_.bytes_max && bytes_ > 0) {
        full_ = true;
        return absl::OkStatus();
      }
      ICEPIE_RETURN_IF_ERROR(Read(place));
    }
    next_position_ = place.end_position();
    return absl::OkStatus();
  }

  absl::Status Read(const BlockPlace& place) {
    ICEPIE_ASSIGN_OR_RETURN(std::string block, store_.ReadBlock(place));
    ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, ReadBlockHeader(block));
    const Stream* stream = streams_.FindById(place.stream_id);
    if (stream == nullptr || header.stream_id != place.stream_id ||
        header.first_position != place.first_position ||
        header.first_offset != place.first_offset || header.record_count != place.record_count) {
      return MakeError(absl::StatusCode::kDataLoss,
                       absl::StrCat("log and index disagree at position ", place.first_position),
                       "RECORD_DAMAGED", {{"position", absl::StrCat(place.first_position)}});
    }
    bytes_ += static_cast<int64_t>(block.size());
    range_.blocks.push_back({stream->name, std::move(block)});
    return absl::OkStatus();
  }

  const LogStore& store_;
  const StreamRegistry& streams_;
  const BlockQuery& query_;
  const std::unordered_set<uint32_t> wanted_;
  int64_t next_position_;
  int64_t bytes_ = 0;
  bool full_ = false;
  absl::Status status_;
  BlockRange range_;
};

}  // namespace

absl::StatusOr<BlockRange> ReadBlockRange(const LogStore& store, const StreamRegistry& streams,
                                          int64_t head, const BlockQuery& query) {
  ICEPIE_RETURN_IF_ERROR(CheckBounds(head, query));
  std::unordered_set<uint32_t> wanted;
  for (const std::string& name : query.streams) {
    ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, streams.Find(name));
    wanted.insert(stream->id);
  }
  const int64_t end = std::min(query.end, head);
  Collector collector(store, streams, query, std::move(wanted));
  if (query.from < end) {
    ICEPIE_RETURN_IF_ERROR(store.VisitPlaces(
        query.from, end, [&](const BlockPlace& place) { return collector.Visit(place); }));
  }
  return collector.Finish(end);
}

}  // namespace icepie
