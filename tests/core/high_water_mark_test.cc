#include "core/log/high_water_mark.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "core/base/file.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

using testing::HasSubstr;

// A disk that takes a part of what is written, as one that becomes full does: here because of a
// bound for the sizes of files.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  const sighandler_t handler_;
};

TEST(HighWaterMarkTest, ASlotThatIsWrittenInPartIsAnError) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/mark";
  auto mark = *HighWaterMark::Open(path, {1, Digest{}});
  {
    const FileSizeLimit limit(540);  // in the second slot
    errno = 0;
    const absl::Status status = mark->Write({2, Digest{}});
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    EXPECT_FALSE(status.ok());
  }
  EXPECT_EQ(HighWaterMark::Read(path)->position, 1) << "the other slot is whole";
  ASSERT_TRUE(mark->Write({2, Digest{}}).ok());
  ASSERT_TRUE(mark->Write({3, Digest{}}).ok());
  EXPECT_EQ(HighWaterMark::Read(path)->position, 3);
}

TEST(HighWaterMarkTest, ATornWriteLosesNoOtherAlsoAfterARestart) {
  for (const int writes : {2, 3}) {
    const TempDirectory directory;
    const std::string path = directory.path() + "/mark";
    {
      const auto mark = *HighWaterMark::Open(path, {1, Digest{}});
      for (int n = 2; n <= writes + 1; ++n) ASSERT_TRUE(mark->Write({n, Digest{}}).ok());
    }
    const std::string before = *ReadFile(path);
    const auto mark = *HighWaterMark::Open(path, {1, Digest{}});
    ASSERT_TRUE(mark->Write({100, Digest{}}).ok());
    std::string torn = *ReadFile(path);
    const auto changed = std::mismatch(torn.begin(), torn.end(), before.begin()).first;
    *changed ^= 1;
    ASSERT_TRUE(WriteFileAtomically(path, torn).ok());
    EXPECT_EQ(HighWaterMark::Read(path)->position, writes + 1) << writes;
  }
}

// One slot is enough; the other is not left as it is.
TEST(HighWaterMarkTest, ADamagedSlotIsToldAndMadeAnew) {
  for (const size_t place : {size_t{10}, size_t{522}}) {
    const TempDirectory directory;
    const std::string path = directory.path() + "/mark";
    ASSERT_TRUE((*HighWaterMark::Open(path, {1, Digest{}}))->Write({2, Digest{}}).ok());
    std::string file = *ReadFile(path);
    file[place] ^= 1;
    ASSERT_TRUE(WriteFileAtomically(path, file).ok());
    EXPECT_EQ(HighWaterMark::Check(path, 0).status().code(), absl::StatusCode::kDataLoss);
    const int64_t left = HighWaterMark::Read(path)->position;
    testing::internal::CaptureStdout();
    ASSERT_TRUE(HighWaterMark::Open(path, {1, Digest{}}).ok());
    EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr(path + " was damaged"));
    const auto whole = HighWaterMark::Check(path, 0);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(whole->position, left);
  }
}

}  // namespace
}  // namespace icepie
