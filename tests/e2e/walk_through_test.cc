// 03:02, a slice fails: what its operator types, command after command, until it is repaired; and
// what each says and ends with. On real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "cli/app.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr const char* kVolume = "payments.volume_by_chain";

constexpr const char* kPayments = R"yaml(domain: payments
owner: {team: payments, contact: "#payments"}
sources:
  transfers: {columns: {id: VARCHAR, chain: VARCHAR, amount: "DECIMAL(18,2)"}}
slices:
  volume_by_chain:
    sql: SELECT chain, count(*) AS transfers, sum(amount) AS volume FROM transfers GROUP BY ALL
    key: [chain]
    on_bad_record: {action: quarantine, budget: {records: 1}}
  seen: {sql: SELECT count(*) AS transfers FROM transfers}
tests:
  - name: separators
    given: {transfers: [{id: a, chain: eth, amount: "1.50"}]}
    expect: {seen: {rows: [{transfers: 1}]}}
)yaml";

constexpr const char* kCompliance = R"(domain: compliance
sources:
  transfers: {columns: {id: VARCHAR}}
slices:
  reported: {sql: SELECT count(*) AS transfers FROM transfers}
)";

std::string Transfer(const std::string& id, const std::string& amount) {
  return absl::StrCat(R"({"id":")", id, R"(","chain":"eth","amount":")", amount, R"("})");
}

class WalkThroughTest : public ::testing::Test {
 protected:
  struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
  };

  // `answer` is what is typed when the command asks; nothing: there is no terminal.
  Outcome Icepie(std::vector<std::string> arguments, const std::string& answer = "") const {
    arguments.insert(arguments.begin(),
                     {"--address", daemon_.grpc_address(), "--actor", "ann", "--timeout", "90s"});
    std::istringstream in(answer);
    std::ostringstream out;
    std::ostringstream err;
    Outcome outcome;
    cli::Terminal terminal{&in, &out, &err};
    terminal.out_is_terminal = !answer.empty();
    outcome.code = cli::RunProgram(arguments, terminal);
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  // The words of one command line; its output when it ended with `code`.
  std::string Expect(int code, const std::string& line, const std::string& answer = "") const {
    const Outcome outcome = Icepie(absl::StrSplit(line, ' '), answer);
    EXPECT_EQ(outcome.code, code) << "icepie " << line << "\n" << outcome.out << outcome.err;
    if (code == 0) EXPECT_THAT(outcome.err, ::testing::Not(HasSubstr("icepie:"))) << line;
    return outcome.out + outcome.err;
  }

  std::string WriteFile(const std::string& name, const std::string& text) const {
    const std::string path = absl::StrCat(daemon_.directory(), "/", name);
    std::ofstream(path) << text;
    return path;
  }

  int64_t Append(const std::vector<std::string>& payloads) {
    const auto end = daemon_.Append("transfers", payloads);
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(-1);
  }

  // The slice fails at its second bad record; another domain's is frozen.
  void Fail() {
    daemon_.Start();
    ASSERT_TRUE(daemon_.CreateStream("transfers").ok());
    Expect(0, "apply -f " + WriteFile("payments.yaml", kPayments));
    if (HasNonfatalFailure()) FAIL();
    Expect(0, "apply -f " + WriteFile("compliance.yaml", kCompliance));
    const int64_t good = Append({Transfer("tx0", "120.55"), Transfer("tx1", "3.00")});
    ASSERT_TRUE(
        Eventually([&] { return daemon_.GetSlice(kVolume).standby_position() >= good; }, kLong));
    Expect(0, "slice freeze compliance.reported --reason audit");
    bad_ = Append({Transfer("tx2", "1,204.50"), Transfer("tx3", "2,000.00")}) - 2;
    Expect(0, absl::StrCat("slice wait ", kVolume, " --state FAULTED"));
  }

  DaemonFixture daemon_;
  int64_t bad_ = 0;  // the first bad record
};

