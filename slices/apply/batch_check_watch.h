// Ends a check of a batch that takes too long. The apply thread is busy with it meanwhile, so
// another one looks, with every report: a check mostly takes less time than making a thread would.
#ifndef ICEPIE_SLICES_APPLY_BATCH_CHECK_WATCH_H_
#define ICEPIE_SLICES_APPLY_BATCH_CHECK_WATCH_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/apply/flight_record.h"
#include "slices/duckdb/duckdb.h"
#include "slices/duckdb/interrupt_grace.h"

namespace icepie::slices {

// Threads: any.
class BatchCheckWatch {
 public:
  explicit BatchCheckWatch(absl::Duration grace) : grace_(grace) {}

  // The calling thread checks an expectation from the making of this to its end.
  class Check {
   public:
    // `connection` may run statements for `limit`; afterwards each is interrupted. When it does not
    // listen to that, `on_stuck` is called: the process must end. `subject`: of the flight record.
    Check(BatchCheckWatch& watch, DuckConnection& connection, const std::string& subject,
          absl::Duration limit, std::function<void()> on_stuck);
    ~Check();
    Check(const Check&) = delete;
    Check& operator=(const Check&) = delete;

   private:
    friend class BatchCheckWatch;
    BatchCheckWatch& watch_;
    DuckConnection& connection_;
    const FlightEntry flight_;
    const absl::Time end_by_;
    const ThreadName thread_;
    const std::function<void()> on_stuck_;
    InterruptGrace grace_;
  };

  void Look();

 private:
  const absl::Duration grace_;
  Mutex mutex_;
  Check* present_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_BATCH_CHECK_WATCH_H_
