// A core is changed behind its back, and its verification says what and where.
#include "core/verify/verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/segment/segment_reader.h"
#include "core/segment/segment_set.h"
#include "core/segment/segment_writer.h"
#include "tests/core/child_process.h"
#include "tests/core/stored_tree.h"
#include "tests/core/temp_directory.h"

namespace icepie {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using State = VerificationAnswer::State;

class VerificationTest : public testing::Test {
 protected:
  static constexpr int64_t kBatch = 50;
  static constexpr int64_t kRecords = 20 * kBatch;

  VerificationTest() : path_(directory_.path() + "/core") {}

  static CoreOptions Options(const std::string& path) {
    CoreOptions options;
    options.directory = path;
    options.checkpoint_interval = absl::ZeroDuration();
    return options;
  }

  // Twenty blocks of fifty records, signed. Returns the checkpoint.
  std::string Fill(int64_t records = kRecords) {
    const auto core = Core::Open(Options(path_));
    EXPECT_TRUE(core.ok()) << core.status();
    EXPECT_TRUE((*core)->CreateStream("a", PayloadFormat::kJson).ok());
    const int64_t end = (*core)->head_position() + records;
    for (int64_t first = (*core)->head_position(); first < end; first += kBatch) {
      EXPECT_TRUE((*core)->AppendAndWait(NumberedBatch("a", first, kBatch)).ok());
    }
    const auto checkpoint = (*core)->proofs()->GetCheckpoint(0, absl::Seconds(30));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return checkpoint->note;
  }

  VerificationReport Verify(const std::string& older_note = "") {
    const auto before = Files();
    const auto report = VerifyDirectory(path_, older_note, [](int64_t, int64_t, int64_t) {});
    EXPECT_TRUE(report.ok()) << report.status();
    ICEPIE_CHECK(report.ok());
    EXPECT_EQ(Files(), before) << "a file of the log was changed";
    return *report;
  }

  std::map<std::string, std::string> Files() const {
    std::map<std::string, std::string> files;
    std::error_code none;
    for (const auto& file : fs::directory_iterator(path_ + "/rocksdb", none)) {
      const std::string name = file.path().filename();
      if (name.rfind("LOG", 0) == 0 || name == "LOCK") continue;
      files[name] = *ReadFile(file.path());
    }
    return files;
  }

  // The records' payloads of one block, and the block of other payloads in its place.
  std::vector<std::string> Payloads(const BlockPlace& place) {
    const auto block = DecodedBlock::Decode(*OpenLog(path_)->ReadBlock(place));
    std::vector<std::string> payloads;
    for (const RecordView& record : block->records()) payloads.emplace_back(record.payload);
    return payloads;
  }

  BlockPlace PlaceOf(int64_t position) {
    BlockPlace found;
    EXPECT_TRUE(OpenLog(path_)
                    ->VisitPlaces(position, position + 1,
                                  [&found](const BlockPlace& place) {
                                    found = place;
                                    return false;
                                  })
                    .ok());
    return found;
  }

  void Overwrite(const BlockPlace& place, const std::vector<std::string>& payloads) {
    const auto old = DecodedBlock::Decode(*OpenLog(path_)->ReadBlock(place));
    std::vector<NewRecord> records;
    for (const std::string& payload : payloads) records.push_back(MakeRecord("a", payload));
    std::vector<const NewRecord*> pointers;
    for (const NewRecord& record : records) pointers.push_back(&record);
    LogEntry entry{place, EncodeBlock(old->header(), pointers)};
    entry.place.record_count = static_cast<uint32_t>(payloads.size());
    ASSERT_TRUE(OpenLog(path_, LogStore::Mode::kReadWrite)->Commit({&entry, 1}, {}, {}).ok());
  }

  void ExpectFirstBad(const VerificationReport& report, int64_t position, int64_t end) {
    EXPECT_EQ(report.bytes_rehashed.state, State::kFails);
    ASSERT_FALSE(report.findings.empty());
    EXPECT_EQ(report.findings[0].position, position) << report.findings[0].what;
    EXPECT_EQ(report.findings[0].end_position, end) << report.findings[0].what;
    EXPECT_FALSE(report.ok());
  }

