#include "server/daemon.h"

#include <google/protobuf/struct.pb.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "core/base/thread_priority.h"
#include "core/core.h"
#include "server/admin/admin_log.h"
#include "server/admin/admin_service.h"
#include "server/admin/event_log.h"
#include "server/admin/event_observer.h"
#include "server/admin/operations_service.h"
#include "server/base/machine_memory.h"
#include "server/domain/builds.h"
#include "server/domain/catalog.h"
#include "server/domain/domain_limits.h"
#include "server/domain/domain_manager.h"
#include "server/domain/snapshot_files.h"
#include "server/front/call_limits.h"
#include "server/front/connection_gate.h"
#include "server/http/http_server.h"
#include "server/query/slices_service.h"
#include "server/query/worker_query_router.h"
#include "server/record/core_service.h"
#include "server/record/host_service.h"
#include "server/record/record_tracer.h"
#include "server/supervisor/domain_groups.h"
#include "server/supervisor/hibernation.h"
#include "server/supervisor/run_directory.h"
#include "server/supervisor/supervisor.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

using icepie::config::v1::Settings;

constexpr char kSliceHealth[] = "slices/";  // and the slice's name
constexpr absl::Duration kHealthInterval = absl::Seconds(1);
// The core and not gRPC refuses a batch that is too large, with a reason.
constexpr int kReceiveBytesMax = 8 << 20;
constexpr int kStreamsMax = 128;  // an open call costs 12 KiB, and connections_max may have as many
constexpr int kHandshakeTimeoutMs = 20 * 1000;

absl::StatusOr<std::string> WorkerProgram(const Settings& settings) {
  std::string program = settings.workers().program();
  if (program.empty()) {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    program = (self.parent_path() / "icepie-worker").string();
  }
  if (access(program.c_str(), X_OK) == 0) return program;
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the worker program ", program,
                                " is not there or not executable; set workers.program"),
                   "WORKER_PROGRAM_MISSING", {{"path", program}});
}

// What others' verifiers read over HTTP. Never waits for a signature: HTTP has few threads.
TreeFiles TreeOf(Core& core) {
  TreeFiles tree;
  tree.checkpoint = [&core]() -> absl::StatusOr<std::string> {
    ICEPIE_ASSIGN_OR_RETURN(const SignedCheckpoint last,
                            core.proofs()->GetCheckpoint(0, absl::ZeroDuration()));
    return last.note;
  };
  tree.tile = [&core](int level, int64_t tile, int width) {
    return core.proofs()->ReadTile(level, tile, width);
  };
  tree.entries = [&core](int64_t tile, int width) {
    return core.proofs()->ReadEntries(tile, width);
  };
  return tree;
}

CoreOptions MakeCoreOptions(const Settings& settings, const std::string& data) {
  CoreOptions options;
  options.directory = data + "/core";
  options.record_bytes_max = settings.core().record_bytes_max();
  options.batch_bytes_max = settings.core().batch_bytes_max();
  options.batch_records_max = settings.core().batch_records_max();
  options.queue_bytes_max = settings.core().queue_bytes_max();
  options.free_bytes_min = settings.core().free_bytes_min();
  options.ballast_bytes = settings.core().ballast_bytes();
  options.origin = settings.core().origin();
  options.sealing.segment_bytes = settings.core().segment_bytes();
  options.sealing.hot_bytes_min = settings.core().hot_bytes_min();
  options.sealing.age_min = absl::Milliseconds(settings.core().hot_age_min_ms());
  options.scrub.interval = absl::Milliseconds(settings.core().scrub_interval_ms());
  options.scrub.bytes_per_second = settings.core().scrub_bytes_per_second();
  options.scrub.first_delay = std::min(options.scrub.first_delay, options.scrub.interval);
  return options;
}

