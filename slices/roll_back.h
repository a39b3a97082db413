// The end of a transaction whose statements can be interrupted.
#ifndef ICEPIE_SLICES_ROLL_BACK_H_
#define ICEPIE_SLICES_ROLL_BACK_H_

#include "absl/status/status.h"
#include "slices/duckdb.h"

namespace icepie::slices {

// Rolls back the connection's transaction. An interrupt that comes late ends the ROLLBACK itself
// and leaves the transaction open: the next BEGIN would fail, and a connection that is closed with
// a transaction over databases that are gone by then is DuckDB's end. So it is tried until it is
// done, however often it is interrupted.
absl::Status RollBack(DuckConnection& connection);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLL_BACK_H_
