#include "core/read/block_reader.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"
#include "core/block/block.h"

namespace icepie {
namespace {

absl::Status MissingAt(int64_t position) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("the index has no entry for position ", position), "RECORD_DAMAGED",
                   {{"position", absl::StrCat(position)}});
}

absl::Status DisagreeAt(int64_t position) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("log and index disagree at position ", position), "RECORD_DAMAGED",
                   {{"position", absl::StrCat(position)}});
}

absl::Status CheckBounds(int64_t head, const BlockQuery& query) {
  if (query.from < 0 || query.end < 0) {
    const std::string what = absl::StrCat("position ", std::min(query.from, query.end),
                                          " is negative; positions begin at 0");
    return WithField(MakeError(absl::StatusCode::kInvalidArgument, what, "PARAMETER_INVALID"),
                     "position");
  }
  if (query.from > head) {
    return MakeError(absl::StatusCode::kOutOfRange,
                     absl::StrCat("position ", query.from, " is beyond the core's head ", head,
                                  "; was the core restored from an older backup?"),
                     "POSITION_AHEAD_OF_CORE", {{"head", absl::StrCat(head)}});
  }
  return absl::OkStatus();
}

// So few streams, with so few hot blocks each, are looked for by themselves: the index would lead
// past the blocks of all others.
constexpr size_t kSparseStreamsMax = 8;
constexpr size_t kSparseBlocksMax = 64;

// The hot blocks of one stream behind `from`, newest first. They are all only if nothing is missing
// between its sealed part, or a block before `from`, and its end.
class StreamTail {
 public:
  StreamTail(int64_t from, int64_t end_offset) : from_(from), end_offset_(end_offset) {}

  // For LogStore::VisitStreamBackwards.
  bool Add(const BlockPlace& place) {
    const int64_t end_offset = place.first_offset + place.record_count;
    const bool follows = next_offset_ ? end_offset == *next_offset_ : end_offset >= end_offset_;
    if (!follows || places_.size() == kSparseBlocksMax) {
      broken_ = true;
      return false;
    }
    next_offset_ = place.first_offset;
    reached_ = place.end_position() <= from_;
    if (!reached_) places_.push_back(place);
    return !reached_;
  }

  bool IsWhole(int64_t sealed_end_offset) const {
    return !broken_ && (reached_ || next_offset_.value_or(end_offset_) == sealed_end_offset);
  }
  const std::vector<BlockPlace>& places() const { return places_; }

 private:
  const int64_t from_;
  const int64_t end_offset_;  // of the stream, or less: somebody may be appending
  std::optional<int64_t> next_offset_;
  std::vector<BlockPlace> places_;
  bool reached_ = false;
  bool broken_ = false;
};

// Collects the wanted blocks of one call.
class Collector {
 public:
  Collector(const BlockSources& sources, const BlockQuery& query, int64_t end,
            std::unordered_set<uint32_t> wanted)
      : sources_(sources),
        query_(query),
        end_(end),
        wanted_(std::move(wanted)),
        next_position_(query.from) {}

  absl::StatusOr<BlockRange> Collect() {
    while (!full_ && next_position_ < end_) {
      const absl::Status status = ReadOn();
      if (status.ok()) continue;
      // What is whole before the damage is read; the next call, from there, says what is wrong.
      if (range_.blocks.empty()) return status;
      break;
    }
    range_.complete_position = std::max(next_position_ > end_ ? end_ : next_position_, query_.from);
    return std::move(range_);
  }

 private:
  absl::Status ReadOn() {
    if (next_position_ < sources_.segments->sealed_position()) {
      return SkipSegments() ? absl::OkStatus() : ReadSegment();
    }
    absl::Status status = ReadHot();
    // What was not found may have been sealed since.
    if (next_position_ < sources_.segments->sealed_position()) return absl::OkStatus();
    return status;
  }

  bool Wants(uint32_t stream_id) const { return wanted_.empty() || wanted_.count(stream_id) != 0; }

  // Whether another block is too much; the first one never is.
  bool Full() {
    full_ = bytes_ >= query_.bytes_max && bytes_ > 0;
    return full_;
  }

  // Passes over segments without any of the streams; whether there were some.
  bool SkipSegments() {
    if (wanted_.empty()) return false;
    const int64_t position = sources_.segments->FirstPositionWith(wanted_, next_position_);
    return position > std::exchange(next_position_, position);
  }

