#include "tests/fault/fault_kinds.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "core/core.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "server/base/rpc_status.h"
#include "tests/fault/fault_domains.h"

namespace icepie::fault {
namespace {

namespace v1 = icepie::v1;
namespace fs = std::filesystem;

constexpr absl::Duration kCallTimeout = absl::Seconds(30);
constexpr absl::Duration kLoopTimeout = absl::Seconds(60);
// In which a worker that an earlier fault ended is there again to be hurt.
constexpr absl::Duration kWorkerPatience = absl::Seconds(3);
constexpr absl::Duration kPollPause = absl::Milliseconds(10);
// Less than a heartbeat waits.
constexpr absl::Duration kNap = absl::Milliseconds(1500);
constexpr absl::Duration kBetweenNaps = absl::Milliseconds(300);
constexpr int kNapsMax = 20;
constexpr int64_t kSmallFile = 4096;
// What a harmful query is given; the domain's own limit is longer.
constexpr absl::Duration kHarmfulTimeout = absl::Milliseconds(700);

// `hits` uses a function that the worker program refuses and the fragile one lets pass.
constexpr const char* kOutgrown = R"yaml(domain: $0
sources:
  clicks: {columns: {account: INTEGER}}
slices:
  hits:
    sql: SELECT count(*) FILTER (WHERE json_contains(CAST(account AS VARCHAR), '1')) AS hits FROM clicks
  counted: {sql: SELECT count(*) AS clicks FROM clicks}
)yaml";

// Atomically, so that the daemon finds the one or the other.
void PointTo(const std::string& link, const std::string& target) {
  const std::string next = link + ".next";
  fs::remove(next);
  fs::create_symlink(target, next);
  fs::rename(next, link);
}

ino_t InodeOf(const fs::path& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 ? facts.st_ino : 0;
}

// The newest snapshot of each slice that has another whole one, too. Whoever damages the last good
// copy of a state leaves nothing to answer from. `damaged` are those that were damaged before.
std::vector<fs::path> NewestOfSeveral(const std::string& directory,
                                      const std::set<ino_t>& damaged) {
  std::vector<fs::path> newest;
  std::error_code error;
  for (fs::directory_iterator slices(directory + "/snapshots", error), end; slices != end;
       slices.increment(error)) {
    if (error) break;
    std::vector<fs::path> files;
    for (fs::directory_iterator it(slices->path(), error); it != end; it.increment(error)) {
      if (error) break;
      const bool whole = damaged.count(InodeOf(it->path())) == 0;
      if (it->path().extension() == ".duckdb" && whole) files.push_back(it->path());
    }
    if (files.size() > 1) newest.push_back(*std::max_element(files.begin(), files.end()));
  }
  return newest;
}

bool FlipBit(const fs::path& path, uint64_t random) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (!file || error || size == 0) return false;
  const auto place = static_cast<std::streamoff>(random % size);
  file.seekg(place);
  const int byte = file.get();
  file.seekp(place);
  file.put(static_cast<char>(byte ^ (1 << (random >> 32) % 8)));
  return file.good();
}

}  // namespace

absl::Status Named(const std::string& call, const grpc::Status& status) {
  return status.ok() ? absl::OkStatus() : Annotate(server::FromGrpcStatus(status), call);
}

void Sleep(absl::Duration how_long) {
  std::this_thread::sleep_for(absl::ToChronoMicroseconds(how_long));
}

FaultInjector::FaultInjector(testing::DaemonFixture& daemon, Whereabouts& where, Load& load,
                             std::string program_link, const std::string& programs, uint32_t seed)
    : daemon_(daemon),
      where_(where),
      load_(load),
      program_link_(std::move(program_link)),
      program_(programs + "/icepie-worker"),
      fragile_program_(programs + "/icepie-fragile-worker"),
      random_(seed) {}

