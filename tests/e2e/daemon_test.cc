// The main paths through the real daemon and real workers.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

namespace v1 = icepie::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kShop = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount) AS total FROM sales GROUP BY ALL
    key: [item]
)";

// The same with another total.
constexpr const char* kShopInCents = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  by_item:
    sql: SELECT item, count(*) AS sales, sum(amount * 100) AS total FROM sales GROUP BY ALL
    key: [item]
)";

constexpr const char* kTotals = "SELECT item, sales, total FROM by_item ORDER BY item";

std::string Sale(const std::string& item, int amount) {
  return absl::StrCat(R"({"item":")", item, R"(","amount":)", amount, "}");
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override { daemon_.Start(); }

  // Stream, domain and two records; their end position.
  int64_t StartShop() {
    EXPECT_TRUE(daemon_.CreateStream("sales").ok());
    const auto end = daemon_.Append("sales", {Sale("pear", 3), Sale("apple", 2)});
    EXPECT_TRUE(end.ok()) << end.status();
    ExpectApplied(kShop);
    return daemon_.Append("sales", {Sale("pear", 4)}).value_or(-1);
  }

  v1::ApplyDomainResponse ExpectApplied(const std::string& file) {
    v1::ApplyDomainResponse response;
    const auto status = daemon_.Apply(file, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Answers at once after apply say NO_SNAPSHOT_YET until the first rows are there.
  v1::QueryResponse ExpectAnswer(const std::string& sql, int64_t min_position) {
    v1::QueryResponse response;
    grpc::Status status;
    EXPECT_TRUE(Eventually([&] {
      status = daemon_.Query("shop", sql, min_position, &response);
      return status.ok() || Reason(status) != "NO_SNAPSHOT_YET";
    }));
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  grpc::Status Freeze(const std::string& slice, v1::Slice* response) {
    v1::FreezeSliceRequest request;
    request.set_name(slice);
    request.set_reason("INC-1");
    request.set_actor("ann");
    return daemon_.Admin()->FreezeSlice(Within(absl::Seconds(60)).get(), request, response);
  }
  grpc::Status Thaw(const std::string& slice, v1::Slice* response) {
    v1::ThawSliceRequest request;
    request.set_name(slice);
    return daemon_.Admin()->ThawSlice(Within(absl::Seconds(60)).get(), request, response);
  }

  // Waits until the standby would answer for the slice with everything below `position`.
  void WaitForStandby(int64_t position) {
    ASSERT_TRUE(Eventually(
        [&] { return daemon_.GetSlice("shop.by_item").standby_position() >= position; }));
  }

  google::longrunning::Operation WaitForOperation(const std::string& name) {
    google::longrunning::WaitOperationRequest request;
    google::longrunning::Operation operation;
    request.set_name(name);
    Eventually(
        [&] {
          const auto status = daemon_.Operations()->WaitOperation(Within(absl::Seconds(60)).get(),
                                                                  request, &operation);
          EXPECT_TRUE(status.ok()) << status.error_message();
          return operation.done() || !status.ok();
        },
        absl::Seconds(60));
    return operation;
  }

  // The records of _admin, one line each: action, actor, and how far it came. What an outcome names
  // must have begun, and must not have ended before.
  std::vector<std::string> AdminRecords() {
    v1::ReadRecordsRequest request;
    request.add_streams("_admin");
    const auto context = Within(absl::Seconds(60));
    const auto stub = daemon_.Core();
    const auto reader = stub->ReadRecords(context.get(), request);
    std::map<int64_t, std::string> begun;
    std::vector<std::string> lines;
    for (v1::ReadRecordsResponse part; reader->Read(&part);) {
      for (const auto& record : part.records()) {
        const auto json = nlohmann::json::parse(record.payload());
        const std::string who = absl::StrCat(json["action"].get<std::string>(), " ",
                                             json["actor"].get<std::string>(), " ");
        EXPECT_EQ(json.contains("request_sha256"), !json.contains("outcome_of"));
        if (!json.contains("result")) {
          begun[record.position()] = who;
          lines.push_back(who + "begins");
          continue;
        }
        const auto& result = json["result"];
        std::string line = result["code"] == "OK" ? "OK" : "refused " + result.value("reason", "");
        if (result.contains("revision"))
          absl::StrAppend(&line, " revision ", result["revision"].get<int64_t>());
        if (json.contains("outcome_of")) {
          EXPECT_EQ(begun[json["outcome_of"].get<int64_t>()], who);
          begun.erase(json["outcome_of"].get<int64_t>());
        } else if (result["code"] == "OK") {
          line = "at once " + line;
        }
        lines.push_back(who + line);
      }
    }
    return lines;
  }

  DaemonFixture daemon_;
};

TEST_F(DaemonTest, AnAcceptedLossIsARecordOfItsOwn) {
  StartShop();
  v1::CreateSnapshotRequest keep;
  keep.set_slice("shop.by_item");
  keep.set_name("kept");
  v1::Snapshot kept;
  const auto made = daemon_.Admin()->CreateSnapshot(Within(absl::Seconds(60)).get(), keep, &kept);
  ASSERT_TRUE(made.ok()) << made.error_message();
  ASSERT_EQ(daemon_.Stop(), 0);
  std::filesystem::remove(daemon_.data_directory() + "/core/high_water_mark");
  daemon_.Start();
  v1::ServerStatus status;
  ASSERT_TRUE(daemon_.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status).ok());
  ASSERT_TRUE(status.core_read_only());
  EXPECT_THAT(status.core_read_only_cause(),
              HasSubstr(absl::StrCat("--accept-core-loss=", status.head_position())));
  // What gives room back goes without a record of it.
  v1::DeleteSnapshotRequest drop;
  drop.set_slice(keep.slice());
  drop.set_name(keep.name());
  v1::DeleteSnapshotResponse dropped;
  const auto gone =
      daemon_.Admin()->DeleteSnapshot(Within(absl::Seconds(60)).get(), drop, &dropped);
  EXPECT_TRUE(gone.ok()) << gone.error_message();
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.AddArgument(absl::StrCat("--accept-core-loss=", status.head_position()));
  daemon_.Start();
  v1::ReadRecordsRequest request;
  request.add_streams("_admin");
  request.set_from_position(status.head_position());
  const auto context = Within(absl::Seconds(60));
  const auto reader = daemon_.Core()->ReadRecords(context.get(), request);
  v1::ReadRecordsResponse part;
  ASSERT_TRUE(reader->Read(&part));
  EXPECT_EQ(part.records(0).position(), status.head_position());
  EXPECT_THAT(part.records(0).payload(), HasSubstr("AcceptCoreLoss"));
  EXPECT_THAT(part.records(0).payload(), HasSubstr("is missing"));
  while (reader->Read(&part)) {
  }
  EXPECT_FALSE(std::filesystem::exists(daemon_.data_directory() + "/core/accepted_loss"))
      << "it is recorded once";
  EXPECT_TRUE(daemon_.Append("sales", {Sale("pear", 3)}).ok());
}

TEST_F(DaemonTest, AnswersWithTheAppendedRecordsAndSaysWhatItIs) {
  const int64_t end = StartShop();
  const auto answer = ExpectAnswer(kTotals, end);
  EXPECT_EQ(answer.body(),
            R"([{"item":"apple","sales":1,"total":2},{"item":"pear","sales":2,"total":7}])");
  EXPECT_FALSE(answer.meta().stale());
  ASSERT_EQ(answer.meta().slices_size(), 1);
  EXPECT_EQ(answer.meta().slices(0).slice(), "shop.by_item");
  EXPECT_GE(answer.meta().slices(0).applied_position(), end);
  EXPECT_EQ(answer.meta().slices(0).generation(), 1);
  // The first one may be the standby's, when that is up first.
  EXPECT_TRUE(
      Eventually([&] { return ExpectAnswer(kTotals, end).meta().slices(0).source() == v1::LIVE; }));
}

TEST_F(DaemonTest, HttpAnswersInTheFormatAskedFor) {
  ExpectAnswer(kTotals, StartShop());
  const std::string& address = daemon_.http_address();
  server::HttpClient http(std::stoi(address.substr(address.rfind(':') + 1)));
  const std::string rows = "/v1/domains/shop/slices/by_item/rows?order=item";
  const auto csv = http.Get(rows + "&_format=csv");
  ASSERT_EQ(csv.status, 200) << csv.body;
  EXPECT_EQ(csv.body, "item,sales,total\r\napple,1,2\r\npear,2,7\r\n");
  EXPECT_THAT(csv.headers.at("icepie-meta"), HasSubstr(R"("slice":"shop.by_item")"));
  const auto lines = http.Get(rows + "&_format=ndjson&_numbers=string");
  EXPECT_EQ(lines.body,
            "{\"item\":\"apple\",\"sales\":\"1\",\"total\":\"2\"}\n"
            "{\"item\":\"pear\",\"sales\":\"2\",\"total\":\"7\"}\n{\"end\":{\"rows\":2}}\n");
  const auto json = http.Get(rows + "&_numbers=string");
  EXPECT_THAT(json.body, HasSubstr(R"("rows":[{"item":"apple","sales":"1","total":"2"})"));
  const auto posted =
      http.Post("/v1/domains/shop:query",
                R"({"sql":"SELECT total FROM by_item ORDER BY ALL","format":"csv"})");
  EXPECT_EQ(posted.body, "total\r\n2\r\n7\r\n");

  // What one format's etag stands for is not what another one shows.
  const std::string etag = "If-None-Match: " + csv.headers.at("etag") + "\r\n";
  EXPECT_EQ(http.Get(rows + "&_format=csv", etag).status, 304);
  for (const char* other :
       {"", "&_format=json", "&_format=ndjson", "&_format=csv&_numbers=string"}) {
    EXPECT_EQ(http.Get(rows + other, etag).status, 200) << other;
  }
}

TEST_F(DaemonTest, OthersCanReadNothingOfItsData) {
  ExpectAnswer(kTotals, StartShop());
  int seen = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(daemon_.data_directory(), error), end;
       !error && at != end; at.increment(error)) {
    struct stat info {};
    if (lstat(at->path().c_str(), &info) != 0) continue;  // just removed
    ++seen;
    EXPECT_EQ(info.st_mode & 0077, 0U) << at->path();
  }
  EXPECT_GT(seen, 10);
}

TEST_F(DaemonTest, FreezingStopsApplyingAndThawingCatchesUp) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  v1::Slice slice;
  ASSERT_TRUE(Freeze("shop.by_item", &slice).ok());
  EXPECT_EQ(slice.state(), v1::FROZEN);
  ASSERT_TRUE(Freeze("shop.by_item", &slice).ok()) << "freezing twice is freezing";
  const int64_t later = daemon_.Append("sales", {Sale("plum", 1)}).value_or(-1);

  const auto frozen = ExpectAnswer(kTotals, -1);
  EXPECT_THAT(frozen.body(), ::testing::Not(HasSubstr("plum")));
  EXPECT_TRUE(frozen.meta().stale());
  EXPECT_EQ(frozen.meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  v1::QueryResponse ignored;
  EXPECT_EQ(Reason(daemon_.Query("shop", kTotals, later, &ignored)), "POSITION_UNREACHABLE");

  ASSERT_TRUE(Thaw("shop.by_item", &slice).ok());
  const auto thawed = ExpectAnswer(kTotals, later);
  EXPECT_THAT(thawed.body(), HasSubstr("plum"));
  EXPECT_FALSE(thawed.meta().stale());
}

// A record whose event was long ago is applied like any other; how far events have come does not go
// back with it.
TEST_F(DaemonTest, LateRecordsAreAppliedAndTheNewestEventIsShown) {
  StartShop();
  v1::AppendRecordsRequest request;
  v1::AppendRecordsResponse appended;
  for (const int64_t seconds : {int64_t{1'900'000'000}, int64_t{1'000'000'000}}) {
    auto* record = request.add_records();
    record->set_stream("sales");
    record->set_payload(Sale("plum", 1));
    record->mutable_event_time()->set_seconds(seconds);
  }
  ASSERT_TRUE(
      daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &appended).ok());
  const auto answer =
      ExpectAnswer("SELECT total FROM by_item WHERE item = 'plum'", appended.end_position());
  EXPECT_THAT(answer.body(), HasSubstr("2"));
  EXPECT_EQ(answer.meta().slices(0).event_time_max().seconds(), 1'900'000'000);
  EXPECT_TRUE(testing::Eventually([&] {  // with the next heartbeat
    return daemon_.GetSlice("shop.by_item").meta().event_time_max().seconds() == 1'900'000'000;
  }));
}

// Of a join, too, whichever of its streams the record comes on: the row that it completes is shown,
// the newest event is that of all streams, and it counts as applied.
TEST_F(DaemonTest, LateRecordsOfAJoinAreAppliedAndTheNewestEventIsShown) {
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  ASSERT_TRUE(daemon_.CreateStream("prices").ok());
  ExpectApplied(R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
  prices: {columns: {item: VARCHAR, price: INTEGER}}
slices:
  worth:
    sql: "SELECT s.item, s.amount * p.price AS worth FROM sales AS s JOIN prices AS p ON s.item = p.item"
)");
  v1::AppendRecordsRequest request;
  v1::AppendRecordsResponse appended;
  const auto add = [&request](const std::string& stream, const std::string& payload,
                              int64_t seconds) {
    auto* record = request.add_records();
    record->set_stream(stream);
    record->set_payload(payload);
    record->mutable_event_time()->set_seconds(seconds);
  };
  add("sales", Sale("plum", 3), 1'900'000'000);
  add("prices", R"({"item":"plum","price":2})", 1'000'000'000);
  add("sales", Sale("plum", 4), 900'000'000);
  ASSERT_TRUE(
      daemon_.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &appended).ok());
  const auto answer =
      ExpectAnswer("SELECT worth FROM worth ORDER BY worth", appended.end_position());
  EXPECT_EQ(answer.body(), R"([{"worth":6},{"worth":8}])");
  EXPECT_EQ(answer.meta().slices(0).event_time_max().seconds(), 1'900'000'000);
  EXPECT_TRUE(testing::Eventually([&] {  // with the next heartbeat
    const auto counts = daemon_.GetSlice("shop.worth").counts();
    return counts.input() == 3 && counts.applied() == 3 && counts.filtered() == 0;
  }));
}

TEST_F(DaemonTest, NoQueryFailsWhileTheLiveWorkerIsKilled) {
  const int64_t end = StartShop();
  const std::string expected = ExpectAnswer(kTotals, end).body();
  WaitForStandby(end);
  std::atomic<bool> stop{false};
  std::atomic<int> asked{0};
  std::atomic<int> from_standby{0};
  std::vector<std::string> failures;
  std::thread asker([&] {
    while (!stop) {
      v1::QueryResponse response;
      const auto status = daemon_.Query("shop", kTotals, -1, &response);
      if (!status.ok()) failures.push_back(status.error_message());
      // The standby may show an older snapshot, but then it says so.
      if (status.ok() && response.body() != expected && !response.meta().stale()) {
        failures.push_back(response.body());
      }
      if (status.ok() && response.meta().slices(0).source() == v1::STANDBY) ++from_standby;
      ++asked;
    }
  });
  // Again while the asker was waiting for the processor in all of the time in which it was away.
  EXPECT_TRUE(Eventually([&] {
    const int64_t killed = daemon_.SignalWorker("shop", "live", SIGKILL);
    EXPECT_TRUE(Eventually([&] {
      const auto worker = daemon_.Worker("shop", "live");
      return worker.state() == "running" && worker.pid() != killed;
    }));
    const int before = asked;
    EXPECT_TRUE(Eventually([&] { return asked > before + 10; }));
    return from_standby > 0;
  }));
  stop = true;
  asker.join();
  EXPECT_THAT(failures, ::testing::IsEmpty());
  EXPECT_GT(from_standby, 0) << "of " << asked;
  EXPECT_GE(daemon_.Worker("shop", "live").restarts(), 1);
}

TEST_F(DaemonTest, AHangingWorkerIsKilledAndReplaced) {
  daemon_.Stop();
  daemon_.SetSettings(
      "workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 3000, "
      "snapshot_interval_ms: 300}\n");
  daemon_.Start();
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  WaitForStandby(end);
  const int64_t hanging = daemon_.SignalWorker("shop", "live", SIGSTOP);
  // Asked of the hanging worker, answered by another after the heartbeat's timeout.
  const auto answer = ExpectAnswer(kTotals, -1);
  EXPECT_FALSE(answer.body().empty());
  EXPECT_TRUE(Eventually([&] {
    const auto worker = daemon_.Worker("shop", "live");
    return worker.state() == "running" && worker.pid() != hanging;
  }));
  // A later death would be its last error.
  EXPECT_THAT(daemon_.Log(), HasSubstr("no answer for 3s"));
}

TEST_F(DaemonTest, ABuildGoesOnAfterTheDaemonWasKilled) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  const auto applied = ExpectApplied(kShopInCents);
  daemon_.Kill();
  daemon_.Start();
  const auto operation = WaitForOperation(applied.changes(0).operation());
  EXPECT_TRUE(operation.done());
  EXPECT_FALSE(operation.has_error()) << operation.error().message();
  const auto slice = daemon_.GetSlice("shop.by_item");
  ASSERT_EQ(slice.generations_size(), 2);
  EXPECT_EQ(slice.generations(1).state(), v1::Generation::READY);
}

TEST_F(DaemonTest, EveryAdminActionIsARecordWithItsResult) {
  StartShop();
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());  // is there: changes nothing
  v1::Slice slice;
  ASSERT_TRUE(Freeze("shop.by_item", &slice).ok());
  EXPECT_FALSE(Freeze("shop.nothing", &slice).ok());
  v1::UpdateStreamRequest update;
  v1::Stream stream;
  update.set_name("sales");
  update.set_key_path("$.item");
  update.set_actor("carol");
  EXPECT_TRUE(daemon_.Core()->UpdateStream(Within(absl::Seconds(60)).get(), update, &stream).ok());
  update.set_key_path("no path");  // malformed: asks for no action
  EXPECT_FALSE(daemon_.Core()->UpdateStream(Within(absl::Seconds(60)).get(), update, &stream).ok());
  v1::ApplyDomainRequest asked;
  v1::ApplyDomainResponse applied;
  asked.set_file("domain: [");
  asked.set_validate_only(true);  // asks, and changes nothing
  EXPECT_FALSE(daemon_.Admin()->ApplyDomain(Within(absl::Seconds(60)).get(), asked, &applied).ok());
  const std::string operation = ExpectApplied(kShopInCents).changes(0).operation();
  EXPECT_TRUE(WaitForOperation(operation).done());
  EXPECT_THAT(
      AdminRecords(),
      ElementsAre("CreateStream  begins", "CreateStream  OK", "ApplyDomain test begins",
                  "ApplyDomain test OK revision 1", "FreezeSlice ann begins", "FreezeSlice ann OK",
                  "FreezeSlice ann refused SLICE_NOT_FOUND", "UpdateStream carol begins",
                  "UpdateStream carol OK", "ApplyDomain test begins",
                  "ApplyDomain test OK revision 2", "EndOperation icepied at once OK"));
}

// A well-formed request, mostly for what is not there.
std::unique_ptr<google::protobuf::Message> RequestOf(
    const google::protobuf::MethodDescriptor& method) {
  const bool names_slice =
      method.service()->name() == "Admin" && method.name().find("Domain") == std::string::npos;
  const std::map<std::string, std::string> texts = {
      {"actor", "auditor"},
      {"reason", "a test"},
      {"request_id", method.name()},
      {"name", names_slice ? "nothing.here" : "nothing"},
      {"slice", "nothing.here"},
      {"snapshot", "none"},
      {"expectation", "none"},
      {"key_path", "$.k"},
      {"directory", "/proc/none"},
      {"file",
       "domain: nothing\nsources: {nothing: {columns: {n: BIGINT}}}\n"
       "slices: {numbers: {sql: SELECT count(*) AS n FROM nothing}}\n"}};
  std::unique_ptr<google::protobuf::Message> request(
      google::protobuf::MessageFactory::generated_factory()
          ->GetPrototype(method.input_type())
          ->New());
  for (int i = 0; i < method.input_type()->field_count(); ++i) {
    const auto* field = method.input_type()->field(i);
    const auto text = texts.find(field->name());
    if (text == texts.end() || field->is_repeated()) continue;
    request->GetReflection()->SetString(request.get(), field, text->second);
  }
  return request;
}

// These read, or append records, which are their own trace. Whoever adds an RPC that changes
// something must have it recorded.
constexpr absl::string_view kUnrecorded[] = {"GetStream",
                                             "ListStreams",
                                             "AppendRecords",
                                             "StreamAppendRecords",
                                             "ReadRecords",
                                             "GetRecord",
                                             "TraceRecord",
                                             "GetCheckpoint",
                                             "GetInclusionProof",
                                             "GetConsistencyProof",
                                             "VerifyCore",
                                             "GetDomain",
                                             "ListDomainRevisions",
                                             "ListDomains",
                                             "DiffGenerations",
                                             "ListGenerations",
                                             "ListSnapshots",
                                             "ListQuarantineGroups",
                                             "ListQuarantinedRecords",
                                             "GetQuarantinedRecord",
                                             "ListEvents",
                                             "WatchEvents",
                                             "TailLogs",
                                             "ListExpectationResults",
                                             "GetServerStatus",
                                             "Query",
                                             "StreamQuery",
                                             "GetSlice",
                                             "ListSlices",
                                             "ListOperations",
                                             "GetOperation",
                                             "WaitOperation"};

TEST_F(DaemonTest, EveryCallThatChangesSomethingIsRecordedWithItsActor) {
  daemon_.Stop();
  daemon_.AddArgument("--safe-mode");  // that can be left
  daemon_.Start();
  grpc::GenericStub stub(
      grpc::CreateChannel(daemon_.grpc_address(), grpc::InsecureChannelCredentials()));
  int calls = 0;
  for (const char* name :
       {"icepie.v1.Core", "icepie.v1.Admin", "icepie.v1.Slices", "google.longrunning.Operations"}) {
    const auto* service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) {
      const auto& method = *service->method(i);
      if (absl::c_linear_search(kUnrecorded, method.name())) continue;
      ++calls;
      const auto request = RequestOf(method);
      const grpc::Slice bytes(request->SerializeAsString());
      const auto context = Within(absl::Seconds(60));
      if (method.input_type()->FindFieldByName("actor") == nullptr) {
        context->AddMetadata("icepie-actor-bin", "auditor");  // of a standard protocol
      }
      grpc::CompletionQueue queue;
      const auto call = stub.PrepareUnaryCall(
          context.get(), absl::StrCat("/", name, "/", method.name()), {&bytes, 1}, &queue);
      call->StartCall();
      grpc::ByteBuffer response;
      grpc::Status status;
      call->Finish(&response, &status, nullptr);
      void* tag = nullptr;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok));
      EXPECT_THAT(AdminRecords(),
                  ::testing::Contains(::testing::StartsWith(method.name() + " auditor ")))
          << Reason(status) << " " << status.error_message();
    }
  }
  EXPECT_GE(calls, 26);
}

