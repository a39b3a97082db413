// Signed checkpoints and proofs of a whole core, and what becomes of them when its files are
// changed behind its back.
#include "core/proof/core_proofs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/high_water_mark.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr absl::Duration kWait = absl::Seconds(30);

class CoreProofsTest : public testing::Test {
 protected:
  CoreProofsTest() : path_(directory_.path() + "/core") {}

  // With an hour between signatures only the first `Get` of a core's life is signed at once.
  std::unique_ptr<Core> Open(absl::Duration interval = absl::ZeroDuration()) {
    CoreOptions options;
    options.directory = path_;
    options.checkpoint_interval = interval;
    auto core = Core::Open(options);
    EXPECT_TRUE(core.ok()) << core.status();
    ICEPIE_CHECK(core.ok());
    return std::move(core).value();
  }

  // With a checkpoint that somebody kept elsewhere.
  absl::StatusOr<std::unique_ptr<Core>> OpenExpecting(
      const std::string& note, std::optional<int64_t> accept_loss_position = std::nullopt) const {
    CoreOptions options;
    options.directory = path_;
    options.checkpoint_interval = absl::ZeroDuration();
    options.expected_checkpoint = note;
    options.accept_loss_position = accept_loss_position;
    return Core::Open(options);
  }

  void ExpectOlder(const std::string& note, const std::string& cause) const {
    const auto core = OpenExpecting(note);
    ASSERT_TRUE(core.ok()) << core.status();
    const int64_t head = (*core)->head_position();
    EXPECT_THAT((*core)->ReadOnlyCause(), HasSubstr(cause));
    EXPECT_THAT((*core)->ReadOnlyCause(), HasSubstr(absl::StrCat("accept-core-loss=", head)));
    EXPECT_EQ(ErrorReason((*core)->AppendAndWait(NumberedBatch("a", head, 1)).status()),
              "CORE_READ_ONLY");
    EXPECT_EQ(static_cast<int64_t>(ReadAll(**core).size()), head);
    EXPECT_TRUE((*core)->proofs()->ProveInclusion(3, head).ok());
  }

  // Ten commits of 70 records: none of them signed.
  void FillUnsigned() {
    const std::unique_ptr<Core> core = Open(absl::Hours(1));
    Append(*core, 700);
  }

  static void Append(Core& core, int64_t count) {
    ASSERT_TRUE(core.CreateStream("a", PayloadFormat::kJson).ok());
    for (int64_t first = 0; first < count; first += 70) {
      ASSERT_TRUE(
          core.AppendAndWait(NumberedBatch("a", first, std::min<int64_t>(70, count - first))).ok());
    }
  }

  static SignedCheckpoint Checkpoint(Core& core) {
    const auto checkpoint = core.proofs()->GetCheckpoint(0, kWait);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    ICEPIE_CHECK(checkpoint.ok());
    return *checkpoint;
  }

  // Writes runs and blocks over the stored ones, as somebody with the disk would.
  void Overwrite(const std::vector<LogEntry>& blocks, const std::vector<TileRun>& runs) {
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    ASSERT_TRUE(store->Commit(blocks, {runs, {}}, {}).ok());
  }

  // The block of position `position`, with its payload there replaced.
  LogEntry EditedBlock(int64_t position) {
    const auto store = OpenLog(path_);
    LogEntry entry;
    const auto visit = [&](const BlockPlace& place) {
      entry.place = place;
      return false;
    };
    EXPECT_TRUE(store->VisitPlaces(position, position + 1, visit).ok());
    const auto block = DecodedBlock::Decode(*store->ReadBlock(entry.place));
    std::vector<NewRecord> records;
    for (const RecordView& view : block->records()) {
      records.push_back(
          MakeRecord("a", view.position == position ? "{\"n\":-1}" : std::string(view.payload)));
    }
    std::vector<const NewRecord*> pointers;
    for (const NewRecord& record : records) pointers.push_back(&record);
    entry.block = EncodeBlock(block->header(), pointers);
    return entry;
  }

