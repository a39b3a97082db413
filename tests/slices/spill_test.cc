// States larger than the memory that their domain may use: in a build, and folded batch by batch.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "slices/role/build_engine.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {
namespace {

constexpr int64_t kMemoryBytes = int64_t{64} << 20;
constexpr int kNameBytes = 1500;
constexpr int kBatch = 2000;

constexpr char kDomain[] = R"(
domain: shop
sources: {orders: {columns: {name: VARCHAR, amount: BIGINT}}}
slices:
  by_name: {sql: "SELECT name, count(*) AS n, sum(amount) AS total FROM orders GROUP BY name", key: [name]}
  latest:
    sql: SELECT name, amount FROM orders QUALIFY row_number() OVER (PARTITION BY name ORDER BY _position DESC) = 1
    key: [name]
)";

class SpillTest : public EngineFixture {
 protected:
  EngineOptions SmallOptions() const {
    EngineOptions options = Options();
    options.memory_bytes = kMemoryBytes;
    return options;
  }

  // 90 MB of names; `latest` keeps them twice.
  static int Names(const std::string& slice) { return slice == "by_name" ? 60'000 : 30'000; }

  // Every name once; the second time with the negative of twice the amount.
  void AppendAll(const std::string& slice, int round) {
    const std::string padding(kNameBytes, 'x');
    for (int first = 0; first < Names(slice); first += kBatch) {
      std::vector<std::string> payloads;
      for (int i = first; i < first + kBatch; ++i) {
        payloads.push_back(absl::StrCat(R"({"name":")", i, padding, R"(","amount":)",
                                        round == 0 ? i : -2 * i, "}"));
      }
      head_ = feed_.Append("orders", payloads);
    }
  }

  int64_t SpilledBytes() const {
    int64_t bytes = 0;
    std::error_code gone;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(directory_ + "/tmp", gone)) {
      const auto size = entry.is_regular_file(gone) ? entry.file_size(gone) : 0;
      if (entry.path().string().find("/spill-") != std::string::npos) {
        bytes += static_cast<int64_t>(size);
      }
    }
    return bytes;
  }

  GenerationSpec SpecOf(const std::string& slice) const {
    GenerationSpec spec = Spec(slice);
    spec.file = kDomain;
    return spec;
  }

  static std::string Summary(const std::string& slice) {
    const std::string what =
        slice == "by_name" ? "sum(n) AS n, min(total) AS least" : "min(amount) AS least";
    return absl::StrCat("SELECT count(*) AS names, ", what, " FROM ", slice);
  }
  static std::string Wanted(const std::string& slice) {
    const int names = Names(slice);
    return slice == "by_name"
               ? absl::StrCat(R"([{"names":)", names, R"(,"n":)", 2 * names, R"(,"least":)",
                              -(names - 1), "}]")
               : absl::StrCat(R"([{"names":)", names, R"(,"least":)", -2 * (names - 1), "}]");
  }

  int64_t head_ = 0;
};

TEST_F(SpillTest, FoldsWhatDoesNotFitIntoMemory) {
  const std::string slice = "by_name";
  auto started = LiveEngine::Start(SmallOptions(), feed_);
  ASSERT_TRUE(started.ok()) << started.status();
  engine_ = *std::move(started);
  Configure({SpecOf(slice)});
  int64_t spilled = 0;
  for (const int round : {0, 1}) {
    AppendAll(slice, round);
    const absl::Time deadline = absl::Now() + absl::Minutes(3);
    while (absl::Now() < deadline) {
      const auto report = Find(slice);
      if (report && report->progress.applied_position >= head_) break;
      spilled = std::max(spilled, SpilledBytes());
      absl::SleepFor(absl::Milliseconds(20));
    }
    ASSERT_EQ(Find(slice)->progress.applied_position, head_)
        << (Find(slice)->last_error ? Find(slice)->last_error->message : "");
  }
  EXPECT_EQ(Rows(Summary(slice)), Wanted(slice));
  EXPECT_EQ(Find(slice)->progress.quarantined, 0);
  EXPECT_GT(std::max(spilled, SpilledBytes()), int64_t{20} << 20) << "it all fits";
  engine_.reset();
  EXPECT_EQ(SpilledBytes(), 0) << "nothing is left behind";
}

TEST_F(SpillTest, OneWorkerDoesNotTakeAllOfTheDomainsDisk) {
  EngineOptions options = SmallOptions();
  options.disk_bytes = int64_t{64} << 20;
  const auto instance = OpenInstance(options, 1);
  ASSERT_TRUE(instance.ok()) << instance.status();
  const auto connection = DuckConnection::Connect(**instance);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ(*(*connection)->QueryText("SELECT current_setting('max_temp_directory_size')"),
            "16.0 MiB");
}

class SpillingBuildTest : public SpillTest, public testing::WithParamInterface<const char*> {};

TEST_P(SpillingBuildTest, BuildsWhatDoesNotFitIntoMemory) {
  const std::string slice = GetParam();
  AppendAll(slice, 0);
  AppendAll(slice, 1);
  auto build = BuildEngine::Start(SmallOptions(), feed_);
  ASSERT_TRUE(build.ok()) << build.status();
  Assignment assignment;
  assignment.domain = "shop";
  assignment.generations = {SpecOf(slice)};
  BuildJob job;
  job.slice = slice;
  job.number = 1;
  assignment.build = job;
  (*build)->Configure(assignment);
  int64_t spilled = 0;
  std::optional<BuildReport> report;
  const absl::Time deadline = absl::Now() + absl::Minutes(3);
  while (absl::Now() < deadline) {
    report = (*build)->Report().build;
    if (report && (report->phase == "ready" || report->phase == "failed")) break;
    spilled = std::max(spilled, SpilledBytes());
    absl::SleepFor(absl::Milliseconds(20));
  }
  ASSERT_EQ(report->phase, "ready") << (report->error ? report->error->message : "");
  Question question;
  question.text = Summary(slice);
  const auto answer = EngineFixture::Ask(**build, std::move(question));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->rows.body, Wanted(slice));
  EXPECT_EQ(report->snapshot->rows, Names(slice));
  EXPECT_GT(spilled, int64_t{20} << 20) << "it all fits";
}

INSTANTIATE_TEST_SUITE_P(Strategies, SpillingBuildTest, testing::Values("by_name", "latest"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace icepie::slices
