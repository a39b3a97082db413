// The fault harness: real processes under load, faults of all kinds from a seeded schedule, and a
// checker over all that was asked and answered. tests/fault/README.md says how to use it; the last
// line of its output is one JSON object.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/fault/checker.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/fault_kinds.h"
#include "tests/fault/kept_together.h"
#include "tests/fault/load.h"
#include "tests/fault/pacer.h"
#include "tests/fault/weather.h"

namespace icepie::fault {
namespace {

namespace v1 = icepie::v1;

// Workers that hang are noticed soon, those that end are started soon, and the state is saved
// often, so that little time is spent between faults.
constexpr const char* kSettings = R"(
workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 2000, snapshot_interval_ms: 500, restart_backoff_ms: 5, program: "%s"}
core: {hot_bytes_min: 64KiB, segment_bytes: 64KiB, hot_age_min_ms: 0}
logging: {level: info}
)";
constexpr size_t kBreachesShown = 20;
// In each of which every kind that has not happened yet is tried once more.
constexpr int kMoreRounds = 5;
constexpr absl::Duration kCalm = absl::Milliseconds(300);

struct Options {
  int faults = 50;
  uint32_t seed = 0;
  double seconds = 0;  // 0: no limit
  int least = -1;      // of the faults, with a limit of seconds; -1: all
  std::vector<std::string> only;
  bool keep = false;
  double recovery_seconds = 60;
  bool shared_machine = false;
};

std::string BinDirectory() {
  const char* bin = std::getenv("ICEPIE_BIN");
  return std::filesystem::absolute(bin != nullptr ? bin : ".").string();
}

// Kinds in a random order, each as often as any other.
class Schedule {
 public:
  Schedule(std::vector<std::string> kinds, uint32_t seed)
      : kinds_(std::move(kinds)), random_(seed) {}

  FaultSpan Next() {
    if (next_ >= kinds_.size()) {
      std::shuffle(kinds_.begin(), kinds_.end(), random_);
      next_ = 0;
    }
    return NextOf(kinds_[next_++]);
  }

  FaultSpan NextOf(const std::string& kind) {
    FaultSpan span;
    span.number = ++number_;
    span.kind = kind;
    const std::string& domain = Domains()[random_() % Domains().size()];
    if (!FaultInjector::IsOfDaemon(kind)) span.domain = domain;
    return span;
  }

  // Whether the next fault comes before this one has been recovered from.
  bool Overlaps() { return random_() % 5 == 0; }
  absl::Duration Gap() {
    return absl::Milliseconds(std::uniform_int_distribution<int>(0, 300)(random_));
  }

 private:
  std::vector<std::string> kinds_;
  std::mt19937 random_;
  size_t next_ = SIZE_MAX;
  int number_ = 0;
};

class Harness {
 public:
  explicit Harness(const Options& options)
      : options_(options),
        program_link_(daemon_.directory() + "/programs/icepie-worker"),
        load_(where_, LoadOf(options)),
        injector_(daemon_, where_, load_, program_link_, BinDirectory(), options.seed) {}

  const std::string& directory() const { return daemon_.directory(); }

  int Run() {
    absl::Status done = SetUp();
    if (done.ok()) {
      load_.Start();
      Sleep(kCalm);
      RunFaults();
      done = FinishLoad();
    }
    if (done.ok()) done = ReadBack();
    if (!done.ok()) {
      std::fprintf(stderr, "fault harness: %s\n%s\n", done.ToString().c_str(), Log().c_str());
      return 1;
    }
    return Judge();
  }

 private:
  static LoadOptions LoadOf(const Options& options) {
    LoadOptions load;
    load.seed = options.seed;
    if (options.shared_machine) load.read_timeout = load.append_timeout = absl::Seconds(60);
    return load;
  }

  absl::Status SetUp() {
    if (options_.keep) daemon_.KeepDirectory();
    std::filesystem::create_directories(daemon_.directory() + "/programs");
    std::filesystem::create_symlink(BinDirectory() + "/icepie-worker", program_link_);
    daemon_.SetSettings(absl::StrFormat(kSettings, program_link_));
    daemon_.Start();
    if (daemon_.pid() == 0) return absl::InternalError("icepied did not start");
    where_.Set(daemon_.grpc_address(), daemon_.http_address());
    for (const StreamSpec& stream : Streams()) {
      v1::CreateStreamRequest request;
      v1::Stream response;
      request.set_name(stream.name);
      if (stream.bytes) request.set_format(v1::PAYLOAD_FORMAT_BYTES);
      ICEPIE_RETURN_IF_ERROR(server::FromGrpcStatus(daemon_.Core()->CreateStream(
          testing::Within(absl::Seconds(30)).get(), request, &response)));
    }
    for (const std::string& domain : Domains()) {
      v1::ApplyDomainResponse response;
      ICEPIE_RETURN_IF_ERROR(server::FromGrpcStatus(daemon_.Apply(DomainFile(domain), &response)));
    }
    ICEPIE_RETURN_IF_ERROR(AwaitSnapshots());
    return See();
  }

