#include "server/domain/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/status.h"
#include "server/base/numbered_pairs.h"
#include "server/domain/catalog_copy.h"
#include "server/domain/intent_file.h"
#include "server/domain/snapshot_files.h"
#include "server/domain/unwanted_files.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"
#include "tests/server/refusing_core.h"

namespace icepie::server {
namespace {

using icepie::v1::DesiredState;
using icepie::v1::Generation;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Operations = std::vector<Catalog::Operation>;

icepie::catalog::v1::RevisionEntry Revision(const std::string& domain, int64_t revision,
                                            const std::string& file) {
  icepie::catalog::v1::RevisionEntry entry;
  entry.set_domain(domain);
  entry.set_revision(revision);
  entry.set_file(file);
  return entry;
}

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() : core_(OpenCore(directory_.path() + "/core")), refusing_(*core_) { Reload(); }

  void Reload() {
    catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents");
    ASSERT_TRUE(catalog_->Load().ok());
  }

  // A domain with one revision and one slice that serves generation 1.
  absl::Status Create(const std::string& domain, const std::string& slice) {
    return catalog_->Change(domain, [&](CatalogDomain& changed, Operations&) {
      changed.entry.set_revision(1);
      changed.entry.set_file("the file");
      changed.revisions[1] = Revision(domain, 1, "the file");
      auto& entry = changed.slices[slice];
      entry.set_domain(domain);
      entry.set_name(slice);
      entry.set_serving_generation(1);
      auto& generation = *entry.add_generations()->mutable_generation();
      generation.set_number(1);
      generation.set_state(Generation::SERVING);
      generation.set_revision(1);
      return absl::OkStatus();
    });
  }

  void Overwrite(const std::string& key, const std::string& bytes) {
    ASSERT_TRUE(core_->ChangeCatalog({{key, bytes}}).ok());
  }

  TempDirectory directory_;
  std::unique_ptr<Core> core_;
  RefusingCore refusing_;
  std::unique_ptr<Catalog> catalog_;
};

// As whom nothing is asked first.
DesiredState Frozen(const icepie::catalog::v1::SliceEntry& /*slice*/ = {}) {
  DesiredState desired;
  desired.set_mode(DesiredState::FREEZE);
  desired.set_reason("INC-1");
  return desired;
}

TEST_F(CatalogTest, KeepsWhatWasChangedOverAReload) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  Reload();
  const auto domain = catalog_->Find("payments");
  ASSERT_NE(domain, nullptr);
  EXPECT_EQ(domain->entry.file(), "the file");
  EXPECT_EQ(domain->revisions.at(1).file(), "the file");
  EXPECT_EQ(domain->slices.at("volume").serving_generation(), 1);
  EXPECT_TRUE(domain->held.empty());
}

TEST_F(CatalogTest, GrowsTheEpochWithEveryChange) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  const int64_t before = catalog_->Find("payments")->entry.epoch();
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  EXPECT_EQ(catalog_->Find("payments")->entry.epoch(), before + 1);
}

TEST_F(CatalogTest, AnErrorOfTheEditChangesNothing) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  const absl::Status changed = catalog_->Change("payments", [](CatalogDomain& domain, Operations&) {
    domain.slices.clear();
    return absl::AbortedError("no");
  });
  EXPECT_TRUE(absl::IsAborted(changed));
  EXPECT_EQ(catalog_->Find("payments")->slices.size(), 1u);
}

TEST_F(CatalogTest, ARefusedWriteChangesNothing) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.refuses = true;
  EXPECT_EQ(ErrorReason(Create("payments", "other")), "CORE_READ_ONLY");
  EXPECT_EQ(catalog_->Find("payments")->slices.count("other"), 0u);
}

