#include "server/supervisor/worker_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/proto_time.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

using icepie::v1::LogLine;
using ::testing::ElementsAre;

std::string Line(int second, const std::string& rest) {
  return absl::StrCat("2026-11-22T02:58:", second, ".120394Z ", rest, "\n");
}

class WorkerLogTest : public testing::Test {
 protected:
  WorkerLogTest() { std::filesystem::create_directories(directory_.path() + "/logs"); }
  std::string Path(const std::string& name) const { return directory_.path() + "/logs/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::app) << text;
  }
  static std::vector<std::string> Messages(const std::vector<LogLine>& lines) {
    std::vector<std::string> out;
    for (const LogLine& line : lines) out.push_back(line.message());
    return out;
  }
  DomainLog Log(LogFilter filter = {}) const { return {directory_.path(), "shop", filter}; }

  TempDirectory directory_;
};

TEST_F(WorkerLogTest, LinesHaveTimeLevelAndSlice) {
  const LogLine line =
      ParseLogLine("2026-11-22T02:58:41.120394Z warning [by_item] generation 7: FAULTED", "shop");
  EXPECT_EQ(line.level(), LogLine::WARNING);
  EXPECT_EQ(line.slice(), "shop.by_item");
  EXPECT_EQ(line.message(), "generation 7: FAULTED");
  EXPECT_EQ(absl::FormatTime("%H:%M:%E6S", FromProto(line.time()), absl::UTCTimeZone()),
            "02:58:41.120394");
  const LogLine other = ParseLogLine("terminate called \xff after", "shop");
  EXPECT_EQ(other.level(), LogLine::LEVEL_UNSPECIFIED);
  EXPECT_EQ(other.message(), "terminate called ? after");
  EXPECT_FALSE(other.has_time());
}

TEST_F(WorkerLogTest, RolesAndRenamedFilesAreReadInOrderOfTime) {
  Write("live.log.1", Line(10, "info a") + Line(12, "info c"));
  Write("live.log", Line(14, "info e") + "aborted by a library\n");
  Write("standby.log", Line(11, "info b") + Line(13, "info d") + Line(15, "info f"));
  EXPECT_THAT(Messages(Log().ReadPast(100)),
              ElementsAre("a", "b", "c", "d", "e", "aborted by a library", "f"));
  EXPECT_THAT(Messages(Log().ReadPast(2)), ElementsAre("aborted by a library", "f"));
}

TEST_F(WorkerLogTest, AFilterTakesASlicesLinesAndThoseOfTheWholeWorker) {
  Write("live.log", Line(10, "info [a] 1") + Line(11, "info [b] 2") + Line(12, "error 3") +
                        Line(13, "debug [a] 4") + "crash\n");
  EXPECT_THAT(Messages(Log({"shop.a", absl::InfinitePast(), LogLine::INFO}).ReadPast(100)),
              ElementsAre("1", "3", "crash"));
  const absl::Time since = FromProto(ParseLogLine(Line(12, "info x"), "shop").time());
  EXPECT_THAT(Messages(Log({"", since}).ReadPast(100)), ElementsAre("3", "4", "crash"));
}

TEST_F(WorkerLogTest, WhatIsAppendedIsFollowedIntoTheNextFile) {
  DomainLog log = Log();
  EXPECT_TRUE(log.ReadPast(10).empty());
  Write("live.log", Line(10, "info 1") + "2026-11-22T02:58:11.1");
  EXPECT_THAT(Messages(log.ReadNew()), ElementsAre("1"));
  Write("live.log", "20394Z info 2\n" + Line(12, "info 3"));
  std::filesystem::rename(Path("live.log"), Path("live.log.1"));
  Write("live.log", Line(13, "info 4"));
  std::vector<std::string> all = Messages(log.ReadNew());
  for (const std::string& more : Messages(log.ReadNew())) all.push_back(more);
  EXPECT_THAT(all, ElementsAre("2", "3", "4"));
  EXPECT_TRUE(log.ReadNew().empty());
}

TEST_F(WorkerLogTest, TheDaemonsNotesAreLinesToo) {
  NoteInWorkerLog(Path("live.log"), LogLine::ERROR, "ended with\nsignal 9");
  const auto lines = Log().ReadPast(10);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].level(), LogLine::ERROR);
  EXPECT_EQ(lines[0].message(), "ended with\\nsignal 9");
  EXPECT_EQ(lines[0].role(), "live");
}

// The directory is the worker's, and what the daemon reads and writes is not its business.
TEST_F(WorkerLogTest, LinksAreNotFollowed) {
  const std::string secret = directory_.path() + "/secret";
  std::ofstream(secret) << Line(10, "info key");
  std::filesystem::create_symlink(secret, Path("live.log"));
  EXPECT_THAT(Log().ReadPast(100), testing::IsEmpty());
  NoteInWorkerLog(Path("live.log"), LogLine::ERROR, "ended");
  EXPECT_EQ(std::filesystem::file_size(secret), Line(10, "info key").size());
}

}  // namespace
}  // namespace icepie::server
