#include "slices/plan/syntax_tree.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/sql_text.h"

namespace icepie::slices {
namespace {

absl::Status NotASelect(absl::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(what, ": only one SELECT is allowed here"), "SQL_NOT_A_SELECT");
}

// By its text alone: DuckDB's own answer would need it bound, and for that some are half run.
absl::Status OtherStatement(absl::string_view sql) {
  const std::string word = FirstOtherStatement(sql);
  if (word.empty() || word == "PIVOT") {
    return NotASelect("PIVOT is not allowed without its values (PIVOT … ON a IN (…))");
  }
  return NotASelect(absl::StrCat(word, " is not allowed"));
}

absl::Status SyntaxError(const Json& reply) {
  // DuckDB's own limit, and a setting as its remedy that nobody can change.
  if (absl::StrContains(TextOf(reply, "error_message"), "expression depth limit")) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     "nested too deeply to be looked at: make it flatter", "SQL_TOO_COMPLEX");
  }
  ErrorDetail detail;
  detail.reason = "SQL_SYNTAX";
  const std::string position = TextOf(reply, "position");
  if (!position.empty()) detail.metadata["offset"] = position;
  return MakeError(absl::StatusCode::kInvalidArgument, TextOf(reply, "error_message"), detail);
}

// json_serialize_sql's answer, parsed.
absl::StatusOr<Json> Serialize(DuckConnection& connection, absl::string_view sql) {
  ICEPIE_ASSIGN_OR_RETURN(
      const std::string text,
      connection.QueryText(absl::StrCat("SELECT json_serialize_sql(", QuoteLiteral(sql), ")")));
  Json reply = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!reply.is_object()) return absl::InternalError("DuckDB gave a syntax tree that is not JSON");
  return reply;
}

Json TextConstant(const std::string& text) {
  return {{"class", "CONSTANT"},
          {"type", "VALUE_CONSTANT"},
          {"alias", ""},
          {"query_location", UINT64_MAX},
          {"value",
           {{"type", {{"id", "VARCHAR"}, {"type_info", nullptr}}},
            {"is_null", false},
            {"value", text}}}};
}

bool IsDoubleConstant(const Json& node) {
  if (!IsClass(node, "CONSTANT") || !Has(node, "value")) return false;
  const Json& value = node["value"];
  return value.contains("type") && TextOf(value["type"], "id") == "DOUBLE" &&
         value.contains("value") && value["value"].is_number();
}

// 1e3 → CAST('1000' AS DOUBLE), with all its digits.
Json DoubleAsCast(const Json& node) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.17g", node["value"]["value"].get<double>());
  return {{"class", "CAST"},
          {"type", "OPERATOR_CAST"},
          {"alias", TextOf(node, "alias")},
          {"query_location", UINT64_MAX},
          {"child", TextConstant(digits)},
          {"cast_type", {{"id", "DOUBLE"}, {"type_info", nullptr}}},
          {"try_cast", false}};
}

void CastDoubles(Json& node) {
  if (IsDoubleConstant(node)) {
    node = DoubleAsCast(node);
    return;
  }
  if (!node.is_structured()) return;
  for (Json& child : node) CastDoubles(child);
}

// json_deserialize_sql writes `a CROSS JOIN b` as `a , b`, which binds looser than a JOIN around
// it: `a CROSS JOIN b FULL JOIN c` would become another query.
void CollectInnerCrossJoins(Json& node, std::vector<Json*>& found) {
  if (!node.is_structured()) return;
  for (Json& child : node) CollectInnerCrossJoins(child, found);
  if (!IsType(node, "JOIN") || TextOf(node, "ref_type") == "CROSS") return;
  for (const char* side : {"left", "right"}) {
    for (Json* below = &node[side]; IsType(*below, "JOIN"); below = &(*below)["left"]) {
      if (TextOf(*below, "ref_type") == "CROSS") found.push_back(below);
    }
  }
}

void RemovePlaces(Json& node) {
  if (node.is_object()) node.erase("query_location");
  if (!node.is_structured()) return;
  for (Json& child : node) RemovePlaces(child);
}

Json SelectOf(Json expression) {
  return {
      {"node",
       {{"type", "SELECT_NODE"},
        {"modifiers", Json::array()},
        {"cte_map", {{"map", Json::array()}}},
        {"select_list", Json::array({std::move(expression)})},
        {"from_table",
         {{"type", "EMPTY"}, {"alias", ""}, {"sample", nullptr}, {"query_location", UINT64_MAX}}},
        {"where_clause", nullptr},
        {"group_expressions", Json::array()},
        {"group_sets", Json::array()},
        {"aggregate_handling", "STANDARD_HANDLING"},
        {"having", nullptr},
        {"sample", nullptr},
        {"qualify", nullptr}}},
      {"named_param_map", Json::array()}};
}

}  // namespace

