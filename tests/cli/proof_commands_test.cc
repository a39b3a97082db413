// checkpoint, prove and verify against the real core and its service, and receipts without either.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_replace.h"
#include "core/base/file.h"
#include "core/core.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/log/wal_check.h"
#include "core/merkle/receipt.h"
#include "nlohmann/json.hpp"
#include "server/record/core_service.h"
#include "tests/cli/program_fixture.h"
#include "tests/core/core_testing.h"
#include "tests/core/merkle/rfc_verifier.h"

namespace icepie::cli {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class ProofCommandsTest : public ProgramFixture {
 protected:
  void SetUp() override {
    ProgramFixture::SetUp();
    CoreOptions options;
    options.directory = directory_ + "/core";
    options.checkpoint_interval = absl::ZeroDuration();
    auto core = Core::Open(options);
    ASSERT_TRUE(core.ok()) << core.status();
    core_ = *std::move(core);
    service_ = std::make_unique<server::CoreService>(core_.get());
    Serve({service_.get()});
    ASSERT_EQ(Run({"stream", "create", "a"}).code, 0);
    std::string lines;
    for (int i = 0; i < 300; ++i) lines += "{\"n\":" + std::to_string(i) + "}\n";
    ASSERT_EQ(Run({"append", "a", "--key", "k"}, lines).code, 0);
  }

  void TearDown() override {
    StopServing();
    std::filesystem::remove_all(directory_);
  }

  void StopServing() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    service_.reset();
    core_.reset();
  }

  std::unique_ptr<Core> core_;
  std::unique_ptr<server::CoreService> service_;
};

TEST_F(ProofCommandsTest, CheckpointsAreSignedNotes) {
  const Outcome key = Run({"checkpoint", "--key"});
  const auto verifier = VerifierKey::Parse(key.out);
  ASSERT_TRUE(verifier.ok()) << verifier.status();
  const Outcome note = Run({"checkpoint"});
  EXPECT_EQ(note.code, 0) << note.err;
  const auto checkpoint = OpenCheckpoint(note.out, *verifier);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->size, 300);
  EXPECT_EQ(nlohmann::json::parse(Run({"checkpoint", "--json"}).out)["note"], note.out);
}

TEST_F(ProofCommandsTest, AReceiptIsCheckedWithNothingButTheKey) {
  const std::string key = Run({"checkpoint", "--key"}).out;
  const std::string receipt = directory_ + "/17.tlog-proof";
  const Outcome written = Run({"prove", "17", "--output", receipt});
  ASSERT_EQ(written.code, 0) << written.err;
  EXPECT_EQ(Run({"prove", "17"}).out, *ReadFile(receipt));
  const auto shown = nlohmann::json::parse(Run({"prove", "17", "--json"}).out);
  EXPECT_EQ(shown["position"], 17);
  EXPECT_EQ(shown["receipt"], *ReadFile(receipt));
  const auto filed = nlohmann::json::parse(Run({"prove", "17", "--output", receipt, "--json"}).out);
  EXPECT_EQ(filed["file"], receipt);
  StopServing();
  std::filesystem::remove_all(directory_ + "/core");

  const Outcome checked = Run({"prove", "--check", receipt, "--key", key});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("valid: position 17 is in icepie.local/"));
  const std::string key_file = Write("key", key);
  const std::string payload = Write("payload", "{\"n\":17}");
  const Outcome json =
      Run({"prove", "--check", receipt, "--key", key_file, "--payload", payload, "--json"});
  EXPECT_EQ(json.code, 0) << json.err;
  const auto facts = nlohmann::json::parse(json.out);
  EXPECT_EQ(facts["position"], 17);
  EXPECT_EQ(facts["tree_size"], 300);
  EXPECT_EQ(facts["payload_sha256"], Sha256Hex("{\"n\":17}"));
  EXPECT_EQ(facts["key_sha256"], Sha256Hex("k"));
  EXPECT_EQ(facts["stream_name_sha256"], Sha256Hex("a"));

  const Outcome other =
      Run({"prove", "--check", receipt, "--key", key, "--payload", Write("other", "{\"n\":18}")});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("is not the payload of position 17"));
}