  // No checkpoint is signed, the cause contains `cause`, and the last one stays as it is.
  void ExpectNothingSigned(const std::string& cause) {
    const std::string before = *ReadFile(path_ + "/checkpoint");
    const std::unique_ptr<Core> core = Open();
    const auto checkpoint = core->proofs()->GetCheckpoint(0, kWait);
    EXPECT_EQ(ErrorReason(checkpoint.status()), "PROOF_DAMAGED") << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(cause));
    EXPECT_EQ(*ReadFile(path_ + "/checkpoint"), before);
  }

  TempDirectory directory_;
  const std::string path_;
};

TEST_F(CoreProofsTest, TheFirstStartMakesAKeyOfItsOwnersOnly) {
  std::string key;
  {
    testing::internal::CaptureStdout();
    const std::unique_ptr<Core> core = Open();
    key = core->proofs()->verifier_key();
    EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr(key)) << "it is printed";
    const auto verifier = VerifierKey::Parse(key);
    ASSERT_TRUE(verifier.ok()) << verifier.status();
    EXPECT_THAT(verifier->name(), testing::StartsWith("icepie.local/"));
    const SignedCheckpoint empty = Checkpoint(*core);
    EXPECT_EQ(empty.checkpoint.size, 0);
    EXPECT_TRUE(OpenCheckpoint(empty.note, *verifier).ok());
    struct stat file {};
    ASSERT_EQ(stat((path_ + "/signing_key").c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 0777, 0600u);
  }
  EXPECT_EQ(Open()->proofs()->verifier_key(), key);
}

TEST_F(CoreProofsTest, TheOriginIsSettledAtTheFirstStart) {
  CoreOptions options;
  options.directory = path_;
  options.origin = "example.com/log";
  EXPECT_THAT((*Core::Open(options))->proofs()->verifier_key(),
              testing::StartsWith("example.com/log+"));
  options.origin = "example.com/other";
  const auto other = Core::Open(options);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("a core keeps its name"));
  options.origin = "has space";
  EXPECT_FALSE(Core::Open(options).ok());
  options.origin = "";
  EXPECT_TRUE(Core::Open(options).ok());
}

TEST_F(CoreProofsTest, EveryCheckpointContinuesTheOneBefore) {
  SignedCheckpoint before;
  {
    const std::unique_ptr<Core> core = Open();
    before = Checkpoint(*core);
  }
  for (const int64_t count : {1, 1, 254, 1, 1000}) {
    const std::unique_ptr<Core> core = Open();
    Append(*core, count);
    const SignedCheckpoint now = Checkpoint(*core);
    const std::vector<std::string> leaves = LeavesOf(*core);
    ASSERT_EQ(now.checkpoint.size, core->head_position());
    EXPECT_EQ(BytesOf(now.checkpoint.root), rfc::Root(leaves, leaves.size()));
    EXPECT_EQ(*ReadFile(path_ + "/checkpoint"), now.note);
    const auto proof =
        core->proofs()->ProveConsistency(before.checkpoint.size, now.checkpoint.size);
    ASSERT_TRUE(proof.ok()) << proof.status();
    EXPECT_EQ(proof->old_root, before.checkpoint.root);
    EXPECT_TRUE(rfc::Consistent(before.checkpoint.size, BytesOf(before.checkpoint.root),
                                now.checkpoint.size, BytesOf(now.checkpoint.root),
                                BytesOf(proof->hashes)));
    before = now;
  }
}

TEST_F(CoreProofsTest, SignsByItselfAfterAWhile) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 100);
  const absl::Time end = absl::Now() + kWait;
  std::string note;
  while (!absl::StrContains(note, "\n100\n") && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
    note = *ReadFile(path_ + "/checkpoint");
  }
  EXPECT_THAT(note, HasSubstr("\n100\n"));
}

