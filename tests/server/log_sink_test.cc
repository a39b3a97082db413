#include "server/worker/log_sink.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

// Standard error and output go to a file meanwhile, as the daemon connects a worker's.
class Redirected {
 public:
  explicit Redirected(const std::string& path) : out_(dup(1)), err_(dup(2)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
  }
  ~Redirected() {
    dup2(out_, 1);
    dup2(err_, 2);
    close(out_);
    close(err_);
  }

 private:
  const int out_;
  const int err_;
};

std::string Read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(LogSinkTest, LinesAreWholeAndTheFileIsBounded) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/live.log";
  constexpr int64_t kBytesMax = 20000;
  {
    const Redirected redirected(path);
    spdlog::logger logger("test", std::make_shared<LogSink>(path, kBytesMax));
    logger.warn("first\nsecond");
    for (int i = 0; i < 2000; ++i) logger.info("line {} of many", i);
    logger.info("{}", std::string(100000, 'x'));
    logger.error("last");
  }
  const std::string now = Read(path);
  const std::string before = Read(path + ".1");
  EXPECT_NE(now.find(" error last\n"), std::string::npos);
  // The limit is looked at every so many bytes, and one line may be long.
  EXPECT_LE(now.size(), 2 * kBytesMax + LogSink::kLineBytesMax);
  EXPECT_LE(before.size(), 2 * kBytesMax + LogSink::kLineBytesMax);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 2);
}

TEST(LogSinkTest, LineBreaksDoNotMakeLines) {
  const TempDirectory directory;
  const std::string path = directory.path() + "/live.log";
  {
    const Redirected redirected(path);
    spdlog::logger logger("test", std::make_shared<LogSink>(path, LogSink::kFileBytesMax));
    logger.warn("[by_item] first\nsecond");
  }
  const std::string text = Read(path);
  EXPECT_NE(text.find("Z warning [by_item] first\\nsecond\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace icepie::server
