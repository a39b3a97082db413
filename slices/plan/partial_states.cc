#include "slices/plan/partial_states.h"

#include <cstdint>
#include <cstdlib>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {
namespace {

// avg(DECIMAL) needs 10^scale twice within 38 digits.
constexpr int kAverageScaleMax = 18;
constexpr int kSumDigits = 38;

// More than a batch has, and a power of two.
constexpr int64_t kManyRecords = int64_t{1} << 30;

// 10^scale as digits.
std::string PowerOfTen(int scale) { return absl::StrCat("1", std::string(scale, '0')); }

// Whether a DECIMAL(38, scale) is from -`digits` to `digits`, of which the last are behind the
// point.
std::string IsInDigits(const std::string& value, std::string digits, int scale) {
  digits.insert(digits.size() - scale, ".");
  const std::string bound = absl::StrCat("CAST('", digits, "' AS DECIMAL(38,", scale, "))");
  return absl::StrCat(value, " BETWEEN -", bound, " AND ", bound);
}

int ScaleOf(const std::string& decimal) {
  return std::atoi(decimal.substr(decimal.find(',') + 1).c_str());
}

// sum(DECIMAL) goes up to the end of HUGEINT, beyond 38 digits, where + and - fail.
std::string DecimalSum(const std::string& type) {
  const std::string half = "4" + std::string(kSumDigits - 1, '0');
  const int scale = ScaleOf(type);
  return absl::StrCat("WHEN ", IsInDigits("t.$", half, scale), " AND ",
                      IsInDigits("b.$", half, scale), " THEN t.$ + b.$ ELSE list_sum([t.$, b.$])");
}

// avg of a DECIMAL is the unscaled sum over n * 10^scale, both as DOUBLE. The unscaled sum is put
// together from its two halves, because 38 digits times 10^scale would not fit.
std::string DecimalAverage(const std::string& sum, const std::string& count, int scale) {
  if (scale == 0) return absl::StrCat(sum, "::HUGEINT::DOUBLE / ", count);
  const std::string power = PowerOfTen(scale);
  const std::string most(kSumDigits, '9');
  return absl::StrCat("CASE WHEN ", IsInDigits(sum, most, scale), " THEN (trunc(", sum,
                      ")::HUGEINT * ", power, "::HUGEINT + ((", sum, " - trunc(", sum, ")) * ",
                      power, ")::HUGEINT)::DOUBLE / (", count, "::DOUBLE * ", power,
                      "::DOUBLE) ELSE ", sum, "::DOUBLE / ", count, " END");
}

bool IsOneOf(const std::string& name, const std::set<std::string>& names) {
  return names.count(name) > 0;
}

// Out of range, DuckDB's own functions end in an error, which costs the record. A constant error
// would be one of no row at all, too.
std::string IfFinite(const std::string& value, absl::string_view function) {
  return absl::StrCat("CASE WHEN isfinite(", value, ") THEN ", value, " ELSE error('", function,
                      " is out of range: ' || CAST(", value, " AS VARCHAR)) END");
}

// $ as a column of the state or the batch, in the fold of any column.
std::string InFold(const std::string& text, const std::string& column) {
  return absl::StrReplaceAll(text, {{"t.#", "t." + column}, {"b.#", "b." + column}});
}

// Whether the first (or last) of the ordered rows is the batch's. # is the order's column. Of equal
// ones DuckDB takes the first for both.
std::string BatchComesFirst(bool first, const Json& order) {
  const bool descending = TextOf(order, "type") == "DESCENDING";
  const bool nulls_first = TextOf(order, "null_order") == "NULLS FIRST";
  const std::string compare = absl::StrCat("b.# ", descending != first ? "<" : ">", " t.#");
  const bool null_wins = nulls_first == first;
  return null_wins ? absl::StrCat("(t.# IS NOT NULL AND (b.# IS NULL OR ", compare, "))")
                   : absl::StrCat("(b.# IS NOT NULL AND (t.# IS NULL OR ", compare, "))");
}

}  // namespace

