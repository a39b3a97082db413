// Damage on the disk of a running daemon: it is found and named, never served as good, and all else
// goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/log_store.h"
#include "core/segment/segment_reader.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/server/http_client.h"

namespace icepie::testing {
namespace {

namespace fs = std::filesystem;
namespace v1 = icepie::v1;
using ::testing::HasSubstr;

constexpr int kBatches = 20;
constexpr int kBatchRecords = 50;
const absl::Duration kLong = absl::Seconds(60);

// So short, and so fast, that a test sees several passes.
constexpr const char* kSettings =
    "core: {scrub_interval_ms: 200ms, scrub_bytes_per_second: 1GiB, hot_age_min_ms: 0, $0}\n"
    "workers: {heartbeat_interval_ms: 100, snapshot_interval_ms: 300}\n";

constexpr const char* kDomain = R"(domain: shop
sources:
  a: {columns: {n: BIGINT}}
slices:
  total:
    sql: SELECT count(*) AS records, sum(n) AS total FROM a
)";

class DamageTest : public ::testing::Test {
 protected:
  void StartWith(const std::string& core_settings) {
    std::string settings = kSettings;
    settings.replace(settings.find("$0"), 2, core_settings);
    daemon_.SetSettings(settings);
    daemon_.Start();
    ASSERT_FALSE(HasFatalFailure());
  }

  // By turns to a and b, of bytes that do not compress.
  void Fill() {
    ASSERT_TRUE(daemon_.CreateStream("a").ok());
    ASSERT_TRUE(daemon_.CreateStream("b").ok());
    std::mt19937_64 random(1);
    for (int batch = 0; batch < kBatches; ++batch) {
      std::vector<std::string> payloads;
      for (int i = 0; i < kBatchRecords; ++i) {
        std::string text;
        while (text.size() < 300) absl::StrAppend(&text, absl::Hex(random()));
        payloads.push_back(absl::StrCat("{\"n\":", i, ",\"text\":\"", text, "\"}"));
      }
      const auto end = daemon_.Append(batch % 2 == 0 ? "a" : "b", payloads);
      ASSERT_TRUE(end.ok()) << end.status();
      end_ = *end;
    }
    // Whoever signs what is damaged stops until a restart: here all is signed before.
    v1::GetCheckpointRequest request;
    v1::Checkpoint checkpoint;
    request.set_min_size(end_);
    ASSERT_TRUE(daemon_.Core()->GetCheckpoint(Within(kLong).get(), request, &checkpoint).ok());
  }

  v1::ServerStatus Status() const {
    v1::ServerStatus status;
    EXPECT_TRUE(daemon_.Admin()->GetServerStatus(Within(kLong).get(), {}, &status).ok());
    return status;
  }

  // A pass over everything there is now has found nothing.
  bool IsVerified() const {
    const absl::Time now = absl::Now();
    return Eventually(
        [&] {
          const auto status = Status();
          const auto& scrub = status.core_scrub();
          const absl::Time time = absl::FromUnixSeconds(scrub.verified_time().seconds()) +
                                  absl::Nanoseconds(scrub.verified_time().nanos());
          return scrub.finding_count() == 0 && time > now &&
                 scrub.verified_position() == status.head_position();
        },
        kLong);
  }

  // The finding that names `position` and `file`; the scrub has time for it.
  void ExpectFound(int64_t position, const std::string& file) const {
    const auto is_named = [&] {
      const auto status = Status();
      return std::any_of(status.core_scrub().findings().begin(),
                         status.core_scrub().findings().end(), [&](const auto& finding) {
                           return finding.position() == position &&
                                  finding.what().find(file) != std::string::npos;
                         });
    };
    EXPECT_TRUE(Eventually(is_named, kLong)) << Status().core_scrub().DebugString();
    EXPECT_THAT(daemon_.Log(), HasSubstr("core: damage at positions"));
    const std::string& address = daemon_.http_address();
    int port = 0;
    ASSERT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    EXPECT_THAT(server::HttpClient(port).Get("/metrics").body,
                ::testing::ContainsRegex("icepie_core_scrub_findings [1-9]"));
  }

  absl::StatusOr<v1::Record> Get(int64_t position) const {
    v1::GetRecordRequest request;
    v1::Record record;
    request.set_position(position);
    const auto status = daemon_.Core()->GetRecord(Within(kLong).get(), request, &record);
    if (!status.ok()) return server::FromGrpcStatus(status);
    return record;
  }

