#include "slices/apply/generation.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "slices/apply/recompute_runner.h"
#include "slices/apply/record_batch.h"
#include "slices/duckdb/transaction.h"
#include "slices/role/engine.h"
#include "slices/snapshot/snapshot_store.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {
namespace {

constexpr char kDomain[] = R"(
domain: sales
sources:
  sales:
    stream: events
    where: {$.kind: sale}
    columns:
      shop: VARCHAR
      size: INTEGER
      price: DECIMAL(18,4)
      ratio: DOUBLE
      note: VARCHAR
      paid: BOOLEAN
      at: {type: TIMESTAMP, format: iso8601, required: true}
slices:
  by_shop:
    sql: >
      SELECT shop, size, count(*) AS n, count(price) AS priced, sum(price) AS total,
             avg(price) AS mean, min(price) AS least, max(note) AS last_note, sum(ratio) AS ratios,
             avg(ratio) AS mean_ratio, min("at") AS first_at, max("at") AS last_at,
             count(*) FILTER (WHERE paid) AS paid
      FROM sales GROUP BY ALL
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  totals:
    sql: SELECT count(*) AS n, sum(size) AS sizes, avg(size) AS mean, max(ratio) AS most FROM sales
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  by_day:
    sql: >
      SELECT time_bucket(INTERVAL 1 DAY, "at") AS day, upper(shop) AS name, sum(size + 1) AS sizes
      FROM sales WHERE size IS NULL OR size > 1 GROUP BY ALL HAVING count(*) > 2
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  lines:
    sql: >
      SELECT _position AS p, shop, price * 2 AS twice, CAST("at" AS DATE) AS day, ratio
      FROM sales WHERE paid IS NOT FALSE
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  numbers:
    sql: SELECT _position AS p, CAST(note AS INTEGER) AS number FROM sales
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  counted:
    sql: SELECT shop, size, count(*) AS n FROM sales GROUP BY ALL ORDER BY n
    on_bad_record: {action: quarantine, budget: {records: 100000}}
  medians:
    sql: >
      SELECT shop, median(price) AS middle, count(DISTINCT note) AS notes, max("at") AS last_at
      FROM sales GROUP BY ALL
    on_bad_record: {action: quarantine, budget: {records: 100000}}
)";

// A feed whose readers break when they are asked for records.
class BrokenFeed : public Feed {
 public:
  std::unique_ptr<FeedReader> Open(const std::vector<std::string>& /*streams*/, int64_t /*from*/,
                                   std::optional<int64_t> /*end*/) override {
    return std::make_unique<Reader>();
  }

 private:
  class Reader : public FeedReader {
   public:
    absl::StatusOr<std::optional<FeedPiece>> Next() override {
      return absl::UnavailableError("the feed broke");
    }
    void Cancel() override {}
  };
};

class GenerationTest : public testing::TestWithParam<unsigned int> {
 protected:
  GenerationTest() {
    std::string pattern = testing::TempDir() + "/icepie-generation-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    store_ = std::make_unique<SnapshotStore>(directory_, SnapshotKeeping{2});
  }
  ~GenerationTest() override {
    generations_.clear();
    reference_.reset();
    instance_.reset();
    std::filesystem::remove_all(directory_);
  }

  void SetUp() override {
    EngineOptions options;
    options.domain = "sales";
    options.directory = directory_;
    options.memory_bytes = int64_t{256} << 20;
    auto instance = OpenInstance(options, 1);
    ASSERT_TRUE(instance.ok()) << instance.status();
    instance_ = *std::move(instance);
    ASSERT_TRUE(store_->Prepare().ok());
    const auto definition = ParseDomain(kDomain, "sales.yaml");
    ASSERT_TRUE(definition.ok()) << definition.status();
    auto plan = PlanDomain(*definition);
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  }

  std::unique_ptr<Generation> Open(const std::string& slice, const std::string& snapshot = "") {
    auto opened = Generation::Open(*instance_, plan_, slice, 1, snapshot);
    EXPECT_TRUE(opened.ok()) << slice << ": " << opened.status();
    return opened.ok() ? *std::move(opened) : nullptr;
  }

  void OpenAll() {
    for (const SlicePlan& slice : plan_->slices) {
      generations_.push_back(Open(slice.slice));
      ASSERT_NE(generations_.back(), nullptr);
    }
    auto connection = DuckConnection::Connect(*instance_);
    ASSERT_TRUE(connection.ok()) << connection.status();
    reference_ = *std::move(connection);
    const absl::Status made = reference_->Run(
        "CREATE TABLE records(_position BIGINT, wrong VARCHAR, kind VARCHAR, shop VARCHAR, "
        "size INTEGER, price DECIMAL(18,4), ratio DOUBLE, note VARCHAR, paid BOOLEAN, "
        "\"at\" TIMESTAMP)");
    ASSERT_TRUE(made.ok()) << made;
  }

  int Random(int below) { return static_cast<int>(random_() % static_cast<unsigned int>(below)); }

  // One record: its payload is returned, what it means is added to the reference's rows.
  std::string MakeRecord(int64_t position, std::vector<std::string>& rows);
  void AppendRecords(int count);
  void ApplyAll(Generation& generation, int64_t position);
  void Restart(std::unique_ptr<Generation>& generation);
  void Compare(const Generation& generation);
  int64_t ReferenceCount(const std::string& where);
  // Some of the rows of one relation that the other lacks, as text.
  std::string Difference(const std::string& these, const std::string& others);

  std::string directory_;
  std::unique_ptr<SnapshotStore> store_;
  std::unique_ptr<DuckDatabase> instance_;
  std::shared_ptr<const DomainPlan> plan_;
  std::vector<std::unique_ptr<Generation>> generations_;
  std::unique_ptr<DuckConnection> reference_;
  MemoryFeed feed_;
  std::mt19937 random_{GetParam()};
};

