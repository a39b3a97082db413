#include "slices/duckdb/duckdb.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/apply/batch_relation.h"
#include "slices/reading/result_json.h"

namespace icepie::slices {
namespace {

constexpr int kGroups = 3;
// So many rows fill a chunk.
constexpr int kRows = 2048 * kGroups;

// A result whose chunks are so wide that the allocator has to ask the system for each.
std::string WideRows() {
  std::string sql = "SELECT 'a' AS c0";
  for (int i = 1; i < 500; ++i) absl::StrAppend(&sql, ", 'a' AS c", i);
  return absl::StrCat(sql, " FROM range(", kRows, ")");
}

// From now on this process gets no memory for another chunk.
void LeaveNoMemory() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (4 << 20);
  const rlimit limit = {bytes, bytes};
  ::setrlimit(RLIMIT_AS, &limit);
}

using Read = std::function<absl::Status(DuckConnection&, DuckResult)>;

// Ends the process with 0 when `read` says that there was no memory for the rows.
void ReadWithoutMemory(const Read& read) {
  const auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  const auto connection = DuckConnection::Connect(*database).value();
  absl::Status status;
  try {
    status = [&]() -> absl::Status {
      ICEPIE_ASSIGN_OR_RETURN(DuckResult result, connection->Query(WideRows()));
      return read(*connection, std::move(result));
    }();
  } catch (const std::bad_alloc&) {
    ::_exit(0);  // whoever asks for memory first: that is not silent either
  }
  ::_exit(absl::IsResourceExhausted(status) ? 0 : status.ok() ? 1 : 2);
}

// DuckDB's interface gives no chunk then, as at the end of a result.
TEST(DuckResultDeathTest, RowsThatThereIsNoMemoryForAreNotLostSilently) {
  const Read cells = [](DuckConnection& /*connection*/, DuckResult result) {
    LeaveNoMemory();
    return result.Cells().status();
  };
  const Read json = [](DuckConnection& /*connection*/, DuckResult result) {
    LeaveNoMemory();
    return WriteJsonRows(result, kRows, INT64_MAX).status();
  };
  const Read batch = [](DuckConnection& connection, DuckResult result) -> absl::Status {
    ICEPIE_ASSIGN_OR_RETURN(const auto producer, connection.Prepare(WideRows()));
    ICEPIE_ASSIGN_OR_RETURN(const auto relation,
                            BatchRelation::Create(connection, "batch", *producer));
    LeaveNoMemory();
    return relation->Set(std::move(result));
  };
  for (const Read& read : {cells, json, batch}) {
    EXPECT_EXIT(ReadWithoutMemory(read), ::testing::ExitedWithCode(0), "");
  }
}

TEST(DuckResultTest, ChunksEndWithTheRows) {
  const auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  const auto connection = DuckConnection::Connect(*database).value();
  auto result = connection->Query(absl::StrCat("SELECT i FROM range(", kRows, ") t(i)"));
  ASSERT_TRUE(result.ok()) << result.status();
  idx_t rows = 0;
  for (int i = 0; i < kGroups + 2; ++i) {
    const auto next = result->NextChunk();
    ASSERT_TRUE(next.ok()) << next.status();
    duckdb_data_chunk chunk = *next;
    EXPECT_EQ(chunk != nullptr, i < kGroups);
    if (chunk != nullptr) rows += duckdb_data_chunk_get_size(chunk);
    duckdb_destroy_data_chunk(&chunk);
  }
  EXPECT_EQ(rows, static_cast<idx_t>(kRows));
  auto nothing = connection->Query("CREATE TABLE t (a INTEGER)");
  ASSERT_TRUE(nothing.ok());
  EXPECT_TRUE(nothing->Cells().value().empty());
}

}  // namespace
}  // namespace icepie::slices
