// Batches out of pieces whose blocks overlap: the core joins small blocks when it seals them, so a
// reader may meet the same records in blocks of other borders.
#include "slices/apply/record_batch.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/block/block.h"
#include "slices/apply/batches_ahead.h"
#include "slices/reading/shared_decode.h"

namespace icepie::slices {
namespace {

// A block of the records at [first, end), whose ingest times are their positions.
std::string BlockOf(int64_t first, int64_t end) {
  std::vector<DecodedBlock> blocks;
  for (int64_t position = first; position < end; ++position) {
    NewRecord record;
    record.payload = std::to_string(position);
    const NewRecord* pointer = &record;
    const BlockHeader header{1, position, position, 1, position};
    blocks.push_back(*DecodedBlock::Decode(EncodeBlock(header, {&pointer, 1})));
  }
  return MergeBlocks(blocks);
}

FeedPiece PieceOf(const std::vector<std::pair<int64_t, int64_t>>& blocks, int64_t complete) {
  FeedPiece piece;
  for (const auto& [first, end] : blocks) {
    piece.blocks.push_back({"a", *ChunkOfBlock(BlockOf(first, end))});
  }
  piece.complete_position = complete;
  return piece;
}

std::vector<int64_t> PositionsOf(const RecordBatch& batch, int64_t from = 0,
                                 int64_t to = INT64_MAX) {
  auto supply = *batch.Supply("a", from, to)();
  std::vector<int64_t> positions;
  while (true) {
    const auto records = *supply->Next();
    if (records.empty()) return positions;
    for (const RecordView& record : records) positions.push_back(record.position);
  }
}

std::vector<int64_t> Range(int64_t from, int64_t end) {
  std::vector<int64_t> numbers;
  for (int64_t n = from; n < end; ++n) numbers.push_back(n);
  return numbers;
}

TEST(RecordBatchTest, RecordsInOverlappingBlocksAreTakenOnce) {
  BatchDecoder decoder(3, {"a"});
  // The second piece's first block begins before, at and behind the blocks of the first piece.
  RecordBatch batch = *decoder.Decode(PieceOf({{0, 5}, {5, 8}}, 8));
  EXPECT_EQ(PositionsOf(batch), Range(3, 8));
  batch.Append(*decoder.Decode(PieceOf({{6, 12}}, 12)));
  batch.Append(*decoder.Decode(PieceOf({{4, 14}, {10, 12}, {14, 15}}, 15)));
  EXPECT_EQ(PositionsOf(batch), Range(3, 15));
  EXPECT_EQ(batch.RecordCount(), 12);
  EXPECT_EQ(batch.Positions({"a"}, 7, 11), Range(7, 11));
  EXPECT_EQ(PositionsOf(batch, 7, 11), Range(7, 11));
}

TEST(RecordBatchTest, WhatReachesBeyondAPieceIsKeptForTheNext) {
  BatchDecoder decoder(0, {"a"});
  RecordBatch batch = *decoder.Decode(PieceOf({{0, 10}}, 4));
  EXPECT_EQ(PositionsOf(batch), Range(0, 4));
  EXPECT_EQ(PositionsOf(*decoder.Decode(PieceOf({}, 6))), Range(4, 6));
  const RecordBatch last = *decoder.Decode(PieceOf({{5, 12}}, 12));
  EXPECT_EQ(PositionsOf(last), Range(6, 12));
}

TEST(RecordBatchTest, IngestTimesAreTheRecordsOwnAlsoInJoinedBlocks) {
  BatchDecoder decoder(3, {"a"});
  const RecordBatch batch = *decoder.Decode(PieceOf({{0, 10}}, 8));
  EXPECT_EQ(batch.FirstIngestTime({"a"}, 0), 3);
  EXPECT_EQ(batch.FirstIngestTime({"a"}, 5), 5);
  EXPECT_EQ(batch.FirstIngestTime({"a"}, 8), std::nullopt);
  EXPECT_EQ(batch.FirstIngestTime({"b"}, 0), std::nullopt);
  EXPECT_EQ(batch.LastEnd({"a"}, 0, 6), 6);
  EXPECT_EQ(RecordBatch().FirstIngestTime({"a"}, 0), std::nullopt);
}

TEST(RecordBatchTest, StreamsThatAreOnlyWatchedAreCounted) {
  BatchDecoder decoder(3, {});
  const RecordBatch batch = *decoder.Decode(PieceOf({{0, 5}, {2, 8}}, 8));
  EXPECT_EQ(batch.Count("a", 0, INT64_MAX), 5);
}

TEST(RecordBatchTest, RowsDecodedTogetherEndWithTheBatch) {
  BatchDecoder decoder(0, {"a"});
  RecordBatch batch = *decoder.Decode(PieceOf({{0, 5}}, 5));
  const auto sharing = DecodeSharing::Create();
  batch.decoded = DecodeSharing::NextBatch(sharing);
  const std::weak_ptr<DecodeSharing::Batch> decoded = batch.decoded;
  const SourceInput::OpenSupply open = batch.Supply("a", 0, 5);  // as an input keeps it
  EXPECT_TRUE(open().ok());
  batch = RecordBatch();
  EXPECT_TRUE(decoded.expired());
  EXPECT_EQ(open().status().code(), absl::StatusCode::kFailedPrecondition);
}

// Hands out these pieces, then an error or the end; or waits until it is cancelled.
class PieceReader : public FeedReader {
 public:
  PieceReader(std::vector<FeedPiece> pieces, absl::Status last, bool waits = false)
      : pieces_(std::move(pieces)), last_(std::move(last)), waits_(waits) {}

