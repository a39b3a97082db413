#include "server/record/core_service.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <future>
#include <limits>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/segment/segment_reader.h"
#include "tests/server/rpc_fixture.h"

namespace icepie::server {
namespace {

using icepie::v1::AppendRecordsRequest;
using icepie::v1::AppendRecordsResponse;
using icepie::v1::ReadRecordsRequest;
using icepie::v1::ReadRecordsResponse;
using testing::HasSubstr;

AppendRecordsRequest Request(const std::string& stream, int64_t first, int64_t count) {
  AppendRecordsRequest request;
  for (int64_t n = first; n < first + count; ++n) {
    auto* record = request.add_records();
    record->set_stream(stream);
    record->set_payload("{\"n\":" + std::to_string(n) + "}");
  }
  return request;
}

// The bad fields that a refusal names.
std::vector<std::string> FieldsOf(const grpc::Status& refused) {
  std::vector<std::string> fields;
  const ErrorDetail detail = GetErrorDetail(FromGrpcStatus(refused)).value_or(ErrorDetail());
  for (const auto& violation : detail.violations) fields.push_back(violation.field);
  return fields;
}

class CoreServiceTest : public RpcFixture<CoreService> {
 protected:
  explicit CoreServiceTest(const SealingOptions& sealing = {})
      : RpcFixture(sealing), stub_(icepie::v1::Core::NewStub(channel_)) {}

  grpc::Status Append(const AppendRecordsRequest& request, AppendRecordsResponse* response) {
    grpc::ClientContext context;
    Bound(context);
    return stub_->AppendRecords(&context, request, response);
  }

  // The batch is refused with `reason`, and nothing is stored.
  grpc::Status Refused(const AppendRecordsRequest& request, const std::string& reason) {
    AppendRecordsResponse response;
    const int64_t head = core_->head_position();
    grpc::Status status = Append(request, &response);
    EXPECT_EQ(ReasonOf(status), reason) << status.error_message();
    EXPECT_EQ(core_->head_position(), head);
    return status;
  }

  grpc::Status Read(const ReadRecordsRequest& request, std::vector<icepie::v1::Record>* records,
                    int64_t* next = nullptr) {
    grpc::ClientContext context;
    Bound(context);
    const auto reader = stub_->ReadRecords(&context, request);
    ReadRecordsResponse response;
    while (reader->Read(&response)) {
      EXPECT_LT(response.ByteSizeLong(), size_t{2} << 20);
      for (const auto& record : response.records()) records->push_back(record);
      if (next != nullptr) *next = response.next_position();
    }
    return reader->Finish();
  }

  const std::unique_ptr<icepie::v1::Core::Stub> stub_;
};

TEST_F(CoreServiceTest, StreamsAreCreatedOnceAndListed) {
  icepie::v1::CreateStreamRequest request;
  request.set_name("flights");
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    icepie::v1::Stream stream;
    ASSERT_TRUE(stub_->CreateStream(&context, request, &stream).ok());
    EXPECT_EQ(stream.format(), icepie::v1::PAYLOAD_FORMAT_JSON);
    EXPECT_GT(stream.create_time().seconds(), 0);
  }
  request.set_format(icepie::v1::PAYLOAD_FORMAT_BYTES);
  grpc::ClientContext other;
  icepie::v1::Stream stream;
  const grpc::Status status = stub_->CreateStream(&other, request, &stream);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(status), "STREAM_EXISTS");

  grpc::ClientContext list;
  icepie::v1::ListStreamsResponse streams;
  ASSERT_TRUE(stub_->ListStreams(&list, {}, &streams).ok());
  ASSERT_EQ(streams.streams_size(), 1);
  EXPECT_EQ(streams.streams(0).name(), "flights");

  grpc::ClientContext get;
  icepie::v1::GetStreamRequest unknown;
  unknown.set_name("nope");
  EXPECT_EQ(ReasonOf(stub_->GetStream(&get, unknown, &stream)), "STREAM_NOT_FOUND");
}

TEST_F(CoreServiceTest, StreamsAreListedInPages) {
  for (int i = 1; i <= 101; ++i) Create("s" + std::to_string(1000 + i));
  const auto page = [&](const std::string& after, int32_t size) {
    grpc::ClientContext context;
    Bound(context);
    icepie::v1::ListStreamsRequest request;
    request.set_after_name(after);
    request.set_page_size(size);
    icepie::v1::ListStreamsResponse streams;
    EXPECT_TRUE(stub_->ListStreams(&context, request, &streams).ok());
    return streams;
  };
  const auto first = page("", 0);
  ASSERT_EQ(first.streams_size(), 100);
  EXPECT_EQ(first.streams(99).name(), "s1100");
  EXPECT_TRUE(first.more());
  const auto last = page("s1100", 0);
  ASSERT_EQ(last.streams_size(), 1);
  EXPECT_EQ(last.streams(0).name(), "s1101");
  EXPECT_FALSE(last.more());
  EXPECT_FALSE(page("s1001", 100).more()) << "it is full and the last";
  EXPECT_EQ(page("", -5).streams_size(), 100);
  EXPECT_EQ(page("", std::numeric_limits<int32_t>::max()).streams_size(), 101);

  // Where a page begins need not be the name of a stream, nor a name at all.
  EXPECT_EQ(page("s10", 1).streams(0).name(), "s1001");
  EXPECT_EQ(page("s1050x", 1).streams(0).name(), "s1051");
  EXPECT_EQ(page(" no name\n", 1).streams(0).name(), "s1001");
  EXPECT_EQ(page(std::string(1 << 20, 's'), 1).streams_size(), 0);
  EXPECT_EQ(page("s1101", 1).streams_size(), 0);
  EXPECT_EQ(page("zzz", 1).head_position(), core_->head_position());
}

