// icepie import: a file's records into one stream, in order, several batches in flight.
#ifndef ICEPIE_CLI_IMPORTER_H_
#define ICEPIE_CLI_IMPORTER_H_

#include <string>

#include "absl/status/statusor.h"
#include "cli/context.h"
#include "cli/import_source.h"

namespace icepie::cli {

struct ImportRequest {
  std::string stream;
  ImportFile file;
  BatchLimits batch;
  bool create = false;  // the stream when it is missing, of format JSON
  // Passes over as many records of the file as the stream already holds, and appends each batch
  // only if the stream still ends where it should: run again after anything, nothing is doubled.
  bool resume = false;
};

// Shows progress on standard error and the summary on standard output. Errors say how many records
// were stored before.
absl::StatusOr<int> RunImport(Context& context, ImportRequest request);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_IMPORTER_H_
