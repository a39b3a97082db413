// User SQL is one SELECT. The gate parses it with DuckDB, walks the syntax tree before anything is
// bound, and hands back SQL text that is safe to prepare: relations resolved to published ones,
// functions by allow list, size and depth bounded.
#ifndef ICEPIE_SLICES_PLAN_SQL_GATE_H_
#define ICEPIE_SLICES_PLAN_SQL_GATE_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace icepie::slices {

class DuckConnection;

// How the gate replaces a relation that the user named.
struct RelationTarget {
  std::string catalog;
  std::string schema;
  std::string table;
};

struct GateOptions {
  // What `name` (without "domain.") stands for; nullopt: SLICE_NOT_FOUND naming what there is.
  std::function<std::optional<RelationTarget>(absl::string_view name)> resolve;
  std::vector<std::string> known;  // names for the error message
  std::string domain;              // `domain.name` is accepted too
  bool reproducible = false;       // definitions: volatile functions and the clock are refused
};

struct GatedQuery {
  std::string sql;                     // rewritten text
  std::vector<std::string> relations;  // names that it reads, each once, sorted
  // It reads the clock, or differs from call to call: the same rows may give another answer.
  bool varies = false;
};

// Errors: INVALID_ARGUMENT with SQL_SYNTAX (line and column in metadata), SQL_NOT_A_SELECT,
// SQL_FORBIDDEN (names the function or construct), SQL_TOO_COMPLEX, SQL_NOT_REPRODUCIBLE.
// `connection` is used for parsing only.
absl::StatusOr<GatedQuery> GateQuery(DuckConnection& connection, absl::string_view sql,
                                     const GateOptions& options);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SQL_GATE_H_
