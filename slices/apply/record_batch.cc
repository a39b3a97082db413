#include "slices/apply/record_batch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/status.h"

namespace icepie::slices {
namespace {

// Positions nearer to one another than this are read in one go.
constexpr int64_t kReadThroughRecords = 1024;

// Sources show nothing of a record's headers.
constexpr RecordColumns kColumnsRead = kKeyColumn | kEventTimeColumn | kPayloadColumn;

int64_t ClippedBegin(const BatchBlock& block, int64_t from) { return std::max(block.begin, from); }

int64_t ClippedEnd(const BatchBlock& block, int64_t to) { return std::min(block.end, to); }

bool Overlaps(const BatchBlock& block, int64_t from, int64_t to) {
  return ClippedBegin(block, from) < ClippedEnd(block, to);
}

// A block's records are at consecutive positions, so a range of positions is a range of records.
absl::Span<const RecordView> Clipped(const DecodedBlock& block, int64_t begin, int64_t end) {
  const BlockHeader& header = block.header();
  begin = std::max(begin, header.first_position);
  end = std::min(end, header.end_position());
  if (begin >= end) return {};
  return block.records().subspan(static_cast<size_t>(begin - header.first_position),
                                 static_cast<size_t>(end - begin));
}

// Of the record at `position`: a block may hold records of several commits.
int64_t IngestTimeAt(const BatchBlock& block, int64_t position) {
  if (block.header.ingest_time_us == block.header.last_ingest_time_us) {
    return block.header.ingest_time_us;
  }
  if (block.decoded == nullptr) {
    const bool last = position + 1 == block.header.end_position();
    return last ? block.header.last_ingest_time_us : block.header.ingest_time_us;
  }
  return block.decoded->records()[static_cast<size_t>(position - block.header.first_position)]
      .ingest_time_us;
}

class BatchSupply : public RecordSupply {
 public:
  BatchSupply(const std::vector<BatchBlock>* blocks, int64_t from, int64_t to,
              std::shared_ptr<DecodeSharing::Batch> decoded)
      : blocks_(blocks), from_(from), to_(to), decoded_(std::move(decoded)) {}

  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    while (blocks_ != nullptr && next_ < blocks_->size()) {
      const BatchBlock& block = (*blocks_)[next_++];
      const absl::Span<const RecordView> records =
          Clipped(*block.decoded, ClippedBegin(block, from_), ClippedEnd(block, to_));
      if (!records.empty()) return records;
    }
    return absl::Span<const RecordView>();
  }

  absl::StatusOr<std::shared_ptr<const SharedRows>> Share(const ScanRequest& request) override {
    if (decoded_ == nullptr || blocks_ == nullptr) return std::shared_ptr<const SharedRows>();
    return decoded_->Find(request, from_, to_,
                          [this]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
                            return std::make_unique<BatchSupply>(blocks_, from_, to_, nullptr);
                          });
  }

 private:
  const std::vector<BatchBlock>* blocks_;
  int64_t from_;
  int64_t to_;
  std::shared_ptr<DecodeSharing::Batch> decoded_;
  size_t next_ = 0;
};

