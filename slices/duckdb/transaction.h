// The beginning and the end of a transaction whose statements can be interrupted.
#ifndef ICEPIE_SLICES_DUCKDB_TRANSACTION_H_
#define ICEPIE_SLICES_DUCKDB_TRANSACTION_H_

#include "absl/status/status.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

enum class TransactionKind { kReadWrite, kReadOnly };

// Begins a transaction of the connection. An interrupt that comes late makes BEGIN fail that has
// begun one all the same: after an error there is none. One that an earlier error has aborted and
// left behind, when its ROLLBACK failed as well for want of memory, would refuse every BEGIN: it is
// rolled back now.
absl::Status BeginTransaction(DuckConnection& connection,
                              TransactionKind kind = TransactionKind::kReadWrite);

// Rolls back the connection's transaction. An interrupt that comes late ends the ROLLBACK itself
// and leaves the transaction open, in which the next BEGIN would fail, or comes when it is closed.
// So it is tried until it is done, however often it is interrupted.
absl::Status RollBack(DuckConnection& connection);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DUCKDB_TRANSACTION_H_