// The values of one field: how JSON and SQL write it.
struct Field {
  std::string name;
  std::string json;
  std::string sql;
};

std::string GenerationTest::MakeRecord(int64_t position, std::vector<std::string>& rows) {
  const std::string day = absl::StrFormat("2026-01-%02d", 1 + Random(5));
  const std::string time =
      absl::StrFormat("%02d:%02d:%02d.%03d", Random(24), Random(60), Random(60), Random(1000));
  const std::string price = absl::StrFormat("%d.%04d", Random(2000) - 1000, Random(10000));
  const std::string ratio = absl::StrCat(Random(4000) - 2000, ".", Random(2) == 0 ? "25" : "5");
  const std::string note = Random(40) == 0 ? "many" : absl::StrCat(Random(50));
  const std::string shop = absl::StrCat("shöp ", Random(5));
  std::vector<Field> fields = {
      {"shop", absl::StrCat("\"", shop, "\""), QuoteLiteral(shop)},
      {"size", absl::StrCat(Random(4)), ""},
      {"price", price, ""},
      {"ratio", ratio, ""},
      {"note", absl::StrCat("\"", note, "\""), QuoteLiteral(note)},
      {"paid", Random(2) == 0 ? "true" : "false", ""},
      {"at", absl::StrCat("\"", day, "T", time, "\""), absl::StrCat("'", day, " ", time, "'")},
  };
  for (Field& field : fields) {
    if (field.sql.empty()) field.sql = field.json;
    if (field.name != "at" && Random(8) == 0) field = {field.name, "null", "NULL"};
  }
  std::string wrong;
  if (Random(25) == 0) {
    Field& field = fields[static_cast<size_t>(Random(static_cast<int>(fields.size())))];
    wrong = field.name;
    field = {field.name, "[1]", "NULL"};
  } else if (Random(60) == 0) {
    wrong = "everything";
  }
  const std::string kind = Random(6) == 0 ? "return" : "sale";
  std::string json = absl::StrCat("{\"kind\":\"", kind, "\"");
  std::string row = absl::StrCat("(", position, ", '", wrong, "', '", kind, "'");
  for (const Field& field : fields) {
    const bool absent = field.json == "null" && Random(2) == 0;
    if (!absent) absl::StrAppend(&json, ",\"", field.name, "\":", field.json);
    absl::StrAppend(&row, ", ", field.sql);
  }
  rows.push_back(row + ")");
  return wrong == "everything" ? json : json + "}";
}

void GenerationTest::AppendRecords(int count) {
  std::vector<std::string> payloads;
  std::vector<std::string> rows;
  for (int i = 0; i < count; ++i) payloads.push_back(MakeRecord(feed_.head() + i, rows));
  const absl::Status added =
      reference_->Run(absl::StrCat("INSERT INTO records VALUES ", absl::StrJoin(rows, ", ")));
  ASSERT_TRUE(added.ok()) << added;
  feed_.Append("events", payloads);
  feed_.Append("others", std::vector<std::string>(static_cast<size_t>(Random(3) + 1), "{}"));
}

void GenerationTest::ApplyAll(Generation& generation, int64_t position) {
  if (!generation.incremental()) {
    ASSERT_TRUE(generation.BeginRecompute({}).ok());
    const absl::Status status = generation.FinishRecompute(feed_, position, 1);
    ASSERT_TRUE(status.ok()) << status;
    return;
  }
  const std::vector<std::string> streams(generation.streams().begin(), generation.streams().end());
  const auto reader = feed_.Open(streams, generation.position(), position);
  BatchDecoder decoder(generation.position(), generation.streams());
  while (generation.position() < position) {
    const auto piece = reader->Next();
    ASSERT_TRUE(piece.ok() && piece->has_value()) << piece.status();
    const auto batch = decoder.Decode(**piece);
    ASSERT_TRUE(batch.ok()) << batch.status();
    const absl::Status status = generation.Apply(*batch, 1 + Random(300));
    ASSERT_TRUE(status.ok()) << generation.plan().slice << ": " << status;
  }
}

void GenerationTest::Restart(std::unique_ptr<Generation>& generation) {
  ASSERT_TRUE(generation->WritePosition().ok());
  const auto saved =
      store_->Save(*instance_, generation->alias(), generation->served().info(), 1000);
  ASSERT_TRUE(saved.ok()) << saved.status();
  const std::string slice = generation->plan().slice;
  const int64_t position = generation->position();
  generation.reset();
  generation = Open(slice, store_->AbsolutePath(saved->path));
  ASSERT_NE(generation, nullptr);
  EXPECT_EQ(generation->position(), position);
}

int64_t GenerationTest::ReferenceCount(const std::string& where) {
  const auto rows = reference_->QueryCells("SELECT count(*) FROM records WHERE " + where);
  EXPECT_TRUE(rows.ok()) << rows.status();
  return rows.ok() ? std::get<int64_t>(rows->front().front()) : -1;
}

std::string GenerationTest::Difference(const std::string& these, const std::string& others) {
  const auto rows = reference_->QueryCells(absl::StrCat("SELECT CAST(r AS VARCHAR) FROM (FROM ",
                                                        these, " EXCEPT ALL FROM ", others,
                                                        ") AS r ORDER BY 1 LIMIT 3"));
  EXPECT_TRUE(rows.ok()) << rows.status();
  std::string text;
  if (!rows.ok()) return text;
  for (const CellRow& row : *rows) absl::StrAppend(&text, std::get<std::string>(row[0]), "\n");
  return text;
}

