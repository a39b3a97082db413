#include "slices/plan/sql_gate.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/definition/nearest_name.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/components.h"
#include "slices/plan/function_list.h"
#include "slices/plan/sql_text.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {
namespace {

constexpr size_t kSqlBytesMax = 64 * 1024;
constexpr int kSqlDepthMax = 100;
constexpr int kJoinsMax = 64;
constexpr size_t kNodesMax = 4096;

// Names of CTEs in sight, with the size of what each stands for. A CTE hides a published name.
struct CteScope {
  const CteScope* outer = nullptr;
  std::map<std::string, size_t> ctes;

  const size_t* Find(const std::string& name) const {
    const auto it = ctes.find(name);
    if (it != ctes.end()) return &it->second;
    return outer == nullptr ? nullptr : outer->Find(name);
  }
};

// A relation's name in the text and what comes in its place.
struct Replacement {
  size_t begin = 0;
  size_t end = 0;
  std::string text;
};

const std::set<std::string>& ExpressionClasses() {
  static const auto* const kClasses = new std::set<std::string>{
      "BETWEEN",  "CASE",     "CAST",   "COLLATE",   "COLUMN_REF",           "COMPARISON",
      "CONSTANT", "FUNCTION", "LAMBDA", "OPERATOR",  "POSITIONAL_REFERENCE", "STAR",
      "SUBQUERY", "WINDOW",   "TYPE",   "PARAMETER", "CONJUNCTION",          "LAMBDA_REF"};
  return *kClasses;
}

// Query nodes, relations and modifiers, which have a type and no class.
const std::set<std::string>& OtherTypes() {
  static const auto* const kTypes = new std::set<std::string>{"SELECT_NODE",
                                                              "SET_OPERATION_NODE",
                                                              "RECURSIVE_CTE_NODE",
                                                              "CTE_NODE",
                                                              "BASE_TABLE",
                                                              "SUBQUERY",
                                                              "JOIN",
                                                              "TABLE_FUNCTION",
                                                              "EMPTY",
                                                              "EXPRESSION_LIST",
                                                              "PIVOT",
                                                              "ORDER_MODIFIER",
                                                              "LIMIT_MODIFIER",
                                                              "LIMIT_PERCENT_MODIFIER",
                                                              "DISTINCT_MODIFIER",
                                                              "ORDER_DEFAULT",
                                                              "ORDER_ASCENDING",
                                                              "ORDER_DESCENDING",
                                                              "ASCENDING",
                                                              "DESCENDING"};
  return *kTypes;
}

// Column names that mean a function when no column has them.
const std::set<std::string>& ClockColumns() {
  static const auto* const kNames = new std::set<std::string>{
      "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"};
  return *kNames;
}
const std::set<std::string>& StateColumns() {
  static const auto* const kNames = new std::set<std::string>{
      "current_catalog", "current_role", "current_schema", "current_user", "session_user"};
  return *kNames;
}

bool IsPlainRelation(absl::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
  });
}

// Walks one statement's tree, and changes its relations as the text is going to be changed.
class Gate {
 public:
  Gate(absl::string_view sql, const GateOptions& options) : sql_(sql), options_(options) {}

  absl::Status Walk(Json& statement) { return WalkAny(statement, 0, CteScope{}); }

  // The text with the relations replaced.
  std::string Rewritten();
  std::vector<std::string> Relations() const { return {relations_.begin(), relations_.end()}; }
  bool varies() const { return varies_; }
  absl::Status Refuse(const char* reason, std::optional<size_t> offset,
                      absl::string_view what) const;

 private:
  absl::Status WalkAny(Json& value, int depth, const CteScope& scope);
  absl::Status WalkObject(Json& node, int depth, const CteScope& scope);
  absl::Status WalkMembers(Json& node, int depth, const CteScope& scope);
  absl::Status WalkQuery(Json& node, int depth, const CteScope& scope);
  absl::Status WalkRecursiveCte(Json& node, int depth, const CteScope& scope);
  absl::Status Count(const Json& node, size_t nodes);
  absl::Status CheckKind(const Json& node);
  absl::Status CheckNode(Json& node, const CteScope& scope);
  absl::Status CheckJoin(const Json& node);
  absl::Status CheckRelation(Json& node, const CteScope& scope);
  absl::Status ReplaceRelation(Json& node, const std::string& name, const RelationTarget& target);
  absl::Status CheckTableFunction(Json& node);
  absl::Status CheckFunction(const Json& node);
  absl::Status CheckNamedAggregate(const Json& node, const std::string& name);
  absl::Status CheckUse(const Json& node, const AllowedFunction& function);
  void NoteSortedList(const Json& node, const std::string& name);
  absl::Status CheckColumn(const Json& node);
  absl::Status CheckModifiers(const Json& node) const;
  absl::Status UnknownRelation(const Json& node, const std::string& name) const;
  absl::Status NotReproducible(const Json& node, absl::string_view what) const {
    return Refuse("SQL_NOT_REPRODUCIBLE", OffsetOf(node), what);
  }
  absl::Status Forbidden(const Json& node, absl::string_view what) const {
    return Refuse("SQL_FORBIDDEN", OffsetOf(node), what);
  }

