// DuckDB's own syntax tree of a SELECT, as the JSON of json_serialize_sql: parsed, and turned back
// into text. Ice Pie has no SQL parser of its own.
//
// Shape: {"node": {"type": "SELECT_NODE", "select_list": […], "from_table": {…}, …}}. Expressions
// have "class" and "type", relations and query nodes only "type"; "query_location" is the byte in
// the text. Included by .cc files only.
#ifndef ICEPIE_SLICES_PLAN_SYNTAX_TREE_H_
#define ICEPIE_SLICES_PLAN_SYNTAX_TREE_H_

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/function_list.h"

namespace icepie::slices {

using Json = nlohmann::json;

// The tree of the only statement in `sql`. INVALID_ARGUMENT with SQL_SYNTAX (offset in metadata) or
// SQL_NOT_A_SELECT.
absl::StatusOr<Json> ParseSelect(DuckConnection& connection, absl::string_view sql);

// SQL text of a statement tree. DOUBLE constants become casts of text, because DuckDB would write
// them as DECIMAL.
absl::StatusOr<std::string> SelectToSql(DuckConnection& connection, Json statement);

// SQL text of one expression, without its alias; and the expression of a text.
absl::StatusOr<std::string> ExpressionToSql(DuckConnection& connection, Json expression);
absl::StatusOr<Json> ParseExpression(DuckConnection& connection, absl::string_view sql);

// The tree without places in the text, so that equal SQL is an equal tree.
Json WithoutPlaces(Json tree);

// A column reference without the name of the only relation there is (in lower case), and its own
// name in lower case. What stands behind that is a member: those of JSON values have their case.
Json UnqualifiedColumn(Json column, absl::string_view relation);

// After the children of `call` have been replaced in `result`: those of a function keep their
// aliases, for these are the names of a struct's members.
void KeepMemberNames(const Json& call, Json& result);

// Where `node` stands in the text; nullopt when DuckDB does not say.
std::optional<size_t> OffsetOf(const Json& node);

// Text members, "" when there is none.
std::string TextOf(const Json& node, const char* member);
bool IsType(const Json& node, absl::string_view type);
bool IsClass(const Json& node, absl::string_view expression_class);
// A member that is an array with elements, or an object that is not null.
bool Has(const Json& node, const char* member);
std::string LowerText(const Json& node, const char* member);
// Whether it calls a function that the list of allowed ones (slices/plan/function_list.h) has as
// `kind`.
bool IsFunctionOf(const Json& node, FunctionKind kind);
// The name that an item of a select list gives its column, in lower case; "" when DuckDB makes one
// up.
std::string OutputName(const Json& item);
// Whether `holds` does for one of its nodes, itself among them.
bool AnyNode(const Json& tree, const std::function<bool(const Json&)>& holds);
bool ContainsClass(const Json& tree, absl::string_view expression_class);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_SYNTAX_TREE_H_
