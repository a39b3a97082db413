// How many records of a slice go into one transaction, learned from what the last ones took.
#ifndef ICEPIE_SLICES_APPLY_BATCH_SIZE_H_
#define ICEPIE_SLICES_APPLY_BATCH_SIZE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace icepie::slices {

// So many that a transaction takes about kTime, for a slice whose records cost something each; as
// many as there are for one that pays for the transaction and hardly for its records. Doubled and
// halved, from few on.
//
// Threads: one.
class BatchSize {
 public:
  static constexpr int64_t kMost = 65536;
  static constexpr absl::Duration kTime = absl::Milliseconds(250);

  int64_t records() const { return records_; }

  // A transaction of so many records took so long.
  void Note(int64_t records, absl::Duration took);

 private:
  static constexpr int64_t kFirst = 256;

  int64_t records_ = kFirst;
  int64_t last_records_ = 0;  // 0: none yet
  absl::Duration last_took_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_BATCH_SIZE_H_