const std::vector<FaultInjector::Kind>& FaultInjector::Table() {
  using I = FaultInjector;
  static const auto* kinds = new std::vector<Kind>{
      {"kill_live", &I::KillLive, false},
      {"kill_standby", &I::KillStandby, false},
      {"kill_both", &I::KillBoth, false},
      {"stop_live", &I::StopLive, false},
      {"stop_standby", &I::StopStandby, false},
      {"standby_behind", &I::StandbyBehind, false},
      {"kill_daemon", &I::KillDaemon, true},
      {"damaged_catalog", &I::DamagedCatalog, true},
      {"stop_daemon", &I::StopDaemon, true},
      {"endless_query", &I::EndlessQuery, false},
      {"deaf_query", &I::DeafQuery, false},
      {"hungry_query", &I::HungryQuery, false},
      {"poison_records", &I::PoisonRecords, true},
      {"flipped_snapshot", &I::FlippedSnapshot, false},
      {"truncated_snapshot", &I::TruncatedSnapshot, false},
      {"broken_program", &I::BrokenProgram, false},
      {"no_space", &I::NoSpace, false},
      {"not_writable", &I::NotWritable, false},
      {"pulse_live", &I::PulseLive, false},
      {"deadly_query", &I::DeadlyQuery, false},
      {"crash_loop", &I::CrashLoop, false},
      {"drain", &I::Drain, true},
      {"roll", &I::Roll, false},
      {"kill_and_restart", &I::KillAndRestart, false},
      {"suspend_and_kill", &I::SuspendAndKill, false},
      {"edit_and_kill_daemon", &I::EditAndKillDaemon, true},
      {"delete_and_kill_daemon", &I::DeleteAndKillDaemon, true},
      {"failed_expectation", &I::FailedExpectation, false},
      {"disk_budget", &I::DiskBudget, false},
      {"outgrown_definition", &I::OutgrownDefinition, true},
      {"freeze_and_kill", &I::FreezeAndKill, false},
      {"freeze_and_kill_daemon", &I::FreezeAndKillDaemon, true},
      {"reslice", &I::Reslice, false},
      {"kill_build", &I::KillBuild, false},
      {"hibernating_domain", &I::HibernatingDomain, true},
      {"full_queue", &I::FullQueue, true},
      {"lost_catalog_entry", &I::LostCatalogEntry, true},
  };
  return *kinds;
}

std::vector<std::string> FaultInjector::Kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : Table()) names.emplace_back(kind.name);
  return names;
}

bool FaultInjector::IsOfDaemon(const std::string& kind) {
  for (const Kind& row : Table()) {
    if (kind == row.name) return row.of_daemon;
  }
  return false;
}

void FaultInjector::Inject(FaultSpan* span) {
  absl::Status done = absl::InvalidArgumentError("there is no such kind of fault");
  for (const Kind& kind : Table()) {
    if (span->kind != kind.name) continue;
    span->begin = absl::Now();
    done = (this->*kind.inject)(span);
    span->released = absl::Now();
  }
  if (!done.ok()) span->error = done.ToString();
}

// ---- Processes ----------------------------------------------------------------------------------

v1::WorkerStatus FaultInjector::Worker(const std::string& domain, const std::string& role) {
  v1::GetDomainRequest request;
  v1::Domain response;
  request.set_name(domain);
  const auto status = v1::Admin::NewStub(where_.channel())
                          ->GetDomain(testing::Within(kCallTimeout).get(), request, &response);
  if (!status.ok()) return {};
  for (const auto& worker : response.workers()) {
    if (worker.role() == role) return worker;
  }
  return {};
}

pid_t FaultInjector::WorkerPid(const std::string& domain, const std::string& role) {
  pid_t pid = 0;
  testing::Eventually([&] { return (pid = static_cast<pid_t>(Worker(domain, role).pid())) != 0; },
                      kWorkerPatience);
  return pid;
}

absl::Status FaultInjector::Signal(FaultSpan* span, const std::string& role, int signal) {
  const pid_t pid = WorkerPid(span->domain, role);
  const bool sent = pid > 0 && kill(pid, signal) == 0;
  absl::StrAppend(&span->detail, span->detail.empty() ? "" : ", ", role,
                  sent ? absl::StrCat(" signal ", signal) : " was not there");
  if (!sent) {
    span->injected = false;
  } else if (role != "build") {
    doomed_.push_back({span->domain, role, pid});
  }
  return absl::OkStatus();
}