TEST_F(WalkThroughTest, FromTheFaultToThePostMortem) {
  ASSERT_NO_FATAL_FAILURE(Fail());
  const std::string slice = kVolume;

  // What is wrong, where, and does anybody else notice?
  Expect(0, "slice wait payments.seen --fresh");
  const std::string status = Expect(0, "status");
  EXPECT_THAT(status, HasSubstr("3 slices: 1 fresh, 1 FAULTED, 1 FROZEN"));
  EXPECT_THAT(status, AllOf(HasSubstr("QUARANTINE_OVER_BUDGET"),
                            HasSubstr("next retry: none, needs a change")));
  EXPECT_LT(status.find(slice + " "), status.find("compliance.reported ")) << "worst first";
  EXPECT_EQ(status.find("payments.seen"), std::string::npos) << "healthy ones are folded";
  EXPECT_THAT(Expect(0, "slice describe " + slice),
              AllOf(HasSubstr("FAULTED since"), HasSubstr("desired       RUN"),
                    HasSubstr("2 records cannot be read, budget 1"), HasSubstr("last events")));
  EXPECT_THAT(Expect(0, "slice logs " + slice + " --since 10m"), HasSubstr("budget 1"));
  EXPECT_THAT(Expect(0, "slice quarantine " + slice),
              ContainsRegex("2  BAD_FORMAT  amount +\\$.amount  \"1,204.50\""));
  EXPECT_THAT(Expect(0, absl::StrCat("slice quarantine ", slice, " --show ", bad_)),
              AllOf(HasSubstr("1,204.50"), HasSubstr("^")));
  EXPECT_THAT(Expect(1, absl::StrCat("slice quarantine ", slice, " --show ", bad_ - 1)),
              HasSubstr("has no quarantined record at position"));
  EXPECT_THAT(Expect(0, absl::StrCat("trace ", bad_)),
              AllOf(ContainsRegex("payments.seen +APPLIED"),
                    ContainsRegex("payments.volume_by_chain +QUARANTINED")));
  EXPECT_THAT(Expect(0, "slice freeze " + slice + " --reason INC-4711"), HasSubstr("FROZEN"));

  // The repair.
  const std::string file = Expect(0, "domain get payments");
  EXPECT_EQ(file, kPayments) << "as it was written";
  const std::string path = WriteFile(
      "payments.yaml",
      absl::StrReplaceAll(
          file, {{"\"DECIMAL(18,2)\"", "VARCHAR"},
                 {"sum(amount)", "sum(CAST(replace(amount, ',', '') AS DECIMAL(18,2)))"}}));
  EXPECT_THAT(Expect(0, "test -f " + path), HasSubstr("1 test: 1 passed, 0 failed"));
  EXPECT_THAT(Expect(2, "plan -f " + path),
              AllOf(ContainsRegex("~ rebuild +payments.volume_by_chain"),
                    ContainsRegex("= unchanged +payments.seen")));
  EXPECT_THAT(Expect(0, "apply -f " + path + " --promote=manual --reason INC-4711"),
              HasSubstr("is ready beside the serving generation"));
  EXPECT_THAT(Expect(0, "operation list"), ContainsRegex("op-1 +payments.volume_by_chain"));
  EXPECT_THAT(Expect(0, "operation watch op-1"), HasSubstr("g2 ready"));
  EXPECT_THAT(Expect(1, "operation watch op-77"), HasSubstr("there is no operation"));
  EXPECT_THAT(Expect(2, "slice diff " + slice + " g2"),
              AllOf(HasSubstr("against generation 1"), HasSubstr("changed 1")));
  EXPECT_THAT(Expect(0, "slice promote " + slice + " g2 --thaw"), HasSubstr("generation 2"));
  Expect(0, "slice wait " + slice + " --fresh");
  v1::QueryResponse rows;
  ASSERT_TRUE(daemon_.Query("payments", "SELECT volume FROM volume_by_chain", -1, &rows).ok());
  EXPECT_THAT(rows.body(), HasSubstr("3328.05"));
  EXPECT_EQ(daemon_.GetSlice(slice).counts().quarantined(), 0);
  Expect(0, "slice wait payments.seen --fresh");
  EXPECT_THAT(Expect(0, "status"), HasSubstr("2 fresh, 1 FROZEN"));

  // Back, if it was wrong after all; who is not asked must say so.
  EXPECT_THAT(Expect(3, "slice rollback " + slice), HasSubstr("say --yes"));
  EXPECT_THAT(Expect(3, "slice rollback " + slice, "n\n"), HasSubstr("Go? [y/N]"));
  EXPECT_EQ(daemon_.GetSlice(slice).meta().generation(), 2);
  Expect(0, "slice rollback " + slice, "y\n");
  EXPECT_EQ(daemon_.GetSlice(slice).meta().generation(), 1);

  // Who, what, when.
  const std::string events = Expect(0, "events payments --since 1h");
  size_t place = 0;
  for (const char* step :
       {"RUNNING → FAULTED", "FreezeSlice by ann  INC-4711", "ApplyDomain by ann  INC-4711",
        "PromoteGeneration by ann", "RollbackSlice by ann"}) {
    const size_t found = events.find(step, place);
    EXPECT_NE(found, std::string::npos) << step << " is not in its place:\n" << events;
    if (found != std::string::npos) place = found;
  }
  EXPECT_THAT(Expect(0, "events compliance --since 1h"),
              AllOf(HasSubstr("FreezeSlice by ann  audit"), ::testing::Not(HasSubstr("FAULTED"))));
}

// The verbs of a page that is about a worker rather than a record.
TEST_F(WalkThroughTest, RestartRefreshAndABuildThatCannotBeCancelledAnyMore) {
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("transfers").ok());
  Append({Transfer("tx0", "1.00")});
  Expect(0, "apply -f " + WriteFile("payments.yaml", kPayments));
  EXPECT_THAT(Expect(0, absl::StrCat("slice restart ", kVolume)), HasSubstr(kVolume));
  EXPECT_THAT(Expect(0, "domain restart payments"), HasSubstr("payments.seen"));
  EXPECT_THAT(Expect(0, "domain refresh payments"), HasSubstr("payments.seen"));
  Expect(0, absl::StrCat("slice wait ", kVolume, " --fresh"));
  Expect(0, absl::StrCat("slice reslice ", kVolume, " --reason INC-5"));
  EXPECT_THAT(Expect(0, "operation list"), ContainsRegex("op-1 .*done"));
  EXPECT_THAT(Expect(0, absl::StrCat("slice diff ", kVolume, " g2")), HasSubstr("changed 0"));
  // It comes too late, and is not told otherwise.
  EXPECT_THAT(Expect(3, "operation cancel op-1"), HasSubstr("op-1 had ended before: done"));
  EXPECT_EQ(daemon_.GetSlice(kVolume).meta().generation(), 1) << "nobody promoted it";
}

}  // namespace
}  // namespace icepie::testing