absl::StatusOr<std::string> ExactAverage(const std::string& type, const std::string& sum,
                                         const std::string& count) {
  if (!absl::StartsWith(type, "DECIMAL(")) return absl::StrCat(sum, "::DOUBLE / ", count);
  const int scale = ScaleOf(type);
  if (scale > kAverageScaleMax) return StandsInTheWay(absl::StrCat("avg() of ", type));
  return DecimalAverage(sum, count, scale);
}

std::string PartialStates::Name(size_t index) { return absl::StrCat("a", index); }

std::string PartialStates::AddState(PartialState state) {
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i].sql == state.sql && states_[i].set == state.set) return Name(i);
  }
  states_.push_back(std::move(state));
  return Name(states_.size() - 1);
}

std::string PartialStates::Filter(const Term& term, const std::string& condition) {
  if (term.condition.empty() && condition.empty()) return "";
  const bool both = !term.condition.empty() && !condition.empty();
  return absl::StrCat(" FILTER (WHERE ", both ? "(" : "", term.condition, both ? ") AND " : "",
                      condition, ")");
}

absl::StatusOr<std::string> PartialStates::TypeOfCall(const Term& term,
                                                      const std::string& function) {
  return type_of_(absl::StrCat(function, "(", term.original, ")"));
}

absl::StatusOr<PartialStates::Term> PartialStates::ReadTerm(const Json& call) {
  Term term;
  term.name = TextOf(call, "function_name");
  const Json& children = call["children"];
  const bool two = children.size() == 2 &&
                   (absl::StartsWith(term.name, "arg") || absl::EndsWith(term.name, "_by"));
  if (children.size() > 1 && !two) {
    return StandsInTheWay(absl::StrCat("has ", term.name, "() of ", children.size(), " arguments"));
  }
  if (!children.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(term.argument, ExpressionToSql(connection_, children[0]));
  }
  if (two) {
    ICEPIE_ASSIGN_OR_RETURN(term.second, ExpressionToSql(connection_, children[1]));
  }
  term.original = term.argument;
  if (Has(call, "filter")) {
    ICEPIE_ASSIGN_OR_RETURN(term.condition, ExpressionToSql(connection_, call["filter"]));
  }
  if (Has(call["order_bys"], "orders")) term.orders = &call["order_bys"]["orders"];
  if (call.value("distinct", false)) ICEPIE_RETURN_IF_ERROR(MakeDistinct(term));
  return term;
}

