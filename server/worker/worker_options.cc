#include "server/worker/worker_options.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "server/worker/ahead.h"
#include "server/worker/process_limits.h"

namespace icepie::server {
namespace {

// A later one holds: what a process that was started ahead is told comes behind its own.
absl::StatusOr<WorkerOptions> Parse(const std::vector<std::string>& arguments) {
  WorkerOptions options;
  CLI::App app("A worker of icepied: applies records to one domain's slices and answers queries.");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto* ahead = app.add_option("--ahead-fd", options.ahead_fd,
                                     "socket where it waits to be told all other arguments");
  app.add_option("--waits-in", options.waits_in, "control group that it is in meanwhile");
  app.add_option("--else-in", options.else_in, "control group that it is in without --cgroup");
  auto* role = app.add_option("--role", options.role)
                   ->check(CLI::IsMember({"live", "standby", "build", "planner"}));
  auto* domain = app.add_option("--domain", options.domain);
  auto* directory = app.add_option("--directory", options.directory);
  auto* socket = app.add_option("--socket", options.socket);
  auto* host_socket = app.add_option("--host-socket", options.host_socket);
  app.add_option("--core-directory", options.core_directory,
                 "reads sealed segments there; empty: gets all records from the daemon");
  app.add_option("--flight-record", options.flight_record,
                 "file that says what it was doing when it ended");
  app.add_option("--assignment", options.assignment,
                 "file with what it holds from its start; empty: it waits to be told");
  app.add_option("--parent-pid", options.parent_pid, "ends with this process; 0: with nobody");
  app.add_option("--cgroup", options.cgroup,
                 "directory of the control group to run in; empty: the daemon's");
  app.add_option("--life-fd", options.life_fd, "page of memory that says that it lives");
  app.add_option("--memory-bytes", options.memory_bytes)->check(CLI::PositiveNumber);
  app.add_option("--query-timeout-ms", options.query_timeout_ms)->check(CLI::PositiveNumber);
  app.add_option("--apply-timeout-ms", options.apply_timeout_ms)->check(CLI::PositiveNumber);
  app.add_option("--hang-timeout-ms", options.hang_timeout_ms,
                 "says that it hangs when it has not answered itself for so long")
      ->check(CLI::PositiveNumber);
  app.add_option("--snapshot-interval-ms", options.snapshot_interval_ms)
      ->check(CLI::NonNegativeNumber);
  app.add_option("--snapshots-kept", options.snapshots_kept)->check(CLI::PositiveNumber);
  app.add_option("--snapshots-kept-ms", options.snapshots_kept_ms)->check(CLI::NonNegativeNumber);
  app.add_option("--snapshot-bytes-max", options.snapshot_bytes_max)->check(CLI::NonNegativeNumber);
  app.add_option("--disk-bytes", options.disk_bytes, "of its directory; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--write-bytes-per-second", options.write_bytes_per_second,
                 "of snapshots; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--require-sandbox", options.require_sandbox,
               "does not start without both layers of the sandbox");
  app.add_option("--log-level", options.log_level);
  app.add_option("--log-file", options.log_file,
                 "the file of standard error, renamed to FILE.1 when it is long");
  std::string room;
  app.add_option("--room", room, "space for what it is told")->group("");
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    for (const auto* needed : {role, domain, directory, socket, host_socket}) {
      if (ahead->count() + needed->count() == 0) throw CLI::RequiredError(needed->get_name());
    }
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));  // NOLINT(concurrency-mt-unsafe): no threads yet
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat("icepie-worker: ", error.what()));
  }
  return options;
}

// In place of the arguments that the process was started with.
void Show(const std::vector<std::string>& arguments, int argc, char** argv) {
  if (argc < 2) return;
  char* const begin = argv[1];
  char* const end = argv[argc - 1] + std::strlen(argv[argc - 1]);
  const std::string text = absl::StrJoin(arguments, std::string(1, '\0'));
  std::memset(begin, 0, end - begin);
  text.copy(begin, end - begin);
}

}  // namespace

absl::StatusOr<WorkerOptions> ParseWorkerOptions(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  ICEPIE_ASSIGN_OR_RETURN(WorkerOptions options, Parse(arguments));
  if (options.ahead_fd < 0) return options;
  ICEPIE_RETURN_IF_ERROR(DieWithParent(options.parent_pid));
  ICEPIE_RETURN_IF_ERROR(LeaveNoCore());  // also while it gets warm
  JoinGroup(options.waits_in);
  ICEPIE_ASSIGN_OR_RETURN(const std::vector<std::string> told, AwaitStart(options.ahead_fd));
  Show(told, argc, argv);
  arguments.insert(arguments.end(), told.begin(), told.end());
  return Parse(arguments);
}

}  // namespace icepie::server
