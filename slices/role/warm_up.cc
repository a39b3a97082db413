#include "slices/role/warm_up.h"

#include <memory>
#include <optional>
#include <string>

#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"
#include "slices/duckdb/freed_memory.h"
#include "slices/plan/components.h"
#include "slices/plan/sql_gate.h"

namespace icepie::slices {
namespace {

constexpr int64_t kMemoryBytes = int64_t{64} << 20;

absl::Status AskOnce(DuckConnection& connection) {
  GateOptions gate;
  gate.known = {"t"};
  gate.resolve = [](absl::string_view /*name*/) -> std::optional<RelationTarget> {
    return RelationTarget{"memory", "main", "t"};
  };
  ICEPIE_ASSIGN_OR_RETURN(
      const GatedQuery gated,
      GateQuery(connection, "SELECT a, sum(b) AS b FROM t WHERE c = 'x' GROUP BY ALL ORDER BY a",
                gate));
  ICEPIE_ASSIGN_OR_RETURN(const auto statement, connection.Prepare(gated.sql));
  ICEPIE_ASSIGN_OR_RETURN(DuckResult result, statement->Execute());
  return result.Cells().status();
}

}  // namespace

absl::Status WarmUp() {
  {
    ICEPIE_ASSIGN_OR_RETURN(const auto instance,
                            DuckDatabase::OpenInMemory({{"threads", "1"},
                                                        {"memory_limit", "64MB"},
                                                        {"autoinstall_known_extensions", "false"},
                                                        {"autoload_known_extensions", "false"}}));
    ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance));
    ICEPIE_RETURN_IF_ERROR(RegisterComponents(*connection, kMemoryBytes));
    for (const char* statement :
         {"SET GLOBAL TimeZone = 'UTC'",
          "CREATE TABLE t AS SELECT range AS a, range AS b, 'x' AS c FROM range(10)",
          "BEGIN TRANSACTION READ ONLY"}) {
      ICEPIE_RETURN_IF_ERROR(connection->Run(statement));
    }
    ICEPIE_RETURN_IF_ERROR(AskOnce(*connection));
    ICEPIE_RETURN_IF_ERROR(connection->Run("COMMIT"));
  }
  ReturnFreedMemory();
  return absl::OkStatus();
}

}  // namespace icepie::slices