absl::Status PartialStates::MakeDistinct(Term& term) {
  static const auto* const kSame =
      new std::set<std::string>{"min", "max", "bool_and", "bool_or", "bit_and", "bit_or"};
  static const auto* const kAble = new std::set<std::string>{
      "count",    "sum",     "avg",      "mean",       "bit_xor",     "stddev",
      "variance", "var_pop", "var_samp", "stddev_pop", "stddev_samp", "sem"};
  if (IsOneOf(term.name, *kSame)) return absl::OkStatus();  // a value counts once anyway
  if (!IsOneOf(term.name, *kAble) || term.argument.empty()) {
    return StandsInTheWay(absl::StrCat("has ", term.name, "(DISTINCT …)"));
  }
  size_t set = 0;
  while (set < sets_.size() &&
         (sets_[set].argument != term.argument || sets_[set].filter != term.condition)) {
    ++set;
  }
  if (set == sets_.size()) {
    ICEPIE_ASSIGN_OR_RETURN(std::string type, type_of_(term.argument));
    sets_.push_back({term.argument, std::move(type), term.condition});
  }
  term.set = static_cast<int>(set);
  term.argument = "v";
  term.condition.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::string> PartialStates::Add(const Json& call) {
  ICEPIE_ASSIGN_OR_RETURN(const Term term, ReadTerm(call));
  const bool ordered = IsOneOf(term.name, {"first", "last", "any_value", "arbitrary"});
  if (term.orders != nullptr && !ordered) {
    return StandsInTheWay(absl::StrCat("has ", term.name, "(… ORDER BY …)"));
  }
  return Value(term);
}

absl::StatusOr<std::string> PartialStates::Value(const Term& term) {
  const std::string& name = term.name;
  if (name == "count" || name == "count_star") return Count(term);
  // NULL, not 0, when no value is there, like a sum.
  if (name == "count_if" || name == "countif") return Either(term, "(t.$ + b.$)");
  if (name == "sum") return Sum(term);
  if (name == "avg" || name == "mean") return Average(term);
  if (name == "min" || name == "max") return MinMax(term);
  if (name == "bool_and") return Either(term, "(t.$ AND b.$)");
  if (name == "bool_or") return Either(term, "(t.$ OR b.$)");
  if (name == "bit_and") return Either(term, "(t.$ & b.$)");
  if (name == "bit_or") return Either(term, "(t.$ | b.$)");
  if (name == "bit_xor") return Either(term, "xor(t.$, b.$)");
  if (IsOneOf(name,
              {"stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop", "sem"})) {
    return Spread(term);
  }
  if (IsOneOf(name, {"arg_min", "argmin", "min_by"})) return ArgMinMax(term, true, false);
  if (IsOneOf(name, {"arg_max", "argmax", "max_by"})) return ArgMinMax(term, false, false);
  if (name == "arg_min_null") return ArgMinMax(term, true, true);
  if (name == "arg_max_null") return ArgMinMax(term, false, true);
  if (IsOneOf(name, {"first", "last", "any_value", "arbitrary"})) return FirstLast(term);
  if (name == "product") {
    return StandsInTheWay(
        "has product(), which may leave the range of DOUBLE on the way, at a "
        "place that depends on the batches");
  }
  return StandsInTheWay(absl::StrCat("has ", name, "()"));
}

std::string PartialStates::Count(const Term& term) {
  const std::string argument = term.argument.empty() ? "*" : term.argument;
  return AddState(
      {absl::StrCat("count(", argument, ")", Filter(term)), "BIGINT", "t.$ + b.$", "0", term.set});
}

absl::StatusOr<std::string> PartialStates::Sum(const Term& term) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOfCall(term, "sum"));
  if (type != "HUGEINT" && type != "DOUBLE" && !absl::StartsWith(type, "DECIMAL(38,")) {
    return StandsInTheWay(absl::StrCat("sums ", type));
  }
  const std::string both = absl::StartsWith(type, "DECIMAL(") ? DecimalSum(type) : "ELSE t.$ + b.$";
  return AddState(
      {absl::StrCat("sum(", term.argument, ")", Filter(term)), type,
       absl::StrCat("CASE WHEN t.$ IS NULL THEN b.$ WHEN b.$ IS NULL THEN t.$ ", both, " END"),
       "NULL", term.set});
}

absl::StatusOr<std::string> PartialStates::Average(const Term& term) {
  static const auto* const kWhole = new std::set<std::string>{
      "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"};
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, type_of_(term.original));
  const bool decimal = absl::StartsWith(type, "DECIMAL(");
  const bool real = type == "DOUBLE" || type == "FLOAT";
  if (!decimal && !real && kWhole->count(type) == 0) {
    return StandsInTheWay(absl::StrCat("avg() of ", type));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string sum, Sum(term));
  const std::string count = Count(term);
  if (real) return absl::StrCat(sum, " / ", count);
  return ExactAverage(type, sum, count);
}

// Whether < orders values of the expression as min and max do.
absl::Status PartialStates::CheckComparable(const Term& term, const std::string& expression) {
  static const auto* const kOrdered = new std::set<std::string>{
      "BOOLEAN",  "TINYINT",     "SMALLINT",     "INTEGER",
      "BIGINT",   "HUGEINT",     "FLOAT",        "DOUBLE",
      "VARCHAR",  "DATE",        "TIME",         "TIMESTAMP",
      "UTINYINT", "USMALLINT",   "UINTEGER",     "UBIGINT",
      "UHUGEINT", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
      "UUID",     "BLOB",        "INTERVAL",     "TIMESTAMP WITH TIME ZONE"};
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, type_of_(expression));
  if (kOrdered->count(type) > 0 || absl::StartsWith(type, "DECIMAL(")) return absl::OkStatus();
  return StandsInTheWay(absl::StrCat(term.name, "() of ", type));
}

