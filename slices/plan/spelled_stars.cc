#include "slices/plan/spelled_stars.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "slices/plan/plan.h"

namespace icepie::slices {
namespace {

using Names = std::set<std::string>;

class StarSpeller {
 public:
  StarSpeller(const Json& statement, const DeclaredColumns& sources, Names texts, bool has_rows,
              const ChosenColumns& chosen)
      : sources_(sources), has_rows_(has_rows), chosen_(chosen) {
    CollectReferences(statement);
    CollectTexts(statement, texts);
    for (const char* hidden : kHiddenColumns) {
      if (texts.count(hidden) > 0) named_.emplace_back(hidden);
    }
  }

  // `ctes`: the names of WITH queries in sight, which hide sources.
  void Walk(Json& node, Names ctes) {
    if (!node.is_structured()) return;
    const bool query = node.is_object() && node.contains("cte_map");
    if (query) {
      for (Json& cte : node["cte_map"]["map"]) {
        Walk(cte["value"], ctes);
        ctes.insert(LowerText(cte, "key"));
      }
    }
    if (IsType(node, "RECURSIVE_CTE_NODE")) ctes.insert(LowerText(node, "cte_name"));
    for (auto child = node.begin(); child != node.end(); ++child) {
      if (!query || child.key() != "cte_map") Walk(*child, ctes);
    }
    if (IsType(node, "SELECT_NODE")) SpellOut(node, ctes);
  }

  bool changed() const { return changed_; }

 private:
  static void CollectTexts(const Json& node, Names& texts) {
    if (node.is_string()) texts.insert(absl::AsciiStrToLower(node.get<std::string>()));
    if (!node.is_structured()) return;
    for (const Json& child : node) CollectTexts(child, texts);
  }

  // What may be a column's name, but for what a star chooses by: that is over names.
  void CollectReferences(const Json& node) {
    if (!node.is_structured()) return;
    const bool star = IsClass(node, "STAR");
    for (auto child = node.begin(); child != node.end(); ++child) {
      const std::string key = node.is_object() ? child.key() : "";
      if (star && key == "expr") continue;
      const bool names = key == "column_names" || key == "using_columns" || key == "groups" ||
                         (star && absl::EndsWith(key, "_list"));
      if (names) CollectTexts(*child, references_);
      CollectReferences(*child);
    }
  }

  static std::string NameOf(const Json& table) {
    return TextOf(table, "alias").empty() ? TextOf(table, "table_name") : TextOf(table, "alias");
  }

  bool IsSource(const Json& relation, const Names& ctes) const {
    const std::string name = LowerText(relation, "table_name");
    return IsType(relation, "BASE_TABLE") && sources_.count(name) > 0 && ctes.count(name) == 0;
  }

  std::vector<std::string> ColumnsOf(const Json& source) const {
    std::vector<std::string> columns = sources_.at(LowerText(source, "table_name"));
    columns.insert(columns.end(), named_.begin(), named_.end());
    return columns;
  }

  static Json Column(const std::string& relation, const std::string& name) {
    Json names = relation.empty() ? Json::array({name}) : Json::array({relation, name});
    return {{"class", "COLUMN_REF"},
            {"type", "COLUMN_REF"},
            {"alias", ""},
            {"query_location", UINT64_MAX},
            {"column_names", std::move(names)}};
  }

  // What a level reads of its sources without naming it.
  struct Taking {
    enum class Columns { kNone, kChosen, kAll };
    Columns columns = Columns::kNone;
    std::vector<const Json*> choosing;  // of kChosen
    Names rows;                         // of relations with these names, whole
  };

  // The level has a star, or joins or pivots by all columns.
  static bool TakesAll(const Json& select) {
    for (auto part = select.begin(); part != select.end(); ++part) {
      if (part.key() == "cte_map" || part.key() == "from_table") continue;
      if (ContainsClass(*part, "STAR")) return true;
    }
    return JoinsAll(select["from_table"]);
  }

  static bool JoinsAll(const Json& from) {
    if (IsType(from, "PIVOT")) return true;
    if (!IsType(from, "JOIN")) return false;
    return TextOf(from, "ref_type") == "NATURAL" || JoinsAll(from["left"]) ||
           JoinsAll(from["right"]);
  }

  void SpellOut(Json& select, const Names& ctes) {
    Taking taking;
    if (has_rows_) CollectRows(select, ctes, taking.rows);
    const bool takes_all = TakesAll(select);
    if (takes_all && taking.rows.empty() && SpellOutItems(select, ctes)) return;
    if (takes_all) {
      taking.choosing = ChoosingStars(select);
      taking.columns = taking.choosing.empty() ? Taking::Columns::kAll : Taking::Columns::kChosen;
    }
    Wrap(select["from_table"], ctes, taking);
  }

