// How fast records are read back, one JSON object a line, {"name","value","unit","floor","ratio"}:
// hot and sealed blocks through the core (as the daemon reads for clients), segments read by the
// reader itself (as workers do), with the files in the page cache and not. The floor is decoding
// the same blocks from memory.
//   icepie-bench-scan [RECORDS]
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/core.h"
#include "core/segment_reader.h"

namespace icepie {
namespace {

constexpr int64_t kBatchRecords = 1000;
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kSegmentBytesMax = int64_t{8} << 20;

// Flights as in the sample data: departures in order, 226 airports.
class Flights {
 public:
  std::string Next() {
    const uint64_t random = NextRandom();
    const absl::Time time = absl::FromUnixSeconds(978307200 + made_++ / 10 * 60);
    return absl::StrFormat(
        R"({"date":"%s","delay":%d,"distance":%d,"origin":"%s","destination":"%s"})",
        absl::FormatTime("%Y-%m-%dT%H:%M:%S", time, absl::UTCTimeZone()),
        static_cast<int>(random % 120) - 20, 100 + static_cast<int>(random >> 8 & 2047),
        Airport(random >> 20), Airport(random >> 36));
  }

 private:
  uint64_t NextRandom() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  static std::string Airport(uint64_t random) {
    const uint64_t number = random % 226;
    return {static_cast<char>('A' + number / 26), static_cast<char>('A' + number % 26), 'X'};
  }
  uint64_t state_ = 88172645463325252;
  int64_t made_ = 0;
};

// `segment_bytes` 0: nothing is sealed.
std::unique_ptr<Core> Open(const std::string& directory, int64_t segment_bytes) {
  CoreOptions options;
  options.directory = directory;
  options.sealing.enabled = segment_bytes > 0;
  options.sealing.hot_bytes_min = 0;
  options.sealing.segment_bytes = std::max<int64_t>(segment_bytes, 1);
  options.sealing.age_min = absl::ZeroDuration();
  options.sealing.look_interval = absl::Milliseconds(10);
  auto core = Core::Open(options);
  ICEPIE_CHECK(core.ok());
  return *std::move(core);
}

void Fill(Core& core, int64_t records) {
  ICEPIE_CHECK(core.CreateStream("flights", PayloadFormat::kJson).ok());
  Flights flights;
  for (int64_t made = 0; made < records; made += kBatchRecords) {
    AppendBatch batch;
    for (int64_t i = 0; i < kBatchRecords; ++i) {
      NewRecord& record = batch.records.emplace_back();
      record.stream = "flights";
      record.payload = flights.Next();
    }
    ICEPIE_CHECK(core.AppendAndWait(std::move(batch)).ok());
  }
}

struct Scan {
  int64_t records = 0;
  int64_t payload_bytes = 0;
  double seconds = 0;
  double rate() const { return static_cast<double>(records) / seconds; }

  void Count(const DecodedBlock& block) {
    records += static_cast<int64_t>(block.records().size());
    for (const RecordView& record : block.records()) {
      payload_bytes += static_cast<int64_t>(record.payload.size());
    }
  }
};

template <typename Body>
Scan Timed(const Body& body) {
  Scan scan;
  const auto begin = std::chrono::steady_clock::now();
  body(scan);
  scan.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return scan;
}

Scan ThroughCore(const Core& core, int64_t end, std::vector<std::string>* blocks) {
  return Timed([&](Scan& scan) {
    for (int64_t next = 0; next < end;) {
      auto range = core.ReadBlocks({"flights"}, next, end, kPieceBytes);
      ICEPIE_CHECK(range.ok());
      for (StoredBlock& stored : range->blocks) {
        const auto block = DecodedBlock::Decode(stored.data);
        ICEPIE_CHECK(block.ok());
        scan.Count(*block);
        if (blocks != nullptr) blocks->push_back(std::move(stored.data));
      }
      next = range->complete_position;
    }
  });
}

Scan FromMemory(const std::vector<std::string>& blocks) {
  return Timed([&](Scan& scan) {
    for (const std::string& stored : blocks) scan.Count(*DecodedBlock::Decode(stored));
  });
}

Scan FromFiles(const std::vector<std::string>& files) {
  return Timed([&](Scan& scan) {
    for (const std::string& file : files) {
      const auto reader = SegmentReader::Open(file);
      ICEPIE_CHECK(reader.ok());
      for (const auto& [stream, chunk] : (*reader)->Chunks({"flights"}, 0, INT64_MAX)) {
        const auto block = chunk->Decode(kAllColumns);
        ICEPIE_CHECK(block.ok());
        scan.Count(*block);
      }
    }
  });
}

void DropFromCache(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    ICEPIE_CHECK(fd >= 0);
    (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

void Print(const char* name, const Scan& scan, const Scan& floor) {
  std::printf(
      "{\"name\":\"%s\",\"value\":%.0f,\"unit\":\"records/s\",\"floor\":%.0f,"
      "\"ratio\":%.2f}\n",
      name, scan.rate(), floor.rate(), scan.rate() / floor.rate());
}

void Run(const std::string& directory, int64_t records) {
  std::vector<std::string> blocks;
  Scan hot;
  {
    const std::unique_ptr<Core> core = Open(directory, 0);
    Fill(*core, records);
    hot = ThroughCore(*core, records, &blocks);
  }
  const Scan floor = FromMemory(blocks);
  int64_t bytes = 0;
  for (const std::string& block : blocks) bytes += static_cast<int64_t>(block.size());
  // Of few records, too, some segments are made.
  const std::unique_ptr<Core> core =
      Open(directory, std::clamp<int64_t>(bytes / 4, 1, kSegmentBytesMax));
  int64_t sealed = 0;
  for (int64_t before = -1; sealed != before || sealed == 0; absl::SleepFor(absl::Seconds(1))) {
    before = sealed;
    sealed = core->Storage().sealed_position;
  }
  std::vector<std::string> files;
  const auto lease = core->LeaseSegments(0, sealed, 1 << 20);
  for (const SealedSegment& segment : lease->segments()) {
    files.push_back(directory + "/" + segment.path);
  }
  Print("scan_hot", hot, floor);
  Print("scan_sealed", ThroughCore(*core, sealed, nullptr), floor);
  Print("scan_segments", FromFiles(files), floor);
  DropFromCache(files);
  Print("scan_segments_cold", FromFiles(files), floor);
  const CoreStorage storage = core->Storage();
  std::printf("{\"name\":\"segment_bytes_per_record\",\"value\":%.1f,\"unit\":\"bytes\"}\n",
              static_cast<double>(storage.segment_bytes) / static_cast<double>(sealed));
}

}  // namespace
}  // namespace icepie

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::warn);  // it writes to the same output
  int64_t records = 2000000;
  if (argc > 2 || (argc == 2 && (!absl::SimpleAtoi(argv[1], &records) || records < 1))) {
    std::fprintf(stderr, "usage: icepie-bench-scan [RECORDS]\n");
    return 2;
  }
  std::string pattern = std::filesystem::temp_directory_path() / "icepie-bench-XXXXXX";
  const std::string directory = ::mkdtemp(pattern.data());
  icepie::Run(directory, records);
  std::filesystem::remove_all(directory);
  return 0;
}