  // Which processes the workers are; none of them is being replaced.
  absl::Status See() {
    absl::StatusOr<std::vector<WorkerSight>> seen;
    testing::Eventually([&] { return (seen = injector_.LookAtWorkers()).ok(); },
                        absl::Seconds(options_.recovery_seconds));
    ICEPIE_RETURN_IF_ERROR(seen.status());
    record_.workers.insert(record_.workers.end(), seen->begin(), seen->end());
    return absl::OkStatus();
  }

  // Promises are about slices that ever had a good snapshot.
  absl::Status AwaitSnapshots() {
    for (const SliceSpec& slice : Slices()) {
      const bool saved = testing::Eventually(
          [&] {
            const v1::Slice now = daemon_.GetSlice(slice.FullName());
            return now.state() == v1::RUNNING && now.standby_position() >= 0;
          },
          absl::Seconds(60));
      if (!saved) {
        return absl::DeadlineExceededError(
            absl::StrCat(slice.FullName(),
                         " is not saved: ", daemon_.GetSlice(slice.FullName()).ShortDebugString()));
      }
    }
    return absl::OkStatus();
  }

  void RunFaults() {
    Schedule schedule(options_.only.empty() ? FaultInjector::Kinds() : options_.only,
                      options_.seed);
    begin_ = absl::Now();
    for (int i = 0; i < options_.faults && GoesOn(); ++i) {
      const FaultSpan span = schedule.Next();
      RunFault(span, schedule.Overlaps() && i + 1 < options_.faults);
      Sleep(schedule.Gap());
    }
    // Some miss by chance: a build may end before it is killed. They have their time, too.
    for (int round = 0; round < kMoreRounds; ++round) {
      for (const std::string& kind : NeverHappened(record_)) {
        if (daemon_.pid() == 0) return;
        RunFault(schedule.NextOf(kind), false);
      }
    }
  }

  bool GoesOn() const {
    const bool in_time =
        options_.seconds <= 0 || absl::Now() - begin_ <= absl::Seconds(options_.seconds);
    return in_time && daemon_.pid() != 0;
  }

  void RunFault(FaultSpan span, bool overlaps) {
    injector_.Inject(&span);
    if (!overlaps) Recover(&span);
    std::fprintf(stderr, "%4d %-22s %-10s %-44s %5.0f ms%s%s %s\n", span.number, span.kind.c_str(),
                 span.domain.c_str(), span.detail.c_str(),
                 absl::ToDoubleMilliseconds(absl::Now() - span.begin), overlaps ? ", goes on" : "",
                 span.injected ? "" : ", did not happen", span.error.c_str());
    record_.faults.push_back(std::move(span));
  }

  void Recover(FaultSpan* span) {
    const absl::Duration patience = absl::Seconds(options_.recovery_seconds);
    const absl::Status fresh = injector_.AwaitRecovery("", patience);
    recoveries_.push_back(absl::ToDoubleMilliseconds(absl::Now() - span->released));
    Note(fresh, span);
    Note(injector_.AwaitStandbys(patience), span);
    standbys_.push_back(absl::ToDoubleMilliseconds(absl::Now() - span->released));
    Note(See(), span);
    span->end = absl::Now();
    // Those that it overlapped are over too.
    for (FaultSpan& earlier : record_.faults) earlier.end = std::min(earlier.end, span->end);
    // The harness kills more often than the restart policy forgives: it says that it was the cause.
    Note(injector_.ResumeWorkers(span->domain), span);
  }

  static void Note(const absl::Status& status, FaultSpan* span) {
    if (!status.ok() && span->error.empty()) span->error = status.ToString();
  }

  absl::Status FinishLoad() {
    if (daemon_.pid() == 0) return absl::InternalError("the daemon did not start again");
    Sleep(kCalm);
    load_.Stop(absl::Seconds(options_.recovery_seconds));
    load_.Take(&record_);
    record_.stalls = pacer_.Stop();
    record_.frozen = injector_.frozen();
    record_.downs = injector_.downs();
    return injector_.AwaitRecovery("", absl::Seconds(options_.recovery_seconds));
  }