// Between both records of a freeze the daemon is killed: the first one alone says so.
TEST_F(DaemonTest, AnActionThatAKillCutsShortIsToldFromOneThatEnded) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  bool cut = false;
  for (int attempt = 0; attempt < 20 && !cut; ++attempt) {
    // The freeze waits for the live worker, which does not listen.
    ASSERT_TRUE(Eventually([&] { return daemon_.Worker("shop", "live").state() == "running"; }));
    daemon_.SignalWorker("shop", "live", SIGSTOP);
    const size_t before = AdminRecords().size();
    std::thread caller([&] {
      v1::Slice slice;
      Freeze("shop.by_item", &slice);
    });
    EXPECT_TRUE(Eventually([&] { return AdminRecords().size() > before; }));
    daemon_.Kill();
    caller.join();
    daemon_.Start();
    const std::vector<std::string> records = AdminRecords();
    cut = records.size() == before + 1 && records.back() == "FreezeSlice ann begins";
    if (!cut) EXPECT_EQ(records.back(), "FreezeSlice ann OK");  // it was faster than the kill
    v1::Slice slice;
    EXPECT_TRUE(Thaw("shop.by_item", &slice).ok());
    EXPECT_EQ(AdminRecords().back(), "ThawSlice  OK");
  }
  EXPECT_TRUE(cut);
}

