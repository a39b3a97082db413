#include "slices/record_batch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/status.h"

namespace icepie::slices {
namespace {

int64_t ClippedBegin(const BlockHeader& header, int64_t from) {
  return std::max(header.first_position, from);
}

int64_t ClippedEnd(const BlockHeader& header, int64_t to) {
  return std::min(header.end_position(), to);
}

bool Overlaps(const BlockHeader& header, int64_t from, int64_t to) {
  return ClippedBegin(header, from) < ClippedEnd(header, to);
}

// A block's records are at consecutive positions, so a range of positions is a range of records.
absl::Span<const RecordView> Clipped(const DecodedBlock& block, int64_t from, int64_t to) {
  const BlockHeader& header = block.header();
  const int64_t begin = ClippedBegin(header, from);
  const int64_t end = ClippedEnd(header, to);
  if (begin >= end) return {};
  return block.records().subspan(static_cast<size_t>(begin - header.first_position),
                                 static_cast<size_t>(end - begin));
}

// Of the last record below `to`: a block may hold records of several commits.
int64_t LastIngestTimeBelow(const BatchBlock& block, int64_t to) {
  if (block.decoded == nullptr || block.header.end_position() <= to) {
    return block.header.last_ingest_time_us;
  }
  return block.decoded->records()[static_cast<size_t>(to - 1 - block.header.first_position)]
      .ingest_time_us;
}

class BatchSupply : public RecordSupply {
 public:
  BatchSupply(const std::vector<BatchBlock>* blocks, int64_t from, int64_t to)
      : blocks_(blocks), from_(from), to_(to) {}

  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    while (blocks_ != nullptr && next_ < blocks_->size()) {
      const BatchBlock& block = (*blocks_)[next_++];
      const absl::Span<const RecordView> records = Clipped(*block.decoded, from_, to_);
      if (!records.empty()) return records;
    }
    return absl::Span<const RecordView>();
  }

 private:
  const std::vector<BatchBlock>* blocks_;
  int64_t from_;
  int64_t to_;
  size_t next_ = 0;
};

class FeedRecordSupply : public RecordSupply {
 public:
  FeedRecordSupply(std::unique_ptr<FeedReader> reader, int64_t end)
      : reader_(std::move(reader)), end_(end) {}
  ~FeedRecordSupply() override { reader_->Cancel(); }

  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    while (true) {
      while (next_block_ < piece_.blocks.size()) {
        ICEPIE_ASSIGN_OR_RETURN(DecodedBlock block,
                                DecodedBlock::Decode(piece_.blocks[next_block_++].data));
        block_ = std::make_unique<DecodedBlock>(std::move(block));
        const absl::Span<const RecordView> records = Clipped(*block_, position_, end_);
        if (records.empty()) continue;
        position_ = block_->header().end_position();
        return records;
      }
      if (ended_ || piece_.complete_position >= end_) return absl::Span<const RecordView>();
      ICEPIE_RETURN_IF_ERROR(ReadPiece());
    }
  }

 private:
  absl::Status ReadPiece() {
    ICEPIE_ASSIGN_OR_RETURN(std::optional<FeedPiece> piece, reader_->Next());
    next_block_ = 0;
    ended_ = !piece.has_value();
    piece_ = ended_ ? FeedPiece() : std::move(*piece);
    return absl::OkStatus();
  }

  std::unique_ptr<FeedReader> reader_;
  int64_t end_;
  int64_t position_ = 0;
  FeedPiece piece_;
  size_t next_block_ = 0;
  std::unique_ptr<DecodedBlock> block_;
  bool ended_ = false;
};

class EmptySupply : public RecordSupply {
 public:
  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    return absl::Span<const RecordView>();
  }
};

}  // namespace

void RecordBatch::Append(const RecordBatch& next) {
  for (const auto& [stream, blocks] : next.streams) {
    std::vector<BatchBlock>& mine = streams[stream];
    for (const BatchBlock& block : blocks) {
      // A block that reaches over the border is in both.
      if (mine.empty() || mine.back().header.first_position < block.header.first_position) {
        mine.push_back(block);
      }
    }
  }
  end = next.end;
}

