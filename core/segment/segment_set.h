// The registered segments: which files hold the positions below the hot part of the log, and
// reading in them. The catalog says what must be there; the files are judged by it.
#ifndef ICEPIE_CORE_SEGMENT_SEGMENT_SET_H_
#define ICEPIE_CORE_SEGMENT_SEGMENT_SET_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/segment/segment_reader.h"

namespace icepie {

// Where the files are, relative to the core's directory.
inline constexpr absl::string_view kSegmentDirectory = "segments";

// What the catalog knows of a segment.
struct SegmentEntry {
  int64_t first_position = 0;
  int64_t end_position = 0;
  int64_t file_bytes = 0;
  uint64_t checksum = 0;  // the footer's
  int64_t last_ingest_time_us = 0;
  std::vector<std::pair<uint32_t, int64_t>> stream_ends;  // id and end offset, of the streams in it

  std::string file_name() const { return SegmentFileName(first_position, end_position); }
};

// The entry as a change of the catalog. It takes the place of one that begins where this one does.
LogStore::CatalogChange RegistrationOf(const SegmentEntry& entry);

// The largest end position of the segments whose files are in `directory`; 0 when there are none,
// or there is no such directory.
absl::StatusOr<int64_t> LastEndOfFiles(const std::string& directory);

// A file of the directory that the catalog does not name, and what the next opening that takes
// appends does with it.
struct LeftoverFile {
  std::string path;
  enum class Fate { kRemoved, kSetAside, kStays } fate = Fate::kRemoved;
};

// Threads: any.
// Errors: DATA_LOSS/RECORD_DAMAGED naming file and position for what is missing or damaged.
class SegmentSet {
 public:
  // `directory` is that of the files.
  explicit SegmentSet(std::string directory);
  ~SegmentSet();

  // Reads the catalog. DATA_LOSS when the registered segments do not follow each other from
  // position 0 on.
  static absl::StatusOr<std::unique_ptr<SegmentSet>> Load(const LogStore& store,
                                                          const std::string& directory);

  // What can be read of a damaged log's catalog. What it does not tell of any more is taken from
  // the files that fill the gap up to the next segment known, or to `hot_position`.
  static std::unique_ptr<SegmentSet> Salvage(const LogStore& store, const std::string& directory,
                                             int64_t hot_position);

  // Compares every file with its entry: size, footer. The first fault, and how many there are; OK
  // when all are as they should be.
  absl::Status CheckFiles() const;

  // The files of the directory that are not registered: what an interrupted sealing left. A segment
  // that reaches beyond `head` is not removed but renamed: where the log has lost its end, it may
  // hold that, but when the log has grown so far, it must not be taken for one of it (Salvage).
  std::vector<LeftoverFile> Leftovers(int64_t head) const;
  absl::Status RemoveLeftovers(int64_t head) const;

  const std::string& directory() const { return directory_; }

  // Every position below it is sealed.
  int64_t sealed_position() const { return sealed_position_.load(); }
  int64_t sealed_bytes() const { return sealed_bytes_.load(); }
  int64_t count() const;
  std::vector<std::shared_ptr<const SegmentEntry>> List(int64_t from = 0) const;  // end behind it

  // The files of [from, end), which stay while the lease is held.
  std::shared_ptr<const SegmentLease> Lease(int64_t from, int64_t end, size_t count_max) const;

  // While somebody holds the result, every file stays that is registered now or comes to be: for
  // whoever reads a copy of the catalog.
  std::shared_ptr<const void> KeepFiles();
  // Of `files`, which KeepFiles has given, those that the copy turns out to name; the others may go
  // when `files` does.
  std::shared_ptr<const void> KeepOnly(
      const std::shared_ptr<const void>& files,
      const std::vector<std::shared_ptr<const SegmentEntry>>& named);

  // `entry` begins at the sealed position, or where the last segment begins, whose place it then
  // takes: it holds that one's records and more. From now on readers find it.
  void Add(SegmentEntry entry);
  // The catalog has what was added: the file whose place it took goes with its last holder.
  void RemoveReplaced();

  // Where the block ends that holds `position`, which is below the sealed position; the segment's
  // end when it does not open.
  int64_t EndOfBlock(int64_t position);

  // By id, from the files that open.
  std::map<uint32_t, std::string> StreamNames() const;

  // The position of a stream's record; nullopt when it is not in a segment.
  absl::StatusOr<std::optional<int64_t>> FindOffset(uint32_t stream_id, int64_t offset);

  // How many records of a stream are sealed.
  int64_t SealedEndOffset(uint32_t stream_id) const;

  // The first position from `from` on that is in a segment with records of one of the streams; the
  // sealed position when there is none. Reads no file.
  int64_t FirstPositionWith(const std::unordered_set<uint32_t>& stream_ids, int64_t from) const;

  // The segment that holds `position`, which is below the sealed position. The readers used last
  // are kept open, until ForgetReaders: then a file is looked for again where it must be, and read
  // from the disk.
  absl::StatusOr<std::shared_ptr<const SegmentReader>> Open(int64_t position);
  void ForgetReaders();

 private:
  absl::StatusOr<std::shared_ptr<const SegmentReader>> OpenFile(const SegmentEntry& entry) const;

  class Registered;  // an entry, whose file stays as long as somebody holds this
  class HeldSegments;
  using SharedSegment = std::shared_ptr<Registered>;
  using Kept = std::vector<SharedSegment>;

  void TakeOutLast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string directory_;
  std::atomic<int64_t> sealed_position_{0};
  std::atomic<int64_t> sealed_bytes_{0};
  mutable Mutex mutex_;
  std::map<int64_t, SharedSegment> entries_ ABSL_GUARDED_BY(mutex_);  // by end position
  SharedSegment replaced_ ABSL_GUARDED_BY(mutex_);  // the catalog may have it still
  std::vector<std::weak_ptr<Kept>> keepers_ ABSL_GUARDED_BY(mutex_);
  // Of each stream: the segments that hold some of it, in order.
  struct StreamEnd {
    int64_t offset = 0;    // of the stream
    int64_t position = 0;  // of the segment
  };
  std::map<uint32_t, std::vector<StreamEnd>> stream_ends_ ABSL_GUARDED_BY(mutex_);
  // The readers used last, newest first.
  std::deque<std::shared_ptr<const SegmentReader>> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_SEGMENT_SEGMENT_SET_H_
