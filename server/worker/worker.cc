#include "server/worker/worker.h"

#include <fcntl.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/write_pacer.h"
#include "server/worker/exit_codes.h"
#include "server/worker/idle_watch.h"
#include "server/worker/life.h"
#include "server/worker/log_sink.h"
#include "server/worker/process_limits.h"
#include "server/worker/sandbox.h"
#include "server/worker/tail_client.h"
#include "server/worker/worker_service.h"
#include "slices/apply/flight_record.h"
#include "slices/duckdb/freed_memory.h"
#include "slices/role/build_engine.h"
#include "slices/role/engine.h"
#include "slices/role/live_engine.h"
#include "slices/role/standby_engine.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

// Threads inherit the mask, so the signals wait for WaitForSignal.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void StartLogging(const WorkerOptions& options) {
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      absl::StrCat(options.domain, "/", options.role),
      std::make_shared<LogSink>(options.log_file, LogSink::kFileBytesMax)));
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  spdlog::flush_on(spdlog::level::info);
}

// As the daemon says, so that all workers together keep to it; while it does not, as if this one
// were alone.
slices::WritePace MakePace(const WorkerOptions& options, TailClient& host) {
  if (options.write_bytes_per_second <= 0) return nullptr;
  return [&host, own = std::make_shared<WritePacer>(options.write_bytes_per_second)](
             int64_t bytes) -> absl::Duration {
    const auto wait = host.PaceWrite(bytes);
    return wait.ok() ? *wait : own->Next(0, bytes, SteadyNow());
  };
}

slices::EngineOptions MakeEngineOptions(const WorkerOptions& options, TailClient& host) {
  slices::EngineOptions engine;
  engine.domain = options.domain;
  engine.directory = options.directory;
  engine.memory_bytes = options.memory_bytes;
  engine.query_timeout = absl::Milliseconds(options.query_timeout_ms);
  engine.apply_timeout = absl::Milliseconds(options.apply_timeout_ms);
  engine.heartbeat_timeout = absl::Milliseconds(options.hang_timeout_ms);
  engine.snapshot_interval = absl::Milliseconds(options.snapshot_interval_ms);
  engine.snapshots = {options.snapshots_kept, absl::Milliseconds(options.snapshots_kept_ms),
                      options.snapshot_bytes_max};
  engine.disk_bytes = options.disk_bytes;
  engine.write_bytes_per_second = options.write_bytes_per_second;
  engine.write_pace = MakePace(options, host);
  engine.on_fatal = [](const std::string& why) {
    slices::BlameThisThread();
    spdlog::critical("ending: {}", why);
    spdlog::shutdown();
    ::_exit(kExitBroken);
  };
  return engine;
}

// Before anything of DuckDB or gRPC runs. Returns the level reached.
absl::StatusOr<std::string> EnterSandbox(const WorkerOptions& options, bool has_group) {
  SandboxPaths paths;
  paths.written = {options.directory, std::filesystem::path(options.socket).parent_path()};
  paths.read = SandboxSystemPaths();
  if (!options.core_directory.empty()) {
    paths.read.push_back(absl::StrCat(options.core_directory, "/segments"));
  }
  std::string level;
  ICEPIE_RETURN_IF_ERROR(EnterSandbox(paths, options.require_sandbox, &level));
  if (has_group) absl::StrAppend(&level, ", own control group");
  spdlog::info("sandbox: {}", level);
  return level;
}

// Before the sandbox, from which it cannot be seen. nullopt: none is given.
absl::StatusOr<std::optional<icepie::worker::v1::Assignment>> ReadAssignment(
    const WorkerOptions& options) {
  if (options.assignment.empty()) return std::nullopt;
  ICEPIE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(options.assignment));
  icepie::worker::v1::Assignment assignment;
  if (!assignment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError(absl::StrCat(options.assignment, " is no assignment"));
  }
  return assignment;
}

std::atomic<bool> is_stopping{false};

