// How fast records become rows and rows become JSON, on one thread. Not a test: run it by hand on a
// release build.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "slices/duckdb/duckdb.h"
#include "slices/reading/json_scan.h"
#include "slices/reading/result_json.h"
#include "slices/reading/source_scan.h"
#include "tests/slices/source_column.h"

namespace icepie::slices {
namespace {

constexpr int kRecords = 1'000'000;

SourceDef Flights() {
  SourceDef source;
  source.name = "flights";
  source.stream = "flights";
  source.columns = {Column("date", "TIMESTAMP"), Column("delay", "INTEGER"),
                    Column("distance", "INTEGER"), Column("origin", "VARCHAR"),
                    Column("destination", "VARCHAR")};
  return source;
}

struct Records {
  Records() {
    const char* const airports[] = {"LAS", "PHL", "ABE", "ORD", "SFO", "JFK", "LAX", "DEN"};
    unsigned random = 1;
    for (int i = 0; i < kRecords; ++i) {
      random = random * 1664525 + 1013904223;
      payloads.push_back(
          absl::StrCat(R"({"date":"2001-01-)", absl::Dec(1 + i / 40000, absl::kZeroPad2), " ",
                       absl::Dec(random / 7 % 24, absl::kZeroPad2), ":",
                       absl::Dec(random / 11 % 60, absl::kZeroPad2), R"(:00","delay":)",
                       static_cast<int>(random >> 16 & 255) - 30, R"(,"distance":)",
                       (random >> 8) % 4000, R"(,"origin":")", airports[random >> 29],
                       R"(","destination":")", airports[random >> 26 & 7], R"("})"));
      bytes += static_cast<int64_t>(payloads.back().size());
    }
    for (const std::string& payload : payloads) {
      RecordView& view = views.emplace_back();
      view.position = static_cast<int64_t>(views.size()) - 1;
      view.payload = payload;
    }
  }

  static const Records& Get() {
    static const auto* const kAll = new Records;
    return *kAll;
  }

  std::vector<std::string> payloads;
  std::vector<RecordView> views;
  int64_t bytes = 0;
};

void Scan(benchmark::State& state, const std::vector<std::string>& columns,
          const std::string& sql) {
  const Records& records = Records::Get();
  auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  auto connection = DuckConnection::Connect(*database).value();
  auto input = SourceInput::Create(*connection, Flights(), columns).value();
  for (auto _ : state) {
    input->SetRecords(
        [&]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
          return MakeSpanSupply(records.views);
        },
        {});
    ICEPIE_CHECK(connection->Run(sql).ok());
    ICEPIE_CHECK(input->counts().rows == kRecords);
  }
  state.SetItemsProcessed(state.iterations() * kRecords);
  state.SetBytesProcessed(state.iterations() * records.bytes);
}

void ScanGroups(benchmark::State& state) {
  Scan(state, {"date", "delay", "origin"},
       "SELECT origin, count(*), sum(delay), max(date) FROM flights GROUP BY origin");
}
BENCHMARK(ScanGroups)->Unit(benchmark::kMillisecond);

void ScanCount(benchmark::State& state) { Scan(state, {}, "SELECT count(*) FROM flights"); }
BENCHMARK(ScanCount)->Unit(benchmark::kMillisecond);

void ScanJson(benchmark::State& state) {
  const Records& records = Records::Get();
  JsonScanner scanner;
  for (const char* const name : {"date", "delay", "origin"}) scanner.AddPath({name});
  for (auto _ : state) {
    for (const RecordView& view : records.views) ICEPIE_CHECK(scanner.Scan(view.payload));
  }
  state.SetItemsProcessed(state.iterations() * kRecords);
  state.SetBytesProcessed(state.iterations() * records.bytes);
}
BENCHMARK(ScanJson)->Unit(benchmark::kMillisecond);

void WriteRows(benchmark::State& state) {
  constexpr int kRows = 1'000'000;
  auto database = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  auto connection = DuckConnection::Connect(*database).value();
  int64_t bytes = 0;
  for (auto _ : state) {
    state.PauseTiming();
    DuckResult result =
        connection
            ->Query(
                "SELECT 'AP' || i % 300 AS origin, TIMESTAMP '2001-01-01' + INTERVAL (i) MINUTE "
                "AS hour, i AS flights, i * 0.25::DOUBLE AS delay_avg FROM range(1000000) AS r(i)")
            .value();
    state.ResumeTiming();
    const auto rows = WriteJsonRows(result, kRows, int64_t{1} << 30);
    ICEPIE_CHECK(rows.ok() && rows->row_count == kRows);
    bytes += static_cast<int64_t>(rows->body.size());
  }
  state.SetItemsProcessed(state.iterations() * kRows);
  state.SetBytesProcessed(bytes);
}
BENCHMARK(WriteRows)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace icepie::slices
