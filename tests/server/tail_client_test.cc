// A worker's feed: sealed records from the files, the tail from the daemon, as one sequence.
#include "server/worker/tail_client.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "core/log/log_store.h"
#include "core/segment/segment_reader.h"
#include "server/record/host_service.h"
#include "slices/apply/record_batch.h"
#include "tests/core/child_process.h"
#include "tests/core/sealing_gate.h"
#include "tests/server/rpc_fixture.h"

namespace icepie::server {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TailClientTest : public testing::Test {
 protected:
  explicit TailClientTest(const SealingOptions& sealing = SmallSegments())
      : core_(OpenCore(CoreDirectory(), sealing)), service_(core_.get()) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + Socket(), grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    for (const char* stream : {"a", "b"}) {
      EXPECT_TRUE(core_->CreateStream(stream, PayloadFormat::kJson).ok());
    }
  }

  ~TailClientTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::string CoreDirectory() const { return directory_.path() + "/core"; }
  std::string Socket() const { return directory_.path() + "/host.sock"; }
  int Host() const { return *ConnectToHost(Socket()); }

  // Batches of three records, by turns to a and b.
  void Append(int64_t batches) {
    for (int64_t i = 0; i < batches; ++i) {
      const std::string stream = i % 3 == 0 ? "b" : "a";
      const int64_t next = core_->GetStream(stream)->end_offset;
      ASSERT_TRUE(core_->AppendAndWait(NumberedBatch(stream, next, 3)).ok());
    }
  }

  void AppendAndSeal(int64_t batches) {
    Append(batches);
    ASSERT_TRUE(EventuallyInCore([&] { return core_->Storage().segment_count >= 3; }));
  }

  // Reads to `end` and gives the offsets of a's records, as the slices would take them.
  static absl::StatusOr<std::vector<int64_t>> OffsetsOfA(slices::FeedReader& reader, int64_t from,
                                                         int64_t end) {
    slices::BatchDecoder decoder(from, {"a"});
    std::vector<int64_t> offsets;
    for (int64_t complete = from; complete < end;) {
      ICEPIE_ASSIGN_OR_RETURN(const std::optional<slices::FeedPiece> piece, reader.Next());
      if (!piece) break;
      EXPECT_GE(piece->complete_position, complete);
      complete = piece->complete_position;
      ICEPIE_ASSIGN_OR_RETURN(const slices::RecordBatch batch, decoder.Decode(*piece));
      const auto supply = *batch.Supply("a", 0, INT64_MAX)();
      for (auto records = *supply->Next(); !records.empty(); records = *supply->Next()) {
        for (const RecordView& record : records) offsets.push_back(record.offset);
      }
    }
    return offsets;
  }

  static std::vector<int64_t> Range(int64_t from, int64_t end) {
    std::vector<int64_t> numbers;
    for (int64_t n = from; n < end; ++n) numbers.push_back(n);
    return numbers;
  }