  // Of the blocks' 50 records the damaged one's cannot be read, and all others can.
  void ExpectOnlyDamagedAt(int64_t first, int64_t end) const {
    for (const int64_t position : {first, end - 1}) {
      const auto record = Get(position);
      EXPECT_TRUE(absl::IsDataLoss(record.status())) << record.status();
      const auto detail = GetErrorDetail(record.status());
      ASSERT_TRUE(detail);
      EXPECT_EQ(detail->reason, "RECORD_DAMAGED");
      EXPECT_EQ(detail->metadata.at("position"), absl::StrCat(first));
    }
    for (const int64_t position : {first - 1, end, Status().head_position() - 1}) {
      EXPECT_TRUE(Get(position).ok()) << Get(position).status();
    }
    ExpectReadUpTo(first, {});
    ExpectReadUpTo(first, {"a", "b"});
    EXPECT_TRUE(daemon_.Append("a", {"{\"n\":0}"}).ok());
    EXPECT_FALSE(Status().core_read_only());
  }

  // A reading from the beginning gets every record before the damage, and then its name.
  void ExpectReadUpTo(int64_t damage, const std::vector<std::string>& streams) const {
    v1::ReadRecordsRequest request;
    for (const std::string& stream : streams) request.add_streams(stream);
    const auto context = Within(kLong);
    const auto reader = daemon_.Core()->ReadRecords(context.get(), request);
    v1::ReadRecordsResponse response;
    int64_t next = end_ - kBatches * kBatchRecords;  // Fill's first
    while (reader->Read(&response)) {
      for (const auto& record : response.records()) {
        if (record.position() >= next) EXPECT_EQ(record.position(), next++);
      }
    }
    EXPECT_EQ(next, damage);
    const absl::Status status = server::FromGrpcStatus(reader->Finish());
    EXPECT_EQ(ErrorReason(status), "RECORD_DAMAGED") << status;
  }

  // Workers read segments themselves, and have words of their own for one that is not there.
  static bool IsOfAWorkersReading(const std::string& message, const std::string& missing) {
    return message.find(missing) != std::string::npos &&
           message.find("put it back from a backup") != std::string::npos;
  }

  static void Flip(const std::string& file, uint64_t place) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(static_cast<int64_t>(place));
    const int byte = stream.get();
    stream.seekp(static_cast<int64_t>(place));
    stream.put(static_cast<char>(byte ^ 0x10));
    ASSERT_TRUE(stream.good());
  }