ReaderLimits MakeReaderLimits(const Settings& settings) {
  ReaderLimits limits;
  limits.stall.stall_timeout = std::chrono::milliseconds(settings.readers().stall_timeout_ms());
  limits.stall.cut_timeout = limits.stall.stall_timeout;
  limits.message_bytes_max = settings.readers().message_bytes_max();
  limits.shared_bytes_max = settings.readers().shared_bytes_max();
  return limits;
}

WorkerSettings MakeWorkerSettings(const Settings& settings, const std::string& program,
                                  const std::string& data, const std::string& run_directory) {
  const auto& workers = settings.workers();
  WorkerSettings out;
  out.program = program;
  out.socket_directory = run_directory;
  out.host_socket = run_directory + "/host.sock";
  out.core_directory = data + "/core";
  out.suspended_directory = data + "/suspended";
  out.memory_bytes = workers.memory_bytes();
  out.query_timeout_ms = workers.query_timeout_ms();
  out.apply_timeout_ms = workers.apply_timeout_ms();
  out.snapshot_interval_ms = workers.snapshot_interval_ms();
  out.snapshots_kept = workers.snapshots_kept();
  out.snapshots_kept_ms = workers.snapshots_kept_ms();
  out.snapshot_bytes_max = workers.snapshot_bytes_max();
  out.disk_bytes = DiskBytesByDefault(workers.disk_bytes(), data);
  out.idle_after_ms = workers.idle_after_ms();
  out.write_bytes_per_second = workers.write_bytes_per_second();
  out.require_sandbox = workers.require_sandbox();
  out.standby_on_demand = workers.standby_on_demand();
  out.log_level = settings.logging().level();
  out.restart.first_backoff = absl::Milliseconds(workers.restart_backoff_ms());
  out.restart.suspension = absl::Milliseconds(workers.suspension_ms());
  out.heartbeat_interval = absl::Milliseconds(workers.heartbeat_interval_ms());
  out.heartbeat_timeout = absl::Milliseconds(workers.heartbeat_timeout_ms());
  return out;
}

// "127.0.0.1:0" listening on 40123 → "127.0.0.1:40123"
std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

// Room for every connection that is allowed, for the core's files and, if it may be had, for many
// domains' workers.
void RaiseFileLimit(const icepie::config::v1::Listen& listen) {
  constexpr rlim_t kOwnFiles = 2048;
  constexpr rlim_t kFilesOfWorkers = 16384;  // eight for each of two thousand
  const rlim_t wanted = kOwnFiles + static_cast<rlim_t>(listen.grpc_connections_max()) +
                        static_cast<rlim_t>(listen.http_connections_max());
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted + kFilesOfWorkers) return;
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(wanted + kFilesOfWorkers, limit.rlim_max));
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted) return;
  spdlog::warn("only {} files may be open (ulimit -n); {} are wanted for all connections allowed",
               limit.rlim_cur, wanted);
}

void LimitServer(const icepie::config::v1::Listen& listen, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("icepied");
  quota.Resize(static_cast<size_t>(listen.grpc_memory_bytes()));
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kReceiveBytesMax);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsMax);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(listen.grpc_keepalive_ms()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(listen.grpc_keepalive_timeout_ms()));
  // A connection that does not even begin to speak HTTP/2.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10 * 1000);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 * 1024);
}

ConnectionGate::Limits GateLimits(const icepie::config::v1::Listen& listen) {
  return {static_cast<int>(listen.grpc_connections_max()),
          absl::Milliseconds(listen.grpc_keepalive_ms()),
          absl::Milliseconds(listen.grpc_keepalive_timeout_ms())};
}

void LimitCalls(ConnectionGate& gate, grpc::ServerBuilder& builder) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<CallLimits>(
      CallLimits::Limits{},
      [&gate](const std::string& host) {
        gate.CutOffResetFloods();
        if (!host.empty()) gate.LetWait(host);
      },
      [&gate](const grpc::ServerContextBase& context) {
        if (gate.WantsCalls()) gate.OnCall(context.peer());
      }));
  builder.experimental().SetInterceptorCreators(std::move(factories));
}

