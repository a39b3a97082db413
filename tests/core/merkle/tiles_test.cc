#include "core/merkle/tiles.h"

#include <gtest/gtest.h>

#include <random>

#include "core/base/status.h"
#include "tests/core/merkle/tree_testing.h"

namespace icepie {
namespace {

// Stores runs as the log does, and reads them back.
class StoredTiles {
 public:
  void Apply(const TileChanges& changes) {
    for (const TileRun& run : changes.put) runs_[{run.level, run.first}] = run.hashes;
    for (const auto& key : changes.erase) EXPECT_EQ(runs_.erase(key), 1u);
  }

  HashReader Reader() const {
    return [this](int level, int64_t first, int count) -> absl::StatusOr<std::string> {
      const std::string tile = Tile(level, first / kTileWidth);
      const size_t begin = (first % kTileWidth) * kDigestBytes;
      return tile.substr(std::min(begin, tile.size()), count * kDigestBytes);
    };
  }

  std::string Tile(int level, int64_t tile) const {
    std::string hashes;
    for (auto at = runs_.lower_bound({level, tile * kTileWidth});
         at != runs_.end() && at->first < std::make_pair(level, (tile + 1) * kTileWidth); ++at) {
      EXPECT_EQ(at->first.second,
                tile * kTileWidth + static_cast<int64_t>(hashes.size() / kDigestBytes));
      hashes += at->second;
    }
    return hashes;
  }

  // The runs of tiles that are not full, which a writer resumes from.
  std::vector<TileRun> Growing(int64_t size) const {
    std::vector<TileRun> growing;
    for (const auto& [key, hashes] : runs_) {
      const int64_t first = NodesOfLevel(key.first, size) / kTileWidth * kTileWidth;
      if (key.second >= first) growing.push_back({key.first, key.second, hashes});
    }
    return growing;
  }

  std::map<std::pair<int, int64_t>, std::string> runs_;
};

class TilesTest : public testing::Test {
 protected:
  const size_t seed_ = std::random_device()();
  std::mt19937_64 random_{seed_};
  std::vector<std::string> leaves_ = NumberedLeaves(70'000);
  StoredTiles stored_;
  TileWriter writer_;

  void AppendUntil(int64_t size, int64_t commit_max) {
    while (writer_.size() < size) {
      const int64_t commit = 1 + static_cast<int64_t>(random_() % commit_max);
      for (int64_t i = 0; i < commit && writer_.size() < size; ++i) {
        writer_.Append(DigestFrom(leaves_[writer_.size()]));
      }
      stored_.Apply(writer_.TakeChanges());
    }
  }
};

// The example of tlog-tiles: 273 full tiles of leaves, one of 112; one full tile of level 1, one of
// 17; one of 1.
TEST_F(TilesTest, SeventyThousandLeavesAreTheSpecificationsTiles) {
  SCOPED_TRACE(seed_);
  AppendUntil(70'000, 3'000);
  std::string all;
  for (const std::string& leaf : leaves_) all += leaf;
  for (int64_t tile = 0; tile < 274; ++tile) {
    EXPECT_EQ(stored_.Tile(0, tile), all.substr(tile * 8192, 8192)) << tile;
  }
  EXPECT_EQ(stored_.Tile(0, 273).size(), 112u * kDigestBytes);
  EXPECT_EQ(stored_.Tile(1, 0).size(), 256u * kDigestBytes);
  EXPECT_EQ(stored_.Tile(1, 1).size(), 17u * kDigestBytes);
  EXPECT_EQ(stored_.Tile(1, 0).substr(3 * kDigestBytes, kDigestBytes),
            rfc::Root(leaves_, 3 * 256, 256));
  EXPECT_EQ(stored_.Tile(2, 0), rfc::Root(leaves_, 0, 65'536));
  // A full tile is one entry.
  EXPECT_EQ(stored_.runs_.count({0, 256}), 1u);
  EXPECT_EQ(BytesOf(writer_.Root()), rfc::Root(leaves_, 70'000));
}

TEST_F(TilesTest, ResumesAtEverySize) {
  SCOPED_TRACE(seed_);
  for (const int64_t size : {0, 1, 2, 255, 256, 257, 511, 513, 65'535, 65'536, 65'537, 66'000}) {
    AppendUntil(size, 400);
    auto resumed = TileWriter::Resume(size, stored_.Growing(size));
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    EXPECT_EQ(resumed->size(), size);
    EXPECT_EQ(BytesOf(resumed->Root()), rfc::Root(leaves_, size)) << size;
    writer_ = std::move(resumed).value();
  }
}

TEST_F(TilesTest, ProofsOverTilesVerify) {
  SCOPED_TRACE(seed_);
  AppendUntil(66'100, 2'000);
  for (const int64_t size : {1, 255, 256, 257, 65'535, 65'536, 65'537, 66'100}) {
    TiledNodes nodes(stored_.Reader());
    const Digest root = RootOf(size, nodes).value();
    ASSERT_EQ(BytesOf(root), rfc::Root(leaves_, size));
    for (const int64_t index : {int64_t{0}, size / 3, size / 2, size - 1}) {
      const auto proof = InclusionProof(index, size, nodes);
      ASSERT_TRUE(proof.ok()) << proof.status();
      EXPECT_TRUE(rfc::Includes(leaves_[index], index, size, BytesOf(*proof), BytesOf(root)));
    }
    for (const int64_t old_size : {int64_t{0}, int64_t{1}, size / 2, size - 1, size}) {
      const auto proof = ConsistencyProof(old_size, size, nodes);
      ASSERT_TRUE(proof.ok()) << proof.status();
      EXPECT_TRUE(rfc::Consistent(old_size, rfc::Root(leaves_, old_size), size, BytesOf(root),
                                  BytesOf(*proof)));
    }
  }
}

TEST_F(TilesTest, RefusesToResumeFromTilesThatDoNotFit) {
  AppendUntil(600, 40);
  const std::vector<TileRun> runs = stored_.Growing(600);
  ASSERT_GT(runs.size(), 3u);
  for (size_t i = 0; i < runs.size(); ++i) {
    std::vector<TileRun> missing = runs;
    missing.erase(missing.begin() + i);
    EXPECT_EQ(ErrorReason(TileWriter::Resume(600, missing).status()), "PROOF_DAMAGED") << i;
    std::vector<TileRun> shorter = runs;
    shorter[i].hashes.pop_back();
    EXPECT_FALSE(TileWriter::Resume(600, shorter).ok()) << i;
  }
  EXPECT_FALSE(TileWriter::Resume(601, runs).ok());
  EXPECT_FALSE(TileWriter::Resume(599, runs).ok());
  EXPECT_FALSE(TileWriter::Resume(600, {{8, 0, std::string(32, 'x')}}).ok());
}

TEST_F(TilesTest, AMissingTileIsNamed) {
  AppendUntil(1'000, 300);
  stored_.runs_.erase({0, 256});
  TiledNodes nodes(stored_.Reader());
  const auto proof = InclusionProof(300, 1'000, nodes);
  EXPECT_EQ(ErrorReason(proof.status()), "PROOF_DAMAGED");
}

}  // namespace
}  // namespace icepie