  std::vector<std::string> Files(const std::string& directory, const std::string& ending) const {
    std::vector<std::string> files;
    for (const auto& file :
         fs::directory_iterator(daemon_.data_directory() + "/core/" + directory)) {
      if (file.path().extension() == ending) files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  DaemonFixture daemon_;
  int64_t end_ = 0;  // of what Fill appended
};

// The file that has the block of the position, and where (core/README.md has its header).
std::optional<std::pair<std::string, uint64_t>> FindBlock(const std::vector<std::string>& files,
                                                          int64_t first_position) {
  for (const std::string& file : files) {
    const auto bytes = ReadFile(file);
    if (!bytes.ok()) continue;
    for (size_t at = bytes->find("IPBK"); at != std::string::npos;
         at = bytes->find("IPBK", at + 1)) {
      if (at + 48 <= bytes->size() &&
          GetLittleEndian<int64_t>(bytes->data() + at + 16) == first_position) {
        return std::pair(file, at);
      }
    }
  }
  return std::nullopt;
}

TEST_F(DamageTest, AFlippedBitOfATableFileIsFoundAndNamed) {
  StartWith("hot_bytes_min: 64GiB");  // nothing is sealed
  ASSERT_FALSE(HasFatalFailure());
  Fill();
  // What was in the write-ahead log is a table file after a restart.
  EXPECT_EQ(daemon_.Stop(), 0);
  daemon_.Start();
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_TRUE(IsVerified());
  const int64_t first = end_ - (kBatches - 7) * kBatchRecords;
  const auto place = FindBlock(Files("rocksdb", ".sst"), first);
  ASSERT_TRUE(place) << "no table file has the block";
  Flip(place->first, place->second + 300);
  ExpectFound(first, place->first);
  ExpectOnlyDamagedAt(first, first + kBatchRecords);
  Flip(place->first, place->second + 300);
  EXPECT_TRUE(IsVerified());
  EXPECT_TRUE(Get(first).ok());
}

TEST_F(DamageTest, AFlippedBitOfTheWriteAheadLogIsFoundAndNamed) {
  StartWith("hot_bytes_min: 64GiB");
  ASSERT_FALSE(HasFatalFailure());
  Fill();
  ASSERT_TRUE(IsVerified());
  const int64_t first = end_ - (kBatches - 7) * kBatchRecords;
  const auto place = FindBlock(Files("rocksdb", ".log"), first);
  ASSERT_TRUE(place) << "the write-ahead log does not have the block";
  Flip(place->first, place->second + 300);
  ExpectFound(0, place->first);
  // It is in memory, so it is served; the finding says that it would be missing after a restart.
  EXPECT_TRUE(Get(first).ok());
  EXPECT_FALSE(Status().core_read_only());
  Flip(place->first, place->second + 300);
  EXPECT_TRUE(IsVerified());
}

TEST_F(DamageTest, AFlippedBitOfASegmentIsFoundAndNamedAndSoIsAMissingOne) {
  StartWith("segment_bytes: 64KiB, hot_bytes_min: 0");
  ASSERT_FALSE(HasFatalFailure());
  Fill();
  ASSERT_TRUE(Eventually([&] { return Status().core_storage().segment_count() >= 2; }, kLong));
  ASSERT_TRUE(IsVerified());
  const std::string file = Files("segments", ".segment")[0];
  const auto reader = SegmentReader::Open(file);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const SegmentBlock block = (*reader)->blocks()[1];
  Flip(file, block.place + 300);
  ExpectFound(block.header.first_position, file);
  ExpectOnlyDamagedAt(block.header.first_position, block.header.end_position());
  Flip(file, block.place + 300);
  EXPECT_TRUE(IsVerified());

  const std::string missing = Files("segments", ".segment")[1];
  fs::rename(missing, missing + ".away");
  ExpectFound((*SegmentReader::Open(missing + ".away"))->footer().first_position, missing);
  // A slice that needs it says so, and goes on by itself.
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(kDomain, &applied).ok());
  const auto names_it = [&] {
    const v1::Slice slice = daemon_.GetSlice("shop.total");
    return slice.state() == v1::FAULTED && slice.last_error().reason() == "RECORD_DAMAGED" &&
           IsOfAWorkersReading(slice.last_error().message(), missing);
  };
  EXPECT_TRUE(Eventually(names_it, kLong)) << daemon_.GetSlice("shop.total").DebugString();
  fs::rename(missing + ".away", missing);
  EXPECT_TRUE(
      Eventually([&] { return daemon_.GetSlice("shop.total").state() == v1::RUNNING; }, kLong))
      << daemon_.GetSlice("shop.total").DebugString();
  EXPECT_TRUE(IsVerified());

  // So does a build.
  fs::rename(missing, missing + ".away");
  v1::ResliceSliceRequest reslice;
  reslice.set_name("shop.total");
  reslice.set_actor("test");
  reslice.set_reason("test");
  google::longrunning::Operation operation;
  const auto started = daemon_.Admin()->ResliceSlice(Within(kLong).get(), reslice, &operation);
  ASSERT_TRUE(started.ok()) << started.error_message();
  google::longrunning::GetOperationRequest get;
  get.set_name(operation.name());
  EXPECT_TRUE(Eventually(
      [&] {
        daemon_.Operations()->GetOperation(Within(kLong).get(), get, &operation);
        return operation.done();
      },
      kLong));
  EXPECT_TRUE(IsOfAWorkersReading(operation.error().message(), missing)) << operation.DebugString();
  fs::rename(missing + ".away", missing);
}

class DamagedLogTest : public DamageTest {
 protected:
  struct Damage {
    std::string cause;
    std::function<void()> make;
    bool leaves_end = false;  // what is left of the log tells where it ends
  };