// A worker cannot connect anew, and without the daemon it does not learn of records: it saves and
// ends, and the daemon starts another.
absl::Status EndWithHost(int host) {
  const int fd = ::fcntl(host, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return ErrnoError(errno, "watching the connection with the daemon");
  std::thread([fd] {
    pollfd connection = {fd, 0, 0};  // its end is always told of
    while (::poll(&connection, 1, -1) <= 0) {
    }
    if (is_stopping) return;  // it has ended it itself
    spdlog::error("the connection with the daemon has ended");
    ::kill(::getpid(), SIGTERM);
  }).detach();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<slices::Engine>> StartEngine(const WorkerOptions& options,
                                                            TailClient& feed) {
  const slices::EngineOptions engine = MakeEngineOptions(options, feed);
  if (options.role == "standby") return slices::StandbyEngine::Start(engine);
  // A planner is never given a job: it only plans.
  const bool builds = options.role == "build" || options.role == "planner";
  if (builds) return slices::BuildEngine::Start(engine, feed);
  return slices::LiveEngine::Start(engine, feed);
}

absl::StatusOr<std::unique_ptr<grpc::Server>> StartServer(const WorkerOptions& options,
                                                          WorkerService& service) {
  ::unlink(options.socket.c_str());
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("unix:", options.socket),
                           grpc::InsecureServerCredentials());
  builder.SetMaxReceiveMessageSize(64 << 20);  // an assignment carries domain files
  builder.RegisterService(&service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot serve on ", options.socket,
                                               "; the path must be shorter than 108 bytes"));
  }
  return server;
}

absl::Duration ProcessorTimeOfProcess() {
  timespec used = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return absl::DurationFromTimespec(used);
}

int WaitForSignal(const sigset_t& signals) {
  const timespec interval = absl::ToTimespec(IdleWatch::kInterval);
  IdleWatch watch;
  while (true) {
    const int signal = ::sigtimedwait(&signals, nullptr, &interval);
    if (signal > 0) return signal;
    if (watch.CameToRest(ProcessorTimeOfProcess())) slices::ReturnFreedMemory();
  }
}

// What it holds is in memory only, once its engine has shut down.
absl::Status UnsavedStates(const slices::Engine& engine) {
  std::string unsaved;
  for (const slices::SliceReport& slice : engine.Report().slices) {
    if (!slice.not_saved) continue;
    absl::StrAppend(&unsaved, unsaved.empty() ? "" : "; ", slice.info.slice, ": ",
                    slice.not_saved->message);
  }
  if (unsaved.empty()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kAborted, absl::StrCat("not saved: ", unsaved),
                   "STATES_NOT_SAVED");
}

}  // namespace

absl::Status RunWorker(const WorkerOptions& options) {
  const sigset_t signals = BlockStopSignals();
  ICEPIE_RETURN_IF_ERROR(ApplyProcessLimits(options));
  StartLogging(options);
  const bool has_group = JoinGroup(options.cgroup);
  if (!has_group) JoinGroup(options.else_in);  // no longer where it has waited
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(options.directory));
  if (!options.flight_record.empty()) {
    ICEPIE_RETURN_IF_ERROR(slices::StartFlightRecord(options.flight_record));
  }
  ICEPIE_ASSIGN_OR_RETURN(const auto assignment, ReadAssignment(options));
  ICEPIE_ASSIGN_OR_RETURN(const int host, ConnectToHost(options.host_socket));
  ICEPIE_ASSIGN_OR_RETURN(const std::string sandbox, EnterSandbox(options, has_group));
  ICEPIE_RETURN_IF_ERROR(EndWithHost(host));
  if (options.life_fd >= 0) ICEPIE_RETURN_IF_ERROR(HoldLife(options.life_fd));
  TailClient feed(host, options.core_directory);
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<slices::Engine> engine, StartEngine(options, feed));
  WorkerService service(*engine, options.role, sandbox);
  if (assignment) service.TakeOn(*assignment);  // its state is opened while the server starts
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<grpc::Server> server,
                          StartServer(options, service));
  spdlog::info("serving {} as process {}", options.socket, ::getpid());
  const int signal = WaitForSignal(signals);
  is_stopping = true;
  spdlog::info("signal {}: saving and stopping", signal);
  engine->Shutdown();
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  ::unlink(options.socket.c_str());
  return UnsavedStates(*engine);
}

}  // namespace icepie::server