  absl::string_view sql_;
  const GateOptions& options_;
  size_t nodes_ = 0;
  int joins_ = 0;
  std::set<std::string> relations_;
  std::set<const Json*> sorted_lists_;
  std::vector<Replacement> replacements_;
  bool varies_ = false;
};

absl::Status Gate::Refuse(const char* reason, std::optional<size_t> offset,
                          absl::string_view what) const {
  std::string message(what);
  std::map<std::string, std::string> metadata;
  if (offset.has_value()) {
    const TextPlace place = TextPlaceOf(sql_, *offset);
    metadata = {{"line", absl::StrCat(place.line)},
                {"column", absl::StrCat(place.column)},
                {"offset", absl::StrCat(*offset)}};
    message = absl::StrCat("line ", place.line, " column ", place.column, ": ", what);
  }
  return MakeError(absl::StatusCode::kInvalidArgument, message, reason, std::move(metadata));
}

absl::Status Gate::Count(const Json& node, size_t nodes) {
  nodes_ += nodes;
  if (nodes_ <= kNodesMax) return absl::OkStatus();
  return Refuse("SQL_TOO_COMPLEX", OffsetOf(node),
                absl::StrCat("the SQL has more than ", kNodesMax,
                             " parts, each use of a WITH query counted: make it smaller"));
}

absl::Status Gate::WalkAny(Json& value, int depth, const CteScope& scope) {
  if (value.is_object()) return WalkObject(value, depth, scope);
  if (!value.is_array()) return absl::OkStatus();
  for (Json& element : value) ICEPIE_RETURN_IF_ERROR(WalkAny(element, depth, scope));
  return absl::OkStatus();
}

absl::Status Gate::WalkObject(Json& node, int depth, const CteScope& scope) {
  if (TextOf(node, "type").empty()) return WalkMembers(node, depth, scope);
  if (depth >= kSqlDepthMax) {
    return Refuse("SQL_TOO_COMPLEX", OffsetOf(node),
                  absl::StrCat("nested deeper than ", kSqlDepthMax, " levels: make it flatter"));
  }
  ICEPIE_RETURN_IF_ERROR(Count(node, 1));
  ICEPIE_RETURN_IF_ERROR(CheckKind(node));
  if (node.contains("cte_map")) return WalkQuery(node, depth + 1, scope);
  if (IsType(node, "RECURSIVE_CTE_NODE")) return WalkRecursiveCte(node, depth + 1, scope);
  ICEPIE_RETURN_IF_ERROR(CheckNode(node, scope));
  return WalkMembers(node, depth + 1, scope);
}

absl::Status Gate::WalkMembers(Json& node, int depth, const CteScope& scope) {
  for (auto& [name, member] : node.items()) {
    // The value of a constant and types hold no expressions; that of another node does: maps, as of
    // * REPLACE (… AS …), are lists of key and value.
    if (name == "value" && IsClass(node, "CONSTANT")) continue;
    if (name == "cast_type" || name == "type_info") continue;
    // The function of a table function was checked with it: what it is called with is left.
    const bool checked = name == "function" && member.is_object();
    ICEPIE_RETURN_IF_ERROR(checked ? WalkMembers(member, depth, scope)
                                   : WalkAny(member, depth, scope));
  }
  return absl::OkStatus();
}

