// test: runs the tests of domain files through the engine, without a daemon
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/domain_files.h"
#include "cli/format.h"
#include "cli/table.h"
#include "core/base/status.h"
#include "slices/role/domain_test_run.h"
#include "spdlog/spdlog.h"

namespace icepie::cli {
namespace {

using slices::TestFailure;
using slices::TestResult;

struct TestArguments {
  std::string path;
  std::string overlay;
  std::string only;
};

struct Totals {
  int64_t passed = 0;
  int64_t failed = 0;
};

// A directory that goes with its owner.
class ScratchDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<ScratchDirectory>> Make() {
    std::error_code error;
    const std::filesystem::path temporary = std::filesystem::temp_directory_path(error);
    std::string pattern = (temporary / "icepie-test-XXXXXX").string();
    if (error || mkdtemp(pattern.data()) == nullptr) {
      return absl::UnavailableError(
          absl::StrCat("cannot make a directory ", pattern, "; TMPDIR names another place"));
    }
    return std::make_unique<ScratchDirectory>(pattern);
  }
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

void PrintFailure(Context& context, const std::string& file, const TestFailure& failure) {
  context.out() << "    " << file << ":" << failure.place.line << ":" << failure.place.column
                << ": " << (failure.run.empty() ? "" : absl::StrCat(failure.run, ": "))
                << (failure.slice.empty() ? "" : absl::StrCat(failure.slice, " "))
                << Printable(failure.what) << '\n';
  for (const std::string& row : failure.missing) {
    context.out() << "      - " << Printable(row) << '\n';
  }
  for (const std::string& row : failure.unexpected) {
    context.out() << "      + " << Printable(row) << '\n';
  }
  for (const std::string& difference : failure.differences) {
    context.out() << "        " << Printable(difference) << '\n';
  }
}

void PrintResult(Context& context, const std::string& file, const TestResult& result) {
  if (result.failures.empty()) {
    context.out() << "  ok    " << Printable(result.name) << "  " << FormatElapsed(result.took)
                  << '\n';
    return;
  }
  context.out() << "  " << context.terminal.Red("FAIL") << "  " << Printable(result.name) << '\n';
  for (const TestFailure& failure : result.failures) PrintFailure(context, file, failure);
}

nlohmann::ordered_json ResultToJson(const TestResult& result) {
  nlohmann::ordered_json failures = nlohmann::ordered_json::array();
  for (const TestFailure& failure : result.failures) {
    failures.push_back({{"run", failure.run},
                        {"slice", failure.slice},
                        {"line", failure.place.line},
                        {"column", failure.place.column},
                        {"message", failure.what},
                        {"missing", failure.missing},
                        {"unexpected", failure.unexpected},
                        {"differences", failure.differences}});
  }
  return {{"name", result.name},
          {"line", result.place.line},
          {"passed", result.failures.empty()},
          {"milliseconds", absl::ToInt64Milliseconds(result.took)},
          {"failures", failures}};
}

// Runs one file's tests; its part of the answer as JSON.
absl::StatusOr<nlohmann::ordered_json> RunFile(Context& context, const TestArguments& arguments,
                                               const std::string& path,
                                               const std::string& directory, Totals& totals) {
  ICEPIE_ASSIGN_OR_RETURN(const WholeDomainFile file, ReadDomainFile(path, arguments.overlay));
  slices::TestRunOptions options;
  options.file_name = file.name;
  options.directory = directory;
  options.timeout = context.options.timeout;
  options.on_fatal = [](const std::string& why) {
    const std::string line = absl::StrCat("icepie: the engine broke: ", why, "\n");
    (void)!::write(STDERR_FILENO, line.data(), line.size());
    ::_exit(kExitError);
  };
  if (!context.options.json) context.out() << context.terminal.Bold(file.name) << '\n';
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  const absl::Status ran = slices::RunDomainTests(
      file.text, options,
      [&](const std::string& name) { return arguments.only.empty() || arguments.only == name; },
      [&](TestResult result) {
        result.place = file.OwnPlace(result.place);
        for (TestFailure& failure : result.failures) failure.place = file.OwnPlace(failure.place);
        ++(result.failures.empty() ? totals.passed : totals.failed);
        if (context.options.json) {
          results.push_back(ResultToJson(result));
        } else {
          PrintResult(context, file.name, result);
          context.out().flush();
        }
      });
  if (!ran.ok()) return file.InOwnFiles(ran);
  return nlohmann::ordered_json{{"file", file.name}, {"tests", results}};
}

absl::StatusOr<int> Test(Context& context, const TestArguments& arguments) {
  // What the engine logs is about itself; a test's answer is its own.
  spdlog::set_level(spdlog::level::off);
  ICEPIE_ASSIGN_OR_RETURN(const auto paths, DomainFiles(arguments.path));
  ICEPIE_RETURN_IF_ERROR(CheckOverlay(paths, arguments.overlay));
  ICEPIE_ASSIGN_OR_RETURN(const auto scratch, ScratchDirectory::Make());
  Totals totals;
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const std::string& path : paths) {
    ICEPIE_ASSIGN_OR_RETURN(auto file, RunFile(context, arguments, path, scratch->path(), totals));
    files.push_back(std::move(file));
  }
  if (!arguments.only.empty() && totals.passed + totals.failed == 0) {
    return absl::NotFoundError(
        absl::StrCat("no test has the name \"", arguments.only, "\" in ", arguments.path));
  }
  if (context.options.json) {
    const nlohmann::ordered_json answer = {
        {"files", files}, {"passed", totals.passed}, {"failed", totals.failed}};
    context.out() << answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    context.out() << FormatCounted(totals.passed + totals.failed, "test") << ": "
                  << FormatCount(totals.passed) << " passed, " << FormatCount(totals.failed)
                  << " failed\n";
  }
  return totals.failed == 0 ? kExitDone : kExitError;
}

}  // namespace

void AddTestCommand(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<TestArguments>();
  CLI::App* test = app.add_subcommand(
      "test", "run the tests of domain files here, without a daemon; exit 1 when one fails");
  test->add_option("-f,--file", arguments->path, "a domain's file, or a directory of them")
      ->required();
  test->add_option("--overlay", arguments->overlay,
                   "a file with other limits, refreshes and snapshots, for one environment");
  test->add_option("--only", arguments->only, "the test with this name");
  test->callback([&context, arguments] {
    context.action = [&context, arguments] { return Test(context, *arguments); };
  });
}

}  // namespace icepie::cli
