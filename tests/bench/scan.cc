// How fast records are read back, by one thread:
//   scan.hot, scan.sealed    through the core, as the daemon reads for clients: from the log, and
//                            from segments
//   scan.segments, scan.segments_cold    segments by the reader itself, as workers do, with the
//                            files in the page cache and not
// each in records/s, beside decoding the same blocks from memory as the floor, and in MB/s of
// stored bytes (.stored) and of payloads (.payload). Cold segments are to be read as fast as the
// slower of two goes alone: a plain pread of the same files, cold too (scan.disk_cold), or decoding
// from memory (scan.decoding_to_disk; a ratio below 1: it is the bound). The system reads ahead
// while a block is decoded, so that one does not wait for the other. A cold file is written back
// and dropped from the page cache before (POSIX_FADV_DONTNEED). Medians of the rounds, in which all
// have their turn; a ratio is the median of the rounds' ratios.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/core.h"
#include "core/segment/segment_reader.h"
#include "tests/bench/bench.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"

namespace icepie::bench {
namespace {

constexpr int64_t kBatchRecords = 1000;
constexpr double kColdToBound = 0.9;
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kSegmentBytesMax = int64_t{8} << 20;

constexpr absl::Duration kSealerLooks = absl::Milliseconds(10);
constexpr absl::Duration kSealedWithin = absl::Minutes(10);

struct ScanOptions {
  int64_t records = 2000000;
  int rounds = 5;
};

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
  options.sealing.look_interval = kSealerLooks;
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
  int64_t stored_bytes = 0;
  double seconds = 0;
  double records_per_second() const { return static_cast<double>(records) / seconds; }
  double stored_mb_per_second() const { return static_cast<double>(stored_bytes) / 1e6 / seconds; }
  double payload_mb_per_second() const {
    return static_cast<double>(payload_bytes) / 1e6 / seconds;
  }

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
        scan.stored_bytes += static_cast<int64_t>(stored.data.size());
        if (blocks != nullptr) blocks->push_back(std::move(stored.data));
      }
      next = range->complete_position;
    }
  });
}

Scan FromMemory(const std::vector<std::string>& blocks) {
  return Timed([&](Scan& scan) {
    for (const std::string& stored : blocks) {
      scan.Count(*DecodedBlock::Decode(stored));
      scan.stored_bytes += static_cast<int64_t>(stored.size());
    }
  });
}

int64_t FileBytes(const std::string& file) {
  return static_cast<int64_t>(std::filesystem::file_size(file));
}

Scan FromFiles(const std::vector<std::string>& files) {
  return Timed([&](Scan& scan) {
    for (const std::string& file : files) {
      const auto reader = SegmentReader::Open(file);
      ICEPIE_CHECK(reader.ok());
      scan.stored_bytes += FileBytes(file);
      for (const auto& [stream, chunk] : (*reader)->Chunks({"flights"}, 0, INT64_MAX)) {
        const auto block = chunk->Decode(kAllColumns);
        ICEPIE_CHECK(block.ok());
        scan.Count(*block);
      }
    }
  });
}

// The same bytes, and nothing done with them.
Scan FromDisk(const std::vector<std::string>& files) {
  std::vector<char> piece(kPieceBytes);
  return Timed([&](Scan& scan) {
    for (const std::string& file : files) {
      const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
      ICEPIE_CHECK(fd >= 0);
      ssize_t n = 0;
      for (int64_t at = 0; (n = ::pread(fd, piece.data(), piece.size(), at)) > 0; at += n) {
        scan.stored_bytes += n;
      }
      ICEPIE_CHECK(n == 0);
      ::close(fd);
    }
  });
}

void DropFromCache(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    ICEPIE_CHECK(fd >= 0);
    // Dirty pages stay where they are.
    ICEPIE_CHECK(::fdatasync(fd) == 0 && ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    ::close(fd);
  }
}

// The rounds of one way of reading.
struct Scans {
  std::vector<Scan> rounds;

  using Rate = double (Scan::*)() const;
  // Of each round the slower one in stored bytes.
  static Scans SlowerOf(const Scans& a, const Scans& b) {
    Scans slower;
    for (size_t i = 0; i < a.rounds.size(); ++i) {
      const bool is_a = a.rounds[i].stored_mb_per_second() < b.rounds[i].stored_mb_per_second();
      slower.rounds.push_back(is_a ? a.rounds[i] : b.rounds[i]);
    }
    return slower;
  }
  std::optional<double> MedianOf(Rate rate) const {
    std::vector<double> rates;
    for (const Scan& scan : rounds) rates.push_back((scan.*rate)());
    return Median(std::move(rates));
  }
};