void GenerationTest::Compare(const Generation& generation) {
  const std::string& slice = generation.plan().slice;
  std::string bad = "wrong = 'everything'";
  for (const std::string& column : generation.plan().sources.front().columns) {
    absl::StrAppend(&bad, " OR wrong = '", column, "'");
  }
  if (slice == "numbers") absl::StrAppend(&bad, " OR note IS NOT DISTINCT FROM 'many'");
  const std::string filtered = "(wrong <> 'everything' AND kind <> 'sale')";
  const Progress& progress = generation.progress();
  EXPECT_EQ(progress.filtered, ReferenceCount(filtered)) << slice;
  EXPECT_EQ(progress.quarantined,
            ReferenceCount(absl::StrCat("NOT ", filtered, " AND (", bad, ")")))
      << slice;
  EXPECT_EQ(progress.input, ReferenceCount("true")) << slice;
  EXPECT_EQ(progress.input, progress.applied + progress.filtered + progress.quarantined) << slice;
  ASSERT_TRUE(reference_
                  ->Run(absl::StrCat("CREATE OR REPLACE TEMP VIEW sales AS SELECT * FROM records "
                                     "WHERE kind = 'sale' AND NOT (",
                                     bad, ")"))
                  .ok());
  // DuckDB divides an average in long double; ours may differ in the last bit.
  const std::string select =
      slice == "by_shop" ? "(SELECT * REPLACE (round(mean, 9) AS mean) FROM " : "(FROM ";
  const std::string straight = absl::StrCat(select, "(", generation.definition().sql, "))");
  const std::string ours =
      absl::StrCat(select, QuoteIdentifier(generation.alias()), ".main.__result)");
  EXPECT_EQ(Difference(straight, ours), "") << slice << " lacks rows";
  EXPECT_EQ(Difference(ours, straight), "") << slice << " has other rows";
}