TEST_F(DaemonTest, WhatHappenedIsListedAlsoAfterAKilledDaemonAndWatched) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  v1::Slice slice;
  ASSERT_TRUE(Freeze("shop.by_item", &slice).ok());
  const auto listed = [&](const std::string& line) {
    v1::ListEventsRequest request;
    request.set_name("shop.by_item");
    v1::ListEventsResponse response;
    EXPECT_TRUE(
        daemon_.Admin()->ListEvents(Within(absl::Seconds(60)).get(), request, &response).ok());
    for (const auto& event : response.events()) {
      if (absl::StrCat(event.subject(), " ", event.actor(), " ", event.reason(), " ", event.to()) ==
          line) {
        return event.number();
      }
    }
    return int64_t{0};
  };
  EXPECT_TRUE(Eventually([&] { return listed("  INC-1 FROZEN") > 0; }));
  EXPECT_GT(listed("FreezeSlice ann INC-1 "), 0);
  daemon_.Kill();
  daemon_.Start();
  const int64_t frozen = listed("FreezeSlice ann INC-1 ");
  ASSERT_GT(frozen, 0);
  v1::WatchEventsRequest watch;
  watch.set_name("shop.by_item");
  watch.set_after_number(frozen);
  auto context = Within(absl::Seconds(60));
  auto reader = daemon_.Admin()->WatchEvents(context.get(), watch);
  ASSERT_TRUE(Thaw("shop.by_item", &slice).ok());
  bool thawed = false;
  v1::Event event;
  while (!thawed && reader->Read(&event)) {
    EXPECT_GT(event.number(), frozen);
    EXPECT_EQ(event.slice(), "shop.by_item");
    thawed = event.subject() == "ThawSlice";
  }
  EXPECT_TRUE(thawed);
  context->TryCancel();
}