// A page is what a client takes in one message, however large its streams' entries are.
TEST_F(CoreServiceTest, APageOfLargeStreamsEndsEarly) {
  const auto schema = std::make_shared<StreamSchema>(StreamSchema{"", std::string(500000, 'M')});
  for (int i = 0; i < 10; ++i) {
    const std::string name = "s" + std::to_string(i);
    ASSERT_TRUE(core_->CreateStream(name, PayloadFormat::kProtobuf, {}, schema).ok());
  }
  std::vector<std::string> names;
  icepie::v1::ListStreamsRequest request;
  icepie::v1::ListStreamsResponse page;
  do {
    grpc::ClientContext context;
    Bound(context);
    const grpc::Status status = stub_->ListStreams(&context, request, &page);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_GT(page.streams_size(), 0);
    EXPECT_LT(page.ByteSizeLong(), size_t{2} << 20);
    for (const auto& stream : page.streams()) names.push_back(stream.name());
    request.set_after_name(names.back());
  } while (page.more());
  EXPECT_THAT(names,
              testing::ElementsAre("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"));
}

TEST_F(CoreServiceTest, BadStreamNamesAndFormatsAreRefused) {
  icepie::v1::CreateStreamRequest request;
  icepie::v1::Stream stream;
  request.set_name("_admin");
  grpc::ClientContext context;
  EXPECT_EQ(ReasonOf(stub_->CreateStream(&context, request, &stream)), "STREAM_NAME_INVALID");
  request.set_name("a");
  request.set_format(static_cast<icepie::v1::PayloadFormat>(9));
  grpc::ClientContext second;
  EXPECT_EQ(ReasonOf(stub_->CreateStream(&second, request, &stream)), "PARAMETER_INVALID");
  request.set_name("A");
  request.set_key_path("k");
  request.set_event_time_path("t");
  grpc::ClientContext third;
  EXPECT_THAT(FieldsOf(stub_->CreateStream(&third, request, &stream)),
              testing::ElementsAre("format", "name", "key_path", "event_time_path"));
  EXPECT_TRUE(core_->ListStreams("", 100).empty());
}

TEST_F(CoreServiceTest, ARecordComesBackAsItWasAppended) {
  Create("raw", PayloadFormat::kBytes);
  AppendRecordsRequest request;
  auto* record = request.add_records();
  record->set_stream("raw");
  record->set_key(std::string("k\0", 2));
  record->set_payload(std::string("\xff\0", 2));
  record->mutable_event_time()->set_seconds(-1);
  record->mutable_event_time()->set_nanos(5000);
  auto* header = record->add_headers();
  header->set_name("producer");
  header->set_value("w-1");
  AppendRecordsResponse response;
  ASSERT_TRUE(Append(request, &response).ok());
  EXPECT_EQ(response.first_position(), 0);
  EXPECT_EQ(response.end_position(), 1);
  EXPECT_EQ(response.streams(0).end_offset(), 1);

  std::vector<icepie::v1::Record> records;
  ASSERT_TRUE(Read({}, &records).ok());
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].position(), 0);
  EXPECT_EQ(records[0].offset(), 0);
  EXPECT_EQ(records[0].ingest_time().seconds(), response.ingest_time().seconds());
  records[0].clear_position();
  records[0].clear_offset();
  records[0].clear_ingest_time();
  EXPECT_EQ(records[0].SerializeAsString(), request.records(0).SerializeAsString());
}