absl::Status Gate::WalkQuery(Json& node, int depth, const CteScope& scope) {
  varies_ |= Has(node, "sample");
  ICEPIE_RETURN_IF_ERROR(CheckModifiers(node));
  CteScope inner{&scope, {}};
  for (Json& cte : node["cte_map"]["map"]) {
    const size_t before = nodes_;
    ICEPIE_RETURN_IF_ERROR(WalkAny(cte["value"]["query"], depth, inner));
    inner.ctes[absl::AsciiStrToLower(TextOf(cte, "key"))] = nodes_ - before;
  }
  if (IsType(node, "RECURSIVE_CTE_NODE")) return WalkRecursiveCte(node, depth, inner);
  for (auto& [name, member] : node.items()) {
    if (name != "cte_map") ICEPIE_RETURN_IF_ERROR(WalkAny(member, depth, inner));
  }
  return absl::OkStatus();
}

// Only the second half of a recursive CTE, and what says how rows of its turns are put together,
// see the CTE itself.
absl::Status Gate::WalkRecursiveCte(Json& node, int depth, const CteScope& scope) {
  ICEPIE_RETURN_IF_ERROR(WalkAny(node["left"], depth, scope));
  const CteScope inner{&scope, {{absl::AsciiStrToLower(TextOf(node, "cte_name")), 1}}};
  for (auto& [name, member] : node.items()) {
    if (name == "left" || name == "cte_map" || name == "modifiers") continue;
    ICEPIE_RETURN_IF_ERROR(WalkAny(member, depth, inner));
  }
  return absl::OkStatus();
}

absl::Status Gate::CheckKind(const Json& node) {
  const std::string type = TextOf(node, "type");
  const std::string expression_class = TextOf(node, "class");
  const bool known = expression_class.empty() ? OtherTypes().count(type) > 0
                                              : ExpressionClasses().count(expression_class) > 0;
  if (known) return absl::OkStatus();
  const bool show = type == "SHOW_REF";
  return Forbidden(node, show ? "DESCRIBE, SHOW and SUMMARIZE are not allowed in SQL: the slice's "
                                "columns are in its description"
                              : absl::StrCat(expression_class.empty() ? type : expression_class,
                                             " is not allowed in SQL"));
}

// Whether a type is VARIANT or has one within.
bool NamesVariant(const Json& type) {
  if (type.is_object() && TextOf(type, "id") == "VARIANT") return true;
  return type.is_structured() && std::any_of(type.begin(), type.end(), NamesVariant);
}

absl::Status Gate::CheckNode(Json& node, const CteScope& scope) {
  varies_ |= Has(node, "sample");
  if (options_.reproducible && Has(node, "sample")) {
    return NotReproducible(node, "TABLESAMPLE takes other rows each time: use WHERE");
  }
  if (IsClass(node, "FUNCTION") || IsClass(node, "WINDOW")) return CheckFunction(node);
  if (IsClass(node, "COLUMN_REF")) return CheckColumn(node);
  if (IsClass(node, "CAST") && NamesVariant(node["cast_type"])) {
    return Forbidden(node,
                     "type VARIANT is not allowed: DuckDB's conversion of deeply nested JSON "
                     "to it overflows the stack; use JSON");
  }
  if (IsClass(node, "PARAMETER") && options_.reproducible) {
    return Forbidden(node, "a definition cannot have parameters: nothing gives them values");
  }
  // Its relation may stand there with other columns, or with some of them alone.
  if (IsClass(node, "POSITIONAL_REFERENCE") && options_.reproducible) {
    return Forbidden(node, "#n, a column by its place, is not allowed in a definition: name it");
  }
  if (!TextOf(node, "class").empty()) return absl::OkStatus();
  if (IsType(node, "BASE_TABLE")) return CheckRelation(node, scope);
  if (IsType(node, "TABLE_FUNCTION")) return CheckTableFunction(node);
  return IsType(node, "JOIN") ? CheckJoin(node) : absl::OkStatus();
}

absl::Status Gate::CheckJoin(const Json& node) {
  if (++joins_ > kJoinsMax) {
    return Refuse("SQL_TOO_COMPLEX", OffsetOf(node),
                  absl::StrCat("more than ", kJoinsMax, " joins"));
  }
  if (options_.reproducible && TextOf(node, "ref_type") == "POSITIONAL") {
    return NotReproducible(node,
                           "POSITIONAL JOIN pairs rows by places that they do not have: join by "
                           "a row_number() OVER (ORDER BY …)");
  }
  return absl::OkStatus();
}

