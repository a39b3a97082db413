// icepie import: a file's records into one stream, in order, several batches in flight.
#ifndef ICEPIE_CLI_IMPORTER_H_
#define ICEPIE_CLI_IMPORTER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/context.h"
#include "cli/import_source.h"

namespace icepie::cli {

struct ImportRequest {
  std::string stream;
  ImportFile file;
  BatchLimits batch;
  bool create = false;  // the stream when it is missing, of format JSON
  // Goes on after an import of this file that was interrupted, however (a signal, a crash, the
  // daemon's end): passes over as many records of the file as the stream holds beyond
  // `base_offset`, if the last of them is the same, and appends each batch only if the stream still
  // ends where it should. Nothing is doubled, and nothing of another origin is taken for the
  // file's.
  bool resume = false;
  // After the connection was lost, or while the daemon has too much to do, the batches without an
  // answer are sent again as long as this, from the last answer on. They have an identity, so
  // nothing is doubled.
  absl::Duration retry_for = absl::Seconds(60);
  int64_t base_offset = 0;  // what the stream held before the file's first record
};

// Shows progress on standard error and the summary on standard output. Errors say how many records
// were stored before.
absl::StatusOr<int> RunImport(Context& context, ImportRequest request);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_IMPORTER_H_
