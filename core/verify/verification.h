// Verification of a core: every table file is read, and every write-ahead log of one at work, every
// stored record is read and hashed again, the tree is grown from those hashes alone, and three
// questions are answered apart: are the bytes what was committed, does the tree lead to the signed
// root, and does it continue an older checkpoint that the caller kept.
#ifndef ICEPIE_CORE_VERIFY_VERIFICATION_H_
#define ICEPIE_CORE_VERIFY_VERIFICATION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/append/stream_registry.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/merkle/checkpoint.h"
#include "core/merkle/merkle_tree.h"
#include "core/proof/tree_check.h"
#include "core/read/block_reader.h"

namespace icepie {

// Positions [position, end_position) and what is wrong with them.
struct VerificationFinding {
  int64_t position = 0;
  int64_t end_position = 0;
  std::string what;
};

// A file among the segments that the catalog does not name: no damage of records.
struct UnownedFile {
  std::string path;
  std::string fate;  // what becomes of it
};

struct VerificationAnswer {
  enum class State { kHolds, kFails, kNotChecked };
  State state = State::kNotChecked;
  std::string detail;
};

struct VerificationReport {
  int64_t end_position = 0;  // [0, end_position) was covered
  int64_t bytes = 0;         // of stored blocks
  VerificationAnswer bytes_rehashed;
  VerificationAnswer tree_recomputed;
  VerificationAnswer consistent;
  std::vector<VerificationFinding> findings;  // the first 100, in order
  int64_t finding_count = 0;
  std::string dropped;  // of a directory: what a start drops that nobody was told of; else empty
  std::vector<UnownedFile> unowned;  // of a directory, by path; a running core's come and go
  bool ok() const;
};

// What a verification starts from. Both checkpoints were opened with their key by the caller.
struct VerificationTask {
  BlockSources records;
  int64_t head = 0;
  std::optional<Checkpoint> last_signed;
  std::string why_no_signed;  // said when there is none
  std::optional<Checkpoint> older;
  std::optional<HighWater> mark;
  // For a write to the write-ahead log that does not end (LogStore::CheckFile).
  absl::Duration patience = absl::Seconds(10);
};

// What the high-water mark says of a log with so many records and changes of its catalog that takes
// no appends: that some are missing, or that nobody knows; nullopt: nothing.
std::optional<VerificationFinding> CompareWithMark(const absl::StatusOr<HighWater>& mark,
                                                   int64_t head, int64_t catalog_changes);

// Threads: one.
// Lifetime: what the task names outlives it.
class Verification {
 public:
  // Of everything, from the disk: nothing counts that was read before.
  explicit Verification(const VerificationTask& task);
  // Of the records only, where another one stood: `edge` is the stored tree of the records before
  // (RightEdge).
  Verification(const VerificationTask& task, CompactRange edge);

  // Reads the next file of the log, or hashes the next few MiB. False when all is done. While a
  // file is read or waited for, `goes_on` is asked again and again; once it says no, the step ends
  // and the next one begins with that file.
  bool Step(const std::function<bool()>& goes_on = [] { return true; });

  int64_t position() const { return edge_.size(); }
  int64_t end_position() const { return task_.head; }
  int64_t bytes() const { return report_.bytes; }
  const std::vector<VerificationFinding>& findings() const { return report_.findings; }

  // Damage that the caller found by itself, e.g. a missing file.
  void Add(VerificationFinding finding);

  // Once Step has returned false.
  VerificationReport Finish();

 private:
  void CheckNextFile(const std::function<bool()>& goes_on);
  // The blocks that hold positions up to `end`, whole, about `bytes_max` of them.
  absl::Status ReadNext(int64_t end, int64_t bytes_max);
  void Skip(const std::string& what);
  int64_t EndOfDamage() const;
  bool Readable(int64_t position) const;
  void Append(const Digest& leaf, bool is_known);
  void CompareMark();
  VerificationAnswer Compare(const std::optional<Checkpoint>& checkpoint,
                             const std::optional<Digest>& root, int64_t unread,
                             absl::string_view name) const;

  const VerificationTask task_;
  std::vector<LogStore::StoredFile> files_;  // to be read, the last one first
  StoredNodes stored_;
  CompactRange edge_;  // over the leaves of the records that were read
  bool is_whole_ = true;
  std::string unverified_;  // of the files, and why; empty: nothing
  int64_t unread_ = 0;      // records so far that could not be read: their leaves are the log's
  std::optional<Digest> signed_root_;
  int64_t signed_unread_ = 0;
  std::optional<Digest> older_root_;
  int64_t older_unread_ = 0;
  std::optional<Digest> marked_root_;
  VerificationReport report_;
};

// Verifies the core in `directory`, which no daemon has open, without changing a file of its log.
// `older_note` ("" for none) is checked with the directory's own key. Errors only when the
// directory cannot be looked at: damage is in the report. `progress` gets position, end and bytes.
using VerificationProgress = std::function<void(int64_t, int64_t, int64_t)>;
absl::StatusOr<VerificationReport> VerifyDirectory(const std::string& directory,
                                                   const std::string& older_note,
                                                   const VerificationProgress& progress);

}  // namespace icepie

#endif  // ICEPIE_CORE_VERIFY_VERIFICATION_H_