absl::Status Gate::CheckRelation(Json& node, const CteScope& scope) {
  const std::string written = TextOf(node, "table_name");
  const std::string name = absl::AsciiStrToLower(written);
  const std::string schema = absl::AsciiStrToLower(TextOf(node, "schema_name"));
  const bool qualified = !schema.empty() || !TextOf(node, "catalog_name").empty();
  if (Has(node, "at_clause")) return Forbidden(node, "AT (…) is not supported");
  const size_t* cte = scope.Find(name);
  if (cte != nullptr && (!qualified || schema == "recurring")) return Count(node, *cte);
  if (qualified && (!TextOf(node, "catalog_name").empty() || schema != options_.domain)) {
    return Forbidden(node, absl::StrCat("relation ", TextOf(node, "catalog_name"),
                                        TextOf(node, "catalog_name").empty() ? "" : ".", schema,
                                        ".", written, " is not in domain ", options_.domain,
                                        ": a domain reads its own slices only"));
  }
  const std::optional<RelationTarget> target = options_.resolve(name);
  if (!target.has_value()) return UnknownRelation(node, written);
  relations_.insert(name);
  if (target->catalog.empty() && !qualified) return absl::OkStatus();
  return ReplaceRelation(node, written, *target);
}

absl::Status Gate::UnknownRelation(const Json& node, const std::string& name) const {
  if (!IsPlainRelation(name)) {
    return Forbidden(node, absl::StrCat("\"", name,
                                        "\" is not a published name; files cannot be "
                                        "read by SQL: import them into a stream"));
  }
  const absl::Status refused =
      Refuse("SLICE_NOT_FOUND", OffsetOf(node),
             absl::StrCat("there is no \"", name, "\" in domain ", options_.domain,
                          SuggestName(name, options_.known)));
  std::optional<ErrorDetail> detail = GetErrorDetail(refused);
  detail->metadata["slice"] = name;
  return MakeError(absl::StatusCode::kNotFound, refused.message(), *detail);
}

absl::Status Gate::ReplaceRelation(Json& node, const std::string& name,
                                   const RelationTarget& target) {
  const std::optional<size_t> begin = OffsetOf(node);
  const std::optional<size_t> end = begin.has_value() ? EndOfName(sql_, *begin) : std::nullopt;
  if (!end.has_value()) return Forbidden(node, absl::StrCat("write FROM ", name, " plainly"));
  const bool in_place = target.catalog.empty();
  node["catalog_name"] = in_place ? "" : target.catalog;
  node["schema_name"] = in_place ? "" : target.schema;
  node["table_name"] = in_place ? name : target.table;
  std::string text =
      in_place ? QuoteIdentifier(name)
               : absl::StrCat(QuoteIdentifier(target.catalog), ".", QuoteIdentifier(target.schema),
                              ".", QuoteIdentifier(target.table));
  if (TextOf(node, "alias").empty() && !in_place) {
    node["alias"] = name;
    absl::StrAppend(&text, " AS ", QuoteIdentifier(name));
  }
  replacements_.push_back({*begin, *end, std::move(text)});
  return absl::OkStatus();
}

absl::Status Gate::CheckTableFunction(Json& node) {
  const std::string name = absl::AsciiStrToLower(TextOf(node["function"], "function_name"));
  const bool qualified = !TextOf(node["function"], "schema").empty();
  if (!qualified && FindTableFunction(name) != nullptr) return absl::OkStatus();
  const std::string why = WhyLeftOut(name);
  return Forbidden(
      node, absl::StrCat("table function ", name, "() is not allowed", why.empty() ? "" : ": ", why,
                         " (have: range, generate_series, unnest)"));
}

absl::Status Gate::CheckFunction(const Json& node) {
  const std::string name = absl::AsciiStrToLower(TextOf(node, "function_name"));
  const std::string schema = TextOf(node, "schema");
  // DuckDB's parser itself writes main.date_part for EXTRACT.
  const bool qualified = !TextOf(node, "catalog").empty() || (!schema.empty() && schema != "main");
  const AllowedFunction* function = qualified ? nullptr : FindFunction(name);
  if (function != nullptr) {
    NoteSortedList(node, name);
    ICEPIE_RETURN_IF_ERROR(CheckNamedAggregate(node, name));
    return CheckUse(node, *function);
  }
  std::string why = WhyLeftOut(name);
  // city.upper() is to the parser what schema.upper() is.
  if (why.empty() && qualified && FindFunction(name) != nullptr) {
    why = absl::StrCat("before the dot stands a schema; of a column write ", name, "(", schema,
                       node.value("children", Json()).empty() ? ")" : ", …)");
  }
  if (!why.empty() || qualified) {
    return Forbidden(
        node, absl::StrCat("function ", name, "() is not allowed", why.empty() ? "" : ": ", why));
  }
  const std::string nearest = NearestName(name, AllowedFunctionNames());
  return Forbidden(
      node, absl::StrCat("unknown function ", name, "()",
                         nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "()?")));
}

