// The raw core: the only writer and the only opener of RocksDB. Appends are grouped by one
// sequencer thread into one WriteBatch and one WAL sync; an acknowledged record is on disk and
// never changes.
#ifndef ICEPIE_CORE_CORE_H_
#define ICEPIE_CORE_CORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/log/disk_space.h"
#include "core/merkle/sha256.h"
#include "core/proof/proofs.h"
#include "core/record.h"
#include "core/verify/scrub.h"

namespace rocksdb {
class Env;
}

namespace icepie {

// Of the payloads of a protobuf stream: kept for those who read them, and not looked into.
struct StreamSchema {
  std::string descriptor_set;  // a serialized google.protobuf.FileDescriptorSet
  std::string message;         // "shop.v1.Order"

  bool operator==(const StreamSchema& other) const {
    return descriptor_set == other.descriptor_set && message == other.message;
  }
};

// Only JSON is checked at append. The numbers are those on disk.
enum class PayloadFormat { kJson = 0, kBytes = 1, kProtobuf = 2 };

// Where a stream takes from a payload what a record does not carry: "$.from.wallet"; empty:
// nowhere.
struct StreamPaths {
  std::string key;         // a text or a whole number
  std::string event_time;  // ISO 8601 text
};

struct StreamInfo {
  uint32_t id = 0;
  std::string name;
  PayloadFormat format = PayloadFormat::kJson;
  int64_t end_offset = 0;
  absl::Time create_time;
  StreamPaths paths;
  std::shared_ptr<const StreamSchema> schema;  // of kProtobuf, else nullptr
};

// What must hold of a stream when a batch is committed.
struct AppendCondition {
  enum class Kind {
    kEndOffset,  // it has exactly `end_offset` records
    kAbsent,     // it has no record, or does not exist
    kPresent,    // it has a record
  };
  std::string stream;
  int64_t end_offset = 0;
  Kind kind = Kind::kEndOffset;
};

// By what a batch that is sent again is known: a request_id, or a producer's place in its sequence.
struct AppendIdentity {
  std::string request_id;  // of a simple client; empty when there is a producer
  std::string
      producer_id;  // its batches are 0, 1, 2 … in each epoch; a new epoch fences older ones
  int64_t epoch = 0;
  int64_t sequence = 0;
};

struct Stream;

// Batches that one client sends without waiting for the answers in between: after the first that
// fails, those behind it are refused with ABORTED/APPEND_CHAIN_BROKEN. Share one among them.
struct AppendChain {
  std::atomic<bool> refused{false};  // a batch was not even queued: those queued before it go on
  std::atomic<bool> failed{false};   // a batch failed at its commit
  std::atomic<const Stream*> line{nullptr};  // where they wait (core/append/append_queue.h)
};

struct AppendBatch {
  std::vector<NewRecord> records;
  std::vector<AppendCondition> conditions;
  std::shared_ptr<AppendChain> chain;  // nullptr: on its own
  std::optional<AppendIdentity> identity;
  uint64_t peer = 0;           // by which connection it came: each waits for itself. 0: unknown
  bool validate_only = false;  // checked like any other, and not stored
};

struct AppendedRange {
  std::string stream;
  int64_t first_offset = 0;
  int64_t end_offset = 0;
};

struct AppendResult {
  int64_t first_position = 0;
  int64_t end_position = 0;
  std::vector<AppendedRange> streams;
  int64_t ingest_time_us = 0;
  bool replayed = false;  // stored before under the same identity: this is the first answer
};

struct DiskState {
  bool full = false;
  int64_t free_bytes = 0;  // at the last look; 0 when the disk is not watched
};

// Where the sealer is; for tests that fail or end it there.
enum class SealStep { kBegin, kFilled, kSynced, kRenamed, kDirectorySynced, kRegistered };

// Where a commit or a signature is; for tests that end the process there.
enum class WriteStep {
  kPlanned,    // positions are given, nothing is written
  kLogSynced,  // the records are on disk
  kMarked,     // the high-water mark has them; nobody was answered
  kAnswered,
  kHashed,  // a checkpoint's records are hashed again, nothing is signed
  kSigned,  // the checkpoint is on disk, nobody has seen it
};

// When the oldest blocks of the log become a segment file (core/segment/sealer.h).
struct SealingOptions {
  bool enabled = true;
  int64_t segment_bytes = int64_t{32} << 20;  // of blocks, before small ones are joined
  bool grows_segments = true;  // the last one, while its file is not half as large, takes more
  // The newest part that stays in the log. Together with a segment it is less than what RocksDB
  // keeps in memory, so that most blocks are written twice in all: to the log and to a segment.
  int64_t hot_bytes_min = int64_t{16} << 20;
  absl::Duration age_min = absl::Seconds(1);
  absl::Duration look_interval = absl::Seconds(1);
  std::optional<absl::Duration> retry_delay;
  std::function<absl::Status(SealStep)> on_step;  // an error fails the step
};

struct CoreOptions {
  std::string directory;
  int64_t record_bytes_max = int64_t{1} << 20;
  int64_t batch_bytes_max = int64_t{3} << 20;
  int64_t batch_records_max = 65536;
  int64_t queue_bytes_max = int64_t{64} << 20;
  int64_t free_bytes_min = 0;  // core/log/disk_space.h; 0: the disk is not watched
  int64_t ballast_bytes = 0;
  FreeBytesSource free_bytes = FreeBytesOf;
  // An operator accepts that nothing from this position on is there any more: a damaged core whose
  // readable records end exactly there takes appends again.
  std::optional<int64_t> accept_loss_position;
  // A signed checkpoint (its note) that was kept elsewhere: a core that does not continue it was
  // restored from an older copy, and opens read-only. FAILED_PRECONDITION, before the log is
  // touched, unless this core's key has signed it.
  std::optional<std::string> expected_checkpoint;
  rocksdb::Env* env = nullptr;  // nullptr: the machine's; tests bring disks that fail
  // Which log the checkpoints are of, e.g. "example.com/log"; empty: a name made of the key.
  // Settled at the first start.
  std::string origin;
  absl::Duration checkpoint_interval = absl::Seconds(1);  // between two signatures, at least
  bool merkle_tree =
      true;  // false measures what the tree costs; the next opening with it builds it
  SealingOptions sealing;
  std::function<void(WriteStep)> on_write_step;
  ScrubOptions scrub;
};

// A segment file, for readers outside this process.
struct SealedSegment {
  std::string path;  // relative to the core's directory
  int64_t first_position = 0;
  int64_t end_position = 0;
};

// Files that stay as long as somebody holds this.
class SegmentLease {
 public:
  virtual ~SegmentLease() = default;
  virtual const std::vector<SealedSegment>& segments() const = 0;  // by position, without gaps
};

// Where the records are.
struct CoreStorage {
  int64_t sealed_position = 0;  // those below it are in segments
  int64_t segment_count = 0;
  int64_t segment_bytes = 0;
  std::optional<int64_t> hot_bytes;  // of blocks in the log, a moment ago; unknown when read-only
};

// What a backup holds.
struct BackupResult {
  int64_t head_position = 0;
  Digest root{};
  int64_t bytes = 0;  // shared with the original or copied
};

// Gets the bytes that are done and those to be done; false ends the backup.
using BackupProgress = std::function<bool(int64_t done_bytes, int64_t total_bytes)>;

// A stored block as the log holds it.
struct StoredBlock {
  std::string stream;
  std::string data;  // core/block/block.h
};

// Blocks of some streams in position order.
struct BlockRange {
  std::vector<StoredBlock> blocks;
  int64_t complete_position = 0;  // every record of the streams below it is in `blocks` or before
};

// Threads: every method may be called from any thread.
// Errors: those of API.md's table, with reason; CORE_READ_ONLY on every change once the core has
//   found itself damaged (it then still opens and reads).
// Lifetime: callbacks have run, or run with UNAVAILABLE, before the destructor returns.
class Core {
 public:
  // Opens or creates the core. FAILED_PRECONDITION/DATA_DIRECTORY_LOCKED names the process that has
  // the directory, DATA_DIRECTORY_NOT_WRITABLE says why. A core that is smaller than its high-water
  // mark opens read-only.
  static absl::StatusOr<std::unique_ptr<Core>> Open(const CoreOptions& options);
  virtual ~Core() = default;

