// Live engines and builds that are killed at any call by which the disk changes, again and again
// (ICEPIE_CRASH_ROUNDS), over slices of every strategy. What the next one answers equals their SQL
// run once over all records, in a DuckDB with one thread and rows in position order.
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "slices/plan/components.h"
#include "slices/reading/result_json.h"
#include "slices/role/build_engine.h"
#include "tests/slices/engine_fixture.h"
#include "tests/slices/failing_calls.h"

namespace icepie::slices {
namespace {

constexpr int64_t kRecordsInRound = 40;
constexpr int64_t kRecordsOfBuild = 100;
constexpr size_t kBlocksOfPiece = 25;
constexpr int64_t kMicrosBetweenRecords = 5'000'000;

constexpr char kSources[] = R"(
domain: shop
sources:
  orders:
    columns:
      id: {type: BIGINT, required: true}
      city: {type: VARCHAR, required: true}
      amount: {type: BIGINT, required: true}
      note: VARCHAR
  payments:
    columns:
      of: {type: BIGINT, required: true}
      payer: {type: VARCHAR, required: true}
      payee: {type: VARCHAR, required: true}
slices:
)";

// Records that the slice quarantines: of every 17th order the note is no number, of every 13th the
// amount is none.
enum class Bad { kNone, kNotes, kAmounts };

struct CrashSlice {
  std::string name;
  Strategy strategy;
  Bad bad;
  std::string sql;
  std::string options = "";
  std::vector<std::string> reads = {};
};

// What reads a slice comes behind it.
const std::vector<CrashSlice>& AllSlices() {
  static const auto* const slices = new std::vector<CrashSlice>{
      {"notes", Strategy::kAppend, Bad::kNotes,
       "SELECT _position AS at, CAST(note AS INTEGER) AS number FROM orders"},
      {"by_city", Strategy::kAggregate, Bad::kAmounts,
       "SELECT city, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY ALL",
       "key: [city]"},
      {"middle", Strategy::kKeys, Bad::kAmounts,
       "SELECT city, median(amount) AS middle FROM orders GROUP BY city", "key: [city]"},
      {"paid", Strategy::kKeys, Bad::kNone,
       "SELECT o._position AS at, p._position AS paid_at, o.city, p.payer FROM orders AS o "
       "JOIN payments AS p ON p.of = o.id"},
      {"placed", Strategy::kRecompute, Bad::kAmounts,
       "SELECT id, amount, rank() OVER (ORDER BY amount DESC) AS place FROM orders"},
      {"clusters", Strategy::kAggregate, Bad::kNone,
       "SELECT c.node, c.cluster FROM (SELECT unnest(components(payer, payee)) AS c FROM payments)",
       "key: [node]"},
      {"recent", Strategy::kAggregate, Bad::kNone,
       "SELECT date_trunc('minute', _time) AS minute, count(*) AS orders FROM orders GROUP BY ALL",
       "retain: {column: minute, for: 6m}"},
      {"sizes",
       Strategy::kAggregate,
       Bad::kNone,
       "SELECT orders, count(*) AS cities, sum(total) AS total FROM by_city GROUP BY ALL",
       "",
       {"by_city"}},
      // From here on in long runs only.
      {"largest", Strategy::kKeys, Bad::kAmounts,
       "SELECT city, id, row_number() OVER (PARTITION BY city ORDER BY amount DESC, _position) "
       "AS place FROM orders QUALIFY place <= 3"},
      {"ranked",
       Strategy::kRecompute,
       Bad::kNone,
       "SELECT city, total, rank() OVER (ORDER BY total DESC, city) AS place FROM by_city",
       "",
       {"by_city"}},
      {"spread",
       Strategy::kKeys,
       Bad::kNone,
       "SELECT b.city, b.total, m.middle FROM by_city AS b JOIN middle AS m ON m.city = b.city",
       "",
       {"by_city", "middle"}},
      {"in_city",
       Strategy::kKeys,
       Bad::kNone,
       "SELECT o._position AS at, b.orders FROM orders AS o JOIN by_city AS b ON b.city = o.city",
       "",
       {"by_city"}}};
  return *slices;
}

std::string YamlOf(const CrashSlice& slice) {
  return absl::StrCat("  ", slice.name, ":\n    sql: >\n      ", slice.sql, "\n    ", slice.options,
                      "\n");
}

constexpr size_t kSlicesOfShortRun = 8;

bool IsLongRun() { return std::getenv("ICEPIE_CRASH_ROUNDS") != nullptr; }

// Planning them takes most of a short run's time.
const std::vector<CrashSlice>& Slices() {
  static const auto* const slices = new std::vector<CrashSlice>(
      AllSlices().begin(),
      IsLongRun() ? AllSlices().end() : AllSlices().begin() + kSlicesOfShortRun);
  return *slices;
}

// The file with the slice and what it reads.
std::string FileOf(const CrashSlice& wanted) {
  std::string file = kSources;
  for (const CrashSlice& slice : Slices()) {
    const auto& reads = wanted.reads;
    const bool read = std::find(reads.begin(), reads.end(), slice.name) != reads.end();
    if (slice.name == wanted.name || read) absl::StrAppend(&file, YamlOf(slice));
  }
  return file;
}

std::string FileOfAll() {
  std::string file = kSources;
  for (const CrashSlice& slice : Slices()) absl::StrAppend(&file, YamlOf(slice));
  return file;
}

int64_t TimeOf(int64_t position) { return kMicrosBetweenRecords * (1 + position); }
bool IsPayment(int64_t position) { return position % 4 == 3; }
bool HasBadNote(int64_t position) { return !IsPayment(position) && position % 17 == 5; }
bool HasBadAmount(int64_t position) { return !IsPayment(position) && position % 13 == 6; }
std::string CityOf(int64_t position) { return absl::StrCat("city", position * position % 7); }
int64_t AmountOf(int64_t position) { return position * position % 31; }
// An order of before, or one that comes later.
int64_t PaidBy(int64_t position) { return position * 7 % (position + 9); }
std::string PayerOf(int64_t position) {
  return absl::StrCat("w", position * 5 % (position / 2 + 3));
}
std::string PayeeOf(int64_t position) { return absl::StrCat("w", position * 3 % (position + 1)); }

std::string PayloadOf(int64_t position) {
  if (IsPayment(position)) {
    return absl::StrCat(R"({"of":)", PaidBy(position), R"(,"payer":")", PayerOf(position),
                        R"(","payee":")", PayeeOf(position), "\"}");
  }
  return absl::StrCat(R"({"id":)", position, R"(,"city":")", CityOf(position), R"(","amount":)",
                      HasBadAmount(position) ? "\"many\"" : absl::StrCat(AmountOf(position)),
                      R"(,"note":")", HasBadNote(position) ? "none" : absl::StrCat(position),
                      "\"}");
}

