// Each call by which a core changes, reads or looks at its disk fails once, in a life that has them
// all: made anew, appends, segments, checkpoints, flushes, compactions, backups, the end, and a
// second start that replays the log. RocksDB's calls fail at its Env, the core's own at the C
// library, with EIO and, what changes something, with ENOSPC; a write fails also when half of it is
// written. What RocksDB reads is read twice (core/log/read_file_system.h), so that fails for good:
// of that file, until a start has shown that it refuses no later one. Clients send again what was
// not acknowledged. Whatever failed, a later start on a whole disk has every record once, in order,
// under the tree that its bytes make.
//
// The suite takes the first call of each kind and every kStride-th of all; ICEPIE_FAULT_STRIDE=1
// takes every call of every kind, with both errors, and ICEPIE_FAULT_KIND="append .sst" one kind.
#include <gmock/gmock.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "core/base/status.h"
#include "core/verify/verification.h"
#include "tests/core/core_testing.h"
#include "tests/core/failing_calls.h"
#include "tests/core/failing_file_system.h"
#include "tests/core/small_disk.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

constexpr int64_t kDiskBytes = int64_t{1} << 30;  // beside less than that nothing is sealed
constexpr int kStride = 200;
constexpr int kBatchRecords = 3;
constexpr int kBackups = 4;  // each writes tables; more than RocksDB leaves unmerged

// What every life calls. Others it calls by chance, as a backup that meets a log still open.
constexpr const char* kRocksDbKinds[] = {"create directory rocksdb",
                                         "lock LOCK",
                                         "create .log",
                                         "append .log",
                                         "sync .log",
                                         "close .log",
                                         "delete .log",
                                         "create .sst",
                                         "append .sst",
                                         "sync .sst",
                                         "close .sst",
                                         "delete .sst",
                                         "link .sst",
                                         "create MANIFEST",
                                         "append MANIFEST",
                                         "sync MANIFEST",
                                         "close MANIFEST",
                                         "delete MANIFEST",
                                         "create .dbtmp",
                                         "append .dbtmp",
                                         "sync .dbtmp",
                                         "rename CURRENT",
                                         "rename OPTIONS",
                                         "delete OPTIONS",
                                         "sync directory rocksdb",
                                         "allocate .log",
                                         "allocate .sst",
                                         "allocate MANIFEST",
                                         "open directory to read rocksdb",
                                         "read directory rocksdb",
                                         "read existence CURRENT",
                                         "read existence rocksdb",
                                         "read size .log",
                                         "read size .sst",
                                         "read path rocksdb",
                                         "read ahead .sst",
                                         "read .log",
                                         "read .sst",
                                         "read MANIFEST"};
constexpr const char* kOwnKinds[] = {"mkdir core",
                                     "fsync core",
                                     "mkdir backup",
                                     "link segments",
                                     "open lock",
                                     "open ballast",
                                     "fallocate ballast",
                                     "open segments",
                                     "write segments",
                                     "fsync segments",
                                     "rename segments",
                                     "unlink segments",
                                     "open high_water_mark",
                                     "pwrite high_water_mark",
                                     "fdatasync high_water_mark",
                                     "open signing_key",
                                     "open checkpoint",
                                     "write checkpoint",
                                     "fsync checkpoint",
                                     "rename checkpoint",
                                     "flock lock",
                                     "statvfs core",
                                     "stat core",
                                     "stat segments",
                                     "list segments",
                                     "list rocksdb",
                                     "access high_water_mark"};

bool IsAlwaysCalled(bool in_rocksdb, const std::string& kind) {
  return in_rocksdb ? absl::c_linear_search(kRocksDbKinds, kind)
                    : absl::c_linear_search(kOwnKinds, kind);
}

// How a call fails.
struct Failure {
  bool full = false;
  bool in_part = false;  // a write, after half of it
};

bool OnlyLooks(const std::string& kind) {
  constexpr const char* kLooks[] = {"read", "stat", "access", "list", "flock", "allocate"};
  return absl::c_any_of(kLooks, [&](const char* look) { return absl::StrContains(kind, look); });
}

// Those of RocksDB's files that the core tries twice.
bool IsReadTwice(const std::string& kind) {
  constexpr const char* kCalls[] = {
      "open to read ",          "read size ",   "read directory ", "read .",
      "read MANIFEST",          "read CURRENT", "read IDENTITY",   "read existence CURRENT",
      "read existence IDENTITY"};
  return absl::c_any_of(kCalls, [&](const char* call) { return absl::StartsWith(kind, call); });
}

