// CSV and Parquet read by DuckDB, each row as a JSON object of its columns: numbers as numbers,
// dates and timestamps as DuckDB prints them (UTC).
#ifndef ICEPIE_CLI_IMPORT_TABLE_H_
#define ICEPIE_CLI_IMPORT_TABLE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/import_source.h"

namespace icepie::cli {

// `format` is csv or parquet. The types of a CSV file's columns are those that DuckDB recognises.
absl::StatusOr<std::unique_ptr<ImportSource>> OpenTable(const ImportFile& file,
                                                        const std::string& format);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_IMPORT_TABLE_H_
