#include "core/segment/segment_set.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

class SegmentSetTest : public ::testing::Test {
 protected:
  void Add(int64_t first_position, int64_t end_position) {
    SegmentEntry entry;
    entry.first_position = first_position;
    entry.end_position = end_position;
    entry.checksum = static_cast<uint64_t>(end_position);
    std::ofstream(PathOf(entry)) << "records";
    segments_.Add(entry);
    segments_.RemoveReplaced();
  }
  std::string PathOf(const SegmentEntry& entry) const {
    return absl::StrCat(directory_.path(), "/", entry.file_name());
  }
  bool Exists(int64_t first_position, int64_t end_position) const {
    SegmentEntry entry;
    entry.first_position = first_position;
    entry.end_position = end_position;
    return std::filesystem::exists(PathOf(entry));
  }

  const TempDirectory directory_;
  SegmentSet segments_{directory_.path()};
};

// A backup of hours must not keep what each sealing meanwhile has replaced.
TEST_F(SegmentSetTest, WhoKnowsWhatACopyNamesKeepsNothingElse) {
  Add(0, 10);
  auto files = segments_.KeepFiles();
  Add(0, 20);
  auto named = segments_.List();  // by a copy that is made now
  Add(0, 30);
  EXPECT_TRUE(Exists(0, 10) && Exists(0, 20) && Exists(0, 30));
  files = segments_.KeepOnly(files, named);
  named.clear();
  EXPECT_FALSE(Exists(0, 10));
  EXPECT_TRUE(Exists(0, 20) && Exists(0, 30));
  Add(0, 40);
  EXPECT_FALSE(Exists(0, 30));
  EXPECT_TRUE(Exists(0, 20) && Exists(0, 40));
}

TEST_F(SegmentSetTest, WhatACopyNamesStaysAlsoWhenItIsReplacedLater) {
  Add(0, 10);
  auto files = segments_.KeepFiles();
  Add(10, 20);
  files = segments_.KeepOnly(files, segments_.List());
  Add(10, 30);
  EXPECT_TRUE(Exists(0, 10) && Exists(10, 20) && Exists(10, 30));
  files.reset();
  EXPECT_TRUE(Exists(0, 10) && Exists(10, 30));
  EXPECT_FALSE(Exists(10, 20));
}

}  // namespace
}  // namespace icepie
