#include "server/worker/worker_options.h"

#include <cstdlib>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"

namespace icepie::server {

absl::StatusOr<WorkerOptions> ParseWorkerOptions(int argc, char** argv) {
  WorkerOptions options;
  CLI::App app("A worker of icepied: applies records to one domain's slices and answers queries.");
  app.add_option("--role", options.role)
      ->required()
      ->check(CLI::IsMember({"live", "standby", "build", "planner"}));
  app.add_option("--domain", options.domain)->required();
  app.add_option("--directory", options.directory)->required();
  app.add_option("--socket", options.socket)->required();
  app.add_option("--host-socket", options.host_socket)->required();
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    std::exit(app.exit(help));  // NOLINT(concurrency-mt-unsafe): no threads yet
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat("icepie-worker: ", error.what()));
  }
  return options;
}

}  // namespace icepie::server