TEST_F(CoreProofsTest, SignsNoMoreOftenThanTheInterval) {
  const std::unique_ptr<Core> core = Open(absl::Hours(1));
  Append(*core, 10);
  EXPECT_EQ(Checkpoint(*core).checkpoint.size, 10);
  Append(*core, 10);
  // Not yet: the newest there is. A checkpoint of more is not to be had.
  EXPECT_EQ(core->proofs()->GetCheckpoint(0, absl::Milliseconds(50))->checkpoint.size, 10);
  EXPECT_EQ(core->proofs()->GetCheckpoint(5, absl::ZeroDuration())->checkpoint.size, 10);
  EXPECT_EQ(core->proofs()->GetCheckpoint(11, absl::Milliseconds(50)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrorReason(core->proofs()->GetCheckpoint(21, kWait).status()),
            "POSITION_AHEAD_OF_CORE");
}

TEST_F(CoreProofsTest, ProvesEveryRecord) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 600);
  const SignedCheckpoint checkpoint = Checkpoint(*core);
  const std::vector<std::string> leaves = LeavesOf(*core);
  for (const int64_t size : {int64_t{1}, int64_t{255}, int64_t{256}, int64_t{257}, int64_t{600}}) {
    for (int64_t position = 0; position < size; position += 1 + size / 50) {
      const auto answer = core->proofs()->ProveInclusion(position, size);
      ASSERT_TRUE(answer.ok()) << answer.status();
      EXPECT_TRUE(rfc::Includes(rfc::Leaf(answer->leaf_entry), position, size,
                                BytesOf(answer->hashes), rfc::Root(leaves, size)));
      EXPECT_EQ(answer->note, size == 600 ? checkpoint.note : "");
    }
  }
}