// One call that fails.
struct Fault {
  bool in_rocksdb = false;
  std::string kind;  // as FailingFileSystem and FailingCalls name them
  int64_t n = 1;
  Failure failure;

  bool Lasts() const { return in_rocksdb && IsReadTwice(kind); }
  std::string Name() const {
    return absl::StrCat(in_rocksdb ? "RocksDB: " : "own: ", kind, " ", n,
                        failure.full ? " ENOSPC" : " EIO", Lasts() ? " that lasts" : "",
                        failure.in_part ? " when half was written" : "");
  }
};

// A core from its first start to its last, and its one client.
class CoreLife {
 public:
  CoreLife(std::string directory, FailingFileSystem& file_system, rocksdb::Env& env)
      : directory_(std::move(directory)), file_system_(file_system), env_(env) {
    std::filesystem::create_directories(directory_);
  }
  ~CoreLife() { std::filesystem::remove_all(directory_); }

  // Two starts with the fault somewhere in them.
  void RunWith(const Fault& fault) {
    const Fault none;
    const Fault& own = fault.in_rocksdb ? none : fault;
    const Fault& rocks = fault.in_rocksdb ? fault : none;
    file_system_.FailKind(rocks.kind.empty() ? "none" : rocks.kind, rocks.n, rocks.failure.full,
                          rocks.failure.in_part);
    lasts_ = rocks.Lasts();
    full_ = fault.failure.full;
    if (lasts_) file_system_.KeepFailing();
    FailingCalls::Fail(own.kind, own.n, own.failure.full ? ENOSPC : EIO, directory_ + "/",
                       "/rocksdb", own.failure.in_part);
    Start([this](Core& core) { LiveThrough(core); });
    Start([this](Core& core) {
      for (int i = 0; i < 2; ++i) {
        if (!Send(core)) return;
      }
    });
    FailingCalls::Stop();
    was_met_ = met();
    calls_ = {file_system_.made(), FailingCalls::made()};
    file_system_.FailKind("none", 1, false);
  }

  // A start on a whole disk: the client sends again what it does not know of, and goes on.
  void ExpectWhole() {
    std::unique_ptr<Core> core = Open(nullptr);
    ASSERT_NE(core, nullptr);
    ASSERT_EQ(core->ReadOnlyCause(), "");
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    const int64_t stored = core->GetStream("a")->end_offset / kBatchRecords;
    ASSERT_GE(stored, acknowledged_) << "acknowledged, now lost";
    ASSERT_LE(stored, sent_);
    for (int again = 0; again < 2; ++again) ASSERT_TRUE(Send(*core));
    const auto changed = core->ScanCatalog("a");
    ASSERT_TRUE(changed.ok()) << changed.status();
    ASSERT_GE(static_cast<int>(changed->empty() ? 0 : std::stoi(changed->front().second)), changed_)
        << "acknowledged, now lost";
    const std::vector<ReadRecord> records = ReadAll(*core, {"a"});
    ASSERT_EQ(static_cast<int64_t>(records.size()), acknowledged_ * kBatchRecords);
    for (size_t i = 0; i < records.size(); ++i) {
      ASSERT_EQ(records[i].offset, static_cast<int64_t>(i));
      ASSERT_EQ(records[i].payload, absl::StrCat("{\"n\":", i, "}"));
    }
    const int64_t head = core->head_position();
    ASSERT_EQ(head, static_cast<int64_t>(records.size())) << "there are no other streams";
    const auto signed_now = core->proofs()->GetCheckpoint(head, absl::Seconds(60));
    ASSERT_TRUE(signed_now.ok()) << signed_now.status();
    ExpectStoredTreeOf(std::move(core), core_directory());
    const auto report =
        VerifyDirectory(core_directory(), seen_note_, [](int64_t, int64_t, int64_t) {});
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_TRUE(report->ok()) << report->bytes_rehashed.detail << "; "
                              << report->tree_recomputed.detail << "; "
                              << report->consistent.detail;
  }

  // Of the whole life: whether the call was made at all, and how many of each kind were made.
  bool was_met() const { return was_met_; }
  using Calls = std::map<std::string, int64_t>;
  const std::pair<Calls, Calls>& calls() const { return calls_; }  // RocksDB's, the core's own