TEST_F(CoreServiceTest, BadBatchesAreRefusedWithTheirField) {
  Create("a");
  ASSERT_TRUE(core_->CreateInternalStream("_admin", PayloadFormat::kJson).ok());
  EXPECT_FALSE(Refused({}, "BATCH_EMPTY").ok());

  AppendRecordsRequest request = Request("a", 0, 3);
  request.mutable_records(2)->set_payload("{");
  const grpc::Status status = Refused(request, "PAYLOAD_INVALID");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(GetErrorDetail(FromGrpcStatus(status))->violations.at(0).field, "records[2].payload");

  request = Request("a", 0, 4);
  request.mutable_records(0)->set_payload("{");
  request.mutable_records(3)->set_payload("}");
  EXPECT_THAT(FieldsOf(Refused(request, "PAYLOAD_INVALID")),
              testing::ElementsAre("records[0].payload", "records[3].payload"));
  request.mutable_records(1)->set_position(7);
  request.mutable_records(2)->mutable_ingest_time();
  request.add_conditions()->set_stream("a");
  request.mutable_producer();
  EXPECT_THAT(FieldsOf(Refused(request, "PARAMETER_INVALID")),
              testing::ElementsAre("records[1].position", "records[2].ingest_time", "conditions[0]",
                                   "producer.producer_id"));

  request = Request("a", 0, 1);
  request.mutable_records(0)->set_position(7);
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
  request = Request("a", 0, 1);
  request.mutable_records(0)->set_offset(7);
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
  request = Request("a", 0, 1);
  request.mutable_records(0)->mutable_ingest_time();
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
  request = Request("a", 0, 1);
  request.mutable_records(0)->mutable_event_time()->set_nanos(-1);
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
  request = Request("a", 0, 1);
  request.add_conditions()->set_stream("a");
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
  EXPECT_FALSE(Refused(Request("_admin", 0, 1), "STREAM_NAME_RESERVED").ok());
  EXPECT_THAT(FieldsOf(Refused(Request("nope", 0, 1), "STREAM_NOT_FOUND")),
              testing::ElementsAre("records[0].stream"));
}

