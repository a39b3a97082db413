// Where blocks, the index of positions and the catalog are on disk: RocksDB, and the only file of
// the core that knows it.
//
// Column families (core/README.md has every byte):
//   log      stream id, first offset → block (core/block/block.h)
//   index    first position → stream id, first offset, record count, bytes; an entry for each block
//   tree     level, first node → hashes of the Merkle tree (core/merkle/tiles.h)
//   catalog  the core's streams and the daemon's own small map
#ifndef ICEPIE_CORE_LOG_LOG_STORE_H_
#define ICEPIE_CORE_LOG_LOG_STORE_H_

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
#include "absl/types/span.h"
#include "core/log/wal_check.h"
#include "core/merkle/tiles.h"

namespace rocksdb {
class Env;
}

namespace icepie {

class ReadOnlyGuard;

// Where the hot block is that holds the positions [first_position, end_position()).
struct BlockPlace {
  int64_t first_position = 0;
  uint32_t stream_id = 0;
  int64_t first_offset = 0;
  uint32_t record_count = 0;
  uint32_t stored_bytes = 0;  // set by readers
  int64_t end_position() const { return first_position + record_count; }
};

struct LogEntry {
  BlockPlace place;
  std::string block;
};

// Threads: any.
// Errors: DATA_LOSS/RECORD_DAMAGED when stored bytes are damaged or missing, naming the position
//   where that is known, or cannot be read at a second try; UNAVAILABLE when a write fails.
class LogStore {
 public:
  enum class Mode {
    kReadWrite,
    kReadWriteAfterLoss,  // drops what stands behind the first damage of the write-ahead log
    kReadOnly,            // changes no file of the log
    kSalvage,             // kReadOnly that stops at the first damaged entry of the write-ahead log
    kSalvageTables,  // that opens also when table files are missing or damaged, and then passes
                     // over damaged entries of the write-ahead log
  };
  struct Options {
    std::string directory;
    Mode mode = Mode::kReadWrite;
    rocksdb::Env* env = nullptr;  // nullptr: the machine's; tests bring disks that fail
    // Outlives the store; tripped when RocksDB's own threads have failed for good.
    ReadOnlyGuard* guard = nullptr;
    // Called by any thread when a write-ahead log meets a full disk: whether room was made.
    std::function<bool()> make_room = nullptr;
  };
  using CatalogChange = std::pair<std::string, std::optional<std::string>>;

  // kReadWrite creates what does not exist.
  static absl::StatusOr<std::unique_ptr<LogStore>> Open(const Options& options);
  // Whether the directory holds a log, or what a damage has left of one.
  static bool Exists(const std::string& directory);
  virtual ~LogStore() = default;

  // Writes all entries or none, and syncs. After an error nobody knows which of both holds, and
  // every later change fails too.
  virtual absl::Status Commit(absl::Span<const LogEntry> entries, const TileChanges& tree,
                              absl::Span<const CatalogChange> catalog) = 0;

  // Makes `directory`, which must not exist, a log that holds everything written before the call.
  // Tables are shared where both are on one file system. Not everything is synced.
  virtual absl::Status CopyTo(const std::string& directory) const = 0;

  // The table files, write-ahead logs and the manifest there are or must be now; and one of them
  // read whole from the disk, every checksum compared, also where nothing is looked up. A file that
  // is gone since is fine: its content is in others. Of a log that is read only tables alone are
  // listed: opening has judged the rest.
  struct StoredFile {
    std::string path;
    std::string family;  // of a table; empty: a write-ahead log, or the manifest with CURRENT
    int64_t bytes = 0;
  };
  struct CheckOptions {
    CheckProgress progress;  // also while a write is waited for; false: CANCELLED
    // DEADLINE_EXCEEDED for a write-ahead log whose end somebody has been writing for so long:
    // what is there is not verified.
    absl::Duration patience = absl::Seconds(10);
  };
  virtual absl::StatusOr<std::vector<StoredFile>> ListFiles() const = 0;
  virtual absl::Status CheckFile(const StoredFile& file, const CheckOptions& how) const = 0;
  // Forgets what was read from table files, so that it is read from the disk the next time.
  virtual void DropCache() const = 0;

  // Changes the tree alone, together with some catalog keys; used to make the tree of a log that
  // has none.
  virtual absl::Status ChangeTree(const TileChanges& tree,
                                  absl::Span<const CatalogChange> changes) = 0;

  // The tree's runs of `level` that begin in [first, end), in order; none when the log has no tree.
  // DATA_LOSS/PROOF_DAMAGED. And the last one of a level.
  virtual absl::StatusOr<std::vector<TileRun>> ReadTreeRuns(int level, int64_t first,
                                                            int64_t end) const = 0;
  virtual absl::StatusOr<std::optional<TileRun>> LastTreeRun(int level) const = 0;

  // Blocks that a segment holds now: those of positions in [first, end). Each range, also of a
  // stream's offsets, begins at 0 or where the one before ended: nothing older is left.
  struct SealedRange {
    CatalogChange registration;
    int64_t first_position = 0;
    int64_t end_position = 0;
    struct Offsets {
      uint32_t stream_id = 0;
      int64_t first = 0;
      int64_t end = 0;
    };
    std::vector<Offsets> streams;
  };
  // Registers the segment and drops the blocks and their index entries, both or neither; synced.
  virtual absl::Status DropSealed(const SealedRange& sealed) = 0;

  // The same for catalog keys; nullopt deletes.
  virtual absl::Status ChangeCatalog(absl::Span<const CatalogChange> changes) = 0;
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ScanCatalog(
      absl::string_view prefix) const = 0;
  virtual absl::StatusOr<std::optional<std::string>> ReadCatalog(absl::string_view key) const = 0;
  // Calls `visit` for each key from `start` on that begins with `prefix`, until it returns false.
  using CatalogVisitor = std::function<bool(absl::string_view key, absl::string_view value)>;
  virtual absl::Status VisitCatalog(absl::string_view prefix, absl::string_view start,
                                    const CatalogVisitor& visit) const = 0;

  // From now on no compaction begins that would write more than `bytes`; it is tried again later.
  virtual void LimitCompactions(int64_t bytes) = 0;

  // The last block in position order, and the last of a stream; nullopt when there is none.
  virtual absl::StatusOr<std::optional<BlockPlace>> LastPlace() const = 0;
  virtual absl::StatusOr<std::optional<std::string>> LastBlock(uint32_t stream_id) const = 0;

  // The last block of a stream that begins at `offset` or before.
  virtual absl::StatusOr<std::optional<std::string>> BlockAtOffset(uint32_t stream_id,
                                                                   int64_t offset) const = 0;

  // Calls `visit` for each block that holds positions in [from, end), in position order, until it
  // returns false.
  using Visitor = std::function<bool(const BlockPlace&)>;
  virtual absl::Status VisitPlaces(int64_t from, int64_t end, const Visitor& visit) const = 0;

  // Calls `visit` for the blocks of a stream, from its last backwards, until it returns false. Says
  // nothing of whether they are all.
  virtual absl::Status VisitStreamBackwards(uint32_t stream_id, const Visitor& visit) const = 0;

  virtual absl::StatusOr<std::string> ReadBlock(const BlockPlace& place) const = 0;

  // For a damaged log: what can be read of the index, and of the catalog's keys with `prefix`. From
  // the beginning up to the first damage, then from the end back to the last one.
  virtual void SalvagePlaces(const std::function<void(const BlockPlace&)>& visit) const = 0;
  virtual std::vector<std::pair<std::string, std::string>> SalvageCatalog(
      absl::string_view prefix) const = 0;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_LOG_STORE_H_
