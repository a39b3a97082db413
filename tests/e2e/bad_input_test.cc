// Bad input from the outside: each gets its proper code, one reason and the remedy, and changes
// nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
  scraps: {columns: {item: VARCHAR}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
  scraps_by_item:
    sql: SELECT item, count(*) AS scraps FROM scraps GROUP BY ALL
    key: [item]
)";

// What no refused call may change.
struct World {
  std::map<std::string, int64_t> stream_ends;
  std::map<std::string, int64_t> domain_revisions;
  std::string answer;

  bool operator==(const World& other) const {
    return stream_ends == other.stream_ends && domain_revisions == other.domain_revisions &&
           answer == other.answer;
  }
};

std::ostream& operator<<(std::ostream& out, const World& world) {
  return out << ::testing::PrintToString(world.stream_ends)
             << ::testing::PrintToString(world.domain_revisions) << world.answer;
}

v1::Record RecordOf(const std::string& stream, const std::string& payload) {
  v1::Record record;
  record.set_stream(stream);
  record.set_payload(payload);
  return record;
}

// The daemon is one for all tests: none of them may change anything, so none disturbs another.
class BadInputTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    daemon_ = std::make_unique<DaemonFixture>();
    daemon_->Start();
    if (HasFatalFailure()) return;
    ASSERT_TRUE(daemon_->CreateStream("sales").ok());
    v1::CreateStreamRequest bytes;
    v1::Stream created;
    bytes.set_name("scraps");
    bytes.set_format(v1::PAYLOAD_FORMAT_BYTES);
    ASSERT_TRUE(daemon_->Core()->CreateStream(Limit().get(), bytes, &created).ok());
    ASSERT_TRUE(daemon_->Append("sales", {R"({"item":"pear","amount":3})"}).ok());
    v1::ApplyDomainResponse applied;
    const auto status = daemon_->Apply(kShop, &applied);
    ASSERT_TRUE(status.ok()) << status.error_message();
    const auto answers = [] {
      v1::QueryResponse answer;
      return daemon_->Query("shop", kTotals, 1, &answer).ok();
    };
    ASSERT_TRUE(Eventually(answers));
  }
  static void TearDownTestSuite() { daemon_.reset(); }

  void SetUp() override {
    ASSERT_NE(daemon_->pid(), 0);
    before_ = Look();
  }
  void TearDown() override { EXPECT_EQ(Look(), before_); }

  static std::unique_ptr<grpc::ClientContext> Limit() { return Within(absl::Seconds(30)); }

  static World Look() {
    World world;
    v1::ListStreamsResponse streams;
    EXPECT_TRUE(daemon_->Core()->ListStreams(Limit().get(), {}, &streams).ok());
    // That what is well-formed was refused is on record, and all that is.
    for (const auto& stream : streams.streams()) {
      if (stream.name() == "_admin") continue;
      world.stream_ends[stream.name()] = stream.end_offset();
    }
    v1::ListDomainsResponse domains;
    EXPECT_TRUE(daemon_->Admin()->ListDomains(Limit().get(), {}, &domains).ok());
    for (const auto& domain : domains.domains()) {
      world.domain_revisions[domain.name()] = domain.revision();
    }
    v1::QueryResponse answer;
    const auto status = daemon_->Query("shop", kTotals, streams.head_position(), &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    world.answer = answer.body();
    return world;
  }

  // One ErrorInfo with `reason`, the code that belongs to it, and no more than a client can take.
  static void ExpectRefused(const grpc::Status& status, grpc::StatusCode code,
                            const std::string& reason,
                            const ::testing::Matcher<const std::string&>& message) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_EQ(ErrorReason(server::FromGrpcStatus(status)), reason) << status.error_message();
    EXPECT_THAT(status.error_message(), message);
    EXPECT_LE(status.error_details().size(), 4096U);
  }

  static std::vector<std::string> BadFields(const grpc::Status& status) {
    std::vector<std::string> fields;
    const auto detail = GetErrorDetail(server::FromGrpcStatus(status)).value_or(ErrorDetail{});
    for (const auto& violation : detail.violations) fields.push_back(violation.field);
    return fields;
  }

  static grpc::Status AppendAll(const std::vector<v1::Record>& records) {
    v1::AppendRecordsRequest request;
    v1::AppendRecordsResponse response;
    for (const auto& record : records) *request.add_records() = record;
    return daemon_->Core()->AppendRecords(Limit().get(), request, &response);
  }

  // The same batch over the stream of batches.
  static grpc::Status StreamAll(const std::vector<v1::Record>& records) {
    const auto context = Limit();
    const auto call = daemon_->Core()->StreamAppendRecords(context.get());
    v1::AppendRecordsRequest request;
    for (const auto& record : records) *request.add_records() = record;
    call->Write(request);
    call->WritesDone();
    v1::AppendRecordsResponse response;
    EXPECT_FALSE(call->Read(&response));
    return call->Finish();
  }

  static grpc::Status Apply(const std::string& file) {
    v1::ApplyDomainResponse response;
    const auto status = daemon_->Apply(file, &response);
    // The plan refuses what apply refuses, in the same words.
    v1::ApplyDomainRequest plan;
    v1::ApplyDomainResponse planned;
    plan.set_file(file);
    plan.set_file_name("test.yaml");
    plan.set_validate_only(true);
    const auto plan_status = daemon_->Admin()->ApplyDomain(Limit().get(), plan, &planned);
    EXPECT_EQ(plan_status.error_code(), status.error_code());
    EXPECT_EQ(plan_status.error_message(), status.error_message());
    return status;
  }

  static grpc::Status ApplyWith(const std::string& old_text, const std::string& new_text) {
    EXPECT_THAT(kShop, HasSubstr(old_text));
    return Apply(absl::StrReplaceAll(kShop, {{old_text, new_text}}));
  }

  static grpc::Status Query(const std::string& domain, const std::string& sql) {
    v1::QueryResponse response;
    return daemon_->Query(domain, sql, -1, &response);
  }

  static server::HttpClient Http() {
    const std::string& address = daemon_->http_address();
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) << address;
    return server::HttpClient(port);
  }

  static void ExpectProblem(const server::ClientAnswer& answer, int status,
                            const std::string& reason, const std::string& detail) {
    EXPECT_EQ(answer.status, status) << answer.body;
    const auto type = answer.headers.find("content-type");
    ASSERT_NE(type, answer.headers.end());
    EXPECT_EQ(type->second, "application/problem+json");
    const auto body = nlohmann::json::parse(answer.body, nullptr, false);
    ASSERT_TRUE(body.is_object()) << answer.body;
    EXPECT_EQ(body.value("status", 0), status);
    EXPECT_EQ(body.value("reason", ""), reason) << answer.body;
    EXPECT_THAT(body.value("detail", ""), HasSubstr(detail));
  }

  static constexpr const char* kTotals = "SELECT item, sales, total FROM by_item ORDER BY item";

  static std::unique_ptr<DaemonFixture> daemon_;
  World before_;
};

