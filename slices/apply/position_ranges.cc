#include "slices/apply/position_ranges.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace icepie::slices {

PositionRanges::PositionRanges(std::vector<std::pair<int64_t, int64_t>> ranges) {
  std::sort(ranges.begin(), ranges.end());
  for (const auto& [first, end] : ranges) {
    if (first >= end) continue;
    if (!ranges_.empty() && first <= ranges_.back().second) {
      ranges_.back().second = std::max(ranges_.back().second, end);
    } else {
      ranges_.emplace_back(first, end);
    }
  }
}

PositionRanges PositionRanges::With(const std::vector<int64_t>& positions) const {
  std::vector<std::pair<int64_t, int64_t>> ranges = ranges_;
  for (const int64_t position : positions) ranges.emplace_back(position, position + 1);
  return PositionRanges(std::move(ranges));
}

bool PositionRanges::Contains(int64_t position) const {
  const auto after = std::upper_bound(
      ranges_.begin(), ranges_.end(), position,
      [](int64_t value, const std::pair<int64_t, int64_t>& range) { return value < range.first; });
  return after != ranges_.begin() && position < std::prev(after)->second;
}

}  // namespace icepie::slices