TEST_F(DaemonTest, DesiredStateAndAnswersSurviveAKilledDaemon) {
  const int64_t end = StartShop();
  const std::string before = ExpectAnswer(kTotals, end).body();
  WaitForStandby(end);
  v1::Slice slice;
  ASSERT_TRUE(Freeze("shop.by_item", &slice).ok());
  const auto workers = {daemon_.Worker("shop", "live").pid(),
                        daemon_.Worker("shop", "standby").pid()};
  daemon_.Kill();
  for (const int64_t pid : workers) {
    EXPECT_TRUE(Eventually([&] { return kill(static_cast<pid_t>(pid), 0) != 0; }))
        << "worker " << pid << " outlived the daemon";
  }
  daemon_.Start();
  const auto answer = ExpectAnswer(kTotals, -1);
  EXPECT_EQ(answer.body(), before);
  EXPECT_EQ(answer.meta().slices(0).stale_reason(), v1::SLICE_FROZEN);
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").desired().reason(), "INC-1");
}

TEST_F(DaemonTest, StopsInOrderAndGoesOnWhereItWas) {
  const int64_t end = StartShop();
  const std::string before = ExpectAnswer(kTotals, end).body();
  EXPECT_EQ(daemon_.Stop(), 0);
  struct stat info {};
  EXPECT_NE(stat((daemon_.data_directory() + "/icepied.json").c_str(), &info), 0);
  daemon_.Start();
  EXPECT_EQ(ExpectAnswer(kTotals, end).body(), before);
}

