#include "slices/apply/input_counts.h"

#include <algorithm>
#include <set>

#include "core/base/check.h"

namespace icepie::slices {
namespace {

// The records that at least one of the inputs took; they all saw the same ones, in the same order.
int64_t TakenByAny(const std::vector<const ScanCounts*>& inputs) {
  std::vector<bool> taken = inputs.front()->taken;
  for (const ScanCounts* counts : inputs) {
    ICEPIE_CHECK(counts->taken.size() == taken.size());
    for (size_t i = 0; i < taken.size(); ++i) taken[i] = taken[i] || counts->taken[i];
  }
  return std::count(taken.begin(), taken.end(), true);
}

}  // namespace

bool ReadsStreamTwice(const std::vector<std::string>& streams) {
  return std::set<std::string>(streams.begin(), streams.end()).size() < streams.size();
}

std::map<int64_t, QuarantinedRecord> BadForAny(const std::vector<InputCounts>& inputs) {
  std::map<int64_t, QuarantinedRecord> bad;
  for (const InputCounts& input : inputs) {
    for (const BadRecord& record : input.counts->bad) {
      bad.emplace(record.position,
                  QuarantinedRecord{record.position, input.stream, record.offset, record.code,
                                    record.column, record.path, record.value, record.message});
    }
  }
  return bad;
}

TogetherCounts CountTogether(const std::vector<InputCounts>& inputs) {
  TogetherCounts together;
  std::map<std::string, std::vector<const ScanCounts*>> by_stream;
  for (const InputCounts& input : inputs) {
    by_stream[input.stream].push_back(input.counts);
    together.event_time_max_us =
        std::max(together.event_time_max_us, input.counts->event_time_max_us);
    together.ingest_time_max_us =
        std::max(together.ingest_time_max_us, input.counts->ingest_time_max_us);
  }
  for (const auto& [stream, counts] : by_stream) {
    const ScanCounts& first = *counts.front();
    const int64_t taken = counts.size() == 1 ? first.rows : TakenByAny(counts);
    together.applied += taken;
    together.filtered += first.input - first.bad_count - taken;
  }
  return together;
}

}  // namespace icepie::slices
