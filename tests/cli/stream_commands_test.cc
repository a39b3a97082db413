// stream, append, import and read against the real core and its service.
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tests/cli/core_program_fixture.h"

namespace icepie::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class StreamCommandsTest : public CoreProgramFixture {
 protected:
  int64_t EndOffset(const std::string& stream) {
    const auto info = core_->GetStream(stream);
    return info.ok() ? info->end_offset : -1;
  }

  std::string Lines(int from, int to) {
    std::string lines;
    for (int i = from; i < to; ++i) lines += "{\"n\":" + std::to_string(i) + "}\n";
    return lines;
  }
};

TEST_F(StreamCommandsTest, CreateAndList) {
  EXPECT_EQ(Run({"stream", "create", "flights"}).out, "stream flights (json, 0 records)\n");
  EXPECT_EQ(Run({"stream", "create", "raw", "--format", "bytes"}).code, 0);
  const Outcome listed = Run({"stream", "list"});
  EXPECT_THAT(listed.out, HasSubstr("flights  json"));
  EXPECT_THAT(listed.out, HasSubstr("2 streams · head position 0"));
  EXPECT_THAT(Run({"--json", "stream", "list"}).out, HasSubstr("\"end_offset\": \"0\""));
  EXPECT_THAT(Run({"stream", "list", "--json"}).out, HasSubstr("\"name\": \"flights\""));
  const Outcome other = Run({"stream", "create", "raw"});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, StartsWith("icepie: "));
  EXPECT_EQ(Run({"stream", "create", "Bad Name"}).code, 1);
}

// Serves its streams in pages of two.
class PagingCore : public icepie::v1::Core::Service {
 public:
  grpc::Status ListStreams(grpc::ServerContext* /*context*/,
                           const icepie::v1::ListStreamsRequest* request,
                           icepie::v1::ListStreamsResponse* response) override {
    auto next = names.upper_bound(request->after_name());
    for (int i = 0; i < 2 && next != names.end(); ++i) {
      response->add_streams()->set_name(*next++);
    }
    response->set_head_position(7);
    response->set_more(next != names.end());
    return grpc::Status::OK;
  }
  const std::set<std::string> names = {"a", "b", "c", "d", "e"};
};

using StreamPagesTest = ProgramFixture;

TEST_F(StreamPagesTest, AllPagesAreListed) {
  PagingCore core;
  Serve({&core});
  const Outcome listed = Run({"stream", "list"});
  EXPECT_EQ(listed.code, 0) << listed.err;
  for (const std::string& name : core.names) {
    EXPECT_THAT(listed.out, HasSubstr("\n" + name + " ")) << listed.out;
  }
  EXPECT_THAT(listed.out, HasSubstr("5 streams · head position 7"));
  const Outcome json = Run({"--json", "stream", "list"});
  icepie::v1::ListStreamsResponse all;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json.out, &all).ok()) << json.out;
  EXPECT_EQ(all.streams_size(), 5);
  EXPECT_EQ(all.head_position(), 7);
  EXPECT_FALSE(all.more());
}

