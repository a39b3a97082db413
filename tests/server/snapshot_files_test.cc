#include "server/domain/snapshot_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/file.h"
#include "tests/core/broken_directory.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

namespace fs = std::filesystem;

class SnapshotFilesTest : public ::testing::Test {
 protected:
  SnapshotFilesTest() {
    for (const int64_t position : {5, 7, 9}) AddSnapshot("volume", position);
  }

  void AddSnapshot(const std::string& slice, int64_t position) {
    const std::string folder = Folder(slice);
    fs::create_directories(folder);
    const std::string stem = absl::StrCat(folder, "/g3-p", absl::Dec(position, absl::kZeroPad20));
    std::ofstream(stem + ".duckdb") << "rows";
    std::ofstream(stem + ".json") << R"({"slice": "volume", "sha256": "0"})";
  }

  std::string Folder(const std::string& slice) const { return domain_ + "/snapshots/" + slice; }

  static int64_t CountIn(const std::string& folder) {
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
  }

  TempDirectory directory_;
  const std::string domain_ = directory_.path() + "/domains/payments";
};

TEST_F(SnapshotFilesTest, WhoComesLaterUnderTheNameFindsNoScheduleOfTheRemovedSlice) {
  fs::create_directory(domain_ + "/next_named");
  std::ofstream(domain_ + "/next_named/volume") << "{}";
  RemoveSlice(domain_, "volume");
  EXPECT_TRUE(SlicesOnDisk(domain_).empty());
  EXPECT_FALSE(fs::exists(domain_ + "/next_named/volume"));
}

TEST_F(SnapshotFilesTest, ASnapshotOfRowsThatWereMadeAnewIsKnownToo) {
  const std::string name = absl::StrCat("g3-p", absl::Dec(11, absl::kZeroPad20), "v",
                                        absl::Dec(12, absl::kZeroPad20), ".duckdb");
  const std::string path = "snapshots/volume/" + name;
  std::ofstream(domain_ + "/" + path) << "rows";
  std::ofstream(absl::StrReplaceAll(domain_ + "/" + path, {{".duckdb", ".json"}})) << "{}";
  EXPECT_EQ(NewestSnapshot(domain_, "volume", 3), path);
  EXPECT_EQ(SnapshotPosition(path), 11);
}

// As the worker has it: the later one may come first in the directory, and the other one be there
// still.
TEST_F(SnapshotFilesTest, OfTwoAtOnePositionTheLaterOneIsTheNewest) {
  const std::string plain = absl::StrCat("g3-p", absl::Dec(11, absl::kZeroPad20));
  const auto add = [&](const std::string& stem) {
    std::ofstream(Folder("volume") + "/" + stem + ".duckdb") << "rows";
    std::ofstream(Folder("volume") + "/" + stem + ".json") << "{}";
  };
  add(plain);
  std::string newest = plain;
  for (const int64_t version : {31, 12, 29, 33, 15, 30}) {
    const std::string stem = absl::StrCat(plain, "v", absl::Dec(version, absl::kZeroPad20));
    add(stem);
    newest = std::max(newest, stem);
    EXPECT_EQ(NewestSnapshot(domain_, "volume", 3), "snapshots/volume/" + newest + ".duckdb");
  }
}

TEST_F(SnapshotFilesTest, ABuildThatHasSavedOnItsWayHasItsNumber) {
  EXPECT_EQ(HighestGenerationOnDisk(domain_, "volume"), 3);
  fs::create_directories(domain_ + "/unfinished/volume/g5/to_base/volume");
  fs::create_directories(domain_ + "/unfinished/volume/other");
  EXPECT_EQ(HighestGenerationOnDisk(domain_, "volume"), 5);
  EXPECT_EQ(HighestGenerationOnDisk(domain_, "amounts"), 0);
}

// As on a disk that is damaged in the middle of a directory: nobody ends the daemon for it.
TEST_F(SnapshotFilesTest, ADirectoryThatBreaksIsReadAsFarAsItGoes) {
  for (int entries = 0; entries < 8; ++entries) {
    const BrokenDirectory broken(Folder("volume"), entries);
    const int64_t highest = HighestGenerationOnDisk(domain_, "volume");
    EXPECT_TRUE(highest == 3 || (highest == 0 && entries < 3)) << entries << ": " << highest;
    EXPECT_LE(FurthestGenerationOnDisk(domain_, "volume"), 3);
    NewestSnapshot(domain_, "volume", 3);
    EXPECT_EQ(SetAsideSnapshotsBeyond(directory_.path() + "/domains", 100), 0);
  }
  {
    const BrokenDirectory broken(domain_ + "/snapshots");
    EXPECT_TRUE(SlicesOnDisk(domain_).empty());
    EXPECT_EQ(SetAsideSnapshotsBeyond(directory_.path() + "/domains", 0), 0);
  }
  EXPECT_EQ(SetAsideSnapshotsBeyond(directory_.path() + "/domains", 6), 2);
}

TEST_F(SnapshotFilesTest, WhatBuildsSavedOnTheirWayGoesByGenerationBySliceAndWithTheRecords) {
  const std::string unfinished = domain_ + "/unfinished/";
  for (const char* build : {"volume/g3/to_base/volume", "volume/g4/to_base/volume", "gone/g1"}) {
    fs::create_directories(unfinished + build);
  }
  RemoveUnfinished(domain_, "volume", [](int64_t generation) { return generation == 3; });
  EXPECT_FALSE(fs::exists(unfinished + "volume/g3"));
  EXPECT_TRUE(fs::exists(unfinished + "volume/g4/to_base/volume"));
  EXPECT_EQ(CountIn(Folder("volume")), 6);
  EXPECT_THAT(SlicesOnDisk(domain_), testing::ElementsAre("gone", "volume"));
  RemoveSlice(domain_, "gone");
  EXPECT_FALSE(fs::exists(unfinished + "gone"));
  const std::string build = unfinished + "volume/g4/to_base/volume/";
  for (const char* file : {"g4-p00000000000000000099.json", "g4-p00000000000000000099.duckdb",
                           "g4-p00000000000000000100.duckdb", "g4-p00000000000000000100.json"}) {
    std::ofstream(build + file) << "{}";
  }
  EXPECT_EQ(SetAsideSnapshotsBeyond(directory_.path() + "/domains", 99), 0);
  EXPECT_EQ(CountIn(build), 2) << "the core has lost what the others hold";
}

TEST_F(SnapshotFilesTest, ARenamedSliceTakesEverythingOverOrNothing) {
  for (int entries = 0; entries < 8; ++entries) {
    const BrokenDirectory broken(Folder("volume"), entries);
    EXPECT_FALSE(AdoptSlice(domain_, "volume", "amounts").ok()) << entries;
    EXPECT_FALSE(fs::exists(Folder("amounts")));
  }
  const absl::Status adopted = AdoptSlice(domain_, "volume", "amounts");
  EXPECT_TRUE(adopted.ok()) << adopted;
  EXPECT_EQ(CountIn(Folder("amounts")), 7) << "with the folder of the named ones";
  EXPECT_EQ(CountIn(Folder("volume")), 6);
}

}  // namespace
}  // namespace icepie::server
