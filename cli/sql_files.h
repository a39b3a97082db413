// `sql_file: queries/on_time.sql` in a slice of a domain file, on a line of its own: the SQL is
// that of another file, by a path from the domain file's directory. It is put in here, so that the
// daemon gets one whole text, and gives back what it got.
#ifndef ICEPIE_CLI_SQL_FILES_H_
#define ICEPIE_CLI_SQL_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/definition/file_place.h"

namespace icepie::cli {

// Lines of the whole text that are another file's.
struct SqlFileLines {
  std::string path;  // as messages have it
  int first = 0;     // its first line in the whole text, from 1
  int count = 0;
  int indent = 0;  // its characters stand so far to the right
};

// A domain file with the SQL of others in it.
struct WholeDomainFile {
  std::string name;
  std::string text;
  std::vector<SqlFileLines> sql_files;  // in the order of the text

  // Errors name places of the whole text ("name:line:column: what"): this one names them in the
  // file that a person has written.
  absl::Status InOwnFiles(const absl::Status& error) const;
  // The same of a place that is not in an SQL file.
  slices::FilePlace OwnPlace(slices::FilePlace place) const;
};

// `name` and `text` of a domain file in `directory`. NOT_FOUND or INVALID_ARGUMENT with the place
// of a `sql_file` that cannot be put in. Text that is no YAML is left as it is.
absl::StatusOr<WholeDomainFile> PutInSqlFiles(const std::string& directory, const std::string& name,
                                              const std::string& text);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_SQL_FILES_H_