  std::vector<fs::path> Segments() const {
    std::vector<fs::path> files;
    for (const auto& file : fs::directory_iterator(CoreDirectory() + "/segments")) {
      files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  // Of the family `log`, by name. A backup flushes what the log has in memory to such a table.
  std::set<std::string> LogTables() {
    const std::string copy = copies_.path() + "/" + std::to_string(copies_made_++);
    EXPECT_TRUE(core_->BackUpTo(copy, [](int64_t, int64_t) { return true; }).ok());
    const auto store = LogStore::Open({copy + "/rocksdb", LogStore::Mode::kReadOnly, nullptr});
    EXPECT_TRUE(store.ok()) << store.status();
    std::set<std::string> tables;
    const auto files = *(*store)->ListFiles();
    for (const LogStore::StoredFile& table : files) {
      if (table.family == "log") tables.insert(fs::path(table.path).filename());
    }
    return tables;
  }

  // Appends until, since the call, segments were sealed and a compaction has replaced tables that
  // hold records.
  void AppendUntilSealedAndCompacted() {
    const int64_t segments = core_->Storage().segment_count;
    std::set<std::string> seen;
    int64_t replaced = 0;
    for (int round = 0; round < 300; ++round) {
      Append(30);
      const std::set<std::string> tables = LogTables();
      for (const std::string& table : seen) {
        replaced += static_cast<int64_t>(tables.count(table) == 0);
      }
      if (replaced >= 4 && core_->Storage().segment_count >= segments + 3) return;
      seen = tables;
    }
    FAIL() << replaced << " tables were replaced, " << core_->Storage().segment_count - segments
           << " segments sealed";
  }

  // Reads the rest of `complete` to the core's head, as the slices would take it.
  static void ReadOn(slices::FeedReader& reader, slices::BatchDecoder& decoder, int64_t* complete,
                     int64_t end, std::vector<int64_t>* offsets) {
    while (*complete < end) {
      const auto piece = reader.Next();
      ASSERT_TRUE(piece.ok()) << piece.status();
      ASSERT_TRUE(piece->has_value());
      *complete = (*piece)->complete_position;
      const auto batch = decoder.Decode(**piece);
      ASSERT_TRUE(batch.ok()) << batch.status();
      const auto supply = *batch->Supply("a", 0, INT64_MAX)();
      for (auto records = *supply->Next(); !records.empty(); records = *supply->Next()) {
        for (const RecordView& record : records) {
          ASSERT_EQ(record.payload, "{\"n\":" + std::to_string(record.offset) + "}");
          offsets->push_back(record.offset);
        }
      }
    }
  }

  TempDirectory directory_;
  TempDirectory copies_;
  int64_t copies_made_ = 0;
  std::unique_ptr<Core> core_;
  HostService service_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(TailClientTest, SealedAndHotRecordsComeOnceAndInOrder) {
  AppendAndSeal(150);
  const int64_t head = core_->head_position();
  const int64_t end_offset = core_->GetStream("a")->end_offset;
  TailClient reads_files(Host(), CoreDirectory());
  TailClient gets_blocks(Host(), "");
  for (TailClient* feed : {&reads_files, &gets_blocks}) {
    const auto all = feed->Open({"a", "b"}, 0, head);
    EXPECT_EQ(*OffsetsOfA(*all, 0, head), Range(0, end_offset));
    EXPECT_FALSE((*all->Next()).has_value()) << "the end position is the end";
    // Begins and ends within blocks.
    const int64_t from = *core_->PositionOf("a", 100);
    const int64_t end = *core_->PositionOf("a", 181);
    const auto part = feed->Open({"a"}, from, end);
    EXPECT_EQ(*OffsetsOfA(*part, from, end), Range(100, 181));
  }
}

TEST_F(TailClientTest, AFollowerGoesOnWhileRecordsAreSealed) {
  AppendAndSeal(100);
  TailClient feed(Host(), CoreDirectory());
  const auto reader = feed.Open({"a"}, 0, std::nullopt);
  std::thread writer([&] { Append(300); });
  const int64_t end = core_->head_position() + 900;
  const auto offsets = OffsetsOfA(*reader, 0, end);
  writer.join();
  ASSERT_TRUE(offsets.ok()) << offsets.status();
  EXPECT_EQ(*offsets, Range(0, core_->GetStream("a")->end_offset));
}

// In the middle of its work each reader is held until records are appended, sealed and compacted
// that it has still to read.
TEST_F(TailClientTest, ScansNoticeNeitherSealingNorCompaction) {
  AppendAndSeal(300);
  Append(10);  // a hot part
  TailClient reads_files(Host(), CoreDirectory());
  TailClient gets_blocks(Host(), "");
  std::atomic<int64_t> end{INT64_MAX};
  std::thread follower([&] {
    int64_t complete = 0;
    slices::BatchDecoder decoder(0, {"a"});
    std::vector<int64_t> offsets;
    const auto reader = reads_files.Open({"a"}, 0, std::nullopt);
    while (complete < end) ReadOn(*reader, decoder, &complete, complete + 1, &offsets);
    EXPECT_EQ(offsets, Range(0, core_->GetStream("a")->end_offset));
  });
  for (TailClient* feed : {&reads_files, &gets_blocks}) {
    int64_t complete = 0;
    slices::BatchDecoder decoder(0, {"a"});
    std::vector<int64_t> offsets;
    const int64_t sealed_before = core_->Storage().sealed_position;
    const int64_t hot_before = core_->head_position();
    ASSERT_LT(sealed_before, hot_before);
    const auto reader = feed->Open({"a", "b"}, 0, std::nullopt);
    if (feed == &reads_files) {
      ReadOn(*reader, decoder, &complete, 1, &offsets);
      ASSERT_GT(complete, 0);
      ASSERT_LT(complete, sealed_before) << "the scan is in the middle of the segments";
    }
    AppendUntilSealedAndCompacted();
    ASSERT_GT(core_->Storage().sealed_position, hot_before) << "what was hot is sealed by now";
    ReadOn(*reader, decoder, &complete, core_->head_position(), &offsets);
    EXPECT_EQ(offsets, Range(0, core_->GetStream("a")->end_offset));
    reader->Cancel();
  }
  end = core_->head_position();
  Append(1);  // wakes the follower
  follower.join();
}

// The hot part is read block by block, and what the next one is in has gone from the log into a
// segment when it is asked for.
TEST_F(TailClientTest, AReaderOfTheHotPartGoesOnInSegments) {
  AppendAndSeal(150);
  Append(10);
  int64_t next = core_->Storage().sealed_position;
  const int64_t begin = next;
  while (next < core_->head_position()) {
    const auto range = core_->ReadBlocks({}, next, INT64_MAX, 1);
    ASSERT_TRUE(range.ok()) << range.status();
    for (const StoredBlock& stored : range->blocks) {
      const auto block = DecodedBlock::Decode(stored.data);
      ASSERT_TRUE(block.ok()) << block.status();
      for (const RecordView& view : block->records()) {
        if (view.position < next) continue;
        ASSERT_EQ(view.position, next++);
        ASSERT_EQ(view.payload, "{\"n\":" + std::to_string(view.offset) + "}");
      }
    }
    if (copies_made_ > 0) continue;
    ASSERT_GT(next, begin);
    AppendUntilSealedAndCompacted();
    ASSERT_GT(core_->Storage().sealed_position, next + 10);
  }
}

TEST_F(TailClientTest, ADamagedSegmentIsNamed) {
  AppendAndSeal(150);
  const fs::path file = Segments()[1];
  const SegmentBlock block = (*SegmentReader::Open(file))->blocks()[1];
  {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<int64_t>(block.place) + 60);
    stream.put('\x7f');
  }
  TailClient feed(Host(), CoreDirectory());
  const auto reader = feed.Open({"a", "b"}, 0, core_->head_position());
  slices::BatchDecoder decoder(0, {"a", "b"});
  absl::Status status;
  while (status.ok()) {
    const auto piece = reader->Next();
    ASSERT_TRUE(piece.ok() && piece->has_value()) << "a damaged block was taken for good";
    status = decoder.Decode(**piece).status();
  }
  EXPECT_EQ(ErrorReason(status), "RECORD_DAMAGED");
  EXPECT_THAT(std::string(status.message()), HasSubstr(file.string()));
  EXPECT_EQ(GetErrorDetail(status)->metadata.at("position"),
            std::to_string(block.header.first_position));
}

TEST_F(TailClientTest, AMissingSegmentIsNamed) {
  AppendAndSeal(150);
  const fs::path file = Segments()[1];
  fs::remove(file);
  TailClient feed(Host(), CoreDirectory());
  const auto reader = feed.Open({"a"}, 0, core_->head_position());
  const auto offsets = OffsetsOfA(*reader, 0, core_->head_position());
  // A loss of data and not a wrong name of something: the message says what to do.
  EXPECT_TRUE(absl::IsDataLoss(offsets.status())) << offsets.status();
  EXPECT_THAT(std::string(offsets.status().message()),
              testing::AllOf(HasSubstr(file.string()), HasSubstr("put it back from a backup")));
  const auto detail = GetErrorDetail(offsets.status());
  ASSERT_TRUE(detail);
  EXPECT_EQ(detail->reason, "RECORD_DAMAGED");
  EXPECT_EQ(detail->metadata.at("file"), file.string());
  const int64_t lost = std::stoll(file.filename().string());
  EXPECT_EQ(detail->metadata.at("position"), std::to_string(lost));
}

// Segments that stay small are taken into the next ones, whose files are then others.
class GrowingSegmentsTest : public TailClientTest {
 protected:
  GrowingSegmentsTest() : GrowingSegmentsTest(std::make_shared<SealingGate>()) {}

  // One by one, until one more segment is made, and nothing after it.
  void AppendUntilSealed() {
    gate_->Allow(1);
    for (int64_t i = 0; !gate_->spent(); ++i) {
      ASSERT_LT(i, 60000) << "nothing is sealed any more";
      // More than is needed: now it is the sealer that needs time.
      if (i > 500) absl::SleepFor(absl::Milliseconds(1));
      AppendOne();
    }
  }

  void AppendOne() {
    const int64_t next = core_->GetStream("a")->end_offset;
    ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("a", next, 1)).ok());
  }

