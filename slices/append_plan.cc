#include "slices/append_plan.h"

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/row_shape.h"

namespace icepie::slices {

absl::StatusOr<SliceStatements> PlanAppend(const PlanRequest& request) {
  ICEPIE_RETURN_IF_ERROR(CheckRowShape(request));
  if (IsAggregation(request.statement["node"])) return OtherKind("groups records");
  SliceStatements statements;
  statements.why = absl::StrCat("filters and projects records of ",
                                request.slice.sources.front().source, ", each for itself");
  statements.create = CreateDataTable(request.slice.columns);
  statements.apply = {{absl::StrCat("INSERT INTO __data\n", request.sql), "", ""}};
  return statements;
}

}  // namespace icepie::slices
