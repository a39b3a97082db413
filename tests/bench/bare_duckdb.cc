// icepie-bare-duckdb ROWS: a process with nothing but DuckDB and a table of so many rows in it, for
// the bench `memory`. Prints its process id when it has them, and keeps them until it is killed.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "core/base/check.h"
#include "slices/duckdb/duckdb.h"

int main(int argc, char** argv) {
  ICEPIE_CHECK(argc == 2);
  const auto database = icepie::slices::DuckDatabase::OpenInMemory({});
  ICEPIE_CHECK(database.ok());
  const auto connection = icepie::slices::DuckConnection::Connect(**database);
  ICEPIE_CHECK(connection.ok());
  const std::string sql =
      "CREATE TABLE by_item AS SELECT CAST(range AS INTEGER) AS item, CAST(1 AS BIGINT) AS sales, "
      "CAST(range % 97 AS HUGEINT) AS total FROM range(";
  ICEPIE_CHECK((*connection)->Run(sql + argv[1] + ")").ok());
  std::printf("%d\n", static_cast<int>(getpid()));
  std::fflush(stdout);
  pause();
}
