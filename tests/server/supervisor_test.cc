#include "server/supervisor.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/core/temp_directory.h"

namespace icepie::server {
namespace {

class SupervisorTest : public testing::Test {
 protected:
  static constexpr int kDomains = 200;

  static std::string Name(int domain) { return absl::StrCat("d", domain); }

  // A program that starts and never answers.
  WorkerSettings Settings() const {
    const std::string program = directory_.path() + "/worker.sh";
    std::ofstream(program) << "#!/bin/sh\nexec sleep 100\n";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    WorkerSettings settings;
    settings.program = program;
    settings.socket_directory = directory_.path();
    return settings;
  }

  static std::string StandbyState(const Supervisor& supervisor, int domain) {
    return supervisor.View(Name(domain)).standby.status.state();
  }

  TempDirectory directory_;
};

// Workers start one after the other, so that the machine is not swamped; but whom somebody waits
// for does not stand in that line.
TEST_F(SupervisorTest, WhoIsAskedStartsBeforeThoseThatNobodyWaitsFor) {
  Supervisor supervisor(Settings(), directory_.path() + "/domains", directory_.path());
  for (int i = 0; i < kDomains; ++i) {
    icepie::worker::v1::Assignment assignment;
    assignment.set_domain(Name(i));
    supervisor.SetDomain(assignment);
  }
  supervisor.WakeStandby(Name(kDomains - 1));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (StandbyState(supervisor, kDomains - 1) != "starting" && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(StandbyState(supervisor, kDomains - 1), "starting");
  EXPECT_TRUE(AwaitsFirstStart(supervisor.View(Name(kDomains - 2)).standby));
  supervisor.StopAll(absl::ZeroDuration());
}

}  // namespace
}  // namespace icepie::server