// list_aggregate(list, 'name', …) calls the aggregate of that name, over elements in their order.
absl::Status Gate::CheckNamedAggregate(const Json& node, const std::string& name) {
  static const auto* const kCallers = new std::set<std::string>{
      "aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"};
  const auto children = node.find("children");
  if (kCallers->count(name) == 0 || children == node.end() || children->size() < 2) {
    return absl::OkStatus();
  }
  const Json& called = (*children)[1];
  if (!IsClass(called, "CONSTANT") || !called["value"].contains("value") ||
      !called["value"]["value"].is_string()) {
    return Forbidden(node, absl::StrCat(name, "() must be given its aggregate's name as a text"));
  }
  const std::string aggregate = absl::AsciiStrToLower(called["value"]["value"].get<std::string>());
  const AllowedFunction* function = FindFunction(aggregate);
  if (function == nullptr || function->name == kComponents) {
    return Forbidden(node, absl::StrCat(name, "() may not call ", aggregate, "()"));
  }
  const bool by_order = function->use == FunctionUse::kOrdered;
  return by_order ? absl::OkStatus() : CheckUse(node, *function);
}

// Whether rows come to the function in an order that the SQL states.
bool StatesOrder(const Json& node) {
  if (IsClass(node, "WINDOW")) return Has(node, "orders") || Has(node, "arg_orders");
  const auto order_bys = node.find("order_bys");
  return order_bys != node.end() && Has(*order_bys, "orders");
}

// DuckDB's parser writes list(DISTINCT a ORDER BY a) as list_sort(list(DISTINCT a), …).
void Gate::NoteSortedList(const Json& node, const std::string& name) {
  static const auto* const kSorts = new std::set<std::string>{
      "list_sort", "array_sort", "list_reverse_sort", "array_reverse_sort"};
  const auto children = node.find("children");
  if (kSorts->count(name) == 0 || children == node.end() || children->empty()) return;
  const Json& sorted = children->front();
  const std::string aggregate = absl::AsciiStrToLower(TextOf(sorted, "function_name"));
  if (aggregate == "list" || aggregate == "array_agg") sorted_lists_.insert(&sorted);
}

absl::Status Gate::CheckUse(const Json& node, const AllowedFunction& function) {
  if (function.name == kComponents && IsClass(node, "WINDOW")) {
    return Forbidden(node, "components() is an aggregate: it cannot have OVER");
  }
  if (function.name == kComponents && StatesOrder(node)) {
    return Forbidden(node, "components() is the same in every order: leave its ORDER BY out");
  }
  const bool clock = function.use == FunctionUse::kClock ||
                     (function.name == "age" && node.value("children", Json()).size() == 1);
  varies_ |= clock || function.use == FunctionUse::kVolatile;
  if (!options_.reproducible) return absl::OkStatus();
  const std::string name = absl::StrCat(function.name, "()");
  if (clock) {
    return NotReproducible(node, absl::StrCat(name,
                                              " reads the clock, so a rebuilt slice would "
                                              "differ: use _time (ingest time) or a column"));
  }
  if (function.use == FunctionUse::kVolatile) {
    return NotReproducible(node, absl::StrCat(name,
                                              " differs from call to call, so a rebuilt slice "
                                              "would differ: use queries for it"));
  }
  if (function.use == FunctionUse::kApproximate) {
    return NotReproducible(node, absl::StrCat(name,
                                              " depends on how rows are grouped: use an exact "
                                              "one (quantile_cont, count(DISTINCT …))"));
  }
  const bool ordered = StatesOrder(node) || sorted_lists_.count(&node) > 0;
  if (function.use == FunctionUse::kOrdered && !ordered) {
    const bool window = IsClass(node, "WINDOW");
    return NotReproducible(node, absl::StrCat(name, " depends on the order of rows: ",
                                              window ? "give OVER (… ORDER BY …)"
                                                     : absl::StrCat("write ", function.name,
                                                                    "(… ORDER BY _position)")));
  }
  return absl::OkStatus();
}

