#include "slices/plan/column_use.h"

#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {
namespace {

class ColumnFinder {
 public:
  explicit ColumnFinder(const std::vector<const SourceDef*>& sources) : sources_(sources) {}

  std::vector<SourceUse> Find(const Json& statement) {
    CollectAliases(statement);
    Walk(statement, {});
    return Collect();
  }

 private:
  using SourceSet = std::set<const SourceDef*>;

  const SourceDef* SourceOf(const Json& relation) const {
    const std::string name = absl::AsciiStrToLower(TextOf(relation, "table_name"));
    for (const SourceDef* source : sources_) {
      if (source->name == name) return source;
    }
    return nullptr;
  }

  // What each alias stands for; a null pointer for what is no source.
  void CollectAliases(const Json& node) {
    if (node.is_object() && node.contains("alias") && TextOf(node, "class").empty()) {
      const bool base = IsType(node, "BASE_TABLE");
      const std::string alias = TextOf(node, "alias");
      const std::string name = alias.empty() ? TextOf(node, "table_name") : alias;
      aliases_[absl::AsciiStrToLower(name)].insert(base ? SourceOf(node) : nullptr);
    }
    if (!node.is_structured()) return;
    for (const Json& child : node) CollectAliases(child);
  }

  void Use(const SourceDef* source, const std::string& column) {
    if (source != nullptr) used_[source].insert(absl::AsciiStrToLower(column));
  }
  void UseAll(const SourceDef* source) {
    if (source == nullptr) return;
    for (const ColumnDef& column : source->columns) Use(source, column.name);
  }
  void UseAnywhere(const std::string& column) {
    for (const SourceDef* source : sources_) Use(source, column);
  }

  // Sources directly in a FROM clause, not those inside its subqueries.
  void CollectDirect(const Json& relation, SourceSet& direct) const {
    if (IsType(relation, "BASE_TABLE")) direct.insert(SourceOf(relation));
    if (!IsType(relation, "JOIN")) return;
    CollectDirect(relation["left"], direct);
    CollectDirect(relation["right"], direct);
  }

  void Walk(const Json& node, const SourceSet& direct) {
    if (node.is_array()) {
      for (const Json& child : node) Walk(child, direct);
    } else if (node.is_object()) {
      WalkObject(node, direct);
    }
  }

  void WalkObject(const Json& node, const SourceSet& direct) {
    SourceSet inner = direct;
    if (IsType(node, "SELECT_NODE")) {
      inner.clear();
      CollectDirect(node["from_table"], inner);
    }
    if (IsClass(node, "COLUMN_REF")) Column(node["column_names"]);
    if (IsClass(node, "STAR")) Star(node, inner);
    if (TextOf(node, "class").empty()) Relation(node);
    for (auto child = node.begin(); child != node.end(); ++child) {
      // What COLUMNS chooses by is over names.
      if (child.key() != "expr" || !IsClass(node, "STAR")) Walk(*child, inner);
    }
  }

  void Column(const Json& names) {
    if (!names.is_array() || names.empty()) return;
    const std::string first = absl::AsciiStrToLower(names[0].get<std::string>());
    const auto alias = aliases_.find(first);
    if (alias == aliases_.end() || names.size() == 1) UseAnywhere(first);
    if (alias == aliases_.end()) return;
    for (const SourceDef* source : alias->second) {
      // A relation's name alone is its whole row.
      if (names.size() == 1) {
        UseAll(source);
      } else {
        Use(source, names[1].get<std::string>());
      }
    }
  }

  void Star(const Json& node, const SourceSet& direct) {
    const auto alias = aliases_.find(absl::AsciiStrToLower(TextOf(node, "relation_name")));
    const bool all = TextOf(node, "relation_name").empty() || alias == aliases_.end();
    for (const SourceDef* source : direct) {
      if (all || alias->second.count(source) > 0) UseAll(source);
    }
  }

  // Columns that a relation names other than by expressions.
  void Relation(const Json& node) {
    const bool natural = IsType(node, "JOIN") && TextOf(node, "ref_type") == "NATURAL";
    if (natural || IsType(node, "PIVOT")) {
      SourceSet joined;
      CollectDirect(natural ? node : node["source"], joined);
      for (const SourceDef* source : joined) UseAll(source);
    }
    if (IsType(node, "BASE_TABLE") && Has(node, "column_name_alias")) UseAll(SourceOf(node));
    if (!Has(node, "using_columns")) return;
    for (const Json& column : node["using_columns"]) UseAnywhere(column.get<std::string>());
  }

  std::vector<SourceUse> Collect() {
    std::vector<SourceUse> uses;
    for (const SourceDef* source : sources_) {
      for (const std::string& key : source->latest_by) Use(source, key);
      SourceUse use{source->name, {}};
      for (const ColumnDef& column : source->columns) {
        const bool used = used_[source].count(absl::AsciiStrToLower(column.name)) > 0;
        if (used) use.columns.push_back(column.name);
      }
      uses.push_back(std::move(use));
    }
    return uses;
  }

  const std::vector<const SourceDef*>& sources_;
  std::map<std::string, SourceSet> aliases_;
  std::map<const SourceDef*, std::set<std::string>> used_;
};

}  // namespace

absl::StatusOr<std::vector<SourceUse>> FindColumnUse(DuckConnection& connection,
                                                     const std::string& sql,
                                                     const std::vector<const SourceDef*>& sources) {
  absl::StatusOr<Json> statement = ParseSelect(connection, sql);
  if (!statement.ok()) return statement.status();
  return ColumnFinder(sources).Find(*statement);
}

std::vector<SourceUse> AllColumns(const std::vector<const SourceDef*>& sources) {
  std::vector<SourceUse> uses;
  for (const SourceDef* source : sources) {
    SourceUse use{source->name, {}};
    for (const ColumnDef& column : source->columns) use.columns.push_back(column.name);
    uses.push_back(std::move(use));
  }
  return uses;
}

}  // namespace icepie::slices
