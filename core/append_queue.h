// The appends that wait for their commit, in a line for each stream: who floods a stream waits for
// himself, and an eighth of the queue is kept for those who do not.
//
// Lines take turns by bytes (deficit round robin). While only one line is used, a commit takes as
// much as waits; while several are, it takes little, since whoever comes next waits for the commit
// that is under way.
#ifndef ICEPIE_CORE_APPEND_QUEUE_H_
#define ICEPIE_CORE_APPEND_QUEUE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/prepared_append.h"

namespace icepie {

// Threads: none; the caller's. It never looks at a clock: times are passed in.
class AppendQueue {
 public:
  // Of one commit. More would make the first in the queue wait for the last.
  static constexpr int64_t kGroupBytesMax = int64_t{8} << 20;
  static constexpr int64_t kSharedGroupBytesMax = int64_t{256} << 10;
  static constexpr size_t kGroupAppendsMax = 4096;
  // However small they are: more would wait longer than a client does. Beside them a line that has
  // less than an eighth of them may have that.
  static constexpr size_t kAppendsMax = 65536;

  explicit AppendQueue(int64_t bytes_max) : bytes_max_(bytes_max) {}

  // RESOURCE_EXHAUSTED/APPEND_QUEUE_FULL; `append` is then left as it is. Those of a line, and of a
  // chain, keep their order.
  absl::Status Add(PreparedAppend& append, absl::Time now);

  // What is committed next; empty when nothing waits. It counts until Committed.
  std::vector<PreparedAppend> TakeGroup(absl::Time now);
  void Committed(int64_t bytes) { bytes_ -= bytes; }

  bool empty() const { return count_ == 0; }

 private:
  using Key = const Stream*;
  struct Line {
    std::deque<PreparedAppend> appends;
    int64_t bytes = 0;
    int64_t credit = 0;
  };
  struct Use {
    Key key = nullptr;
    absl::Time time = absl::InfinitePast();
  };

  bool HasRoom(Key key, const PreparedAppend& append) const;
  void NoteUse(Key key, absl::Time now);
  bool Shared(absl::Time now) const;
  // From the line whose turn it is, while its credit and the group allow.
  void TakeTurn(int64_t group_bytes_max, std::vector<PreparedAppend>& group, int64_t& group_bytes);

  const int64_t bytes_max_;
  int64_t bytes_ = 0;  // with those being committed
  size_t count_ = 0;
  std::map<Key, Line> lines_;    // those that have appends
  std::deque<Key> turns_;        // the same, whose turn it is first
  std::array<Use, 2> last_use_;  // of the two lines used last
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_QUEUE_H_
