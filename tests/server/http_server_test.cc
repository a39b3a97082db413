#include "server/http/http_server.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "tests/server/http_client.h"

namespace icepie::server {
namespace {

using icepie::v1::QueryRequest;
using icepie::v1::QueryResponse;
using icepie::v1::ServerStatus;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

// Answers with what it is told to, or keeps the question until the test answers it.
class FakeRouter : public QueryRouter {
 public:
  CallOff Ask(const QueryRequest& request, absl::Time, int64_t, Done done) override {
    MutexLock lock(mutex_);
    asked_.push_back(request);
    if (!holds_) {
      done(answer_, nullptr);
      return nullptr;
    }
    held_.push_back(std::move(done));
    changed_.SignalAll();
    return [this] {
      MutexLock called_off(mutex_);
      ++called_off_;
      changed_.SignalAll();
    };
  }

  bool WaitForCallOff(absl::Duration timeout) {
    const absl::Time deadline = SteadyNow() + timeout;
    MutexLock lock(mutex_);
    while (called_off_ == 0 && SteadyNow() < deadline) {
      changed_.WaitFor(mutex_, deadline - SteadyNow());
    }
    return called_off_ > 0;
  }

  int called_off() {
    MutexLock lock(mutex_);
    return called_off_;
  }

  void set_answer(absl::StatusOr<QueryResponse> answer) {
    MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }

  void Hold() {
    MutexLock lock(mutex_);
    holds_ = true;
  }

  Done WaitForQuestion() {
    MutexLock lock(mutex_);
    while (held_.empty()) changed_.Wait(mutex_);
    Done done = std::move(held_.front());
    held_.erase(held_.begin());
    return done;
  }

  QueryRequest last() {
    MutexLock lock(mutex_);
    return asked_.empty() ? QueryRequest() : asked_.back();
  }

