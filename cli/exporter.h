// icepie export: a range of one stream into a file.
#ifndef ICEPIE_CLI_EXPORTER_H_
#define ICEPIE_CLI_EXPORTER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/context.h"

namespace icepie::cli {

struct ExportRequest {
  std::string stream;
  std::string path;    // "-": standard output, lines only
  std::string format;  // jsonl or parquet; empty: by the file's ending
  bool envelope = false;
  bool overwrite = false;
  int64_t from_offset = 0;
  std::optional<int64_t> end_offset;  // exclusive; the stream's end at the start
  int64_t limit = 0;                  // 0: none
  std::string key_prefix;
};

// The file appears whole or not at all: it is written beside, synced and renamed. Shows progress on
// standard error and the summary on standard output (on standard error when the records go there).
absl::StatusOr<int> RunExport(Context& context, ExportRequest request);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_EXPORTER_H_
