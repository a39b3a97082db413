// `expect:` of a slice, read strictly. Each entry is one check, a name and a severity:
//
//   - {not_null: [origin, hour]}
//   - {unique: [origin, hour]}
//   - {accepted_values: {column: chain, values: [eth, sol]}, severity: warn}
//   - {relationships: {column: origin, to: airports_by_state, field: iata}}
//   - {row_count: {min: 1, max: 5000}}
//   - {name: late_le_all, sql: "SELECT * FROM slice WHERE late > flights", severity: error}
#ifndef ICEPIE_SLICES_DEFINITION_EXPECTATION_READING_H_
#define ICEPIE_SLICES_DEFINITION_EXPECTATION_READING_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::slices {

// Takes what is wrong: where, in which field, what it is and how to put it right.
using ReportViolation =
    std::function<void(FilePlace place, absl::string_view field, absl::string_view what)>;

// The entries of `node`, the value of `field` in the text `yaml`. Entries with a violation are
// reported and left out. Columns are not looked at: the planner knows them.
std::vector<ExpectationDef> ReadExpectations(absl::string_view yaml, const YamlNode& node,
                                             const std::string& field,
                                             const ReportViolation& report);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_EXPECTATION_READING_H_