TEST_F(CoreServiceTest, ARetryIsAnsweredAlikeOnBothCalls) {
  Create("a");
  AppendRecordsRequest request = Request("a", 0, 2);
  request.set_request_id("6f1c");
  AppendRecordsResponse first;
  ASSERT_TRUE(Append(request, &first).ok());
  EXPECT_FALSE(first.replayed());

  grpc::ClientContext context;
  Bound(context);
  const auto call = stub_->StreamAppendRecords(&context);
  AppendRecordsRequest producer = Request("a", 2, 1);
  producer.mutable_producer()->set_producer_id("pump");
  for (const AppendRecordsRequest& sent : {request, producer, producer}) {
    ASSERT_TRUE(call->Write(sent));
  }
  call->WritesDone();
  AppendRecordsResponse again;
  ASSERT_TRUE(call->Read(&again));
  EXPECT_TRUE(again.replayed());
  again.clear_replayed();
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  ASSERT_TRUE(call->Read(&again));
  EXPECT_FALSE(again.replayed());
  EXPECT_EQ(again.first_position(), 2);
  ASSERT_TRUE(call->Read(&again));
  EXPECT_TRUE(again.replayed());
  EXPECT_EQ(again.first_position(), 2);
  EXPECT_TRUE(call->Finish().ok());
  EXPECT_EQ(core_->head_position(), 3);

  producer.mutable_producer()->set_sequence(2);
  EXPECT_FALSE(Refused(producer, "SEQUENCE_GAP").ok());
  producer.mutable_producer()->clear_producer_id();
  EXPECT_FALSE(Refused(producer, "PARAMETER_INVALID").ok());
  request.add_records()->set_stream("a");
  request.mutable_records(2)->set_payload("{}");
  const grpc::Status reused = Refused(request, "REQUEST_ID_REUSED");
  EXPECT_EQ(reused.error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(CoreServiceTest, StreamsReadKeysFromPayloads) {
  icepie::v1::CreateStreamRequest create;
  create.set_name("a");
  create.set_key_path("$.n");
  icepie::v1::Stream stream;
  grpc::ClientContext first;
  ASSERT_TRUE(stub_->CreateStream(&first, create, &stream).ok());
  EXPECT_EQ(stream.key_path(), "$.n");
  AppendRecordsResponse response;
  ASSERT_TRUE(Append(Request("a", 17, 1), &response).ok());
  std::vector<icepie::v1::Record> records;
  ASSERT_TRUE(Read({}, &records).ok());
  EXPECT_EQ(records.at(0).key(), "17");

  icepie::v1::UpdateStreamRequest update;
  update.set_name("a");
  update.set_event_time_path("$.at");
  grpc::ClientContext second;
  ASSERT_TRUE(stub_->UpdateStream(&second, update, &stream).ok());
  EXPECT_EQ(stream.key_path(), "$.n");
  EXPECT_EQ(stream.event_time_path(), "$.at");
  const grpc::Status status = Refused(Request("a", 18, 1), "PAYLOAD_INVALID");
  EXPECT_EQ(GetErrorDetail(FromGrpcStatus(status))->metadata.at("path"), "$.at");
  update.set_name("nope");
  grpc::ClientContext third;
  EXPECT_EQ(ReasonOf(stub_->UpdateStream(&third, update, &stream)), "STREAM_NOT_FOUND");
}

TEST_F(CoreServiceTest, ConditionsAndValidationOnly) {
  Create("a");
  AppendRecordsRequest request = Request("a", 0, 2);
  auto& condition = *request.add_conditions();
  condition.set_stream("a");
  condition.set_absent(true);
  request.set_validate_only(true);
  AppendRecordsResponse response;
  ASSERT_TRUE(Append(request, &response).ok());
  EXPECT_EQ(response.end_position(), 0);
  EXPECT_EQ(core_->head_position(), 0);
  request.set_validate_only(false);
  ASSERT_TRUE(Append(request, &response).ok());
  const grpc::Status failed = Refused(request, "APPEND_CONDITION_FAILED");
  EXPECT_EQ(failed.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(GetErrorDetail(FromGrpcStatus(failed))->metadata.at("a"), "2");
  condition.set_present(true);
  EXPECT_TRUE(Append(request, &response).ok());
  condition.set_present(false);
  EXPECT_FALSE(Refused(request, "PARAMETER_INVALID").ok());
}

TEST_F(CoreServiceTest, TheCoreRefusesWhatIsTooLarge) {
  Create("raw", PayloadFormat::kBytes);
  AppendRecordsRequest request;
  for (int i = 0; i < 5; ++i) {
    request.add_records()->set_stream("raw");
    request.mutable_records(i)->set_payload(std::string(900000, 'x'));
  }
  EXPECT_FALSE(Refused(request, "BATCH_TOO_LARGE").ok());
  request.clear_records();
  request.add_records()->set_stream("raw");
  request.mutable_records(0)->set_payload(std::string(1100000, 'x'));
  EXPECT_FALSE(Refused(request, "RECORD_TOO_LARGE").ok());
}

TEST_F(CoreServiceTest, StreamedBatchesAreAnsweredInOrder) {
  Create("a");
  constexpr int kBatches = 200;
  grpc::ClientContext context;
  Bound(context);
  const auto call = stub_->StreamAppendRecords(&context);
  std::thread writer([&] {
    for (int i = 0; i < kBatches; ++i) EXPECT_TRUE(call->Write(Request("a", i * 10, 10)));
    call->WritesDone();
  });
  AppendRecordsResponse response;
  int64_t answered = 0;
  while (call->Read(&response)) {
    EXPECT_EQ(response.first_position(), answered * 10);
    EXPECT_EQ(response.end_position(), ++answered * 10);
  }
  writer.join();
  EXPECT_TRUE(call->Finish().ok());
  EXPECT_EQ(answered, kBatches);
  const std::vector<ReadRecord> records = ReadAll(*core_);
  ASSERT_EQ(records.size(), size_t{kBatches} * 10);
  EXPECT_EQ(records.back().payload, "{\"n\":1999}");
}

// More than the core's queue holds, while it commits nothing: what is not read waits at the client,
// and no batch is refused.
TEST_F(CoreServiceTest, AStreamOfBatchesWaitsForTheCore) {
  Create("raw", PayloadFormat::kBytes);
  Create("a");
  std::promise<void> held, release;
  core_->Append(NumberedBatch("a", 0, 1), [&](const absl::StatusOr<AppendResult>&) {
    held.set_value();
    release.get_future().wait();
  });
  held.get_future().wait();
  const int64_t head = core_->head_position();
  constexpr int kBatches = 100;
  AppendRecordsRequest request;
  request.add_records()->set_stream("raw");
  std::mt19937_64 random(1);
  std::string payload(1000000, '\0');
  for (char& byte : payload) byte = static_cast<char>(random());  // does not compress
  request.mutable_records(0)->set_payload(payload);
  grpc::ClientContext context;
  Bound(context);
  const auto call = stub_->StreamAppendRecords(&context);
  std::atomic<int> written{0};
  std::thread writer([&] {
    for (; written < kBatches; ++written) EXPECT_TRUE(call->Write(request));
    call->WritesDone();
  });
  EXPECT_EQ(core_->WaitForHead(head, absl::Milliseconds(500)), head);  // time to read them all
  EXPECT_LT(written, kBatches) << "nothing holds the client up";
  release.set_value();
  AppendRecordsResponse response;
  int answers = 0;
  while (call->Read(&response)) ++answers;
  writer.join();
  const grpc::Status status = call->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(answers, kBatches);
}

// Nor does the core go on for a client that takes no answers, beyond those that are on their way.
TEST_F(CoreServiceTest, AStreamOfBatchesWaitsForItsReader) {
  Create("a");
  constexpr int kBatches = 10000;  // their answers are many times what the window below takes
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // the window stays at 64 KiB
  const auto stub = icepie::v1::Core::NewStub(grpc::CreateCustomChannel(
      absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  Bound(context);
  const auto call = stub->StreamAppendRecords(&context);
  std::thread writer([&] {
    const AppendRecordsRequest request = Request("a", 0, 1);
    for (int i = 0; i < kBatches; ++i) EXPECT_TRUE(call->Write(request));
    call->WritesDone();
  });
  int64_t head = 0;
  while (true) {  // until it stands still
    const int64_t now = core_->WaitForHead(head, absl::Milliseconds(300));
    if (now == head && head > 0) break;
    head = now;
  }
  EXPECT_LT(head, kBatches);
  AppendRecordsResponse response;
  int answers = 0;
  while (call->Read(&response)) ++answers;
  writer.join();
  EXPECT_TRUE(call->Finish().ok());
  EXPECT_EQ(answers, kBatches);
}

TEST_F(CoreServiceTest, TheFirstFailingBatchEndsTheCall) {
  Create("a");
  for (const bool at_commit : {false, true}) {
    SCOPED_TRACE(at_commit ? "refused at commit" : "refused at validation");
    const int64_t head = core_->head_position();
    grpc::ClientContext context;
    Bound(context);
    const auto call = stub_->StreamAppendRecords(&context);
    for (int i = 0; i < 6; ++i) {
      AppendRecordsRequest request = Request("a", i, 1);
      if (i == 3 && at_commit) {
        request.add_conditions()->set_stream("a");
        request.mutable_conditions(0)->set_end_offset(999);
      }
      if (i == 3 && !at_commit) request.mutable_records(0)->set_payload("nope");
      if (!call->Write(request)) break;
    }
    call->WritesDone();
    AppendRecordsResponse response;
    int answers = 0;
    while (call->Read(&response)) ++answers;
    const grpc::Status status = call->Finish();
    EXPECT_EQ(ReasonOf(status), at_commit ? "APPEND_CONDITION_FAILED" : "PAYLOAD_INVALID");
    EXPECT_EQ(answers, 3);
    EXPECT_EQ(core_->head_position(), head + 3);
  }
}

TEST_F(CoreServiceTest, ACancelledStreamOfBatchesEnds) {
  Create("a");
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    Bound(context);
    const auto call = stub_->StreamAppendRecords(&context);
    for (int b = 0; b < i; ++b) call->Write(Request("a", 0, 5));
    context.TryCancel();
    EXPECT_EQ(call->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  AppendRecordsResponse response;
  EXPECT_TRUE(Append(Request("a", 0, 1), &response).ok());
  EXPECT_EQ(core_->head_position() % 5, 1);  // whole batches only
}

TEST_F(CoreServiceTest, ReadingRespectsStreamsBoundsAndLimits) {
  Create("a");
  Create("b");
  AppendRecordsResponse appended;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Append(Request("a", i * 3, 3), &appended).ok());
    ASSERT_TRUE(Append(Request("b", i * 2, 2), &appended).ok());
  }
  ReadRecordsRequest request;
  request.add_streams("b");
  std::vector<icepie::v1::Record> records;
  int64_t next = 0;
  ASSERT_TRUE(Read(request, &records, &next).ok());
  ASSERT_EQ(records.size(), 10u);
  EXPECT_EQ(records[9].offset(), 9);
  EXPECT_EQ(next, 25);

  records.clear();
  request.set_from_position(4);
  request.set_max_records(2);
  ASSERT_TRUE(Read(request, &records, &next).ok());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].position(), 4);
  EXPECT_EQ(records[1].position(), 8);
  EXPECT_EQ(next, 9);

  records.clear();
  request.clear_streams();
  request.set_max_records(0);
  request.set_end_position(7);
  ASSERT_TRUE(Read(request, &records, &next).ok());
  EXPECT_EQ(records.size(), 3u);
  EXPECT_EQ(next, 7);

  records.clear();
  request.set_from_position(25);
  request.set_end_position(25);
  ASSERT_TRUE(Read(request, &records, &next).ok());
  EXPECT_TRUE(records.empty());
  EXPECT_EQ(next, 25);
}

TEST_F(CoreServiceTest, BadReadsAreRefused) {
  Create("a");
  std::vector<icepie::v1::Record> records;
  ReadRecordsRequest request;
  request.set_from_position(1);
  const grpc::Status ahead = Read(request, &records);
  EXPECT_EQ(ahead.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(ReasonOf(ahead), "POSITION_AHEAD_OF_CORE");
  request.set_from_position(-1);
  EXPECT_EQ(ReasonOf(Read(request, &records)), "PARAMETER_INVALID");
  request.set_from_position(0);
  request.set_max_records(-1);
  EXPECT_EQ(ReasonOf(Read(request, &records)), "PARAMETER_INVALID");
  request.set_max_records(0);
  request.add_streams("nope");
  const grpc::Status unknown = Read(request, &records);
  EXPECT_EQ(ReasonOf(unknown), "STREAM_NOT_FOUND");
  EXPECT_THAT(unknown.error_message(), HasSubstr("icepie stream create nope"));
}

TEST_F(CoreServiceTest, LargeReadsComeInSmallMessages) {
  Create("raw", PayloadFormat::kBytes);
  for (int i = 0; i < 4; ++i) {
    AppendBatch batch;
    for (int r = 0; r < 20; ++r)
      batch.records.push_back(MakeRecord("raw", std::string(100000, 'x')));
    RpcFixture::Append(std::move(batch));
  }
  std::vector<icepie::v1::Record> records;
  ASSERT_TRUE(Read({}, &records).ok());
  EXPECT_EQ(records.size(), 80u);
}

TEST_F(CoreServiceTest, FollowingDeliversNewRecordsUntilCancelled) {
  Create("a");
  Create("b");
  RpcFixture::Append(NumberedBatch("a", 0, 1));
  ReadRecordsRequest request;
  request.add_streams("a");
  request.set_follow(true);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  ReadRecordsResponse response;
  for (int64_t n = 0; n < 20; ++n) {
    ASSERT_TRUE(reader->Read(&response));
    ASSERT_EQ(response.records_size(), 1);
    EXPECT_EQ(response.records(0).offset(), n);
    RpcFixture::Append(NumberedBatch("b", n, 1));
    RpcFixture::Append(NumberedBatch("a", n + 1, 1));
  }
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(CoreServiceTest, FollowingEndsAtItsBound) {
  Create("a");
  ReadRecordsRequest request;
  request.set_follow(true);
  request.set_end_position(3);
  std::thread appender([&] {
    for (int i = 0; i < 5; ++i) RpcFixture::Append(NumberedBatch("a", i, 1));
  });
  std::vector<icepie::v1::Record> records;
  EXPECT_TRUE(Read(request, &records).ok());
  EXPECT_EQ(records.size(), 3u);
  appender.join();
}

TEST_F(CoreServiceTest, AStreamIsReadByItsOffsets) {
  Create("a");
  Create("b");
  for (int i = 0; i < 50; ++i) {
    RpcFixture::Append(NumberedBatch("b", i, 1));
    RpcFixture::Append(NumberedBatch("a", i * 3, 3));
  }
  for (int from = 0; from <= 150; from += 7) {
    for (const int end : {from, from + 1, from + 20, 150, 400}) {
      ReadRecordsRequest request;
      request.add_streams("a");
      request.set_from_offset(from);
      request.set_end_offset(end);
      std::vector<icepie::v1::Record> records;
      ASSERT_TRUE(Read(request, &records).ok());
      ASSERT_EQ(static_cast<int>(records.size()), std::max(0, std::min(end, 150) - from));
      for (size_t i = 0; i < records.size(); ++i) {
        ASSERT_EQ(records[i].offset(), from + static_cast<int64_t>(i));
        ASSERT_EQ(records[i].payload(), "{\"n\":" + std::to_string(records[i].offset()) + "}");
      }
    }
  }
}

TEST_F(CoreServiceTest, AnEndOffsetEndsAFollow) {
  Create("a");
  RpcFixture::Append(NumberedBatch("a", 0, 2));
  ReadRecordsRequest request;
  request.add_streams("a");
  request.set_from_offset(2);  // the next one to come
  request.set_end_offset(5);
  request.set_follow(true);
  std::thread appender([&] {
    for (int i = 2; i < 9; ++i) RpcFixture::Append(NumberedBatch("a", i, 1));
  });
  std::vector<icepie::v1::Record> records;
  int64_t next = 0;
  EXPECT_TRUE(Read(request, &records, &next).ok());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].offset(), 2);
  EXPECT_EQ(next, 5);
  appender.join();
}

TEST_F(CoreServiceTest, BadBoundsNameTheirField) {
  Create("a");
  Create("b");
  RpcFixture::Append(NumberedBatch("a", 0, 5));
  const auto refused = [&](const ReadRecordsRequest& request) {
    std::vector<icepie::v1::Record> records;
    const grpc::Status status = Read(request, &records);
    EXPECT_TRUE(records.empty());
    const auto detail = GetErrorDetail(FromGrpcStatus(status));
    if (!detail || detail->violations.empty()) return ReasonOf(status);
    return detail->violations[0].field;
  };
  ReadRecordsRequest request;
  request.set_from_position(3);
  request.set_end_position(2);
  EXPECT_EQ(refused(request), "end_position");
  request.Clear();
  request.set_from_offset(1);
  EXPECT_EQ(refused(request), "streams");
  request.add_streams("a");
  request.set_from_position(1);
  EXPECT_EQ(refused(request), "from_offset");
  request.set_from_position(0);
  request.set_from_offset(6);
  EXPECT_EQ(refused(request), "POSITION_AHEAD_OF_CORE");
  request.set_from_offset(-1);
  EXPECT_EQ(refused(request), "from_offset");
  request.set_from_offset(2);
  request.set_end_offset(1);
  EXPECT_EQ(refused(request), "end_offset");
  request.clear_end_offset();
  request.add_streams("b");
  EXPECT_EQ(refused(request), "streams");
  request.Clear();
  request.add_streams("nope");
  request.set_from_offset(0);
  EXPECT_EQ(refused(request), "STREAM_NOT_FOUND");
  request.Clear();
  request.mutable_heartbeat_interval()->set_nanos(99000000);
  EXPECT_EQ(refused(request), "heartbeat_interval");
  request.mutable_heartbeat_interval()->set_seconds(601);
  EXPECT_EQ(refused(request), "heartbeat_interval");
  request.set_from_position(-1);
  request.set_max_records(-1);
  std::vector<icepie::v1::Record> records;
  EXPECT_THAT(FieldsOf(Read(request, &records)),
              testing::ElementsAre("max_records", "from_position", "heartbeat_interval"));
}

// What is no number of a record, or of records, is named with its value.
TEST_F(CoreServiceTest, NegativeNumbersNameTheirFieldAndValue) {
  Create("a");
  RpcFixture::Append(NumberedBatch("a", 0, 5));
  const auto expect = [](const grpc::Status& status, const std::string& field,
                         const std::string& value) {
    const absl::Status refused = FromGrpcStatus(status);
    EXPECT_EQ(ErrorReason(refused), "PARAMETER_INVALID") << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(value));
    const auto detail = GetErrorDetail(refused);
    ASSERT_TRUE(detail && detail->violations.size() == 1) << refused;
    EXPECT_EQ(detail->violations[0].field, field);
  };
  const auto call = [this](auto method, const auto& request, auto response) {
    grpc::ClientContext context;
    Bound(context);
    return (stub_.get()->*method)(&context, request, &response);
  };
  using Stub = icepie::v1::Core::Stub;
  icepie::v1::GetRecordRequest get;
  get.set_position(-7);
  expect(call(&Stub::GetRecord, get, icepie::v1::Record()), "position", "-7");
  get.mutable_stream_offset()->set_stream("a");
  get.mutable_stream_offset()->set_offset(-8);
  expect(call(&Stub::GetRecord, get, icepie::v1::Record()), "offset", "-8");
  icepie::v1::TraceRecordRequest trace;
  trace.set_position(-9);
  expect(call(&Stub::TraceRecord, trace, icepie::v1::TraceRecordResponse()), "position", "-9");
  icepie::v1::GetCheckpointRequest checkpoint;
  checkpoint.set_min_size(-1);
  expect(call(&Stub::GetCheckpoint, checkpoint, icepie::v1::Checkpoint()), "min_size", "-1");
  icepie::v1::GetInclusionProofRequest inclusion;
  inclusion.set_position(-2);
  expect(call(&Stub::GetInclusionProof, inclusion, icepie::v1::InclusionProof()), "position", "-2");
  inclusion.set_position(0);
  inclusion.set_tree_size(-3);
  expect(call(&Stub::GetInclusionProof, inclusion, icepie::v1::InclusionProof()), "tree_size",
         "-3");
  icepie::v1::GetConsistencyProofRequest consistency;
  consistency.set_old_size(4);
  consistency.set_size(3);
  expect(call(&Stub::GetConsistencyProof, consistency, icepie::v1::ConsistencyProof()), "old_size",
         "4");
  consistency.set_size(-3);
  expect(call(&Stub::GetConsistencyProof, consistency, icepie::v1::ConsistencyProof()), "size",
         "-3");
}

TEST_F(CoreServiceTest, AKeyPrefixFilters) {
  Create("a");
  AppendBatch batch;
  for (int i = 0; i < 1000; ++i) {
    NewRecord record = MakeRecord("a", std::to_string(i));
    if (i % 3 != 0) record.key = i % 3 == 1 ? "user/" + std::to_string(i) : "us";
    batch.records.push_back(std::move(record));
  }
  RpcFixture::Append(std::move(batch));
  ReadRecordsRequest request;
  request.set_key_prefix("user/");
  std::vector<icepie::v1::Record> records;
  int64_t next = 0;
  ASSERT_TRUE(Read(request, &records, &next).ok());
  ASSERT_EQ(records.size(), 333u);
  EXPECT_EQ(records[1].payload(), "4");
  EXPECT_EQ(next, 1000);
  records.clear();
  request.set_max_records(2);  // counts what is sent
  ASSERT_TRUE(Read(request, &records, &next).ok());
  EXPECT_EQ(records.size(), 2u);
  EXPECT_EQ(next, 5);
}

TEST_F(CoreServiceTest, AFollowerHearsWhenItHasCaughtUpAndThenHeartbeats) {
  Create("a");
  Create("b");
  RpcFixture::Append(NumberedBatch("a", 0, 3));
  RpcFixture::Append(NumberedBatch("b", 0, 3));
  ReadRecordsRequest request;
  request.add_streams("a");
  request.set_key_prefix("nobody has it");
  request.set_follow(true);
  request.mutable_heartbeat_interval()->set_nanos(100000000);
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, request);
  ReadRecordsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(response.caught_up());
  EXPECT_FALSE(response.heartbeat());
  EXPECT_EQ(response.records_size(), 0);
  EXPECT_EQ(response.next_position(), 6);
  for (int64_t beat = 1; beat <= 3; ++beat) {
    RpcFixture::Append(NumberedBatch("b", beat, 1));  // nothing for this follower
    const auto before = std::chrono::steady_clock::now();
    do {  // an append that takes long is preceded by heartbeats of the head before it
      ASSERT_TRUE(reader->Read(&response));
      EXPECT_TRUE(response.heartbeat());
      EXPECT_TRUE(response.caught_up());
      EXPECT_EQ(response.records_size(), 0);
    } while (response.head_position() < 6 + beat);
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(20));
    EXPECT_EQ(response.head_position(), 6 + beat);
    EXPECT_EQ(response.next_position(), 6 + beat);
  }
  context.TryCancel();
}