int64_t QuarantinedIn(const CrashSlice& slice, int64_t head) {
  int64_t count = 0;
  for (int64_t position = 0; position < head; ++position) {
    count += slice.bad == Bad::kNotes && HasBadNote(position) ? 1 : 0;
    count += slice.bad == Bad::kAmounts && HasBadAmount(position) ? 1 : 0;
  }
  return count;
}

// The rows of a slice as JSON, in an order that they have of themselves.
std::string AllRowsOf(const std::string& slice) {
  return absl::StrCat("SELECT * FROM ", slice, " ORDER BY ALL");
}

// The slices' SQL over the first records, run once.
class CrashReference {
 public:
  explicit CrashReference(int64_t head) {
    database_ = *DuckDatabase::OpenInMemory({{"threads", "1"}});
    connection_ = *DuckConnection::Connect(*database_);
    Run("SET TimeZone = 'UTC'");
    EXPECT_TRUE(RegisterComponents(*connection_, int64_t{64} << 20).ok());
    Run("CREATE TABLE all_orders (_position BIGINT, _time TIMESTAMPTZ, id BIGINT, city VARCHAR, "
        "amount BIGINT, note VARCHAR, bad_amount BOOLEAN, bad_note BOOLEAN)");
    Run("CREATE TABLE payments (_position BIGINT, of BIGINT, payer VARCHAR, payee VARCHAR)");
    for (int64_t at = 0; at < head; ++at) Run(InsertOf(at));
    for (const CrashSlice& slice : Slices()) Make(slice, head);
  }

  std::string Rows(const std::string& slice) {
    auto result = connection_->Query(AllRowsOf(slice));
    if (!result.ok()) return result.status().ToString();
    const auto rows = WriteJsonRows(*result, 1'000'000, int64_t{1} << 30);
    return rows.ok() ? rows->body : rows.status().ToString();
  }

 private:
  void Run(const std::string& sql) {
    const absl::Status status = connection_->Run(sql);
    EXPECT_TRUE(status.ok()) << status << " " << sql;
  }

  static std::string InsertOf(int64_t at) {
    if (IsPayment(at)) {
      return absl::StrCat("INSERT INTO payments VALUES (", at, ", ", PaidBy(at), ", '", PayerOf(at),
                          "', '", PayeeOf(at), "')");
    }
    return absl::StrCat("INSERT INTO all_orders VALUES (", at, ", make_timestamptz(", TimeOf(at),
                        "), ", at, ", '", CityOf(at), "', ", AmountOf(at), ", '", at, "', ",
                        HasBadAmount(at) ? "true, " : "false, ",
                        HasBadNote(at) ? "true)" : "false)");
  }