  absl::Status ReadSegment() {
    ICEPIE_ASSIGN_OR_RETURN(const auto segment, sources_.segments->Open(next_position_));
    const std::vector<SegmentBlock>& blocks = segment->blocks();
    for (size_t i = segment->FirstBlock(next_position_); i < blocks.size(); ++i) {
      const BlockHeader& header = blocks[i].header;
      if (header.first_position >= end_) break;
      if (Wants(header.stream_id)) {
        // Blocks were joined since the hot ones before this were read: the next call begins in it.
        full_ = header.first_position < next_position_ && !range_.blocks.empty();
        if (full_ || Full()) return absl::OkStatus();
        ICEPIE_ASSIGN_OR_RETURN(std::string block, segment->ReadBlock(blocks[i]));
        ICEPIE_RETURN_IF_ERROR(Put(header.stream_id, header.first_position, std::move(block)));
      }
      next_position_ = header.end_position();
    }
    return absl::OkStatus();
  }

  // The hot blocks of the wanted streams in position order, when that can be said without the
  // index. What is damaged is left to the index, which knows the positions.
  std::optional<std::vector<BlockPlace>> FindSparse() const {
    if (wanted_.empty() || wanted_.size() > kSparseStreamsMax) return std::nullopt;
    std::vector<BlockPlace> places;
    for (const uint32_t id : wanted_) {
      const Stream* stream = sources_.streams->FindById(id);
      if (stream == nullptr) return std::nullopt;
      StreamTail tail(next_position_, stream->end_offset.load());
      const absl::Status visited = sources_.store->VisitStreamBackwards(
          id, [&tail](const BlockPlace& place) { return tail.Add(place); });
      if (!visited.ok() || !tail.IsWhole(sources_.segments->SealedEndOffset(id)))
        return std::nullopt;
      places.insert(places.end(), tail.places().begin(), tail.places().end());
    }
    // What was sealed meanwhile may have been dropped before it was looked for.
    if (next_position_ < sources_.segments->sealed_position()) return std::nullopt;
    std::sort(places.begin(), places.end(), [](const BlockPlace& a, const BlockPlace& b) {
      return a.first_position < b.first_position;
    });
    return places;
  }

  absl::Status ReadSparse(const std::vector<BlockPlace>& places) {
    for (const BlockPlace& place : places) {
      if (place.first_position >= end_) break;
      next_position_ = std::max(next_position_, place.first_position);
      if (Full()) return absl::OkStatus();
      ICEPIE_RETURN_IF_ERROR(Read(place));
      next_position_ = place.end_position();
    }
    next_position_ = std::max(next_position_, end_);
    return absl::OkStatus();
  }

  absl::Status ReadHot() {
    if (const auto sparse = FindSparse()) return ReadSparse(*sparse);
    absl::Status taken;
    ICEPIE_RETURN_IF_ERROR(
        sources_.store->VisitPlaces(next_position_, end_, [&](const BlockPlace& place) {
          taken = Take(place);
          return taken.ok() && !full_;
        }));
    ICEPIE_RETURN_IF_ERROR(taken);
    return full_ || next_position_ >= end_ ? absl::OkStatus() : MissingAt(next_position_);
  }

  absl::Status Take(const BlockPlace& place) {
    const bool first = next_position_ == query_.from;
    if (first ? place.first_position > next_position_ : place.first_position != next_position_) {
      return MissingAt(next_position_);
    }
    if (Wants(place.stream_id)) {
      if (Full()) return absl::OkStatus();
      ICEPIE_RETURN_IF_ERROR(Read(place));
    }
    next_position_ = place.end_position();
    return absl::OkStatus();
  }

  absl::Status Read(const BlockPlace& place) {
    ICEPIE_ASSIGN_OR_RETURN(std::string block, sources_.store->ReadBlock(place));
    ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, ReadBlockHeader(block));
    if (header.stream_id != place.stream_id || header.first_position != place.first_position ||
        header.first_offset != place.first_offset || header.record_count != place.record_count) {
      return DisagreeAt(place.first_position);
    }
    return Put(place.stream_id, place.first_position, std::move(block));
  }

  absl::Status Put(uint32_t stream_id, int64_t position, std::string block) {
    const Stream* stream = sources_.streams->FindById(stream_id);
    if (stream == nullptr) return DisagreeAt(position);
    bytes_ += static_cast<int64_t>(block.size());
    range_.blocks.push_back({stream->name, std::move(block)});
    return absl::OkStatus();
  }

  const BlockSources sources_;
  const BlockQuery& query_;
  const int64_t end_;
  const std::unordered_set<uint32_t> wanted_;
  int64_t next_position_;
  int64_t bytes_ = 0;
  bool full_ = false;
  BlockRange range_;
};

}  // namespace

absl::StatusOr<BlockRange> ReadBlockRange(const BlockSources& sources, int64_t head,
                                          const BlockQuery& query) {
  ICEPIE_RETURN_IF_ERROR(CheckBounds(head, query));
  std::unordered_set<uint32_t> wanted;
  for (const std::string& name : query.streams) {
    ICEPIE_ASSIGN_OR_RETURN(const Stream* stream, sources.streams->Find(name));
    wanted.insert(stream->id);
  }
  return Collector(sources, query, std::min(query.end, head), std::move(wanted)).Collect();
}

}  // namespace icepie
