// A write-ahead log that RocksDB has written, read as a file: whole, damaged anywhere, cut off
// anywhere.
#include "core/wal_check.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "core/base/file.h"
#include "core/base/status.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class WalCheckTest : public testing::Test {
 protected:
  // Records of all sizes, some of several blocks of the log.
  void SetUp() override {
    core_ = OpenCore(directory_.path() + "/core");
    ASSERT_TRUE(core_->CreateStream("raw", PayloadFormat::kBytes).ok());
    std::mt19937_64 random(1);
    for (const size_t bytes : {10, 3000, 40000, 1, 32768, 100000, 7, 32000, 700, 5000, 90}) {
      std::string payload(bytes, '\0');
      for (char& byte : payload) byte = static_cast<char>(random());
      AppendBatch batch;
      batch.records.push_back(MakeRecord("raw", std::move(payload)));
      ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
    }
    for (const auto& file : fs::directory_iterator(directory_.path() + "/core/rocksdb")) {
      if (file.path().extension() == ".log") log_ = file.path();
    }
    bytes_ = *ReadFile(log_);
    ASSERT_GT(bytes_.size(), 200000U);
  }

  absl::StatusOr<WalCheck> Check(const std::string& bytes) {
    std::ofstream(copy_, std::ios::binary | std::ios::trunc) << bytes;
    return CheckWalFile(copy_, 0);
  }

  TempDirectory directory_;
  const std::string copy_ = directory_.path() + "/copy.log";
  std::unique_ptr<Core> core_;
  std::string log_;
  std::string bytes_;
};

TEST(Crc32cTest, IsCastagnolis) {
  EXPECT_EQ(Crc32c(0, "123456789"), 0xe3069283U);  // RFC 3720, appendix B.4, has others
  EXPECT_EQ(Crc32c(0, std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(0, std::string(32, '\xff')), 0x62a8ab43U);
}

TEST_F(WalCheckTest, AWholeLogIsWhole) {
  const auto check = Check(bytes_);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_TRUE(check->is_whole);
  EXPECT_GT(check->checked_bytes, 150000);
  EXPECT_TRUE(CheckWalFile(copy_, check->checked_bytes)->is_whole);
  EXPECT_FALSE(HasTornEnd(copy_));
  EXPECT_TRUE(absl::IsNotFound(CheckWalFile(copy_ + "x", 0).status()));
}

TEST_F(WalCheckTest, AFlippedBitAnywhereIsNamed) {
  std::string damaged = bytes_;
  for (size_t i = 0; i < bytes_.size(); i += i < 100 ? 1 : 1009) {
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    const auto check = Check(damaged);
    // A length may lead beyond the end of the file, as if the record were still being written.
    EXPECT_TRUE(!check.ok() || !check->is_whole) << i;
    if (!check.ok()) {
      EXPECT_EQ(ErrorReason(check.status()), "RECORD_DAMAGED");
      EXPECT_THAT(std::string(check.status().message()), HasSubstr(copy_));
    }
    damaged[i] = bytes_[i];
  }
}

TEST_F(WalCheckTest, ACutIsNoDamageButSeen) {
  int whole = 0;
  for (size_t i = 1; i < bytes_.size(); i += 499) {
    const auto check = Check(bytes_.substr(0, i));
    ASSERT_TRUE(check.ok()) << i << ": " << check.status();
    whole += static_cast<int>(check->is_whole);
    EXPECT_EQ(HasTornEnd(copy_), !check->is_whole) << i;
  }
  EXPECT_LT(whole, 5) << "that many cuts did not meet a record's end by chance";
}

// While somebody appends, what is being written is no damage.
TEST_F(WalCheckTest, ARunningCoresLogIsWholeAtAnyMoment) {
  std::atomic<bool> stopping{false};
  std::thread writer([&] {
    for (int64_t n = 0; !stopping; ++n) {
      AppendBatch batch;
      batch.records.push_back(
          MakeRecord("raw", std::string(static_cast<size_t>(n % 50) * 3000, static_cast<char>(n))));
      ASSERT_TRUE(core_->AppendAndWait(std::move(batch)).ok());
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto check = CheckWalFile(log_, 0);
    EXPECT_TRUE(check.ok() || absl::IsNotFound(check.status())) << check.status();
  }
  stopping = true;
  writer.join();
  EXPECT_TRUE(CheckWalFile(log_, 0)->is_whole);
}

}  // namespace
}  // namespace icepie