TEST_F(ProofCommandsTest, WrongReceiptsAndKeysAreRefused) {
  const std::string key = Run({"checkpoint", "--key"}).out;
  const std::string text = Run({"prove", "17"}).out;
  const std::string changed =
      Write("changed", absl::StrReplaceAll(text, {{"index 17", "index 18"}}));
  const Outcome index = Run({"prove", "--check", changed, "--key", key});
  EXPECT_EQ(index.code, 1);
  EXPECT_THAT(index.err, HasSubstr("its index is 18"));
  const std::string receipt = Write("receipt", text);
  const std::string other_key =
      SigningKey::Generate(VerifierKey::Parse(key)->name())->verifier().ToString();
  const Outcome other = Run({"prove", "--check", receipt, "--key", other_key});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("not signed by key"));
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"prove"},
                                             {"prove", "--check", receipt},
                                             {"prove", "1", "--check", receipt},
                                             {"prove", "-1"},
                                             {"prove", "--check", receipt, "--key", "x"},
                                             {"prove", "--check", "missing", "--key", key}}) {
    EXPECT_EQ(Run(arguments).code, 1);
  }
  EXPECT_THAT(Run({"prove", "300"}).err, HasSubstr("the core has 300 records"));
}

TEST_F(ProofCommandsTest, VerifyAnswersThreeQuestionsOnlineAndOffline) {
  const std::string older = Write("older", Run({"checkpoint"}).out);
  ASSERT_EQ(Run({"append", "a", "--payload", "{}"}).code, 0);
  const Outcome online = Run({"verify", "--since", older});
  EXPECT_EQ(online.code, 0) << online.out << online.err;
  EXPECT_THAT(online.out, HasSubstr("positions 0 to 301"));
  EXPECT_THAT(online.out,
              HasSubstr("yes: the records lead to the root of the older checkpoint of 300"));
  EXPECT_THAT(online.out,
              HasSubstr("yes: the records lead to the root of the signed checkpoint of 301"));
  const auto facts = nlohmann::json::parse(Run({"verify", "--json"}).out);
  EXPECT_EQ(facts["ok"], true);
  EXPECT_EQ(facts["end_position"], 301);
  EXPECT_EQ(facts["consistent"]["state"], "not_checked");
  // Offline only when nobody has it open.
  EXPECT_EQ(Run({"verify", "--data-dir", directory_}).code, 3);
  StopServing();
  const Outcome offline = Run({"verify", "--data-dir", directory_, "--since", older});
  EXPECT_EQ(offline.code, 0) << offline.out << offline.err;
  EXPECT_THAT(offline.out, HasSubstr("yes: the records lead to the root of the older checkpoint"));
  EXPECT_THAT(offline.out, Not(HasSubstr("note: ")));
  for (const auto& file : std::filesystem::directory_iterator(directory_ + "/core/rocksdb")) {
    if (file.path().extension() == ".log") std::ofstream(file.path(), std::ios::app) << "torn";
  }
  const Outcome torn = Run({"verify", "--data-dir", directory_});
  EXPECT_EQ(torn.code, 0) << torn.out << torn.err;
  EXPECT_THAT(torn.out, ContainsRegex("note: .*[.]log ends within a record"));
  EXPECT_THAT(torn.out, Not(HasSubstr("index")));
  const std::string surplus = directory_ + "/core/segments/77.temporary";
  std::ofstream(surplus) << "x";
  EXPECT_THAT(Run({"verify", "--data-dir", directory_}).out,
              HasSubstr("note: the core's index does not name " + surplus + ": the next start"));
  const Outcome json = Run({"verify", "--data-dir", directory_, "--json"});
  EXPECT_EQ(json.code, 0);
  const auto unowned = nlohmann::json::parse(json.out)["unowned_files"];
  ASSERT_EQ(unowned.size(), 1);
  EXPECT_EQ(unowned[0]["file"], surplus);
  EXPECT_THAT(unowned[0]["fate"].get<std::string>(), HasSubstr("removes it"));
  EXPECT_EQ(Run({"verify", "--data-dir", directory_ + "/none"}).code, 1);
  const Outcome none = Run({"verify", "--data-dir", directory_, "--since", Write("x", "x")});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, AllOf(HasSubstr("--since: " + directory_ + "/x is no signed checkpoint"),
                              HasSubstr("what icepie checkpoint has printed")));
}