  // Why appends are refused; empty when they are not.
  virtual std::string ReadOnlyCause() const = 0;

  // What was found when a loss was accepted, in this opening or one before, that nobody has
  // recorded yet; empty: nothing was lost. Whoever has recorded it lets the next openings forget
  // it.
  virtual std::string AcceptedLoss() const = 0;
  virtual absl::Status ForgetAcceptedLoss() = 0;

  // Whether appends are refused because the disk is nearly full. The daemon's own changes go on
  // from a reserve, and appends by themselves once there is space again.
  virtual DiskState Disk() const = 0;

  // An equal stream is returned; one of another format or schema, or with other paths than those
  // given, is ALREADY_EXISTS/STREAM_EXISTS. Paths are for JSON only, and apply to batches from then
  // on. A schema is for kProtobuf, which must have one.
  virtual absl::StatusOr<StreamInfo> CreateStream(absl::string_view name, PayloadFormat format,
                                                  const StreamPaths& paths,
                                                  std::shared_ptr<const StreamSchema> schema) = 0;
  absl::StatusOr<StreamInfo> CreateStream(absl::string_view name, PayloadFormat format,
                                          const StreamPaths& paths = {}) {
    return CreateStream(name, format, paths, nullptr);
  }
  // Changes the paths that are given; an empty one is removed.
  struct StreamChange {
    std::optional<std::string> key_path;
    std::optional<std::string> event_time_path;
  };
  virtual absl::StatusOr<StreamInfo> UpdateStream(absl::string_view name,
                                                  const StreamChange& change) = 0;
  // Errors as of CreateStream and UpdateStream, without a change. CheckCreate: whether there would
  // be one, which is not when an equal stream exists.
  virtual absl::StatusOr<bool> CheckCreate(
      absl::string_view name, PayloadFormat format, const StreamPaths& paths,
      const std::shared_ptr<const StreamSchema>& schema) const = 0;
  virtual absl::Status CheckUpdate(absl::string_view name, const StreamChange& change) const = 0;
  // The same for the daemon's own streams, whose names begin with "_".
  virtual absl::StatusOr<StreamInfo> CreateInternalStream(absl::string_view name,
                                                          PayloadFormat format) = 0;
  virtual absl::StatusOr<StreamInfo> GetStream(absl::string_view name) const = 0;
  // By name: those behind `after` (empty: from the first), `count_max` of them at most.
  virtual std::vector<StreamInfo> ListStreams(absl::string_view after, size_t count_max) const = 0;