TEST_F(CoreProofsTest, NamesWhatIsNotInTheTree) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 10);
  Proofs& proofs = *core->proofs();
  EXPECT_EQ(ErrorReason(proofs.ProveInclusion(10, 10).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(proofs.ProveInclusion(-1, 10).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(proofs.ProveInclusion(0, -1).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(proofs.ProveInclusion(0, 11).status()), "POSITION_AHEAD_OF_CORE");
  EXPECT_EQ(ErrorReason(proofs.ProveConsistency(6, 5).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(proofs.ProveConsistency(-1, 5).status()), "PARAMETER_INVALID");
  EXPECT_EQ(ErrorReason(proofs.ProveConsistency(5, 11).status()), "POSITION_AHEAD_OF_CORE");
  for (const auto& tile :
       {proofs.ReadTile(0, 0, 11), proofs.ReadTile(0, 1, 1), proofs.ReadTile(0, -1, 1),
        proofs.ReadTile(0, 0, 0), proofs.ReadTile(1, 0, 1), proofs.ReadTile(63, 0, 1),
        proofs.ReadTile(0, INT64_MAX, 1), proofs.ReadEntries(0, 11)}) {
    EXPECT_EQ(ErrorReason(tile.status()), "TILE_NOT_FOUND");
  }
}

TEST_F(CoreProofsTest, TilesAndEntriesAreTheTree) {
  const std::unique_ptr<Core> core = Open();
  Append(*core, 600);
  const std::vector<std::string> leaves = LeavesOf(*core);
  std::string expected;
  for (int i = 256; i < 512; ++i) expected += leaves[i];
  EXPECT_EQ(*core->proofs()->ReadTile(0, 1, 256), expected);
  EXPECT_EQ(*core->proofs()->ReadTile(0, 2, 3), leaves[512] + leaves[513] + leaves[514]);
  EXPECT_EQ(*core->proofs()->ReadTile(1, 0, 2),
            rfc::Root(leaves, 0, 256) + rfc::Root(leaves, 256, 256));
  const std::string entries = *core->proofs()->ReadEntries(2, 88);
  ASSERT_EQ(entries.size(), 88 * (2 + kLeafEntryBytes));
  for (size_t i = 0; i < 88; ++i) {
    const std::string entry = entries.substr(i * (2 + kLeafEntryBytes), 2 + kLeafEntryBytes);
    EXPECT_EQ(GetBigEndian<uint16_t>(entry.data()), kLeafEntryBytes);
    EXPECT_EQ(rfc::Leaf(entry.substr(2)), leaves[512 + i]);
  }
}

// Below what is signed nothing but the scrub reads tiles again, and whoever asks for one.
TEST_F(CoreProofsTest, NoTileIsServedThatDoesNotLeadToItsRoot) {
  {
    const std::unique_ptr<Core> core = Open(absl::Hours(1));
    Append(*core, 700);
    ASSERT_EQ(Checkpoint(*core).checkpoint.size, 700);
    Append(*core, 300);
  }
  struct Case {
    int level;
    int64_t tile;
    int64_t first;  // of a stored run
    size_t byte;
    std::vector<std::array<int, 3>> damaged;  // level, tile and width
    std::vector<std::array<int, 3>> whole;
  };
  // Signed are two nodes of level 1 and 188 leaves behind them; the stored tree has three and 232.
  const std::vector<Case> cases = {
      {0, 0, 0, 123 * kDigestBytes, {{0, 0, 256}, {0, 0, 100}}, {{0, 1, 256}, {1, 0, 2}}},
      {0, 1, 256, 0, {{0, 1, 256}, {0, 1, 1}}, {{0, 0, 256}, {0, 2, 188}}},
      {0, 2, 512, 187 * kDigestBytes, {{0, 2, 188}, {0, 2, 256}}, {}},
      {0, 2, 512, 255 * kDigestBytes, {{0, 2, 256}}, {{0, 2, 188}, {0, 1, 256}}},
      {1, 0, 0, 5, {{1, 0, 2}, {1, 0, 3}, {0, 0, 256}}, {}},
  };
  for (const Case& damage : cases) {
    SCOPED_TRACE(absl::StrCat("level ", damage.level, " tile ", damage.tile, " at ", damage.byte));
    const TileRun run = OpenLog(path_)->ReadTreeRuns(damage.level, damage.first, 1000)->front();
    TileRun changed = run;
    changed.hashes[damage.byte] ^= 1;
    Overwrite({}, {changed});
    std::unique_ptr<Core> core = Open(absl::Hours(1));
    for (const auto& [level, tile, width] : damage.damaged) {
      const auto served = core->proofs()->ReadTile(level, tile, width);
      EXPECT_EQ(ErrorReason(served.status()), "PROOF_DAMAGED")
          << level << " " << tile << " " << width;
    }
    for (const auto& [level, tile, width] : damage.whole) {
      const auto served = core->proofs()->ReadTile(level, tile, width);
      EXPECT_TRUE(served.ok()) << served.status();
    }
    core.reset();
    Overwrite({}, {run});
  }
}

TEST_F(CoreProofsTest, NoEntryIsServedThatIsNotTheTrees) {
  FillUnsigned();
  EXPECT_EQ(Checkpoint(*Open(absl::Hours(1))).checkpoint.size, 700);
  Overwrite({EditedBlock(345)}, {});
  const std::unique_ptr<Core> core = Open(absl::Hours(1));
  const absl::Status edited = core->proofs()->ReadEntries(1, 256).status();
  ASSERT_EQ(ErrorReason(edited), "PROOF_DAMAGED") << edited;
  EXPECT_EQ(GetErrorDetail(edited)->metadata.at("position"), "345");
  EXPECT_TRUE(core->proofs()->ReadEntries(0, 256).ok());
  EXPECT_TRUE(core->proofs()->ReadEntries(2, 188).ok());
}

TEST_F(CoreProofsTest, AFlippedBitInATileIsFoundBeforeSigning) {
  FillUnsigned();
  std::vector<TileRun> runs = *OpenLog(path_)->ReadTreeRuns(0, 0, 256);
  runs[0].hashes[123 * kDigestBytes] ^= 1;
  Overwrite({}, {runs[0]});
  ExpectNothingSigned("does not fit the stored records at position 123");
}

TEST_F(CoreProofsTest, AFlippedBitInAnUpperTileIsFoundBeforeSigning) {
  FillUnsigned();
  std::vector<TileRun> runs = *OpenLog(path_)->ReadTreeRuns(1, 0, 256);
  ASSERT_FALSE(runs.empty());
  runs[0].hashes[5] ^= 1;
  Overwrite({}, {runs[0]});
  // Without it: opening would notice.
  ASSERT_TRUE(HighWaterMark::Reset(path_ + "/high_water_mark", {700, std::nullopt}).ok());
  ExpectNothingSigned("node 0 of level 1, from position 0");
}

TEST_F(CoreProofsTest, AnEditedRecordIsFoundBeforeSigning) {
  FillUnsigned();
  Overwrite({EditedBlock(345)}, {});
  ExpectNothingSigned("position 345");
  // And it cannot be proven to anybody.
  const std::unique_ptr<Core> core = Open();
  EXPECT_EQ(ErrorReason(core->proofs()->ProveInclusion(345, 700).status()), "PROOF_DAMAGED");
  EXPECT_TRUE(core->proofs()->ProveInclusion(344, 700).ok());
}

// Everything was changed together, before anything of it was signed: the high-water mark tells.
// No start loses that, also not where the mark lags behind.
TEST_F(CoreProofsTest, OtherRecordsThanTheMarksAreNotSigned) {
  FillUnsigned();
  const std::string mark = path_ + "/high_water_mark";
  const std::string before = *ReadFile(path_ + "/checkpoint");
  HighWater value = *HighWaterMark::Read(mark);
  ASSERT_TRUE(value.root.has_value());
  (*value.root)[0] = static_cast<char>((*value.root)[0] ^ 1);
  for (const int64_t position : {700, 630}) {
    value.position = position;
    ASSERT_TRUE(HighWaterMark::Reset(mark, value).ok());
    for (int start = 0; start < 2; ++start) {
      const std::unique_ptr<Core> core = Open();
      EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("other records were acknowledged"));
      EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("accept-core-loss=700"));
      EXPECT_FALSE(core->AppendAndWait(NumberedBatch("a", 700, 1)).ok());
      EXPECT_EQ(Checkpoint(*core).checkpoint.size, 0);
    }
    EXPECT_EQ(*ReadFile(path_ + "/checkpoint"), before);
  }
}

TEST_F(CoreProofsTest, AMarkThatLagsIsComparedAndAdvanced) {
  Digest root;
  {
    const std::unique_ptr<Core> core = Open(absl::Hours(1));
    Append(*core, 630);
    root = *HighWaterMark::Read(path_ + "/high_water_mark")->root;
    ASSERT_TRUE(core->AppendAndWait(NumberedBatch("a", 630, 70)).ok());
  }
  ASSERT_TRUE(HighWaterMark::Reset(path_ + "/high_water_mark", {630, root}).ok());
  const std::unique_ptr<Core> core = Open();
  EXPECT_EQ(core->ReadOnlyCause(), "");
  EXPECT_EQ(HighWaterMark::Read(path_ + "/high_water_mark")->position, 700);
  EXPECT_EQ(Checkpoint(*core).checkpoint.size, 700);
}

TEST_F(CoreProofsTest, AnEditedRecordWithItsTreeContradictsWhatWasSigned) {
  FillUnsigned();
  {
    const std::unique_ptr<Core> core = Open(absl::Hours(1));
    ASSERT_EQ(Checkpoint(*core).checkpoint.size, 700);
    Append(*core, 5);
  }
  // Whoever edits record 345 and all of the tree after it still lacks the signature.
  Overwrite({EditedBlock(345)}, {});
  std::vector<std::string> leaves;
  {
    const std::unique_ptr<Core> core = Open(absl::Hours(1));
    leaves = LeavesOf(*core);
  }
  TileWriter forged;
  for (const std::string& leaf : leaves) forged.Append(DigestFrom(leaf));
  {
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    TileChanges changes = forged.TakeChanges();
    for (int level = 0; level < 2; ++level) {
      const std::vector<TileRun> old = *store->ReadTreeRuns(level, 0, 1'000'000);
      for (const TileRun& run : old) changes.erase.emplace_back(level, run.first);
    }
    ASSERT_TRUE(store->ChangeTree({{}, changes.erase}, {}).ok());
    ASSERT_TRUE(store->ChangeTree({changes.put, {}}, {}).ok());
  }
  ASSERT_TRUE(HighWaterMark::Reset(path_ + "/high_water_mark", {705, std::nullopt}).ok());
  ExpectNothingSigned("does not lead to the root that was signed");
}

TEST_F(CoreProofsTest, WithoutKeyOrLastCheckpointNothingIsSigned) {
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
    ASSERT_EQ(Checkpoint(*core).checkpoint.size, 10);
  }
  const std::string key = *ReadFile(path_ + "/signing_key");
  const std::string note = *ReadFile(path_ + "/checkpoint");
  const auto expect_refused = [this](const std::string& cause) {
    const std::unique_ptr<Core> core = Open();
    const auto checkpoint = core->proofs()->GetCheckpoint(0, kWait);
    EXPECT_EQ(ErrorReason(checkpoint.status()), "PROOF_DAMAGED");
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(cause));
    EXPECT_TRUE(core->AppendAndWait(NumberedBatch("a", 0, 1)).ok());
  };
  fs::remove(path_ + "/signing_key");
  expect_refused("signing_key is missing");
  ASSERT_TRUE(WriteFileAtomically(path_ + "/signing_key", "nonsense").ok());
  expect_refused("cannot be used");
  ASSERT_TRUE(WriteFileAtomically(path_ + "/signing_key", key).ok());
  fs::remove(path_ + "/checkpoint");
  expect_refused("a new one might contradict it");
  std::string forged = note;
  forged[forged.find("\n10\n") + 1] = '2';
  ASSERT_TRUE(WriteFileAtomically(path_ + "/checkpoint", forged).ok());
  expect_refused("a new one might contradict it");
  ASSERT_TRUE(WriteFileAtomically(path_ + "/checkpoint", note).ok());
  EXPECT_GT(Checkpoint(*Open()).checkpoint.size, 10);
}