absl::StatusOr<Json> ParseSelect(DuckConnection& connection, absl::string_view sql) {
  ICEPIE_ASSIGN_OR_RETURN(Json reply, Serialize(connection, sql));
  if (reply.value("error", false)) {
    if (TextOf(reply, "error_type") == "parser") return SyntaxError(reply);
    const std::string message = TextOf(reply, "error_message");
    return absl::StrContains(message, "Only SELECT")
               ? OtherStatement(sql)
               : MakeError(absl::StatusCode::kInvalidArgument, message, "SQL_SYNTAX");
  }
  Json& statements = reply["statements"];
  if (!statements.is_array() || statements.empty()) return NotASelect("there is no statement");
  if (statements.size() > 1) return NotASelect(absl::StrCat(statements.size(), " statements"));
  return std::move(statements[0]);
}

absl::StatusOr<std::string> SelectToSql(DuckConnection& connection, Json statement) {
  CastDoubles(statement);
  std::vector<Json*> cross_joins;
  CollectInnerCrossJoins(statement, cross_joins);
  for (Json* join : cross_joins) {
    ICEPIE_ASSIGN_OR_RETURN((*join)["condition"], ParseExpression(connection, "true"));
    (*join)["ref_type"] = "REGULAR";
    (*join)["join_type"] = "INNER";
  }
  const Json request = {{"error", false}, {"statements", Json::array({std::move(statement)})}};
  return connection.QueryText(
      absl::StrCat("SELECT json_deserialize_sql(", QuoteLiteral(request.dump()), "::JSON)"));
}

absl::StatusOr<std::string> ExpressionToSql(DuckConnection& connection, Json expression) {
  expression["alias"] = "";
  ICEPIE_ASSIGN_OR_RETURN(std::string sql,
                          SelectToSql(connection, SelectOf(std::move(expression))));
  return sql.substr(absl::string_view("SELECT ").size());
}

absl::StatusOr<Json> ParseExpression(DuckConnection& connection, absl::string_view sql) {
  ICEPIE_ASSIGN_OR_RETURN(Json statement, ParseSelect(connection, absl::StrCat("SELECT ", sql)));
  return std::move(statement["node"]["select_list"][0]);
}

Json WithoutPlaces(Json tree) {
  RemovePlaces(tree);
  return tree;
}

Json UnqualifiedColumn(Json column, absl::string_view relation) {
  Json& names = column["column_names"];
  const auto first = [&] { return absl::AsciiStrToLower(names[0].get<std::string>()); };
  if (names.size() > 1 && first() == relation) names.erase(0);
  names[0] = first();
  return column;
}

void KeepMemberNames(const Json& call, Json& result) {
  if (!IsClass(call, "FUNCTION") || !result.is_object() || !result.contains("children")) return;
  const Json& before = call["children"];
  Json& after = result["children"];
  for (size_t i = 0; i < before.size() && i < after.size(); ++i) {
    std::string name = TextOf(before[i], "alias");
    const bool member = name.empty() && TextOf(call, "function_name") == "struct_pack" &&
                        IsClass(before[i], "COLUMN_REF");
    if (member) name = before[i]["column_names"].back().get<std::string>();
    if (!name.empty()) after[i]["alias"] = name;
  }
}

std::optional<size_t> OffsetOf(const Json& node) {
  const auto it = node.find("query_location");
  if (it == node.end() || !it->is_number_unsigned() || it->get<uint64_t>() == UINT64_MAX) {
    return std::nullopt;
  }
  return it->get<size_t>();
}

std::string TextOf(const Json& node, const char* member) {
  if (!node.is_object()) return "";
  const auto it = node.find(member);
  return it != node.end() && it->is_string() ? it->get<std::string>() : "";
}

bool IsType(const Json& node, absl::string_view type) { return TextOf(node, "type") == type; }

bool IsClass(const Json& node, absl::string_view expression_class) {
  return TextOf(node, "class") == expression_class;
}

bool Has(const Json& node, const char* member) {
  if (!node.is_object()) return false;
  const auto it = node.find(member);
  return it != node.end() && !it->is_null() && !(it->is_array() && it->empty());
}

std::string LowerText(const Json& node, const char* member) {
  return absl::AsciiStrToLower(TextOf(node, member));
}

bool IsFunctionOf(const Json& node, FunctionKind kind) {
  if (!IsClass(node, "FUNCTION")) return false;
  const AllowedFunction* function = FindFunction(TextOf(node, "function_name"));
  return function != nullptr && function->kind == kind;
}

std::string OutputName(const Json& item) {
  const std::string alias = LowerText(item, "alias");
  if (!alias.empty() || !IsClass(item, "COLUMN_REF")) return alias;
  return absl::AsciiStrToLower(item["column_names"].back().get<std::string>());
}

bool AnyNode(const Json& tree, const std::function<bool(const Json&)>& holds) {
  if (holds(tree)) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(), [&](const Json& child) {
           return AnyNode(child, holds);
         });
}

bool ContainsClass(const Json& tree, absl::string_view expression_class) {
  return AnyNode(tree, [&](const Json& node) { return IsClass(node, expression_class); });
}

}  // namespace icepie::slices