TEST_F(DaemonTest, AWrongDefinitionIsRefusedWithItsPlaceAndChangesNothing) {
  StartShop();
  std::string wrong = kShop;
  wrong.replace(wrong.find("sum(amount)"), 11, "sum(amuont)");
  v1::ApplyDomainResponse response;
  const auto status = daemon_.Apply(wrong, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("test.yaml:6:"));
  v1::ApplyDomainResponse again = ExpectApplied(kShop);
  EXPECT_FALSE(again.changed());
  EXPECT_EQ(again.revision(), 1);
}

TEST_F(DaemonTest, AMissingStreamIsNamedWithTheRemedy) {
  v1::ApplyDomainResponse response;
  const auto status = daemon_.Apply(kShop, &response);
  EXPECT_EQ(Reason(status), "STREAM_NOT_FOUND");
  EXPECT_THAT(status.error_message(), HasSubstr("icepie stream create sales"));
}

TEST_F(DaemonTest, AChangedDefinitionIsBuiltComparedAndPromoted) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  WaitForStandby(end);
  const auto applied = ExpectApplied(kShopInCents);
  ASSERT_EQ(applied.changes_size(), 1);
  EXPECT_EQ(applied.changes(0).kind(), v1::SliceChange::REBUILD);
  const auto operation = WaitForOperation(applied.changes(0).operation());
  ASSERT_TRUE(operation.done());
  EXPECT_FALSE(operation.has_error()) << operation.error().message();
  v1::ResliceMetadata metadata;
  ASSERT_TRUE(operation.metadata().UnpackTo(&metadata));
  EXPECT_EQ(metadata.phase(), "ready");
  EXPECT_GE(metadata.done_records(), 3) << "an ended build says what it did";
  EXPECT_GT(metadata.elapsed_ms(), 0);
  EXPECT_GT(metadata.records_per_second(), 0);
  EXPECT_EQ(metadata.eta_ms(), 0) << "it has ended";
  EXPECT_THAT(ExpectAnswer(kTotals, end).body(), HasSubstr("\"total\":7"));

  v1::DiffGenerationsRequest diff_request;
  v1::GenerationDiff diff;
  diff_request.set_name("shop.by_item");
  auto status =
      daemon_.Admin()->DiffGenerations(Within(absl::Seconds(60)).get(), diff_request, &diff);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(diff.unavailable(), "");
  EXPECT_EQ(diff.changed(), 2);
  EXPECT_EQ(diff.added(), 0);
  EXPECT_EQ(diff.base_generation(), 1);

  v1::PromoteGenerationRequest promote;
  v1::Slice slice;
  promote.set_name("shop.by_item");
  status = daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(40)).get(), promote, &slice);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(slice.meta().generation(), 2);
  const int64_t later = daemon_.Append("sales", {Sale("plum", 1)}).value_or(-1);
  const auto answer = ExpectAnswer(kTotals, later);
  EXPECT_THAT(answer.body(), HasSubstr("\"total\":700"));
  EXPECT_THAT(answer.body(), HasSubstr("plum"));
  EXPECT_EQ(answer.meta().slices(0).generation(), 2);

  status = daemon_.Admin()->PromoteGeneration(Within(absl::Seconds(40)).get(), promote, &slice);
  EXPECT_EQ(Reason(status), "PROMOTE_GATE_FAILED");
}