TEST_F(CoreProofsTest, ALogRestoredFromAnOlderBackupIsReadOnly) {
  const std::string backup = directory_.path() + "/backup";
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
  }
  fs::copy(path_, backup, fs::copy_options::recursive);
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
    ASSERT_EQ(Checkpoint(*core).checkpoint.size, 20);
  }
  const std::string note = *ReadFile(path_ + "/checkpoint");
  fs::remove_all(path_);
  fs::copy(backup, path_, fs::copy_options::recursive);
  ASSERT_TRUE(WriteFileAtomically(path_ + "/checkpoint", note).ok());
  const std::unique_ptr<Core> core = Open();
  EXPECT_THAT(core->ReadOnlyCause(), HasSubstr("restored from an older backup"));
  // It proves what it has, and still says what was signed.
  EXPECT_TRUE(core->proofs()->ProveInclusion(3, 10).ok());
  EXPECT_EQ(core->proofs()->GetCheckpoint(0, kWait)->checkpoint.size, 20);
}

TEST_F(CoreProofsTest, WhoAcceptsTheLossOfSignedRecordsGetsAnotherKey) {
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
  }
  const SigningKey key = *SigningKey::Parse(*ReadFile(path_ + "/signing_key"));
  const std::string longer =
      *key.Sign(EncodeCheckpoint({key.verifier().name(), 20, Sha256("lost")}));
  ASSERT_TRUE(WriteFileAtomically(path_ + "/checkpoint", longer).ok());
  CoreOptions options;
  options.directory = path_;
  options.checkpoint_interval = absl::ZeroDuration();
  options.accept_loss_position = 10;
  const auto core = Core::Open(options);
  ASSERT_TRUE(core.ok()) << core.status();
  EXPECT_EQ((*core)->ReadOnlyCause(), "");
  EXPECT_THAT((*core)->AcceptedLoss(), HasSubstr("a checkpoint of 20 records was signed"));
  EXPECT_NE((*core)->proofs()->verifier_key(), key.verifier().ToString());
  EXPECT_EQ(Checkpoint(**core).checkpoint.size, 10);
  EXPECT_EQ(*ReadFile(path_ + "/checkpoint.retired-20"), longer);
}