  size_t asked() {
    MutexLock lock(mutex_);
    return asked_.size();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool holds_ ABSL_GUARDED_BY(mutex_) = false;
  absl::StatusOr<QueryResponse> answer_ ABSL_GUARDED_BY(mutex_) = QueryResponse();
  std::vector<QueryRequest> asked_ ABSL_GUARDED_BY(mutex_);
  std::vector<Done> held_ ABSL_GUARDED_BY(mutex_);
  int called_off_ ABSL_GUARDED_BY(mutex_) = 0;
};

QueryResponse Rows() {
  QueryResponse response;
  auto* meta = response.mutable_meta();
  meta->set_etag("W/\"g7-c93110-s4\"");
  meta->set_head_position(81'204'990);
  meta->set_stale(true);
  auto* slice = meta->add_slices();
  slice->set_slice("payments.volume");
  slice->set_generation(7);
  slice->set_stale(true);
  slice->set_stale_reason(icepie::v1::SLICE_FROZEN);
  slice->set_state(icepie::v1::FROZEN);
  slice->set_applied_position(81'204'113);
  slice->mutable_applied_time()->set_seconds(1'795'316'321);
  slice->set_lag_records(877);
  slice->set_quarantined_count(1001);
  slice->add_failed_expectations("volume_positive");
  slice->set_source(icepie::v1::LIVE);
  auto* column = response.add_columns();
  column->set_name("volume");
  column->set_type("DECIMAL(38,2)");
  response.set_body(R"([{"volume":120.550}])");
  response.set_row_count(1);
  return response;
}

ServerStatus Status() {
  ServerStatus status;
  status.set_version("0.1.0");
  status.set_head_position(81'204'990);
  status.set_core_disk_full(true);
  status.set_core_disk_free_bytes(41);
  status.mutable_core_storage()->set_sealed_position(81'000'000);
  status.mutable_core_scrub()->set_finding_count(2);
  status.mutable_core_scrub()->mutable_verified_time()->set_seconds(1795312800);
  auto* slice = status.add_slices();
  slice->set_name("payments.volume");
  slice->set_state(icepie::v1::FROZEN);
  slice->mutable_meta()->set_stale(true);
  slice->mutable_meta()->set_applied_position(81'204'113);
  slice->mutable_meta()->mutable_lag_time()->set_seconds(2);
  slice->mutable_meta()->mutable_lag_time()->set_nanos(500'000'000);
  for (const auto& [name, type] :
       std::vector<std::pair<std::string, std::string>>{{"chain", "VARCHAR"},
                                                        {"transfers", "BIGINT"},
                                                        {"volume", "DECIMAL(38,2)"},
                                                        {"share", "DOUBLE"},
                                                        {"open", "BOOLEAN"}}) {
    auto* column = slice->add_columns();
    column->set_name(name);
    column->set_type(type);
  }
  status.add_slices()->set_name("payments.unborn");
  auto* worker = status.add_workers();
  worker->set_domain("payments");
  worker->set_role("live");
  worker->set_state("down");
  worker->set_restarts(3);
  worker = status.add_workers();
  worker->set_domain("payments");
  worker->set_role("standby");
  worker->set_state("running");
  return status;
}

constexpr char kRows[] = "/v1/domains/payments/slices/volume/rows";

class HttpServerTest : public ::testing::Test {
 protected:
  void Start(const HttpLimits& limits = {}) {
    auto server = HttpServer::Start(
        "127.0.0.1:0", router_, [this] { return status_; }, tree_,
        [this](icepie::v1::AppendRecordsRequest request, AppendDone done) {
          appended_.push_back(std::move(request));
          done(append_answer_);
        },
        limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  int port() const { return server_->port(); }

  ClientAnswer Get(const std::string& target, const std::string& headers = "") {
    HttpClient client(port());
    return client.Get(target, headers);
  }

  // The reason of a problem, with its status and type checked.
  std::string ReasonOf(const ClientAnswer& answer, int status) {
    EXPECT_EQ(answer.status, status) << answer.body;
    if (answer.headers.count("content-type") == 0) return "no content";
    EXPECT_EQ(answer.headers.at("content-type"), "application/problem+json");
    const json problem = json::parse(answer.body);
    EXPECT_EQ(problem.at("status"), status);
    EXPECT_FALSE(problem.at("detail").get<std::string>().empty());
    return problem.at("reason");
  }

  ServerStatus status_ = Status();
  TreeFiles tree_;
  FakeRouter router_;
  std::vector<icepie::v1::AppendRecordsRequest> appended_;  // by one connection at a time
  absl::StatusOr<icepie::v1::AppendRecordsResponse> append_answer_{
      icepie::v1::AppendRecordsResponse()};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, RowsWithTheirMeta) {
  Start();
  router_.set_answer(Rows());
  const ClientAnswer answer = Get(kRows);
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  EXPECT_EQ(answer.headers.at("etag"), "W/\"g7-c93110-s4\"");
  EXPECT_EQ(answer.headers.at("cache-control"), "no-cache, stale-if-error=86400");
  EXPECT_EQ(answer.headers.at("age"), "0");
  EXPECT_EQ(answer.headers.at("icepie-stale"), "?1;reason=SLICE_FROZEN");
  EXPECT_EQ(answer.headers.at("icepie-applied-position"), "81204113");
  EXPECT_EQ(answer.headers.at("icepie-head-position"), "81204990");
  EXPECT_EQ(answer.headers.at("icepie-source"), "LIVE");
  // The router's bytes are passed on as they are: 120.550 keeps its zero.
  EXPECT_THAT(answer.body, HasSubstr(R"("rows":[{"volume":120.550}]})"));
  const json body = json::parse(answer.body);
  EXPECT_EQ(body["columns"][0]["type"], "DECIMAL(38,2)");
  EXPECT_EQ(body["meta"]["stale"], true);
  EXPECT_EQ(body["meta"]["slices"][0]["stale_reason"], "SLICE_FROZEN");
  EXPECT_EQ(body["meta"]["slices"][0]["applied_position"], 81'204'113);
  EXPECT_EQ(body["meta"]["slices"][0]["applied_time"], "2026-11-22T02:58:41Z");
  EXPECT_EQ(body["meta"]["slices"][0]["failed_expectations"], json({"volume_positive"}));
  EXPECT_EQ(router_.last().domain(), "payments");
  EXPECT_EQ(router_.last().select().slice(), "volume");
}

TEST_F(HttpServerTest, NotModifiedCarriesTheSameHeaders) {
  Start();
  router_.set_answer(Rows());
  for (const char* tag :
       {"W/\"g7-c93110-s4\"", "\"g7-c93110-s4\"", "\"x\", W/\"g7-c93110-s4\"", "*"}) {
    const ClientAnswer answer = Get(kRows, std::string("If-None-Match: ") + tag + "\r\n");
    EXPECT_EQ(answer.status, 304) << tag;
    EXPECT_EQ(answer.headers.at("etag"), "W/\"g7-c93110-s4\"");
    EXPECT_EQ(answer.headers.at("icepie-stale"), "?1;reason=SLICE_FROZEN");
    EXPECT_EQ(answer.headers.at("icepie-applied-position"), "81204113");
    EXPECT_EQ(answer.body, "");
  }
  EXPECT_EQ(Get(kRows, "If-None-Match: \"g7\"\r\n").status, 200);
  EXPECT_EQ(router_.last().if_none_match(), "W/\"g7\"");  // as the router writes its own
}

TEST_F(HttpServerTest, NotModifiedByTheRouter) {
  Start();
  QueryResponse response = Rows();
  response.set_not_modified(true);
  response.clear_body();
  router_.set_answer(response);
  EXPECT_EQ(Get(kRows, "If-None-Match: W/\"older\"\r\n").status, 304);
}

TEST_F(HttpServerTest, FreshAnswerSaysSo) {
  Start();
  QueryResponse response = Rows();
  response.mutable_meta()->set_stale(false);
  response.mutable_meta()->mutable_slices(0)->set_stale(false);
  response.clear_body();
  router_.set_answer(response);
  const ClientAnswer answer = Get(kRows);
  EXPECT_EQ(answer.headers.at("icepie-stale"), "?0");
  EXPECT_EQ(json::parse(answer.body)["rows"], json::array());
}

TEST_F(HttpServerTest, ParametersBecomeASelect) {
  Start();
  ASSERT_EQ(Get(std::string(kRows) +
                "?select=chain,volume&chain=in.(eth,%22a,b%22)&transfers=gte.9007199254740993"
                "&volume=lt.-120.55&share=neq.0.5&open=eq.true&chain=is.notnull"
                "&order=volume.desc,chain&limit=50&_format=json&_min_position=7&_as_of=close"
                "&_max_staleness=1m30s&_on_stale=wait")
                .status,
            200);
  const QueryRequest asked = router_.last();
  const auto& select = asked.select();
  EXPECT_THAT(select.columns(), ::testing::ElementsAre("chain", "volume"));
  ASSERT_EQ(select.filters_size(), 6);
  EXPECT_EQ(select.filters(0).operator_(), icepie::v1::Filter::IN);
  EXPECT_EQ(select.filters(0).values(1).text(), "a,b");
  EXPECT_EQ(select.filters(1).operator_(), icepie::v1::Filter::GTE);
  EXPECT_EQ(select.filters(1).values(0).integer(), 9007199254740993);
  EXPECT_EQ(select.filters(2).values(0).decimal(), "-120.55");
  EXPECT_EQ(select.filters(3).values(0).double_(), 0.5);
  EXPECT_TRUE(select.filters(4).values(0).boolean());
  EXPECT_EQ(select.filters(5).operator_(), icepie::v1::Filter::IS_NOT_NULL);
  EXPECT_EQ(select.filters(5).values_size(), 0);
  ASSERT_EQ(select.order_by_size(), 2);
  EXPECT_TRUE(select.order_by(0).descending());
  EXPECT_FALSE(select.order_by(1).descending());
  EXPECT_EQ(select.limit(), 50);
  EXPECT_EQ(asked.consistency().min_position(), 7);
  EXPECT_EQ(asked.consistency().as_of_snapshot(), "close");
  EXPECT_EQ(asked.consistency().max_staleness().seconds(), 90);
  EXPECT_EQ(asked.consistency().on_stale(), icepie::v1::Consistency::WAIT);
}

TEST_F(HttpServerTest, CsvAndLinesSayTheirMetaInHeaders) {
  Start();
  QueryResponse response = Rows();
  response.set_body("volume\r\n120.550\r\n");
  router_.set_answer(response);
  const ClientAnswer csv = Get(std::string(kRows) + "?_format=csv");
  ASSERT_EQ(csv.status, 200);
  EXPECT_EQ(router_.last().format(), icepie::v1::ROW_FORMAT_CSV);
  EXPECT_FALSE(router_.last().exact_as_text());
  EXPECT_EQ(csv.headers.at("content-type"), "text/csv; charset=utf-8; header=present");
  EXPECT_EQ(csv.headers.at("etag"), "W/\"g7-c93110-s4\"");
  EXPECT_EQ(csv.headers.at("icepie-stale"), "?1;reason=SLICE_FROZEN");
  EXPECT_EQ(csv.body, response.body());
  const json meta = json::parse(csv.headers.at("icepie-meta"));
  EXPECT_EQ(meta["stale"], true);
  EXPECT_EQ(meta["slices"][0]["slice"], "payments.volume");
  EXPECT_EQ(meta["slices"][0]["generation"], 7);
  EXPECT_EQ(meta["slices"][0]["quarantined_count"], 1001);
  EXPECT_EQ(meta["slices"][0]["applied_time"], "2026-11-22T02:58:41Z");

  response.set_body("{\"volume\":\"120.550\"}\n");
  router_.set_answer(response);
  const ClientAnswer lines = Get(std::string(kRows) + "?_format=ndjson&_numbers=string");
  EXPECT_EQ(router_.last().format(), icepie::v1::ROW_FORMAT_NDJSON);
  EXPECT_TRUE(router_.last().exact_as_text());
  EXPECT_EQ(lines.headers.at("content-type"), "application/x-ndjson");
  EXPECT_EQ(lines.body, "{\"volume\":\"120.550\"}\n{\"end\":{\"rows\":1}}\n");
  EXPECT_EQ(json::parse(lines.headers.at("icepie-meta")), meta);

  const ClientAnswer unchanged =
      Get(std::string(kRows) + "?_format=csv", "If-None-Match: W/\"g7-c93110-s4\"\r\n");
  EXPECT_EQ(unchanged.status, 304);
  EXPECT_EQ(json::parse(unchanged.headers.at("icepie-meta")), meta);
  EXPECT_EQ(Get(kRows).headers.count("icepie-meta"), 0U) << "the body has it";
}

TEST_F(HttpServerTest, TheMetaOfManySlicesFitsAHeader) {
  Start();
  QueryResponse response = Rows();
  for (int i = 0; i < 60; ++i) {
    *response.mutable_meta()->add_slices() = response.meta().slices(0);
  }
  router_.set_answer(response);
  const std::string header = Get(std::string(kRows) + "?_format=csv").headers.at("icepie-meta");
  EXPECT_LT(header.size(), 6000U);
  const json meta = json::parse(header);
  EXPECT_GT(meta["slices"].size(), 5U);
  EXPECT_EQ(meta["slices"].size() + meta["slices_left_out"].get<size_t>(), 61U);
}

// A header is ASCII: what is two bytes in a name are six there.
TEST_F(HttpServerTest, TheMetaOfSlicesWithOtherLettersFitsAHeader) {
  Start();
  QueryResponse response = Rows();
  std::string letters;
  for (int i = 0; i < 100; ++i) letters += "\u00e9";
  for (int i = 0; i < 20; ++i) {
    icepie::v1::SliceMeta* slice = response.mutable_meta()->add_slices();
    *slice = response.meta().slices(0);
    slice->set_slice("payments." + letters);
  }
  router_.set_answer(response);
  const std::string header = Get(std::string(kRows) + "?_format=csv").headers.at("icepie-meta");
  EXPECT_LT(header.size(), 4300U);
  const json meta = json::parse(header);
  EXPECT_GT(meta["slices"].size(), 2U);
  EXPECT_EQ(meta["slices"][1]["slice"], "payments." + letters);
  EXPECT_EQ(meta["slices"].size() + meta["slices_left_out"].get<size_t>(), 21U);
}

TEST_F(HttpServerTest, BadParametersNameThemselves) {
  Start();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"chian=eq.eth", "UNKNOWN_COLUMN"},          {"select=chian", "UNKNOWN_COLUMN"},
      {"order=chian.desc", "UNKNOWN_COLUMN"},      {"chain=eth", "PARAMETER_INVALID"},
      {"chain=like.eth", "PARAMETER_INVALID"},     {"transfers=eq.many", "PARAMETER_INVALID"},
      {"transfers=eq.", "PARAMETER_INVALID"},      {"chain=in.eth", "PARAMETER_INVALID"},
      {"chain=in.(%22eth)", "PARAMETER_INVALID"},  {"limit=-1", "PARAMETER_INVALID"},
      {"limit=ten", "PARAMETER_INVALID"},          {"limit=1&limit=2", "PARAMETER_INVALID"},
      {"_format=arrow", "PARAMETER_INVALID"},      {"_wat=1", "PARAMETER_INVALID"},
      {"_numbers=text", "PARAMETER_INVALID"},      {"_format=", "PARAMETER_INVALID"},
      {"_as_of=2026-11-22", "PARAMETER_INVALID"},  {"_min_position=-1", "PARAMETER_INVALID"},
      {"_max_staleness=5", "PARAMETER_INVALID"},   {"_max_staleness=-5s", "PARAMETER_INVALID"},
      {"_max_staleness=inf", "PARAMETER_INVALID"}, {"_on_stale=FAIL", "PARAMETER_INVALID"},
      {"chain=eq.%zz", "TARGET_INVALID"},          {"chain=eq.%ff%fe", "TARGET_INVALID"},
      {"ch%ffain=eq.a", "TARGET_INVALID"}};
  for (const auto& [parameters, reason] : cases) {
    const ClientAnswer answer = Get(std::string(kRows) + "?" + parameters);
    EXPECT_EQ(ReasonOf(answer, 400), reason) << parameters;
  }
  EXPECT_EQ(router_.asked(), 0U);
  EXPECT_THAT(Get(std::string(kRows) + "?chian=eq.eth").body,
              HasSubstr("have: chain, transfers, volume, share, open"));
}

TEST_F(HttpServerTest, PathsThatAreNotUtf8AreRefused) {
  Start();
  for (const char* path : {"/v1/domains/pay%ffments/slices/volume/rows",
                           "/v1/domains/payments/slices/%fe/rows", "/%c3"}) {
    EXPECT_EQ(ReasonOf(Get(path), 400), "TARGET_INVALID") << path;
  }
  EXPECT_EQ(router_.asked(), 0U);
}

TEST_F(HttpServerTest, FiltersOfUnknownOrUnbornSlices) {
  Start();
  EXPECT_EQ(ReasonOf(Get("/v1/domains/payments/slices/nope/rows?a=eq.1"), 404), "SLICE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Get("/v1/domains/nope/slices/volume/rows?a=eq.1"), 404), "DOMAIN_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Get("/v1/domains/payments/slices/unborn/rows?a=eq.1"), 503),
            "NO_SNAPSHOT_YET");
}

TEST_F(HttpServerTest, RouterErrorsAreProblems) {
  Start();
  router_.set_answer(
      MakeError(absl::StatusCode::kNotFound, "there is no slice volume", "SLICE_NOT_FOUND"));
  EXPECT_EQ(ReasonOf(Get(kRows), 404), "SLICE_NOT_FOUND");
  ErrorDetail detail{"TOO_MANY_QUERIES", {}, {}, 1500};
  router_.set_answer(MakeError(absl::StatusCode::kResourceExhausted, "too many", detail));
  const ClientAnswer answer = Get(kRows);
  EXPECT_EQ(ReasonOf(answer, 429), "TOO_MANY_QUERIES");
  EXPECT_EQ(answer.headers.at("retry-after"), "2");
  router_.set_answer(absl::UnavailableError("gone"));
  EXPECT_EQ(Get(kRows).headers.at("retry-after"), "1");
  router_.set_answer(absl::InternalError("bytes \xff that are no UTF-8"));
  EXPECT_EQ(ReasonOf(Get(kRows), 500), "INTERNAL");
}

TEST_F(HttpServerTest, PostedQuery) {
  Start();
  router_.set_answer(Rows());
  HttpClient client(port());
  const ClientAnswer answer = client.Post(
      "/v1/domains/payments:query",
      R"({"sql":"SELECT $a","parameters":{"a":1,"b":"x","c":null,"d":true,"e":1.5,"f":18446744073709551615},"min_position":9,"as_of":12,"max_staleness":"0","on_stale":"fail","format":"csv","numbers":"string"})",
      "application/json; charset=utf-8");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const QueryRequest asked = router_.last();
  EXPECT_EQ(asked.domain(), "payments");
  EXPECT_EQ(asked.sql(), "SELECT $a");
  EXPECT_EQ(asked.parameters().at("a").integer(), 1);
  EXPECT_EQ(asked.parameters().at("b").text(), "x");
  EXPECT_TRUE(asked.parameters().at("c").null());
  EXPECT_TRUE(asked.parameters().at("d").boolean());
  EXPECT_EQ(asked.parameters().at("e").double_(), 1.5);
  EXPECT_EQ(asked.parameters().at("f").decimal(), "18446744073709551615");
  EXPECT_EQ(asked.consistency().min_position(), 9);
  EXPECT_EQ(asked.consistency().as_of_position(), 12);
  EXPECT_TRUE(asked.consistency().has_max_staleness());
  EXPECT_EQ(asked.consistency().on_stale(), icepie::v1::Consistency::FAIL);
  EXPECT_EQ(asked.format(), icepie::v1::ROW_FORMAT_CSV);
  EXPECT_TRUE(asked.exact_as_text());
  EXPECT_EQ(answer.headers.at("content-type"), "text/csv; charset=utf-8; header=present");
}

TEST_F(HttpServerTest, LinesAreAppendedAsRecords) {
  Start();
  append_answer_->set_first_position(7);
  append_answer_->set_end_position(9);
  append_answer_->mutable_ingest_time()->set_seconds(1795312800);
  auto* range = append_answer_->add_streams();
  range->set_stream("orders");
  range->set_first_offset(3);
  range->set_end_offset(5);
  HttpClient client(port());
  const ClientAnswer answer =
      client.Post("/v1/streams/orders:append", "{\"a\": 1}\r\n\n {\"b\":2}",
                  "application/x-ndjson; charset=utf-8", "Idempotency-Key: k-1\r\n");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.headers.at("cache-control"), "no-store");
  EXPECT_EQ(answer.body, R"({"first_position":7,"end_position":9,"replayed":false,)"
                         R"("ingest_time":"2026-11-22T02:00:00Z",)"
                         R"("streams":[{"stream":"orders","first_offset":3,"end_offset":5}]})"
                         "\n");
  ASSERT_EQ(appended_.size(), 1u);
  EXPECT_EQ(appended_[0].request_id(), "k-1");
  ASSERT_EQ(appended_[0].records_size(), 2);
  EXPECT_EQ(appended_[0].records(0).stream(), "orders");
  EXPECT_EQ(appended_[0].records(0).payload(), "{\"a\": 1}");
  EXPECT_EQ(appended_[0].records(1).payload(), " {\"b\":2}");

