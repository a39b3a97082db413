// The text of a type for people: STRUCT(city VARCHAR), where the engine's own SQL has
// STRUCT("city" VARCHAR).
#ifndef ICEPIE_SLICES_DEFINITION_SHOWN_TYPE_H_
#define ICEPIE_SLICES_DEFINITION_SHOWN_TYPE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace icepie::slices {

// DuckDB's text of a type without the quotes that it does not need; still SQL. A text that has none
// stays as it is, so that it may be shown twice.
std::string ShownType(absl::string_view type);

// The words of SQL that cannot be a field's name without quotes, sorted.
const std::vector<std::string>& QuotedWords();

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_SHOWN_TYPE_H_