TEST_F(DaemonTest, SlicesAreBuiltAndRebuiltFromSegmentsAndTheTail) {
  daemon_.Stop();
  daemon_.SetSettings("core: {segment_bytes: 64KiB, hot_bytes_min: 16KiB, hot_age_min_ms: 0}\n");
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("sales").ok());
  std::mt19937_64 random(1);
  int64_t end = 0;
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<std::string> payloads;
    for (int i = 0; i < 500; ++i) {
      payloads.push_back(absl::StrCat(R"({"item":"pear","amount":1,"note":")",
                                      absl::Hex(random(), absl::kZeroPad16),
                                      absl::Hex(random(), absl::kZeroPad16), "\"}"));
    }
    end = daemon_.Append("sales", payloads).value();
  }
  v1::ServerStatus status;
  ASSERT_TRUE(Eventually([&] {
    (void)daemon_.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status);
    return status.core_storage().segment_count() > 0;
  }));
  EXPECT_LT(status.core_storage().sealed_position(), end);
  ExpectApplied(kShop);
  EXPECT_EQ(ExpectAnswer(kTotals, end).body(), R"([{"item":"pear","sales":5000,"total":5000}])");
  const auto applied = ExpectApplied(kShopInCents);
  const auto operation = WaitForOperation(applied.changes(0).operation());
  EXPECT_FALSE(operation.has_error()) << operation.error().message();
  v1::ResliceMetadata metadata;
  ASSERT_TRUE(operation.metadata().UnpackTo(&metadata));
  EXPECT_EQ(metadata.phase(), "ready");
  EXPECT_GE(metadata.done_records(), 5000);
}

