// Answers as CSV (RFC 4180): lines end with CR LF; what holds a comma, a quote or the end of a line
// is quoted. NULL is nothing and an empty text is "", which RFC 4180 has no word for; where a row
// has one column alone, NULL is "" too, as many readers take an empty line for no row.
#ifndef ICEPIE_SLICES_READING_CSV_TEXT_H_
#define ICEPIE_SLICES_READING_CSV_TEXT_H_

#include "absl/strings/string_view.h"
#include "slices/reading/json_text.h"

namespace icepie::slices {

// Adds a text as a field.
void AddCsvText(absl::string_view text, JsonText& csv);

// Adds a value that is given as JSON, as JsonText writes it: texts as they are, numbers and
// booleans by their JSON, lists and objects as a text that is their JSON. `alone`: the row has no
// other field.
void AddCsvValue(absl::string_view json, bool alone, JsonText& csv);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_CSV_TEXT_H_
