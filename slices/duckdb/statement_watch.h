// Ends statements that take too long, where no service watches the connection.
#ifndef ICEPIE_SLICES_DUCKDB_STATEMENT_WATCH_H_
#define ICEPIE_SLICES_DUCKDB_STATEMENT_WATCH_H_

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/duckdb/interrupt_grace.h"

namespace icepie::slices {

// From its making to its end, statements may run for `limit`; afterwards each is interrupted by
// `interrupt` (DEADLINE_EXCEEDED). One that does not listen to that for `grace` is told to
// `on_stuck` with `what`: the process must end.
//
// Threads: made, restarted and destroyed by the thread that runs the statements; `interrupt` and
// `on_stuck` are called from the watch's own.
class StatementWatch {
 public:
  StatementWatch(std::function<void()> interrupt, absl::Duration limit, absl::Duration grace,
                 std::string what, std::function<void(const std::string& why)> on_stuck);
  ~StatementWatch();
  StatementWatch(const StatementWatch&) = delete;
  StatementWatch& operator=(const StatementWatch&) = delete;

  // The limit begins anew.
  void Restart();

 private:
  void Loop();

  const std::function<void()> interrupt_;
  const ThreadName watched_ = ThisThread();
  const absl::Duration limit_;
  const absl::Duration grace_;
  const std::string what_;
  const std::function<void(const std::string& why)> on_stuck_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time end_by_ ABSL_GUARDED_BY(mutex_);
  std::optional<InterruptGrace> overdue_ ABSL_GUARDED_BY(mutex_);  // once it is
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_STATEMENT_WATCH_H_