  // Whatever of the log is damaged, the slices answer with what they have, and appends are refused.
  void ExpectSlicesAnswer(const Damage& damage, int64_t applied_position) {
    const std::string& cause = damage.cause;
    daemon_.Start();
    ASSERT_FALSE(HasFatalFailure());
    const v1::ServerStatus status = Status();
    EXPECT_TRUE(status.core_read_only());
    EXPECT_THAT(status.core_read_only_cause(), HasSubstr(cause));
    EXPECT_THAT(status.core_read_only_cause(), HasSubstr("restore"));
    const auto refused = daemon_.Append("a", {"{\"n\":1}"});
    ASSERT_EQ(ErrorReason(refused.status()), "CORE_READ_ONLY") << refused.status();
    const auto metadata = GetErrorDetail(refused.status())->metadata;
    EXPECT_THAT(metadata.at("cause"), HasSubstr(cause));
    EXPECT_THAT(metadata.at("cause"), ::testing::Not(HasSubstr("restore")));
    EXPECT_THAT(metadata.at("remedy"), ::testing::StartsWith("appends are refused"));
    EXPECT_THAT(metadata.at("remedy"), HasSubstr("restore the core directory"));
    EXPECT_NE(metadata.at("since"), "");
    v1::QueryResponse answer;
    grpc::Status asked;
    EXPECT_TRUE(Eventually(
        [&] {
          asked = daemon_.Query("shop", "SELECT records FROM total", -1, &answer);
          return asked.ok();
        },
        kLong))
        << asked.error_message();
    EXPECT_EQ(answer.body(), R"([{"records":3}])");
    ASSERT_EQ(answer.meta().slices_size(), 1);
    EXPECT_GE(answer.meta().slices(0).applied_position(), applied_position);
    EXPECT_EQ(answer.meta().stale(), !damage.leaves_end) << "nobody knows what came after it";
    daemon_.Kill();
  }
};

TEST_F(DamagedLogTest, SlicesAnswerFromTheirSnapshots) {
  StartWith("hot_bytes_min: 64GiB");
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_TRUE(daemon_.CreateStream("a").ok());
  v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(kDomain, &applied).ok());
  ASSERT_TRUE(daemon_.Append("a", {"{\"n\":1}", "{\"n\":2}"}).ok());
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start();  // makes tables of what is in the log
  const auto end = daemon_.Append("a", {"{\"n\":3}"});
  ASSERT_TRUE(end.ok()) << end.status();
  ASSERT_TRUE(
      Eventually([&] { return daemon_.GetSlice("shop.total").standby_position() >= *end; }, kLong));
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string rocksdb = daemon_.data_directory() + "/core/rocksdb";
  const std::string kept = daemon_.data_directory() + "/../kept";
  fs::copy(rocksdb, kept, fs::copy_options::recursive);
  const auto newest = [&](const std::string& ending) { return Files("rocksdb", ending).back(); };
  std::string manifest = absl::StrCat(rocksdb, "/", *ReadFile(rocksdb + "/CURRENT"));
  manifest.pop_back();  // the end of the line
  std::string domains;  // a table
  {
    const auto store = LogStore::Open({rocksdb, LogStore::Mode::kReadOnly});
    ASSERT_TRUE(store.ok()) << store.status();
    const auto tables = (*store)->ListFiles();
    ASSERT_TRUE(tables.ok()) << tables.status();
    for (const auto& table : *tables) {
      if (table.family == "catalog" && domains.empty()) domains = table.path;
    }
  }
  ASSERT_NE(domains, "");
  const std::vector<Damage> damages = {
      {"the log is damaged", [&] { fs::remove(rocksdb + "/CURRENT"); }},
      {fs::path(manifest).filename(), [&] { fs::remove(manifest); }},
      {"the log is damaged", [&] { Flip(manifest, fs::file_size(manifest) / 2); }},
      {"the log is damaged", [&] { fs::resize_file(manifest, fs::file_size(manifest) / 2); },
       /*leaves_end=*/true},
      {domains, [&] { fs::remove(domains); }, /*leaves_end=*/true},
      {"were acknowledged", [&] { fs::remove(newest(".log")); }},
      {"the log is damaged", [&] { Flip(newest(".log"), 20); }},
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    SCOPED_TRACE(i);
    damages[i].make();
    ExpectSlicesAnswer(damages[i], *end);
    ASSERT_FALSE(HasFatalFailure());
    fs::remove_all(rocksdb);
    fs::copy(kept, rocksdb, fs::copy_options::recursive);
  }
  daemon_.Start();
  EXPECT_FALSE(Status().core_read_only());
  EXPECT_TRUE(daemon_.Append("a", {"{\"n\":4}"}).ok());
}

}  // namespace
}  // namespace icepie::testing