TEST_F(DaemonTest, ASliceThatLeftTheFileIsDeletedOnlyWithPrune) {
  StartShop();
  const std::string other = R"(domain: shop
sources:
  sales: {columns: {item: VARCHAR, amount: INTEGER}}
slices:
  all_sales: {sql: "SELECT count(*) AS n FROM sales"}
)";
  v1::ApplyDomainResponse response;
  EXPECT_EQ(Reason(daemon_.Apply(other, &response)), "REMOVES_SLICES");
  EXPECT_EQ(daemon_.GetSlice("shop.by_item").name(), "shop.by_item");
  // Apply waits for the live worker; the standby lets go of it a heartbeat later, or more.
  const pid_t standby = daemon_.SignalWorker("shop", "standby", SIGSTOP);
  ASSERT_GT(standby, 0);
  v1::ApplyDomainRequest request;
  request.set_file(other);
  request.set_prune(true);
  const auto status =
      daemon_.Admin()->ApplyDomain(Within(absl::Seconds(60)).get(), request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  v1::GetSliceRequest get;
  v1::Slice slice;
  get.set_name("shop.by_item");
  grpc::Status got;
  const auto ask = [&] {
    got = daemon_.Slices()->GetSlice(Within(absl::Seconds(60)).get(), get, &slice);
    return got.ok();
  };
  EXPECT_TRUE(ask()) << got.error_message();
  EXPECT_EQ(slice.state(), v1::DELETING);
  ASSERT_EQ(::kill(standby, SIGCONT), 0);
  EXPECT_TRUE(Eventually([&] { return !ask(); })) << slice.ShortDebugString();
  EXPECT_EQ(Reason(got), "SLICE_NOT_FOUND") << got.error_code() << " " << got.error_message();
}