TEST_P(GenerationTest, EqualsStraightDuckDbAfterEachBatchAndRestart) {
  OpenAll();
  for (int round = 0; round < 6; ++round) {
    for (int blocks = Random(3); blocks >= 0; --blocks) AppendRecords(30 + Random(200));
    for (auto& generation : generations_) {
      ApplyAll(*generation, feed_.head());
      Restart(generation);
      Compare(*generation);
      if (HasFailure()) {
        FAIL() << "seed " << GetParam() << ", round " << round << ", position " << feed_.head();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, GenerationTest, testing::Values(2U, 20261122U));

// Many interrupts, and moments without one: what is interrupted all the time never ends.
void InterruptUntil(const std::atomic<bool>& done, const std::function<void()>& interrupt) {
  while (!done) {
    interrupt();
    std::this_thread::sleep_for(std::chrono::microseconds(1));
  }
}

// Over the slice `known`, and of orders that fail only together.
constexpr char kTogether[] = R"(
domain: sales
sources:
  items: {columns: {id: INTEGER}}
  orders: {columns: {id: INTEGER, amount: INTEGER}}
slices:
  known: {sql: "SELECT id FROM items GROUP BY ALL", key: [id]}
  sums:
    sql: SELECT o.id, CAST(sum(amount) AS TINYINT) AS total FROM orders AS o JOIN known AS k ON o.id = k.id GROUP BY ALL
    key: [id]
    on_bad_record: {budget: {records: 1000}}
)";

// One of them fails alone.
constexpr char kLargest[] = R"(
domain: sales
sources:
  orders: {columns: {amount: INTEGER}}
slices:
  largest:
    sql: SELECT max(CAST(amount AS TINYINT)) AS most FROM orders
    key: [most]
    strategy: recompute
)";

using CulpritSearchTest = GenerationTest;

// One more is found in each round: other slices of the domain, and who freezes one, need not wait
// for all of them.
TEST_P(CulpritSearchTest, EndsInTimeAndTheNextAttemptGoesOn) {
  constexpr int kOrders = 12;
  auto plan = PlanDomain(ParseDomain(kTogether, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  const std::unique_ptr<Generation> known = Open("known");
  ASSERT_NE(known, nullptr);
  const int64_t first = feed_.Append("items", {R"({"id":1})"});
  ApplyAll(*known, first);
  const std::vector<std::string> orders(kOrders, R"({"id":1,"amount":100})");
  const int64_t head = feed_.Append("orders", orders);
  known->PassTo(head);
  bool ended = false;
  std::unique_ptr<Generation> sums;
  // Long enough on this machine, as it is now, to find some, not to find all.
  absl::Duration time = absl::Milliseconds(20);
  for (int attempts = 0; !ended && attempts < 40; ++attempts) {
    sums = Open("sums");
    ASSERT_NE(sums, nullptr);
    ASSERT_TRUE(sums->SetUpstream({{"known", known->AsUpstream()}}).ok());
    sums->SetSearchTimeMin(time);
    const absl::Status status = sums->ApplyChanges(feed_, nullptr, head, 1);
    ended = absl::IsAborted(status);
    if (!ended && !status.ok()) EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    time = status.ok() ? time * 0.6 : time * 1.8;
  }
  ASSERT_TRUE(ended);
  sums->SetSearchTimeMin(absl::Minutes(1));
  const absl::Status status = sums->ApplyChanges(feed_, nullptr, head, 1);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(sums->progress().quarantined, kOrders - 1);
  EXPECT_EQ(sums->progress().applied, 1);
}

// Which is what it is told of, not of records that nobody has looked for.
TEST_P(CulpritSearchTest, AnInterruptAtAnyTrialFindsNothing) {
  auto plan = PlanDomain(ParseDomain(kLargest, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  feed_.Append("orders", {R"({"amount":1})", R"({"amount":300})", R"({"amount":2})"});
  int ended = 0;
  for (int trials_before = 0; trials_before < 5; ++trials_before) {
    const std::unique_ptr<Generation> largest = Open("largest");
    ASSERT_NE(largest, nullptr);
    std::atomic<bool> done = false;
    std::thread interrupter;
    int trials = 0;
    largest->SetOnTrial([&] {
      if (++trials <= trials_before || interrupter.joinable()) return;
      interrupter = std::thread([&] { InterruptUntil(done, [&] { largest->Interrupt(); }); });
    });
    ASSERT_TRUE(largest->BeginRecompute({}).ok());
    absl::Status status = largest->FinishRecompute(feed_, feed_.head(), 1);
    done = true;
    if (interrupter.joinable()) interrupter.join();
    // An interrupt may come too late for the last one.
    if (absl::IsDeadlineExceeded(status)) ++ended;
    EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
    largest->SetOnTrial(nullptr);
    while (!status.ok() && (absl::IsDeadlineExceeded(status) || absl::IsAborted(status))) {
      ASSERT_TRUE(largest->BeginRecompute({}).ok());
      status = largest->FinishRecompute(feed_, feed_.head(), 1);
    }
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(largest->progress().quarantined, 1);
  }
  EXPECT_GT(ended, 0);
}

// Nor does a feed that breaks, whatever it says.
TEST_P(CulpritSearchTest, AFeedOutOfRangeAtAnyTrialIsNotTheEndOfTheSearch) {
  auto plan = PlanDomain(ParseDomain(kLargest, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  feed_.Append("orders", {R"({"amount":1})", R"({"amount":300})", R"({"amount":2})"});
  int trials_in_all = 1;
  for (int broken = 1; broken <= trials_in_all; ++broken) {
    const std::unique_ptr<Generation> largest = Open("largest");
    ASSERT_NE(largest, nullptr);
    int trials = 0;
    largest->SetOnTrial([&] {
      if (++trials == broken) feed_.SetDamage(absl::OutOfRangeError("made to"));
    });
    ASSERT_TRUE(largest->BeginRecompute({}).ok());
    absl::Status status = largest->FinishRecompute(feed_, feed_.head(), 1);
    feed_.SetDamage(absl::OkStatus());
    if (trials < broken) {
      EXPECT_TRUE(absl::IsAborted(status)) << status;
      break;
    }
    trials_in_all = broken + 1;
    EXPECT_TRUE(absl::IsOutOfRange(status)) << "trial " << broken << ": " << status;
  }
  EXPECT_GT(trials_in_all, 4);
}

// Where one of its records ends the process: the flight record tells in which part.
TEST_P(CulpritSearchTest, PartsThatAreSuspectedAreTriedOnceInFrontOfARun) {
  auto plan = PlanDomain(ParseDomain(kLargest, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  feed_.Append("orders", {R"({"amount":1})", R"({"amount":300})", R"({"amount":2})"});
  const std::unique_ptr<Generation> largest = Open("largest");
  ASSERT_NE(largest, nullptr);
  for (int round = 0; round < 2; ++round) {
    const SuspectRecords suspects = {{2}, 1, 9, 1};
    largest->SetSuspects(suspects);
    const size_t opened_before = feed_.opened().size();
    ASSERT_TRUE(largest->BeginRecompute({}).ok());
    const absl::Status status = largest->FinishRecompute(feed_, feed_.head(), 1);
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    const std::vector<int64_t> opened = feed_.opened();
    const std::vector<int64_t> began(opened.begin() + static_cast<ptrdiff_t>(opened_before),
                                     opened.end());
    // One and the other. The second time, the one that its SQL fails on is found.
    if (round == 0) EXPECT_THAT(began, testing::ElementsAre(1, 2));
    if (round == 1) EXPECT_EQ(began.front(), 0);
  }
  ASSERT_TRUE(largest->BeginRecompute({}).ok());
  const absl::Status status = largest->FinishRecompute(feed_, feed_.head(), 1);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(largest->progress().quarantined, 2);
}

TEST_P(CulpritSearchTest, PartsThatAreSuspectedAreTriedInFrontOfChanges) {
  auto plan = PlanDomain(ParseDomain(kTogether, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  const std::unique_ptr<Generation> known = Open("known");
  const std::unique_ptr<Generation> sums = Open("sums");
  ApplyAll(*known, feed_.Append("items", {R"({"id":1})"}));
  ASSERT_TRUE(sums->SetUpstream({{"known", known->AsUpstream()}}).ok());
  const int64_t head = feed_.Append("orders", {R"({"id":1,"amount":3})", R"({"id":1,"amount":4})"});
  known->PassTo(head);
  sums->SetSuspects({{}, 0, head, 2});
  int trials = 0;
  sums->SetOnTrial([&] { ++trials; });
  const absl::Status status = sums->ApplyChanges(feed_, nullptr, head, 1);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(trials, 3);
  EXPECT_EQ(sums->progress().applied, 2);
}

// Others of the domain have their turn in between, and what was tried is not tried again, be it
// that there was no memory for it. Another error is the feed's or the process's.
TEST_P(CulpritSearchTest, TryingSuspectedPartsGoesOnWhereItStood) {
  constexpr int kOrders = 6;
  auto plan = PlanDomain(ParseDomain(kTogether, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  const std::unique_ptr<Generation> known = Open("known");
  const std::unique_ptr<Generation> sums = Open("sums");
  const int64_t begin = feed_.Append("items", {R"({"id":1})"});
  ApplyAll(*known, begin);
  ASSERT_TRUE(sums->SetUpstream({{"known", known->AsUpstream()}}).ok());
  const std::vector<std::string> orders(kOrders, R"({"id":1,"amount":3})");
  const int64_t head = feed_.Append("orders", orders);
  known->PassTo(head);
  sums->SetSuspects({{}, begin, head, 2});
  sums->SetSearchTimeMin(absl::ZeroDuration());
  int trials = 0;
  sums->SetOnTrial([&] {
    ++trials;
    feed_.SetDamage(trials == 4   ? absl::UnavailableError("made to")
                    : trials == 6 ? absl::ResourceExhaustedError("made to")
                                  : absl::OkStatus());
  });
  std::vector<std::string> said;
  absl::Status status;
  do {
    status = sums->ApplyChanges(feed_, nullptr, head, 1);
    feed_.SetDamage(absl::OkStatus());
    said.push_back(absl::StrCat(trials, " ", absl::StatusCodeToString(status.code())));
  } while (!status.ok() && said.size() < 10);
  // In front of each part, once more without any record.
  EXPECT_THAT(said, testing::ElementsAre("2 ABORTED", "4 UNAVAILABLE", "6 ABORTED", "8 OK"));
  EXPECT_EQ(sums->progress().applied, kOrders);
}

// Run as a whole over the slice `rate`.
constexpr char kRated[] = R"(
domain: sales
sources:
  rates: {columns: {rate: INTEGER}}
  orders: {columns: {amount: INTEGER}}
slices:
  rate: {sql: "SELECT arg_max(rate, _position) AS rate FROM rates"}
  rated:
    sql: SELECT CAST(amount * rate AS TINYINT) AS total FROM orders, rate ORDER BY total LIMIT 9
    strategy: recompute
  strict:
    sql: SELECT CAST(amount * rate AS TINYINT) AS total FROM orders, rate ORDER BY total LIMIT 9
    strategy: recompute
    on_bad_record: {budget: {records: 2}}
)";

// What another slice has may change between the runs of a search.
class ChangingUpstreamTest : public GenerationTest {
 protected:
  void Plan() {
    auto plan = PlanDomain(ParseDomain(kRated, "sales.yaml").value());
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
    rate_ = Open("rate");
    SetRate(1);
  }
  void Begin() {
    ASSERT_NO_FATAL_FAILURE(Plan());
    OpenRated("rated");
    feed_.Append("orders", {R"({"amount":2})"});
    ASSERT_TRUE(Recompute().ok());
    feed_.Append("orders", {R"({"amount":3})", R"({"amount":4})"});
  }
  void OpenRated(const std::string& slice) {
    rated_ = Open(slice);
    ASSERT_TRUE(rated_->SetUpstream({{"rate", rate_->AsUpstream()}}).ok());
  }
  void SetRate(int rate) {
    feed_.Append("rates", {absl::StrCat("{\"rate\":", rate, "}")});
    ApplyAll(*rate_, feed_.head());
  }
  absl::Status Recompute() {
    ICEPIE_RETURN_IF_ERROR(rated_->BeginRecompute({rate_->alias()}));
    return rated_->FinishRecompute(feed_, feed_.head(), 1);
  }

  std::unique_ptr<Generation> rate_;
  std::unique_ptr<Generation> rated_;
};

// Bad in all runs of the search but the first and the last, which are without the records that are
// looked at.
TEST_P(ChangingUpstreamTest, RecordsAreNotToBlameForARowThatWasBadForAWhile) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  SetRate(100);
  constexpr int kFirst = 2;  // behind the one that failed
  constexpr int kLast = 10;
  int runs = 0;
  rated_->SetOnTransaction([&] {
    ++runs;
    if (runs == kFirst || runs == kLast) SetRate(1);
    if (runs == kFirst + 1) SetRate(100);
  });
  const absl::Status status = Recompute();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_GT(runs, kLast);
  rated_->SetOnTransaction(nullptr);
  ASSERT_TRUE(Recompute().ok());
  EXPECT_EQ(rated_->progress().quarantined, 0);
  EXPECT_EQ(rated_->progress().applied, 3);
}

TEST_P(ChangingUpstreamTest, ARecordThatFailsWithAllOfItsRowsIsFound) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  feed_.Append("orders", {R"({"amount":1000})"});
  rated_->SetOnTransaction([&, runs = 0]() mutable { SetRate(1 + ++runs % 2); });
  const absl::Status status = Recompute();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  rated_->SetOnTransaction(nullptr);
  ASSERT_TRUE(Recompute().ok());
  EXPECT_EQ(rated_->progress().quarantined, 1);
  EXPECT_EQ(rated_->progress().applied, 3);
}

// Of a slice that has taken no record yet.
TEST_P(ChangingUpstreamTest, NotAllOfItsFirstRecordsAreToBlameForARow) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  SetRate(100);
  OpenRated("rated");
  const absl::Status status = Recompute();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  SetRate(1);
  feed_.Append("orders", {R"({"amount":1000})", R"({"amount":2000})"});
  EXPECT_TRUE(absl::IsAborted(Recompute()));
  ASSERT_TRUE(Recompute().ok());
  EXPECT_EQ(rated_->progress().quarantined, 2);
  EXPECT_EQ(rated_->progress().applied, 3);
}

// Nor a row for records that are all bad, where others come behind them.
TEST_P(ChangingUpstreamTest, MoreOfTheFirstRecordsThanTheBudgetAllowsAreBad) {
  ASSERT_NO_FATAL_FAILURE(Plan());
  const std::string bad = R"({"amount":1000})";
  feed_.Append("orders", {bad, bad, bad, R"({"amount":4})", bad});
  OpenRated("strict");
  const absl::Status status = Recompute();
  EXPECT_EQ(ErrorReason(status), "QUARANTINE_OVER_BUDGET") << status;
  ASSERT_FALSE(rated_->served().overflow().empty());
  EXPECT_EQ(rated_->served().overflow().front().position, 3);
}

// Likewise, and a search that ends before it has come to the others.
TEST_P(ChangingUpstreamTest, MoreOfTheFirstRecordsThanThereIsTimeForAreBad) {
  ASSERT_NO_FATAL_FAILURE(Plan());
  std::vector<std::string> orders(500, R"({"amount":1000})");
  orders.emplace_back(R"({"amount":4})");
  feed_.Append("orders", orders);
  OpenRated("rated");
  // Enough for 40 trials on this machine, as it is now, and then it is over.
  absl::Status status = absl::InvalidArgumentError("");
  absl::Duration time = absl::Milliseconds(300);
  for (int attempts = 0; absl::IsInvalidArgument(status) && attempts < 5; ++attempts) {
    int trials = 0;
    rated_->SetSearchTimeMin(time);
    rated_->SetOnTrial([&] {
      if (++trials == 40) absl::SleepFor(time);
    });
    status = Recompute();
    time *= 3;
  }
  EXPECT_TRUE(absl::IsAborted(status)) << status;
}

INSTANTIATE_TEST_SUITE_P(Once, ChangingUpstreamTest, testing::Values(1U));
INSTANTIATE_TEST_SUITE_P(Once, CulpritSearchTest, testing::Values(1U));

using BrokenFeedTest = GenerationTest;

// A data error would be held against the records, and the slice would not be tried again.
TEST_P(BrokenFeedTest, IsNotTakenForADataError) {
  BrokenFeed feed;
  const std::unique_ptr<Generation> generation = Open("counted");
  ASSERT_NE(generation, nullptr);
  ASSERT_TRUE(generation->BeginRecompute({}).ok());
  const absl::Status status = generation->FinishRecompute(feed, 10, 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(generation->position(), 0);

  OpenAll();
  AppendRecords(100);
  ApplyAll(*generation, feed_.head());
  Compare(*generation);
}

// An interrupt that comes after the statement that it was meant for may meet the ROLLBACK.
TEST_P(BrokenFeedTest, AnInterruptedRollbackLeavesNoTransaction) {
  const std::unique_ptr<Generation> generation = Open("counted");
  ASSERT_NE(generation, nullptr);
  for (int round = 0; round < 1000; ++round) {
    ASSERT_TRUE(generation->BeginRecompute({}).ok()) << "round " << round;
    std::atomic<bool> done = false;
    std::thread interrupter([&] { InterruptUntil(done, [&] { generation->Interrupt(); }); });
    generation->AbandonRecompute();
    done = true;
    interrupter.join();
  }
}

// Interrupts, between Begin() and End() in rows without a pause: what is short is met as well.
class Interrupter {
 public:
  explicit Interrupter(DuckConnection& connection)
      : connection_(connection), thread_([this] { InterruptUntil(done_, [this] { Row(); }); }) {}
  ~Interrupter() {
    done_ = true;
    thread_.join();
  }

  void Begin() { on_ = true; }
  void End() {
    on_ = false;
    MutexLock lock(mutex_);  // until its row ends
  }

 private:
  void Row() {
    MutexLock lock(mutex_);
    for (int i = 0; i < 100 && on_; ++i) connection_.Interrupt();
  }

  DuckConnection& connection_;
  Mutex mutex_;
  std::atomic<bool> on_ = false;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

// The same interrupt may meet the BEGIN, which says then that it failed.
TEST_P(BrokenFeedTest, AnInterruptedBeginLeavesNoTransaction) {
  const auto connection = DuckConnection::Connect(*instance_).value();
  Interrupter interrupter(*connection);
  int interrupted = 0;
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  for (int round = 0; round < 1000 || (interrupted == 0 && absl::Now() < deadline); ++round) {
    interrupter.Begin();
    const absl::Status begun = BeginTransaction(*connection, TransactionKind::kReadOnly);
    interrupter.End();
    interrupted += absl::IsDeadlineExceeded(begun) ? 1 : 0;
    ASSERT_EQ(RollBack(*connection).ok(), begun.ok()) << "round " << round << ": " << begun;
  }
  EXPECT_GT(interrupted, 0);
}

// It may also come when the ROLLBACK is over: a question would end with the error of the next one.
TEST_P(BrokenFeedTest, AnInterruptedRollbackHasNoError) {
  const auto connection = DuckConnection::Connect(*instance_).value();
  Interrupter interrupter(*connection);
  for (int round = 0; round < 1000; ++round) {
    ASSERT_TRUE(BeginTransaction(*connection, TransactionKind::kReadOnly).ok());
    interrupter.Begin();
    const absl::Status ended = RollBack(*connection);
    interrupter.End();
    ASSERT_TRUE(ended.ok()) << "round " << round << ": " << ended;
  }
}

// Its ROLLBACK has failed as well, for want of memory perhaps.
TEST_P(BrokenFeedTest, AnAbortedTransactionThatWasLeftBehindIsNotEveryonesError) {
  const auto connection = DuckConnection::Connect(*instance_).value();
  for (const TransactionKind kind : {TransactionKind::kReadOnly, TransactionKind::kReadWrite}) {
    ASSERT_TRUE(BeginTransaction(*connection, kind).ok());
    ASSERT_FALSE(connection->QueryText("SELECT error('no')").ok());
    ASSERT_THAT(connection->QueryText("SELECT 'one'").status().ToString(),
                testing::HasSubstr("aborted"));
    const absl::Status begun = BeginTransaction(*connection, kind);
    EXPECT_TRUE(begun.ok()) << begun;
    EXPECT_TRUE(connection->QueryText("SELECT 'one'").ok());
    EXPECT_TRUE(RollBack(*connection).ok());
  }
}

// Lack of memory is no answer, nor the worker's end.
TEST_P(BrokenFeedTest, WhetherRecordsMayComeInAnyOrderIsAnErrorWithoutMemory) {
  const auto generation = Open("totals");
  EXPECT_TRUE(generation->TakesAnyOrder().value());
  const auto connection = DuckConnection::Connect(*instance_).value();
  // The planner's question has this answer from now on.
  ASSERT_TRUE(connection
                  ->Run(absl::StrCat("CREATE MACRO ", QuoteIdentifier(generation->alias()),
                                     ".main.json_serialize_sql(sql) AS error(",
                                     QuoteLiteral(kFunctionMemoryError), ")"))
                  .ok());
  EXPECT_TRUE(absl::IsResourceExhausted(generation->TakesAnyOrder().status()))
      << generation->TakesAnyOrder().status();
  EXPECT_TRUE(absl::IsResourceExhausted(generation->TakeQuarantined(RecordBatch(), {0})));
}

// An interrupt may come when COMMIT has stored its batch, or meet what is read behind it.
TEST_P(BrokenFeedTest, ABatchWhoseCommitFailsIsNotAppliedTwice) {
  constexpr int kBatches = 200;
  constexpr int kRecords = 10;
  const std::string payload = R"({"kind":"sale","shop":"a","size":1,"at":"2026-01-01T00:00:00Z"})";
  for (int i = 0; i < kBatches; ++i) {
    feed_.Append("events", std::vector<std::string>(kRecords, payload));
  }
  const auto generation = Open("totals");
  std::atomic<bool> done = false;
  std::atomic<int> failed = 0;  // of one batch: the longer it takes, the rarer are the interrupts
  std::thread interrupter([&] {
    std::minstd_rand random(GetParam());
    while (!done) {
      generation->Interrupt();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % (2000 * (1 + failed))));
    }
  });
  auto reader = feed_.Open({"events"}, 0, kBatches * kRecords);
  BatchDecoder decoder(0, {"events"});
  int errors = 0;
  while (generation->position() < kBatches * kRecords) {
    const auto piece = reader->Next();
    ASSERT_TRUE(piece.ok() && piece->has_value());
    const auto batch = decoder.Decode(**piece);
    ASSERT_TRUE(batch.ok());
    failed = 0;
    while (generation->position() < batch->end) {
      failed += generation->ApplyPart(*batch, kRecords).ok() ? 0 : 1;
    }
    errors += failed;
  }
  done = true;
  interrupter.join();
  EXPECT_GT(errors, 0);
  EXPECT_EQ(generation->progress().applied, kBatches * kRecords);
  const auto connection = DuckConnection::Connect(*instance_).value();
  EXPECT_EQ(*connection->QueryText(absl::StrCat("SELECT CAST(n AS VARCHAR) FROM ",
                                                generation->alias(), ".main.__result")),
            absl::StrCat(kBatches * kRecords));
}

TEST_P(BrokenFeedTest, AnInterruptIsNoFaultOfTheSqlThatIsPrepared) {
  const auto connection = DuckConnection::Connect(*instance_).value();
  std::atomic<bool> done = false;
  std::thread interrupter([&] { InterruptUntil(done, [&] { connection->Interrupt(); }); });
  int interrupted = 0;
  for (int round = 0; round < 200; ++round) {
    const absl::Status prepared =
        connection->Prepare("SELECT count(*) FROM range(10) AS a, range(10) AS b").status();
    interrupted += absl::IsDeadlineExceeded(prepared) ? 1 : 0;
    EXPECT_TRUE(prepared.ok() || absl::IsDeadlineExceeded(prepared)) << prepared;
  }
  done = true;
  interrupter.join();
  EXPECT_GT(interrupted, 0);
}

// DuckDB takes databases of one name for the same: a transaction that sees the second of them is
// its end.
TEST_P(BrokenFeedTest, ATransactionMaySeeSeveralCopiesForSnapshots) {
  const std::unique_ptr<Generation> generation = Open("counted");
  ASSERT_NE(generation, nullptr);
  const auto reader = DuckConnection::Connect(*instance_).value();
  ASSERT_TRUE(BeginTransaction(*reader).ok());
  for (int copy = 0; copy < 3; ++copy) {
    absl::Status seen = absl::UnknownError("not looked");
    const auto saved = store_->Save(
        *instance_, generation->alias(), generation->served().info(), /*rows_max=*/1000,
        [&](DuckConnection& /*connection*/, const std::string& alias, SnapshotManifest&) {
          seen = reader
                     ->QueryText(
                         "SELECT any_value(database_name) FROM duckdb_tables() WHERE "
                         "database_name = " +
                         QuoteLiteral(alias))
                     .status();
          return absl::OkStatus();
        });
    ASSERT_TRUE(saved.ok()) << saved.status();
    ASSERT_TRUE(seen.ok()) << seen;
  }
  EXPECT_TRUE(RollBack(*reader).ok());
}

// Closing a connection within a transaction over a database that is gone ends the process.
TEST_P(BrokenFeedTest, ARunThatIsNeverCollectedLeavesNoTransaction) {
  const std::shared_ptr<Generation> generation = Open("counted");
  ASSERT_NE(generation, nullptr);
  for (int round = 0; round < 50; ++round) {
    RecomputeRunner runner(
        feed_, absl::Seconds(60), absl::Seconds(2), [] {}, [](const std::string&) {});
    ASSERT_TRUE(generation->BeginRecompute({}).ok()) << "round " << round;
    RecomputeRun run;
    run.steps.emplace_back().generation = generation;
    runner.Start(std::move(run));
  }
}

// Two of the three streams that it joins are one, of which each takes other records.
constexpr char kJoined[] = R"(
domain: sales
sources:
  sales: {stream: events, where: {$.kind: sale}, columns: {shop: VARCHAR, price: INTEGER}}
  returns: {stream: events, where: {$.kind: return}, columns: {shop: VARCHAR, note: VARCHAR}}
  shops: {columns: {shop: VARCHAR}}
slices:
  joined:
    sql: >
      SELECT s._position AS at, s.price, r.note FROM sales AS s JOIN returns AS r ON r.shop = s.shop
      JOIN shops AS o ON o.shop = s.shop
    key: [at]
)";

class JoinCountsTest : public GenerationTest {
 protected:
  static std::string Counts(const Generation& generation) {
    const Progress& at = generation.progress();
    return absl::StrCat(at.input, " = ", at.applied, " + ", at.filtered, " + ", at.quarantined);
  }
};

// As applied counts what the sources took, whether what it is joined to is there or not.
TEST_P(JoinCountsTest, EachRecordCountsOnceAlsoWhenItIsTriedAgain) {
  auto plan = PlanDomain(ParseDomain(kJoined, "sales.yaml").value());
  ASSERT_TRUE(plan.ok()) << plan.status();
  plan_ = std::make_shared<const DomainPlan>(*std::move(plan));
  feed_.Append("events", {R"({"kind":"sale","shop":"a","price":1})", R"({"kind":"gift"})",
                          R"({"kind":"sale","shop":"none","price":2})",
                          R"({"kind":"sale","shop":"a","price":"x"})"});
  feed_.Append("shops", {R"({"shop":"a"})", R"({"shop":"b"})"});
  feed_.Append("events", {R"({"kind":"return","shop":"a","note":"n"})",
                          R"({"kind":"return","shop":1})", "{"});
  feed_.Append("shops", {R"({"shop":2})"});
  std::unique_ptr<Generation> joined = Open("joined");
  ASSERT_NE(joined, nullptr);
  ASSERT_TRUE(joined->HoldBack({0, 4, 6}).ok());
  ApplyAll(*joined, feed_.head());
  EXPECT_EQ(Counts(*joined), "10 = 2 + 1 + 7");
  Restart(joined);
  EXPECT_EQ(Counts(*joined), "10 = 2 + 1 + 7");
  const std::vector<int64_t> positions = {0, 3, 4, 6, 7, 9};
  const auto batch = ReadRecordsAt(feed_, joined->streams(), positions);
  ASSERT_TRUE(batch.ok()) << batch.status();
  const absl::Status taken = joined->TakeQuarantined(*batch, positions);
  ASSERT_TRUE(taken.ok()) << taken;
  EXPECT_EQ(Counts(*joined), "10 = 5 + 1 + 4");
  feed_.Append("events", {R"({"kind":"gift"})"});  // a snapshot of each position is kept once
  ApplyAll(*joined, feed_.head());
  Restart(joined);
  EXPECT_EQ(Counts(*joined), "11 = 5 + 2 + 4");
  const std::unique_ptr<Generation> anew = Open("joined");
  ApplyAll(*anew, feed_.head());
  EXPECT_EQ(Counts(*anew), Counts(*joined));
}

INSTANTIATE_TEST_SUITE_P(Once, JoinCountsTest, testing::Values(1U));

class LargeBatchTest : public GenerationTest {
 protected:
  int64_t KeptBytes() {
    const auto bytes = reference_->QueryCells(
        "SELECT CAST(sum(memory_usage_bytes) AS BIGINT) FROM duckdb_memory() WHERE tag IN "
        "('ALLOCATOR', 'HASH_TABLE')");
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.ok() ? std::get<int64_t>(bytes->front().front()) : -1;
  }

  void ApplyInOne(Generation& generation) {
    const std::vector<std::string> streams(generation.streams().begin(),
                                           generation.streams().end());
    const auto piece = feed_.Open(streams, generation.position(), feed_.head())->Next();
    ASSERT_TRUE(piece.ok() && piece->has_value()) << piece.status();
    BatchDecoder decoder(generation.position(), generation.streams());
    const auto batch = decoder.Decode(**piece);
    ASSERT_TRUE(batch.ok()) << batch.status();
    const absl::Status status = generation.Apply(*batch, feed_.head());
    ASSERT_TRUE(status.ok()) << status;
  }
};

TEST_P(LargeBatchTest, WhatItsStatementsHaveBuiltIsLetGoOf) {
  OpenAll();
  Generation& generation = *generations_.front();
  for (int round = 0; round < 2; ++round) {
    AppendRecords(2000);
    ApplyInOne(generation);
    ASSERT_GT(KeptBytes(), 0);
    generation.LetGoOfBatch(absl::InfinitePast());
    EXPECT_GT(KeptBytes(), 0);
    generation.LetGoOfBatch(absl::InfiniteFuture());
    EXPECT_EQ(KeptBytes(), 0);
  }
  Compare(generation);
}

// However long it took: the next one may be waiting.
TEST_P(LargeBatchTest, IsKeptFromItsEndOn) {
  OpenAll();
  Generation& generation = *generations_.front();
  AppendRecords(2000);
  absl::Time within;
  generation.SetBatchCheck([&](DuckConnection&, const std::string&, int64_t) {
    within = SteadyNow();
    return absl::OkStatus();
  });
  ApplyInOne(generation);
  generation.LetGoOfBatch(within);
  EXPECT_GT(KeptBytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Once, LargeBatchTest, testing::Values(1U));
INSTANTIATE_TEST_SUITE_P(Once, BrokenFeedTest, testing::Values(1U));

}  // namespace
}  // namespace icepie::slices
