// What a question's answer must be: its slices' SQL run by plain DuckDB over exactly the records
// below the positions that the answer states, less those that a slice cannot read.
#ifndef ICEPIE_TESTS_FAULT_REFERENCE_H_
#define ICEPIE_TESTS_FAULT_REFERENCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/fault/call_record.h"
#include "tests/fault/fault_domains.h"

namespace icepie::slices {
class DuckConnection;
class DuckDatabase;
}  // namespace icepie::slices

namespace icepie::fault {

// Threads: one.
class Reference {
 public:
  static absl::StatusOr<std::unique_ptr<Reference>> Open(const std::vector<StoredRecord>& stored);
  ~Reference();

  // The rows as a JSON array of objects, in the question's order. `stands` names each slice that
  // the question reads.
  absl::StatusOr<std::string> Answer(const Question& question,
                                     const std::vector<SliceStand>& stands);
  // How many records below `position` the slice cannot read.
  absl::StatusOr<int64_t> Quarantined(const SliceSpec& slice, int64_t position);

 private:
  Reference();
  absl::Status Load(const std::vector<StoredRecord>& stored);

  std::unique_ptr<slices::DuckDatabase> database_;
  std::unique_ptr<slices::DuckConnection> connection_;
};

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_REFERENCE_H_
