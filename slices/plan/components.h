// components(a, b): the connected components of a graph whose edges are the rows, as an aggregate
// for users' SQL. BIGINT or VARCHAR nodes; the result is a LIST of STRUCT(node, cluster), one for
// each node, in the nodes' order; a component is named by its smallest node, so the result does not
// depend on the order of rows. Rows with a NULL are passed over; no edge at all gives NULL.
//   SELECT c.node, c.cluster FROM (SELECT unnest(components(a, b)) AS c FROM links)
//
// ORDER BY inside of it crashes DuckDB, and a window would call it in ways it does not know: the
// gate refuses both (sql_gate.h).
#ifndef ICEPIE_SLICES_PLAN_COMPONENTS_H_
#define ICEPIE_SLICES_PLAN_COMPONENTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

inline constexpr char kComponents[] = "components";

// Makes the function known to the connection's database, once per database. DuckDB's memory limit
// does not see its states, so all that live at a time may take `bytes_max`; a statement that needs
// more fails with RESOURCE_EXHAUSTED.
absl::Status RegisterComponents(DuckConnection& connection, int64_t bytes_max);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_COMPONENTS_H_