  // The sources that the level reads whole rows of. As in DuckDB, a column comes before a relation
  // of its name.
  void CollectRows(const Json& select, const Names& ctes, Names& rows) const {
    std::vector<const Json*> relations;
    CollectNamed(select["from_table"], "", relations);
    Names columns(std::begin(kHiddenColumns), std::end(kHiddenColumns));
    Names relation_names;
    for (const Json* relation : relations) {
      if (!IsSource(*relation, ctes)) continue;
      relation_names.insert(absl::AsciiStrToLower(NameOf(*relation)));
      for (const std::string& column : sources_.at(LowerText(*relation, "table_name"))) {
        columns.insert(absl::AsciiStrToLower(column));
      }
      CollectTexts((*relation)["column_name_alias"], columns);
    }
    for (const std::string& name : relation_names) {
      if (columns.count(name) == 0 && ReadsAlone(select, name)) rows.insert(name);
    }
  }

  // Whether an expression of the level, or of a query within it, is `name` alone.
  static bool ReadsAlone(const Json& select, const std::string& name) {
    for (auto part = select.begin(); part != select.end(); ++part) {
      if (part.key() != "cte_map" && NamesAlone(*part, name)) return true;
    }
    return false;
  }

  static bool NamesAlone(const Json& node, const std::string& name) {
    if (IsClass(node, "STAR")) return false;
    if (IsClass(node, "COLUMN_REF")) {
      const Json& names = node["column_names"];
      return names.size() == 1 && absl::EqualsIgnoreCase(names[0].get<std::string>(), name);
    }
    return node.is_structured() &&
           std::any_of(node.begin(), node.end(),
                       [&name](const Json& child) { return NamesAlone(child, name); });
  }

  // COLUMNS over names, of everything that is read.
  static bool IsChoosing(const Json& star) {
    return star.value("columns", false) && Has(star, "expr") &&
           TextOf(star, "relation_name").empty() && !Has(star, "exclude_list") &&
           !Has(star, "replace_list") && !Has(star, "rename_list") &&
           !Has(star, "qualified_exclude_list");
  }

  // The level's stars, when all of them choose; else none.
  static std::vector<const Json*> ChoosingStars(const Json& select) {
    std::vector<const Json*> stars;
    for (auto part = select.begin(); part != select.end(); ++part) {
      if (part.key() == "cte_map" || part.key() == "from_table") continue;
      if (!CollectChoosing(*part, stars)) return {};
    }
    return stars;
  }

  // False: there is a star that does not choose.
  static bool CollectChoosing(const Json& node, std::vector<const Json*>& stars) {
    if (IsClass(node, "STAR")) {
      stars.push_back(&node);
      return IsChoosing(node);
    }
    return !node.is_structured() ||
           std::all_of(node.begin(), node.end(),
                       [&stars](const Json& child) { return CollectChoosing(child, stars); });
  }

  static bool IsRow(const Json& source, const Taking& taking) {
    return taking.rows.count(absl::AsciiStrToLower(NameOf(source))) > 0;
  }

  // What is to stand in the place of a source.
  std::vector<std::string> ColumnsTaken(const Json& source, const Taking& taking) const {
    const std::vector<std::string> all = ColumnsOf(source);
    if (!chosen_ || taking.columns != Taking::Columns::kChosen || IsRow(source, taking) ||
        Has(source, "column_name_alias")) {  // which go by the place
      return all;
    }
    Names names = references_;
    for (const Json* star : taking.choosing) {
      const auto chosen = chosen_(*star, LowerText(source, "table_name"));
      if (!chosen) return all;
      names.insert(chosen->begin(), chosen->end());
    }
    std::vector<std::string> taken;
    std::copy_if(all.begin(), all.end(), std::back_inserter(taken), [&names](const auto& column) {
      return names.count(absl::AsciiStrToLower(column)) > 0;
    });
    return taken.empty() ? all : taken;
  }

  // The source whose columns, and no others, the star stands for; nullptr when that is not so.
  const Json* SourceOf(const Json& star, const Json& from, const Names& ctes) const {
    if (star.value("columns", false) || Has(star, "rename_list") ||
        Has(star, "qualified_exclude_list")) {
      return nullptr;
    }
    const std::string of = LowerText(star, "relation_name");
    if (of.empty() && !IsType(from, "BASE_TABLE")) return nullptr;
    std::vector<const Json*> found;
    CollectNamed(from, of, found);
    const bool clear = found.size() == 1 && IsSource(*found.front(), ctes) &&
                       !Has(*found.front(), "column_name_alias");
    return clear ? found.front() : nullptr;
  }

  // b.*, where b is a slice or a subquery.
  bool IsOfAnother(const Json& item, const Json& from, const Names& ctes) const {
    const std::string of = LowerText(item, "relation_name");
    if (!IsClass(item, "STAR") || of.empty()) return false;
    std::vector<const Json*> found;
    CollectNamed(from, of, found);
    return found.size() == 1 && !IsSource(*found.front(), ctes);
  }

  static void CollectNamed(const Json& from, const std::string& name,
                           std::vector<const Json*>& found) {
    if (IsType(from, "JOIN")) {
      CollectNamed(from["left"], name, found);
      CollectNamed(from["right"], name, found);
    } else if (name.empty() || absl::AsciiStrToLower(NameOf(from)) == name) {
      found.push_back(&from);
    }
  }