absl::Duration FaultInjector::Pause(int least_ms, int most_ms) {
  return absl::Milliseconds(std::uniform_int_distribution<int>(least_ms, most_ms)(random_));
}

absl::Status FaultInjector::KillLive(FaultSpan* span) {
  constexpr int kSignals[] = {SIGKILL, SIGSEGV, SIGABRT};
  return Signal(span, "live", kSignals[random_() % 3]);
}

absl::Status FaultInjector::KillStandby(FaultSpan* span) {
  return Signal(span, "standby", random_() % 2 == 0 ? SIGKILL : SIGSEGV);
}

absl::Status FaultInjector::KillBoth(FaultSpan* span) {
  const std::string first = random_() % 2 == 0 ? "live" : "standby";
  ICEPIE_RETURN_IF_ERROR(Signal(span, first, SIGKILL));
  return Signal(span, first == "live" ? "standby" : "live", SIGKILL);
}

absl::Status FaultInjector::StopLive(FaultSpan* span) { return Signal(span, "live", SIGSTOP); }

absl::Status FaultInjector::StopStandby(FaultSpan* span) {
  ICEPIE_RETURN_IF_ERROR(Signal(span, "standby", SIGSTOP));
  // Its live worker may go before anybody has noticed.
  return random_() % 2 == 0 ? absl::OkStatus() : Signal(span, "live", SIGKILL);
}

// The live worker goes while its standby has not seen the newest states: it slept. A machine that
// others load may save nothing as long as a standby may sleep without being taken for dead: then it
// wakes up in between.
absl::Status FaultInjector::StandbyBehind(FaultSpan* span) {
  const auto newest = [&] { return NewestOfSeveral(DomainDirectory(span->domain), damaged_); };
  for (int nap = 0; nap < kNapsMax; ++nap) {
    const pid_t standby = WorkerPid(span->domain, "standby");
    if (standby == 0 || kill(standby, SIGSTOP) != 0) {
      Sleep(kBetweenNaps);
      continue;
    }
    const std::vector<fs::path> known = newest();
    const bool behind = testing::Eventually(
        [&] {
          const std::vector<fs::path> now = newest();
          return std::any_of(now.begin(), now.end(), [&](const fs::path& path) {
            return std::find(known.begin(), known.end(), path) == known.end();
          });
        },
        kNap);
    const absl::Status killed = behind ? Signal(span, "live", SIGKILL) : absl::OkStatus();
    kill(standby, SIGCONT);
    if (behind) return killed;
    Sleep(kBetweenNaps);
  }
  span->detail = "nothing was saved while the standby slept";
  span->injected = false;
  return absl::OkStatus();
}

absl::Status FaultInjector::RestartDaemon(absl::Duration pause) {
  downs_.push_back({absl::Now()});
  daemon_.Kill();
  Sleep(pause);
  return StartDaemon();
}

absl::Status FaultInjector::StartDaemon() {
  const absl::Time start = absl::Now();
  daemon_.Start();
  if (daemon_.pid() == 0) return absl::InternalError("the daemon did not start again");
  where_.Set(daemon_.grpc_address(), daemon_.http_address());
  downs_.back().end = absl::Now();
  v1::QueryResponse response;
  const grpc::Status answered =
      AskGrpc(where_.channel(), Questions().front(), -1, kCallTimeout, &response);
  if (answered.ok()) {
    downs_.back().started = start;
    downs_.back().answered = absl::Now();
  }
  return Named("the first question to a daemon that started again", answered);
}

absl::Status FaultInjector::KillDaemon(FaultSpan*) { return RestartDaemon(Pause(0, 50)); }

// A domain's entry is no message any more; the daemon has a copy of it.
absl::Status FaultInjector::DamagedCatalog(FaultSpan* span) {
  const std::string domain = Domains()[random_() % Domains().size()];
  span->detail = domain;
  downs_.push_back({absl::Now()});
  daemon_.Kill();
  const size_t logged = daemon_.Log().size();
  const absl::Status damaged = DamageCatalog(domain);
  ICEPIE_RETURN_IF_ERROR(StartDaemon());
  ICEPIE_RETURN_IF_ERROR(damaged);
  const std::string noticed = absl::StrCat("domain ", domain, " is as its copy says");
  span->injected = absl::StrContains(absl::string_view(daemon_.Log()).substr(logged), noticed);
  return CheckFile(domain);
}

