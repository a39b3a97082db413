// Runs command lines of icepie against a real core and its service.
#ifndef ICEPIE_TESTS_CLI_CORE_PROGRAM_FIXTURE_H_
#define ICEPIE_TESTS_CLI_CORE_PROGRAM_FIXTURE_H_

#include <memory>

#include "core/core.h"
#include "server/record/core_service.h"
#include "tests/cli/program_fixture.h"

namespace icepie::cli {

class CoreProgramFixture : public ProgramFixture {
 protected:
  void SetUp() override {
    ProgramFixture::SetUp();
    CoreOptions options;
    options.directory = directory_ + "/core";
    auto core = Core::Open(options);
    ASSERT_TRUE(core.ok()) << core.status();
    core_ = *std::move(core);
    service_ = std::make_unique<server::CoreService>(core_.get());
    Serve({service_.get()});
  }

  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    service_.reset();
    core_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::unique_ptr<Core> core_;
  std::unique_ptr<server::CoreService> service_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_TESTS_CLI_CORE_PROGRAM_FIXTURE_H_
