// `vars:` of a domain's file: one value under a name, used as $name in the SQL of its slices and
// expectations. The values are written into the SQL when the file is read, so that all that follows
// (the gate, the plan, the definition's hash) sees what will run.
#ifndef ICEPIE_SLICES_DEFINITION_SQL_VARIABLES_H_
#define ICEPIE_SLICES_DEFINITION_SQL_VARIABLES_H_

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "slices/definition/definition.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::slices {

// A plain scalar as an SQL literal: numbers, true, false and null as such, anything else (and all
// that is quoted) as a string.
std::string SqlLiteral(const YamlNode& scalar);

struct UnknownVariable {
  std::string name;
  size_t offset = 0;  // of its $ in the SQL as it was
};

// Puts the literals in for $name wherever SQL takes a value: not in strings, quoted names, comments
// and dollar-quoted text. `runs` go on saying where the text stands in the file. What has no value
// is left as it is and returned.
std::vector<UnknownVariable> PutInVariables(const std::map<std::string, std::string>& literals,
                                            std::string* sql, std::vector<TextRun>* runs);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_SQL_VARIABLES_H_