TEST_F(CoreServiceTest, ABoundedReadSaysThatItIsComplete) {
  Create("raw", PayloadFormat::kBytes);
  AppendBatch batch;
  for (int r = 0; r < 30; ++r) batch.records.push_back(MakeRecord("raw", std::string(90000, 'x')));
  RpcFixture::Append(std::move(batch));
  grpc::ClientContext context;
  Bound(context);
  const auto reader = stub_->ReadRecords(&context, ReadRecordsRequest());
  ReadRecordsResponse response;
  int64_t messages = 0;
  while (reader->Read(&response)) {
    ++messages;
    EXPECT_EQ(response.caught_up(), response.next_position() == 30);
  }
  EXPECT_GT(messages, 2);
  EXPECT_TRUE(response.caught_up());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(CoreServiceTest, ARecordIsFoundByPositionAndByOffset) {
  Create("a");
  Create("b");
  RpcFixture::Append(NumberedBatch("a", 0, 3));
  RpcFixture::Append(NumberedBatch("b", 7, 2));
  const auto get = [&](const icepie::v1::GetRecordRequest& request, icepie::v1::Record* record) {
    grpc::ClientContext context;
    Bound(context);
    return stub_->GetRecord(&context, request, record);
  };
  icepie::v1::GetRecordRequest request;
  icepie::v1::Record record;
  request.set_position(4);
  ASSERT_TRUE(get(request, &record).ok());
  EXPECT_EQ(record.stream(), "b");
  EXPECT_EQ(record.offset(), 1);
  EXPECT_EQ(record.payload(), "{\"n\":8}");
  request.mutable_stream_offset()->set_stream("a");
  request.mutable_stream_offset()->set_offset(2);
  ASSERT_TRUE(get(request, &record).ok());
  EXPECT_EQ(record.position(), 2);
  request.mutable_stream_offset()->set_offset(3);
  EXPECT_EQ(ReasonOf(get(request, &record)), "POSITION_AHEAD_OF_CORE");
  request.mutable_stream_offset()->set_stream("nope");
  EXPECT_EQ(ReasonOf(get(request, &record)), "STREAM_NOT_FOUND");
  request.set_position(5);
  EXPECT_EQ(ReasonOf(get(request, &record)), "POSITION_AHEAD_OF_CORE");
  request.set_position(6);
  EXPECT_EQ(ReasonOf(get(request, &record)), "POSITION_AHEAD_OF_CORE");
  request.set_position(-1);
  EXPECT_EQ(ReasonOf(get(request, &record)), "PARAMETER_INVALID");
  request.clear_place();
  EXPECT_EQ(ReasonOf(get(request, &record)), "PARAMETER_INVALID");
}

TEST_F(CoreServiceTest, ADeadlineEndsAFollow) {
  Create("a");
  ReadRecordsRequest request;
  request.set_follow(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  const auto reader = stub_->ReadRecords(&context, request);
  ReadRecordsResponse response;
  EXPECT_TRUE(reader->Read(&response));  // caught up with nothing
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

class DamagedReadTest : public CoreServiceTest {
 protected:
  DamagedReadTest() : CoreServiceTest(SmallSegments()) {}
};

TEST_F(DamagedReadTest, RecordsBeforeTheDamageAreReadAndThenItIsNamed) {
  Create("a");
  Create("b");
  int64_t n = 0;
  ASSERT_TRUE(EventuallyInCore([&] {
    RpcFixture::Append(NumberedBatch(n % 20 == 0 ? "a" : "b", n, 10));
    n += 10;
    return core_->Storage().segment_count > 1;
  }));
  const auto lease = core_->LeaseSegments(0, INT64_MAX, 2);
  const std::string file = directory_.path() + "/" + lease->segments()[1].path;
  const SegmentBlock block = (*SegmentReader::Open(file))->blocks()[1];
  {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(static_cast<int64_t>(block.place) + 50);
    const auto byte = static_cast<char>(stream.get() ^ 4);
    stream.seekp(static_cast<int64_t>(block.place) + 50);
    stream.put(byte);
  }
  for (const bool follow : {false, true}) {
    SCOPED_TRACE(follow);
    ReadRecordsRequest request;
    request.set_follow(follow);
    std::vector<icepie::v1::Record> records;
    int64_t next = 0;
    const grpc::Status status = Read(request, &records, &next);
    EXPECT_EQ(ReasonOf(status), "RECORD_DAMAGED") << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(file));
    ASSERT_EQ(static_cast<int64_t>(records.size()), block.header.first_position);
    for (size_t i = 0; i < records.size(); ++i) {
      EXPECT_EQ(records[i].position(), static_cast<int64_t>(i));
    }
    EXPECT_EQ(next, block.header.first_position);
  }
}

}  // namespace
}  // namespace icepie::server
