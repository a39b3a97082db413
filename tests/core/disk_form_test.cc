// What a core has on disk is what core/README.md says: no file, no column family and no kind of
// catalog key that it does not name; and the write-ahead log has compressed blocks.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <vector>

#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

std::vector<size_t> g_batches;  // of each batch for RocksDB, how it is protected
Mutex g_batches_mutex;

}  // namespace
}  // namespace icepie

// WriteBatch(reserved_bytes, max_bytes, protection_bytes_per_key, default_cf_ts_sz) of RocksDB's
// library, which says nowhere else how its batches are protected.
extern "C" void MadeWriteBatch(void* batch, size_t reserved, size_t max, size_t protection,
                               size_t timestamp) asm("_ZN7rocksdb10WriteBatchC1Emmmm");
extern "C" void MadeWriteBatch(void* batch, size_t reserved, size_t max, size_t protection,
                               size_t timestamp) {
  static const auto real = reinterpret_cast<decltype(&MadeWriteBatch)>(
      ::dlsym(RTLD_NEXT, "_ZN7rocksdb10WriteBatchC1Emmmm"));
  real(batch, reserved, max, protection, timestamp);
  const icepie::MutexLock lock(icepie::g_batches_mutex);
  icepie::g_batches.push_back(protection);
}

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// "000012.sst" → "N.sst"
std::string WithoutNumbers(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c < '0' || c > '9') {
      out.push_back(c);
    } else if (out.empty() || out.back() != 'N') {
      out.push_back('N');
    }
  }
  return out;
}