TEST_F(ProofCommandsTest, VerifyNamesWhatIsDamaged) {
  ASSERT_EQ(Run({"checkpoint"}).code, 0);
  StopServing();
  {
    auto store =
        LogStore::Open({directory_ + "/core/rocksdb", LogStore::Mode::kReadWrite, nullptr});
    ASSERT_TRUE(store.ok()) << store.status();
    TileRun run = (*store)->ReadTreeRuns(0, 0, 256)->at(0);
    run.hashes[17 * kDigestBytes] ^= 1;
    ASSERT_TRUE((*store)->ChangeTree({{run}, {}}, {}).ok());
  }
  const Outcome offline = Run({"verify", "--data-dir", directory_});
  EXPECT_EQ(offline.code, 1);
  EXPECT_THAT(offline.out,
              HasSubstr("bytes re-hashed                 NO: one finding, at position 17: "));
  EXPECT_THAT(offline.out, HasSubstr("position 17: the stored tree does not fit"));
  EXPECT_THAT(offline.out, HasSubstr("tree recomputed to signed root  yes"));
  // And the same by a daemon.
  CoreOptions options;
  options.directory = directory_ + "/core";
  core_ = *Core::Open(options);
  service_ = std::make_unique<server::CoreService>(core_.get());
  Serve({service_.get()});
  const Outcome online = Run({"verify", "--json"});
  EXPECT_EQ(online.code, 1);
  const auto facts = nlohmann::json::parse(online.out);
  EXPECT_EQ(facts["findings"][0]["position"], 17);
  EXPECT_EQ(facts["bytes_rehashed"]["state"], "fails");
}

// A core with tables and segments, under a daemon at work.
class OnlineDamageTest : public ProofCommandsTest {
 protected:
  void SetUp() override {
    ProofCommandsTest::SetUp();
    StopServing();
    core_ = OpenCore(directory_ + "/core", SmallSegments());
    for (int64_t n = 0; n < 450; n += 3) {
      ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("a", n, 3)).ok());
    }
    ASSERT_TRUE(EventuallyInCore([&] { return core_->Storage().segment_count >= 2; }));
    core_.reset();
    CoreOptions options;
    options.directory = directory_ + "/core";
    options.checkpoint_interval = absl::Milliseconds(1);  // each verification asks for a new one
    core_ = *Core::Open(options);                         // what was in memory is in tables now
    service_ = std::make_unique<server::CoreService>(core_.get());
    Serve({service_.get()});
    ASSERT_EQ(Run({"checkpoint"}).code, 0);
    ASSERT_EQ(Run({"verify"}).code, 0);  // now everything is open and in the caches
  }

  std::vector<std::string> Files(const std::string& folder, const std::string& ending) const {
    std::vector<std::string> files;
    for (const auto& file : std::filesystem::directory_iterator(directory_ + "/core/" + folder)) {
      if (file.path().extension() == ending) files.push_back(file.path());
    }
    return files;
  }

  static void Flip(const std::string& file, double share) {
    std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
    const auto place =
        static_cast<int64_t>(static_cast<double>(std::filesystem::file_size(file)) * share);
    stream.seekg(place);
    const int byte = stream.get();
    stream.seekp(place);
    stream.put(static_cast<char>(byte ^ 4));
    ASSERT_TRUE(stream.good());
  }

  // Each of the files, flipped at each of the shares and then missing.
  void ExpectDamageNamed(const std::vector<std::string>& files, const std::vector<double>& shares) {
    for (const std::string& file : files) {
      for (const double share : shares) {
        Flip(file, share);
        ExpectNamed(file);
        Flip(file, share);
      }
      std::filesystem::rename(file, file + ".away");
      ExpectNamed(file);
      std::filesystem::rename(file + ".away", file);
    }
    EXPECT_EQ(Run({"verify"}).code, 0);
  }

  void ExpectNamed(const std::string& file) {
    const Outcome damaged = Run({"verify"});
    EXPECT_EQ(damaged.code, 1) << file;
    EXPECT_THAT(damaged.out, HasSubstr("bytes re-hashed                 NO"));
    EXPECT_THAT(damaged.out, HasSubstr(file));
  }
};

// Tables of values, index entries, tiles and the catalog alike, and segments.
TEST_F(OnlineDamageTest, AFlippedBitOrAMissingFileIsFoundAndNamed) {
  std::vector<std::string> files = Files("rocksdb", ".sst");
  EXPECT_GE(files.size(), 4u);
  for (const std::string& segment : Files("segments", ".segment")) files.push_back(segment);
  EXPECT_GE(files.size(), 6u);
  ExpectDamageNamed(files, {0.02, 0.5, 0.7, 0.9});
}

