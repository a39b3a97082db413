#include "core/base/thread_priority.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>

namespace icepie {
namespace {

// What the kernel grants this thread at a time, in ns.
uint64_t Slice() {
  char attributes[48] = {};
  uint64_t slice = 0;
  EXPECT_EQ(::syscall(SYS_sched_getattr, 0, attributes, sizeof attributes, 0), 0);
  std::memcpy(&slice, attributes + 24, sizeof slice);
  return slice;
}

bool KernelKnowsSlices() {
  utsname name = {};
  int major = 0, minor = 0;
  ::uname(&name);
  return std::sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 12));
}

TEST(ThreadPriorityTest, ShortSlicesAreInheritedAndCanBeGivenBack) {
  std::thread([] {
    ASSERT_TRUE(AskForShortSlices());
    std::thread([] {
      if (KernelKnowsSlices()) EXPECT_EQ(Slice(), 200'000u);
      ASSERT_TRUE(AskForNormalSlices());
      if (KernelKnowsSlices()) EXPECT_GT(Slice(), 200'000u);
    }).join();
  }).join();
}

TEST(ThreadPriorityTest, ABulkThreadGivesWay) {
  std::thread([] {
    const int before = ::getpriority(PRIO_PROCESS, 0);
    ASSERT_TRUE(BeNicer(3));
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), before + 3);
    ASSERT_TRUE(MakeBulk(ThisThread()));
    EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), 15);
  }).join();
}

TEST(ThreadPriorityTest, DiskClassesAreInherited) {
  const auto own_class = [] { return ::syscall(SYS_ioprio_get, 1, 0) >> 13; };
  std::thread([&] {
    ASSERT_TRUE(BeLastAtDisk());
    EXPECT_EQ(own_class(), 2);
    ASSERT_TRUE(UseIdleDiskOnly());
    std::thread([&] { EXPECT_EQ(own_class(), 3); }).join();
  }).join();
}

TEST(ThreadPriorityTest, WhatNobodyWaitsForIsLast) {
  std::thread([] {
    ASSERT_TRUE(BeLast());
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), 19);
    EXPECT_EQ(::syscall(SYS_ioprio_get, 1, 0) >> 13, 3);
  }).join();
}

TEST(ThreadPriorityTest, ProcessorTimeGrowsWithWork) {
  const absl::Duration before = ProcessorTime(ThisThread());
  volatile uint64_t sum = 0;
  for (uint64_t i = 0; i < 20'000'000; ++i) sum = sum + i;
  EXPECT_GT(ProcessorTime(ThisThread()) - before, absl::Milliseconds(1));
}

}  // namespace
}  // namespace icepie
