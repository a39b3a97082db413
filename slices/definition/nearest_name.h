// "did you mean": the name that a mistyped one was most likely meant to be.
#ifndef ICEPIE_SLICES_DEFINITION_NEAREST_NAME_H_
#define ICEPIE_SLICES_DEFINITION_NEAREST_NAME_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace icepie::slices {

// The candidate with the fewest edits to `name`, case aside; "" when none is near enough.
std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates);

// ` (did you mean "delay"? have: a, b, delay)`; names beyond 20 are counted.
std::string SuggestName(absl::string_view name, const std::vector<std::string>& candidates);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_NEAREST_NAME_H_
