#include "tests/slices/differential_shrink.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace icepie::slices {
namespace {

constexpr absl::Duration kTimeMax = absl::Minutes(3);

class Shrinker {
 public:
  Shrinker(DifferentialCase& test_case, CaseFailure failure)
      : case_(test_case), failure_(std::move(failure)), deadline_(absl::Now() + kTimeMax) {}

  CaseFailure Run() {
    // What is refused is the grammar's fault; parts of it are refused for other reasons.
    bool smaller = failure_.is != CaseFailure::Is::kInvalid;
    while (smaller && absl::Now() < deadline_) {
      smaller = false;
      smaller |= DropSlices();
      smaller |= DropSteps();
      smaller |= DropRestarts();
      smaller |= DropRecords();
      smaller |= DropClauses();
      smaller |= DropItems();
      smaller |= DropFields();
      smaller |= DropOptions();
    }
    return failure_;
  }

 private:
  // Keeps the candidate when it fails in the same way.
  bool Try(DifferentialCase candidate) {
    if (absl::Now() >= deadline_) return false;
    // What is stuck is so after a second too; a slow machine only makes the case less small.
    const bool stuck = failure_.is == CaseFailure::Is::kStuck;
    CaseResult result = RunCase(candidate, stuck ? absl::Seconds(2) : absl::Seconds(60));
    if (!result.failure || result.failure->is != failure_.is) return false;
    case_ = std::move(candidate);
    failure_ = *std::move(result.failure);
    return true;
  }

  // Takes away ever smaller runs of `size()` things.
  bool DropRuns(const std::function<size_t()>& size,
                const std::function<void(DifferentialCase&, size_t, size_t)>& drop) {
    bool any = false;
    for (size_t run = std::max<size_t>(size() / 2, 1); run > 0; run /= 2) {
      for (size_t at = 0; at + run <= size();) {
        DifferentialCase candidate = case_;
        drop(candidate, at, run);
        if (Try(std::move(candidate))) {
          any = true;
        } else {
          at += run;
        }
      }
    }
    return any;
  }

  bool DropSlices() {
    bool any = false;
    for (size_t i = case_.slices.size(); i-- > 0 && case_.slices.size() > 1;) {
      const std::string& name = case_.slices[i].name;
      const bool read =
          std::any_of(case_.slices.begin(), case_.slices.end(), [&](const CaseSlice& slice) {
            return std::find(slice.reads.begin(), slice.reads.end(), name) != slice.reads.end();
          });
      if (read) continue;
      DifferentialCase candidate = case_;
      candidate.slices.erase(candidate.slices.begin() + static_cast<std::ptrdiff_t>(i));
      any |= Try(std::move(candidate));
    }
    return any;
  }

  // Joins steps and drops the last ones.
  bool DropSteps() {
    bool any = false;
    while (case_.steps.size() > 1) {
      DifferentialCase candidate = case_;
      candidate.steps.pop_back();
      candidate.steps.back().restart = CaseRestart::kNone;
      if (!Try(std::move(candidate))) break;
      any = true;
    }
    for (size_t i = 0; i + 1 < case_.steps.size();) {
      DifferentialCase candidate = case_;
      std::vector<CaseBatch>& next = candidate.steps[i + 1].batches;
      next.insert(next.begin(), candidate.steps[i].batches.begin(),
                  candidate.steps[i].batches.end());
      candidate.steps.erase(candidate.steps.begin() + static_cast<std::ptrdiff_t>(i));
      if (Try(std::move(candidate))) {
        any = true;
      } else {
        ++i;
      }
    }
    return any;
  }

  bool DropRestarts() {
    bool any = false;
    if (case_.interrupted > 0) {
      DifferentialCase candidate = case_;
      --candidate.interrupted;
      any |= Try(std::move(candidate));
    }
    for (size_t i = 0; i < case_.steps.size(); ++i) {
      if (case_.steps[i].lost_slice) {
        DifferentialCase candidate = case_;
        candidate.steps[i].lost_slice.reset();
        any |= Try(std::move(candidate));
      }
      if (case_.steps[i].acknowledges) {
        DifferentialCase candidate = case_;
        candidate.steps[i].acknowledges = false;
        any |= Try(std::move(candidate));
      }
      if (case_.steps[i].restart == CaseRestart::kNone) continue;
      DifferentialCase candidate = case_;
      candidate.steps[i].restart = CaseRestart::kNone;
      any |= Try(std::move(candidate));
    }
    return any;
  }