class FeedRecordSupply : public RecordSupply {
 public:
  FeedRecordSupply(std::unique_ptr<FeedReader> reader, int64_t begin, int64_t end)
      : reader_(std::move(reader)), end_(end), position_(begin) {}
  ~FeedRecordSupply() override { reader_->Cancel(); }

  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    while (true) {
      while (next_block_ < piece_.blocks.size()) {
        ICEPIE_ASSIGN_OR_RETURN(DecodedBlock block,
                                piece_.blocks[next_block_++].chunk->Decode(kColumnsRead));
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
  int64_t position_;
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

RecordBatch RecordBatch::Alone() const {
  RecordBatch alone = *this;
  alone.decoded = nullptr;
  return alone;
}

void RecordBatch::Append(const RecordBatch& next) {
  for (const auto& [stream, blocks] : next.streams) {
    std::vector<BatchBlock>& mine = streams[stream];
    mine.insert(mine.end(), blocks.begin(), blocks.end());
  }
  end = next.end;
}

int64_t RecordBatch::Count(const std::string& stream, int64_t from, int64_t to) const {
  const auto found = streams.find(stream);
  if (found == streams.end()) return 0;
  int64_t count = 0;
  for (const BatchBlock& block : found->second) {
    count += std::max<int64_t>(0, ClippedEnd(block, to) - ClippedBegin(block, from));
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
      for (int64_t at = ClippedBegin(block, from); at < ClippedEnd(block, to); ++at) {
        positions.push_back(at);
      }
    }
  }
  std::sort(positions.begin(), positions.end());
  return positions;
}

void RecordBatch::KeepOnly(const std::vector<int64_t>& positions) {
  for (auto& [stream, blocks] : streams) {
    std::vector<BatchBlock> kept;
    for (const BatchBlock& block : blocks) {
      auto at = std::lower_bound(positions.begin(), positions.end(), block.begin);
      for (; at != positions.end() && *at < block.end; ++at) {
        kept.push_back(block);
        kept.back().begin = *at;
        kept.back().end = *at + 1;
      }
    }
    blocks = std::move(kept);
  }
}

std::optional<int64_t> RecordBatch::FirstIngestTime(const std::set<std::string>& wanted,
                                                    int64_t from) const {
  std::optional<int64_t> oldest;
  for (const auto& [stream, blocks] : streams) {
    if (wanted.count(stream) == 0) continue;
    const auto block = std::find_if(blocks.begin(), blocks.end(),
                                    [from](const BatchBlock& each) { return each.end > from; });
    if (block == blocks.end()) continue;
    const int64_t first = IngestTimeAt(*block, std::max(block->begin, from));
    oldest = std::min(oldest.value_or(first), first);
  }
  return oldest;
}

int64_t RecordBatch::LastEnd(const std::set<std::string>& wanted, int64_t from, int64_t to) const {
  int64_t last = 0;
  for (const auto& [stream, blocks] : streams) {
    if (wanted.count(stream) == 0) continue;
    for (const BatchBlock& block : blocks) {
      if (Overlaps(block, from, to)) last = std::max(last, ClippedEnd(block, to));
    }
  }
  return last;
}

SourceInput::OpenSupply RecordBatch::Supply(const std::string& stream, int64_t from,
                                            int64_t to) const {
  const auto found = streams.find(stream);
  const std::vector<BatchBlock>* blocks = found == streams.end() ? nullptr : &found->second;
  // An input keeps what it was given until the next batch of its streams, which may be long: the
  // rows end with the batch all the same.
  return [blocks, from, to, shares = decoded != nullptr,
          decoded = std::weak_ptr(decoded)]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
    std::shared_ptr<DecodeSharing::Batch> shared = decoded.lock();
    if (shares && shared == nullptr) {
      return absl::FailedPreconditionError("the batch of these records has ended");
    }
    return std::make_unique<BatchSupply>(blocks, from, to, std::move(shared));
  };
}

absl::Status BatchDecoder::Add(const FeedBlock& block) {
  BatchBlock added;
  std::vector<BatchBlock>& blocks = open_[block.stream];
  added.header = block.chunk->header();
  added.begin =
      std::max(added.header.first_position, blocks.empty() ? position_ : blocks.back().end);
  added.end = added.header.end_position();
  if (added.begin >= added.end) return absl::OkStatus();
  if (decoded_.count(block.stream) > 0) {
    ICEPIE_ASSIGN_OR_RETURN(DecodedBlock decoded, block.chunk->Decode(kColumnsRead));
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
    std::vector<BatchBlock> left;
    for (BatchBlock& block : blocks) {
      if (block.end > batch.end) {
        left.push_back(block);
        left.back().begin = std::max(block.begin, batch.end);
      }
      block.end = std::min(block.end, batch.end);
      if (block.begin < block.end) batch.streams[stream].push_back(std::move(block));
    }
    blocks = std::move(left);
  }
  return batch;
}

absl::StatusOr<RecordBatch> ReadRecordsAt(Feed& feed, const std::set<std::string>& streams,
                                          const std::vector<int64_t>& positions) {
  RecordBatch all;
  if (positions.empty()) return all;
  all.begin = positions.front();
  for (size_t first = 0; first < positions.size();) {
    size_t last = first;
    while (last + 1 < positions.size() &&
           positions[last + 1] - positions[last] < kReadThroughRecords) {
      ++last;
    }
    const int64_t end = positions[last] + 1;
    const auto reader = feed.Open({streams.begin(), streams.end()}, positions[first], end);
    BatchDecoder decoder(positions[first], streams);
    for (bool ended = false; !ended;) {
      ICEPIE_ASSIGN_OR_RETURN(std::optional<FeedPiece> piece, reader->Next());
      if (!piece) break;
      piece->complete_position = std::min(piece->complete_position, end);
      ICEPIE_ASSIGN_OR_RETURN(RecordBatch batch, decoder.Decode(*piece));
      batch.KeepOnly(positions);
      all.Append(batch);
      ended = batch.end >= end;
    }
    first = last + 1;
  }
  all.end = positions.back() + 1;
  return all;
}

SourceInput::OpenSupply FeedSupply(Feed& feed, std::string stream, int64_t end, int64_t begin) {
  return [&feed, stream = std::move(stream), end,
          begin]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
    if (end <= begin) return std::make_unique<EmptySupply>();
    return std::make_unique<FeedRecordSupply>(feed.Open({stream}, begin, end), begin, end);
  };
}

}  // namespace icepie::slices