class DiskFormTest : public testing::Test {
 protected:
  // A core that has used everything that leaves something behind, and a backup of it.
  void Fill() {
    CoreOptions options;
    options.directory = core_;
    options.free_bytes_min = 1;
    options.ballast_bytes = 1 << 16;
    options.sealing = SmallSegments();
    options.scrub.first_delay = absl::ZeroDuration();
    const auto opened = Core::Open(options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    Core& core = **opened;
    ASSERT_TRUE(core.CreateStream("a", PayloadFormat::kJson, {"$.n", ""}).ok());
    AppendBatch request = NumberedBatch("a", 0, 1);
    request.identity = AppendIdentity{"x", "", 0, 0};
    AppendBatch produced = NumberedBatch("a", 1, 1);
    produced.identity = AppendIdentity{"", "pump", 0, 0};
    for (AppendBatch& batch : std::vector<AppendBatch>{request, produced}) {
      ASSERT_TRUE(core.AppendAndWait(std::move(batch)).ok());
    }
    for (int64_t n = 2; n < 100; ++n) {
      ASSERT_TRUE(core.AppendAndWait(NumberedBatch("a", n, 1)).ok());
    }
    ASSERT_TRUE(EventuallyInCore([&core] { return core.Storage().segment_count > 0; }));
    ASSERT_TRUE(core.ChangeCatalog({{"domain/x", "value"}}).ok());
    ASSERT_TRUE(core.proofs()->GetCheckpoint(core.head_position(), absl::Seconds(60)).ok());
    ASSERT_TRUE(EventuallyInCore([this] { return fs::exists(core_ + "/scrub"); }));
    ASSERT_TRUE(core.BackUpTo(copy_, [](int64_t, int64_t) { return true; }).ok());
  }

  static std::string Readme() {
    const char* source = std::getenv("ICEPIE_SOURCE");
    return *ReadFile(std::string(source == nullptr ? "." : source) + "/core/README.md");
  }

  TempDirectory directory_;
  const std::string core_ = directory_.path() + "/data/core";
  const std::string copy_ = directory_.path() + "/copy/core";
};

TEST_F(DiskFormTest, EveryFileIsInTheReadme) {
  Fill();
  const std::string readme = Readme();
  std::set<std::string> names;
  for (const std::string& core : {core_, copy_}) {
    for (const auto& file : fs::recursive_directory_iterator(core)) {
      if (!file.is_regular_file()) continue;
      const std::string name = WithoutNumbers(file.path().filename());
      const std::string folder = file.path().parent_path().filename();
      if (folder == "core") {
        names.insert("core/" + name);
      } else {
        names.insert(name == "N-N.segment" ? ".segment" : name);
        EXPECT_THAT(readme, HasSubstr("core/" + folder + "/"));
      }
    }
  }
  for (const std::string& name : names) EXPECT_THAT(readme, HasSubstr(name));
  for (const char* name :
       {"core/lock", "core/high_water_mark", "core/ballast", "core/signing_key", "core/scrub",
        "core/checkpoint", "core/backup", ".segment", "N.log", "N.sst", "MANIFEST-N", "CURRENT"}) {
    EXPECT_EQ(names.count(name), 1U) << name << " was not there to be looked for";
  }
  // "core/NAME  N bytes": those of a fixed size.
  const std::regex sized("\\ncore/(\\w+) +(\\d+) bytes");
  std::map<std::string, std::string> sizes;
  for (std::sregex_iterator line(readme.begin(), readme.end(), sized), end; line != end; ++line) {
    sizes[(*line)[1]] = (*line)[2];
  }
  EXPECT_THAT(sizes, ElementsAre(testing::Key("high_water_mark")));
  for (const auto& [name, bytes] : sizes) {
    EXPECT_EQ(std::to_string(fs::file_size(core_ + "/" + name)), bytes) << name;
  }
}

TEST_F(DiskFormTest, EveryFamilyAndKindOfCatalogKeyIsInTheReadme) {
  Fill();
  ASSERT_FALSE(HasFatalFailure());
  const auto store = LogStore::Open({copy_ + "/rocksdb", LogStore::Mode::kReadOnly, nullptr});
  ASSERT_TRUE(store.ok()) << store.status();
  std::set<std::string> kinds;
  const auto keys = (*store)->ScanCatalog("");
  ASSERT_TRUE(keys.ok()) << keys.status();
  for (const auto& [key, value] : *keys) kinds.insert(key.substr(0, 1));
  EXPECT_THAT(kinds, ElementsAre("c", "d", "g", "o", "p", "r", "s"));
  const std::string readme = Readme();
  for (const std::string& kind : kinds) EXPECT_THAT(readme, HasSubstr("| `catalog` | `" + kind));
  std::set<std::string> families;
  const auto files = *(*store)->ListFiles();
  for (const LogStore::StoredFile& file : files) families.insert(file.family);
  EXPECT_THAT(families, ElementsAre("catalog", "index", "log", "tree"));
  for (const std::string& family : families) EXPECT_THAT(readme, HasSubstr("| `" + family + "` |"));
}

// Compressed before the log has them, and not when tables are made of it: large batches in the
// caller's thread, small ones in the sequencer's.
TEST_F(DiskFormTest, TheWriteAheadLogHasCompressedBlocks) {
  const std::unique_ptr<Core> core = OpenCore(core_);
  ASSERT_TRUE(core->CreateStream("a", PayloadFormat::kJson).ok());
  const std::string text = "the same words again and again, the same words again and again";
  const std::string payload = "{\"text\":\"" + text + "\"}";
  int64_t bytes = 0;
  for (const int records : {50, 10000}) {
    AppendBatch batch;
    for (int i = 0; i < records; ++i) batch.records.push_back(MakeRecord("a", payload));
    bytes += records * static_cast<int64_t>(payload.size());
    ASSERT_TRUE(core->AppendAndWait(std::move(batch)).ok());
  }
  std::string log;
  for (const auto& file : fs::directory_iterator(core_ + "/rocksdb")) {
    if (file.path().extension() == ".log") log += *ReadFile(file.path());
    EXPECT_NE(file.path().extension(), ".sst") << "all of it is in the write-ahead log";
  }
  // Of each record the Merkle tree has a hash, which nothing makes smaller.
  EXPECT_LT(static_cast<int64_t>(log.size()), 10050 * 32 + bytes / 10);
  size_t found = 0;
  for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++found;
  EXPECT_LE(found, 2U) << "once in each block, where compression begins";
  EXPECT_EQ(ReadAll(*core, {}, 10049).at(0).payload, payload);
}

// A bit that flips in memory, between a batch and the log, is found by the checksums of its
// entries; one in a table that was just written by reading it back.
TEST_F(DiskFormTest, RocksDbChecksWhatItIsGivenAndWhatItHasWritten) {
  g_batches.clear();
  Fill();
  // 8 bytes of checksum for each entry, in all but the few that RocksDB makes for itself.
  EXPECT_GT(std::count(g_batches.begin(), g_batches.end(), 8U), 100);
  EXPECT_LT(std::count(g_batches.begin(), g_batches.end(), 0U), 10);
  std::string newest;
  for (const auto& file : fs::directory_iterator(core_ + "/rocksdb")) {
    const std::string name = file.path().filename();
    if (name.rfind("OPTIONS-", 0) == 0) newest = std::max(newest, name);
  }
  const std::string options = *ReadFile(core_ + "/rocksdb/" + newest);
  for (const char* wanted :
       {"wal_recovery_mode=kTolerateCorruptedTailRecords",
        "track_and_verify_wals_in_manifest=false", "paranoid_checks=true",
        "max_bgerror_resume_count=0", "enable_blob_files=false", "paranoid_file_checks=true"}) {
    EXPECT_THAT(options, HasSubstr(wanted));
  }
  EXPECT_THAT(options, testing::Not(HasSubstr("enable_blob_files=true")));
  EXPECT_THAT(options, testing::Not(HasSubstr("paranoid_file_checks=false")));
}

}  // namespace
}  // namespace icepie