 private:
  std::string core_directory() const { return directory_ + "/data/core"; }
  bool met() const { return file_system_.failed() || FailingCalls::failed(); }

  std::unique_ptr<Core> Open(rocksdb::Env* env) {
    CoreOptions options;
    options.directory = core_directory();
    options.env = env;
    options.sealing = SmallSegments();
    options.sealing.segment_bytes = 1;  // as soon as there is anything to seal
    options.sealing.hot_bytes_min = 1;
    options.sealing.retry_delay = absl::Milliseconds(1);
    options.free_bytes_min = 1 << 20;  // the disk is watched
    options.ballast_bytes = 1 << 20;
    options.checkpoint_interval = absl::Milliseconds(1);
    auto core = Core::Open(options);
    if (core.ok()) return std::move(core).value();
    EXPECT_TRUE(env != nullptr && met()) << core.status();
    refusal_ = core.status().ToString();
    return nullptr;
  }

  // On a whole disk once the fault was met. One that lasts shows before that what a start makes of
  // it.
  template <typename Work>
  void Start(const Work& work) {
    const bool was_met = met();
    if (was_met) file_system_.Heal();
    Start(work, was_met);
    if (lasts_ && !was_met && met()) ExpectOpens();
  }

  // A start that fails was the fault's doing, and so is a core that takes nothing.
  template <typename Work>
  void Start(const Work& work, bool was_met) {
    const std::unique_ptr<Core> core = Open(&env_);
    if (core == nullptr) {
      EXPECT_FALSE(was_met) << "the disk was whole at this start";
      return;
    }
    const auto created = core->CreateStream("a", PayloadFormat::kJson);
    if (created.ok()) work(*core);
    EXPECT_TRUE(created.ok() || met()) << created.status();
    EXPECT_FALSE(was_met && core->ReadOnlyCause() != "") << core->ReadOnlyCause();
    if (core->ReadOnlyCause() != "") {
      EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 0, 1)).status()),
                "CORE_READ_ONLY");
    }
    if (met()) ExpectServed(*core, /*refuses=*/lasts_ && !was_met);
    sealed_ = core->Storage().sealed_position;
  }

  // Every record is read as it was sent or, where the disk `refuses`, lost to the reader, and said
  // to be: no answer lacks one. It refuses no segment.
  void ExpectServed(const Core& core, bool refuses) {
    const int64_t head = core.head_position();
    if (core.ReadOnlyCause() == "") {
      EXPECT_GE(head, acknowledged_ * kBatchRecords) << "acknowledged, now lost";
    }
    if (head < sealed_) {  // RocksDB does not open without what the disk refuses
      EXPECT_TRUE(refuses);
      EXPECT_EQ(ErrorReason(core.ReadBlocks({}, 0, sealed_, 1 << 20).status()), "CORE_READ_ONLY");
      return;
    }
    int64_t next = 0;
    while (next < head) {
      const auto range = core.ReadBlocks({}, next, head, 1 << 20);
      if (!range.ok()) {
        EXPECT_TRUE(refuses && next >= sealed_) << range.status();
        EXPECT_EQ(ErrorReason(range.status()), "RECORD_DAMAGED") << range.status();
        ++next;
        continue;
      }
      const int64_t from = next;
      for (const StoredBlock& stored : range->blocks) {
        const auto block = DecodedBlock::Decode(stored.data);
        ASSERT_TRUE(block.ok()) << block.status();
        for (const RecordView& record : block->records()) {
          if (record.position < from) continue;
          ASSERT_EQ(record.position, next) << "left out, and not said to be";
          ASSERT_EQ(record.payload, absl::StrCat("{\"n\":", next, "}"));
          ++next;
        }
      }
      ASSERT_GT(next, from);
      ASSERT_EQ(range->complete_position, next) << "left out, and not said to be";
    }
  }

  // On a disk that still refuses: all that a start finds damaged is told, and the rest served.
  void ExpectOpens() {
    const std::unique_ptr<Core> core = Open(&env_);
    ASSERT_NE(core, nullptr) << refusal_;
    if (core->ReadOnlyCause() != "") {
      EXPECT_THAT(core->ReadOnlyCause(), testing::HasSubstr("Input/output error"));
    }
    ExpectServed(*core, /*refuses=*/true);
  }

  // The next batch, or again the one without an acknowledgement. False: it has none now either.
  bool Send(Core& core) {
    sent_ = acknowledged_ + 1;
    absl::StatusOr<AppendResult> result;
    // A log that has met a full disk has made room, and takes appends when that was seen.
    const bool answered = EventuallyInCore([&] {
      AppendBatch batch = NumberedBatch("a", acknowledged_ * kBatchRecords, kBatchRecords);
      batch.identity = AppendIdentity{absl::StrCat("batch-", acknowledged_), "", 0, 0};
      result = core.AppendAndWait(std::move(batch));
      return ErrorReason(result.status()) != "CORE_DISK_FULL" || !full_ || !met();
    });
    EXPECT_TRUE(answered) << result.status();
    if (!result.ok()) {
      EXPECT_TRUE(met()) << result.status();
      const std::string reason = ErrorReason(result.status());
      EXPECT_TRUE(reason == "LOG_SYNC_FAILED" || reason == "CORE_READ_ONLY") << result.status();
      EXPECT_NE(core.ReadOnlyCause(), "");
      return false;
    }
    EXPECT_EQ(result->streams[0].first_offset, acknowledged_ * kBatchRecords);
    ++acknowledged_;
    return true;
  }

  void LiveThrough(Core& core) {
    for (int i = 0; i < 2; ++i) {
      if (!Send(core)) return;
    }
    KeepCheckpoint(core);
    EXPECT_TRUE(EventuallyInCore(
        [&] { return core.Storage().segment_count > 0 || core.ReadOnlyCause() != ""; }));
    for (int i = 0; i < kBackups; ++i) {
      if (!Send(core)) return;
      // Every table has these keys, so that tables must be merged and not only moved.
      const absl::Status changed =
          core.ChangeCatalog({{"a", absl::StrCat(i)}, {"z", absl::StrCat(i)}});
      EXPECT_TRUE(changed.ok() || met()) << changed;
      if (!changed.ok()) return;
      changed_ = i;
      const auto backup = core.BackUpTo(absl::StrCat(directory_, "/backup", i),
                                        [](int64_t, int64_t) { return true; });
      EXPECT_TRUE(backup.ok() || met()) << backup.status();
    }
    KeepCheckpoint(core);
    // Merged in the background, unless that is what failed.
    EXPECT_TRUE(
        EventuallyInCore([&] { return file_system_.made().count("delete .sst") > 0 || met(); }));
  }

  // As an auditor does: later ones must continue it.
  void KeepCheckpoint(Core& core) {
    const auto checkpoint = core.proofs()->GetCheckpoint(core.head_position(), absl::Seconds(5));
    EXPECT_TRUE(checkpoint.ok() || met()) << checkpoint.status();
    if (checkpoint.ok()) seen_note_ = checkpoint->note;
  }

  const std::string directory_;
  FailingFileSystem& file_system_;
  rocksdb::Env& env_;
  int64_t acknowledged_ = 0;  // batches
  int64_t sent_ = 0;
  int changed_ = 0;  // what the catalog has at least
  std::string seen_note_;
  int64_t sealed_ = 0;  // records that are in segments
  bool lasts_ = false;
  bool full_ = false;    // the fault is a full disk
  std::string refusal_;  // of the last start that was refused
  bool was_met_ = false;
  std::pair<Calls, Calls> calls_;
};

