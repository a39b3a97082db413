// Keeps several writers together to so many bytes a second.
#ifndef ICEPIE_CORE_BASE_WRITE_PACER_H_
#define ICEPIE_CORE_BASE_WRITE_PACER_H_

#include <cstdint>
#include <map>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie {

// Threads: any. It never looks at a clock: times are passed in.
class WritePacer {
 public:
  // Whoever asks for more at a time is taken to have asked for this: one piece of a file, so that
  // those who write at the same time take turns.
  static constexpr int64_t kPieceBytesMax = int64_t{1} << 20;
  // Nobody waits longer for a piece, however many ask.
  static constexpr absl::Duration kWaitMax = absl::Seconds(1);

  explicit WritePacer(int64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  // How long `writer` shall wait before it writes the next `bytes`. One that asks again before that
  // time has come takes no further place: it is told the same time.
  absl::Duration Next(uint64_t writer, int64_t bytes, absl::Time now);

 private:
  const int64_t bytes_per_second_;
  Mutex mutex_;
  absl::Time free_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::map<uint64_t, absl::Time> due_ ABSL_GUARDED_BY(mutex_);  // of those who wait
};

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_WRITE_PACER_H_
