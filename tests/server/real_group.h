// A control group of a test's own in the kernel's hierarchy of version 2, where this user may make
// one and move processes there.
#ifndef ICEPIE_TESTS_SERVER_REAL_GROUP_H_
#define ICEPIE_TESTS_SERVER_REAL_GROUP_H_

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"

namespace icepie::server {

class RealGroup {
 public:
  RealGroup() : own_(Of(::getpid())) {
    name_ = absl::StrCat(own_ == "/" ? "" : own_, "/icepie-test-", ::getpid());
    for (const char* mount : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (!std::filesystem::exists(absl::StrCat(mount, own_, "/cgroup.procs"))) continue;
      std::error_code error;
      path_ = mount + name_;
      const std::string outside = absl::StrCat(mount, own_, "/cgroup.procs");
      usable_ = std::filesystem::create_directory(path_, error) && Write(path_ + "/cgroup.procs") &&
                Write(outside);
      return;
    }
  }
  // What is still in it ends it later than the test.
  ~RealGroup() {
    std::error_code error;
    for (const auto& group : std::filesystem::directory_iterator(path_, error)) {
      if (!group.is_directory(error)) continue;
      for (const auto& role : std::filesystem::directory_iterator(group.path(), error)) {
        if (role.is_directory(error)) ::rmdir(role.path().c_str());
      }
      ::rmdir(group.path().c_str());
    }
    ::rmdir(path_.c_str());
  }
  RealGroup(const RealGroup&) = delete;
  RealGroup& operator=(const RealGroup&) = delete;

  bool usable() const { return usable_; }
  const std::string& path() const { return path_; }
  // As /proc/PID/cgroup has it.
  const std::string& name() const { return name_; }

  static std::string Of(int64_t pid) {
    const auto lines = ReadFile(absl::StrCat("/proc/", pid, "/cgroup"));
    if (!lines.ok()) return "";
    for (absl::string_view line : absl::StrSplit(*lines, '\n')) {
      if (absl::ConsumePrefix(&line, "0::")) return std::string(line);
    }
    return "";
  }

 private:
  static bool Write(const std::string& path) {
    std::ofstream file(path);
    file << ::getpid() << std::flush;
    return file.good();
  }

  std::string own_;
  std::string name_;
  std::string path_;
  bool usable_ = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_TESTS_SERVER_REAL_GROUP_H_