  absl::StatusOr<std::optional<FeedPiece>> Next() override {
    if (next_ < pieces_.size()) return std::optional<FeedPiece>(pieces_[next_++]);
    MutexLock lock(mutex_);
    while (waits_ && !cancelled_) changed_.Wait(mutex_);
    if (cancelled_) return absl::UnavailableError("cancelled");
    if (!last_.ok()) return last_;
    return std::optional<FeedPiece>();
  }
  void Cancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    changed_.SignalAll();
  }

 private:
  const std::vector<FeedPiece> pieces_;
  const absl::Status last_;
  const bool waits_;
  size_t next_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

std::vector<FeedPiece> ThreePieces() {
  return {PieceOf({{0, 5}}, 4), PieceOf({{5, 9}}, 9), PieceOf({{7, 12}}, 12)};
}

TEST(BatchesAheadTest, BatchesComeInOrderUpToTheEnd) {
  PieceReader reader(ThreePieces(), absl::OkStatus(), /*waits=*/true);
  BatchesAhead batches(reader, 2, 11, {"a"});
  for (const auto& [from, end] :
       std::vector<std::pair<int64_t, int64_t>>{{2, 4}, {4, 9}, {9, 11}}) {
    const auto batch = batches.Next();
    ASSERT_TRUE(batch.ok() && batch->has_value()) << batch.status();
    EXPECT_EQ((*batch)->begin, from);
    EXPECT_EQ((*batch)->end, end);
    EXPECT_EQ(PositionsOf(**batch), Range(from, end));
  }
  for (int i = 0; i < 2; ++i) {
    const auto behind = batches.Next();
    ASSERT_TRUE(behind.ok()) << behind.status();
    EXPECT_FALSE(behind->has_value());
  }
}

TEST(BatchesAheadTest, AnErrorComesBehindWhatWasReadBeforeIt) {
  PieceReader reader(ThreePieces(), absl::DataLossError("a damaged block"));
  BatchesAhead batches(reader, 0, 100, {"a"});
  for (int i = 0; i < 3; ++i) {
    const auto batch = batches.Next();
    ASSERT_TRUE(batch.ok() && batch->has_value()) << batch.status();
  }
  EXPECT_EQ(batches.Next().status(), absl::DataLossError("a damaged block"));
}

TEST(BatchesAheadTest, WhoStopsEarlyDoesNotWaitForTheFeed) {
  PieceReader waiting({PieceOf({{0, 5}}, 5)}, absl::OkStatus(), /*waits=*/true);
  {
    BatchesAhead batches(waiting, 0, 100, {"a"});
    ASSERT_TRUE(batches.Next().ok());
  }
  // Nor for itself, with a batch that nobody takes.
  PieceReader reader(ThreePieces(), absl::OkStatus());
  const BatchesAhead batches(reader, 0, 100, {"a"});
}

// How many of twelve batches are decoded for a scan that each of them has.
int CountDecoded(bool decodes) {
  std::vector<FeedPiece> pieces;
  for (int64_t i = 0; i < 12; ++i) pieces.push_back(PieceOf({{2 * i, 2 * i + 2}}, 2 * i + 2));
  PieceReader reader(std::move(pieces), absl::OkStatus());
  BatchesAhead batches(reader, 0, 24, {"a"});
  if (!decodes) batches.DecodeNoMore();
  const SourceReading reading{"a", {}, {}};
  const std::string group = ShareGroup(reading);
  const std::vector<std::string> keys;
  const ScanRequest request{&reading, &group, &keys, std::vector<bool>(kHiddenCount, true)};
  int decoded = 0;
  while (true) {
    const auto batch = batches.Next();
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok() || !batch->has_value()) return decoded;
    const RecordBatch& records = **batch;
    const auto rows = records.decoded->Find(request, records.begin, records.end,
                                            records.Supply("a", records.begin, records.end));
    EXPECT_TRUE(rows.ok()) << rows.status();
    if (rows.ok() && *rows != nullptr) ++decoded;
  }
}

// Rows of a whole batch are of no use to who takes it in pieces.
TEST(BatchesAheadTest, TheyAreDecodedUntilNobodyWantsThat) {
  EXPECT_GT(CountDecoded(true), 0);
  EXPECT_EQ(CountDecoded(false), 0);
}

// Exits with 0 when all batches come although there is no memory for a thread's stack.
void ReadWithoutThreads() {
  PieceReader reader(ThreePieces(), absl::DataLossError("a damaged block"));
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (4 << 20);
  const rlimit limit = {bytes, bytes};
  ::setrlimit(RLIMIT_AS, &limit);
  BatchesAhead batches(reader, 0, 100, {"a"});
  for (int i = 0; i < 3; ++i) {
    const auto batch = batches.Next();
    if (!batch.ok() || !batch->has_value()) ::_exit(1);
  }
  if (!absl::IsDataLoss(batches.Next().status())) ::_exit(2);
  const auto behind = batches.Next();
  ::_exit(behind.ok() && !behind->has_value() ? 0 : 3);
}

TEST(BatchesAheadDeathTest, WithoutThreadsTheTakerReads) {
  EXPECT_EXIT(ReadWithoutThreads(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace icepie::slices
