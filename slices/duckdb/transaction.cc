#include "slices/duckdb/transaction.h"

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/steady_clock.h"

namespace icepie::slices {
namespace {

// A statement that begins has a fresh flag, so even interrupts that come all the time miss one
// soon; none comes for so long.
constexpr absl::Duration kTriesFor = absl::Seconds(10);
// Also a ROLLBACK wants a little memory, which another statement may have taken. What it would give
// back is worth a wait, of a thread that others wait for, too.
constexpr absl::Duration kMemoryPause = absl::Milliseconds(5);
constexpr absl::Duration kMemoryTriesFor = absl::Milliseconds(500);

}  // namespace

absl::Status BeginTransaction(DuckConnection& connection, TransactionKind kind) {
  const char* const begin =
      kind == TransactionKind::kReadOnly ? "BEGIN TRANSACTION READ ONLY" : "BEGIN TRANSACTION";
  const absl::Status begun = connection.RunAgain(begin);
  if (begun.ok()) return begun;
  RollBack(connection).IgnoreError();  // there may be none
  if (absl::IsDeadlineExceeded(begun)) return begun;
  const absl::Status again = connection.RunAgain(begin);
  if (absl::IsDeadlineExceeded(again)) RollBack(connection).IgnoreError();
  return again;
}

absl::Status RollBack(DuckConnection& connection) {
  const absl::Time begin = SteadyNow();
  bool again = false;
  while (true) {
    const absl::Status status = connection.Run("ROLLBACK");
    // What failed has rolled back all the same.
    if (again && absl::StrContains(status.message(), "no transaction is active")) {
      return absl::OkStatus();
    }
    const bool lacks_memory = absl::IsResourceExhausted(status);
    if (!lacks_memory && !absl::IsDeadlineExceeded(status)) return status;
    again = true;
    if (SteadyNow() - begin >= (lacks_memory ? kMemoryTriesFor : kTriesFor)) return status;
    if (lacks_memory) absl::SleepFor(kMemoryPause);
  }
}

}  // namespace icepie::slices