// The whole directory comes from an older copy, so that nothing in it tells.
TEST_F(CoreProofsTest, ACheckpointKeptElsewhereTellsAnOlderCopy) {
  const std::string copy = directory_.path() + "/copy";
  std::string key;
  {
    const std::unique_ptr<Core> core = Open();
    key = core->proofs()->verifier_key();
    Append(*core, 10);
    Checkpoint(*core);
  }
  fs::copy(path_, copy, fs::copy_options::recursive);
  std::string note;
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
    note = Checkpoint(*core).note;
    Append(*core, 10);
  }
  {
    const auto core = OpenExpecting(note);
    ASSERT_TRUE(core.ok()) << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "") << "it has grown since";
  }
  fs::remove_all(path_);
  fs::copy(copy, path_, fs::copy_options::recursive);
  ExpectOlder(note,
              "the core has 10 records, but the expected checkpoint of 20 records was signed");
  EXPECT_EQ(Open()->ReadOnlyCause(), "") << "something in the directory tells";
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 15);
    ASSERT_EQ(Checkpoint(*core).checkpoint.size, 25);
  }
  ExpectOlder(note, "the first 20 records do not lead to the root of the expected checkpoint");
  // Who accepts that gets a log of another name.
  {
    const auto core = OpenExpecting(note, 25);
    ASSERT_TRUE(core.ok()) << core.status();
    EXPECT_EQ((*core)->ReadOnlyCause(), "");
    EXPECT_THAT((*core)->AcceptedLoss(), HasSubstr("expected checkpoint"));
    EXPECT_NE((*core)->proofs()->verifier_key(), key);
    EXPECT_TRUE((*core)->AppendAndWait(NumberedBatch("a", 25, 1)).ok());
  }
  EXPECT_TRUE(fs::exists(path_ + "/signing_key.retired-25"));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenExpecting(note).status()));
}

