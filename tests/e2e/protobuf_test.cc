// Streams whose payloads are protobuf messages, on real processes.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"

namespace icepie::testing {
namespace {

using ::testing::HasSubstr;

namespace v1 = icepie::v1;

// The payloads are messages that are at hand here: records.
constexpr const char* kCalls = R"(domain: calls
sources:
  calls:
    columns:
      name: {type: VARCHAR, path: $.stream, required: true}
      called: {type: TIMESTAMPTZ, path: $.event_time, required: true}
      headers: {type: "STRUCT(name VARCHAR, value BLOB)[]"}
      number: {type: BIGINT, path: $.position}
slices:
  by_name:
    sql: |
      SELECT name, count(*) AS n, max(called) AS last, sum(len(headers)) AS headers, sum(number) AS total
      FROM calls GROUP BY ALL
    key: [name]
  names: {sql: SELECT name FROM calls}
)";

grpc::Status AppendPayload(const DaemonFixture& daemon, const std::string& payload, int64_t* end) {
  v1::AppendRecordsRequest request;
  v1::AppendRecordsResponse response;
  request.add_records()->set_stream("calls");
  request.mutable_records(0)->set_payload(payload);
  const auto status =
      daemon.Core()->AppendRecords(Within(absl::Seconds(60)).get(), request, &response);
  *end = response.end_position();
  return status;
}

std::string Reason(const grpc::Status& status) {
  return ErrorReason(server::FromGrpcStatus(status));
}

v1::CreateStreamRequest CreateCalls() {
  google::protobuf::FileDescriptorSet set;
  std::set<std::string> added;
  const std::function<void(const google::protobuf::FileDescriptor&)> add =
      [&](const google::protobuf::FileDescriptor& file) {
        if (!added.insert(file.name()).second) return;
        for (int i = 0; i < file.dependency_count(); ++i) add(*file.dependency(i));
        file.CopyTo(set.add_file());
      };
  add(*v1::Record::descriptor()->file());
  v1::CreateStreamRequest request;
  request.set_name("calls");
  request.set_format(v1::PAYLOAD_FORMAT_PROTOBUF);
  request.mutable_schema()->set_descriptor_set(set.SerializeAsString());
  request.mutable_schema()->set_message("icepie.v1.Record");
  return request;
}

class ProtobufTest : public ::testing::Test {
 protected:
  grpc::Status Create(const v1::CreateStreamRequest& request) {
    v1::Stream stream;
    return daemon_.Core()->CreateStream(Within(absl::Seconds(60)).get(), request, &stream);
  }
  std::string Answer(const std::string& sql, int64_t min_position) {
    v1::QueryResponse response;
    EXPECT_TRUE(
        Eventually([&] { return daemon_.Query("calls", sql, min_position, &response).ok(); },
                   absl::Seconds(60)));
    return response.body();
  }
  std::map<std::string, int64_t> Quarantined(const std::string& slice) {
    v1::ListQuarantinedRecordsRequest request;
    v1::ListQuarantinedRecordsResponse response;
    request.set_name(slice);
    EXPECT_TRUE(daemon_.Admin()
                    ->ListQuarantinedRecords(Within(absl::Seconds(60)).get(), request, &response)
                    .ok());
    std::map<std::string, int64_t> found;
    for (const auto& record : response.records()) found[record.code()] = record.position();
    return found;
  }

