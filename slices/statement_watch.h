// Ends statements that take too long, where no service watches the connection.
#ifndef ICEPIE_SLICES_STATEMENT_WATCH_H_
#define ICEPIE_SLICES_STATEMENT_WATCH_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "slices/duckdb.h"
#include "slices/interrupt_grace.h"

namespace icepie::slices {

// From its making to its end, `connection` may run statements for `limit`; afterwards each is
// interrupted (DEADLINE_EXCEEDED). One that does not listen to that for `grace` is told to
// `on_stuck` with `what`: the process must end.
//
// Threads: made and destroyed by the thread that runs the statements.
class StatementWatch {
 public:
  StatementWatch(DuckConnection& connection, absl::Duration limit, absl::Duration grace,
                 std::string what, std::function<void(const std::string& why)> on_stuck);
  ~StatementWatch();
  StatementWatch(const StatementWatch&) = delete;
  StatementWatch& operator=(const StatementWatch&) = delete;

 private:
  void Loop();

  DuckConnection& connection_;
  const ThreadName watched_ = ThisThread();
  const absl::Time end_by_;
  InterruptGrace grace_;  // of the watch's thread
  const std::string what_;
  const std::function<void(const std::string& why)> on_stuck_;
  Mutex mutex_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_STATEMENT_WATCH_H_
