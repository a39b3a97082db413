#include "slices/quarantine_budget.h"

#include <algorithm>
#include <deque>
#include <map>

#include "absl/strings/str_cat.h"

namespace icepie::slices {

std::optional<size_t> FirstOverWindow(const QuarantineBudget& budget,
                                      const std::vector<QuarantinedRecord>& before,
                                      const std::vector<QuarantinedRecord>& bad) {
  std::map<std::string, std::deque<int64_t>> counted;  // by stream: offsets within the window
  const auto add = [&](const QuarantinedRecord& record) {
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
