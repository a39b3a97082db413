// What the inputs of one slice make of their records together. Several of them may read one stream
// and judge its records differently; a record still counts once: as quarantined when one of them
// cannot read it, else as applied when one takes it, else as filtered.
#ifndef ICEPIE_SLICES_APPLY_INPUT_COUNTS_H_
#define ICEPIE_SLICES_APPLY_INPUT_COUNTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "slices/apply/engine_types.h"
#include "slices/reading/source_scan.h"

namespace icepie::slices {

struct InputCounts {
  std::string stream;
  const ScanCounts* counts = nullptr;
};

// Whether two sources are over one stream, so that their inputs have to note what they take.
bool ReadsStreamTwice(const std::vector<std::string>& streams);

// What each input could not read, by position; of a record that several could not, the first's
// word.
std::map<int64_t, QuarantinedRecord> BadForAny(const std::vector<InputCounts>& inputs);

struct TogetherCounts {
  int64_t applied = 0;
  int64_t filtered = 0;
  int64_t event_time_max_us = INT64_MIN;  // of the applied
  int64_t ingest_time_max_us = 0;         // of all
};

// Of inputs over one stream, each has to have passed over what is bad for another one.
TogetherCounts CountTogether(const std::vector<InputCounts>& inputs);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_INPUT_COUNTS_H_
