// The types that a source's columns can have, from the names that people write.
#ifndef ICEPIE_SLICES_DEFINITION_COLUMN_TYPE_H_
#define ICEPIE_SLICES_DEFINITION_COLUMN_TYPE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

struct ColumnType {
  ColumnKind kind = ColumnKind::kVarchar;
  std::string text;  // canonical: "DECIMAL(18,2)", "STRUCT(kind VARCHAR NOT NULL)[]"
  int decimal_width = 0;
  int decimal_scale = 0;
  std::vector<ColumnDef> children = {};  // LIST: one, its element; STRUCT: its fields
};

// "int", "TEXT", "numeric(18, 2)", "STRUCT(kind VARCHAR, value DECIMAL(38,18))[]" … A field or an
// element that must be there is written `NOT NULL` behind its type. At most 8 levels and 200 fields
// in a struct. INVALID_ARGUMENT says what is wrong and what there is.
absl::StatusOr<ColumnType> ParseColumnType(absl::string_view text);

// The column's type in DuckDB's SQL.
std::string SqlType(const ColumnDef& column);

// Whether `test` holds for the column itself or, when it is nested, for any part of it.
bool AnyPart(const ColumnDef& column, const std::function<bool(const ColumnDef&)>& test);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_COLUMN_TYPE_H_