TEST_F(StreamCommandsTest, AnImportIsToldHowLongToTryAgain) {
  const Outcome wrong = Run({"import", "flights", "-", "--retry-for", "soon"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("--retry-for: a duration such as 30s"));
  EXPECT_EQ(Run({"import", "flights", "-", "--retry-for", "-3s"}).code, 1);
}

TEST_F(StreamCommandsTest, AppendAndRead) {
  Run({"stream", "create", "flights"});
  EXPECT_EQ(Run({"append", "flights", "--payload", "{\"a\":1}", "--key", "k"}).out,
            "1 record at position 0 · end position 1\n");
  EXPECT_EQ(Run({"append", "flights"}, "{\"a\":2}\n\n{\"a\":3}\n").out,
            "2 records at position 1 · end position 3\n");
  const Outcome read = Run({"read", "flights", "--from", "0", "--limit", "2"});
  EXPECT_EQ(read.code, 0);
  EXPECT_THAT(read.out, HasSubstr("[k]  {\"a\":1}\n"));
  EXPECT_THAT(read.out, HasSubstr("{\"a\":2}\n"));
  EXPECT_THAT(read.out, Not(HasSubstr("{\"a\":3}")));
  EXPECT_THAT(Run({"read", "--json"}).out, HasSubstr("\"stream\":\"flights\""));
}

TEST_F(StreamCommandsTest, ReadTakesBoundsOfBothKinds) {
  Run({"stream", "create", "a"});
  Run({"stream", "create", "b"});
  for (int i = 0; i < 4; ++i) {
    const std::string n = std::to_string(i);
    Run({"append", "b", "10" + n, "--key", "k" + n});
    Run({"append", "a", "--payload", "20" + n, "--key", "k" + n});
  }
  const Outcome by_offset = Run({"read", "a", "--offset", "1", "--end-offset", "3"});
  EXPECT_THAT(by_offset.out, HasSubstr("201\n"));
  EXPECT_THAT(by_offset.out, HasSubstr("202\n"));
  EXPECT_THAT(by_offset.out, Not(HasSubstr("200\n")));
  EXPECT_THAT(by_offset.out, Not(HasSubstr("203\n")));
  const Outcome by_position = Run({"read", "--from", "1", "--end", "3", "--json"});
  EXPECT_THAT(by_position.out, StartsWith("{\"stream\":\"a\""));
  EXPECT_EQ(std::count(by_position.out.begin(), by_position.out.end(), '\n'), 2);
  EXPECT_THAT(Run({"read", "--key-prefix", "k3", "--limit", "1"}).out, HasSubstr("[k3]  103\n"));
  EXPECT_EQ(Run({"read", "a", "--follow", "--offset", "3", "--end-offset", "4"}).code, 0);
  EXPECT_THAT(Run({"read", "--offset", "1"}).err, HasSubstr("must be one stream"));
  EXPECT_THAT(Run({"read", "a", "--from", "1", "--offset", "1"}).err, HasSubstr("--offset"));
  EXPECT_THAT(Run({"read", "--from", "9"}).err, HasSubstr("beyond the core's head 8"));
  const Outcome described = Run({"stream", "describe", "a"});
  EXPECT_THAT(described.out, HasSubstr("records  4\nfirst    position 1, "));
  EXPECT_THAT(described.out, HasSubstr("last     position 7, "));
  EXPECT_THAT(Run({"stream", "describe", "a", "--json"}).out, HasSubstr("\"end_offset\": \"4\""));
  EXPECT_EQ(Run({"stream", "describe", "nope"}).code, 1);
}

TEST_F(StreamCommandsTest, TraceWithoutSlicesNamesTheRecord) {
  Run({"stream", "create", "flights"});
  Run({"append", "flights"}, Lines(0, 3));
  const Outcome traced = Run({"trace", "2"});
  EXPECT_THAT(traced.out, StartsWith("position 2  flights offset 2  "));
  EXPECT_THAT(traced.out, HasSubstr("0 slices"));
  EXPECT_THAT(Run({"trace", "2", "--json"}).out, HasSubstr("\"head_position\": \"3\""));
  EXPECT_EQ(Run({"trace", "3"}).code, 1);
}

TEST_F(StreamCommandsTest, RefusedAppendsChangeNothing) {
  Run({"stream", "create", "flights"});
  const Outcome bad = Run({"append", "flights"}, "{\"a\":1}\n{\"a\":}\n");
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, HasSubstr("record 1 of the batch"));
  EXPECT_EQ(Run({"append", "flights"}, "\n").code, 1);
  EXPECT_EQ(Run({"append", "nope", "--payload", "1"}).code, 1);
  const Outcome large = Run({"append", "flights"}, "\"" + std::string(4 << 20, 'x') + "\"\n");
  EXPECT_THAT(large.err, HasSubstr("icepie import flights -"));
  EXPECT_EQ(EndOffset("flights"), 0);
}