std::unique_ptr<DaemonFixture> BadInputTest::daemon_;

const auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;
const auto kNotFound = grpc::StatusCode::NOT_FOUND;

TEST_F(BadInputTest, UnknownStream) {
  const auto status = AppendAll({RecordOf("sales", "{}"), RecordOf("salse", "{}")});
  ExpectRefused(status, kNotFound, "STREAM_NOT_FOUND",
                AllOf(HasSubstr("salse"), HasSubstr("icepie stream create salse")));
  v1::GetStreamRequest get;
  v1::Stream stream;
  get.set_name("salse");
  ExpectRefused(daemon_->Core()->GetStream(Limit().get(), get, &stream), kNotFound,
                "STREAM_NOT_FOUND", HasSubstr("salse"));
  v1::ReadRecordsRequest read;
  read.add_streams("salse");
  const auto context = Limit();
  const auto reader = daemon_->Core()->ReadRecords(context.get(), read);
  v1::ReadRecordsResponse part;
  EXPECT_FALSE(reader->Read(&part));
  ExpectRefused(reader->Finish(), kNotFound, "STREAM_NOT_FOUND", HasSubstr("salse"));
}

TEST_F(BadInputTest, MalformedJsonRefusesTheWholeBatchAndNamesTheRecord) {
  const std::vector<v1::Record> batch = {RecordOf("sales", R"({"item":"apple","amount":1})"),
                                         RecordOf("scraps", "anything"),
                                         RecordOf("sales", R"({"item":"plum","amount":nope})")};
  for (const auto& status : {AppendAll(batch), StreamAll(batch)}) {
    ExpectRefused(
        status, kInvalid, "PAYLOAD_INVALID",
        AllOf(HasSubstr("record 2"), HasSubstr("stream sales"), HasSubstr("nothing of the batch")));
    EXPECT_THAT(BadFields(status), ::testing::ElementsAre("records[2].payload"));
  }
}

