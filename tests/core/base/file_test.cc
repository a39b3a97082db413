#include "core/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

namespace icepie {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "file_test_" + std::to_string(::getpid());
    ASSERT_TRUE(MakeDirectories(directory_ + "/a/b").ok());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
};

TEST_F(FileTest, AtomicWriteReplacesContentAndSetsTheMode) {
  ASSERT_TRUE(WriteFileAtomically(Path("x"), "old").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("x"), std::string("new\0bytes", 9), 0600).ok());
  EXPECT_EQ(*ReadFile(Path("x")), std::string("new\0bytes", 9));
  struct stat info {};
  ASSERT_EQ(::stat(Path("x").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(FileTest, FailedWriteLeavesTheOldFileAndNoTemporary) {
  // A directory in the file's place makes the rename fail.
  ASSERT_TRUE(MakeDirectories(Path("a/b/c")).ok());
  EXPECT_FALSE(WriteFileAtomically(Path("a/b"), "x").ok());
  EXPECT_TRUE(std::filesystem::is_directory(Path("a/b/c")));
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(Path("a"))) {
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

TEST_F(FileTest, MissingFileIsNotFoundAndNamed) {
  const auto content = ReadFile(Path("nothing"));
  EXPECT_EQ(content.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(content.status().message()).find("nothing"), std::string::npos);
  EXPECT_EQ(SyncFile(Path("nothing")).code(), absl::StatusCode::kNotFound);
}

TEST_F(FileTest, Sha256MatchesThePublishedVectors) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  ASSERT_TRUE(WriteFileAtomically(Path("abc"), "abc").ok());
  EXPECT_EQ(*Sha256OfFile(Path("abc")), Sha256Hex("abc"));
}

}  // namespace
}  // namespace icepie