TEST_F(StreamCommandsTest, ImportInOrder) {
  const std::string file = Write("a.jsonl", Lines(0, 5000));
  const Outcome missing = Run({"import", "flights", file});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("--create"));
  const Outcome imported = Run({"import", "flights", file, "--create", "--batch-records", "77"});
  EXPECT_EQ(imported.code, 0) << imported.err;
  EXPECT_THAT(imported.out, StartsWith("5,000 records into flights in "));
  // Off a terminal as plain lines (progress_test has the bar, the rate and the ETA).
  EXPECT_THAT(imported.err, ::testing::ContainsRegex("import.* [0-9.]+ ?[kM]?/s"));
  EXPECT_EQ(EndOffset("flights"), 5000);
  const auto again = nlohmann::json::parse(Run({"import", "flights", file, "--json"}).out);
  EXPECT_EQ(again["stream"], "flights");
  EXPECT_EQ(again["records"], 5000);
  EXPECT_EQ(again["end_position"], 10000);
  const Outcome tail = Run({"read", "flights", "--from", "4998"});
  EXPECT_THAT(tail.out, HasSubstr("{\"n\":4998}\n"));
  EXPECT_THAT(tail.out, HasSubstr("{\"n\":4999}\n"));
}

TEST_F(StreamCommandsTest, ResumeDoublesNothing) {
  const std::string file = Write("a.jsonl", Lines(0, 1000));
  EXPECT_EQ(Run({"import", "flights", file, "--create", "--resume", "--limit", "300"}).code, 0);
  EXPECT_EQ(EndOffset("flights"), 300);
  EXPECT_EQ(Run({"import", "flights", file, "--resume", "--batch-records", "64"}).code, 0);
  EXPECT_EQ(EndOffset("flights"), 1000);
  const Outcome again = Run({"import", "flights", file, "--resume"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.out, StartsWith("nothing to do: stream flights holds 1,000 records"));
  EXPECT_EQ(EndOffset("flights"), 1000);
  const auto nothing =
      nlohmann::json::parse(Run({"--json", "import", "flights", file, "--resume"}).out);
  EXPECT_EQ(nothing["stream"], "flights");
  EXPECT_EQ(nothing["records"], 0);
  EXPECT_EQ(nothing["end_offset"], 1000);
  EXPECT_THAT(Run({"read", "flights", "--from", "300", "--limit", "1"}).out,
              HasSubstr("{\"n\":300}"));
}

TEST_F(StreamCommandsTest, ResumeTakesNothingOfAnotherOriginForTheFiles) {
  const std::string file = Write("a.jsonl", Lines(0, 100));
  Run({"stream", "create", "flights"});
  Run({"append", "flights"}, Lines(500, 520));
  const Outcome refused = Run({"import", "flights", file, "--resume"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("record 20 of"));
  EXPECT_THAT(refused.err, HasSubstr("--base-offset"));
  EXPECT_EQ(EndOffset("flights"), 20);

  // As it ends after an interruption: a part of the file behind what was there.
  Run({"append", "flights"}, Lines(0, 30));
  const Outcome resumed = Run({"import", "flights", file, "--resume", "--base-offset", "20"});
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(EndOffset("flights"), 120);
  EXPECT_THAT(Run({"read", "flights", "--offset", "50", "--limit", "1"}).out,
              HasSubstr("{\"n\":30}"));
  EXPECT_EQ(Run({"import", "flights", file, "--resume", "--base-offset", "121"}).code, 1);
  EXPECT_EQ(Run({"import", "flights", file, "--base-offset", "20"}).code, 1);

  // Whole, and others after it.
  Run({"append", "flights"}, Lines(900, 910));
  for (const std::string& name : {"a.jsonl", "a.csv"}) {
    std::string csv = "n\n";
    for (int i = 0; i < 100; ++i) csv += std::to_string(i) + "\n";
    const std::string path = name == "a.csv" ? Write(name, csv) : file;
    const Outcome again = Run({"import", "flights", path, "--resume", "--base-offset", "20"});
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(again.out, StartsWith("nothing to do"));
  }
  EXPECT_EQ(EndOffset("flights"), 130);
}

TEST_F(StreamCommandsTest, ALimitThatTheStreamHasReachedProvesNothing) {
  const std::string file = Write("a.jsonl", Lines(0, 100));
  Run({"stream", "create", "flights"});
  Run({"append", "flights"}, Lines(500, 520));
  for (const char* limit : {"7", "20"}) {
    const Outcome refused = Run({"import", "flights", file, "--resume", "--limit", limit});
    EXPECT_EQ(refused.code, 3) << refused.out;
    EXPECT_THAT(refused.err, HasSubstr(absl::StrCat("record ", limit, " of")));
  }
  EXPECT_EQ(Run({"import", "flights", file, "--resume", "--limit", "0"}).code, 0);
  EXPECT_EQ(EndOffset("flights"), 20);
}

// An import that goes on does so as it began.
TEST_F(StreamCommandsTest, ResumeWithoutTheEventTimeOfBeforeIsRefused) {
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += R"({"at":"2026-01-02T03:04:05Z"})"
             "\n";
  const std::string part = Write("a.jsonl", lines + "{\n");
  const Outcome stopped = Run({"import", "flights", part, "--create", "--event-time", "at"});
  EXPECT_EQ(stopped.code, 1);
  EXPECT_THAT(stopped.err, HasSubstr("repeat the command with --resume"));
  const std::string whole = Write("a.jsonl", lines + lines);
  const Outcome refused = Run({"import", "flights", whole, "--resume"});
  EXPECT_EQ(refused.code, 3) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("event time"));
  const Outcome resumed = Run({"import", "flights", whole, "--resume", "--event-time", "at"});
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(EndOffset("flights"), 40);
  // Where the stream's own path gives it, none is sent.
  ASSERT_EQ(Run({"stream", "create", "others", "--event-time-path", "$.at"}).code, 0);
  EXPECT_EQ(Run({"import", "others", whole, "--limit", "10"}).code, 0);
  EXPECT_EQ(Run({"import", "others", whole, "--resume"}).code, 0);
  EXPECT_EQ(EndOffset("others"), 40);
}

TEST_F(StreamCommandsTest, BadLineStopsTheImportWhereItIs) {
  const std::string file = Write("a.jsonl", Lines(0, 200) + "{\"n\":\n" + Lines(201, 300));
  const Outcome outcome = Run({"import", "flights", file, "--create", "--batch-records", "50"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("a.jsonl:201: not well-formed JSON"));
  EXPECT_THAT(outcome.err, HasSubstr("200 records stored"));
  EXPECT_THAT(outcome.err, HasSubstr("--resume"));
  EXPECT_EQ(EndOffset("flights"), 200);
}

// No progress stands before it.
TEST_F(StreamCommandsTest, ForProgramsAnErrorIsAllThatIsWritten) {
  const std::string good = Write("good.jsonl", Lines(0, 200));
  const Outcome imported = Run({"import", "flights", good, "--create", "--json"});
  EXPECT_EQ(imported.code, 0);
  EXPECT_EQ(imported.err, "");
  EXPECT_EQ(nlohmann::json::parse(imported.out)["records"], 200);
  const Outcome stopped =
      Run({"import", "flights", Write("bad.jsonl", Lines(0, 200) + "{\"n\":\n"), "--json"});
  EXPECT_EQ(stopped.code, 1);
  const auto error = nlohmann::json::parse(stopped.err, nullptr, false);
  EXPECT_EQ(error["code"], "INVALID_ARGUMENT") << stopped.err;
  EXPECT_THAT(Run({"import", "flights", good}).err, HasSubstr("import flights")) << "people see it";
}

TEST_F(StreamCommandsTest, RecordTooLargeForTheCore) {
  const std::string file =
      Write("a.jsonl", Lines(0, 10) + "\"" + std::string(2 << 20, 'x') + "\"\n" + Lines(11, 20));
  const Outcome outcome = Run({"import", "flights", file, "--create"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("10 records stored"));
  EXPECT_THAT(outcome.err, HasSubstr("in the batch after record 10 of"));
}

TEST_F(StreamCommandsTest, CsvAndMixedUp) {
  EXPECT_EQ(Run({"import", "airports", Write("a.csv", "iata,city\nZRH,Zürich\n"), "--create"}).code,
            0);
  EXPECT_THAT(Run({"read", "airports"}).out, HasSubstr(R"({"iata":"ZRH","city":"Zürich"})"));
  EXPECT_EQ(Run({"import", "airports", "/nonexistent.csv"}).code, 1);
  EXPECT_EQ(Run({"import", "airports", Write("a.txt", "x")}).code, 1);
}

TEST_F(StreamCommandsTest, EmptyFileImportsNothing) {
  const Outcome outcome = Run({"import", "flights", Write("a.jsonl", ""), "--create"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("0 records into flights"));
}

TEST_F(StreamCommandsTest, PathsAreSetShownAndChanged) {
  EXPECT_EQ(Run({"stream", "create", "a", "--key-path", "$.n"}).code, 0);
  EXPECT_THAT(Run({"stream", "describe", "a"}).out, HasSubstr("key      $.n"));
  EXPECT_THAT(Run({"stream", "update", "a", "--event-time-path", "$.at"}).out,
              HasSubstr("time     $.at"));
  const Outcome refused = Run({"append", "a", "--payload", "{\"n\":1}"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("$.at of the payload is missing"));
  EXPECT_THAT(Run({"stream", "update", "a", "--event-time-path", ""}).out, Not(HasSubstr("$.at")));
  EXPECT_EQ(Run({"append", "a", "--payload", "{\"n\":1}"}).code, 0);
  EXPECT_THAT(Run({"read", "a"}).out, HasSubstr("[1]"));
  EXPECT_THAT(Run({"stream", "create", "b", "--key-path", "n"}).err, HasSubstr("key_path"));
}

TEST_F(StreamCommandsTest, AppendsAreSentAgainAndOnlyChecked) {
  ASSERT_EQ(Run({"stream", "create", "a"}).code, 0);
  const auto append = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"append", "a", "--payload", "{}"};
    all.insert(all.end(), more.begin(), more.end());
    return Run(all);
  };
  EXPECT_THAT(append({"--validate-only"}).out, HasSubstr("would be stored at position 0"));
  EXPECT_THAT(append({"--request-id", "x"}).out, StartsWith("1 record at position 0"));
  EXPECT_THAT(append({"--request-id", "x"}).out, StartsWith("already stored: 1 record"));
  EXPECT_THAT(append({"--expect-end", "0"}).err, HasSubstr("ends at offset 1"));
  EXPECT_EQ(append({"--expect-end", "1"}).code, 0);
  EXPECT_EQ(EndOffset("a"), 2);
}

// An output that is blocked once, at its first byte.
class BlockedOutput : public std::stringbuf {
 public:
  explicit BlockedOutput(std::function<void()> block) : block_(std::move(block)) {}

 protected:
  std::streamsize xsputn(const char* bytes, std::streamsize count) override {
    if (block_) std::exchange(block_, nullptr)();
    return std::stringbuf::xsputn(bytes, count);
  }

 private:
  std::function<void()> block_;
};

TEST_F(StreamCommandsTest, ReadGoesOnByItselfAfterItWasTooSlow) {
  constexpr int kRecords = 240;  // of 100,000 bytes: more than what is under way at any time
  using std::chrono::milliseconds;
  ASSERT_TRUE(core_->CreateStream("raw", PayloadFormat::kBytes).ok());
  for (int i = 0; i < kRecords; i += 20) {
    AppendBatch batch;
    for (int r = i; r < i + 20; ++r) {
      NewRecord& record = batch.records.emplace_back();
      record.stream = "raw";
      record.payload = std::to_string(r) + std::string(100000, 'x');
    }
    ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
  }
  // The daemon still has its word when the output goes on, or has cut the reading off before.
  for (const milliseconds cut : {milliseconds(600000), milliseconds(50)}) {
    server::ReaderLimits limits;
    limits.stall = {milliseconds(50), cut};
    limits.shared_bytes_max = 0;
    server_->Shutdown(std::chrono::system_clock::now());
    service_ = std::make_unique<server::CoreService>(core_.get(), nullptr, limits);
    Serve({service_.get()});
    const server::Readers& readers = service_->readers();
    BlockedOutput buffer([&] {
      const auto held = [&] { return cut == milliseconds(50) && readers.blocks.live_bytes() > 0; };
      for (int i = 0; i < 6000 && (readers.too_slow_count == 0 || held()); ++i) {
        absl::SleepFor(absl::Milliseconds(10));
      }
    });
    std::istringstream in;
    std::ostream out(&buffer);
    std::ostringstream err;
    EXPECT_EQ(RunProgram({"--address", address_, "read", "raw"}, Terminal{&in, &out, &err}), 0)
        << err.str();
    EXPECT_GE(readers.too_slow_count, 1);
    const std::string text = buffer.str();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), kRecords);
    size_t at = 0;
    for (int r = 0; r < kRecords && at != std::string::npos; ++r) {
      at = text.find(std::to_string(r) + "xxx", at);
    }
    EXPECT_NE(at, std::string::npos);
  }
}

}  // namespace
}  // namespace icepie::cli