  DaemonFixture daemon_;
};

TEST_F(ProtobufTest, ColumnsNameFieldsAndBadBytesCostOneRecord) {
  daemon_.Start();
  ASSERT_TRUE(Create(CreateCalls()).ok());
  v1::ApplyDomainResponse applied;
  const auto status = daemon_.Apply(kCalls, &applied);
  ASSERT_TRUE(status.ok()) << status.error_message();
  v1::Record call;
  call.set_stream("append");
  call.mutable_event_time()->set_seconds(981173106);
  call.mutable_event_time()->set_nanos(125000000);
  call.add_headers()->set_name("h");
  call.set_position(int64_t{1} << 60);
  int64_t end = 0;
  ASSERT_TRUE(AppendPayload(daemon_, call.SerializeAsString(), &end).ok());
  const int64_t first = end - 1;
  call.clear_position();
  ASSERT_TRUE(AppendPayload(daemon_, call.SerializeAsString(), &end).ok());
  call.clear_event_time();
  ASSERT_TRUE(AppendPayload(daemon_, call.SerializeAsString(), &end).ok());
  ASSERT_TRUE(AppendPayload(daemon_, R"({"stream":"append"})", &end).ok());
  const std::string by_name =
      R"([{"name":"append","n":2,"last":"2001-02-03T04:05:06.125Z","headers":2,"total":1152921504606846976}])";
  EXPECT_EQ(Answer("SELECT * FROM by_name", end), by_name);
  EXPECT_EQ(Answer("SELECT count(*) AS n FROM names", end), R"([{"n":3}])");
  using Codes = std::map<std::string, int64_t>;
  EXPECT_EQ(Quarantined("calls.by_name"),
            (Codes{{"MISSING", first + 2}, {"INVALID_PROTOBUF", first + 3}}));
  EXPECT_EQ(Quarantined("calls.names"), (Codes{{"INVALID_PROTOBUF", first + 3}}));

  daemon_.Kill();
  daemon_.Start();
  call.mutable_event_time()->set_seconds(981173107);
  ASSERT_TRUE(AppendPayload(daemon_, call.SerializeAsString(), &end).ok());
  EXPECT_EQ(Answer("SELECT n, last FROM by_name", end),
            R"([{"n":3,"last":"2001-02-03T04:05:07Z"}])");
}

TEST_F(ProtobufTest, AColumnThatNamesNoFieldIsRefusedWithThoseNearIt) {
  daemon_.Start();
  ASSERT_TRUE(Create(CreateCalls()).ok());
  const auto refusal = [&](const std::string& from, const std::string& to) {
    v1::ApplyDomainResponse response;
    return server::FromGrpcStatus(
        daemon_.Apply(absl::StrReplaceAll(kCalls, {{from, to}}), &response));
  };
  const absl::Status top = refusal("$.event_time", "$.event_tim");
  EXPECT_EQ(ErrorReason(top), "DEFINITION_INVALID");
  EXPECT_THAT(std::string(top.message()),
              HasSubstr(":6:7: sources.calls.columns.called: message icepie.v1.Record has no field "
                        "\"event_tim\" (did you mean \"event_time\"? have: "));
  EXPECT_EQ(GetErrorDetail(top)->metadata["line"], "6");
  const absl::Status inner = refusal("STRUCT(name VARCHAR,", "STRUCT(nam VARCHAR,");
  EXPECT_THAT(std::string(inner.message()),
              HasSubstr("columns.headers: message icepie.v1.Header has no field \"nam\""));
  const absl::Status repeated = refusal("path: $.position", "path: $.headers.name");
  EXPECT_THAT(std::string(repeated.message()),
              HasSubstr("field icepie.v1.Record.headers is repeated: read it as a list"));
  // Nothing was changed, and what is right is taken.
  v1::ListDomainsResponse domains;
  ASSERT_TRUE(daemon_.Admin()->ListDomains(Within(absl::Seconds(60)).get(), {}, &domains).ok());
  EXPECT_EQ(domains.domains_size(), 0);
  EXPECT_TRUE(refusal("BIGINT", "BIGINT").ok());
}

TEST_F(ProtobufTest, ASchemaIsCheckedAndNeverChanges) {
  daemon_.Start();
  const v1::CreateStreamRequest good = CreateCalls();
  v1::CreateStreamRequest bad = good;
  bad.mutable_schema()->set_descriptor_set("none");
  EXPECT_EQ(Reason(Create(bad)), "PARAMETER_INVALID");
  bad = good;
  bad.mutable_schema()->set_message("icepie.v1.Rekord");
  EXPECT_EQ(Reason(Create(bad)), "PARAMETER_INVALID");
  bad = good;
  bad.clear_schema();
  EXPECT_EQ(Reason(Create(bad)), "PARAMETER_INVALID");
  bad = good;
  bad.set_format(v1::PAYLOAD_FORMAT_JSON);
  EXPECT_EQ(Reason(Create(bad)), "PARAMETER_INVALID");
  bad = good;
  bad.set_key_path("$.key");
  EXPECT_EQ(Reason(Create(bad)), "PARAMETER_INVALID");
  ASSERT_TRUE(Create(good).ok());
  ASSERT_TRUE(Create(good).ok());
  bad = good;
  bad.mutable_schema()->set_message("icepie.v1.Header");
  EXPECT_EQ(Reason(Create(bad)), "STREAM_EXISTS");
  daemon_.Kill();
  daemon_.Start();
  ASSERT_TRUE(Create(good).ok());
  EXPECT_EQ(Reason(Create(bad)), "STREAM_EXISTS");
  v1::GetStreamRequest get;
  v1::Stream stream;
  get.set_name("calls");
  ASSERT_TRUE(daemon_.Core()->GetStream(Within(absl::Seconds(60)).get(), get, &stream).ok());
  EXPECT_EQ(stream.format(), v1::PAYLOAD_FORMAT_PROTOBUF);
  EXPECT_EQ(stream.schema().SerializeAsString(), good.schema().SerializeAsString());
}

}  // namespace
}  // namespace icepie::testing