  void Make(const CrashSlice& slice, int64_t head) {
    const char* bad = slice.bad == Bad::kNotes     ? "bad_note"
                      : slice.bad == Bad::kAmounts ? "bad_amount"
                                                   : "false";
    Run(absl::StrCat("CREATE OR REPLACE TEMP VIEW orders AS FROM all_orders WHERE NOT ", bad,
                     " ORDER BY _position"));
    Run(absl::StrCat("CREATE TABLE ", slice.name, " AS ", slice.sql));
    if (slice.name != "recent") return;
    int64_t newest = head - 1;
    while (newest >= 0 && IsPayment(newest)) --newest;
    Run(absl::StrCat("DELETE FROM recent WHERE minute < make_timestamptz(", TimeOf(newest),
                     ") - INTERVAL 6 MINUTE"));
  }

  std::unique_ptr<DuckDatabase> database_;
  std::unique_ptr<DuckConnection> connection_;
};

int64_t NumberFrom(const char* variable) {
  const char* text = std::getenv(variable);
  int64_t number = 0;
  EXPECT_TRUE(text != nullptr && absl::SimpleAtoi(text, &number)) << variable;
  return number;
}

bool IsKill(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

class LiveCrashTest : public EngineFixture {
 protected:
  LiveCrashTest() : crashed_(directory_ + "-crashed") {
    std::filesystem::create_directories(crashed_);
  }
  ~LiveCrashTest() override { std::filesystem::remove_all(crashed_); }

  static int64_t Rounds() { return IsLongRun() ? NumberFrom("ICEPIE_CRASH_ROUNDS") : 2; }

  // Always the same records.
  void AppendTo(int64_t head) {
    for (int64_t next = feed_.head(); next < head; ++next) {
      feed_.Append(IsPayment(next) ? "payments" : "orders", {PayloadOf(next)}, TimeOf(next));
    }
  }

  // All slices, from the state in `directory`.
  void StartFrom(const std::string& directory, absl::Duration snapshot_interval) {
    EngineOptions options = Options();
    options.directory = directory;
    options.snapshot_interval = snapshot_interval;
    options.snapshot_share = 0.9;
    auto started = LiveEngine::Start(options, feed_);
    ASSERT_TRUE(started.ok()) << started.status();
    engine_ = *std::move(started);
    std::vector<GenerationSpec> specs;
    for (const CrashSlice& slice : Slices()) {
      specs.push_back(Spec(slice.name));
      specs.back().file = FileOfAll();
    }
    Configure(std::move(specs));
  }

  bool AllAreThere() const {
    return std::all_of(Slices().begin(), Slices().end(), [&](const CrashSlice& slice) {
      const std::optional<SliceReport> report = Find(slice.name);
      return report && report->state == SliceState::kRunning &&
             report->progress.applied_position >= feed_.head();
    });
  }

  // To plan them all can take a busy machine more than the minute that WaitFor() gives.
  void WaitForAll() {
    const absl::Time deadline = absl::Now() + absl::Minutes(3);
    while (absl::Now() < deadline && !AllAreThere()) absl::SleepFor(absl::Milliseconds(2));
    for (const CrashSlice& slice : Slices()) WaitForPosition(slice.name, feed_.head());
  }

  // What an engine answers that goes on from `directory`, which it leaves as it is but for what the
  // killed one left half done.
  void ExpectReferenceFrom(const std::string& directory) {
    StartFrom(directory, absl::Hours(1));
    WaitForAll();
    CrashReference reference(feed_.head());
    for (const CrashSlice& slice : Slices()) {
      EXPECT_EQ(Rows(AllRowsOf(slice.name)), reference.Rows(slice.name)) << slice.name;
      const std::optional<SliceReport> report = Find(slice.name);
      EXPECT_EQ(report->info.strategy, StrategyName(slice.strategy)) << slice.name;
      EXPECT_EQ(report->progress.quarantined, QuarantinedIn(slice, feed_.head())) << slice.name;
    }
    engine_.reset();
  }

  // Builds the slice in `directory`, from raw or from where a build before had saved it; its rows.
  std::string BuildIn(const std::string& directory, const CrashSlice& slice) {
    EngineOptions options = Options();
    options.directory = directory;
    options.snapshot_interval = absl::ZeroDuration();
    options.snapshot_share = 1e9;  // it saves after each batch
    auto build = BuildEngine::Start(options, feed_);
    if (!build.ok()) return build.status().ToString();
    Assignment assignment;
    assignment.domain = "shop";
    assignment.generations = {Spec(slice.name)};
    assignment.generations.front().file = FileOf(slice);
    assignment.build = BuildJob{slice.name, 1, "", 0, 0, std::nullopt, {}, {}, false};
    (*build)->Configure(assignment);
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    std::optional<BuildReport> report;
    while (absl::Now() < deadline && (!report || report->phase != "ready")) {
      report = (*build)->Report().build;
      if (report && report->error) return report->error->message;
      absl::SleepFor(absl::Milliseconds(2));
    }
    Question question;
    question.text = AllRowsOf(slice.name);
    const auto answer = Ask(**build, question);
    return answer.ok() ? answer->rows.body : answer.status().ToString();
  }

  const std::string crashed_;
};

// The program that is killed: it saves as often as can be.
TEST_F(LiveCrashTest, DISABLED_Child) {
  const int64_t round = NumberFrom("ICEPIE_KILL_ROUND");
  AppendTo(round * kRecordsInRound);
  calls_left = NumberFrom("ICEPIE_KILL_AT");
  StartFrom(std::getenv("ICEPIE_KILL_DIRECTORY"), absl::Milliseconds(1));
  WaitForAll();
  while (feed_.head() < (round + 1) * kRecordsInRound) {
    AppendTo(feed_.head() + 10);
    WaitForAll();
  }
  engine_->Shutdown();
  calls_left = 0;
  engine_.reset();
}

// The program that is killed while it builds.
TEST_F(LiveCrashTest, DISABLED_Build) {
  feed_.set_blocks_per_piece(kBlocksOfPiece);
  AppendTo(kRecordsOfBuild);
  calls_left = NumberFrom("ICEPIE_KILL_AT");
  for (const CrashSlice& slice : Slices()) {
    if (slice.name != std::getenv("ICEPIE_KILL_SLICE")) continue;
    BuildIn(std::getenv("ICEPIE_KILL_DIRECTORY"), slice);
  }
  calls_left = 0;
}

// Each round has more records than the one before.
TEST_F(LiveCrashTest, KilledAnywhereAgainAndAgainItsRowsAreThoseOfTheSql) {
  std::mt19937 random(20261127);
  int kills = 0;
  for (int64_t round = 0; round < Rounds() && !HasFailure(); ++round) {
    ::setenv("ICEPIE_KILL_ROUND", absl::StrCat(round).c_str(), 1);
    // So many calls as in the first round are in the last snapshots alone.
    const auto kill_at = static_cast<int64_t>(1 + random() % (round == 0 ? 100 : 1000));
    SCOPED_TRACE(absl::StrCat("round ", round, ", killed at call ", kill_at));
    const int status = RunChild(crashed_, kill_at, "LiveCrashTest.DISABLED_Child");
    ASSERT_TRUE(IsKill(status) || status == 0) << status;
    kills += IsKill(status) ? 1 : 0;
    AppendTo((round + 1) * kRecordsInRound);
    ExpectReferenceFrom(crashed_);
  }
  EXPECT_GT(kills, 0);
}

// Each is killed a few times more in a long run.
TEST_F(LiveCrashTest, BuildsThatAreKilledAreDoneByTheNextOnes) {
  std::mt19937 random(20261127);
  int kills = 0;
  feed_.set_blocks_per_piece(kBlocksOfPiece);
  AppendTo(kRecordsOfBuild);
  CrashReference reference(kRecordsOfBuild);
  for (const CrashSlice& slice : Slices()) {
    ::setenv("ICEPIE_KILL_SLICE", slice.name.c_str(), 1);
    for (int64_t round = 0; round < (Rounds() + 9) / 10; ++round) {
      const auto kill_at = static_cast<int64_t>(1 + random() % 100);
      SCOPED_TRACE(absl::StrCat(slice.name, " killed at call ", kill_at));
      const int status = RunChild(crashed_, kill_at, "LiveCrashTest.DISABLED_Build");
      ASSERT_TRUE(IsKill(status) || status == 0) << status;
      kills += IsKill(status) ? 1 : 0;
    }
    EXPECT_EQ(BuildIn(crashed_, slice), reference.Rows(slice.name)) << slice.name;
    const auto built = SnapshotStore(crashed_, SnapshotKeeping{3}).NewestGood(slice.name, 1, "");
    ASSERT_TRUE(built.ok()) << built.status();
    EXPECT_EQ(built->progress.applied_position, kRecordsOfBuild) << slice.name;
  }
  EXPECT_GT(kills, 0);
  ExpectReferenceFrom(crashed_);  // of these snapshots
}

}  // namespace
}  // namespace icepie::slices
