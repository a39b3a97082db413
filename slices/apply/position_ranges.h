// Sets of positions.
#ifndef ICEPIE_SLICES_APPLY_POSITION_RANGES_H_
#define ICEPIE_SLICES_APPLY_POSITION_RANGES_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace icepie::slices {

class PositionRanges {
 public:
  PositionRanges() = default;
  // Pairs of first and end (exclusive), in any order; empty ones are left out.
  explicit PositionRanges(std::vector<std::pair<int64_t, int64_t>> ranges);

  bool Contains(int64_t position) const;
  PositionRanges With(const std::vector<int64_t>& positions) const;
  bool operator==(const PositionRanges& other) const { return ranges_ == other.ranges_; }
  bool operator!=(const PositionRanges& other) const { return !(*this == other); }

 private:
  std::vector<std::pair<int64_t, int64_t>> ranges_;  // sorted, apart
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_POSITION_RANGES_H_