std::shared_ptr<DomainGroups> EnterGroups() {
  auto groups = DomainGroups::Enter();
  if (!groups.ok()) {
    spdlog::info("domains have no control groups: {}", std::string(groups.status().message()));
    return nullptr;
  }
  spdlog::info("each domain has a control group of its own ({})", (*groups)->controllers());
  return *std::move(groups);
}

// Of the domains that may rest.
int AwakeMax(const Settings& settings) {
  const int64_t given = settings.workers().awake_domains_max();
  return given > 0 ? static_cast<int>(given) : AwakeMaxByMemory(MemoryBytes());
}

}  // namespace

// Members are in the order of their making; each uses only those before it.
class Daemon::Parts {
 public:
  absl::Status Start(const Settings& settings, const DaemonStart& how);
  void Stop();
  const ServerIdentity& identity() const { return identity_; }

 private:
  absl::Status OpenData(const Settings& settings, const DaemonStart& how);
  absl::Status RecordAcceptedLoss();
  void SetAsideLostSnapshots();
  absl::Status StartHost(const WorkerSettings& workers);
  void StartDomains(const WorkerSettings& workers, const Settings& settings);
  absl::Status StartGrpc(const Settings& settings);
  absl::Status StartHttp(const icepie::config::v1::Listen& listen);
  absl::Status Announce();
  void SetHealth(const std::string& name, bool serves);
  void ReportHealth();
  void Drain();
  void StopWorkers();
  void NoteDaemon(const std::string& state);
  QueryRouterSources RouterSources();
  std::string AnnouncementPath() const { return identity_.data_directory + "/icepied.json"; }

  ServerIdentity identity_;
  std::unique_ptr<Core> core_;
  std::string run_directory_;
  std::unique_ptr<HostService> host_service_;
  std::unique_ptr<grpc::Server> host_server_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<SliceMemory> memory_;
  std::unique_ptr<StreamEnds> ends_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<EventObserver> observer_;  // made last; the supervisor's thread calls it
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Builds> builds_;
  std::unique_ptr<DomainManager> manager_;
  std::unique_ptr<Hibernation> hibernation_;
  std::unique_ptr<WorkerQueryRouter> router_;
  std::unique_ptr<RecordTracer> tracer_;
  std::unique_ptr<AdminLog> admin_log_;
  std::unique_ptr<RequestReplay> replay_;
  std::unique_ptr<CoreService> core_service_;
  std::unique_ptr<SlicesService> slices_service_;
  std::unique_ptr<SliceControl> control_;
  std::unique_ptr<SliceRemedies> remedies_;
  std::unique_ptr<QuarantineCalls> quarantine_;
  std::unique_ptr<LogTails> logs_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<OperationsService> operations_service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ConnectionGate> gate_;
  std::unique_ptr<HttpServer> http_server_;
  std::map<std::string, bool> health_;  // the housekeeping loop's own
  std::unique_ptr<EventLoop> housekeeping_;
  absl::Duration drain_timeout_;
  absl::Duration stop_timeout_;
  bool announced_ = false;
  bool stopped_ = false;
};

// At every start and before anything is appended, so that a start that ends early is made up for by
// the next one. While the core takes no appends nothing can be mixed, and they are what there is.
void Daemon::Parts::SetAsideLostSnapshots() {
  if (!core_->ReadOnlyCause().empty()) return;
  const int64_t head = core_->head_position();
  const int64_t count = SetAsideSnapshotsBeyond(identity_.data_directory + "/domains", head);
  if (count == 0) return;
  spdlog::warn(
      "{} snapshots hold records beyond the core's {}, which are lost: set aside in each domain's "
      "beyond_core; their slices are built again",
      count, head);
}

