#include "core/base/directory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/broken_directory.h"
#include "tests/core/temp_directory.h"

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
    const BrokenDirectory broken(directory.path(), reads);
    const size_t found = DirectoryEntries(directory.path(), error).size();
    EXPECT_EQ(error, std::errc::io_error) << reads;
    EXPECT_LE(found, 4u);
    most = std::max(most, found);
  }
  EXPECT_EQ(most, 3u);
  EXPECT_TRUE(DirectoryEntries(directory.path() + "/none", error).empty());
  EXPECT_EQ(error, std::errc::no_such_file_or_directory);
}

}  // namespace
}  // namespace icepie