  TempDirectory directory_;
  const std::string path_;
};

TEST_F(VerificationTest, AWholeCoreHolds) {
  const std::string older = Fill();
  Fill();
  const VerificationReport report = Verify(older);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.end_position, 2 * kRecords);
  EXPECT_GT(report.bytes, 0);
  EXPECT_EQ(report.bytes_rehashed.state, State::kHolds);
  EXPECT_EQ(report.tree_recomputed.state, State::kHolds);
  EXPECT_THAT(report.tree_recomputed.detail, HasSubstr("signed checkpoint of 2000 records"));
  EXPECT_EQ(report.consistent.state, State::kHolds);
  EXPECT_THAT(report.consistent.detail, HasSubstr("older checkpoint of 1000 records"));
  EXPECT_EQ(Verify().consistent.state, State::kNotChecked);
}

// Whoever gives up waits for no file's end; whoever goes on passes over none.
TEST_F(VerificationTest, AStepThatIsEndedWithinAFileIsTakenAgain) {
  Fill();
  const auto core = *Core::Open(Options(path_));
  const auto verification = *core->proofs()->StartVerification("");
  int asked = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(verification->Step([&asked] {
      ++asked;
      return false;
    }));
  }
  EXPECT_GE(asked, 100);
  EXPECT_EQ(verification->position(), 0);
  while (verification->Step()) continue;
  EXPECT_TRUE(verification->Finish().ok());
}

TEST_F(VerificationTest, AnEmptyCoreHolds) {
  ASSERT_TRUE(Core::Open(Options(path_)).ok());
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerificationTest, AnEditedRecordIsNamed) {
  Fill();
  const BlockPlace place = PlaceOf(345);
  std::vector<std::string> payloads = Payloads(place);
  payloads[345 - place.first_position] = "{\"n\":-1}";
  Overwrite(place, payloads);
  const VerificationReport report = Verify();
  ExpectFirstBad(report, 345, 346);
  EXPECT_EQ(report.finding_count, 1);
  EXPECT_EQ(report.tree_recomputed.state, State::kFails);
}

// Nobody is to take the tree's word for records that are gone.
TEST_F(VerificationTest, RecordsThatCannotBeReadLeadToNoRoot) {
  const std::string older = Fill();
  const BlockPlace place = PlaceOf(345);
  std::string damaged = *OpenLog(path_)->ReadBlock(place);
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
  const LogEntry entry{place, damaged};
  ASSERT_TRUE(OpenLog(path_, LogStore::Mode::kReadWrite)->Commit({&entry, 1}, {}, {}).ok());
  const VerificationReport report = Verify(older);
  ExpectFirstBad(report, place.first_position, place.end_position());
  const std::string of =
      absl::StrCat("with the log's own leaves for ", place.record_count, " of them");
  EXPECT_EQ(report.tree_recomputed.state, State::kHolds);
  EXPECT_THAT(report.tree_recomputed.detail, HasSubstr(of));
  EXPECT_THAT(report.consistent.detail, HasSubstr(of));
}

// Stored bytes and stored tree were changed together; only what lies outside the log tells.
TEST_F(VerificationTest, AnotherLogThanTheMarksIsNamed) {
  Fill();
  const std::string mark = path_ + "/high_water_mark";
  auto value = *HighWaterMark::Read(mark);
  ASSERT_TRUE(value.root.has_value());
  (*value.root)[0] = static_cast<char>((*value.root)[0] ^ 1);
  ASSERT_TRUE(HighWaterMark::Reset(mark, value).ok());
  const VerificationReport report = Verify();
  ExpectFirstBad(report, 0, kRecords);
  EXPECT_EQ(report.finding_count, 1);
}

