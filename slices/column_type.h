// The types that a source's columns can have, from the names that people write.
#ifndef ICEPIE_SLICES_COLUMN_TYPE_H_
#define ICEPIE_SLICES_COLUMN_TYPE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/definition.h"

namespace icepie::slices {

struct ColumnType {
  ColumnKind kind = ColumnKind::kVarchar;
  std::string text;  // canonical: "DECIMAL(18,2)"
  int decimal_width = 0;
  int decimal_scale = 0;
};

// "int", "TEXT", "numeric(18, 2)" … INVALID_ARGUMENT says what is wrong and what there is.
absl::StatusOr<ColumnType> ParseColumnType(absl::string_view text);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_COLUMN_TYPE_H_