// Before anything else is written: whoever reads the log later must see where it is torn.
absl::Status Daemon::Parts::RecordAcceptedLoss() {
  const std::string loss = core_->AcceptedLoss();
  if (loss.empty()) return absl::OkStatus();
  spdlog::warn("core: {}", loss);
  if (!core_->ReadOnlyCause().empty()) return absl::OkStatus();  // a later start can
  google::protobuf::Struct request;
  (*request.mutable_fields())["loss"].set_string_value(loss);
  const std::string action = "AcceptCoreLoss";
  const std::string actor = "icepied";
  ICEPIE_RETURN_IF_ERROR(
      AdminLog(*core_).EndAtOnce({action, actor, request, ""}, absl::OkStatus()));
  return core_->ForgetAcceptedLoss();
}

absl::Status Daemon::Parts::OpenData(const Settings& settings, const DaemonStart& how) {
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(settings.data_directory()));
  std::error_code error;
  const auto data = std::filesystem::canonical(settings.data_directory(), error);
  if (error) {
    return absl::InternalError(
        absl::StrCat("data directory ", settings.data_directory(), ": ", error.message()));
  }
  identity_.data_directory = data.string();
  CoreOptions options = MakeCoreOptions(settings, data.string());
  options.accept_loss_position = how.accept_core_loss;
  options.expected_checkpoint = how.expected_checkpoint;
  ICEPIE_ASSIGN_OR_RETURN(core_, Core::Open(options));
  SetAsideLostSnapshots();
  ICEPIE_RETURN_IF_ERROR(RecordAcceptedLoss());
  // From here on the directory is ours.
  ICEPIE_ASSIGN_OR_RETURN(run_directory_, PrepareRunDirectory(data.string()));
  unlink(AnnouncementPath().c_str());
  const std::string cause = core_->ReadOnlyCause();
  if (!cause.empty()) spdlog::error("the core takes no appends: {}", cause);
  catalog_ = std::make_unique<Catalog>(*core_, data.string() + "/intents/reserved",
                                       data.string() + "/catalog");
  const absl::Status loaded = catalog_->Load();
  if (!loaded.ok()) spdlog::error("the catalog could not be read: {}", loaded.ToString());
  return absl::OkStatus();
}

absl::Status Daemon::Parts::StartHost(const WorkerSettings& workers) {
  host_service_ = std::make_unique<HostService>(core_.get(), workers.write_bytes_per_second);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("unix:", workers.host_socket),
                           grpc::InsecureServerCredentials());
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(host_service_.get());
  host_server_ = builder.BuildAndStart();
  if (host_server_) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot listen on ", workers.host_socket));
}

QueryRouterSources Daemon::Parts::RouterSources() {
  QueryRouterSources sources;
  sources.domain = [this](const std::string& name) { return catalog_->Find(name); };
  sources.domain_names = [this] { return catalog_->DomainNames(); };
  sources.workers = [this](const std::string& name) { return supervisor_->View(name); };
  sources.head_position = [this] { return core_->head_position(); };
  sources.has_states = [this](const CatalogDomain& domain) { return manager_->HasStates(domain); };
  sources.has_beyond = [this](const std::string& stream, int64_t position) {
    return ends_->HasBeyond(stream, position);
  };
  sources.beyond_for = [this](const std::string& stream, int64_t position) {
    return ends_->BeyondFor(stream, position);
  };
  sources.oldest_beyond = [this](const std::string& stream, int64_t position) {
    return ends_->OldestBeyond(stream, position);
  };
  sources.asked = [this](const std::string& domain) { hibernation_->OnQuestion(domain); };
  sources.unanswered = [this](const std::string& domain, bool standby_is_not_enough) {
    hibernation_->OnUnanswered(domain, standby_is_not_enough);
  };
  sources.broken = [this](const std::string& domain, int64_t incarnation) {
    supervisor_->EndBroken(domain, incarnation);
  };
  sources.measured = [this](const std::string& slice, bool ok, absl::Duration took) {
    memory_->queries().Add(slice, ok, took, absl::Now());
  };
  return sources;
}