// A copy of each domain is kept beside the core: a damaged log does not take its slices away.
TEST_F(CatalogTest, ACoreThatHasLostItsLogStillHasItsDomains) {
  const std::string copies = directory_.path() + "/catalog";
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(catalog_->Load().ok());
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(Create("behaviour", "clicks").ok());
  const auto lost = OpenCore(directory_.path() + "/lost");
  RefusingCore without_log(*lost);
  without_log.refuses = true;
  const auto names = [&](Core& core) {
    Catalog found(core, directory_.path() + "/others", copies);
    EXPECT_TRUE(found.Load().ok());
    if (const auto domain = found.Find("payments")) {
      EXPECT_EQ(domain->held, "");
      EXPECT_TRUE(domain->damaged_slices.empty());
      EXPECT_EQ(domain->slices.size(), 1u);
      EXPECT_EQ(domain->revisions.at(1).file(), "the file");
    }
    return found.DomainNames();
  };
  EXPECT_EQ(names(without_log), (std::vector<std::string>{"behaviour", "payments"}));

  // What was changed last counts.
  const std::string older = *ReadFile(copies + "/payments");
  ASSERT_TRUE(Create("payments", "later").ok());
  ASSERT_TRUE(WriteFileAtomically(copies + "/payments", older).ok());
  refusing_.refuses = true;
  {
    Catalog found(refusing_, directory_.path() + "/others", copies);
    ASSERT_TRUE(found.Load().ok());
    EXPECT_EQ(found.Find("payments")->slices.count("later"), 1u) << "an older copy counts nothing";
  }
  refusing_.refuses = false;

  // What is removed stays so, what is damaged counts nothing, and a start makes it again.
  ASSERT_TRUE(catalog_->Remove("behaviour").ok());
  std::string bytes = older;
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(copies + "/payments", bytes).ok());
  EXPECT_TRUE(names(without_log).empty());
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(catalog_->Load().ok());
  Catalog found(without_log, directory_.path() + "/others", copies);
  ASSERT_TRUE(found.Load().ok());
  EXPECT_EQ(found.DomainNames(), (std::vector<std::string>{"payments"}));
  EXPECT_EQ(found.Find("payments")->slices.count("later"), 1u);
}

// A loss that an operator has accepted is one of records.
TEST_F(CatalogTest, WhatTheLogHasLostIsRestoredFromItsCopy) {
  const std::string copies = directory_.path() + "/catalog";
  const auto lost = OpenCore(directory_.path() + "/lost");
  catalog_ = std::make_unique<Catalog>(*lost, directory_.path() + "/others");
  ASSERT_TRUE(Create("payments", "dropped").ok());
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(catalog_->Load().ok());
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  ASSERT_TRUE(Create("behaviour", "clicks").ok());
  ASSERT_TRUE(Create("purged", "nothing").ok());
  ASSERT_TRUE(catalog_->Remove("purged").ok());
  {  // At first it takes no change.
    RefusingCore read_only(*lost);
    read_only.refuses = true;
    Catalog found(read_only, directory_.path() + "/others", copies);
    ASSERT_TRUE(found.Load().ok());
    EXPECT_EQ(found.DomainNames(), (std::vector<std::string>{"behaviour", "payments"}));
    read_only.refuses = false;
    ASSERT_TRUE(found.ChangeDesired("behaviour", {"clicks"}, Frozen).ok());
    EXPECT_EQ(lost->ScanCatalog("slice/behaviour/")->size(), 1u) << "it is written as a whole";
    EXPECT_EQ(lost->ScanCatalog("revision/behaviour/")->size(), 1u);
  }
  // Once more without the copies: the log has it all again.
  for (const std::string& from : {copies, std::string()}) {
    Catalog found(*lost, directory_.path() + "/others", from);
    ASSERT_TRUE(found.Load().ok());
    EXPECT_TRUE(found.complete());
    EXPECT_EQ(found.DomainNames(), (std::vector<std::string>{"behaviour", "payments"}));
    const auto payments = found.Find("payments");
    EXPECT_EQ(payments->held, "");
    EXPECT_EQ(payments->revisions.count(1), 1u);
    ASSERT_EQ(payments->slices.size(), 1u);
    EXPECT_EQ(payments->slices.at("volume").desired().reason(), "INC-1");
  }
  EXPECT_EQ(CatalogCopies(copies).ReadAll().size(), 2u);
}

TEST_F(CatalogTest, ADamagedEntryIsRestoredFromItsCopy) {
  const std::string copies = directory_.path() + "/catalog";
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(Create("payments", "volume").ok());
  Overwrite("domain/payments", "\xff\xff not a message");
  for (const std::string& from : {copies, std::string()}) {
    Catalog found(*core_, directory_.path() + "/others", from);
    ASSERT_TRUE(found.Load().ok());
    EXPECT_EQ(found.Find("payments")->held, "");
    EXPECT_EQ(found.Find("payments")->entry.file(), "the file");
    EXPECT_EQ(found.Find("payments")->slices.size(), 1u);
  }
}