  // One record, byte for byte, of as many lines as it likes.
  EXPECT_EQ(client.Post("/v1/streams/orders:append", "{\n}\n").status, 200);
  ASSERT_EQ(appended_[1].records_size(), 1);
  EXPECT_EQ(appended_[1].records(0).payload(), "{\n}\n");
  EXPECT_FALSE(appended_[1].has_request_id());
}

TEST_F(HttpServerTest, AppendsThatAreNoneAreRefused) {
  HttpLimits limits;
  limits.body_bytes_max = 1000;
  Start(limits);
  const char* path = "/v1/streams/orders:append";
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "application/jsonx"}) {
    EXPECT_EQ(ReasonOf(HttpClient(port()).Post(path, "{}", type), 415), "CONTENT_TYPE_INVALID");
  }
  EXPECT_EQ(ReasonOf(HttpClient(port()).Post(std::string(path) + "?_wait=1", "{}"), 400),
            "PARAMETER_INVALID");
  EXPECT_EQ(ReasonOf(HttpClient(port()).Post(path, "{}", "application/json",
                                             "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"),
                     400),
            "REQUEST_INVALID");
  EXPECT_EQ(ReasonOf(HttpClient(port()).Post(path, std::string(1001, ' ')), 413), "BODY_TOO_LARGE");
  const ClientAnswer got = Get(path);
  EXPECT_EQ(ReasonOf(got, 405), "METHOD_NOT_ALLOWED");
  EXPECT_EQ(got.headers.at("allow"), "POST");
  EXPECT_TRUE(appended_.empty());
}

