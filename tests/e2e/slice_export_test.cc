// icepie slice export on real processes: every value arrives as the slice holds it, in pieces that
// the domain's limit of rows allows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "slices/duckdb/duckdb.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
constexpr int kRecords = 1000;

constexpr const char* kDomain = R"yaml(domain: odd
sources:
  odd:
    columns:
      n: BIGINT
      amount: "DECIMAL(38,18)"
      text: VARCHAR
      fees: {type: "STRUCT(kind VARCHAR, value DECIMAL(18,2))[]", path: $.fees, default: "[]"}
slices:
  kept: {sql: "SELECT n, amount, text, fees, TIMESTAMP '2001-02-03 04:05:06.789' AS time FROM odd", key: [n]}
limits: {max_result_rows: 150}
)yaml";

class SliceExportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.SetSettings("workers: {snapshot_interval_ms: 200}\n");
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("odd").ok());
    v1::ApplyDomainResponse applied;
    const grpc::Status status = daemon_.Apply(kDomain, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
    std::vector<std::string> payloads;
    for (int n = 0; n < kRecords; ++n) {
      payloads.push_back(absl::StrCat(
          "{\"n\":", n, ",\"amount\":12345678901234567890.12345678901234567", n % 10,
          R"(,"text":"it's \"q\", {a: [1]}, \\n and Ü )", n,
          R"(","fees":[{"kind":"a, 'b' \"c\"","value":0.10},{"kind":null,"value":null}]})"));
    }
    const auto end = daemon_.Append("odd", payloads);
    ASSERT_TRUE(end.ok()) << end.status();
    const bool saved = Eventually(
        [&] { return daemon_.GetSlice("odd.kept").standby_position() >= *end; }, absl::Seconds(60));
    ASSERT_TRUE(saved);
  }

  int Export(const std::string& path, const std::string& more = "") const {
    const char* bin = std::getenv("ICEPIE_BIN");
    return std::system(absl::StrCat(bin != nullptr ? bin : ".", "/icepie --address ",
                                    daemon_.grpc_address(), " slice export odd.kept ", path, " ",
                                    more, " > ", daemon_.directory(), "/export.out 2>&1")
                           .c_str());
  }

  std::string Output() const {
    std::ifstream file(daemon_.directory() + "/export.out");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static std::string Ask(const std::string& sql) {
    auto database = slices::DuckDatabase::OpenInMemory({});
    auto connection = slices::DuckConnection::Connect(**database);
    const auto text = (*connection)->QueryText(sql);
    return text.ok() ? *text : text.status().ToString();
  }

  DaemonFixture daemon_;
};

TEST_F(SliceExportTest, EveryValueArrivesAsItIs) {
  const std::string path = daemon_.directory() + "/kept.parquet";
  ASSERT_EQ(Export(path), 0) << Output();
  EXPECT_EQ(Ask(absl::StrCat("SELECT count(*) || ' ' || count(DISTINCT n) || ' ' || min(n) || ' ' "
                             "|| max(n) || ' ' || sum(len(fees)) FROM '",
                             path, "'")),
            "1000 1000 0 999 2000");
  EXPECT_EQ(
      Ask(absl::StrCat(
          "SELECT amount || '|' || text || '|' || fees[1].kind || '|' || fees[1].value "
          "|| '|' || (fees[2].kind IS NULL) || '|' || time || '|' || typeof(amount) "
          "|| '|' || typeof(fees) FROM '",
          path, "' WHERE n = 7")),
      "12345678901234567890.123456789012345677|it's \"q\", {a: [1]}, \\n and Ü 7|a, 'b' \"c\"|0.10|"
      "true|2001-02-03 04:05:06.789|DECIMAL(38,18)|STRUCT(kind VARCHAR, \"value\" "
      "DECIMAL(18,2))[]");
  // The unfinished file and its pages are gone; another is written only when asked for.
  int left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.directory())) {
    left += entry.path().filename().string().rfind("kept.parquet", 0) == 0 ? 1 : 0;
  }
  EXPECT_EQ(left, 1);
  EXPECT_NE(Export(path), 0);
  EXPECT_EQ(Export(path, "--overwrite"), 0);
  const std::string lines = daemon_.directory() + "/kept.jsonl";
  ASSERT_EQ(Export(lines), 0);
  EXPECT_EQ(Ask(absl::StrCat("SELECT count(*) || ' ' || sum(n) FROM read_json('", lines, "')")),
            "1000 499500");
}

}  // namespace
}  // namespace icepie::testing
