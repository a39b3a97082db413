#include "slices/transaction.h"

#include "absl/time/time.h"
#include "core/base/steady_clock.h"

namespace icepie::slices {
namespace {

// A statement that begins has a fresh flag, so even interrupts that come all the time miss one
// soon; none comes for so long.
constexpr absl::Duration kTriesFor = absl::Seconds(10);

}  // namespace

absl::Status BeginTransaction(DuckConnection& connection, TransactionKind kind) {
  const char* const begin =
      kind == TransactionKind::kReadOnly ? "BEGIN TRANSACTION READ ONLY" : "BEGIN TRANSACTION";
  const absl::Status begun = connection.Run(begin);
  if (begun.ok()) return begun;
  RollBack(connection).IgnoreError();  // there may be none
  if (absl::IsDeadlineExceeded(begun)) return begun;
  const absl::Status again = connection.Run(begin);
  if (absl::IsDeadlineExceeded(again)) RollBack(connection).IgnoreError();
  return again;
}

absl::Status RollBack(DuckConnection& connection) {
  const absl::Time end = SteadyNow() + kTriesFor;
  absl::Status status = connection.Run("ROLLBACK");
  while (absl::IsDeadlineExceeded(status) && SteadyNow() < end) {
    status = connection.Run("ROLLBACK");
  }
  return status;
}

}  // namespace icepie::slices
