#include "slices/plan/row_order.h"

#include <algorithm>
#include <functional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "slices/plan/function_list.h"

namespace icepie::slices {
namespace {

bool Any(const Json& tree, const std::function<bool(const Json&)>& holds) {
  if (holds(tree)) return true;
  return tree.is_structured() && std::any_of(tree.begin(), tree.end(),
                                             [&](const Json& child) { return Any(child, holds); });
}

bool IsOrdered(const Json& call) {
  const AllowedFunction* function = FindFunction(TextOf(call, "function_name"));
  return function != nullptr && function->use == FunctionUse::kOrdered;
}

// Equal rows have one rank.
bool IsRank(const Json& window) {
  return IsType(window, "WINDOW_RANK") || IsType(window, "WINDOW_RANK_DENSE") ||
         IsType(window, "WINDOW_PERCENT_RANK") || IsType(window, "WINDOW_CUME_DIST");
}

// Whether a list of ORDER BY has the position.
bool HasPosition(const Json& orders) {
  return std::any_of(orders.begin(), orders.end(), [](const Json& order) {
    const Json& expression = order["expression"];
    return IsClass(expression, "COLUMN_REF") &&
           absl::AsciiStrToLower(expression["column_names"].back().get<std::string>()) ==
               "_position";
  });
}

// The order of the arguments, when there is one, is the one that counts.
bool GoesByPosition(const Json& window) {
  return HasPosition(window[Has(window, "arg_orders") ? "arg_orders" : "orders"]);
}

// DISTINCT ON and LIMIT take rows by the query's ORDER BY.
bool CutsByOrder(const Json& node, bool positions) {
  bool cuts = false;
  for (const Json& modifier : node["modifiers"]) {
    if (IsType(modifier, "ORDER_MODIFIER") && positions && HasPosition(modifier["orders"])) {
      return false;
    }
    cuts = cuts || absl::StartsWith(TextOf(modifier, "type"), "LIMIT") ||
           Has(modifier, "distinct_on_targets");
  }
  return cuts;
}

bool IsAggregateInOrder(const Json& node) { return IsClass(node, "FUNCTION") && IsOrdered(node); }

// Equal rows of one partition are inside of such a frame or not as they came.
bool HasFrameOfRows(const Json& window) {
  return absl::EndsWith(TextOf(window, "start"), "_ROWS") ||
         absl::EndsWith(TextOf(window, "end"), "_ROWS");
}

// Whether the value of a window function depends on the order of equal rows, ties unbroken.
bool GoesByOrder(const Json& window) {
  return !IsRank(window) && (IsOrdered(window) || HasFrameOfRows(window));
}

// Whether a position is one of all rows.
bool HasOnePosition(const Json& statement, bool of_records) {
  return of_records && !Any(statement, [](const Json& node) { return IsType(node, "JOIN"); });
}

// `positions`: HasOnePosition().
bool ShowsOrderItself(const Json& node, bool positions) {
  if (TakesFirstOfEquals(node) || IsClass(node, "COLLATE")) return true;
  if (IsType(node, "JOIN")) return TextOf(node, "ref_type") == "ASOF";
  if (IsAggregateInOrder(node)) {
    const Json& order_bys = node["order_bys"];
    return !positions || !Has(order_bys, "orders") || !HasPosition(order_bys["orders"]);
  }
  if (IsClass(node, "WINDOW")) {
    const bool shows = TakesTieBreak(node) || GoesByOrder(node);
    return shows && !(positions && GoesByPosition(node));
  }
  return Has(node, "modifiers") && CutsByOrder(node, positions);
}

}  // namespace

bool TakesFirstOfEquals(const Json& node) {
  static const auto* const kNames = new std::set<std::string>{"arg_min",
                                                              "argmin",
                                                              "min_by",
                                                              "arg_max",
                                                              "argmax",
                                                              "max_by",
                                                              "arg_min_null",
                                                              "arg_max_null",
                                                              "arg_min_nulls_last",
                                                              "arg_max_nulls_last",
                                                              "mode",
                                                              "bitstring_agg"};
  const bool call = IsClass(node, "FUNCTION") || IsClass(node, "WINDOW");
  return call && kNames->count(TextOf(node, "function_name")) > 0;
}

bool AnyTakesFirst(const Json& tree) {
  return Any(tree,
             [](const Json& node) { return TakesFirstOfEquals(node) || IsClass(node, "COLLATE"); });
}

bool TakesTieBreak(const Json& window) {
  for (const char* type : {"WINDOW_ROW_NUMBER", "WINDOW_LAG", "WINDOW_LEAD", "WINDOW_NTILE"}) {
    if (IsType(window, type)) return true;
  }
  const std::string start = TextOf(window, "start");
  const std::string end = TextOf(window, "end");
  if (IsType(window, "WINDOW_FIRST_VALUE")) {
    return start == "UNBOUNDED_PRECEDING" && end == "CURRENT_ROW_RANGE";
  }
  // One more order would make peers of none that EXCLUDE TIES or GROUP leaves out.
  return !IsRank(window) && HasFrameOfRows(window) &&
         TextOf(window, "exclude_clause") == "NO_OTHER";
}

bool ShowsOrderOfPeers(const Json& window) {
  if (!IsClass(window, "WINDOW")) return false;
  if (TakesTieBreak(window) && !Has(window, "arg_orders")) return false;
  return (TakesFirstOfEquals(window) || GoesByOrder(window)) && !GoesByPosition(window);
}

bool ShowsOrder(const Json& statement, bool of_records) {
  const bool positions = HasOnePosition(statement, of_records);
  return Any(statement, [&](const Json& node) { return ShowsOrderItself(node, positions); });
}

bool AnyLastOfEquals(const Json& statement, bool of_records) {
  const bool positions = HasOnePosition(statement, of_records);
  return Any(statement, [&](const Json& node) {
    if (!IsClass(node, "FUNCTION") || TextOf(node, "function_name") != "last") return false;
    const Json& order_bys = node["order_bys"];
    return Has(order_bys, "orders") && !(positions && HasPosition(order_bys["orders"]));
  });
}

std::vector<std::string> TiesOf(const SliceDef& definition, const SlicePlan& plan) {
  std::vector<std::string> ties = definition.key;
  // A part's key (parts_plan.h) tells its rows apart; of a slice's, that is only said.
  const bool part = definition.sql.empty();
  if (part && !ties.empty()) return ties;
  for (const OutputColumn& column : plan.columns) {
    const bool has = std::any_of(ties.begin(), ties.end(), [&](const std::string& tie) {
      return absl::EqualsIgnoreCase(tie, column.name);
    });
    if (!has) ties.push_back(column.name);
  }
  return ties;
}

}  // namespace icepie::slices