void Daemon::Parts::StartDomains(const WorkerSettings& workers, const Settings& settings) {
  const std::string& data = identity_.data_directory;
  events_ = std::make_unique<EventLog>(data + "/events.jsonl");
  supervisor_ = std::make_unique<Supervisor>(workers, data + "/domains", data + "/planner");
  builds_ = std::make_unique<Builds>(*catalog_, *supervisor_);
  memory_ = std::make_unique<SliceMemory>(data + "/slice_errors.jsonl");
  ends_ = std::make_unique<StreamEnds>(*core_);
  manager_ = std::make_unique<DomainManager>(*core_, *catalog_, *supervisor_, *builds_, *events_,
                                             *memory_, *ends_);
  observer_ = std::make_unique<EventObserver>(*events_, manager_->reader(), *core_);
  HibernationOptions hibernation;
  hibernation.idle_after = absl::Milliseconds(workers.idle_after_ms);
  hibernation.standby_on_demand = workers.standby_on_demand;
  hibernation.awake_max = AwakeMax(settings);
  hibernation_ = std::make_unique<Hibernation>(
      *catalog_, *supervisor_,
      [this](const CatalogDomain& domain) { return manager_->reader().FactsOf(domain); },
      hibernation);
  QueryRouterLimits limits;
  limits.answers = {settings.readers().answer_bytes_max(),
                    settings.readers().domain_answer_bytes_max()};
  router_ = std::make_unique<WorkerQueryRouter>(RouterSources(), limits,
                                                identity_.data_directory + "/refused_queries");
  supervisor_->SetDeathListener(
      [this](const WorkerDeath& death) { router_->OnWorkerDeath(death); });
  supervisor_->SetListener([this](const std::string& domain) {
    router_->OnWorkerChange(domain);
    hibernation_->OnWorkerChange(domain);
    observer_->LookAtDomain(domain);
  });
}

absl::Status Daemon::Parts::StartGrpc(const Settings& settings) {
  const std::string& address = settings.listen().grpc();
  tracer_ =
      std::make_unique<RecordTracer>(*core_, manager_->reader(), *supervisor_, AwakeMax(settings));
  admin_log_ = std::make_unique<AdminLog>(*core_, events_.get());
  replay_ = std::make_unique<RequestReplay>(core_.get());
  core_service_ = std::make_unique<CoreService>(
      core_.get(), [this](auto& response) { tracer_->Trace(response.record(), response); },
      MakeReaderLimits(settings), admin_log_.get(), replay_.get());
  slices_service_ = std::make_unique<SlicesService>(
      *router_, manager_->reader(), absl::Milliseconds(settings.readers().stall_timeout_ms()));
  remedies_ = std::make_unique<SliceRemedies>(*catalog_, *supervisor_, *manager_, *memory_);
  logs_ = std::make_unique<LogTails>(manager_->reader(), [this](const std::string& domain) {
    return supervisor_->DomainDirectory(domain);
  });
  control_ = std::make_unique<SliceControl>(*core_, *catalog_, *supervisor_, *manager_);
  quarantine_ = std::make_unique<QuarantineCalls>(*core_, *catalog_, *supervisor_, *manager_);
  admin_service_ = std::make_unique<AdminService>(
      *manager_, *control_, *remedies_, *quarantine_, *admin_log_, *replay_, *events_, *logs_,
      [this](bool with_domains) {
        return manager_->reader().GetServerStatus(identity_, with_domains);
      });
  operations_service_ = std::make_unique<OperationsService>(*builds_, *admin_log_);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  ICEPIE_ASSIGN_OR_RETURN(gate_, ConnectionGate::Listen(address, GateLimits(settings.listen())));
  grpc::ServerBuilder builder;
  LimitServer(settings.listen(), builder);
  LimitCalls(*gate_, builder);
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  builder.RegisterService(core_service_.get());
  builder.RegisterService(slices_service_.get());
  builder.RegisterService(admin_service_.get());
  builder.RegisterService(operations_service_.get());
  server_ = builder.BuildAndStart();
  if (!server_) return absl::InternalError("gRPC does not start");
  gate_->Start(std::move(acceptor));
  identity_.grpc_address = WithPort(address, gate_->port());
  return absl::OkStatus();
}