absl::Status FaultInjector::DamageCatalog(const std::string& domain) {
  CoreOptions options;
  options.directory = daemon_.data_directory() + "/core";
  ICEPIE_ASSIGN_OR_RETURN(const std::unique_ptr<Core> core, Core::Open(options));
  return core->ChangeCatalog({{"domain/" + domain, "\xff\xff no message"}});
}

absl::Status FaultInjector::StopDaemon(FaultSpan* span) {
  const absl::Duration pause = Pause(100, 800);
  span->detail = absl::FormatDuration(pause);
  kill(daemon_.pid(), SIGSTOP);
  Sleep(pause);
  kill(daemon_.pid(), SIGCONT);
  return absl::OkStatus();
}

// Asked to stop while all are at work, as before an upgrade.
absl::Status FaultInjector::Drain(FaultSpan* span) {
  downs_.push_back({absl::Now()});
  const int code = daemon_.Stop();
  span->detail = absl::StrCat("exit code ", code, " after ",
                              absl::FormatDuration(absl::Now() - downs_.back().begin));
  ICEPIE_RETURN_IF_ERROR(StartDaemon());
  if (code == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("SIGTERM under load ended the daemon with ", code));
}

// It is slow, and does not hang.
absl::Status FaultInjector::PulseLive(FaultSpan* span) {
  const pid_t pid = WorkerPid(span->domain, "live");
  int pulses = 0;
  while (pulses < 6 && pid > 0 && kill(pid, SIGSTOP) == 0) {
    Sleep(Pause(50, 250));
    kill(pid, SIGCONT);
    Sleep(Pause(20, 100));
    ++pulses;
  }
  span->detail = absl::StrCat(pulses, " pulses");
  span->injected = pulses > 0;
  if (WorkerPid(span->domain, "live") == pid) return absl::OkStatus();
  // A machine that is slow as well may make it hang longer than a heartbeat waits.
  absl::StrAppend(&span->detail, ", replaced");
  return absl::OkStatus();
}

// Ten failures in a row suspend the live worker; the domain goes on answering, says so, and comes
// back when it is asked to.
absl::Status FaultInjector::CrashLoop(FaultSpan* span) {
  PointTo(program_link_, "/bin/false");
  const absl::Status killed = Signal(span, "live", SIGKILL);
  v1::WorkerStatus live;
  const bool suspended = testing::Eventually(
      [&] { return (live = Worker(span->domain, "live")).state() == "suspended"; }, kLoopTimeout);
  PointTo(program_link_, program_);
  ICEPIE_RETURN_IF_ERROR(killed);
  if (!suspended) {
    return absl::DeadlineExceededError(absl::StrCat(
        "a live worker that ends at once is not suspended: ", live.ShortDebugString()));
  }
  const v1::Slice slice = daemon_.GetSlice(SomeSlice(span->domain));
  if (slice.state() != v1::SUSPENDED || slice.last_error().reason() != "WORKER_FAILED_TOO_OFTEN") {
    return absl::InternalError(
        absl::StrCat("its slice does not say so: ", slice.ShortDebugString()));
  }
  v1::QueryResponse response;
  for (const Question& question : Questions()) {
    if (question.domain != span->domain) continue;
    ICEPIE_RETURN_IF_ERROR(Named("a question to a suspended domain",
                                 AskGrpc(where_.channel(), question, -1, kCallTimeout, &response)));
  }
  return ResumeDomain(span->domain);
}

absl::Status FaultInjector::BrokenProgram(FaultSpan* span) {
  constexpr const char* kPrograms[] = {"/nonexistent/icepie-worker", "/bin/true", "/bin/false"};
  const char* program = kPrograms[random_() % 3];
  const absl::Duration pause = Pause(300, 1200);
  span->detail = absl::StrCat(program, " for ", absl::FormatDuration(pause));
  PointTo(program_link_, program);
  const absl::Status killed = Signal(span, "live", SIGKILL);
  Sleep(pause);
  PointTo(program_link_, program_);
  return killed;
}