TEST_F(HttpServerTest, ErrorsOfAppendsAreProblems) {
  Start();
  const auto refused = [this](absl::StatusCode code, const ErrorDetail& detail, int status) {
    append_answer_ = MakeError(code, "refused", detail);
    HttpClient client(port());
    const ClientAnswer answer = client.Post("/v1/streams/orders:append", "{}");
    EXPECT_EQ(ReasonOf(answer, status), detail.reason);
    return answer;
  };
  using Code = absl::StatusCode;
  const ClientAnswer full =
      refused(Code::kResourceExhausted, {"APPEND_QUEUE_FULL", {}, {}, 2500}, 429);
  EXPECT_EQ(full.headers.at("retry-after"), "3");
  refused(Code::kResourceExhausted, {"CORE_DISK_FULL", {}, {}, {}}, 507);
  refused(Code::kFailedPrecondition, {"CORE_READ_ONLY", {}, {}, {}}, 409);
  refused(Code::kAborted, {"REQUEST_ID_REUSED", {}, {}, {}}, 409);
  refused(Code::kInvalidArgument, {"BATCH_TOO_LARGE", {}, {}, {}}, 413);
  const ClientAnswer invalid =
      refused(Code::kInvalidArgument,
              {"PAYLOAD_INVALID", {}, {{"records[1].payload", "not JSON"}}, {}}, 400);
  EXPECT_EQ(json::parse(invalid.body)["violations"][0]["field"], "records[1].payload");
}