  fs::path FirstFile() const {
    return CoreDirectory() + "/" + core_->LeaseSegments(0, 1, 1)->segments()[0].path;
  }

 private:
  explicit GrowingSegmentsTest(const std::shared_ptr<SealingGate>& gate)
      : TailClientTest(Growing(gate)), gate_(gate) {}

  static SealingOptions Growing(const std::shared_ptr<SealingGate>& gate) {
    SealingOptions sealing = SmallSegments();
    sealing.segment_bytes = 8 << 10;
    sealing.grows_segments = true;
    sealing.retry_delay = absl::Milliseconds(10);
    sealing.on_step = [gate](SealStep step) { return gate->Pass(step); };
    return sealing;
  }

  const std::shared_ptr<SealingGate> gate_;
};

TEST_F(GrowingSegmentsTest, AReaderFindsTheFilesThatItWasToldAndGivesThemBack) {
  AppendUntilSealed();
  const fs::path file = FirstFile();
  TailClient feed(Host(), CoreDirectory());
  int64_t complete = 0;
  slices::BatchDecoder decoder(0, {"a"});
  std::vector<int64_t> offsets;
  const auto reader = feed.Open({"a", "b"}, 0, std::nullopt);
  ReadOn(*reader, decoder, &complete, 1, &offsets);
  AppendUntilSealed();
  ASSERT_NE(FirstFile(), file) << "it was taken into the next one";
  EXPECT_TRUE(fs::exists(file)) << "the reader holds it";
  ReadOn(*reader, decoder, &complete, core_->head_position(), &offsets);
  EXPECT_EQ(offsets, Range(0, core_->GetStream("a")->end_offset));
  // It follows still, and holds nothing.
  EXPECT_TRUE(EventuallyInCore([&] { return !fs::exists(file); }));
  AppendOne();
  ReadOn(*reader, decoder, &complete, core_->head_position(), &offsets);
  EXPECT_EQ(offsets, Range(0, core_->GetStream("a")->end_offset));
}