  // Each star gives way to its columns: what plans SQL sees more in them. False, with nothing
  // changed, where one is too much to follow.
  bool SpellOutItems(Json& select, const Names& ctes) {
    const Json& from = select["from_table"];
    if (JoinsAll(from)) return false;
    Json items = Json::array();
    for (const Json& item : select["select_list"]) {
      if (!ContainsClass(item, "STAR") || IsOfAnother(item, from, ctes)) {
        items.push_back(item);
        continue;
      }
      const Json* source = IsClass(item, "STAR") ? SourceOf(item, from, ctes) : nullptr;
      if (source == nullptr) return false;
      AddColumns(item, *source, IsType(from, "JOIN") ? NameOf(*source) : "", items);
    }
    Json others = select;
    others.erase("cte_map");
    others.erase("from_table");
    others.erase("select_list");
    if (ContainsClass(others, "STAR")) return false;
    changed_ |= items != select["select_list"];
    select["select_list"] = std::move(items);
    return true;
  }

  void AddColumns(const Json& star, const Json& source, const std::string& relation,
                  Json& items) const {
    Names left_out;
    CollectTexts(star["exclude_list"], left_out);
    for (const std::string& column : ColumnsOf(source)) {
      const std::string name = absl::AsciiStrToLower(column);
      if (left_out.count(name) > 0) continue;
      Json item = Column(relation, column);
      for (const Json& replaced : star["replace_list"]) {
        if (LowerText(replaced, "key") != name) continue;
        item = replaced["value"];
        item["alias"] = column;
      }
      items.push_back(std::move(item));
    }
  }

  // Whether the pivot reads those columns only that it names. All that it does not name are its
  // groups, unless it says them; and COLUMNS and a whole row name none.
  static bool NamesItsColumns(const Json& pivot) {
    if (!Has(pivot, "groups")) return false;
    std::vector<const Json*> relations;
    CollectNamed(pivot["source"], "", relations);
    for (const char* part : {"aggregates", "pivots"}) {
      if (!Has(pivot, part)) continue;
      if (ContainsClass(pivot[part], "STAR")) return false;
      for (const Json* relation : relations) {
        if (NamesAlone(pivot[part], NameOf(*relation))) return false;
      }
    }
    return true;
  }

  // What the parts of a relation are read for.
  static Taking WithinOf(const Json& from, Taking taking) {
    if (IsType(from, "PIVOT")) {
      taking.columns = NamesItsColumns(from) ? Taking::Columns::kChosen : Taking::Columns::kAll;
      taking.choosing.clear();
    } else if (TextOf(from, "ref_type") == "NATURAL") {
      taking.columns = Taking::Columns::kAll;
    }
    return taking;
  }

  // The sources of a FROM become subqueries that have the columns that are taken and no others.
  void Wrap(Json& from, const Names& ctes, const Taking& taking) {
    if (IsType(from, "JOIN") || IsType(from, "PIVOT")) {
      const Taking within = WithinOf(from, taking);
      for (const char* part : {"left", "right", "source"}) {
        if (from.contains(part)) Wrap(from[part], ctes, within);
      }
      return;
    }
    const bool taken = taking.columns != Taking::Columns::kNone || IsRow(from, taking);
    if (!taken || !IsSource(from, ctes)) return;
    Json items = Json::array();
    for (const std::string& column : ColumnsTaken(from, taking)) {
      items.push_back(Column("", column));
    }
    Json table = from;
    table["alias"] = "";
    table["column_name_alias"] = Json::array();
    const Json query = {{"type", "SELECT_NODE"},
                        {"modifiers", Json::array()},
                        {"cte_map", {{"map", Json::array()}}},
                        {"select_list", std::move(items)},
                        {"from_table", std::move(table)},
                        {"where_clause", nullptr},
                        {"group_expressions", Json::array()},
                        {"group_sets", Json::array()},
                        {"aggregate_handling", "STANDARD_HANDLING"},
                        {"having", nullptr},
                        {"sample", nullptr},
                        {"qualify", nullptr}};
    from = {{"type", "SUBQUERY"},
            {"alias", NameOf(from)},
            {"sample", nullptr},
            {"query_location", UINT64_MAX},
            {"subquery", {{"node", query}, {"named_param_map", Json::array()}}},
            {"column_name_alias", from["column_name_alias"]}};
    changed_ = true;
  }

  const DeclaredColumns& sources_;
  const bool has_rows_;
  const ChosenColumns& chosen_;
  Names references_;
  std::vector<std::string> named_;
  bool changed_ = false;
};

}  // namespace

std::optional<Json> SpellOutStars(const Json& statement, const DeclaredColumns& sources,
                                  const std::set<std::string>& named, bool has_rows,
                                  const ChosenColumns& chosen) {
  StarSpeller speller(statement, sources, named, has_rows, chosen);
  Json spelled = statement;
  speller.Walk(spelled, {});
  if (!speller.changed()) return std::nullopt;
  return spelled;
}

}  // namespace icepie::slices
