// The appends that wait for their commit, in fair lines of connections and streams: who floods, be
// it one stream or a thousand, waits for himself, and an eighth of the queue is kept for those who
// do not.
//
// While only one stream is used, a commit takes as much as waits; while several are, it takes
// little, since whoever comes next waits for the commit that is under way.
#ifndef ICEPIE_CORE_APPEND_APPEND_QUEUE_H_
#define ICEPIE_CORE_APPEND_APPEND_QUEUE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/append/prepared_append.h"
#include "core/base/fair_lines.h"

namespace icepie {

// Threads: none; the caller's. It never looks at a clock: times are passed in.
class AppendQueue {
 public:
  // Of one commit. More would make the first in the queue wait for the last.
  static constexpr int64_t kGroupBytesMax = int64_t{8} << 20;
  static constexpr int64_t kSharedGroupBytesMax = int64_t{256} << 10;
  static constexpr size_t kGroupAppendsMax = 4096;
  // However small they are: more would wait longer than a client does.
  static constexpr size_t kAppendsMax = 65536;

  explicit AppendQueue(int64_t bytes_max) : bytes_max_(bytes_max) {}

  // RESOURCE_EXHAUSTED/APPEND_QUEUE_FULL; `append` is then left as it is. Those of a
  // connection in a stream, and of a chain, keep their order.
  absl::Status Add(PreparedAppend& append, absl::Time now);

  // What is committed next; empty when nothing waits. It counts until Committed.
  std::vector<PreparedAppend> TakeGroup(absl::Time now);
  void Committed(int64_t bytes) { bytes_ -= bytes; }

  bool empty() const { return lines_.empty(); }

 private:
  struct Use {
    uint64_t stream = 0;
    absl::Time time = absl::InfinitePast();
  };

  bool HasRoom(const LinePlace& at, const PreparedAppend& append) const;
  void NoteUse(uint64_t stream, absl::Time now);
  bool Shared(absl::Time now) const;

  const int64_t bytes_max_;
  int64_t bytes_ = 0;  // with those being committed
  FairLines<PreparedAppend> lines_;
  std::array<Use, 2> last_use_;  // of the two streams used last
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_APPEND_QUEUE_H_
