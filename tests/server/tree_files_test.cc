#include "server/http/tree_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

TreeFiles Files() {
  TreeFiles tree;
  tree.checkpoint = [] { return std::string("a note\n"); };
  tree.tile = [](int level, int64_t tile, int width) {
    return absl::StrCat("tile ", level, " ", tile, " ", width);
  };
  tree.entries = [](int64_t tile, int width) { return absl::StrCat("entries ", tile, " ", width); };
  return tree;
}

HttpAnswer Get(const std::string& path) {
  const std::vector<std::string> segments = absl::StrSplit(path.substr(1), '/');
  EXPECT_TRUE(IsTreePath(segments)) << path;
  return TreeAnswer(Files(), segments);
}

TEST(TreeFilesTest, PathsAreThoseOfTheSpecification) {
  EXPECT_EQ(Get("/tile/0/000").body, "tile 0 0 256");
  EXPECT_EQ(Get("/tile/7/x001/x234/067").body, "tile 7 1234067 256");
  EXPECT_EQ(Get("/tile/1/x001/000.p/112").body, "tile 1 1000 112");
  EXPECT_EQ(Get("/tile/0/273.p/1").body, "tile 0 273 1");
  EXPECT_EQ(Get("/tile/entries/x001/001.p/255").body, "entries 1001 255");
  const HttpAnswer tile = Get("/tile/entries/001");
  EXPECT_EQ(tile.content_type, "application/octet-stream");
  EXPECT_THAT(tile.headers[0].second, testing::HasSubstr("immutable"));
}

TEST(TreeFilesTest, TheCheckpointIsTextThatIsNotKept) {
  const HttpAnswer answer = Get("/checkpoint");
  EXPECT_EQ(answer.body, "a note\n");
  EXPECT_EQ(answer.content_type, "text/plain; charset=utf-8");
  EXPECT_EQ(answer.headers[0].second, "no-cache");
}

TEST(TreeFilesTest, OtherPathsAreNotFound) {
  for (const std::string path :
       {"/tile/64/000", "/tile/-1/000", "/tile/00/000", "/tile/x/000", "/tile/0/0", "/tile/0/0000",
        "/tile/0/x000/001", "/tile/0/001/002", "/tile/0/x001", "/tile/0/000.p/0",
        "/tile/0/000.p/256", "/tile/0/000.p/01", "/tile/0/000.p", "/tile/0/000.p/1/2",
        "/tile/0/000/1", "/tile/0/x001/x001/x001/x001/x001/x001/001", "/tile/entries/",
        "/tile/0/+01"}) {
    EXPECT_EQ(Get(path).status, 404) << path;
  }
  EXPECT_FALSE(IsTreePath({"tile"}));
  EXPECT_FALSE(IsTreePath({"checkpoint", "x"}));
  EXPECT_FALSE(IsTreePath({}));
}

TEST(TreeFilesTest, DamageIsAnError) {
  TreeFiles tree = Files();
  tree.checkpoint = []() -> absl::StatusOr<std::string> {
    return MakeError(absl::StatusCode::kDataLoss, "position 7 does not fit", "PROOF_DAMAGED");
  };
  const HttpAnswer answer = TreeAnswer(tree, {"checkpoint"});
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, testing::HasSubstr("PROOF_DAMAGED"));
}

}  // namespace
}  // namespace icepie::server