TEST_F(CatalogTest, ARemovalThatIsRefusedKeepsTheCopy) {
  const std::string copies = directory_.path() + "/catalog";
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.refuses = true;
  EXPECT_EQ(ErrorReason(catalog_->Remove("payments")), "CORE_READ_ONLY");
  EXPECT_EQ(CatalogCopies(copies).ReadAll().count("payments"), 1u);
}

// A domain whose copy is behind what can be read is not taken for one that has no slices.
TEST_F(CatalogTest, ADomainThatCannotBeReadWholeIsHeldOrAsItsCopySays) {
  const std::string copies = directory_.path() + "/catalog";
  const auto load = [&] {
    catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
    ASSERT_TRUE(catalog_->Load().ok());
  };
  load();
  ASSERT_TRUE(Create("behaviour", "clicks").ok());
  const std::string older = *ReadFile(copies + "/behaviour");
  ASSERT_TRUE(Create("behaviour", "visits").ok());
  ASSERT_TRUE(WriteFileAtomically(copies + "/behaviour", older).ok());
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.unreadable = "slice/";
  load();
  EXPECT_FALSE(catalog_->complete());
  EXPECT_THAT(catalog_->Find("behaviour")->held, HasSubstr("can be read"));
  EXPECT_EQ(catalog_->Find("payments")->held, "");
  ASSERT_EQ(catalog_->Find("payments")->slices.size(), 1u);
  // What is changed now is known to the next start, too, whatever that can read.
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  refusing_.unreadable = "domain/";
  load();
  EXPECT_FALSE(catalog_->complete());
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().reason(), "INC-1");
  refusing_.unreadable = "";
  load();
  EXPECT_TRUE(catalog_->complete());
  EXPECT_EQ(catalog_->Find("behaviour")->held, "");
  EXPECT_EQ(catalog_->Find("behaviour")->slices.size(), 2u);
}

// What the log had of the domain beyond its copy may have files, and so may what was never copied.
TEST_F(CatalogTest, NoFileIsRemovedWhileTheCatalogIsReadInPart) {
  const std::string copies = directory_.path() + "/catalog";
  const std::string files = directory_.path() + "/payments";
  const auto has = [&](const std::string& name) {
    return std::filesystem::exists(files + "/snapshots/" + name);
  };
  for (const char* name : {"volume/g1-p00000000000000000009.duckdb",
                           "volume/g2-p00000000000000000009.duckdb", "fees/g1-held.json"}) {
    const std::filesystem::path path = files + "/snapshots/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "file";
  }
  const auto load_and_sweep = [&] {
    catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
    ASSERT_TRUE(catalog_->Load().ok());
    const auto domain = catalog_->Find("payments");
    ASSERT_NE(domain, nullptr);
    ASSERT_EQ(domain->held, "");
    ASSERT_TRUE(domain->damaged_slices.empty());
    RemoveUnwantedFiles(*catalog_, *domain, files, absl::Now());
  };
  catalog_ = std::make_unique<Catalog>(refusing_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             domain.slices["volume"].set_last_generation(2);
                             return absl::OkStatus();
                           })
                  .ok());
  for (const char* prefix : {"domain/", "revision/", "slice/", "desired/", "operation/"}) {
    refusing_.unreadable = prefix;
    load_and_sweep();
    EXPECT_FALSE(catalog_->complete()) << prefix;
    EXPECT_TRUE(has("volume/g2-p00000000000000000009.duckdb")) << prefix;
    EXPECT_TRUE(has("fees")) << prefix;
  }
  refusing_.unreadable = "nothing";
  refusing_.refuses = true;
  load_and_sweep();
  EXPECT_TRUE(has("fees")) << "a core that takes no change has perhaps lost some";
  refusing_.refuses = false;
  load_and_sweep();
  EXPECT_TRUE(catalog_->complete());
  EXPECT_TRUE(has("volume/g1-p00000000000000000009.duckdb"));
  EXPECT_FALSE(has("volume/g2-p00000000000000000009.duckdb"));
  EXPECT_FALSE(has("fees"));
}