  // Validates and compresses now, in the caller's thread: `done` is called before Append returns
  // when the batch is invalid or the queue full. Otherwise it is called from the sequencer thread,
  // and must not block, when the batch is on disk or has failed. Batches of a chain commit in the
  // order of calls, and so do those whose first records are of one stream. A batch with an identity
  // that was stored before is answered with the first answer.
  using AppendDone = std::function<void(absl::StatusOr<AppendResult>)>;
  virtual void Append(AppendBatch batch, AppendDone done) = 0;
  // The same, waiting.
  absl::StatusOr<AppendResult> AppendAndWait(AppendBatch batch);

  // Number of committed records.
  virtual int64_t head_position() const = 0;

  // Waits until the head is beyond `position` or `timeout` has passed; returns the head.
  virtual int64_t WaitForHead(int64_t position, absl::Duration timeout) const = 0;

  // Calls `listener` with the new head after each commit, from the sequencer thread. It must not
  // block. Returns an id for RemoveHeadListener, which returns when no call is under way.
  virtual int64_t AddHeadListener(std::function<void(int64_t)> listener) = 0;
  virtual void RemoveHeadListener(int64_t id) = 0;

  // Blocks of `streams` (empty: all) that hold records in [from, end), at least one if there is
  // any, up to about `bytes_max`. `end` beyond the head is cut to it. The first block may begin
  // before `from`, the last may end beyond `end`. OUT_OF_RANGE/POSITION_AHEAD_OF_CORE when `from`
  // is beyond the head, DATA_LOSS/RECORD_DAMAGED naming the position.
  virtual absl::StatusOr<BlockRange> ReadBlocks(const std::vector<std::string>& streams,
                                                int64_t from, int64_t end,
                                                int64_t bytes_max) const = 0;

  // The position of the stream's record at `offset`; the head, or a position before it from which
  // on there is no earlier record of the stream, when it is the next one to come. OUT_OF_RANGE/
  // POSITION_AHEAD_OF_CORE when `offset` is beyond the stream's end.
  virtual absl::StatusOr<int64_t> PositionOf(absl::string_view stream, int64_t offset) const = 0;
  virtual CoreStorage Storage() const = 0;
  // What is known of the core's bytes; nullopt when nobody reads them again: it is read-only.
  virtual std::optional<ScrubState> Scrub() const = 0;

  // Proofs over the records; nullptr when the core keeps no tree.
  virtual Proofs* proofs() = 0;
  // The segments that hold positions in [from, end), `count_max` at most; none when `from` is not
  // sealed.
  virtual std::shared_ptr<const SegmentLease> LeaseSegments(int64_t from, int64_t end,
                                                            size_t count_max) const = 0;

  // Copies the core, while it goes on, to the directory `target` (core/verify/backup.h). What is
  // acknowledged before the call is in the copy. CORE_READ_ONLY when the core is: a damaged one is
  // copied after the daemon has ended.
  virtual absl::StatusOr<BackupResult> BackUpTo(const std::string& target,
                                                const BackupProgress& progress) = 0;

  // A small durable map for the daemon's own state. Put and Delete (nullopt) are atomic over all
  // pairs and synced. Scan returns the pairs whose key begins with `prefix`, in key order.
  using CatalogChange = std::pair<std::string, std::optional<std::string>>;
  virtual absl::Status ChangeCatalog(const std::vector<CatalogChange>& changes) = 0;
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanCatalog(
      absl::string_view prefix) const = 0;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_CORE_H_