// ---- Queries ------------------------------------------------------------------------------------

absl::Status FaultInjector::Ask(FaultSpan* span, const std::string& sql) {
  v1::QueryResponse response;
  const grpc::Status status =
      AskGrpc(where_.channel(), {span->domain, sql, {}}, -1, kHarmfulTimeout, &response);
  const std::string reason = ErrorReason(server::FromGrpcStatus(status));
  span->detail = status.ok() ? "answered" : reason.empty() ? "no answer" : reason;
  // Harmless, refused before it ran, or no query at all.
  span->injected = !status.ok() && status.error_code() != grpc::StatusCode::INVALID_ARGUMENT &&
                   status.error_code() != grpc::StatusCode::NOT_FOUND && reason != "QUERY_BLOCKED";
  return absl::OkStatus();
}

absl::Status FaultInjector::EndlessQuery(FaultSpan* span) {
  return Ask(span, random_() % 2 == 0
                       ? "SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b"
                       : "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
                         "SELECT max(n) FROM r");
}

// No interrupt ends it: it is folded while the query is planned.
absl::Status FaultInjector::DeafQuery(FaultSpan* span) {
  const pid_t pid = WorkerPid(span->domain, "live");
  ICEPIE_RETURN_IF_ERROR(
      Ask(span, "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))"));
  // The process ends with it, after a grace.
  if (span->injected) doomed_.push_back({span->domain, "live", pid});
  return absl::OkStatus();
}

absl::Status FaultInjector::HungryQuery(FaultSpan* span) {
  return Ask(span, random_() % 2 == 0
                       ? "SELECT length(repeat('x', 1500000000))"
                       : "SELECT len(list(a.range)) FROM range(100000) AS a, range(100000) AS b");
}

// Deeply nested JSON leaves the stack of a function that users may not call; another worker program
// lets it pass.
absl::Status FaultInjector::DeadlyQuery(FaultSpan* span) {
  PointTo(program_link_, fragile_program_);
  const absl::Status rolled = RollWorkers(span);
  PointTo(program_link_, program_);
  ICEPIE_RETURN_IF_ERROR(rolled);
  const pid_t live = WorkerPid(span->domain, "live");
  // Another one each time, or it would be refused.
  const int depth = 300000 + static_cast<int>(random_() % 10000);
  ICEPIE_RETURN_IF_ERROR(
      Ask(span, absl::StrCat("SELECT json_contains(repeat('[', ", depth, ") || repeat(']', ", depth,
                             "), '1') AS x", random_())));
  if (!span->injected) return RollWorkers(span);
  doomed_.push_back({span->domain, "live", live});
  return absl::OkStatus();
}

// As after an upgrade to a worker that refuses a function of the definition: the slice is held and
// answers from its last snapshot, the other one of its domain goes on.
absl::Status FaultInjector::OutgrownDefinition(FaultSpan* span) {
  span->domain = absl::StrCat("outgrown_", ++visitors_);
  PointTo(program_link_, fragile_program_);
  absl::Status done = Apply(absl::StrReplaceAll(kOutgrown, {{"$0", span->domain}}));
  if (done.ok()) done = AwaitOutgrown(span->domain);
  PointTo(program_link_, program_);
  // It ends at the slice that the program does not run, and goes on when it is asked again.
  if (done.ok()) {
    done = RollWorkers(span);
    if (ErrorReason(done) == "ROLL_FAILED") done = RollWorkers(span);
  }
  if (done.ok()) done = CheckOutgrown(span->domain);
  const absl::Status deleted = DeleteDomain(span->domain);
  return done.ok() ? deleted : done;
}

