#include "slices/apply/quarantine_budget.h"

#include <algorithm>
#include <deque>
#include <map>

#include "absl/strings/str_cat.h"

namespace icepie::slices {

std::optional<size_t> FirstBeyond(int64_t room, const PositionRanges& acknowledged,
                                  const std::vector<QuarantinedRecord>& bad) {
  for (size_t i = 0; i < bad.size(); ++i) {
    if (!acknowledged.Contains(bad[i].position) && --room < 0) return i;
  }
  return std::nullopt;
}

int64_t CountUnacknowledged(const PositionRanges& acknowledged,
                            const std::vector<QuarantinedRecord>& records) {
  return std::count_if(records.begin(), records.end(), [&](const QuarantinedRecord& record) {
    return !acknowledged.Contains(record.position);
  });
}

std::optional<size_t> FirstOverWindow(const QuarantineBudget& budget,
                                      const PositionRanges& acknowledged,
                                      const std::vector<QuarantinedRecord>& before,
                                      const std::vector<QuarantinedRecord>& bad) {
  std::map<std::string, std::deque<int64_t>> counted;  // by stream: offsets within the window
  const auto add = [&](const QuarantinedRecord& record) {
    if (acknowledged.Contains(record.position)) return false;
    std::deque<int64_t>& offsets = counted[record.stream];
    offsets.push_back(record.offset);
    while (offsets.front() <= record.offset - budget.window) offsets.pop_front();
    return static_cast<int64_t>(offsets.size()) > budget.records;
  };
  for (const QuarantinedRecord& record : before) add(record);
  for (size_t i = 0; i < bad.size(); ++i) {
    if (add(bad[i])) return i;
  }
  return std::nullopt;
}

std::string PlaceOfRecord(const QuarantinedRecord& record) {
  return absl::StrCat(record.stream, "[", record.offset, "] at position ", record.position, " (",
                      record.code, record.column.empty() ? "" : " in column ", record.column, ")");
}

}  // namespace icepie::slices