// What a start would say, while the log can still be saved.
TEST_F(VerificationTest, AMarkOfMoreThanARunningCoreHasIsNamed) {
  Fill();
  const auto core = *Core::Open(Options(path_));
  const std::string mark = path_ + "/high_water_mark";
  const HighWater value = *HighWaterMark::Read(mark);
  EXPECT_TRUE(core->proofs()->CheckFiles().empty());
  HighWater more = value;
  ++more.changes;
  ASSERT_TRUE(HighWaterMark::Reset(mark, more).ok());
  std::vector<absl::Status> found = core->proofs()->CheckFiles();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_THAT(std::string(found[0].message()),
              HasSubstr(absl::StrCat("changed ", more.changes, " times, but there are ",
                                     value.changes, " changes")));
  more = value;
  ++more.position;
  ASSERT_TRUE(HighWaterMark::Reset(mark, more).ok());
  found = core->proofs()->CheckFiles();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_THAT(std::string(found[0].message()), HasSubstr(absl::StrCat("says ", more.position)));
}

TEST_F(VerificationTest, ReorderedRecordsAreNamed) {
  Fill();
  const BlockPlace place = PlaceOf(345);
  std::vector<std::string> payloads = Payloads(place);
  std::swap(payloads[10], payloads[20]);
  Overwrite(place, payloads);
  const VerificationReport report = Verify();
  ExpectFirstBad(report, place.first_position + 10, place.first_position + 11);
  EXPECT_EQ(report.finding_count, 2);
}

TEST_F(VerificationTest, ADeletedRecordIsNamed) {
  Fill();
  const BlockPlace place = PlaceOf(345);
  std::vector<std::string> payloads = Payloads(place);
  payloads.erase(payloads.begin() + 10);
  Overwrite(place, payloads);
  const VerificationReport report = Verify();
  ExpectFirstBad(report, place.first_position + 10, place.first_position + 11);
  // The last of the block has no record any more; what is behind it is still read.
  EXPECT_EQ(report.findings.back().position, place.end_position() - 1);
  EXPECT_EQ(report.end_position, kRecords);
}

TEST_F(VerificationTest, AnInsertedRecordIsNamed) {
  Fill();
  const BlockPlace place = PlaceOf(345);
  std::vector<std::string> payloads = Payloads(place);
  payloads.insert(payloads.begin() + 10, "{\"n\":\"new\"}");
  Overwrite(place, payloads);
  const VerificationReport report = Verify();
  ExpectFirstBad(report, place.first_position + 10, place.first_position + 11);
}