TEST_F(HttpServerTest, BadBodiesAreRefused) {
  Start();
  for (const char* body :
       {"", "{", "[]", "{}", R"({"sql":7})", R"({"sql":"SELECT 1","x":1})",
        R"({"sql":"SELECT 1","parameters":[]})", R"({"sql":"SELECT 1","parameters":{"a":[1]}})",
        R"({"sql":"SELECT 1","as_of":1.5})", R"({"sql":"SELECT 1","min_position":-1})",
        R"({"sql":"SELECT 1","max_staleness":5})", R"({"sql":"SELECT 1","on_stale":true})",
        "{\"sql\":\"SELECT '\xff'\"}",
        "{\"sql\":\"SELECT $a\",\"parameters\":{\"a\":\"\xff\xfe\"}}"}) {
    HttpClient client(port());
    EXPECT_EQ(ReasonOf(client.Post("/v1/domains/payments:query", body), 400), "BODY_INVALID")
        << body;
  }
  const std::string deep(100'000, '[');
  HttpClient client(port());
  EXPECT_EQ(ReasonOf(client.Post("/v1/domains/payments:query", deep), 400), "BODY_INVALID");
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", ""}) {
    HttpClient other(port());
    EXPECT_EQ(ReasonOf(other.Post("/v1/domains/payments:query", R"({"sql":"x"})", type), 415),
              "CONTENT_TYPE_INVALID");
  }
  EXPECT_EQ(router_.asked(), 0U);
}

TEST_F(HttpServerTest, MethodsAndPaths) {
  Start();
  const ClientAnswer health = Get("/healthz");
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.body, "ok\n");
  HttpClient client(port());
  const ClientAnswer deleted = client.Ask("DELETE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(ReasonOf(deleted, 405), "METHOD_NOT_ALLOWED");
  EXPECT_EQ(deleted.headers.at("allow"), "GET, HEAD");
  const ClientAnswer got = client.Get("/v1/domains/payments:query");
  EXPECT_EQ(ReasonOf(got, 405), "METHOD_NOT_ALLOWED");
  EXPECT_EQ(got.headers.at("allow"), "POST");
  for (const char* path : {"/", "/v1", "/v1/domains/a/slices/b", "/healthz/", "//healthz",
                           "/v1/domains/a/slices/b/rows/c", "/../etc/passwd"}) {
    EXPECT_EQ(ReasonOf(client.Get(path), 404), "PATH_NOT_FOUND") << path;
  }
  EXPECT_EQ(ReasonOf(client.Get("http://localhost/healthz"), 400), "TARGET_INVALID");
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  Start();
  HttpClient client(port());
  const ClientAnswer head = client.Ask("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "3");
  EXPECT_EQ(client.Get("/healthz").body, "ok\n");  // nothing of a body stood in between
}

TEST_F(HttpServerTest, TwoHostsAreRefused) {
  Start();
  HttpClient client(port());
  EXPECT_EQ(ReasonOf(client.Ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n"
                                "\r\n"),
                     400),
            "REQUEST_INVALID");
}

TEST_F(HttpServerTest, OnlyHostsOfThisMachine) {
  Start();
  for (const char* host : {"localhost", "LOCALHOST:7421", "127.0.0.1", "127.0.0.1:1", "[::1]:80"}) {
    HttpClient client(port());
    EXPECT_EQ(client.Ask(std::string("GET /healthz HTTP/1.1\r\nHost: ") + host + "\r\n\r\n").status,
              200)
        << host;
  }
  for (const char* host : {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "",
                           "localhost:", "localhost:80x", "10.0.0.1"}) {
    HttpClient client(port());
    EXPECT_EQ(
        ReasonOf(client.Ask(std::string("GET /healthz HTTP/1.1\r\nHost: ") + host + "\r\n\r\n"),
                 403),
        "HOST_NOT_ALLOWED")
        << host;
  }
  HttpClient client(port());
  EXPECT_EQ(client.Ask("GET /healthz HTTP/1.1\r\n\r\n").status, 403);
}

TEST_F(HttpServerTest, ReadinessFollowsTheWorkers) {
  Start();
  status_.set_core_disk_full(false);
  EXPECT_EQ(Get("/readyz").status, 200);  // the standby answers
  status_.mutable_workers(1)->set_state("backoff");
  const ClientAnswer answer = Get("/readyz");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.body, "no worker answers for: payments\n");
  // Another domain's outage is not everybody's.
  auto* other = status_.add_workers();
  other->set_domain("compliance");
  other->set_role("standby");
  other->set_state("running");
  const ClientAnswer partly = Get("/readyz");
  EXPECT_EQ(partly.status, 200);
  EXPECT_EQ(partly.body, "ready\nno worker answers for: payments\n");
  for (const char* rests : {"hibernating", "waiting"}) {
    status_.mutable_workers(0)->set_state(rests);
    EXPECT_EQ(Get("/readyz").body, "ready\n");
  }
}

