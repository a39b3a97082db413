// What a slice's definition says of one record: whether it can be read, and if not, which part of
// it is bad. The same readers decide as while applying.
#ifndef ICEPIE_SLICES_APPLY_RECORD_JUDGE_H_
#define ICEPIE_SLICES_APPLY_RECORD_JUDGE_H_

#include <string>

#include "absl/strings/string_view.h"
#include "slices/apply/engine_types.h"
#include "slices/plan/plan.h"

namespace icepie::slices {

// Of several sources over the stream, one that cannot read the record decides, else one that takes
// it. kFiltered also when no source of the slice is over `stream`. Threads: any.
RecordJudgement JudgeRecord(const DomainPlan& plan, const SlicePlan& slice,
                            const std::string& stream, absl::string_view payload);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_RECORD_JUDGE_H_