TEST_F(VerificationTest, AFlippedBitInATileIsNamed) {
  Fill();
  for (const int level : {0, 1}) {
    TileRun run;
    {
      const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
      run = store->ReadTreeRuns(level, 0, 256)->at(0);
      TileRun changed = run;
      changed.hashes[7 * kDigestBytes * (1 - level)] ^= 1;
      ASSERT_TRUE(store->ChangeTree({{changed}, {}}, {}).ok());
    }
    const VerificationReport report = Verify();
    if (level == 0) {
      ExpectFirstBad(report, 7, 8);
    } else {
      ExpectFirstBad(report, 0, 256);
    }
    // The records themselves still lead to what was signed.
    EXPECT_EQ(report.tree_recomputed.state, State::kHolds);
    ASSERT_TRUE(OpenLog(path_, LogStore::Mode::kReadWrite)->ChangeTree({{run}, {}}, {}).ok());
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerificationTest, AForkedHistoryIsNotConsistent) {
  const std::string other = directory_.path() + "/other";
  const std::string older = Fill();
  fs::create_directories(other);
  // The same key, another history.
  fs::copy(path_ + "/signing_key", other + "/signing_key");
  const SigningKey key = *SigningKey::Parse(*ReadFile(path_ + "/signing_key"));
  const std::string empty = *key.Sign(EncodeCheckpoint({key.verifier().name(), 0, Sha256({})}));
  ASSERT_TRUE(WriteFileAtomically(other + "/checkpoint", empty).ok());
  {
    const auto core = Core::Open(Options(other));
    ASSERT_TRUE(core.ok()) << core.status();
    ASSERT_TRUE((*core)->CreateStream("b", PayloadFormat::kJson).ok());
    ASSERT_TRUE((*core)->AppendAndWait(NumberedBatch("b", 0, 2000)).ok());
    ASSERT_TRUE((*core)->proofs()->GetCheckpoint(0, absl::Seconds(30)).ok());
  }
  const auto report = VerifyDirectory(other, older, [](int64_t, int64_t, int64_t) {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->bytes_rehashed.state, State::kHolds);
  EXPECT_EQ(report->tree_recomputed.state, State::kHolds);
  EXPECT_EQ(report->consistent.state, State::kFails);
  EXPECT_FALSE(report->ok());
}

TEST_F(VerificationTest, ACoreThatIsShorterThanTheOlderCheckpointIsNotConsistent) {
  Fill();
  const SigningKey key = *SigningKey::Parse(*ReadFile(path_ + "/signing_key"));
  const std::string longer =
      *key.Sign(EncodeCheckpoint({key.verifier().name(), kRecords + 1, Sha256("x")}));
  const VerificationReport report = Verify(longer);
  EXPECT_EQ(report.consistent.state, State::kFails);
  EXPECT_THAT(report.consistent.detail, HasSubstr("more than the core's 1000"));
  // Of another key: refused, not judged.
  const SigningKey other = *SigningKey::Generate(key.verifier().name());
  const std::string foreign =
      *other.Sign(EncodeCheckpoint({other.verifier().name(), 10, Sha256("x")}));
  const auto refused = VerifyDirectory(path_, foreign, [](int64_t, int64_t, int64_t) {});
  EXPECT_EQ(ErrorReason(refused.status()), "PROOF_DAMAGED");
}

// The same edits in a sealed segment, by somebody who makes its checksums and its catalog entry
// fit.
class SealedVerificationTest : public VerificationTest {
 protected:
  static constexpr int kChanged = 10;  // in its block

  // Blocks of two streams by turns, which are not joined.
  void FillSealed() {
    CoreOptions options = Options(path_);
    options.sealing = SmallSegments();
    const auto core = Core::Open(options);
    ASSERT_TRUE(core.ok()) << core.status();
    for (int64_t first = 0; first < kRecords; first += kBatch) {
      for (const char* stream : {"a", "b"}) {
        ASSERT_TRUE((*core)->CreateStream(stream, PayloadFormat::kJson).ok());
        ASSERT_TRUE((*core)->AppendAndWait(NumberedBatch(stream, first, kBatch)).ok());
      }
    }
    ASSERT_TRUE((*core)->proofs()->GetCheckpoint(0, absl::Seconds(60)).ok());
    ASSERT_TRUE(EventuallyInCore([&] { return (*core)->Storage().segment_count >= 2; }));
  }

  // Writes the first segment anew with other payloads in its third block, whose first position is
  // returned.
  template <typename Change>
  int64_t Rewrite(const Change& change) {
    const std::string directory = path_ + "/segments";
    const auto store = OpenLog(path_, LogStore::Mode::kReadWrite);
    SegmentEntry entry = *(*SegmentSet::Load(*store, directory))->List()[0];
    const std::string path = directory + "/" + entry.file_name();
    const auto old = *SegmentReader::Open(path);
    const SegmentBlock& changed = old->blocks().at(2);
    auto writer = *SegmentWriter::Create(path + ".new", entry.first_position);
    for (const SegmentBlock& place : old->blocks()) {
      std::string block = *old->ReadBlock(place);
      if (place.header.first_position == changed.header.first_position) {
        block = Changed(block, change);
      }
      const auto stream = absl::c_find_if(old->streams(), [&place](const SegmentStream& candidate) {
        return candidate.id == place.header.stream_id;
      });
      EXPECT_TRUE(writer->Add(stream->name, std::move(block)).ok());
    }
    const auto footer = writer->Finish();
    EXPECT_TRUE(footer.ok()) << footer.status();
    entry.file_bytes = writer->bytes();
    entry.checksum = footer->checksum;
    fs::rename(path + ".new", path);
    const LogStore::CatalogChange registered = RegistrationOf(entry);
    EXPECT_TRUE(store->ChangeCatalog({&registered, 1}).ok());
    return changed.header.first_position;
  }

  template <typename Change>
  static std::string Changed(const std::string& block, const Change& change) {
    const auto decoded = DecodedBlock::Decode(block);
    std::vector<std::string> payloads;
    for (const RecordView& record : decoded->records()) payloads.emplace_back(record.payload);
    change(payloads);
    std::vector<NewRecord> records;
    for (const std::string& payload : payloads) records.push_back(MakeRecord("", payload));
    std::vector<const NewRecord*> pointers;
    for (const NewRecord& record : records) pointers.push_back(&record);
    return EncodeBlock(decoded->header(), pointers);
  }
};

TEST_F(SealedVerificationTest, EditedReorderedDeletedAndInsertedRecordsAreNamed) {
  FillSealed();
  if (HasFatalFailure()) return;
  EXPECT_TRUE(Verify().ok());
  const std::string backup = directory_.path() + "/backup";
  fs::copy(path_, backup, fs::copy_options::recursive);
  using Payloads = std::vector<std::string>;
  const std::vector<std::pair<const char*, std::function<void(Payloads&)>>> changes = {
      {"edited", [](Payloads& payloads) { payloads[kChanged] = "{\"n\":-1}"; }},
      {"reordered", [](Payloads& payloads) { std::swap(payloads[kChanged], payloads[20]); }},
      {"deleted",  // as many records as before, or the next block would not follow
       [](Payloads& payloads) {
         payloads.erase(payloads.begin() + kChanged);
         payloads.emplace_back("{}");
       }},
      {"inserted", [](Payloads& payloads) {
         payloads.insert(payloads.begin() + kChanged, "{\"n\":\"new\"}");
         payloads.pop_back();
       }}};
  for (const auto& [name, change] : changes) {
    SCOPED_TRACE(name);
    fs::remove_all(path_);
    fs::copy(backup, path_, fs::copy_options::recursive);
    const int64_t first = Rewrite(change);
    const VerificationReport report = Verify();
    ExpectFirstBad(report, first + kChanged, first + kChanged + 1);
    EXPECT_EQ(report.tree_recomputed.state, State::kFails);
    EXPECT_EQ(report.end_position, 2 * kRecords);
  }
}

// What nobody owns is named, with what a start makes of it, and is no damage.
TEST_F(SealedVerificationTest, FilesThatTheIndexDoesNotNameAreNamed) {
  FillSealed();
  if (HasFatalFailure()) return;
  EXPECT_THAT(Verify().unowned, testing::IsEmpty());
  const std::string directory = path_ + "/segments/";
  const int64_t head = 2 * kRecords;
  const std::string surplus = directory + SegmentFileName(1, 7);
  const std::string beyond = directory + SegmentFileName(0, head + 1);
  const std::string aside = absl::StrCat(directory, SegmentFileName(3, head + 2), ".beyond-", head);
  const std::string temporary = directory + "77.temporary";
  for (const std::string& path : {surplus, beyond, aside, temporary}) std::ofstream(path) << "x";
  const VerificationReport report = Verify();
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.finding_count, 0);
  std::map<std::string, std::string> fates;
  for (const UnownedFile& file : report.unowned) fates[file.path] = file.fate;
  EXPECT_THAT(fates, testing::UnorderedElementsAre(
                         testing::Pair(surplus, HasSubstr("removes it")),
                         testing::Pair(temporary, HasSubstr("removes it")),
                         testing::Pair(beyond, HasSubstr("renames it")),
                         testing::Pair(aside, HasSubstr("once the core has grown so far"))));
  // And so it is.
  ASSERT_TRUE(Core::Open(Options(path_)).ok());
  EXPECT_FALSE(fs::exists(surplus));
  EXPECT_FALSE(fs::exists(temporary));
  EXPECT_FALSE(fs::exists(beyond));
  EXPECT_TRUE(fs::exists(absl::StrCat(beyond, ".beyond-", head)));
  EXPECT_TRUE(fs::exists(aside));
  // A core that is damaged takes no appends, and leaves them.
  std::ofstream(surplus) << "x";
  fs::remove(directory + (*SegmentSet::Load(*OpenLog(path_), directory))->List()[0]->file_name());
  const VerificationReport damaged = Verify();
  EXPECT_FALSE(damaged.ok());
  ASSERT_EQ(damaged.unowned.size(), 3);
  EXPECT_THAT(damaged.unowned[1].fate, HasSubstr("it stays"));
}

void Flip(const std::string& path, uintmax_t at) {
  std::string bytes = *ReadFile(path);
  bytes[at] ^= 4;
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Every file of the log in turn is damaged or taken away.
TEST_F(VerificationTest, FlippedBitsInFilesAndMissingFilesAreFound) {
  Fill(4000);
  {  // A reopening moves everything into table files.
    const auto core = Core::Open(Options(path_));
    ASSERT_TRUE(core.ok()) << core.status();
  }
  const std::string backup = directory_.path() + "/backup";
  fs::copy(path_, backup, fs::copy_options::recursive);
  using Path = std::string;
  std::map<std::string, std::function<void(const Path&)>> damages = {
      {"missing", [](const Path& path) { fs::remove(path); }},
      {"half", [](const Path& path) { fs::resize_file(path, fs::file_size(path) / 2); }},
      {"empty", [](const Path& path) { fs::resize_file(path, 0); }},
      {"footer", [](const Path& path) { Flip(path, fs::file_size(path) - 50); }}};
  // Blocks of values, and behind them filter, index and properties.
  for (const int percent : {1, 30, 70, 90}) {
    damages[absl::StrCat(percent, " %")] = [percent](const Path& path) {
      Flip(path, fs::file_size(path) * percent / 100);
    };
  }
  int tables = 0;
  for (const auto& file : fs::directory_iterator(backup + "/rocksdb")) {
    const std::string name = file.path().filename();
    if (file.path().extension() != ".sst") continue;
    ++tables;
    for (const auto& [what, damage] : damages) {
      SCOPED_TRACE(absl::StrCat(name, " ", what));
      const std::string damaged = absl::StrCat(path_, "/rocksdb/", name);
      damage(damaged);
      const VerificationReport report = Verify();
      EXPECT_FALSE(report.ok());
      EXPECT_EQ(report.end_position, 4000);  // whatever is lost of it
      EXPECT_TRUE(absl::c_any_of(report.findings, [&name](const VerificationFinding& finding) {
        return absl::StrContains(finding.what, name);
      })) << report.bytes_rehashed.detail;
      fs::copy_file(file, damaged, fs::copy_options::overwrite_existing);
    }
  }
  EXPECT_TRUE(Verify().ok());
  EXPECT_GE(tables, 3);
}

// What no checksum of a table covers: its last 53 bytes, of which some mean nothing.
TEST_F(VerificationTest, AFlippedBitInATablesFooterIsNamed) {
  Fill(kBatch);
  ASSERT_TRUE(Core::Open(Options(path_)).ok());  // moves everything into table files
  std::string table;
  for (const auto& file : fs::directory_iterator(path_ + "/rocksdb")) {
    if (file.path().extension() == ".sst") table = file.path();
  }
  ASSERT_NE(table, "");
  const std::string whole = *ReadFile(table);
  for (size_t back = 1; back <= 53; ++back) {
    // All of the format version, one bit of the others.
    for (int bit = back == 12 ? 0 : 5; bit < (back == 12 ? 8 : 6); ++bit) {
      SCOPED_TRACE(absl::StrCat(back, " bytes before the end, bit ", bit));
      std::string flipped = whole;
      flipped[whole.size() - back] = static_cast<char>(flipped[whole.size() - back] ^ (1 << bit));
      std::ofstream(table, std::ios::binary | std::ios::trunc) << flipped;
      const VerificationReport report = Verify();
      EXPECT_FALSE(report.ok());
      EXPECT_TRUE(absl::c_any_of(report.findings, [&table](const VerificationFinding& finding) {
        return absl::StrContains(finding.what, table);
      })) << report.bytes_rehashed.detail;
    }
  }
  std::ofstream(table, std::ios::binary | std::ios::trunc) << whole;
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerificationTest, AFlippedBitInTheWriteAheadLogIsNamed) {
  Fill();
  for (const auto& [name, content] : Files()) {
    if (!absl::EndsWith(name, ".log")) continue;
    std::string bytes = content;
    bytes[bytes.size() / 2] ^= 4;
    std::ofstream(path_ + "/rocksdb/" + name, std::ios::binary | std::ios::trunc) << bytes;
    const VerificationReport report = Verify();
    EXPECT_FALSE(report.ok());
    EXPECT_TRUE(absl::c_any_of(report.findings, [&log = name](const VerificationFinding& finding) {
      return absl::StrContains(finding.what, log);
    })) << report.bytes_rehashed.detail;
    return;
  }
  FAIL() << "no log";
}

// A core that has found so at its start, and is asked while it serves what is left.
TEST_F(VerificationTest, WhatACoreThatTakesNoAppendsLacksIsNamed) {
  Fill(kBatch);
  const std::string mark = path_ + "/high_water_mark";
  const std::string whole = *ReadFile(mark);
  const HighWater value = *HighWaterMark::Read(mark);
  const auto expect = [&](int64_t end_position, const std::string& what) {
    SCOPED_TRACE(what);
    const VerificationReport stopped = Verify();
    const auto core = *Core::Open(Options(path_));
    ASSERT_NE(core->ReadOnlyCause(), "");
    const auto verification = *core->proofs()->StartVerification("");
    while (verification->Step()) {
    }
    const VerificationReport running = verification->Finish();
    for (const VerificationReport& report : {stopped, running}) {
      ExpectFirstBad(report, kBatch, end_position);
      EXPECT_EQ(report.finding_count, 1);
      EXPECT_THAT(report.bytes_rehashed.detail, HasSubstr(what));
    }
  };
  fs::remove(mark);
  expect(kBatch, "not known");
  std::ofstream(mark) << "x";
  expect(kBatch, "not known");
  ASSERT_TRUE(HighWaterMark::Reset(mark, {kBatch + 2, value.root, value.changes}).ok());
  expect(kBatch + 2, absl::StrCat(kBatch + 2, " were acknowledged"));
  ASSERT_TRUE(HighWaterMark::Reset(mark, {kBatch, value.root, value.changes + 1}).ok());
  expect(kBatch, "changes of its catalog");
  std::ofstream(mark, std::ios::binary | std::ios::trunc) << whole;
  EXPECT_TRUE(Verify().ok());
}

// As an end of the first start leaves it, before the key is made.
TEST_F(VerificationTest, AnEmptyCoreOfWhichNothingWasSignedHolds) {
  ASSERT_TRUE(Core::Open(Options(path_)).ok());
  for (const char* name : {"signing_key", "checkpoint"}) {
    fs::remove(absl::StrCat(path_, "/", name));
    const VerificationReport report = Verify();
    EXPECT_TRUE(report.ok());
    EXPECT_EQ(report.tree_recomputed.detail, "nothing was signed yet");
    EXPECT_EQ(report.bytes_rehashed.detail, "there are no records yet");
  }
  fs::remove_all(path_ + "/rocksdb");
  const absl::Status status = VerifyDirectory(path_, "", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("nothing was acknowledged"));
}

// Those beside the log: without them nothing tells whether what is there is all that was signed.
TEST_F(VerificationTest, AMissingOrDamagedKeyMarkOrCheckpointIsNamed) {
  Fill(kBatch);
  for (const char* name : {"signing_key", "high_water_mark", "checkpoint"}) {
    const std::string file = absl::StrCat(path_, "/", name);
    const std::string whole = *ReadFile(file);
    std::string flipped = whole;
    for (const size_t at : {size_t{10}, whole.size() - 10}) flipped[at] ^= 4;
    for (const std::string& damaged : {std::string("missing"), flipped, whole.substr(0, 20)}) {
      SCOPED_TRACE(absl::StrCat(name, ": ", damaged.size(), " bytes"));
      if (damaged == "missing") {
        fs::remove(file);
      } else {
        std::ofstream(file, std::ios::binary | std::ios::trunc) << damaged;
      }
      const VerificationReport report = Verify();
      EXPECT_FALSE(report.ok());
      EXPECT_THAT(report.bytes_rehashed.detail + report.tree_recomputed.detail, HasSubstr(file));
      std::ofstream(file, std::ios::binary | std::ios::trunc) << whole;
      EXPECT_TRUE(Verify().ok());
    }
  }
}

// A start needs no more than the other one.
TEST_F(VerificationTest, OneDamagedSlotOfTheMarkIsNamed) {
  Fill(kBatch);
  const std::string mark = path_ + "/high_water_mark";
  const std::string whole = *ReadFile(mark);
  for (const size_t place : {size_t{10}, size_t{522}}) {
    std::string flipped = whole;
    flipped[place] ^= 4;
    std::ofstream(mark, std::ios::binary | std::ios::trunc) << flipped;
    const VerificationReport report = Verify();
    ExpectFirstBad(report, kBatch, kBatch);
    EXPECT_EQ(report.finding_count, 1);
    EXPECT_THAT(report.bytes_rehashed.detail, HasSubstr("a slot of the high-water mark " + mark));
  }
  for (const size_t place : {size_t{64}, size_t{511}, whole.size()}) {
    std::string changed = whole + '\0';
    if (place < whole.size()) changed = whole;
    changed[place] ^= 4;
    std::ofstream(mark, std::ios::binary | std::ios::trunc) << changed;
    EXPECT_THAT(Verify().bytes_rehashed.detail, HasSubstr(mark + " is damaged beside its slots"));
  }
}

// A start is read-only there, too, for the same reason.
TEST_F(VerificationTest, ALogThatIsMissingAsAWholeIsNamed) {
  Fill(kBatch);
  fs::remove_all(path_ + "/rocksdb");
  const auto what = [this] {
    const VerificationReport report = Verify();
    EXPECT_FALSE(report.ok());
    EXPECT_FALSE(fs::exists(path_ + "/rocksdb"));
    return report.bytes_rehashed.detail;
  };
  EXPECT_THAT(what(), HasSubstr(absl::StrCat(kBatch, " records")));
  std::ofstream(path_ + "/high_water_mark", std::ios::trunc) << "x";
  EXPECT_THAT(what(), HasSubstr("high_water_mark"));
  fs::remove(path_ + "/high_water_mark");
  EXPECT_EQ(VerifyDirectory(path_, "", {}).status().code(), absl::StatusCode::kNotFound);
  std::ofstream(path_ + "/segments/" + SegmentFileName(0, 7)) << "x";
  EXPECT_THAT(what(), HasSubstr("up to position 7 in " + path_ + "/segments"));
}

TEST_F(VerificationTest, WhatIsNoCoreOrInUseIsSaidSo) {
  EXPECT_EQ(VerifyDirectory(path_, "", {}).status().code(), absl::StatusCode::kNotFound);
  Fill(kBatch);
  const auto core = Core::Open(Options(path_));
  EXPECT_EQ(ErrorReason(VerifyDirectory(path_, "", {}).status()), "DATA_DIRECTORY_LOCKED");
}

}  // namespace
}  // namespace icepie
