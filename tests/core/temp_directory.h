// A directory of a test's own, removed with it.
#ifndef ICEPIE_TESTS_CORE_TEMP_DIRECTORY_H_
#define ICEPIE_TESTS_CORE_TEMP_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "core/base/check.h"
#include "gtest/gtest.h"

namespace icepie {

class TempDirectory {
 public:
  TempDirectory() : path_(testing::TempDir() + "icepie-core-XXXXXX") {
    ICEPIE_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TempDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace icepie

#endif  // ICEPIE_TESTS_CORE_TEMP_DIRECTORY_H_
