#include "core/base/directory.h"

#include <dirent.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/temp_directory.h"

namespace {

int reads_left = -1;  // until a directory gives an error; -1: none comes

}  // namespace

// In the place of the C library's, also for the standard library.
extern "C" dirent* readdir(DIR* directory) {
  static const auto real = reinterpret_cast<dirent* (*)(DIR*)>(dlsym(RTLD_NEXT, "readdir"));
  if (reads_left == 0) {
    errno = EIO;
    return nullptr;
  }
  if (reads_left > 0) --reads_left;
  return real(directory);
}

namespace icepie {
namespace {

TEST(DirectoryTest, GivesWhatItCanWhereADirectoryBreaks) {
  const TempDirectory directory;
  for (int i = 0; i < 4; ++i) std::ofstream(absl::StrCat(directory.path(), "/", i)) << i;
  std::error_code error;
  EXPECT_EQ(DirectoryEntries(directory.path(), error).size(), 4u);
  EXPECT_FALSE(error);
  size_t most = 0;
  for (int reads = 0; reads < 6; ++reads) {
    reads_left = reads;
    const size_t found = DirectoryEntries(directory.path(), error).size();
    reads_left = -1;
    EXPECT_EQ(error, std::errc::io_error) << reads;
    EXPECT_LE(found, 4u);
    most = std::max(most, found);
  }
  EXPECT_GT(most, 0u);
  EXPECT_TRUE(DirectoryEntries(directory.path() + "/none", error).empty());
  EXPECT_EQ(error, std::errc::no_such_file_or_directory);
}

}  // namespace
}  // namespace icepie