// What is in memory still has its only durable copy in the write-ahead log.
TEST_F(OnlineDamageTest, AFlippedBitOfTheLiveWriteAheadLogIsFoundAndNamed) {
  for (int64_t n = 450; n < 600; ++n) {
    ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("a", n, 1)).ok());
  }
  ASSERT_EQ(Run({"verify"}).code, 0);
  const std::vector<std::string> logs = Files("rocksdb", ".log");
  ASSERT_FALSE(logs.empty());
  const std::string log = *std::max_element(logs.begin(), logs.end());
  ASSERT_GT(std::filesystem::file_size(log), 10000U);
  ExpectDamageNamed({log}, {0.0, 0.02, 0.5, 0.98});
  // Its end is missing, within a record and behind one, and nobody is writing.
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 3);
  ExpectNamed(log);
  std::filesystem::resize_file(log, CheckWalFile(log, 0)->whole_bytes);
  ExpectNamed(log);
  std::filesystem::resize_file(log, 0);
  ExpectNamed(log);
}

// Nothing else reads these before the next start.
TEST_F(OnlineDamageTest, SoAreTheFilesThatOnlyAStartReads) {
  const std::string core = directory_ + "/core/";
  std::vector<std::string> files = {core + "rocksdb/CURRENT", core + "high_water_mark",
                                    core + "signing_key", core + "checkpoint"};
  for (const std::string& file : Files("rocksdb", "")) {
    if (file.find("MANIFEST") != std::string::npos) files.push_back(file);
  }
  ASSERT_EQ(files.size(), 5U);
  ExpectDamageNamed(files, {0.02, 0.98});  // in both slots of the mark
}

// Whole files that are not those of this core, or of its past.
TEST_F(OnlineDamageTest, FilesThatDoNotFitTheCoreAreNamed) {
  const std::string mark = directory_ + "/core/high_water_mark";
  const std::string key = directory_ + "/core/signing_key";
  const std::string checkpoint = directory_ + "/core/checkpoint";
  std::filesystem::rename(mark, mark + ".away");
  for (const int64_t position : {int64_t{1}, core_->head_position() + 1}) {
    ASSERT_TRUE(HighWaterMark::Reset(mark, {position, std::nullopt}).ok());
    ExpectNamed(mark);
  }
  std::filesystem::rename(mark + ".away", mark);
  const std::string own_key = *ReadFile(key);
  const SigningKey other = *SigningKey::Generate(SigningKey::Parse(own_key)->verifier().name());
  ASSERT_TRUE(WriteFileAtomically(key, other.ToString() + "\n", 0600).ok());
  ExpectNamed(key);
  ASSERT_TRUE(WriteFileAtomically(key, own_key, 0600).ok());
  std::filesystem::permissions(key, std::filesystem::perms(0640));
  ExpectNamed(key);
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  const std::string older = *ReadFile(checkpoint);
  ASSERT_EQ(Run({"append", "a", "--payload", "{}"}).code, 0);
  ASSERT_TRUE(core_->proofs()->GetCheckpoint(core_->head_position(), absl::Seconds(60)).ok());
  const std::string newest = *ReadFile(checkpoint);
  ASSERT_NE(newest, older);
  ASSERT_TRUE(WriteFileAtomically(checkpoint, older).ok());
  ExpectNamed(checkpoint);
  ASSERT_TRUE(WriteFileAtomically(checkpoint, newest).ok());
  EXPECT_EQ(Run({"verify"}).code, 0);
}

TEST_F(OnlineDamageTest, AppendsAreNotTakenForDamage) {
  std::atomic<bool> stopping{false};
  std::thread writer([&] {
    // One by one: the log is written to all the time, and little has to be verified.
    for (int64_t n = core_->GetStream("a")->end_offset; !stopping; ++n) {
      ASSERT_TRUE(core_->AppendAndWait(NumberedBatch("a", n, 1)).ok());
    }
  });
  for (int i = 0; i < 10; ++i) {
    const Outcome verified = Run({"verify"});
    EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  }
  stopping = true;
  writer.join();
}

