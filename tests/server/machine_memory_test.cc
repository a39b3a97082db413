#include "server/base/machine_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "core/base/file.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

class MachineMemoryTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::string file = directory_.path() + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    ASSERT_TRUE(WriteFileAtomically(file, text).ok());
  }
  std::optional<int64_t> Limit() const { return CgroupMemoryLimit(directory_.path()); }

  TempDirectory directory_;
};

TEST_F(MachineMemoryTest, WithoutCgroupsThereIsNoLimit) { EXPECT_EQ(Limit(), std::nullopt); }

TEST_F(MachineMemoryTest, TheSmallestLimitOnTheWayUpCounts) {
  Write("/proc/self/cgroup", "0::/shop.slice/icepied.service\n");
  Write("/sys/fs/cgroup/shop.slice/icepied.service/memory.max", "max\n");
  EXPECT_EQ(Limit(), std::nullopt);
  Write("/sys/fs/cgroup/shop.slice/memory.max", "2147483648\n");
  EXPECT_EQ(Limit(), int64_t{2} << 30);
  Write("/sys/fs/cgroup/shop.slice/icepied.service/memory.max", "1073741824\n");
  EXPECT_EQ(Limit(), int64_t{1} << 30);
  Write("/sys/fs/cgroup/other.slice/memory.max", "4096\n");
  EXPECT_EQ(Limit(), int64_t{1} << 30);
}

TEST_F(MachineMemoryTest, AContainersOwnCgroupIsItsRoot) {
  Write("/sys/fs/cgroup/memory.max", "536870912\n");
  for (const char* path : {"/", "/docker/4711", "/../outside"}) {
    Write("/proc/self/cgroup", std::string("0::") + path + "\n");
    EXPECT_EQ(Limit(), int64_t{512} << 20) << path;
  }
}

TEST_F(MachineMemoryTest, VersionOneHasAMountForMemory) {
  Write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/47\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/docker/47/memory.limit_in_bytes", "268435456\n");
  EXPECT_EQ(Limit(), int64_t{256} << 20);
}

}  // namespace
}  // namespace icepie::server