// Whether < orders values of the expression as arg_min and first do, which tell a month from 30
// days.
absl::Status PartialStates::CheckOrder(const Term& term, const std::string& expression) {
  ICEPIE_RETURN_IF_ERROR(CheckComparable(term, expression));
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, type_of_(expression));
  if (type != "INTERVAL") return absl::OkStatus();
  return StandsInTheWay(absl::StrCat(term.name, "() in the order of an INTERVAL"));
}

// Of equal values the earlier one stays, as within a batch.
absl::StatusOr<std::string> PartialStates::MinMax(const Term& term) {
  ICEPIE_RETURN_IF_ERROR(CheckComparable(term, term.original));
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOfCall(term, term.name));
  return AddState({absl::StrCat(term.name, "(", term.argument, ")", Filter(term)), type,
                   absl::StrCat("CASE WHEN t.$ IS NULL OR b.$ ", term.name == "min" ? "<" : ">",
                                " t.$ THEN b.$ ELSE t.$ END"),
                   "NULL", term.set});
}

absl::StatusOr<std::string> PartialStates::Either(const Term& term, const std::string& both) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, TypeOfCall(term, term.name));
  return AddState(
      {absl::StrCat(term.name, "(", term.argument, ")", Filter(term)), type,
       absl::StrCat("CASE WHEN t.$ IS NULL THEN b.$ WHEN b.$ IS NULL THEN t.$ ELSE ", both, " END"),
       "NULL", term.set});
}

// Number, mean and the sum of squared differences from it, merged as Chan, Golub and LeVeque do.
absl::StatusOr<std::string> PartialStates::Spread(const Term& term) {
  Term real = term;
  real.argument = absl::StrCat("(", term.argument, ")::DOUBLE");
  const std::string filter = Filter(term);
  const std::string n = Count(term);
  const auto merged = [&](const std::string& fold) {
    return absl::StrCat("CASE WHEN b.", n, " = 0 THEN t.$ WHEN t.", n, " = 0 THEN b.$ ELSE ", fold,
                        " END");
  };
  // The batch's sum of values near the end of DOUBLE is beyond it, their mean is not.
  const std::string batch_mean =
      absl::StrCat("avg(", real.argument, " / ", kManyRecords, ")", filter, " * ", kManyRecords);
  const std::string mean = AddState(
      {batch_mean, "DOUBLE",
       merged(absl::StrCat("t.$ + (b.$ - t.$) * (b.", n, "::DOUBLE / (t.", n, " + b.", n, "))")),
       "NULL", term.set});
  const std::string difference = absl::StrCat("(b.", mean, " - t.", mean, ")");
  std::string batch_squares =
      absl::StrCat("var_pop(", real.argument, ")", filter, " * count(", term.argument, ")", filter);
  // Of one value that is not finite sem() fails, the others do not.
  if (term.name == "sem") {
    absl::StrAppend(&batch_squares, " + 0 * ", IfFinite(batch_mean, term.name));
  }
  const std::string squares = AddState(
      {batch_squares, "DOUBLE",
       merged(IfFinite(absl::StrCat("t.$ + b.$ + ", difference, " * (t.", n, "::DOUBLE * b.", n,
                                    " / (t.", n, " + b.", n, ")) * ", difference),
                       term.name)),
       "NULL", term.set});
  const bool population = absl::EndsWith(term.name, "_pop") || term.name == "sem";
  const std::string variance =
      population ? absl::StrCat("CASE WHEN ", n, " > 0 THEN ", squares, " / ", n, " END")
                 : absl::StrCat("CASE WHEN ", n, " > 1 THEN ", squares, " / (", n, " - 1) END");
  if (term.name == "sem") return absl::StrCat("sqrt(", variance, ") / sqrt(", n, ")");
  return absl::StartsWith(term.name, "std") ? absl::StrCat("sqrt(", variance, ")") : variance;
}

