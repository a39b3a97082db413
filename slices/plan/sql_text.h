// SQL as text: where comments and quotes are, and what name stands at a place. Not a parser:
// whatever is changed by it is parsed again and compared (slices/plan/sql_gate.cc).
#ifndef ICEPIE_SLICES_PLAN_SQL_TEXT_H_
#define ICEPIE_SLICES_PLAN_SQL_TEXT_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace icepie::slices {

// 1-based line and column of a byte, for messages.
struct TextPlace {
  size_t line = 1;
  size_t column = 1;
};
TextPlace TextPlaceOf(absl::string_view text, size_t offset);

// `sql` without a semicolon that only blanks and comments follow; they become spaces, so that
// places stay what they were.
std::string WithoutTrailingSemicolon(absl::string_view sql);

// The word, in capitals, with which the first statement begins that is no SELECT: "ATTACH"; "" when
// all are.
std::string FirstOtherStatement(absl::string_view sql);

// The end of the dotted name (a, "a b", c.s.t) that begins at `offset`; nullopt when none does.
std::optional<size_t> EndOfName(absl::string_view sql, size_t offset);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SQL_TEXT_H_
