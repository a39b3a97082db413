// What one commit stores: appends in their order, with the positions and offsets they get, as
// blocks. No threads, no disk.
#ifndef ICEPIE_CORE_APPEND_COMMIT_GROUP_H_
#define ICEPIE_CORE_APPEND_COMMIT_GROUP_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "core/append/prepared_append.h"
#include "core/append/request_log.h"
#include "core/log/log_store.h"
#include "core/merkle/tiles.h"

namespace icepie {

// Threads: one.
class CommitGroup {
 public:
  // The first record gets position `head`; all records get `ingest_time_us`. Their leaves go into
  // `tree` (nullptr: there is none).
  CommitGroup(int64_t head, int64_t ingest_time_us, TileWriter* tree, RequestLog* requests)
      : head_(head), ingest_time_us_(ingest_time_us), tree_(tree), requests_(requests) {}

  // Takes the append in, or refuses it: when its chain is broken, when its identity does not allow
  // it, when there is no `room`, or when a condition does not hold. What was stored before is not
  // stored again. The answer comes with Answer().
  void Add(PreparedAppend append, const absl::Status& room);

  // The blocks, once everything is added. Neighbouring small runs of a stream share one.
  std::vector<LogEntry> TakeEntries();

  int64_t end_position() const { return head_; }

  // After the commit: the streams' new ends become visible.
  void Publish();

  // Calls each append's `done`: with its result, or `commit` when that is an error.
  void Answer(const absl::Status& commit);

 private:
  struct Planned {
    PreparedAppend append;
    absl::Status refused;
    AppendResult result;
    bool committed = false;  // by an earlier group: this commit's failure does not concern it
  };
  // A block that still takes records.
  struct OpenBlock {
    BlockPlace place;
    int64_t framed_bytes = 0;
    std::vector<const NewRecord*> records;
  };

  absl::Status Decide(Planned& planned, const absl::Status& room);
  absl::Status CheckConditions(const PreparedAppend& append);
  void Append(Planned& planned);
  int64_t& EndOffset(Stream* stream);
  void Place(const AppendRun& run, const BlockPlace& place);
  void CloseBlock();
  void Grow(const AppendRun& run, const BlockPlace& place);
  BlockHeader HeaderOf(const BlockPlace& place) const;

  int64_t head_;
  const int64_t ingest_time_us_;
  TileWriter* const tree_;
  RequestLog* const requests_;
  std::vector<Planned> planned_;
  std::map<Stream*, int64_t> end_offsets_;  // of the streams that the group touches
  OpenBlock open_;
  std::vector<LogEntry> entries_;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_COMMIT_GROUP_H_