// A build's end may be all that the daemon still stored of it.
TEST_F(CatalogTest, WhatABuildWasComparedWithGoesWithIt) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain&, Operations& operations) {
                             for (const int64_t number : {1, 2}) {
                               auto& operation = operations.emplace_back();
                               operation.set_number(number);
                               operation.set_domain("payments");
                               operation.set_done(number == 1);
                             }
                             return absl::OkStatus();
                           })
                  .ok());
  const std::string files = directory_.path() + "/payments";
  for (const char* pin : {"op-1", "op-2", "op-3"}) {
    std::filesystem::create_directories(files + "/builds/" + pin);
  }
  RemoveUnwantedFiles(*catalog_, *catalog_->Find("payments"), files, absl::Now());
  EXPECT_EQ(PinsOnDisk(files), std::vector<std::string>{"op-2"});
}

// What it saved on its way, too; that of one that is still to be built stays.
TEST_F(CatalogTest, WhatABuildSavedOnItsWayGoesWithIt) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  using icepie::v1::Generation;
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             auto& slice = domain.slices["volume"];
                             slice.set_last_generation(4);
                             const std::vector<Generation::State> states = {
                                 Generation::READY, Generation::BUILDING, Generation::FAILED};
                             for (size_t i = 0; i < states.size(); ++i) {
                               auto& generation = *slice.add_generations()->mutable_generation();
                               generation.set_number(static_cast<int64_t>(i) + 2);
                               generation.set_state(states[i]);
                             }
                             return absl::OkStatus();
                           })
                  .ok());
  const std::string files = directory_.path() + "/payments";
  const std::string builds = files + "/unfinished/volume/";
  for (const char* build : {"g1", "g2", "g3", "g4", "g5"}) {
    std::filesystem::create_directories(builds + build);
  }
  std::filesystem::create_directories(files + "/unfinished/deleted/g1");
  RemoveUnwantedFiles(*catalog_, *catalog_->Find("payments"), files, absl::Now());
  std::set<std::string> left;
  for (const auto& build : std::filesystem::directory_iterator(builds)) {
    left.insert(build.path().filename().string());
  }
  EXPECT_EQ(left, (std::set<std::string>{"g3", "g5"})) << "of the last nothing is known yet";
  EXPECT_FALSE(std::filesystem::exists(files + "/unfinished/deleted"));
}

// The same with a table of RocksDB, damaged where it has a domain's entry.
TEST_F(CatalogTest, ADamagedTableLeavesTheDomainsAsTheirCopiesSay) {
  const std::string copies = directory_.path() + "/catalog";
  const std::string mark = "the file that will be damaged ";
  {
    Catalog catalog(*core_, directory_.path() + "/intents", copies);
    ASSERT_TRUE(catalog.Load().ok());
    for (const char* domain : {"network", "payments"}) {
      ASSERT_TRUE(catalog
                      .Change(domain,
                              [&](CatalogDomain& changed, Operations&) {
                                changed.entry.set_revision(1);
                                // More than a block of the table.
                                changed.entry.set_file(mark + std::string(10000, 'x'));
                                changed.revisions[1] = Revision(domain, 1, "the file");
                                return absl::OkStatus();
                              })
                      .ok());
    }
  }
  const std::string path = directory_.path() + "/core";
  core_.reset();
  core_ = OpenCore(path);  // moves everything into tables
  core_.reset();
  int damaged = 0;
  for (const auto& file : std::filesystem::directory_iterator(path + "/rocksdb")) {
    if (file.path().extension() != ".sst") continue;
    std::string bytes = *ReadFile(file.path());
    const size_t place = bytes.rfind(mark);
    if (place == std::string::npos) continue;
    bytes[place] ^= 1;
    std::ofstream(file.path(), std::ios::binary | std::ios::trunc) << bytes;
    ++damaged;
  }
  ASSERT_EQ(damaged, 1);
  core_ = OpenCore(path);
  EXPECT_EQ(core_->ReadOnlyCause(), "");
  Catalog found(*core_, directory_.path() + "/intents", copies);
  ASSERT_TRUE(found.Load().ok());
  EXPECT_FALSE(found.complete());
  for (const char* domain : {"network", "payments"}) {
    ASSERT_NE(found.Find(domain), nullptr);
    EXPECT_EQ(found.Find(domain)->held, "");
    EXPECT_EQ(found.Find(domain)->entry.file().size(), mark.size() + 10000);
  }
}