absl::Status Daemon::Parts::StartHttp(const icepie::config::v1::Listen& listen) {
  const std::string& address = listen.http();
  if (address.empty()) return absl::OkStatus();
  HttpLimits limits;
  limits.connections_max = static_cast<int>(listen.http_connections_max());
  auto server = HttpServer::Start(
      address, *router_, [this] { return manager_->reader().GetServerStatus(identity_); },
      TreeOf(*core_),
      [this](icepie::v1::AppendRecordsRequest request, const AppendDone& done) {
        core_service_->Append(std::move(request), done);
      },
      limits);
  if (!server.ok()) return Annotate(server.status(), "HTTP (listen.http)");
  http_server_ = *std::move(server);
  identity_.http_address = WithPort(address, http_server_->port());
  return absl::OkStatus();
}

absl::Status Daemon::Parts::Announce() {
  const nlohmann::json announcement = {
      {"pid", getpid()}, {"grpc", identity_.grpc_address}, {"http", identity_.http_address}};
  ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(AnnouncementPath(), announcement.dump() + "\n"));
  announced_ = true;
  return absl::OkStatus();
}

void Daemon::Parts::NoteDaemon(const std::string& state) {
  icepie::v1::Event event;
  event.set_kind(icepie::v1::Event::CORE);
  event.set_to(state);
  event.set_message(
      absl::StrCat("icepied ", identity_.version, ", process ", static_cast<int64_t>(getpid())));
  events_->Add(std::move(event));
}

void Daemon::Parts::SetHealth(const std::string& name, bool serves) {
  const auto [known, is_new] = health_.try_emplace(name, serves);
  if (!is_new && known->second == serves) return;
  known->second = serves;
  server_->GetHealthCheckService()->SetServingStatus(name, serves);
}

// One health entry per slice, SERVING while it answers, also stale, and one for the core, SERVING
// until it is read-only. That of the whole server ("") does not follow it: slices answer on, and
// who balances load should send questions here.
void Daemon::Parts::ReportHealth() {
  SetHealth(icepie::v1::Core::service_full_name(), core_->ReadOnlyCause().empty());
  std::set<std::string> slices;
  for (const auto& domain : catalog_->Domains()) {
    const DomainView view = supervisor_->View(domain->entry.name());
    // Nothing else tells that it has waited for too long.
    if (AwaitsTurn(view.live)) observer_->LookAtDomain(domain->entry.name());
    for (const auto& [slice, entry] : domain->slices) {
      slices.insert(absl::StrCat(domain->entry.name(), ".", slice));
      SetHealth(absl::StrCat(kSliceHealth, domain->entry.name(), ".", slice), Answers(view, slice));
    }
  }
  for (auto known = health_.begin(); known != health_.end();) {
    absl::string_view slice = known->first;
    const bool gone =
        absl::ConsumePrefix(&slice, kSliceHealth) && slices.count(std::string(slice)) == 0;
    if (gone) server_->GetHealthCheckService()->SetServingStatus(known->first, false);
    known = gone ? health_.erase(known) : std::next(known);
  }
  // They may come back.
  for (const auto& domain : catalog_->DeletedDomains()) {
    for (const auto& [slice, entry] : domain->slices) {
      slices.insert(absl::StrCat(domain->entry.name(), ".", slice));
    }
  }
  memory_->KeepOnly(slices);
  memory_->Flush();
  observer_->LookAtCore();
  observer_->LookAtFreezes(catalog_->Domains(), absl::Now());
  housekeeping_->RunAfter(kHealthInterval, [this] { ReportHealth(); });
}