  // The whole core, from the running daemon; then its bytes, offline.
  absl::Status ReadBack() {
    const auto context = testing::Within(absl::Seconds(120));
    const auto core = daemon_.Core();
    const auto reader = core->ReadRecords(context.get(), {});
    v1::ReadRecordsResponse part;
    while (reader->Read(&part)) {
      for (const v1::Record& stored : part.records()) {
        record_.stored.push_back({stored.position(), stored.stream(), stored.payload()});
      }
    }
    ICEPIE_RETURN_IF_ERROR(server::FromGrpcStatus(reader->Finish()));
    stop_code_ = daemon_.Stop();
    const std::string command =
        absl::StrCat(BinDirectory(), "/icepie verify --json --data-dir ", daemon_.data_directory(),
                     " > ", daemon_.directory(), "/verify.json 2>&1");
    verified_ = std::system(command.c_str()) == 0;
    return absl::OkStatus();
  }

  int Judge() {
    CheckOptions check;
    check.seed = options_.seed;
    if (options_.shared_machine) {
      check.shared_machine = true;
      check.down_margin = absl::Seconds(30);
      check.recomputed_max = 3000;
    }
    const absl::StatusOr<Verdict> checked = Check(record_, check);
    if (!checked.ok()) {
      std::fprintf(stderr, "fault harness: %s\n", checked.status().ToString().c_str());
      return 1;
    }
    Verdict verdict = *checked;
    if (!verified_) {
      verdict.Break("P10", "icepie verify --data-dir found damage", absl::InfiniteFuture());
    }
    if (stop_code_ != 0) {
      verdict.Break("P2", absl::StrCat("SIGTERM ended the daemon with ", stop_code_),
                    absl::InfiniteFuture());
    }
    const int least =
        options_.seconds > 0 && options_.least >= 0 ? options_.least : options_.faults;
    if (static_cast<int>(record_.faults.size()) < least) {
      verdict.Break("harness",
                    absl::StrCat("only ", record_.faults.size(), " faults, fewer than ", least),
                    absl::InfiniteFuture());
    }
    ShowBreaches(verdict);
    if (options_.keep) WriteReads();
    std::printf("%s\n", Summary(verdict).dump().c_str());
    return verdict.breaches.empty() ? 0 : 1;
  }

  void ShowBreaches(const Verdict& verdict) const {
    for (size_t i = 0; i < std::min(verdict.breaches.size(), kBreachesShown); ++i) {
      const Breach& breach = verdict.breaches[i];
      const std::string time =
          breach.time == absl::InfiniteFuture()
              ? "at the end"
              : absl::StrCat(absl::FormatTime("%H:%M:%E3S", breach.time, absl::UTCTimeZone()),
                             "Z, ", FaultAt(record_, breach.time));
      std::fprintf(stderr, "BROKEN %s %s: %s\n", breach.promise.c_str(), time.c_str(),
                   breach.what.c_str());
    }
    if (verdict.breaches.empty()) return;
    std::fprintf(stderr, "%zu breaches; again: tests/fault/run.sh --faults %d --seed %u%s\n%s\n",
                 verdict.breaches.size(), options_.faults, options_.seed,
                 absl::StrCat(options_.only.empty() ? "" : " --only …",
                              options_.shared_machine ? " --shared-machine" : "")
                     .c_str(),
                 Log().c_str());
  }

  // Every read, one JSON object a line, in the directory that stays behind.
  void WriteReads() const {
    const std::string path = daemon_.directory() + "/reads.jsonl";
    std::ofstream file(path);
    for (const ReadCall& read : record_.reads) {
      nlohmann::ordered_json line = {
          {"begin", absl::FormatTime("%H:%M:%E3S", read.begin, absl::UTCTimeZone())},
          {"ms", absl::ToDoubleMilliseconds(read.end - read.begin)},
          {"reader", read.reader},
          {"weather", static_cast<int>(WeatherOf(record_, read))},  // calm, own fault, neighbour's
          {"domain", Questions()[static_cast<size_t>(read.question)].domain},
          {"question", read.question},
          {"http", read.by_http},
          {"min_position", read.min_position},
          {"error", read.error}};
      for (const SliceStand& stand : read.slices) {
        line["slices"].push_back({stand.slice, stand.applied_position, stand.source, stand.state,
                                  stand.stale_reason, stand.generation});
      }
      file << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
    }
    std::fprintf(stderr, "all reads: %s\n", path.c_str());
  }

  // The end of what the daemon logged.
  std::string Log() const {
    const std::string log = daemon_.Log();
    constexpr size_t kBytes = 8000;
    return log.size() <= kBytes ? log : log.substr(log.size() - kBytes);
  }

