// When a statement that is interrupted counts as one that does not listen to that: many of DuckDB's
// functions compute without a look at the interrupt, and then only the end of the process helps.
#ifndef ICEPIE_SLICES_DUCKDB_INTERRUPT_GRACE_H_
#define ICEPIE_SLICES_DUCKDB_INTERRUPT_GRACE_H_

#include <optional>

#include "absl/time/time.h"
#include "core/base/thread_priority.h"

namespace icepie::slices {

// Of one statement.
// Threads: one at a time.
class InterruptGrace {
 public:
  explicit InterruptGrace(absl::Duration grace) : grace_(grace) {}

  // It is interrupted at `now`, as it is again and again from the first time on. True once it had
  // the grace since then, and half of that on the processor (who has not run cannot listen) or ten
  // times as long without. `thread` runs it.
  bool IsOver(absl::Time now, const ThreadName& thread) {
    const absl::Duration had = ProcessorTime(thread);
    if (!begin_) {
      begin_ = now;
      had_before_ = had;
    }
    const absl::Duration took = now - *begin_;
    return took >= grace_ && (had - had_before_ >= grace_ / 2 || took >= grace_ * kGracesMax);
  }

 private:
  static constexpr int kGracesMax = 10;
  const absl::Duration grace_;
  std::optional<absl::Time> begin_;
  absl::Duration had_before_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_INTERRUPT_GRACE_H_
