#include "slices/transaction.h"

namespace icepie::slices {
namespace {

// A statement that begins has a fresh flag, so even an interrupt that is set all the time misses
// some of them.
constexpr int kTriesMax = 500;

}  // namespace

absl::Status BeginTransaction(DuckConnection& connection, TransactionKind kind) {
  absl::Status begun = connection.Run(
      kind == TransactionKind::kReadOnly ? "BEGIN TRANSACTION READ ONLY" : "BEGIN TRANSACTION");
  if (absl::IsDeadlineExceeded(begun)) RollBack(connection).IgnoreError();  // there may be none
  return begun;
}

absl::Status RollBack(DuckConnection& connection) {
  absl::Status status = connection.Run("ROLLBACK");
  for (int tries = 1; absl::IsDeadlineExceeded(status) && tries < kTriesMax; ++tries) {
    status = connection.Run("ROLLBACK");
  }
  return status;
}

}  // namespace icepie::slices