class EveryCallTest : public testing::Test {
 protected:
  // False when the life has no such call.
  bool Run(const Fault& fault) {
    SCOPED_TRACE(fault.Name());
    if (stride_ == 1) std::fprintf(stderr, "%s\n", fault.Name().c_str());  // should it abort
    CoreLife life(absl::StrCat(disk_.path(), "/", ++lives_), *file_system_, *env_);
    life.RunWith(fault);
    life.ExpectWhole();
    calls_ = life.calls();
    return life.was_met();
  }

  // Those of one kind, of which a life without a fault has about `count`.
  void RunKind(bool in_rocksdb, const std::string& kind, int64_t count) {
    bool found = true;
    for (int64_t n = 1; n <= count || found; ++n) {
      found = false;
      if (n > 1 && ++ordinal_ % stride_ != 0) continue;
      for (const Failure failure : FailuresOf(kind, n)) {
        found = Run({in_rocksdb, kind, n, failure});
        EXPECT_TRUE(found || n > 1 || !IsAlwaysCalled(in_rocksdb, kind)) << kind << " was not met";
        faults_ += found ? 1 : 0;
        if (HasFailure()) return;
      }
    }
  }

  // No look finds a disk full; of a few calls each has one of both errors. Half of a write is
  // written before the first of each kind, too, and in a run of every call of each.
  std::vector<Failure> FailuresOf(const std::string& kind, int64_t n) const {
    if (OnlyLooks(kind)) return {{}};
    const bool full = stride_ > 1 ? lives_ % 2 == 0 : n % 2 == 0;
    std::vector<Failure> failures = {{full}};
    if (stride_ == 1) failures.push_back({!full});
    const bool writes = absl::StrContains(kind, "append ") || absl::StrContains(kind, "write ");
    if (writes && (n == 1 || stride_ == 1)) failures.push_back({!full, /*in_part=*/true});
    return failures;
  }