TEST_F(CoreProofsTest, AnExpectedCheckpointOfAnotherKeyIsRefused) {
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
    Checkpoint(*core);
  }
  const SigningKey key = *SigningKey::Parse(*ReadFile(path_ + "/signing_key"));
  const SigningKey other = *SigningKey::Generate(key.verifier().name());
  for (const std::string& note :
       {*other.Sign(EncodeCheckpoint({other.verifier().name(), 5, Sha256("x")})),
        std::string("nonsense"), std::string()}) {
    const absl::Status refused = OpenExpecting(note).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("--expect-checkpoint"));
  }
  const std::string note = *ReadFile(path_ + "/checkpoint");
  EXPECT_EQ((*OpenExpecting(note))->ReadOnlyCause(), "");
  // A new core is not what was expected.
  fs::remove_all(path_);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenExpecting(note).status()));
  EXPECT_FALSE(fs::exists(path_ + "/signing_key"));
  EXPECT_FALSE(fs::exists(path_ + "/rocksdb"));
}

TEST_F(CoreProofsTest, ACoreThatCannotBeReadSaysSo) {
  {
    const std::unique_ptr<Core> core = Open();
    Append(*core, 10);
    Checkpoint(*core);
  }
  fs::remove_all(path_ + "/rocksdb");
  const std::unique_ptr<Core> core = Open();
  ASSERT_NE(core->ReadOnlyCause(), "");
  EXPECT_EQ(core->proofs()->GetCheckpoint(0, kWait)->checkpoint.size, 10);
  EXPECT_EQ(ErrorReason(core->proofs()->ProveInclusion(3, 10).status()), "CORE_READ_ONLY");
  EXPECT_EQ(ErrorReason(core->proofs()->ReadTile(0, 0, 1).status()), "CORE_READ_ONLY");
}

}  // namespace
}  // namespace icepie