// Of equal values the earliest record's counts.
absl::StatusOr<std::string> PartialStates::ArgMinMax(const Term& term, bool smallest,
                                                     bool null_arguments) {
  if (!by_position_) {
    return StandsInTheWay(
        absl::StrCat("has ", term.name,
                     "(), where equal values are told apart by the order of records, which "
                     "several sources do not have"));
  }
  ICEPIE_RETURN_IF_ERROR(CheckOrder(term, term.second));
  const std::string function =
      absl::StrCat(smallest ? "arg_min" : "arg_max", null_arguments ? "_null" : "");
  const std::string call = absl::StrCat(function, "(", term.argument, ", ", term.second, ")");
  ICEPIE_ASSIGN_OR_RETURN(const std::string type, type_of_(call));
  ICEPIE_ASSIGN_OR_RETURN(const std::string by_type, type_of_(term.second));
  const std::string present =
      null_arguments ? "" : absl::StrCat("(", term.argument, ") IS NOT NULL");
  const std::string wins = InFold(absl::StrCat("t.# IS NULL OR b.# ", smallest ? "<" : ">", " t.#"),
                                  Name(states_.size()));
  const std::string by =
      absl::StrCat(smallest ? "min(" : "max(", term.second, ")", Filter(term, present));
  // The two columns belong together, so the first is not shared with other calls.
  states_.push_back({by, by_type, absl::StrCat("CASE WHEN ", wins, " THEN b.$ ELSE t.$ END"),
                     "NULL", kAllRecords});
  states_.push_back({absl::StrCat(call, Filter(term)), type,
                     absl::StrCat("CASE WHEN ", wins, " THEN b.$ ELSE t.$ END"), "NULL",
                     kAllRecords});
  return Name(states_.size() - 1);
}

absl::StatusOr<std::string> PartialStates::FirstLast(const Term& term) {
  if (term.orders == nullptr || term.orders->size() != 1) {
    return StandsInTheWay(absl::StrCat("has ", term.name, "() in an order of several columns"));
  }
  const Json& order = (*term.orders)[0];
  ICEPIE_ASSIGN_OR_RETURN(const std::string by, ExpressionToSql(connection_, order["expression"]));
  ICEPIE_RETURN_IF_ERROR(CheckOrder(term, by));
  if (by != position_ && !by_position_) {
    return StandsInTheWay(absl::StrCat("has ", term.name, "() over several sources"));
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string by_type, type_of_(by));
  ICEPIE_ASSIGN_OR_RETURN(const std::string type,
                          type_of_(absl::StrCat("first(", term.argument, ")")));
  std::string ordered = absl::StrCat(" ORDER BY ", by);
  if (TextOf(order, "type") == "DESCENDING") absl::StrAppend(&ordered, " DESC");
  if (absl::StartsWith(TextOf(order, "null_order"), "NULLS")) {
    absl::StrAppend(&ordered, " ", TextOf(order, "null_order"));
  }
  const bool last = term.name == "last";
  if (by != position_ && !position_.empty()) {
    absl::StrAppend(&ordered, ", ", position_, last ? " DESC" : "");
  }
  const bool any = !last && term.name != "first";
  const std::string present = any ? absl::StrCat("(", term.argument, ") IS NOT NULL") : "";
  const std::string filter = Filter(term, present);
  const std::string count =
      AddState({absl::StrCat("count(*)", filter), "BIGINT", "t.$ + b.$", "0", kAllRecords});
  const std::string wins =
      absl::StrCat("b.", count, " > 0 AND (t.", count, " = 0 OR ",
                   InFold(BatchComesFirst(!last, order), Name(states_.size())), ")");
  const std::string fold = absl::StrCat("CASE WHEN ", wins, " THEN b.$ ELSE t.$ END");
  const std::string function = last ? "last(" : "first(";
  states_.push_back(
      {absl::StrCat(function, by, ordered, ")", filter), by_type, fold, "NULL", kAllRecords});
  states_.push_back({absl::StrCat(function, term.argument, ordered, ")", filter), type, fold,
                     "NULL", kAllRecords});
  return Name(states_.size() - 1);
}

}  // namespace icepie::slices