  const SmallDisk disk_{kDiskBytes};  // not for its size, but because nothing waits for it
  const std::shared_ptr<FailingFileSystem> file_system_ = std::make_shared<FailingFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_ = rocksdb::NewCompositeEnv(file_system_);
  int stride_ = kStride;
  int lives_ = 0;
  int faults_ = 0;
  int64_t ordinal_ = 0;
  std::pair<CoreLife::Calls, CoreLife::Calls> calls_;
};

TEST_F(EveryCallTest, MayFail) {
  const char* wanted = std::getenv("ICEPIE_FAULT_STRIDE");
  if (wanted != nullptr) stride_ = std::max(1, std::atoi(wanted));
  const char* wanted_kind = std::getenv("ICEPIE_FAULT_KIND");
  EXPECT_FALSE(Run({}));
  const auto [rocksdb, own] = calls_;
  for (const char* kind : kRocksDbKinds) EXPECT_EQ(rocksdb.count(kind), 1u) << kind;
  for (const char* kind : kOwnKinds) EXPECT_EQ(own.count(kind), 1u) << kind;
  int64_t calls = 0;
  for (const auto& [kinds, in_rocksdb] : {std::pair(rocksdb, true), std::pair(own, false)}) {
    for (const auto& [kind, count] : kinds) {
      if (HasFailure()) return;
      if (wanted_kind != nullptr && kind != wanted_kind) continue;
      calls += count;
      RunKind(in_rocksdb, kind, count);
    }
  }
  std::printf("%d faults at %ld calls of %zu kinds\n", faults_, calls, rocksdb.size() + own.size());
}

// The records are safe, but what comes later could be lost unnoticed.
TEST(HighWaterMarkFaultTest, AMarkThatCannotBeWrittenOrSyncedMakesTheCoreReadOnly) {
  for (const auto& [kind, cause] : {std::pair("pwrite high_water_mark", "cannot be written"),
                                    std::pair("fdatasync high_water_mark", "cannot be synced")}) {
    SCOPED_TRACE(kind);
    const TempDirectory directory;
    const std::unique_ptr<Core> core = OpenCore(directory.path());
    ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
    FailingCalls::Fail(kind, 1, EIO, directory.path(), "/rocksdb");
    EXPECT_TRUE(core->AppendAndWait(NumberedBatch("a", 0, 1)).ok());
    EXPECT_TRUE(EventuallyInCore([&] { return core->ReadOnlyCause() != ""; }));
    FailingCalls::Stop();
    EXPECT_THAT(core->ReadOnlyCause(),
                testing::AllOf(testing::HasSubstr("high-water mark"), testing::HasSubstr(cause)));
    EXPECT_EQ(ErrorReason(core->AppendAndWait(NumberedBatch("a", 1, 1)).status()),
              "CORE_READ_ONLY");
  }
}

TEST(HighWaterMarkFaultTest, SoItDoesAfterAChangeOfTheCatalog) {
  for (const char* kind : {"pwrite high_water_mark", "fdatasync high_water_mark"}) {
    SCOPED_TRACE(kind);
    const TempDirectory directory;
    {
      const std::unique_ptr<Core> core = OpenCore(directory.path());
      FailingCalls::Fail(kind, 1, EIO, directory.path(), "/rocksdb");
      EXPECT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok()) << "it is stored";
      FailingCalls::Stop();
      EXPECT_THAT(core->ReadOnlyCause(), testing::HasSubstr("high-water mark cannot be written"));
      EXPECT_EQ(ErrorReason(core->ChangeCatalog({{"k", "v"}})), "CORE_READ_ONLY");
    }
    EXPECT_TRUE(OpenCore(directory.path())->GetStream("a").ok());
  }
}

}  // namespace
}  // namespace icepie