// Slices answer on, so it is said and no reason to ask elsewhere.
TEST_F(HttpServerTest, ReadinessNamesACoreThatTakesNoAppends) {
  Start();
  status_.set_core_disk_full(true);
  EXPECT_EQ(Get("/readyz").body,
            "ready\ncore full: appends are refused until there is space on its disk\n");
  status_.set_core_read_only(true);
  status_.set_core_read_only_cause("a sync failed");
  const ClientAnswer answer = Get("/readyz");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "ready\ncore read-only: a sync failed\n");
}

TEST_F(HttpServerTest, Metrics) {
  Start();
  const ClientAnswer answer = Get("/metrics");
  EXPECT_EQ(answer.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const char* line :
       {"# TYPE icepie_core_head_position gauge\nicepie_core_head_position 81204990\n",
        "icepie_core_read_only 0\n", "icepie_core_disk_full 1\n",
        "icepie_core_disk_free_bytes 41\n", "icepie_core_sealed_position 81000000\n",
        "icepie_core_scrub_findings 2\n", "icepie_core_scrub_verified_time_seconds 1795312800\n",
        "icepie_slice_state{domain=\"payments\",slice=\"volume\",state=\"FROZEN\"} 1\n",
        "icepie_slice_state{domain=\"payments\",slice=\"volume\",state=\"RUNNING\"} 0\n",
        "icepie_slice_stale{domain=\"payments\",slice=\"volume\"} 1\n",
        "icepie_slice_applied_position{domain=\"payments\",slice=\"volume\"} 81204113\n",
        "icepie_slice_lag_seconds{domain=\"payments\",slice=\"volume\"} 2.5\n",
        "icepie_worker_hibernating{domain=\"payments\",role=\"standby\"} 0\n",
        "icepie_worker_waiting{domain=\"payments\",role=\"live\"} 0\n",
        "# TYPE icepie_worker_restarts_total counter\n",
        "icepie_worker_restarts_total{domain=\"payments\",role=\"live\"} 3\n",
        "icepie_worker_up{domain=\"payments\",role=\"standby\"} 1\n"}) {
    EXPECT_THAT(answer.body, HasSubstr(line));
  }
}

