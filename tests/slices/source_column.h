// A column of a source as a domain file that says no more than name and type has it.
#ifndef ICEPIE_TESTS_SLICES_SOURCE_COLUMN_H_
#define ICEPIE_TESTS_SLICES_SOURCE_COLUMN_H_

#include <string>

#include "slices/definition/column_type.h"
#include "slices/definition/definition.h"

namespace icepie::slices {

inline ColumnDef Column(const std::string& name, const std::string& type) {
  const ColumnType parsed = ParseColumnType(type).value();
  ColumnDef column;
  column.name = name;
  column.kind = parsed.kind;
  column.type = parsed.text;
  column.decimal_width = parsed.decimal_width;
  column.decimal_scale = parsed.decimal_scale;
  column.children = parsed.children;
  column.path = {name};
  return column;
}

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_SOURCE_COLUMN_H_