absl::Status Gate::CheckColumn(const Json& node) {
  const Json& names = node["column_names"];
  if (!names.is_array() || names.size() != 1) return absl::OkStatus();
  const std::string name = absl::AsciiStrToLower(names[0].get<std::string>());
  const bool clock = ClockColumns().count(name) > 0;
  varies_ |= clock;
  if (!options_.reproducible) return absl::OkStatus();
  if (!clock && StateColumns().count(name) == 0) return absl::OkStatus();
  return NotReproducible(
      node, absl::StrCat(name, clock ? " reads the clock" : " depends on the session",
                         ", so a rebuilt slice would differ: use _time (ingest time) or a column "
                         "(a column of this name is written table.",
                         name, ")"));
}

absl::Status Gate::CheckModifiers(const Json& node) const {
  if (!options_.reproducible) return absl::OkStatus();
  if (Has(node, "sample")) {
    return NotReproducible(node, "USING SAMPLE takes other rows each time: use WHERE");
  }
  bool ordered = false;
  const Json* cut = nullptr;
  for (const Json& modifier : node.value("modifiers", Json::array())) {
    ordered |= IsType(modifier, "ORDER_MODIFIER");
  }
  if (ordered || !node.contains("modifiers")) return absl::OkStatus();
  for (const Json& modifier : node["modifiers"]) {
    const bool limit = absl::StartsWith(TextOf(modifier, "type"), "LIMIT");
    if (limit || Has(modifier, "distinct_on_targets")) cut = &modifier;
  }
  if (cut == nullptr) return absl::OkStatus();
  const Json& expression =
      Has(*cut, "limit")
          ? (*cut)["limit"]
          : (Has(*cut, "distinct_on_targets") ? (*cut)["distinct_on_targets"][0] : *cut);
  return NotReproducible(expression,
                         "LIMIT and DISTINCT ON without ORDER BY take whatever rows come first: "
                         "add ORDER BY");
}

std::string Gate::Rewritten() {
  std::sort(replacements_.begin(), replacements_.end(),
            [](const Replacement& a, const Replacement& b) { return a.begin > b.begin; });
  std::string text(sql_);
  for (const Replacement& replacement : replacements_) {
    text.replace(replacement.begin, replacement.end - replacement.begin, replacement.text);
  }
  return text;
}

absl::Status CheckText(const Gate& gate, absl::string_view sql) {
  if (sql.size() > kSqlBytesMax) {
    return gate.Refuse(
        "SQL_TOO_COMPLEX", std::nullopt,
        absl::StrCat("the SQL has ", sql.size(), " bytes, the limit is ", kSqlBytesMax));
  }
  if (const size_t zero = sql.find('\0'); zero != absl::string_view::npos) {
    return gate.Refuse("SQL_SYNTAX", zero, "a zero byte");
  }
  return absl::OkStatus();
}

// DuckDB's syntax error with line and column.
absl::Status WithPlace(const Gate& gate, const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || detail->metadata.count("offset") == 0) return status;
  const size_t offset = std::strtoull(detail->metadata.at("offset").c_str(), nullptr, 10);
  return gate.Refuse(detail->reason.c_str(), offset, status.message());
}

}  // namespace

absl::StatusOr<GatedQuery> GateQuery(DuckConnection& connection, absl::string_view sql,
                                     const GateOptions& options) {
  Gate gate(sql, options);
  ICEPIE_RETURN_IF_ERROR(CheckText(gate, sql));
  absl::StatusOr<Json> statement = ParseSelect(connection, sql);
  if (!statement.ok()) return WithPlace(gate, statement.status());
  ICEPIE_RETURN_IF_ERROR(gate.Walk(*statement));
  GatedQuery query{WithoutTrailingSemicolon(gate.Rewritten()), gate.Relations(), gate.varies()};
  if (query.sql == sql) return query;
  // The text was changed as text: it must mean exactly what the checked tree means.
  absl::StatusOr<Json> rewritten = ParseSelect(connection, query.sql);
  // Lack of memory and interrupts say nothing about the text.
  if (!rewritten.ok() && ErrorReason(rewritten.status()).empty()) return rewritten.status();
  if (!rewritten.ok() || WithoutPlaces(*std::move(rewritten)) != WithoutPlaces(*statement)) {
    return gate.Refuse("SQL_FORBIDDEN", std::nullopt,
                       "the relations of this SQL cannot be told apart: write FROM and JOIN with "
                       "plain names, and plain spaces");
  }
  return query;
}

}  // namespace icepie::slices