TEST_F(HttpServerTest, ASliceThatIsBeingDeletedHasAStateAlone) {
  auto& slice = *status_.mutable_slices(0);
  slice.set_state(icepie::v1::DELETING);
  slice.mutable_meta()->set_stale(true);
  Start();
  const std::string metrics = Get("/metrics").body;
  EXPECT_THAT(
      metrics,
      HasSubstr("icepie_slice_state{domain=\"payments\",slice=\"volume\",state=\"DELETING\"} 1\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("icepie_slice_stale{domain=\"payments\",slice=\"volume\"}")));
  EXPECT_THAT(metrics,
              Not(HasSubstr("icepie_slice_lag_records{domain=\"payments\",slice=\"volume\"}")));
}

TEST_F(HttpServerTest, KeepAliveAndPipelining) {
  Start();
  router_.set_answer(Rows());
  HttpClient client(port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Get("/healthz").status, 200);
  const std::string rows = std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const std::string health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.Send(rows + health + rows + health);
  EXPECT_THAT(client.Read().body, HasSubstr("volume"));
  EXPECT_EQ(client.Read().body, "ok\n");
  EXPECT_THAT(client.Read().body, HasSubstr("volume"));
  EXPECT_EQ(client.Read().body, "ok\n");
}

TEST_F(HttpServerTest, PipelinedRequestsWaitForTheirTurn) {
  Start();
  router_.Hold();
  HttpClient client(port());
  const std::string rows = std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.Send(rows + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  router_.WaitForQuestion()(Rows(), nullptr);
  EXPECT_THAT(client.Read().body, HasSubstr("volume"));
  EXPECT_EQ(client.Read().body, "ok\n");
}

TEST_F(HttpServerTest, AQuestionWhoseClientHasGoneIsCalledOff) {
  Start();
  router_.Hold();
  const std::string rows = std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  {
    HttpClient client(port());
    client.Send(rows);
    router_.WaitForQuestion()(Rows(), nullptr);
    EXPECT_THAT(client.Read().body, HasSubstr("volume"));
    client.Send(rows);  // on the same connection
    router_.WaitForQuestion()(Rows(), nullptr);
    EXPECT_THAT(client.Read().body, HasSubstr("volume"));
    EXPECT_EQ(router_.called_off(), 0);
    client.Send(rows);
    router_.WaitForQuestion();
  }
  EXPECT_TRUE(router_.WaitForCallOff(absl::Seconds(60)));
}

// The memory of an answer counts as taken until the client has it.
TEST_F(HttpServerTest, AnAnswerIsHeldUntilItIsWritten) {
  Start();
  router_.Hold();
  HttpClient client(port());
  client.Send(std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto hold = std::make_shared<int>(1);
  const std::weak_ptr<int> held = hold;
  QueryResponse rows = Rows();
  rows.set_body("[\"" + std::string(32 << 20, 'x') + "\"]");
  router_.WaitForQuestion()(rows, std::move(hold));
  EXPECT_FALSE(held.expired());
  EXPECT_GT(client.Read().body.size(), size_t{32} << 20);
  const absl::Time until = absl::Now() + absl::Seconds(60);
  while (!held.expired() && absl::Now() < until) std::this_thread::yield();
  EXPECT_TRUE(held.expired());
}

TEST_F(HttpServerTest, ConnectionCloseIsKept) {
  Start();
  HttpClient client(port());
  const ClientAnswer answer = client.Get("/healthz", "Connection: close\r\n");
  EXPECT_EQ(answer.headers.at("connection"), "close");
  EXPECT_TRUE(client.WaitForClose());
}

TEST_F(HttpServerTest, TooLargeIsSaidAndClosed) {
  HttpLimits limits;
  limits.header_bytes_max = 4096;
  limits.target_bytes_max = 512;
  limits.body_bytes_max = 1024;
  Start(limits);
  EXPECT_EQ(ReasonOf(Get("/healthz", "X: " + std::string(8192, 'x') + "\r\n"), 431),
            "HEADERS_TOO_LARGE");
  EXPECT_EQ(ReasonOf(Get("/healthz?" + std::string(600, 'x')), 414), "TARGET_TOO_LONG");
  HttpClient client(port());
  EXPECT_EQ(ReasonOf(client.Post("/v1/domains/a:query", std::string(100'000, ' ')), 413),
            "BODY_TOO_LARGE");
  EXPECT_TRUE(client.WaitForClose());
  HttpClient chunked(port());
  EXPECT_EQ(
      ReasonOf(chunked.Ask("POST /v1/domains/a:query HTTP/1.1\r\nHost: localhost\r\n"
                           "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "1000\r\n" +
                           std::string(4096, ' ') + "\r\n0\r\n\r\n"),
               413),
      "BODY_TOO_LARGE");
}

TEST_F(HttpServerTest, GarbageIsABadRequest) {
  Start();
  for (const char* bytes :
       {"hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02 tls\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"}) {
    HttpClient client(port());
    EXPECT_EQ(ReasonOf(client.Ask(bytes), 400), "REQUEST_INVALID") << bytes;
  }
}

TEST_F(HttpServerTest, SlowRequestsAreCut) {
  HttpLimits limits;
  limits.read_timeout = absl::Milliseconds(300);
  Start(limits);
  HttpClient client(port());
  const absl::Time start = absl::Now();
  client.Send("GET /healthz HTTP/1.1\r\n");  // one byte now and then would not help either
  for (int i = 0; i < 50 && client.Send("X: y\r\n"); ++i) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_TRUE(client.WaitForClose());
  EXPECT_LT(absl::Now() - start, absl::Seconds(25));
}

TEST_F(HttpServerTest, SilentAndIdleConnectionsAreCut) {
  HttpLimits limits;
  limits.read_timeout = absl::Milliseconds(500);
  limits.idle_timeout = absl::Milliseconds(500);
  Start(limits);
  HttpClient silent(port());
  std::unique_ptr<HttpClient> idle;
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  int status = 0;
  while (status != 200 && absl::Now() < deadline) {  // who asks too late is cut like the silent one
    idle = std::make_unique<HttpClient>(port());
    status = idle->Get("/healthz").status;
  }
  EXPECT_EQ(status, 200);
  EXPECT_TRUE(silent.WaitForClose());
  EXPECT_TRUE(idle->WaitForClose());
}

TEST_F(HttpServerTest, ReadersTooSlowForTheirAnswerAreCut) {
  HttpLimits limits;
  limits.write_timeout = absl::Milliseconds(300);
  limits.connections_max = 1;
  Start(limits);
  QueryResponse large = Rows();
  large.set_body("[\"" + std::string(64 << 20, 'x') + "\"]");
  router_.set_answer(large);
  HttpClient slow(port());
  slow.Send(std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  // It reads nothing, so its place becomes free only when the server gives it up.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  int status = 0;
  while (status != 200 && absl::Now() < deadline) {
    HttpClient other(port());
    status = other.Get("/healthz").status;
  }
  EXPECT_EQ(status, 200);
}

TEST_F(HttpServerTest, ConnectionsAreCounted) {
  HttpLimits limits;
  limits.connections_max = 2;
  Start(limits);
  auto first = std::make_unique<HttpClient>(port());
  HttpClient second(port());
  EXPECT_EQ(first->Get("/healthz").status, 200);
  EXPECT_EQ(second.Get("/healthz").status, 200);
  HttpClient third(port());
  const ClientAnswer refused = third.Read();
  EXPECT_EQ(ReasonOf(refused, 503), "CONNECTION_LIMIT");
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_TRUE(third.WaitForClose());
  first.reset();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  int status = 0;
  while (status != 200 && absl::Now() < deadline) {
    HttpClient next(port());
    status = next.Get("/healthz").status;
  }
  EXPECT_EQ(status, 200);  // the closed one's place is free again
}

TEST_F(HttpServerTest, StopsWhileQuestionsAreOpen) {
  Start();
  router_.Hold();
  HttpClient asking(port());
  HttpClient idle(port());
  asking.Send(std::string("GET ") + kRows + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(idle.Get("/healthz").status, 200);
  auto done = router_.WaitForQuestion();
  const absl::Time start = absl::Now();
  server_->Stop();
  server_->Stop();
  EXPECT_LT(absl::Now() - start, absl::Seconds(25));
  server_.reset();
  done(Rows(), nullptr);  // too late, and dropped
  done = nullptr;
  EXPECT_TRUE(asking.WaitForClose());
  EXPECT_TRUE(idle.WaitForClose());
}

TEST_F(HttpServerTest, BadAddresses) {
  for (const char* address :
       {"", "127.0.0.1", "127.0.0.1:x", "example.org:80", "127.0.0.1:99999"}) {
    EXPECT_EQ(HttpServer::Start(address, router_, Status, tree_, nullptr).status().code(),
              absl::StatusCode::kInvalidArgument)
        << address;
  }
  Start();
  const std::string taken = "127.0.0.1:" + std::to_string(port());
  EXPECT_EQ(HttpServer::Start(taken, router_, Status, tree_, nullptr).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace icepie::server