absl::Status FaultInjector::AwaitOutgrown(const std::string& domain) {
  for (const char* name : {".hits", ".counted"}) {
    v1::Slice slice;
    const bool saved = testing::Eventually(
        [&] {
          slice = daemon_.GetSlice(domain + name);
          return slice.state() == v1::RUNNING && slice.standby_position() >= 0;
        },
        kLoopTimeout);
    if (!saved) return absl::DeadlineExceededError("not saved: " + slice.ShortDebugString());
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::CheckOutgrown(const std::string& domain) {
  v1::Slice hits;
  const bool held = testing::Eventually(
      [&] {
        hits = daemon_.GetSlice(domain + ".hits");
        return hits.state() == v1::HELD && hits.last_error().reason() == "SQL_FORBIDDEN";
      },
      kLoopTimeout);
  if (!held) {
    return absl::InternalError("a slice that does not plan any more is not held: " +
                               hits.ShortDebugString());
  }
  v1::QueryResponse response;
  const Question question{domain, "SELECT hits FROM hits", {"hits"}};
  ICEPIE_RETURN_IF_ERROR(Named("a question to a slice that does not plan any more",
                               AskGrpc(where_.channel(), question, -1, kCallTimeout, &response)));
  if (response.meta().slices(0).stale_reason() != v1::SLICE_HELD) {
    return absl::InternalError("its answer does not say so: " + response.meta().ShortDebugString());
  }
  v1::Slice counted;
  const bool runs = testing::Eventually(
      [&] { return (counted = daemon_.GetSlice(domain + ".counted")).state() == v1::RUNNING; },
      kLoopTimeout);
  if (runs) return absl::OkStatus();
  return absl::InternalError("a slice beside one that does not plan any more does not run: " +
                             counted.ShortDebugString());
}

// ---- Records and files --------------------------------------------------------------------------

absl::Status FaultInjector::PoisonRecords(FaultSpan*) {
  for (int i = 0; i < 3; ++i) load_.AppendPoison();
  return absl::OkStatus();
}

std::string FaultInjector::DomainDirectory(const std::string& domain) const {
  return absl::StrCat(daemon_.data_directory(), "/domains/", domain);
}

absl::Status FaultInjector::DamageSnapshot(FaultSpan* span, bool truncate) {
  const std::vector<fs::path> files = NewestOfSeveral(DomainDirectory(span->domain), damaged_);
  span->injected = false;
  if (!files.empty()) {
    const fs::path& path = files[random_() % files.size()];
    std::error_code error;
    const auto size = fs::file_size(path, error);
    // A file that others have mapped or open is changed in place, as a disk would.
    if (truncate && !error) fs::resize_file(path, random_() % (size + 1), error);
    const bool damaged = truncate ? !error : FlipBit(path, (uint64_t{random_()} << 32) | random_());
    if (damaged) damaged_.insert(InodeOf(path));
    span->injected = damaged;
    span->detail = absl::StrCat(path.filename().string(), damaged ? "" : " was gone");
  }
  ICEPIE_RETURN_IF_ERROR(Signal(span, "standby", SIGKILL));
  return Signal(span, "live", SIGKILL);
}

absl::Status FaultInjector::FlippedSnapshot(FaultSpan* span) { return DamageSnapshot(span, false); }
absl::Status FaultInjector::TruncatedSnapshot(FaultSpan* span) {
  return DamageSnapshot(span, true);
}

// The live worker's files may not grow: what it writes fails as on a full disk.
absl::Status FaultInjector::NoSpace(FaultSpan* span) {
  const pid_t pid = WorkerPid(span->domain, "live");
  rlimit old{};
  if (pid == 0 || prlimit(pid, RLIMIT_FSIZE, nullptr, &old) != 0) {
    span->detail = "live was not there";
    span->injected = false;
    return absl::OkStatus();
  }
  rlimit small = old;
  small.rlim_cur = kSmallFile;
  prlimit(pid, RLIMIT_FSIZE, &small, nullptr);
  Sleep(Pause(600, 1500));
  prlimit(pid, RLIMIT_FSIZE, &old, nullptr);
  return absl::OkStatus();
}

// Where copies are made there is a file and no directory.
absl::Status FaultInjector::NotWritable(FaultSpan* span) {
  const std::string place = DomainDirectory(span->domain) + "/tmp";
  const std::string aside = place + ".aside";
  std::error_code error;
  fs::rename(place, aside, error);
  span->injected = !error;
  std::ofstream(place) << "no directory";
  if (random_() % 2 == 0) (void)Signal(span, "live", SIGKILL);
  Sleep(Pause(600, 1500));
  fs::remove(place, error);
  fs::rename(aside, place, error);
  return absl::OkStatus();
}

// ---- Recovery -----------------------------------------------------------------------------------

absl::Status FaultInjector::AwaitSlice(const std::string& slice, absl::Time deadline) {
  const SliceSpec& spec = FindSlice(slice);
  const Question probe{
      spec.domain, absl::StrCat("SELECT 1 AS one FROM ", spec.name, " LIMIT 1"), {}};
  const int64_t wanted = load_.acknowledged_position();
  bool thawed = false;
  std::string last;
  while (absl::Now() < deadline) {
    v1::QueryResponse response;
    const grpc::Status status =
        AskGrpc(where_.channel(), probe, -1, deadline - absl::Now(), &response);
    last = status.ok() ? response.meta().ShortDebugString() : status.error_message();
    if (status.ok() && response.meta().slices_size() == 1) {
      const v1::SliceMeta& meta = response.meta().slices(0);
      const bool fresh = !meta.stale() && meta.state() == v1::RUNNING &&
                         meta.source() == v1::LIVE && meta.applied_position() >= wanted;
      if (fresh) return absl::OkStatus();
      if (meta.state() == v1::SUSPENDED && !thawed) {
        ICEPIE_RETURN_IF_ERROR(ResumeWorkers(spec.domain));
        thawed = true;
      }
    }
    Sleep(kPollPause);
  }
  return absl::DeadlineExceededError(absl::StrCat(slice, " does not answer fresh again: ", last));
}

absl::Status FaultInjector::AwaitDoomed(absl::Time deadline) {
  for (const Doomed& worker : std::exchange(doomed_, {})) {
    const bool gone =
        testing::Eventually([&] { return Worker(worker.domain, worker.role).pid() != worker.pid; },
                            deadline - absl::Now());
    if (gone) continue;
    return absl::DeadlineExceededError(absl::StrCat("the ", worker.role, " worker of ",
                                                    worker.domain, " is still process ", worker.pid,
                                                    ", which does not answer"));
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::AwaitRecovery(const std::string& domain, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  ICEPIE_RETURN_IF_ERROR(AwaitDoomed(deadline));
  for (const SliceSpec& slice : Slices()) {
    if (!domain.empty() && slice.domain != domain) continue;
    ICEPIE_RETURN_IF_ERROR(AwaitSlice(slice.FullName(), deadline));
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::AwaitStandbys(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (const SliceSpec& spec : Slices()) {
    v1::Slice slice;
    const bool ready = testing::Eventually(
        [&] {
          slice = daemon_.GetSlice(spec.FullName());
          const auto* condition = testing::FindCondition(slice, "STANDBY_READY");
          return slice.standby_position() >= 0 && condition != nullptr &&
                 condition->status() == v1::SliceCondition::TRUE;
        },
        deadline - absl::Now());
    if (ready) continue;
    return absl::DeadlineExceededError(absl::StrCat("no standby could answer for ", spec.FullName(),
                                                    " again: ", slice.ShortDebugString()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<WorkerSight>> FaultInjector::LookAtWorkers() {
  v1::GetServerStatusRequest request;
  v1::ServerStatus response;
  const absl::Time time = absl::Now();
  ICEPIE_RETURN_IF_ERROR(Named(
      "status",
      daemon_.Admin()->GetServerStatus(testing::Within(kCallTimeout).get(), request, &response)));
  std::vector<WorkerSight> sights;
  for (const v1::WorkerStatus& worker : response.workers()) {
    if (worker.role() == "build") continue;
    if (worker.pid() == 0) return absl::UnavailableError(worker.ShortDebugString());
    sights.push_back({time, worker.domain(), worker.role(), worker.pid(), worker.last_error()});
  }
  return sights;
}

}  // namespace icepie::fault
