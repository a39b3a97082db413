#include "slices/apply/batch_size.h"

#include <algorithm>

namespace icepie::slices {
namespace {

// Of two transactions, the smaller one took that much longer for each record: most of it is not the
// records' cost.
constexpr double kPaysToGrow = 1.4;

double SecondsEach(int64_t records, absl::Duration took) {
  return absl::ToDoubleSeconds(took) / static_cast<double>(records);
}

}  // namespace

void BatchSize::Note(int64_t records, absl::Duration took) {
  // One that was not filled tells only when it is too slow already.
  if (records <= 0 || (records < records_ && took <= kTime)) return;
  bool fixed_cost = false;
  if (last_records_ > 0 && last_records_ != records) {
    const double now = SecondsEach(records, took);
    const double before = SecondsEach(last_records_, last_took_);
    fixed_cost = (records > last_records_ ? before / now : now / before) > kPaysToGrow;
  }
  int64_t next = records_;
  if (fixed_cost) {
    next = 2 * std::max(records, last_records_);
  } else if (took > kTime) {
    next = records / 2;
  } else if (took < kTime / 2) {
    next = 2 * records;
  }
  records_ = std::clamp<int64_t>(next, 1, kMost);
  last_records_ = records;
  last_took_ = took;
}

}  // namespace icepie::slices
