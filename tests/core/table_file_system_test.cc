// A table is read piece by piece when whoever checks it has to keep a rate.
#include "core/log/table_file_system.h"

#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <random>
#include <string>
#include <vector>

#include "core/log/log_store.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

// A disk that knows how much has been read from tables.
class CountingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  CountingFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "CountingFileSystem"; }
  int64_t bytes_read() const { return bytes_read_; }

  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = target()->NewRandomAccessFile(name, options, file, debug);
    if (status.ok()) *file = std::make_unique<File>(std::move(*file), this);
    return status;
  }

 private:
  class File final : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSRandomAccessFile> inner, CountingFileSystem* owner)
        : FSRandomAccessFileOwnerWrapper(std::move(inner)), owner_(owner) {}

    rocksdb::IOStatus Read(uint64_t offset, size_t bytes, const rocksdb::IOOptions& options,
                           rocksdb::Slice* result, char* scratch,
                           rocksdb::IODebugContext* debug) const override {
      rocksdb::IOStatus status =
          FSRandomAccessFileOwnerWrapper::Read(offset, bytes, options, result, scratch, debug);
      owner_->bytes_read_ += static_cast<int64_t>(result->size());
      return status;
    }
    rocksdb::IOStatus Prefetch(uint64_t offset, size_t bytes, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
      owner_->bytes_read_ += static_cast<int64_t>(bytes);
      return FSRandomAccessFileOwnerWrapper::Prefetch(offset, bytes, options, debug);
    }

   private:
    CountingFileSystem* const owner_;
  };

  std::atomic<int64_t> bytes_read_{0};
};

class TableFileSystemTest : public testing::Test {
 protected:
  static constexpr int64_t kPieceBytes = int64_t{256} << 10;

  // A table of one large value and many small ones.
  TableFileSystemTest() : env_(rocksdb::NewCompositeEnv(files_)) {
    const LogStore::Options options{directory_.path() + "/rocksdb", LogStore::Mode::kReadWrite,
                                    env_.get()};
    {
      const auto store = *LogStore::Open(options);
      std::mt19937_64 random(1);
      std::vector<LogStore::CatalogChange> changes;
      for (int i = 0; i <= 100; ++i) {
        std::string value(i == 0 ? size_t{2} << 20 : 10000, '\0');
        for (char& byte : value) byte = static_cast<char>(random());
        changes.emplace_back(std::to_string(i), std::move(value));
      }
      EXPECT_TRUE(store->ChangeCatalog(changes).ok());
    }
    store_ = *LogStore::Open(options);
  }

  LogStore::StoredFile Table() const {
    const auto files = *store_->ListFiles();
    for (const LogStore::StoredFile& file : files) {
      if (file.family == "catalog") return file;
    }
    ADD_FAILURE() << "there is no table";
    return {};
  }

  TempDirectory directory_;
  const std::shared_ptr<CountingFileSystem> files_ = std::make_shared<CountingFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<LogStore> store_;
};

TEST_F(TableFileSystemTest, WhoeverChecksATableIsAskedAfterEachPiece) {
  const LogStore::StoredFile table = Table();
  ASSERT_GT(table.bytes, 10 * kPieceBytes);
  const int64_t before = files_->bytes_read();
  int64_t told = 0;
  const absl::Status checked = store_->CheckFile(table, {[&](int64_t bytes) {
                                                   EXPECT_LE(bytes, kPieceBytes);
                                                   told += bytes;
                                                   EXPECT_EQ(files_->bytes_read() - before, told);
                                                   return true;
                                                 }});
  EXPECT_TRUE(checked.ok()) << checked;
  EXPECT_GE(told, table.bytes);
  EXPECT_EQ(files_->bytes_read() - before, told);
}

TEST_F(TableFileSystemTest, ACheckThatIsEndedReadsNoMore) {
  const LogStore::StoredFile table = Table();
  const int64_t before = files_->bytes_read();
  int64_t told = 0;
  const absl::Status checked = store_->CheckFile(table, {[&](int64_t bytes) {
                                                   EXPECT_LT(told, kPieceBytes) << "asked again";
                                                   told += bytes;
                                                   return told < kPieceBytes;
                                                 }});
  EXPECT_TRUE(absl::IsCancelled(checked)) << checked;
  EXPECT_EQ(files_->bytes_read() - before, told);
  EXPECT_LT(told, table.bytes);
}

}  // namespace
}  // namespace icepie
