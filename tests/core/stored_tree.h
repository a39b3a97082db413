// The Merkle tree of a core's directory as it is stored, and as it should be, for tests.
#ifndef ICEPIE_TESTS_CORE_STORED_TREE_H_
#define ICEPIE_TESTS_CORE_STORED_TREE_H_

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/block/block.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/merkle/leaf_entry.h"
#include "core/merkle/tiles.h"
#include "core/proof/tree_store.h"
#include "gtest/gtest.h"
#include "tests/core/core_testing.h"
#include "tests/core/merkle/tree_testing.h"

namespace icepie {

// The leaf hashes that the core's records should have.
inline std::vector<std::string> LeavesOf(const Core& core) {
  std::vector<std::string> leaves;
  const int64_t head = core.head_position();
  for (int64_t from = 0; from < head;) {
    const auto range = core.ReadBlocks({}, from, head, 1 << 20);
    EXPECT_TRUE(range.ok()) << range.status();
    if (!range.ok()) return leaves;
    for (const StoredBlock& stored : range->blocks) {
      const auto block = DecodedBlock::Decode(stored.data);
      EXPECT_TRUE(block.ok()) << block.status();
      if (!block.ok()) return leaves;
      for (const RecordView& record : block->records()) {
        leaves.push_back(rfc::Leaf(EncodeLeafEntry(
            LeafEntryOf(block->header().stream_id, Sha256(stored.stream), record))));
      }
    }
    from = range->complete_position;
  }
  return leaves;
}

// The closed core's log.
inline std::unique_ptr<LogStore> OpenLog(const std::string& core_directory,
                                         LogStore::Mode mode = LogStore::Mode::kReadOnly) {
  auto store = LogStore::Open({core_directory + "/rocksdb", mode, nullptr});
  EXPECT_TRUE(store.ok()) << store.status();
  ICEPIE_CHECK(store.ok());
  return std::move(store).value();
}

// Closes the core, and looks whether the stored tree is its records' tree, at every level.
inline void ExpectStoredTreeOf(std::unique_ptr<Core> core, const std::string& core_directory) {
  const std::vector<std::string> leaves = LeavesOf(*core);
  core.reset();
  const std::unique_ptr<LogStore> store = OpenLog(core_directory);
  for (int level = 0; level < 3; ++level) {
    const size_t width = size_t{1} << (kTileHeight * level);
    const auto runs = store->ReadTreeRuns(level, 0, std::numeric_limits<int64_t>::max());
    ASSERT_TRUE(runs.ok()) << runs.status();
    size_t node = 0;
    for (const TileRun& run : *runs) {
      ASSERT_EQ(run.first, static_cast<int64_t>(node));
      for (size_t at = 0; at < run.hashes.size(); at += kDigestBytes, ++node) {
        ASSERT_EQ(run.hashes.substr(at, kDigestBytes), rfc::Root(leaves, node * width, width))
            << "level " << level << ", node " << node;
      }
    }
    ASSERT_EQ(node, leaves.size() / width) << "level " << level;
  }
  const auto tree = LoadTree(*store, static_cast<int64_t>(leaves.size()));
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(BytesOf(tree->Root()), rfc::Root(leaves, leaves.size()));
}

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_STORED_TREE_H_
