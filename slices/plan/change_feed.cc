#include "slices/plan/change_feed.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

// Rows that are only added are known apart when they are stored in between.
void AddBatch(SlicePlan& plan) {
  absl::string_view select = plan.apply.front().sql;
  absl::ConsumePrefix(&select, "INSERT INTO __data\n");
  plan.apply = {{std::string(select), "", "__batch"}, {"INSERT INTO __data SELECT * FROM __batch"}};
}

}  // namespace

std::string ChangesOf(absl::string_view upstream) { return absl::StrCat("__changes_", upstream); }

std::string MakeChangesTable() {
  return absl::StrCat("CREATE OR REPLACE TABLE __changes AS SELECT *, CAST(1 AS ", kSignType,
                      ") AS ", kSignColumn, ", CAST(0 AS BIGINT) AS ", kAtColumn,
                      " FROM __result LIMIT 0");
}

bool HandOutChanges(SlicePlan& plan) {
  const SlicePlan::Touched& touched = plan.touched;
  if (touched.before.empty() && touched.after.empty()) return false;
  if (plan.strategy == Strategy::kAppend) AddBatch(plan);
  if (!touched.before.empty()) {
    plan.apply.insert(plan.apply.begin() + static_cast<int64_t>(touched.statement),
                      {touched.before, "", "", -1});
  }
  plan.apply.push_back({touched.after, "", "", 1});
  plan.hands_out_changes = true;
  return true;
}

std::string InsertChanges(const ApplyStatement& statement, absl::string_view at) {
  return absl::StrCat("INSERT INTO __changes SELECT *, CAST(", statement.sign, " AS ", kSignType,
                      "), ", at, " FROM (", statement.sql, ")");
}

std::string SelectChanges(const std::string& database) {
  return absl::StrCat("SELECT * EXCLUDE ", kAtColumn, " FROM ", QuoteIdentifier(database),
                      ".main.__changes WHERE ", kAtColumn, " > CAST($1 AS BIGINT)");
}

absl::StatusOr<const SlicePlan*> OnlyUpstream(const PlanRequest& request) {
  const SlicePlan& slice = request.slice;
  if (slice.upstream.empty()) return OtherKind("reads no slice");
  const DomainDef& definition = request.domain.definition;
  if (definition.FindSlice(slice.slice)->refresh.kind != RefreshDef::Kind::kContinuous) {
    return StandsInTheWay("is refreshed on a schedule");
  }
  if (slice.upstream.size() + slice.sources.size() > 1) {
    std::vector<std::string> names = slice.upstream;
    for (const SourceUse& use : slice.sources) names.push_back(use.source);
    return StandsInTheWay(absl::StrCat("reads several relations: ", absl::StrJoin(names, ", ")));
  }
  const SlicePlan* upstream = request.domain.Find(slice.upstream.front());
  ICEPIE_RETURN_IF_ERROR(CheckHandsOutChanges(*upstream));
  return upstream;
}

absl::Status CheckHandsOutChanges(const SlicePlan& upstream) {
  if (upstream.hands_out_changes) return absl::OkStatus();
  return StandsInTheWay(absl::StrCat("reads slice ", upstream.slice,
                                     upstream.retained.span_us > 0
                                         ? ", whose rows go by themselves (retain)"
                                         : ", which is recomputed"));
}

}  // namespace icepie::slices
