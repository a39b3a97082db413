// Closed-loop readers of one domain, which keep what became of every question.
#ifndef ICEPIE_TESTS_BENCH_READER_LOAD_H_
#define ICEPIE_TESTS_BENCH_READER_LOAD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie::bench {

struct ReadSample {
  absl::Time begin;
  absl::Time end;
  bool live = false;  // by the live worker and not stale
  int64_t applied_position = -1;
  std::string error;  // empty: answered

  double ms() const { return absl::ToDoubleMilliseconds(end - begin); }
};

struct ReaderOptions {
  std::string address;
  std::string domain;
  std::string sql;
  int readers = 2;
  absl::Duration pause = absl::Milliseconds(2);  // between an answer and the next question
  absl::Duration timeout = absl::Seconds(30);
};

// Threads: one; the readers are its own.
// Lifetime: the destructor ends them.
class ReaderLoad {
 public:
  explicit ReaderLoad(const ReaderOptions& options);
  ~ReaderLoad() { Stop(); }
  ReaderLoad(const ReaderLoad&) = delete;
  ReaderLoad& operator=(const ReaderLoad&) = delete;

  void Stop();
  // What there is so far from the `first` on, in the order of the answers.
  std::vector<ReadSample> Samples(size_t first = 0) const;
  size_t count() const;

 private:
  void Read();

  const ReaderOptions options_;
  std::atomic<bool> stopping_{false};
  mutable Mutex mutex_;
  std::vector<ReadSample> samples_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_READER_LOAD_H_
