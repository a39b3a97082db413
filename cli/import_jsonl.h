// JSONL: one record a line, its bytes kept as they are.
#ifndef ICEPIE_CLI_IMPORT_JSONL_H_
#define ICEPIE_CLI_IMPORT_JSONL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "cli/import_source.h"

namespace icepie::cli {

absl::StatusOr<std::unique_ptr<ImportSource>> OpenJsonLines(const ImportFile& file);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_IMPORT_JSONL_H_