  nlohmann::ordered_json Summary(const Verdict& verdict) const {
    std::map<std::string, int> kinds;
    std::map<std::string, int> not_injected;
    for (const FaultSpan& fault : record_.faults) {
      ++kinds[fault.kind];
      if (!fault.injected) ++not_injected[fault.kind];
    }
    const auto percentiles = [](const Latencies& all) {
      const auto pair = [](const std::vector<double>& ms) {
        return nlohmann::ordered_json{
            {"n", ms.size()}, {"p50", Percentile(ms, 0.5)}, {"p99", Percentile(ms, 0.99)}};
      };
      return nlohmann::ordered_json{{"calm", pair(all.calm)},
                                    {"own_fault", pair(all.own)},
                                    {"neighbours_fault", pair(all.neighbour)}};
    };
    const Latencies reads = ReadLatencies(record_);
    const Latencies appends = AppendLatencies(record_);
    const std::vector<double> restarts = RestartLatencies(record_);
    const auto neighbour_ratio = [](const Latencies& all) {
      const double calm = Percentile(all.calm, 0.99);
      return calm > 0 ? Percentile(all.neighbour, 0.99) / calm : 0;
    };
    return {{"faults", record_.faults.size()},
            {"kinds", kinds},
            {"not_injected", not_injected},
            {"acknowledged", verdict.acknowledged},
            {"lost", verdict.lost},
            {"doubled", verdict.doubled},
            {"reads", verdict.reads},
            {"failed_reads", verdict.failed_reads},
            {"refused_while_down", verdict.refused_while_down},
            {"unreachable", verdict.unreachable},
            {"recomputed", verdict.recomputed},
            {"wrong_answers", verdict.wrong_answers},
            {"stale_answers", verdict.stale_answers},
            {"unmarked_stale", verdict.unmarked_stale},
            {"slow_reads", verdict.slow_reads},
            {"went_back", verdict.went_back},
            {"flaps", verdict.flaps},
            {"unsent", verdict.unsent},
            {"calm_disturbed", verdict.calm_disturbed},
            {"calm_reads", verdict.calm_reads},
            {"neighbour_reads", verdict.neighbour_reads},
            {"neighbour_appends", verdict.neighbour_appends},
            {"neighbours", verdict.neighbours_measured ? "measured" : "not measured"},
            {"neighbour_stale", verdict.neighbour_stale},
            {"neighbour_not_live", verdict.neighbour_not_live},
            {"neighbour_restarts", verdict.neighbour_restarts},
            {"neighbour_silences", verdict.neighbour_silences},
            {"machine_stalls", record_.stalls.size()},
            {"breaches", verdict.breaches.size()},
            {"read_ms", percentiles(reads)},
            {"append_ms", percentiles(appends)},
            {"neighbour_ratio_p99", neighbour_ratio(reads)},
            {"neighbour_append_ratio_p99", neighbour_ratio(appends)},
            {"recovery_ms",
             {{"p50", Percentile(recoveries_, 0.5)}, {"p99", Percentile(recoveries_, 0.99)}}},
            {"standby_back_ms",
             {{"p50", Percentile(standbys_, 0.5)}, {"p99", Percentile(standbys_, 0.99)}}},
            {"daemon_restart_ms",
             {{"p50", Percentile(restarts, 0.5)}, {"p99", Percentile(restarts, 0.99)}}},
            {"verified_offline", verified_},
            {"seed", options_.seed}};
  }

  const Options options_;
  testing::DaemonFixture daemon_;
  const std::string program_link_;
  Whereabouts where_;
  Load load_;
  FaultInjector injector_;
  CallRecord record_;
  Pacer pacer_;
  absl::Time begin_;  // of the faults
  std::vector<double> recoveries_;
  std::vector<double> standbys_;
  int stop_code_ = -1;
  bool verified_ = false;
};

}  // namespace
}  // namespace icepie::fault

int main(int argc, char** argv) {
  icepie::fault::Options options;
  options.seed = std::random_device()();
  CLI::App app("Injects faults into Ice Pie under load and checks every promise");
  app.add_option("--faults", options.faults, "How many")->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.seed, "Of the schedule and the load; a random one without it");
  app.add_option("--seconds", options.seconds, "No fault begins later");
  app.add_option("--least", options.least, "Faults that --seconds must leave room for; else all");
  app.add_option("--only", options.only, "Kinds of fault; all without it")
      ->check(CLI::IsMember(icepie::fault::FaultInjector::Kinds()));
  app.add_option("--recovery-seconds", options.recovery_seconds, "In which all is fresh again");
  app.add_flag("--shared-machine", options.shared_machine,
               "Others are at work: what depends on its speed is counted, and no breach");
  app.add_flag("--keep", options.keep, "Leave the data directory behind");
  CLI11_PARSE(app, argc, argv);
  std::fprintf(stderr, "seed %u\n", options.seed);
  return icepie::fault::RunKeptTogether(
      [&options](const icepie::fault::TellDirectory& tell) {
        icepie::fault::Harness harness(options);
        tell(harness.directory());
        return harness.Run();
      },
      options.keep);
}