int64_t RecordBatch::Count(const std::string& stream, int64_t from, int64_t to) const {
  const auto found = streams.find(stream);
  if (found == streams.end()) return 0;
  int64_t count = 0;
  for (const BatchBlock& block : found->second) {
    count += std::max<int64_t>(0, ClippedEnd(block.header, std::min(to, end)) -
                                      ClippedBegin(block.header, std::max(from, begin)));
  }
  return count;
}

int64_t RecordBatch::RecordCount() const {
  int64_t count = 0;
  for (const auto& [stream, blocks] : streams) count += Count(stream, begin, end);
  return count;
}

std::vector<int64_t> RecordBatch::Positions(const std::set<std::string>& wanted, int64_t from,
                                            int64_t to) const {
  std::vector<int64_t> positions;
  for (const auto& [stream, blocks] : streams) {
    if (wanted.count(stream) == 0) continue;
    for (const BatchBlock& block : blocks) {
      for (int64_t at = ClippedBegin(block.header, from); at < ClippedEnd(block.header, to); ++at) {
        positions.push_back(at);
      }
    }
  }
  std::sort(positions.begin(), positions.end());
  return positions;
}

int64_t RecordBatch::LastIngestTime(const std::set<std::string>& wanted, int64_t from,
                                    int64_t to) const {
  int64_t newest = 0;
  for (const auto& [stream, blocks] : streams) {
    if (wanted.count(stream) == 0) continue;
    for (const BatchBlock& block : blocks) {
      if (Overlaps(block.header, from, to))
        newest = std::max(newest, LastIngestTimeBelow(block, to));
    }
  }
  return newest;
}

int64_t RecordBatch::LastEnd(const std::set<std::string>& wanted, int64_t from, int64_t to) const {
  int64_t last = 0;
  for (const auto& [stream, blocks] : streams) {
    if (wanted.count(stream) == 0) continue;
    for (const BatchBlock& block : blocks) {
      if (Overlaps(block.header, from, to)) last = std::max(last, ClippedEnd(block.header, to));
    }
  }
  return last;
}

SourceInput::OpenSupply RecordBatch::Supply(const std::string& stream, int64_t from,
                                            int64_t to) const {
  const auto found = streams.find(stream);
  const std::vector<BatchBlock>* blocks = found == streams.end() ? nullptr : &found->second;
  return [blocks, from, to]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
    return std::make_unique<BatchSupply>(blocks, from, to);
  };
}

absl::Status BatchDecoder::Add(const FeedBlock& block) {
  BatchBlock added;
  std::vector<BatchBlock>& blocks = open_[block.stream];
  ICEPIE_ASSIGN_OR_RETURN(added.header, ReadBlockHeader(block.data));
  if (!blocks.empty() && blocks.back().header.first_position >= added.header.first_position) {
    return absl::OkStatus();
  }
  if (decoded_.count(block.stream) > 0) {
    ICEPIE_ASSIGN_OR_RETURN(DecodedBlock decoded, DecodedBlock::Decode(block.data));
    added.decoded = std::make_shared<const DecodedBlock>(std::move(decoded));
  }
  blocks.push_back(std::move(added));
  return absl::OkStatus();
}

absl::StatusOr<RecordBatch> BatchDecoder::Decode(const FeedPiece& piece) {
  for (const FeedBlock& block : piece.blocks) ICEPIE_RETURN_IF_ERROR(Add(block));
  RecordBatch batch;
  batch.begin = position_;
  batch.end = std::max(position_, piece.complete_position);
  position_ = batch.end;
  for (auto& [stream, blocks] : open_) {
    auto behind = std::find_if(blocks.begin(), blocks.end(), [&](const BatchBlock& block) {
      return block.header.first_position >= batch.end;
    });
    if (behind != blocks.begin()) batch.streams[stream].assign(blocks.begin(), behind);
    blocks.erase(std::remove_if(blocks.begin(), blocks.end(),
                                [&](const BatchBlock& block) {
                                  return block.header.end_position() <= batch.end;
                                }),
                 blocks.end());
  }
  return batch;
}

SourceInput::OpenSupply FeedSupply(Feed& feed, std::string stream, int64_t end) {
  return
      [&feed, stream = std::move(stream), end]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
        if (end <= 0) return std::make_unique<EmptySupply>();
        return std::make_unique<FeedRecordSupply>(feed.Open({stream}, 0, end), end);
      };
}

}  // namespace icepie::slices