TEST_F(ProofCommandsTest, AVerificationTellsHowFarItIsAndHowFast) {
  ASSERT_TRUE(core_->CreateStream("raw", PayloadFormat::kBytes).ok());
  std::mt19937_64 random(1);
  constexpr int64_t kBatches = 12;  // of 1 MiB each that does not compress
  for (int64_t batch = 0; batch < kBatches; ++batch) {
    std::string payload(1 << 20, '\0');
    for (char& byte : payload) byte = static_cast<char>(random());
    AppendBatch records;
    records.records.push_back(MakeRecord("raw", std::move(payload)));
    ASSERT_TRUE(core_->AppendAndWait(std::move(records)).ok());
  }
  const auto stub =
      icepie::v1::Core::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto reader = stub->VerifyCore(&context, {});
  icepie::v1::VerifyCoreResponse part;
  ASSERT_TRUE(reader->Read(&part));
  EXPECT_FALSE(part.has_report());
  EXPECT_LT(part.position(), part.end_position());
  int64_t position = part.position();
  while (!part.has_report()) {
    ASSERT_TRUE(reader->Read(&part));
    EXPECT_GE(part.position(), position);
    position = part.position();
  }
  EXPECT_EQ(position, 300 + kBatches);
  EXPECT_EQ(part.end_position(), position);
  EXPECT_GE(part.bytes(), kBatches << 20);
  EXPECT_FALSE(reader->Read(&part));
  EXPECT_TRUE(reader->Finish().ok());
  const Outcome shown = Run({"verify"});
  EXPECT_THAT(shown.err, ContainsRegex("verify  312 records in .*/s"));
  EXPECT_THAT(shown.out, HasSubstr("positions 0 to 312"));
}

// Of any size, also of one that nobody has signed.
TEST_F(ProofCommandsTest, InclusionInAGivenTreeVerifiesOverTheWire) {
  const auto stub =
      icepie::v1::Core::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  const auto prove = [&](int64_t position, int64_t size, icepie::v1::InclusionProof* proof) {
    icepie::v1::GetInclusionProofRequest request;
    request.set_position(position);
    request.set_tree_size(size);
    grpc::ClientContext context;
    return stub->GetInclusionProof(&context, request, proof);
  };
  icepie::v1::GetConsistencyProofRequest sizes;
  icepie::v1::ConsistencyProof roots;
  sizes.set_size(300);
  for (const int64_t size : {18, 256, 299, 300}) {
    SCOPED_TRACE(size);
    sizes.set_old_size(size);
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetConsistencyProof(&context, sizes, &roots).ok());
    icepie::v1::InclusionProof proof;
    const grpc::Status status = prove(17, size, &proof);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(proof.position(), 17);
    EXPECT_EQ(proof.tree_size(), size);
    EXPECT_EQ(proof.root_hash(), roots.old_root_hash());
    const rfc::Proof path(proof.hashes().begin(), proof.hashes().end());
    EXPECT_TRUE(rfc::Includes(rfc::Leaf(proof.leaf_entry()), 17, static_cast<size_t>(size), path,
                              proof.root_hash()));
  }
  icepie::v1::InclusionProof proof;
  EXPECT_EQ(prove(17, 17, &proof).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(prove(17, 301, &proof).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(prove(17, -1, &proof).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ProofCommandsTest, ProofsOverTheWireVerify) {
  const auto stub =
      icepie::v1::Core::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  icepie::v1::GetConsistencyProofRequest request;
  request.set_old_size(100);
  request.set_size(300);
  grpc::ClientContext context;
  icepie::v1::ConsistencyProof proof;
  const grpc::Status status = stub->GetConsistencyProof(&context, request, &proof);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<Digest> hashes;
  for (const std::string& hash : proof.hashes()) hashes.push_back(DigestFrom(hash));
  EXPECT_TRUE(CheckConsistency(100, DigestFrom(proof.old_root_hash()), 300,
                               DigestFrom(proof.root_hash()), hashes)
                  .ok());
  request.set_size(301);
  grpc::ClientContext second;
  EXPECT_EQ(stub->GetConsistencyProof(&second, request, &proof).error_code(),
            grpc::StatusCode::OUT_OF_RANGE);
}

TEST_F(ProofCommandsTest, ABackupIsVerifiedWithoutADaemon) {
  const std::string copy = directory_ + "_copy";
  const Outcome made = Run({"backup", copy, "--json"});
  EXPECT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(nlohmann::json::parse(made.out)["head_position"], 300);
  EXPECT_EQ(nlohmann::json::parse(made.out)["root"].get<std::string>().size(), 64u);
  const Outcome verified = Run({"verify", "--data-dir", copy});
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("positions 0 to 300"));
  const Outcome again = Run({"backup", copy});
  EXPECT_EQ(again.code, 3);
  EXPECT_THAT(again.err, HasSubstr("not an empty directory"));
  const Outcome within = Run({"backup", directory_ + "/copy"});
  EXPECT_EQ(within.code, 1);
  EXPECT_THAT(within.err, HasSubstr("outside"));
  std::filesystem::remove_all(copy);
}

}  // namespace
}  // namespace icepie::cli
