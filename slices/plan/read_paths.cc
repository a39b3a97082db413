#include "slices/plan/read_paths.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace icepie::slices {
namespace {

// `at`: the path in front of the column, and what it is for.
void AddColumn(const ColumnDef& column, ReadPath at, std::vector<ReadPath>& paths) {
  at.path.insert(at.path.end(), column.path.begin(), column.path.end());
  if (column.children.empty()) return paths.push_back(std::move(at));
  if (column.kind == ColumnKind::kList) {
    at.path.emplace_back("[]");
    ColumnDef element = column.children.front();
    element.path.clear();
    return AddColumn(element, std::move(at), paths);
  }
  for (const ColumnDef& member : column.children) AddColumn(member, at, paths);
}

}  // namespace

std::vector<ReadPath> ReadPathsOf(const SourceDef& source) {
  std::vector<ReadPath> paths;
  const std::string field = absl::StrCat("sources.", source.name);
  for (const ColumnDef& column : source.columns) {
    AddColumn(column, {{}, absl::StrCat(field, ".columns.", column.name), column.place}, paths);
  }
  for (const WhereTerm& term : source.where) {
    paths.push_back({term.path, absl::StrCat(field, ".where"), source.place});
  }
  return paths;
}

}  // namespace icepie::slices
