// Decoded records of several streams between two positions, and supplies of them for
// SourceInput::SetRecords.
#ifndef ICEPIE_SLICES_APPLY_RECORD_BATCH_H_
#define ICEPIE_SLICES_APPLY_RECORD_BATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/block/block.h"
#include "slices/apply/feed.h"
#include "slices/reading/shared_decode.h"
#include "slices/reading/source_scan.h"

namespace icepie::slices {

// The part [begin, end) of a block, of which the records, or (streams that are only watched) the
// header alone is known.
struct BatchBlock {
  BlockHeader header;
  int64_t begin = 0;
  int64_t end = 0;
  std::shared_ptr<const DecodedBlock> decoded;
};

// All records of the followed streams at positions in [begin, end), each once: of blocks that reach
// over an end, or over one another, the batch has parts.
class RecordBatch {
 public:
  int64_t begin = 0;
  int64_t end = 0;
  std::map<std::string, std::vector<BatchBlock>> streams;  // by position
  // What its scans decode together; null: nothing. Its blocks then do not change any more.
  std::shared_ptr<DecodeSharing::Batch> decoded;

  // The same records, for a scan of which no other will ask for the same part.
  RecordBatch Alone() const;

  // Blocks of `next`, which begins at this one's end, are added to this one.
  void Append(const RecordBatch& next);

  // Number of records of `stream` in [from, to).
  int64_t Count(const std::string& stream, int64_t from, int64_t to) const;
  int64_t RecordCount() const;

  // Positions of records of `wanted` streams in [from, to), sorted.
  std::vector<int64_t> Positions(const std::set<std::string>& wanted, int64_t from,
                                 int64_t to) const;

  // Leaves only the records at these positions (ascending), which all lie in [begin, end).
  void KeepOnly(const std::vector<int64_t>& positions);

  // Of the oldest record of `wanted` streams at or after `from`; nullopt when there is none.
  std::optional<int64_t> FirstIngestTime(const std::set<std::string>& wanted, int64_t from) const;

  // The position behind the last record of `wanted` streams below `to`; 0 when there is none at or
  // after `from`.
  int64_t LastEnd(const std::set<std::string>& wanted, int64_t from, int64_t to) const;

  // Records of `stream` in [from, to). The batch must outlive every supply; what is opened after
  // its end is FAILED_PRECONDITION when its scans decoded together.
  SourceInput::OpenSupply Supply(const std::string& stream, int64_t from, int64_t to) const;
};

// Turns pieces into batches. What reaches beyond a piece's complete position is kept for the next
// batch; a record that is handed out twice is taken once, also when its block has been joined with
// others in between.
class BatchDecoder {
 public:
  // `decoded`: streams of which records are needed; of others only headers are read.
  BatchDecoder(int64_t position, std::set<std::string> decoded)
      : position_(position), decoded_(std::move(decoded)) {}

  // DATA_LOSS for a damaged block.
  absl::StatusOr<RecordBatch> Decode(const FeedPiece& piece);

 private:
  absl::Status Add(const FeedBlock& block);

  int64_t position_;
  std::set<std::string> decoded_;
  std::map<std::string, std::vector<BatchBlock>> open_;  // what is not handed out yet
};

// The records of `streams` at these positions (ascending) alone, in one batch.
// UNAVAILABLE when the feed broke; DATA_LOSS for a damaged block.
absl::StatusOr<RecordBatch> ReadRecordsAt(Feed& feed, const std::set<std::string>& streams,
                                          const std::vector<int64_t>& positions);

// The same with who reads them.
using RecordReading = std::function<absl::StatusOr<RecordBatch>(
    const std::set<std::string>& streams, const std::vector<int64_t>& positions)>;

// Records of one stream in [begin, end), read anew from `feed` at each scan.
SourceInput::OpenSupply FeedSupply(Feed& feed, std::string stream, int64_t end, int64_t begin = 0);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_RECORD_BATCH_H_