  static void EraseRecords(DifferentialCase& candidate, size_t from, size_t count) {
    size_t at = 0;
    for (CaseStep& step : candidate.steps) {
      for (CaseBatch& batch : step.batches) {
        std::vector<CaseRecord> left;
        for (CaseRecord& record : batch.records) {
          const bool keep = at < from || at >= from + count;
          ++at;
          if (keep) left.push_back(std::move(record));
        }
        batch.records = std::move(left);
      }
    }
  }

  bool DropRecords() {
    return DropRuns([this] { return case_.RecordCount(); }, EraseRecords);
  }

  bool DropClauses() {
    bool any = false;
    for (size_t i = 0; i < case_.slices.size(); ++i) {
      for (std::string CaseQuery::*clause :
           {&CaseQuery::where, &CaseQuery::having, &CaseQuery::qualify, &CaseQuery::order,
            &CaseQuery::distinct}) {
        if ((case_.slices[i].query.*clause).empty()) continue;
        DifferentialCase candidate = case_;
        (candidate.slices[i].query.*clause).clear();
        any |= Try(std::move(candidate));
      }
    }
    return any;
  }

  bool DropItems() {
    bool any = false;
    for (size_t i = 0; i < case_.slices.size(); ++i) {
      for (size_t item = case_.slices[i].query.items.size(); item-- > 0;) {
        if (case_.slices[i].query.items.size() == 1) break;
        DifferentialCase candidate = case_;
        auto& items = candidate.slices[i].query.items;
        items.erase(items.begin() + static_cast<std::ptrdiff_t>(item));
        any |= Try(std::move(candidate));
      }
    }
    return any;
  }

  // A field that goes takes its columns and values along.
  static void EraseField(DifferentialCase& candidate, size_t stream, size_t field) {
    auto& fields = candidate.streams[stream].fields;
    fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(field));
    for (CaseSource& source : candidate.sources) {
      if (source.stream != stream) continue;
      std::vector<CaseColumn> left;
      for (CaseColumn column : source.columns) {
        if (column.field == field) continue;
        if (column.field > field) --column.field;
        left.push_back(column);
      }
      source.columns = std::move(left);
    }
    for (CaseStep& step : candidate.steps) {
      for (CaseBatch& batch : step.batches) {
        if (batch.stream != stream) continue;
        for (CaseRecord& record : batch.records) {
          record.values.erase(record.values.begin() + static_cast<std::ptrdiff_t>(field));
        }
      }
    }
  }

  bool DropFields() {
    bool any = false;
    for (size_t stream = 0; stream < case_.streams.size(); ++stream) {
      for (size_t field = case_.streams[stream].fields.size(); field-- > 0;) {
        if (case_.streams[stream].fields.size() == 1) break;
        DifferentialCase candidate = case_;
        EraseField(candidate, stream, field);
        any |= Try(std::move(candidate));
      }
    }
    return any;
  }

  bool DropOptions() {
    bool any = false;
    for (size_t i = case_.sources.size(); i-- > 0 && case_.sources.size() > 1;) {
      DifferentialCase candidate = case_;
      candidate.sources.erase(candidate.sources.begin() + static_cast<std::ptrdiff_t>(i));
      any |= Try(std::move(candidate));
    }
    for (size_t i = 0; i < case_.sources.size(); ++i) {
      if (case_.sources[i].where.empty()) continue;
      DifferentialCase candidate = case_;
      candidate.sources[i].where.clear();
      any |= Try(std::move(candidate));
    }
    return any;
  }

  DifferentialCase& case_;
  CaseFailure failure_;
  const absl::Time deadline_;
};

}  // namespace

CaseFailure Shrink(DifferentialCase& test_case, CaseFailure failure) {
  return Shrinker(test_case, std::move(failure)).Run();
}

}  // namespace icepie::slices
