// Generation: records of its quarantine, held back and taken.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"
#include "core/base/status.h"
#include "slices/apply/generation.h"
#include "slices/duckdb/transaction.h"
#include "slices/plan/row_order.h"
#include "slices/plan/syntax_tree.h"

namespace icepie::slices {
namespace {

// Whether a folded state keeps of equal records the one that came first: it has no position then.
absl::StatusOr<bool> FoldsByArrival(DuckConnection& connection, const DomainDef& definition,
                                    const SlicePlan& plan) {
  if (plan.strategy != Strategy::kAggregate) return false;
  ICEPIE_ASSIGN_OR_RETURN(const Json statement,
                          ParseSelect(connection, definition.FindSlice(plan.slice)->sql));
  return ShowsOrder(statement, /*of_records=*/true);
}

}  // namespace

absl::StatusOr<bool> Generation::TakesAnyOrder() const {
  const bool by_records = incremental() && !slice_plan_->reads_changes;
  const bool dimension = std::any_of(inputs_.begin(), inputs_.end(), [](const Input& input) {
    return !input.source->latest_by.empty();
  });
  const bool retains = slice_plan_->retained.span_us > 0;
  if (!by_records || !slice_plan_->upstream.empty() || retains || dimension) return false;
  ICEPIE_ASSIGN_OR_RETURN(const bool by_arrival,
                          FoldsByArrival(*connection_, domain_plan()->definition, *slice_plan_));
  return !by_arrival;
}

absl::Status Generation::HoldBack(std::vector<int64_t> positions) {
  held_back_ = std::move(positions);
  tries_all_anew_ = true;
  return SetAcknowledged(acknowledged_of_slice_);
}

std::vector<int64_t> Generation::WithHeldBack(const std::vector<int64_t>& excluded, int64_t from,
                                              int64_t to) const {
  const auto first = std::lower_bound(held_back_.begin(), held_back_.end(), from);
  const auto end = std::lower_bound(first, held_back_.end(), to);
  if (first == end) return excluded;
  std::vector<int64_t> all;
  std::set_union(excluded.begin(), excluded.end(), first, end, std::back_inserter(all));
  return all;
}

absl::Status Generation::ForgetQuarantined(const std::vector<int64_t>& positions) {
  ICEPIE_RETURN_IF_ERROR(Settle());
  const std::string these =
      absl::StrCat(" FROM __quarantine WHERE position IN (", absl::StrJoin(positions, ", "), ")");
  ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                          connection_->QueryCells(absl::StrCat("SELECT count(*)", these)));
  const auto count = std::get<int64_t>(rows.front().front());
  ICEPIE_CHECK(count == static_cast<int64_t>(positions.size()));
  Progress next = progress_;
  next.quarantined -= count;
  next.input -= count;
  ICEPIE_RETURN_IF_ERROR(Begin());
  absl::Status status = connection_->Run(absl::StrCat("DELETE", these));
  if (status.ok()) status = WriteProgress(next);
  if (!status.ok()) {
    Rollback();
    return status;
  }
  ICEPIE_RETURN_IF_ERROR(Commit(next));
  return SetAcknowledged(acknowledged_of_slice_);
}

absl::Status Generation::TakeQuarantined(const RecordBatch& batch,
                                         const std::vector<int64_t>& positions) {
  ICEPIE_ASSIGN_OR_RETURN(const bool any_order, TakesAnyOrder());
  ICEPIE_CHECK(any_order);
  ICEPIE_RETURN_IF_ERROR(ForgetQuarantined(positions));
  return ApplyRange(batch, positions.front(), positions.back() + 1);
}

}  // namespace icepie::slices