TEST_F(BadInputTest, OversizedRecord) {
  const std::string payload = absl::StrCat("\"", std::string(1 << 20, 'x'), "\"");
  const auto status = AppendAll({RecordOf("sales", "{}"), RecordOf("sales", payload)});
  ExpectRefused(status, kInvalid, "RECORD_TOO_LARGE",
                AllOf(HasSubstr("record 1"), HasSubstr("1048578 bytes"),
                      HasSubstr("1048576 are allowed"), HasSubstr("store the rest elsewhere")));
  EXPECT_THAT(BadFields(status), ::testing::ElementsAre("records[1]"));
}

TEST_F(BadInputTest, OversizedBatch) {
  const std::string payload = absl::StrCat("\"", std::string(1'000'000, 'x'), "\"");
  ExpectRefused(AppendAll(std::vector<v1::Record>(4, RecordOf("sales", payload))), kInvalid,
                "BATCH_TOO_LARGE", AllOf(HasSubstr("4000008 bytes"), HasSubstr("split it")));
  ExpectRefused(AppendAll(std::vector<v1::Record>(65'537, RecordOf("sales", "1"))), kInvalid,
                "BATCH_TOO_LARGE", AllOf(HasSubstr("65537 records"), HasSubstr("split it")));
}

// Refused by gRPC itself before it is read, so that nobody fills the daemon's memory.
TEST_F(BadInputTest, AMessageFarBeyondEveryLimitIsNotEvenRead) {
  const std::string payload = absl::StrCat("\"", std::string(1'000'000, 'x'), "\"");
  const auto status = AppendAll(std::vector<v1::Record>(12, RecordOf("sales", payload)));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
}

TEST_F(BadInputTest, EmptyBatch) {
  for (const auto& status : {AppendAll({}), StreamAll({})}) {
    ExpectRefused(status, kInvalid, "BATCH_EMPTY", HasSubstr("send at least one"));
  }
}

TEST_F(BadInputTest, WhatTheCoreGivesMayNotBeSent) {
  v1::Record record = RecordOf("sales", "{}");
  record.set_position(0);
  const auto status = AppendAll({record});
  ExpectRefused(status, kInvalid, "PARAMETER_INVALID", HasSubstr("position"));
  EXPECT_THAT(BadFields(status), ::testing::ElementsAre("records[0].position"));
}

TEST_F(BadInputTest, StreamNames) {
  for (const std::string name : {"", "Sales", "sa les", "_mine", "ümlaut"}) {
    const auto status = daemon_->CreateStream(name);
    ExpectRefused(status, kInvalid, "STREAM_NAME_INVALID", HasSubstr("a-z"));
  }
}

TEST_F(BadInputTest, UnknownFieldInYaml) {
  const auto status = ApplyWith("    key: [item]\n", "    keys: [item]\n");
  ExpectRefused(status, kInvalid, "DEFINITION_INVALID",
                AllOf(HasSubstr("test.yaml:8:5"), HasSubstr("keys"), HasSubstr("key")));
}

TEST_F(BadInputTest, BadTypesInYaml) {
  ExpectRefused(ApplyWith("amount: INTEGER", "amount: INTEGRE"), kInvalid, "DEFINITION_INVALID",
                AllOf(HasSubstr("test.yaml:3:"), HasSubstr("INTEGRE")));
  ExpectRefused(ApplyWith("    key: [item]\n", "    key: {item: 1}\n"), kInvalid,
                "DEFINITION_INVALID", AllOf(HasSubstr("test.yaml:8:"), HasSubstr("key")));
}

TEST_F(BadInputTest, DuplicateKeyInYaml) {
  ExpectRefused(ApplyWith("  scraps_by_item:\n", "  by_item:\n"), kInvalid, "DEFINITION_INVALID",
                AllOf(HasSubstr("test.yaml:9:3"), HasSubstr("by_item")));
}

TEST_F(BadInputTest, NoYamlAtAll) {
  for (const std::string file : {"", "domain: [", "- a\n- b\n", "domain: shop\n\tslices: 1\n"}) {
    const auto status = Apply(file);
    ExpectRefused(status, kInvalid, "DEFINITION_INVALID", HasSubstr("test.yaml"));
  }
}

TEST_F(BadInputTest, EveryBadFieldIsNamedAtOnce) {
  const std::string file = absl::StrReplaceAll(
      kShop, {{"amount: INTEGER", "amount: INTEGRE"}, {"    key: [item]\n", "    kay: [item]\n"}});
  const auto status = Apply(file);
  ExpectRefused(status, kInvalid, "DEFINITION_INVALID", HasSubstr("test.yaml:3:"));
  EXPECT_EQ(BadFields(status).size(), 3U) << ::testing::PrintToString(BadFields(status));
}

TEST_F(BadInputTest, DefinitionThatDoesNotParse) {
  const auto status = ApplyWith("GROUP BY ALL\n    key: [item]\n  scraps",
                                "GROUPE BY ALL\n    key: [item]\n  scraps");
  ExpectRefused(status, kInvalid, "SQL_SYNTAX",
                AllOf(HasSubstr("test.yaml:7:"), HasSubstr("by_item"), HasSubstr("BY")));
}

TEST_F(BadInputTest, DefinitionThatIsNotASelect) {
  const std::string select = "SELECT item, count(*) AS scraps FROM scraps GROUP BY ALL";
  for (const auto& [sql, names] :
       std::map<std::string, std::string>{{"DELETE FROM scraps", "DELETE is not allowed"},
                                          {"CREATE TABLE t AS SELECT 1", "CREATE is not allowed"},
                                          {"ATTACH 'x'", "ATTACH is not allowed"},
                                          {"COPY scraps TO 'x'", "COPY is not allowed"},
                                          {"INSTALL httpfs", "INSTALL is not allowed"},
                                          {"SELECT 1; SELECT 2", "2 statements"},
                                          {"PRAGMA version", "PRAGMA is not allowed"}}) {
    const auto status = ApplyWith(select, absl::StrCat("\"", sql, "\""));
    ExpectRefused(status, kInvalid, "SQL_NOT_A_SELECT",
                  AllOf(HasSubstr("test.yaml:10:"), HasSubstr("scraps_by_item"), HasSubstr(names)));
  }
}

TEST_F(BadInputTest, DefinitionThatIsTooComplex) {
  const std::string select = "SELECT item, count(*) AS scraps FROM scraps GROUP BY ALL";
  std::string columns = "SELECT item AS c0";
  for (int i = 1; i < 20'000; ++i) absl::StrAppend(&columns, ", item AS c", i);
  std::string deep = "item";
  for (int i = 0; i < 1'000; ++i) deep = absl::StrCat("lower(", deep, ")");
  for (const std::string& sql :
       {columns + " FROM scraps", absl::StrCat("SELECT '", std::string(1'000'000, 'x'), "' AS t"),
        absl::StrCat("SELECT ", deep, " AS v FROM scraps")}) {
    ExpectRefused(ApplyWith(select, sql), kInvalid, "SQL_TOO_COMPLEX",
                  AllOf(HasSubstr("test.yaml:10:"), HasSubstr("scraps_by_item")));
  }
}

TEST_F(BadInputTest, QueryThatDoesNotParse) {
  ExpectRefused(Query("shop", "SELECT item\nFROM by_item WERE item = 'x' AND"), kInvalid,
                "SQL_SYNTAX", AllOf(HasSubstr("line 2"), HasSubstr("column")));
  ExpectRefused(Query("shop", "   "), kInvalid, "SQL_NOT_A_SELECT", HasSubstr("SELECT"));
}

TEST_F(BadInputTest, QueryThatIsNotASelect) {
  for (const auto& [sql, word] :
       std::map<std::string, std::string>{{"DELETE FROM by_item", "DELETE"},
                                          {"SELECT 1; DROP VIEW by_item", "DROP"},
                                          {"SET x = 1", "SET"},
                                          {"COPY by_item TO '/tmp/x'", "COPY"},
                                          {"EXPLAIN SELECT 1", "EXPLAIN"},
                                          {"CALL f()", "CALL"}}) {
    ExpectRefused(Query("shop", sql), kInvalid, "SQL_NOT_A_SELECT",
                  HasSubstr(absl::StrCat(word, " is not allowed: only one SELECT")));
  }
}

TEST_F(BadInputTest, UnknownColumnOfAQuery) {
  ExpectRefused(Query("shop", "SELECT totals FROM by_item"), kInvalid, "SQL_UNKNOWN_COLUMN",
                AllOf(HasSubstr("totals"), HasSubstr("total")));
}

TEST_F(BadInputTest, SelectionsThatAreNotComplete) {
  v1::QueryRequest select;
  v1::QueryResponse answer;
  select.set_domain("shop");
  select.mutable_select()->set_slice("by_item");
  auto* filter = select.mutable_select()->add_filters();
  filter->set_column("item");
  filter->add_values()->set_text("x");
  const auto expect = [&](const std::string& words) {
    ExpectRefused(daemon_->Slices()->Query(Limit().get(), select, &answer), kInvalid,
                  "PARAMETER_INVALID", HasSubstr(words));
  };
  expect("the filter of column \"item\" has no operator: set one of EQ, NEQ, LT,");
  filter->set_operator_(static_cast<v1::Filter::Operator>(42));
  expect("the filter of column \"item\" has operator 42, which is not known: set one of EQ,");
  filter->set_operator_(v1::Filter::IN);
  filter->add_values();
  expect("in the filter of column \"item\" is a value of no kind: set one of null, boolean,");
  select.mutable_select()->clear_filters();
  (*select.mutable_parameters())["city"];
  expect("parameter $city is a value of no kind: set one of null, boolean,");
  select.clear_parameters();
  select.set_format(static_cast<v1::RowFormat>(9));
  expect("format 9 is not known: set one of ROW_FORMAT_JSON,");
}

TEST_F(BadInputTest, UnknownSlice) {
  ExpectRefused(Query("shop", "SELECT * FROM by_itme"), kNotFound, "SLICE_NOT_FOUND",
                AllOf(HasSubstr("by_itme"), HasSubstr("by_item")));
  v1::QueryRequest select;
  v1::QueryResponse answer;
  select.set_domain("shop");
  select.mutable_select()->set_slice("by_itme");
  ExpectRefused(daemon_->Slices()->Query(Limit().get(), select, &answer), kNotFound,
                "SLICE_NOT_FOUND", AllOf(HasSubstr("by_itme"), HasSubstr("by_item")));
}

TEST_F(BadInputTest, UnknownSliceOfAnOperator) {
  const auto names_it =
      AllOf(HasSubstr("domain shop has no slice \"by_itme\""), HasSubstr("by_item"));
  v1::Slice slice;
  v1::GetSliceRequest get;
  get.set_name("shop.by_itme");
  ExpectRefused(daemon_->Slices()->GetSlice(Limit().get(), get, &slice), kNotFound,
                "SLICE_NOT_FOUND", names_it);
  v1::FreezeSliceRequest freeze;
  freeze.set_name("shop.by_itme");
  freeze.set_reason("INC-1");
  ExpectRefused(daemon_->Admin()->FreezeSlice(Limit().get(), freeze, &slice), kNotFound,
                "SLICE_NOT_FOUND", names_it);
  v1::ResliceSliceRequest reslice;
  google::longrunning::Operation operation;
  reslice.set_name("shop.by_itme");
  ExpectRefused(daemon_->Admin()->ResliceSlice(Limit().get(), reslice, &operation), kNotFound,
                "SLICE_NOT_FOUND", names_it);
  v1::ListQuarantinedRecordsRequest quarantine;
  v1::ListQuarantinedRecordsResponse records;
  quarantine.set_name("shop.by_itme");
  ExpectRefused(daemon_->Admin()->ListQuarantinedRecords(Limit().get(), quarantine, &records),
                kNotFound, "SLICE_NOT_FOUND", names_it);
}

TEST_F(BadInputTest, ANameThatIsNoSliceName) {
  v1::Slice slice;
  v1::GetSliceRequest get;
  get.set_name("by_item");
  ExpectRefused(daemon_->Slices()->GetSlice(Limit().get(), get, &slice), kInvalid,
                "PARAMETER_INVALID", AllOf(HasSubstr("by_item"), HasSubstr("domain")));
}

TEST_F(BadInputTest, UnknownDomain) {
  const auto names_it = AllOf(HasSubstr("shoop"), HasSubstr("shop"));
  ExpectRefused(Query("shoop", "SELECT 1"), kNotFound, "DOMAIN_NOT_FOUND", names_it);
  v1::GetDomainRequest get;
  v1::Domain domain;
  get.set_name("shoop");
  ExpectRefused(daemon_->Admin()->GetDomain(Limit().get(), get, &domain), kNotFound,
                "DOMAIN_NOT_FOUND", names_it);
  v1::ListSlicesRequest list;
  v1::ListSlicesResponse slices;
  list.set_domain("shoop");
  ExpectRefused(daemon_->Slices()->ListSlices(Limit().get(), list, &slices), kNotFound,
                "DOMAIN_NOT_FOUND", names_it);
}

TEST_F(BadInputTest, UnknownOperation) {
  google::longrunning::GetOperationRequest get;
  google::longrunning::Operation operation;
  get.set_name("operations/op-4711");
  ExpectRefused(daemon_->Operations()->GetOperation(Limit().get(), get, &operation), kNotFound,
                "OPERATION_NOT_FOUND", HasSubstr("op-4711"));
}

TEST_F(BadInputTest, ADataDirectoryInUseIsRefusedInOneLine) {
  const ProgramEnd end = daemon_->RunIcepied({});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(end.errors, HasSubstr(absl::StrCat("in use by process ", daemon_->pid())));
  EXPECT_THAT(end.errors, HasSubstr(daemon_->data_directory()));
  EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1) << end.errors;
}

TEST_F(BadInputTest, WrongSettingsRefuseTheStart) {
  const ProgramEnd end = daemon_->RunIcepied({"--config=/nowhere/icepie.yaml"});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(end.errors, HasSubstr("/nowhere/icepie.yaml"));
  EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1) << end.errors;
}

TEST_F(BadInputTest, SettingsAreCheckedBeforeAnythingStarts) {
  const std::string path = absl::StrCat(daemon_->data_directory(), ".yaml");
  const std::map<std::string, std::string> cases = {
      {"core:\n  record_bytes_mx: 1MiB\n", ":2:3: "},
      {"core:\n  record_bytes_max: much\n", ":2:"},
      {"core:\n  record_bytes_max: 1\n", ":2:"},
      {"logging: {level: info}\nlogging: {level: warn}\n", ":2:1: "}};
  for (const auto& [yaml, place] : cases) {
    std::ofstream(path) << yaml;
    const ProgramEnd end = daemon_->RunIcepied({"--config=" + path});
    EXPECT_EQ(end.exit_code, 3) << yaml;
    EXPECT_THAT(end.errors, HasSubstr(path + place)) << yaml;
    EXPECT_EQ(std::count(end.errors.begin(), end.errors.end(), '\n'), 1) << end.errors;
  }
}

TEST_F(BadInputTest, HttpPathsAndNames) {
  auto http = Http();
  ExpectProblem(http.Get("/v2/nothing"), 404, "PATH_NOT_FOUND", "/v1/domains");
  ExpectProblem(http.Get("/v1/domains/shop/slices/by_itme/rows"), 404, "SLICE_NOT_FOUND",
                "by_itme");
  ExpectProblem(http.Get("/v1/domains/shop/slices/by_itme/rows?item=eq.x"), 404, "SLICE_NOT_FOUND",
                "by_itme");
  ExpectProblem(http.Get("/v1/domains/shoop/slices/by_item/rows"), 404, "DOMAIN_NOT_FOUND",
                "shoop");
  ExpectProblem(http.Get("/v1/domains/shoop/slices/by_item/rows?item=eq.x"), 404,
                "DOMAIN_NOT_FOUND", "shoop");
  ExpectProblem(http.Post("/v1/domains/shoop:query", R"({"sql":"SELECT 1"})"), 404,
                "DOMAIN_NOT_FOUND", "shoop");
}

TEST_F(BadInputTest, HttpParameters) {
  auto http = Http();
  const std::string rows = "/v1/domains/shop/slices/by_item/rows?";
  ExpectProblem(http.Get(rows + "itme=eq.x"), 400, "UNKNOWN_COLUMN", "item, sales, total");
  ExpectProblem(http.Get(rows + "select=itme"), 400, "UNKNOWN_COLUMN", "item, sales, total");
  ExpectProblem(http.Get(rows + "sales=like.x"), 400, "PARAMETER_INVALID", "have: eq.");
  ExpectProblem(http.Get(rows + "sales=eq.many"), 400, "PARAMETER_INVALID", "many");
  ExpectProblem(http.Get(rows + "limit=-1"), 400, "PARAMETER_INVALID", "-1");
  ExpectProblem(http.Get(rows + "_fromat=json"), 400, "PARAMETER_INVALID", "_format");
  ExpectProblem(http.Get(rows + "_format=xml"), 400, "PARAMETER_INVALID",
                "format \"xml\" is not known (have: csv, json, ndjson)");
  ExpectProblem(http.Get(rows + "_numbers=text"), 400, "PARAMETER_INVALID",
                "numbers \"text\" is not known (have: number, string)");
  ExpectProblem(http.Get(rows + "_min_position=99999"), 400, "POSITION_AHEAD_OF_CORE", "99999");
}

TEST_F(BadInputTest, HttpQueries) {
  auto http = Http();
  const std::string query = "/v1/domains/shop:query";
  ExpectProblem(http.Post(query, R"({"sql":"SELECT 1"})", "text/plain"), 415,
                "CONTENT_TYPE_INVALID", "application/json");
  ExpectProblem(http.Post(query, R"({"sql":"SELECT 1")"), 400, "BODY_INVALID", "well-formed");
  ExpectProblem(http.Post(query, R"({"query":"SELECT 1"})"), 400, "BODY_INVALID", "sql");
  ExpectProblem(http.Post(query, R"({"sql":"SELECT item FRM by_item"})"), 400, "SQL_SYNTAX",
                "line 1");
  ExpectProblem(http.Post(query, R"({"sql":"DROP TABLE by_item"})"), 400, "SQL_NOT_A_SELECT",
                "SELECT");
  ExpectProblem(http.Post(query, R"({"sql":"SELECT * FROM by_itme"})"), 404, "SLICE_NOT_FOUND",
                "by_itme");
  ExpectProblem(http.Get(query), 405, "METHOD_NOT_ALLOWED", "POST");
}

// Streams of format bytes take anything; a slice sets aside what it cannot read. This one does
// append, so it has a daemon of its own.
TEST(BadRecordTest, AStreamOfBytesTakesAnythingAndTheSliceQuarantinesIt) {
  DaemonFixture daemon;
  daemon.Start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  ASSERT_TRUE(daemon.CreateStream("sales").ok());
  v1::CreateStreamRequest bytes;
  v1::Stream created;
  bytes.set_name("scraps");
  bytes.set_format(v1::PAYLOAD_FORMAT_BYTES);
  ASSERT_TRUE(daemon.Core()->CreateStream(Within(absl::Seconds(60)).get(), bytes, &created).ok());
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon.Apply(kShop, &applied).ok());
  const auto end = daemon.Append(
      "scraps",
      {R"({"item":"rope"})", "{\"item\":", std::string("\xff\0\1", 3), R"({"item":7})", ""});
  ASSERT_TRUE(end.ok()) << end.status();
  v1::QueryResponse answer;
  grpc::Status status;
  ASSERT_TRUE(Eventually([&] {
    status = daemon.Query("shop", "SELECT item, scraps FROM scraps_by_item", *end, &answer);
    return status.ok();
  })) << status.error_message();
  EXPECT_EQ(answer.body(), R"([{"item":"rope","scraps":1}])");
  EXPECT_EQ(answer.meta().slices(0).quarantined_count(), 4);

  v1::ListQuarantinedRecordsRequest request;
  v1::ListQuarantinedRecordsResponse quarantine;
  request.set_name("shop.scraps_by_item");
  status =
      daemon.Admin()->ListQuarantinedRecords(Within(absl::Seconds(60)).get(), request, &quarantine);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(quarantine.total(), 4);
  std::vector<int64_t> offsets;
  for (const auto& record : quarantine.records()) offsets.push_back(record.offset());
  EXPECT_THAT(offsets, ::testing::ElementsAre(1, 2, 3, 4));
  // What a slice says of itself follows its worker's reports.
  EXPECT_TRUE(
      Eventually([&] { return daemon.GetSlice("shop.scraps_by_item").counts().input() == 5; }));
  EXPECT_EQ(daemon.GetSlice("shop.scraps_by_item").counts().applied(), 1);
  EXPECT_EQ(daemon.GetSlice("shop.by_item").meta().quarantined_count(), 0);
}

}  // namespace
}  // namespace icepie::testing
