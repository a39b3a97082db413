// Directories that a damaged disk does not list: each command says which.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/doctor_checks.h"
#include "cli/domain_files.h"
#include "tests/core/broken_directory.h"
#include "tests/core/core_testing.h"
#include "tests/core/temp_directory.h"

namespace icepie::cli {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

std::vector<std::string> WhatDoctorSays(const std::string& data) {
  DoctorFindings findings;
  CheckDirectory(data, findings);
  CheckSnapshots(data, findings);
  CheckCore(data, findings);
  std::vector<std::string> said;
  for (const DoctorFinding& finding : findings) {
    if (finding.severity == DoctorFinding::Severity::kProblem) said.push_back(finding.what);
  }
  return said;
}

TEST(UnlistedDirectoryTest, DomainFilesAreNotTakenInPart) {
  const TempDirectory directory;
  for (const char* name : {"a.yaml", "b.yaml", "c.yaml"}) {
    std::ofstream(absl::StrCat(directory.path(), "/", name)) << "domain: shop";
  }
  EXPECT_EQ(DomainFiles(directory.path())->size(), 3u);
  for (int entries = 0; entries < 5; ++entries) {
    const BrokenDirectory broken(directory.path(), entries);
    EXPECT_THAT(std::string(DomainFiles(directory.path()).status().message()),
                HasSubstr(directory.path()));
  }
}

TEST(UnlistedDirectoryTest, DoctorNamesIt) {
  const TempDirectory directory;
  const std::string data = directory.path() + "/data";
  const std::string slice = data + "/domains/shop/snapshots/by_city";
  std::filesystem::create_directories(slice);
  std::ofstream(slice + "/g1.json") << "{}";
  OpenCore(data + "/core");
  EXPECT_THAT(WhatDoctorSays(data), testing::IsEmpty());
  for (const std::string& unlisted :
       {data, data + "/domains", data + "/domains/shop/snapshots", slice, data + "/core/rocksdb"}) {
    for (int entries = 0; entries < 3; ++entries) {
      const BrokenDirectory broken(unlisted, entries);
      EXPECT_THAT(WhatDoctorSays(data), Contains(AllOf(HasSubstr(unlisted + " cannot be listed"),
                                                       HasSubstr("Input/output error"))));
    }
  }
}

}  // namespace
}  // namespace icepie::cli