TEST_F(DaemonTest, ANamedSnapshotIsKeptListedAskedForAndDeleted) {
  const int64_t end = StartShop();
  ExpectAnswer(kTotals, end);
  v1::CreateSnapshotRequest create;
  create.set_slice("shop.by_item");
  create.set_name("close");
  create.set_reason("audit");
  create.set_actor("ann");
  v1::Snapshot snapshot;
  const auto made =
      daemon_.Admin()->CreateSnapshot(Within(absl::Seconds(60)).get(), create, &snapshot);
  ASSERT_TRUE(made.ok()) << made.error_message();
  EXPECT_GE(snapshot.position(), end);  // the call itself is a record of another stream
  const int64_t position = snapshot.position();
  EXPECT_EQ(snapshot.row_count(), 2);
  EXPECT_EQ(snapshot.actor(), "ann");
  const auto again =
      daemon_.Admin()->CreateSnapshot(Within(absl::Seconds(60)).get(), create, &snapshot);
  EXPECT_EQ(Reason(again), "SNAPSHOT_EXISTS");

  const auto later = daemon_.Append("sales", {Sale("pear", 100)});
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_THAT(ExpectAnswer(kTotals, *later).body(), HasSubstr("107"));
  v1::QueryRequest query;
  query.set_domain("shop");
  query.set_sql(kTotals);
  query.mutable_consistency()->set_as_of_snapshot("close");
  v1::QueryResponse answer;
  // Workers are killed, the answer stays.
  for (int round = 0; round < 2; ++round) {
    const auto asked = daemon_.Slices()->Query(Within(absl::Seconds(60)).get(), query, &answer);
    ASSERT_TRUE(asked.ok()) << asked.error_message();
    EXPECT_EQ(answer.body(), R"([{"item":"apple","sales":1,"total":2},)"
                             R"({"item":"pear","sales":2,"total":7}])");
    EXPECT_EQ(answer.meta().slices(0).source(), v1::SNAPSHOT);
    EXPECT_EQ(answer.meta().slices(0).applied_position(), position);
    EXPECT_FALSE(answer.meta().stale());
    // While it starts again there is none; kill(0) would end this process and its group.
    const auto standby = static_cast<pid_t>(daemon_.Worker("shop", "standby").pid());
    if (standby > 0) ::kill(standby, SIGKILL);
  }
  v1::ListSnapshotsRequest list;
  list.set_slice("shop.by_item");
  v1::ListSnapshotsResponse listed;
  ASSERT_TRUE(daemon_.Admin()->ListSnapshots(Within(absl::Seconds(60)).get(), list, &listed).ok());
  ASSERT_GE(listed.snapshots_size(), 1);
  EXPECT_EQ(listed.snapshots(0).name(), "close");
  EXPECT_EQ(listed.snapshots(0).slice(), "shop.by_item");

  v1::DeleteSnapshotRequest remove;
  remove.set_slice("shop.by_item");
  remove.set_name("close");
  v1::DeleteSnapshotResponse removed;
  ASSERT_TRUE(
      daemon_.Admin()->DeleteSnapshot(Within(absl::Seconds(60)).get(), remove, &removed).ok());
  EXPECT_EQ(
      Reason(daemon_.Admin()->DeleteSnapshot(Within(absl::Seconds(60)).get(), remove, &removed)),
      "SNAPSHOT_NOT_FOUND");
  EXPECT_EQ(Reason(daemon_.Slices()->Query(Within(absl::Seconds(60)).get(), query, &answer)),
            "SNAPSHOT_NOT_FOUND");
}

TEST_F(DaemonTest, ASecondDaemonOnTheDirectoryIsRefused) {
  const ProgramEnd end = daemon_.RunIcepied({});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(end.errors, HasSubstr(absl::StrCat(daemon_.pid())));
  v1::ServerStatus status;
  EXPECT_TRUE(daemon_.Admin()->GetServerStatus(Within(absl::Seconds(60)).get(), {}, &status).ok());
}

TEST_F(DaemonTest, ATakenPortIsARefusedStart) {
  const ProgramEnd end =
      daemon_.RunIcepied({"--data-directory=" + daemon_.data_directory() + "-other",
                          "--listen-grpc=" + daemon_.grpc_address()});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_THAT(end.errors, HasSubstr("listen.grpc"));
}

}  // namespace
}  // namespace icepie::testing
