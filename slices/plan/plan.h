// From a definition to statements: how each slice is kept fresh and what the engine runs for it.
//
// Every generation is one DuckDB database of its own. The engine opens one connection for it, makes
// that database the current one (USE), and gives its inputs as temporary views named as the SQL
// names them: each source as a relation with its declared columns that are read plus the hidden
// columns below, each upstream slice as its result. So statements name everything without a
// database.
#ifndef ICEPIE_SLICES_PLAN_PLAN_H_
#define ICEPIE_SLICES_PLAN_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/definition/definition.h"
#include "slices/expectation/expectation.h"

namespace icepie::slices {

// append:    rows are added: INSERT INTO __data <SELECT over the batch>
// aggregate: partial states are folded: MERGE INTO __state …
// keys:      the rows of the keys that a batch touches are replaced in __data
// recompute: __data is replaced by the SELECT over everything, in one transaction
enum class Strategy { kAppend, kAggregate, kKeys, kRecompute };
std::string StrategyName(Strategy strategy);

struct OutputColumn {
  std::string name;
  std::string type;  // DuckDB's text of the type
};

// A source that the slice reads, with the declared columns that it reads. A record is bad for the
// slice only when one of these columns cannot be read.
struct SourceUse {
  std::string source;
  std::vector<std::string> columns;  // in declaration order
};

// Columns that every source has besides its own.
//   _position BIGINT, _offset BIGINT, _time TIMESTAMPTZ (ingest), _event_time TIMESTAMPTZ,
//   _key VARCHAR (as UTF-8 text), _payload VARCHAR
inline constexpr const char* kHiddenColumns[] = {"_position",   "_offset", "_time",
                                                 "_event_time", "_key",    "_payload"};

// One of the statements that apply a batch. With `into`, it is a SELECT whose result the statements
// after it see as the relation of that name. With `only_if`, a SELECT, it is run only when that
// gives a row. With a `sign`, it is a SELECT of result rows that the batch brings (1) or takes
// (-1), which are handed on when somebody reads them (slices/plan/change_feed.h).
struct ApplyStatement {
  std::string sql;
  std::string only_if = {};
  std::string into = {};
  int sign = 0;
};

// A strategy that is cheaper than the chosen one, and why it could not be.
struct WhyNot {
  Strategy strategy = Strategy::kRecompute;
  std::string why;
};

struct SlicePlan {
  std::string slice;
  Strategy strategy = Strategy::kRecompute;
  std::string why;              // why this strategy and not a cheaper one, for people
  std::vector<WhyNot> why_not;  // each cheaper one's reason, cheapest first
  std::vector<OutputColumn> columns;
  std::vector<SourceUse> sources;
  std::vector<std::string> upstream;  // slices of the same domain that it reads
  // Equal hashes: equal content for equal records. Covers the SQL text, the readings of the columns
  // it reads (stream, types, paths, where, latest_by), `retain`, a strategy that the file asks for
  // or its schedule decides, and the engine's format version; not limits, other refresh or owner.
  std::string definition_hash;

  // Run once in an empty generation: tables __state or __data, and the view __result with exactly
  // `columns`. Reads of the slice are reads of __result. Tables have no NOT NULL column
  // (apply_statements.h adds empty rows for a moment).
  std::vector<std::string> create;
  // What a state has to have in common with this plan besides its tables: says which values are
  // kept in them, where versions of the planner differ in that. A state that was kept as something
  // else, or in other tables, is built anew. So whoever changes what statements make of the same
  // records, in the same tables, has to let this say something new for the slices concerned.
  std::string kept_as;
  // append, aggregate, keys: run for each batch, over the sources' temporary views that show the
  // batch. recompute: run over all records below the target position.
  std::vector<ApplyStatement> apply;

  // Over slices without recompute: `apply` sees what they changed (slices/plan/change_feed.h).
  // After `clear`, with all their rows as new ones, it builds the state anew.
  bool reads_changes = false;
  std::vector<ApplyStatement> clear;
  // Rows of the result that a batch can change: as they are in front of `apply[statement]`, and at
  // the end. Both empty: not known.
  struct Touched {
    size_t statement = 0;
    std::string before;
    std::string after;
  };
  Touched touched;
  // A SELECT of the result's rows that a batch has changed, as they are at its end, within its
  // transaction; empty: they cannot be had cheaply.
  std::string batch_rows;
  bool hands_out_changes = false;  // `apply` writes them to __changes

  // `retain` (retain_plan.h): the rows go by the newest ingest time, too.
  struct Retained {
    int64_t span_us = 0;                 // 0: all rows stay
    std::vector<ApplyStatement> let_go;  // deletes what is behind the horizon, now and then
    bool counts_late = false;            // `apply` writes __late
  };
  Retained retained;

  // Records are kept in a table __rows, at most limits.kept_rows of them.
  bool keeps_rows = false;
  // Why it is recomputed against the planner's choice; empty: it is not.
  std::string overridden;
  // Checks on the rows; not in the hash, for they change nothing of the content.
  std::vector<ExpectationPlan> expectations;
};

// Slices that are recomputed whatever the planner would choose, and why.
using PlanOverrides = std::map<std::string, std::string>;

// The whole domain, slices ordered so that upstream comes first.
struct DomainPlan {
  DomainDef definition;
  std::vector<SlicePlan> slices;
  const SlicePlan* Find(absl::string_view slice) const;
};

// The slices that the slice reads, also by way of others.
std::set<std::string> SlicesBelow(const DomainPlan& plan, const SlicePlan& slice);

// The streams that the slice reads, also by way of others.
std::set<std::string> StreamsBelow(const DomainPlan& plan, const SlicePlan& slice);

// Plans every slice in an empty scratch database. Errors carry DEFINITION_INVALID, SQL_SYNTAX,
// SQL_NOT_A_SELECT, SQL_FORBIDDEN, SQL_UNKNOWN_COLUMN, SQL_TOO_COMPLEX, SQL_NOT_REPRODUCIBLE or
// SLICE_CYCLE; messages name file, line and column.
absl::StatusOr<DomainPlan> PlanDomain(const DomainDef& definition,
                                      const PlanOverrides& overrides = {});

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_PLAN_H_