TEST_F(CatalogTest, RemovesDeletedSlicesAndUnusedFiles) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             domain.slices.clear();
                             domain.entry.set_revision(2);
                             domain.revisions[2] = Revision("payments", 2, "another");
                             return absl::OkStatus();
                           })
                  .ok());
  Reload();
  EXPECT_TRUE(catalog_->Find("payments")->slices.empty());
  EXPECT_EQ(catalog_->Find("payments")->revisions.at(1).file(), "the file") << "history";
  EXPECT_EQ(catalog_->Find("payments")->revisions.at(2).file(), "another");
}

TEST_F(CatalogTest, KeepsTheNewestRevisionsAndThoseOfGenerations) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             for (int64_t i = 2; i <= 60; ++i) {
                               domain.revisions[i] = Revision("payments", i, "a file");
                             }
                             domain.entry.set_revision(60);
                             return absl::OkStatus();
                           })
                  .ok());
  Reload();
  const auto domain = catalog_->Find("payments");
  EXPECT_EQ(domain->revisions.size(), 51u);
  EXPECT_EQ(domain->revisions.count(1), 1u) << "generation 1 is of it";
  EXPECT_EQ(domain->revisions.count(10), 0u);
  EXPECT_EQ(domain->revisions.count(11), 1u);
}

TEST_F(CatalogTest, KeepsTheNewestOperationsAndThoseThatRun) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(catalog_
                    ->Change("payments",
                             [&](CatalogDomain&, Operations& operations) {
                               for (int j = 0; j < 100; ++j) {
                                 operations.emplace_back();
                                 operations.back().set_number(catalog_->NextOperationNumber());
                                 operations.back().set_done(operations.back().number() > 1);
                               }
                               return absl::OkStatus();
                             })
                    .ok());
  }
  ASSERT_TRUE(Create("payments", "volume").ok());
  Reload();
  EXPECT_TRUE(catalog_->FindOperation(1)) << "it has not ended";
  EXPECT_FALSE(catalog_->FindOperation(2));
  EXPECT_FALSE(catalog_->FindOperation(100));
  EXPECT_TRUE(catalog_->FindOperation(101));
  EXPECT_TRUE(catalog_->FindOperation(300));
}

TEST_F(CatalogTest, ADamagedDomainIsHeldAndOthersAreNot) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(Create("network", "routes").ok());
  Overwrite("domain/payments", "\xff\xff not a message");
  Reload();
  EXPECT_THAT(catalog_->Find("payments")->held, HasSubstr("damaged"));
  EXPECT_TRUE(catalog_->Find("network")->held.empty());
  EXPECT_EQ(catalog_->Find("network")->slices.size(), 1u);
}

TEST_F(CatalogTest, ADamagedSliceIsHeldAloneAndItsBytesAreKept) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  Overwrite("slice/payments/fees", "\xff\xff not a message");
  Reload();
  const auto domain = catalog_->Find("payments");
  EXPECT_TRUE(domain->held.empty());
  EXPECT_EQ(domain->slices.size(), 1u);
  EXPECT_EQ(domain->damaged_slices.count("fees"), 1u);
  // A change of another slice leaves the evidence alone.
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  EXPECT_EQ(core_->ScanCatalog("slice/payments/fees")->size(), 1u);
}

TEST_F(CatalogTest, WhatIsWantedOfADamagedSliceIsKeptUntilItIsAppliedAgain) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  Overwrite("slice/payments/fees", "\xff\xff not a message");
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->damaged_slices.at("fees").desired.mode(),
            DesiredState::RUN);
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"fees"}, Frozen).ok());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->damaged_slices.at("fees").desired.reason(), "INC-1");
  EXPECT_EQ(core_->ScanCatalog("slice/payments/fees")->at(0).second, "\xff\xff not a message");
  // As applying it again does.
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             auto& slice = domain.slices["fees"];
                             slice = domain.slices.at("volume");
                             slice.set_name("fees");
                             *slice.mutable_desired() = domain.damaged_slices.at("fees").desired;
                             domain.damaged_slices.clear();
                             return absl::OkStatus();
                           })
                  .ok());
  Reload();
  const auto domain = catalog_->Find("payments");
  EXPECT_TRUE(domain->damaged_slices.empty());
  EXPECT_EQ(domain->slices.at("fees").desired().reason(), "INC-1");
  EXPECT_TRUE(core_->ScanCatalog("desired/")->empty());
}