void Report(const std::string& name, const std::string& unit, const Scans& scans, Scans::Rate rate,
            const Scans* floor, std::optional<Goal> goal = std::nullopt) {
  Figure figure{.name = name, .value = scans.MedianOf(rate), .unit = unit, .goal = goal};
  if (floor != nullptr) {
    std::vector<double> ratios;
    for (size_t i = 0; i < scans.rounds.size(); ++i) {
      ratios.push_back((scans.rounds[i].*rate)() / (floor->rounds[i].*rate)());
    }
    figure.floor = floor->MedianOf(rate);
    figure.ratio = Median(std::move(ratios));
  }
  Print(figure);
}

void Report(const std::string& name, const Scans& scans, const Scans& decoding,
            const Scans* bound) {
  Report(name, "records/s", scans, &Scan::records_per_second, &decoding);
  Report(name + ".stored", "MB/s", scans, &Scan::stored_mb_per_second, bound,
         bound == nullptr ? std::nullopt : std::optional(RatioAtLeast(kColdToBound)));
  Report(name + ".payload", "MB/s", scans, &Scan::payload_mb_per_second, nullptr);
}

// Of few records, too, some segments are made.
int64_t SegmentBytes(const std::vector<std::string>& blocks) {
  int64_t bytes = 0;
  for (const std::string& block : blocks) bytes += static_cast<int64_t>(block.size());
  return std::clamp<int64_t>(bytes / 4, 1, kSegmentBytesMax);
}

// How many records are in segments, once there come no more.
int64_t WaitUntilSealed(const Core& core) {
  int64_t sealed = 0;
  const absl::Time deadline = absl::Now() + kSealedWithin;
  for (int64_t before = -1; sealed != before || sealed == 0;) {
    ICEPIE_CHECK(absl::Now() < deadline);
    WaitUntilIdle(20 * kSealerLooks);
    before = std::exchange(sealed, core.Storage().sealed_position);
  }
  return sealed;
}

void RunScan(const ScanOptions& options) {
  const Scratch scratch;
  const std::string directory = scratch.path() + "/core";
  std::vector<std::string> blocks;
  Scans hot;
  Scans decoding;
  {
    const std::unique_ptr<Core> core = Open(directory, 0);
    Fill(*core, options.records);
    const int64_t end = core->head_position();
    (void)ThroughCore(*core, end, &blocks);  // warms up, too
    for (int round = 0; round < options.rounds; ++round) {
      hot.rounds.push_back(ThroughCore(*core, end, nullptr));
      decoding.rounds.push_back(FromMemory(blocks));
    }
  }
  Report("scan.hot", hot, decoding, nullptr);
  const std::unique_ptr<Core> core = Open(directory, SegmentBytes(blocks));
  const int64_t sealed_end = WaitUntilSealed(*core);
  std::vector<std::string> files;
  const auto lease = core->LeaseSegments(0, sealed_end, 1 << 20);
  for (const SealedSegment& segment : lease->segments()) {
    files.push_back(directory + "/" + segment.path);
  }
  decoding.rounds.clear();
  Scans sealed;
  Scans segments;
  Scans segments_cold;
  Scans disk;
  for (int round = 0; round < options.rounds; ++round) {
    DropFromCache(files);
    disk.rounds.push_back(FromDisk(files));
    DropFromCache(files);
    segments_cold.rounds.push_back(FromFiles(files));
    segments.rounds.push_back(FromFiles(files));
    sealed.rounds.push_back(ThroughCore(*core, sealed_end, nullptr));
    decoding.rounds.push_back(FromMemory(blocks));
  }
  Report("scan.sealed", sealed, decoding, nullptr);
  Report("scan.segments", segments, decoding, nullptr);
  const Scans bound = Scans::SlowerOf(disk, decoding);
  Report("scan.segments_cold", segments_cold, decoding, &bound);
  Report("scan.disk_cold", "MB/s", disk, &Scan::stored_mb_per_second, nullptr);
  Report("scan.decoding_to_disk", "MB/s", decoding, &Scan::stored_mb_per_second, &disk);
  Print({.name = "scan.segment_bytes_per_record",
         .value =
             static_cast<double>(core->Storage().segment_bytes) / static_cast<double>(sealed_end),
         .unit = "bytes"});
}

}  // namespace

RunBench AddScan(CLI::App& command, CommonOptions&) {
  const auto options = std::make_shared<ScanOptions>();
  command.add_option("--records", options->records)
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1000}, int64_t{1000000000}));
  command.add_option("--rounds", options->rounds, "in which every way of reading has its turn")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  return [options] { RunScan(*options); };
}

}  // namespace icepie::bench