TEST_F(GrowingSegmentsTest, AWorkerThatDiesGivesBackWhatItHeld) {
  AppendUntilSealed();
  const fs::path file = FirstFile();
  ChildProcess worker("tail_holder", {Socket(), CoreDirectory()});
  ASSERT_FALSE(worker.ReadSome().empty());
  AppendUntilSealed();
  ASSERT_NE(FirstFile(), file) << "it was taken into the next one";
  EXPECT_TRUE(fs::exists(file)) << "the worker holds it";
  worker.Kill();
  EXPECT_EQ(worker.Wait(), -1);
  EXPECT_TRUE(EventuallyInCore([&] { return !fs::exists(file); }));
  EXPECT_EQ(Segments().size(), static_cast<size_t>(core_->Storage().segment_count));
}

// Passes bytes on between two sockets until one of them ends.
void PassOn(int a, int b) {
  pollfd sides[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
  char buffer[4096];
  while (::poll(sides, 2, -1) > 0) {
    for (int i = 0; i < 2; ++i) {
      if (sides[i].revents == 0) continue;
      const ssize_t got = ::read(sides[i].fd, buffer, sizeof(buffer));
      if (got <= 0 || ::send(sides[1 - i].fd, buffer, static_cast<size_t>(got), MSG_NOSIGNAL) < 0) {
        return;
      }
    }
  }
}

// It is there, and takes the connection later.
TEST_F(TailClientTest, ADaemonThatIsSlowToGreetIsWaitedFor) {
  Append(2);
  const auto address_of = [](const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
  };
  const std::string slow = directory_.path() + "/slow.sock";
  const sockaddr_un here = address_of(slow);
  const sockaddr_un there = address_of(Socket());
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int host = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof(here)), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  ASSERT_EQ(::connect(host, reinterpret_cast<const sockaddr*>(&there), sizeof(there)), 0);
  std::thread greeter([&] {
    absl::SleepFor(absl::Milliseconds(300));
    const int worker = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    PassOn(worker, host);
    ::close(worker);
  });
  TailClient feed(*ConnectToHost(slow), "");
  const int64_t head = core_->head_position();
  const auto offsets = OffsetsOfA(*feed.Open({"a", "b"}, 0, head), 0, head);
  EXPECT_TRUE(offsets.ok()) << offsets.status();
  if (offsets.ok()) EXPECT_EQ(*offsets, Range(0, core_->GetStream("a")->end_offset));
  ::shutdown(host, SHUT_RDWR);
  greeter.join();
  ::close(host);
  ::close(listener);
}

TEST_F(TailClientTest, CancellingEndsAReaderOfSegments) {
  AppendAndSeal(150);
  TailClient feed(Host(), CoreDirectory());
  const auto reader = feed.Open({"a"}, 0, std::nullopt);
  ASSERT_TRUE(reader->Next().ok());
  reader->Cancel();
  EXPECT_TRUE(absl::IsUnavailable(reader->Next().status()));
}

}  // namespace
}  // namespace icepie::server