TEST_F(CatalogTest, WhatIsWantedOfADamagedSliceIsKeptWhileTheCoreTakesNoChange) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  Overwrite("slice/payments/fees", "\xff\xff not a message");
  Reload();
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"fees"}, Frozen).ok());
  refusing_.refuses = false;
  for (int i = 0; i < 2; ++i) {
    Reload();
    EXPECT_EQ(catalog_->Find("payments")->damaged_slices.at("fees").desired.mode(),
              DesiredState::FREEZE);
  }
}

TEST_F(CatalogTest, ADamagedSliceThatGoesLeavesNothing) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  Overwrite("slice/payments/fees", "\xff\xff not a message");
  Reload();
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"fees"}, Frozen).ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             domain.damaged_slices.erase("fees");
                             return absl::OkStatus();
                           })
                  .ok());
  Reload();
  EXPECT_TRUE(catalog_->Find("payments")->damaged_slices.empty());
  EXPECT_TRUE(core_->ScanCatalog("slice/payments/fees")->empty());
  EXPECT_TRUE(core_->ScanCatalog("desired/")->empty());
}

TEST_F(CatalogTest, ASliceWhoseFileIsMissingStaysHeldWhenItsDomainIsChanged) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  ASSERT_TRUE(core_->ChangeCatalog({{"revision/payments/000000001", std::nullopt}}).ok());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->damaged_slices.at("volume").desired.reason(), "INC-1");
  ASSERT_TRUE(
      catalog_->Change("payments", [](CatalogDomain&, Operations&) { return absl::OkStatus(); })
          .ok());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->damaged_slices.at("volume").desired.reason(), "INC-1");
}

TEST_F(CatalogTest, ASliceWhoseFileIsMissingIsHeld) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(core_->ChangeCatalog({{"revision/payments/000000001", std::nullopt}}).ok());
  Reload();
  const auto domain = catalog_->Find("payments");
  ASSERT_EQ(domain->damaged_slices.count("volume"), 1u);
  EXPECT_THAT(domain->damaged_slices.at("volume").why, HasSubstr("revision 1"));
}

TEST_F(CatalogTest, FreezesWhileTheCoreTakesNoChange) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().mode(), DesiredState::FREEZE);
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().reason(), "INC-1");
}

TEST_F(CatalogTest, AnIntentGoesIntoTheCatalogOnceTheCoreTakesChangesAgain) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  refusing_.refuses = false;
  Reload();
  IntentFile file(directory_.path() + "/intents");
  ASSERT_TRUE(file.Open().ok());
  EXPECT_TRUE(file.intents().empty());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().mode(), DesiredState::FREEZE);
}

// As many slices as hundreds of domains have.
TEST_F(CatalogTest, FourThousandSlicesFreezeWithLongReasonsWhileTheCoreTakesNoChange) {
  constexpr int kDomains = 4;
  std::vector<std::string> slices;
  for (int i = 0; i < 1000; ++i) slices.push_back(absl::StrCat("s", i));
  std::string reason = "x";
  while (reason.size() < 990) reason += "\u00e4";
  const auto frozen = [&](const icepie::catalog::v1::SliceEntry&) {
    DesiredState state;
    state.set_mode(DesiredState::FREEZE);
    state.set_reason(reason);
    return state;
  };
  const auto name = [](int domain) { return absl::StrCat(std::string(60, 'd'), domain); };
  for (int i = 0; i < kDomains; ++i) {
    ASSERT_TRUE(Create(name(i), "volume").ok());
    const auto add = [&](CatalogDomain& domain, Operations&) {
      for (const std::string& slice : slices) {
        domain.slices[slice] = domain.slices.at("volume");
        domain.slices[slice].set_name(slice);
      }
      return absl::OkStatus();
    };
    ASSERT_TRUE(catalog_->Change(name(i), add).ok());
  }
  refusing_.refuses = true;
  for (int i = 0; i < kDomains; ++i) {
    ASSERT_TRUE(catalog_->ChangeDesired(name(i), slices, frozen).ok()) << i;
  }
  Reload();
  for (int i = 0; i < kDomains; ++i) {
    const auto domain = catalog_->Find(name(i));
    for (const std::string& slice : slices) {
      ASSERT_EQ(domain->slices.at(slice).desired().mode(), DesiredState::FREEZE) << i << slice;
    }
    const std::string& kept = domain->slices.at("s0").desired().reason();
    EXPECT_EQ(kept.size(), 99u) << "whole characters of the first hundred bytes";
    EXPECT_EQ(reason.find(kept), 0u);
  }
}

