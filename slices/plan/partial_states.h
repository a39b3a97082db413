// Aggregate functions as states that batches are merged into: each call becomes columns of __state
// (named a0, a1, …), how a batch's value of a column is computed, how it is folded into the state,
// and an expression over the columns that gives the function's value.
//
// With DISTINCT the batch's value is computed over the values that the group has not had before:
// they are kept in a table of keys and values, one for each argument and filter.
#ifndef ICEPIE_SLICES_PLAN_PARTIAL_STATES_H_
#define ICEPIE_SLICES_PLAN_PARTIAL_STATES_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/duckdb/duckdb.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {

inline constexpr int kAllRecords = -1;

struct PartialState {
  std::string sql;        // over the batch's records, or over the new values (column v) of a set
  std::string type;       // of the column
  std::string fold;       // over t.… (state) and b.… (batch); $ is the column's own name
  std::string empty;      // without any record
  int set = kAllRecords;  // else index of the set of distinct values
};

struct DistinctValues {
  std::string argument;
  std::string type;
  std::string filter;  // a condition, or empty
};

// Errors: FAILED_PRECONDITION says in words why a call has no mergeable state; else DuckDB's.
class PartialStates {
 public:
  // `type_of` tells the type of an expression over the records; by_position: records come in
  // position order; `position`: the name that orders them, empty when it cannot be named.
  PartialStates(DuckConnection& connection,
                std::function<absl::StatusOr<std::string>(const std::string&)> type_of,
                bool by_position, std::string position)
      : connection_(connection),
        type_of_(std::move(type_of)),
        by_position_(by_position),
        position_(std::move(position)) {}

  // The value of the aggregate call over the columns' names.
  absl::StatusOr<std::string> Add(const Json& call);

  const std::vector<PartialState>& states() const { return states_; }
  const std::vector<DistinctValues>& sets() const { return sets_; }
  static std::string Name(size_t index);

 private:
  // A call's argument: as it is written over its set, and over the records.
  struct Term {
    std::string name;      // of the function
    std::string argument;  // "" for none
    std::string original;
    std::string second;     // of arg_min and arg_max
    std::string condition;  // of FILTER, or empty
    const Json* orders = nullptr;
    int set = kAllRecords;
  };

  absl::StatusOr<Term> ReadTerm(const Json& call);
  absl::Status MakeDistinct(Term& term);
  absl::StatusOr<std::string> Value(const Term& term);
  std::string AddState(PartialState state);
  absl::StatusOr<std::string> TypeOfCall(const Term& term, const std::string& function);
  static std::string Filter(const Term& term, const std::string& condition = "");

  std::string Count(const Term& term);
  absl::StatusOr<std::string> Sum(const Term& term);
  absl::StatusOr<std::string> Average(const Term& term);
  absl::StatusOr<std::string> MinMax(const Term& term);
  absl::StatusOr<std::string> Either(const Term& term, const std::string& both);
  absl::StatusOr<std::string> Spread(const Term& term);
  absl::StatusOr<std::string> ArgMinMax(const Term& term, bool smallest, bool null_arguments);
  absl::StatusOr<std::string> FirstLast(const Term& term);
  absl::Status CheckComparable(const Term& term, const std::string& expression);
  absl::Status CheckOrder(const Term& term, const std::string& expression);

  DuckConnection& connection_;
  const std::function<absl::StatusOr<std::string>(const std::string&)> type_of_;
  const bool by_position_;
  const std::string position_;
  std::vector<PartialState> states_;
  std::vector<DistinctValues> sets_;
};

// avg of `sum` over `count`, of a type that is read exactly: BIGINT or DECIMAL. FAILED_PRECONDITION
// when it has more digits than are at hand.
absl::StatusOr<std::string> ExactAverage(const std::string& type, const std::string& sum,
                                         const std::string& count);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_PARTIAL_STATES_H_