absl::Status Daemon::Parts::Start(const Settings& settings, const DaemonStart& how) {
  identity_.version = ICEPIE_VERSION;
  identity_.start_time = absl::Now();
  static_cast<void>(AskForShortSlices());  // of all threads; those of bulk work give them back
  drain_timeout_ = absl::Milliseconds(settings.drain_timeout_ms());
  stop_timeout_ = absl::Milliseconds(settings.stop_timeout_ms());
  RaiseFileLimit(settings.listen());
  ICEPIE_ASSIGN_OR_RETURN(const std::string program, WorkerProgram(settings));
  ICEPIE_RETURN_IF_ERROR(OpenData(settings, how));
  WorkerSettings workers =
      MakeWorkerSettings(settings, program, identity_.data_directory, run_directory_);
  workers.groups = EnterGroups();
  ICEPIE_RETURN_IF_ERROR(StartHost(workers));
  StartDomains(workers, settings);
  supervisor_->SetSafeMode(how.safe_mode);  // before anybody can ask for anything
  builds_->SetHeld(how.safe_mode);
  ICEPIE_RETURN_IF_ERROR(StartGrpc(settings));
  ICEPIE_RETURN_IF_ERROR(StartHttp(settings.listen()));
  manager_->Start();
  hibernation_->Start();
  housekeeping_ = std::make_unique<EventLoop>();
  housekeeping_->Post([this] { ReportHealth(); });
  ICEPIE_RETURN_IF_ERROR(Announce());
  NoteDaemon(how.safe_mode ? "STARTED_IN_SAFE_MODE" : "STARTED");
  spdlog::info(
      "icepied {} is ready: gRPC {}, HTTP {}, data {}", identity_.version, identity_.grpc_address,
      identity_.http_address.empty() ? "off" : identity_.http_address, identity_.data_directory);
  return absl::OkStatus();
}

// Whoever balances load hears of it first; then new work is refused, while what is under way has
// its time. Nothing is under way in a daemon that did not start.
void Daemon::Parts::Drain() {
  if (!server_ || !router_ || !admin_service_) return;
  auto* health = server_->GetHealthCheckService();
  health->SetServingStatus(false);
  for (const auto& [name, answers] : health_) health->SetServingStatus(name, false);
  if (http_server_) http_server_->Drain();
  core_service_->Drain();
  admin_service_->Drain();
  router_->Drain();
  const absl::Time deadline = SteadyNow() + drain_timeout_;
  const bool queries = router_->WaitEmpty(deadline);
  const bool calls = admin_service_->WaitEmpty(deadline);
  const bool core = core_service_->WaitEmpty(deadline);
  if (!queries || !calls || !core) {
    spdlog::warn("some calls had not ended {} after the stop was asked for (drain_timeout_ms)",
                 absl::FormatDuration(drain_timeout_));
  }
}

void Daemon::Parts::StopWorkers() {
  for (const auto& [domain, why] : supervisor_->StopAll(stop_timeout_)) {
    spdlog::warn(
        "domain {} is not saved: {}; at the next start it goes on from its snapshots and applies "
        "the "
        "records since then again",
        domain, why);
  }
}

void Daemon::Parts::Stop() {
  if (std::exchange(stopped_, true)) return;
  if (announced_) unlink(AnnouncementPath().c_str());
  if (housekeeping_) housekeeping_->Stop();
  if (hibernation_) hibernation_->Stop();
  Drain();
  if (router_) router_->Drain();
  if (supervisor_) supervisor_->Interrupt();
  if (builds_) builds_->Stop();
  // Calls that wait for a worker end with the workers; then the servers find nothing to wait for.
  if (supervisor_) StopWorkers();
  if (http_server_) http_server_->Stop();
  if (gate_) gate_->Stop();
  for (grpc::Server* server : {server_.get(), host_server_.get()}) {
    if (server == nullptr) continue;
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    server->Wait();
  }
  if (memory_) memory_->Flush();
  if (!announced_) return;
  NoteDaemon("STOPPED");
  spdlog::info("icepied has stopped");
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Settings& settings,
                                                      const DaemonStart& how) {
  auto parts = std::make_unique<Parts>();
  const absl::Status started = parts->Start(settings, how);
  if (!started.ok()) {
    parts->Stop();
    return started;
  }
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() { parts_->Stop(); }

const ServerIdentity& Daemon::identity() const { return parts_->identity(); }

}  // namespace icepie::server