TEST_F(CatalogTest, AnIntentFileOfAnEarlierVersionIsMadeLarger) {
  const std::string path = directory_.path() + "/earlier";
  std::string halves = EncodePairs("IPIN", {7, {{"a.b", "state"}}});
  halves.resize(2 * (64 << 10), '\0');
  ASSERT_TRUE(WriteFileAtomically(path, halves).ok());
  IntentFile file(path);
  ASSERT_TRUE(file.Open().ok());
  ASSERT_TRUE(file.Save({{"a.b", std::string(100000, 'x')}}).ok());
  IntentFile again(path);
  ASSERT_TRUE(again.Open().ok());
  EXPECT_EQ(again.intents().at("a.b").size(), 100000u);
}

TEST_F(CatalogTest, AnIntentFileOfADamagedSizeIsReadWhereItWasWritten) {
  const std::string path = directory_.path() + "/damaged";
  constexpr int64_t kSize = 4 << 20;
  for (const int64_t size : {int64_t{100 << 10}, int64_t{3 << 20}, kSize - 1, kSize + 2}) {
    std::filesystem::remove(path);
    {
      IntentFile file(path);
      ASSERT_TRUE(file.Open().ok());
      // The newest is where the first half begins, or the second.
      ASSERT_TRUE(file.Save({{"a.b", "first"}}).ok());
      ASSERT_TRUE(file.Save({{"a.b", "second"}}).ok());
      if (size > kSize / 2) ASSERT_TRUE(file.Save({{"a.b", std::string(2000, 'x')}}).ok());
    }
    std::filesystem::resize_file(path, static_cast<uintmax_t>(size));
    IntentFile damaged(path);
    ASSERT_TRUE(damaged.Open().ok());
    EXPECT_EQ(damaged.intents().at("a.b"),
              size > kSize / 2 ? std::string(2000, 'x') : std::string("second"));
    EXPECT_EQ(std::filesystem::file_size(path), static_cast<uintmax_t>(kSize)) << size;
    ASSERT_TRUE(damaged.Save({{"a.b", "later"}}).ok());
    IntentFile again(path);
    ASSERT_TRUE(again.Open().ok());
    EXPECT_EQ(again.intents().at("a.b"), "later") << size;
  }
}

// A change that the catalog took is newer than any intent.
TEST_F(CatalogTest, AnIntentDoesNotOutliveTheNextChange) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(Create("network", "peers").ok());
  refusing_.refuses = true;
  for (const auto& [domain, slice] : {std::pair("payments", "volume"), {"network", "peers"}}) {
    ASSERT_TRUE(catalog_->ChangeDesired(domain, {slice}, Frozen).ok());
  }
  refusing_.refuses = false;
  // As a promotion does that thaws.
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             auto& desired = *domain.slices.at("volume").mutable_desired();
                             EXPECT_EQ(desired.mode(), DesiredState::FREEZE);
                             desired.set_mode(DesiredState::RUN);
                             return absl::OkStatus();
                           })
                  .ok());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().mode(), DesiredState::RUN);
  EXPECT_EQ(catalog_->Find("network")->slices.at("peers").desired().mode(), DesiredState::FREEZE);
}

TEST_F(CatalogTest, AnIntentDoesNotOutliveItsDomain) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  refusing_.refuses = false;
  ASSERT_TRUE(catalog_->Remove("payments").ok());
  IntentFile file(directory_.path() + "/intents");
  ASSERT_TRUE(file.Open().ok());
  EXPECT_TRUE(file.intents().empty());
}

TEST_F(CatalogTest, AllIntentsOfADomainGoIntoTheCatalogInOneStep) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_
                  ->Change("payments",
                           [](CatalogDomain& domain, Operations&) {
                             domain.slices["fees"] = domain.slices.at("volume");
                             domain.slices["fees"].set_name("fees");
                             return absl::OkStatus();
                           })
                  .ok());
  const int64_t epoch = catalog_->Find("payments")->entry.epoch();
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"fees"}, Frozen).ok());
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  refusing_.refuses = false;
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->entry.epoch(), epoch + 1);
  Reload();
  for (const char* slice : {"fees", "volume"}) {
    EXPECT_EQ(catalog_->Find("payments")->slices.at(slice).desired().mode(), DesiredState::FREEZE);
  }
}

// What is wanted depends on what was wanted, so that none may look before another has written.
TEST_F(CatalogTest, DesiredStatesChangeOneAfterTheOther) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  ASSERT_TRUE(Create("payments", "volume").ok());
  const auto once_more = [](const icepie::catalog::v1::SliceEntry& slice) {
    DesiredState after = slice.desired();
    after.set_restarts(after.restarts() + 1);
    return after;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        EXPECT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, once_more).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().restarts(),
            kThreads * kRounds);
  // Also while they go to the intent file.
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, once_more).ok());
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().restarts(),
            kThreads * kRounds + 1);
}

TEST_F(CatalogTest, WhatIsSoAlreadyIsNotWritten) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  const int64_t epoch = catalog_->Find("payments")->entry.epoch();
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  EXPECT_EQ(catalog_->Find("payments")->entry.epoch(), epoch);
  const absl::Status gone = catalog_->ChangeDesired("payments", {"none"}, Frozen);
  EXPECT_TRUE(absl::IsAborted(gone));
  EXPECT_EQ(ErrorReason(gone), "ETAG_MISMATCH") << "a client is told no reason";
  EXPECT_TRUE(absl::IsAborted(catalog_->ChangeDesired("none", {"volume"}, Frozen)));
}

TEST_F(CatalogTest, AnIntentNeedsNoRoomOnTheDiskAndSurvivesATornWrite) {
  const std::string path = directory_.path() + "/intents";
  ASSERT_TRUE(Create("payments", "volume").ok());
  struct stat before {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  EXPECT_GE(before.st_blocks * 512, before.st_size) << "its room must be taken";
  refusing_.refuses = true;
  ASSERT_TRUE(catalog_->ChangeDesired("payments", {"volume"}, Frozen).ok());
  struct stat after {};
  ASSERT_EQ(::stat(path.c_str(), &after), 0);
  EXPECT_EQ(after.st_ino, before.st_ino);
  EXPECT_EQ(after.st_blocks, before.st_blocks);
  // The half that would have been written next is torn.
  std::fstream(path, std::ios::binary | std::ios::in | std::ios::out) << "torn";
  Reload();
  EXPECT_EQ(catalog_->Find("payments")->slices.at("volume").desired().mode(), DesiredState::FREEZE);
  IntentFile full(directory_.path() + "/full");
  ASSERT_TRUE(full.Open().ok());
  EXPECT_TRUE(absl::IsResourceExhausted(full.Save({{"a.b", std::string(3 << 20, 'x')}})));
}

TEST_F(CatalogTest, NumbersOperationsAndKeepsThem) {
  ASSERT_TRUE(Create("payments", "volume").ok());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(catalog_
                    ->Change("payments",
                             [&](CatalogDomain&, Operations& operations) {
                               Catalog::Operation operation;
                               operation.set_number(catalog_->NextOperationNumber());
                               operation.set_slice("volume");
                               operations.push_back(operation);
                               return absl::OkStatus();
                             })
                    .ok());
  }
  Reload();
  std::vector<int64_t> numbers;
  for (const auto& operation : catalog_->Operations()) numbers.push_back(operation.number());
  EXPECT_THAT(numbers, ElementsAre(2, 1));
  EXPECT_EQ(catalog_->NextOperationNumber(), 3);
}

}  // namespace
}  // namespace icepie::server
