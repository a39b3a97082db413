#include "tests/slices/differential_run.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "slices/role/build_engine.h"
#include "slices/role/live_engine.h"
#include "tests/slices/differential_reference.h"
#include "tests/slices/memory_feed.h"

namespace icepie::slices {
namespace {

using Json = nlohmann::json;
using Row = std::vector<std::string>;

constexpr char kNull[] = "NULL";
constexpr int64_t kPageSize = 1000;
// Of each record that is blamed it is checked that the SQL fails on it, up to so many.
constexpr size_t kBlameCheckedMax = 5;

// Sums of doubles may be added up in another order. Those of the records are exact in each; what is
// left of deviations of equal values is not quite nothing.
bool SameDouble(const std::string& a, const std::string& b) {
  if (a == b) return true;
  if (a == kNull || b == kNull) return false;
  const double x = std::strtod(a.c_str(), nullptr);
  const double y = std::strtod(b.c_str(), nullptr);
  return std::abs(x - y) <= 1e-9 * std::max(std::abs(x), std::abs(y)) + 1e-12;
}

// The rows, sorted by what must be equal exactly, then by the doubles.
std::vector<Row> SortedRows(const std::string& json, const std::vector<bool>& doubles) {
  std::vector<Row> rows;
  for (const Json& object : Json::parse(json)) {
    Row& row = rows.emplace_back();
    for (size_t i = 0; i < doubles.size(); ++i) {
      const Json& cell = object.at(absl::StrCat("c", i));
      row.push_back(cell.is_null() ? kNull : cell.get<std::string>());
    }
  }
  const auto before = [&](const Row& a, const Row& b) {
    for (size_t i = 0; i < doubles.size(); ++i) {
      if (!doubles[i] && a[i] != b[i]) return a[i] < b[i];
    }
    for (size_t i = 0; i < doubles.size(); ++i) {
      if (!doubles[i] || SameDouble(a[i], b[i])) continue;
      if (a[i] == kNull || b[i] == kNull) return a[i] == kNull;  // it would be read as 0
      return std::strtod(a[i].c_str(), nullptr) < std::strtod(b[i].c_str(), nullptr);
    }
    return false;
  };
  std::sort(rows.begin(), rows.end(), before);
  return rows;
}

bool SameRow(const Row& a, const Row& b, const std::vector<bool>& doubles) {
  for (size_t i = 0; i < doubles.size(); ++i) {
    if (doubles[i] ? !SameDouble(a[i], b[i]) : a[i] != b[i]) return false;
  }
  return true;
}

std::string RowsText(const std::vector<Row>& rows) {
  constexpr size_t kShown = 40;
  std::string text;
  for (size_t i = 0; i < std::min(rows.size(), kShown); ++i) {
    absl::StrAppend(&text, "  ", absl::StrJoin(rows[i], " | "), "\n");
  }
  if (rows.size() > kShown) absl::StrAppend(&text, "  … of ", rows.size(), "\n");
  return text;
}

bool IsStopped(SliceState state) {
  return state == SliceState::kFaulted || state == SliceState::kHeld ||
         state == SliceState::kBlocked;
}

class CaseRunner {
 public:
  CaseRunner(const DifferentialCase& test_case, absl::Duration patience)
      : case_(test_case), patience_(patience) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "icepie-differential-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~CaseRunner() {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }

  CaseResult Run() {
    if (Prepare()) {
      for (size_t i = 0; i < case_.steps.size() && !result_.failure; ++i) RunStep(i);
      if (!result_.failure) Rebuild();
    }
    return std::move(result_);
  }

 private:
  bool Fail(CaseFailure::Is is, const std::string& what) {
    if (!result_.failure) result_.failure = {is, what};
    return false;
  }

  bool Prepare() {
    const auto definition = ParseDomain(case_.Yaml(), "diff.yaml");
    if (!definition.ok()) {
      return Fail(CaseFailure::Is::kInvalid, definition.status().ToString());
    }
    auto plan = PlanDomain(*definition);
    if (!plan.ok()) return Fail(CaseFailure::Is::kInvalid, plan.status().ToString());
    plan_ = *std::move(plan);
    for (const SlicePlan& slice : plan_.slices) {
      ++result_.strategies[StrategyName(slice.strategy)];
      if (slice.retained.span_us > 0) ++result_.strategies["retain"];
    }
    auto reference = DifferentialReference::Make(case_);
    if (!reference.ok()) return Fail(CaseFailure::Is::kInvalid, reference.status().ToString());
    reference_ = *std::move(reference);
    feed_.set_blocks_per_piece(case_.blocks_per_piece);
    return Start();
  }

  EngineOptions Options() {
    EngineOptions options;
    options.domain = "diff";
    options.directory = directory_;
    options.memory_bytes = int64_t{256} << 20;
    options.snapshot_interval = case_.saved_often ? absl::Milliseconds(1) : absl::Hours(1);
    options.snapshot_share = 0.5;
    options.on_fatal = [this](const std::string& why) {
      Fail(CaseFailure::Is::kWrong, "the engine gives up: " + why);
    };
    return options;
  }

  bool Start() {
    auto engine = LiveEngine::Start(Options(), feed_);
    if (!engine.ok()) return Fail(CaseFailure::Is::kInvalid, engine.status().ToString());
    engine_ = *std::move(engine);
    Configure();
    return true;
  }

  void Configure() {
    Assignment assignment;
    assignment.domain = "diff";
    assignment.epoch = ++epoch_;
    for (const CaseSlice& slice : case_.slices) {
      GenerationSpec spec;
      spec.slice = slice.name;
      spec.number = 1;
      spec.file = case_.Yaml();
      spec.serving = true;
      if (acknowledged_ > 0) spec.acknowledged = PositionRanges({{0, acknowledged_}});
      assignment.generations.push_back(std::move(spec));
    }
    engine_->Configure(std::move(assignment));
  }

  void RunStep(size_t index) {
    const CaseStep& step = case_.steps[index];
    for (const CaseBatch& batch : step.batches) Append(batch);
    if (step.refresh) {
      for (const SlicePlan& slice : plan_.slices) {
        engine_->Refresh(slice.slice, 0, absl::Now() + patience_, [](const auto&) {});
      }
    }
    stopped_.clear();
    for (const SlicePlan& plan : plan_.slices) {
      if (!result_.failure) Settle(plan, index);
    }
    if (result_.failure) return;
    if (step.acknowledges) Acknowledge(index);
    if (step.restart == CaseRestart::kNone) return;
    if (step.restart == CaseRestart::kClean) engine_->Shutdown();
    engine_.reset();
    if (step.lost_slice) {
      std::filesystem::remove_all(absl::StrCat(directory_, "/snapshots/v", *step.lost_slice));
    }
    Start();
  }

  void Acknowledge(size_t step) {
    acknowledged_ = feed_.head();
    Configure();
    for (const SlicePlan& plan : plan_.slices) {
      const absl::Time deadline = absl::Now() + patience_;
      std::optional<SliceReport> report = Find(plan.slice);
      while (absl::Now() < deadline && (!report || report->unacknowledged > 0)) {
        absl::SleepFor(absl::Milliseconds(1));
        report = Find(plan.slice);
      }
      if (report && report->unacknowledged == 0) continue;
      Fail(CaseFailure::Is::kStuck, absl::StrCat(Head(plan, step), ": not all is acknowledged"));
    }
  }

  void Append(const CaseBatch& batch) {
    const CaseStream& stream = case_.streams[batch.stream];
    std::vector<std::string> payloads;
    for (const CaseRecord& record : batch.records) {
      payloads.push_back(record.harmed ? "{" : PayloadOf(stream, record));
    }
    if (payloads.empty()) return;
    const int64_t time_us = 1'000'000 * ++appends_;
    appended_.push_back({&batch, feed_.head(), time_us});
    const absl::Status added = reference_->Add(batch, feed_.head(), time_us);
    if (!added.ok()) Fail(CaseFailure::Is::kInvalid, added.ToString());
    feed_.Append(stream.name, payloads, time_us);
  }

  // Waits until the slice stands at the head, or at an error that the reference run has too, and
  // compares.
  void Settle(const SlicePlan& plan, size_t step) {
    const absl::Time deadline = absl::Now() + patience_;
    std::string last;
    while (absl::Now() < deadline && !result_.failure) {
      const std::optional<SliceReport> report = Find(plan.slice);
      if (report) {
        const bool answers =
            report->state == SliceState::kRunning || report->state == SliceState::kLagging;
        if (answers && report->progress.applied_position >= feed_.head()) {
          return Compare(plan, *report, step);
        }
        if (IsStopped(report->state) && ErrorIsShared(plan)) return Stop(plan);
        last = absl::StrCat("state ", static_cast<int>(report->state), " position ",
                            report->progress.applied_position, " of ", feed_.head(), " ",
                            report->last_error ? report->last_error->message : "");
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    Fail(CaseFailure::Is::kStuck, absl::StrCat(Head(plan, step), " does not get there: ", last));
  }

  // Builds one slice anew, as a re-slice does, from a file that reads less strictly, so that
  // records come out of quarantine; its rows and its quarantine are those of a reference run of
  // that file.
  void Rebuild() {
    const std::string& slice = plan_.slices[case_.seed % plan_.slices.size()].slice;
    if (stopped_.count(slice) > 0) return;
    std::map<std::string, std::string> snapshots;
    engine_->Shutdown();
    for (const SliceReport& report : engine_->Report().slices) {
      if (report.snapshot) snapshots[report.info.slice] = report.snapshot->path;
    }
    DifferentialCase lenient = case_;
    for (CaseSource& source : lenient.sources) {
      if (case_.retried) continue;
      for (CaseColumn& column : source.columns) {
        column.required = false;
        column.half_up =
            lenient.streams[source.stream].fields[column.field].kind == ValueKind::kDecimal;
      }
    }
    const auto plan = PlanDomain(ParseDomain(lenient.Yaml(), "diff.yaml").value());
    if (!plan.ok()) {
      Fail(CaseFailure::Is::kInvalid, plan.status().ToString());
      return;
    }
    if (!ReferTo(lenient, *plan, slice)) return;
    CompareBuild(lenient, *plan, slice, std::move(snapshots));
  }

  // The reference run of another file. False: the slice, or one that it reads, has no rows there.
  bool ReferTo(const DifferentialCase& lenient, const DomainPlan& plan, const std::string& slice) {
    auto reference = DifferentialReference::Make(lenient);
    if (!reference.ok()) return Fail(CaseFailure::Is::kInvalid, reference.status().ToString());
    reference_ = *std::move(reference);
    for (const Appended& each : appended_) {
      const absl::Status added = reference_->Add(*each.batch, each.position, each.time_us);
      if (!added.ok()) return Fail(CaseFailure::Is::kInvalid, added.ToString());
    }
    for (const SlicePlan& each : plan.slices) {
      if (each.slice == slice) return true;
      // What it reads: of records that SQL fails on only a live engine tells.
      if (SlicesBelow(plan, *plan.Find(slice)).count(each.slice) == 0) continue;
      if (!reference_->Compute(Slice(each), reference_->Unreadable(each)).ok()) return false;
    }
    return true;
  }

  void CompareBuild(const DifferentialCase& lenient, const DomainPlan& domain,
                    const std::string& slice, std::map<std::string, std::string> snapshots) {
    const SlicePlan& plan = *domain.Find(slice);
    Assignment assignment;
    assignment.domain = "diff";
    assignment.epoch = 2;
    GenerationSpec& spec = assignment.generations.emplace_back();
    spec.slice = slice;
    spec.number = 2;
    spec.file = lenient.Yaml();
    spec.definition_hash = plan.definition_hash;
    BuildJob job;
    job.slice = slice;
    job.number = 2;
    job.base_snapshot = snapshots[slice];
    job.base_generation = 1;
    job.other_snapshots = std::move(snapshots);
    job.continue_base = case_.retried;
    assignment.build = std::move(job);
    absl::StatusOr<std::unique_ptr<BuildEngine>> engine;
    BuildReport report;
    for (int i = 0; i <= case_.interrupted; ++i) {
      engine = absl::UnknownError("");  // the former one ends before
      engine = BuildEngine::Start(BuildOptions(), feed_);
      if (!engine.ok()) {
        Fail(CaseFailure::Is::kInvalid, engine.status().ToString());
        return;
      }
      (*engine)->Configure(assignment);
      report = WaitForBuild(**engine, i < case_.interrupted);
      if (report.phase == "ready" || report.phase == "failed") break;
    }
    if (report.done_before > 0) ++result_.strategies["resumed"];
    if (report.phase == "ready") {
      ++result_.comparisons;
      CompareWithReference(**engine, plan, case_.steps.size());
    } else if (reference_->Compute(Slice(plan), reference_->Unreadable(plan)).ok()) {
      Fail(CaseFailure::Is::kWrong,
           absl::StrCat("build of ", slice, " (", plan.why, "): ", report.phase, " ",
                        report.error ? report.error->message : ""));
    }
  }

  EngineOptions BuildOptions() {
    EngineOptions options = Options();
    if (case_.interrupted == 0) return options;
    options.snapshot_interval = absl::ZeroDuration();
    options.snapshot_share = 1e9;  // whatever it costs: after each batch
    return options;
  }

  // Until it ends, or, if it is to be interrupted, has saved something.
  BuildReport WaitForBuild(const BuildEngine& engine, bool interrupted) const {
    const absl::Time deadline = absl::Now() + patience_;
    BuildReport report;
    while (absl::Now() < deadline) {
      report = engine.Report().build.value_or(BuildReport());
      if (report.phase == "ready" || report.phase == "failed") break;
      if (interrupted && HasSavedOnItsWay()) break;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return report;
  }

  bool HasSavedOnItsWay() const {
    std::error_code error;  // the build goes on meanwhile
    for (std::filesystem::recursive_directory_iterator file(directory_ + "/unfinished", error), end;
         !error && file != end; file.increment(error)) {
      if (file->path().extension() == ".json") return true;
    }
    return false;
  }

  std::optional<SliceReport> Find(const std::string& slice) const {
    for (SliceReport& report : engine_->Report().slices) {
      if (report.info.slice == slice) return report;
    }
    return std::nullopt;
  }

  const CaseSlice& Slice(const SlicePlan& plan) const { return *case_.FindSlice(plan.slice); }

  std::string Head(const SlicePlan& plan, size_t step) const {
    return absl::StrCat("slice ", plan.slice, " (", plan.why, ") after step ", step);
  }

  void Stop(const SlicePlan& plan) {
    stopped_.insert(plan.slice);
    ++result_.errors_shared;
  }

  // A slice that cannot have rows: its SQL fails on what can be read, or it reads such a slice.
  bool ErrorIsShared(const SlicePlan& plan) {
    for (const std::string& upstream : plan.upstream) {
      if (stopped_.count(upstream) > 0) return true;
    }
    return !reference_->Compute(Slice(plan), reference_->Unreadable(plan)).ok();
  }

  absl::StatusOr<std::vector<QuarantinedRecord>> Quarantined(Engine& engine,
                                                             const std::string& slice) {
    std::vector<QuarantinedRecord> all;
    bool more = true;
    while (more) {
      const int64_t after = all.empty() ? -1 : all.back().position;
      ICEPIE_ASSIGN_OR_RETURN(QuarantinePage page, engine.ListQuarantined(slice, after, kPageSize));
      all.insert(all.end(), page.records.begin(), page.records.end());
      more = page.more;
    }
    return all;
  }

  void Compare(const SlicePlan& plan, const SliceReport& report, size_t step) {
    ++result_.comparisons;
    const std::optional<std::set<int64_t>> excluded = CompareWithReference(*engine_, plan, step);
    if (excluded) CheckCounts(plan, report, *excluded, step);
  }

  // Rows and quarantine, which it returns.
  std::optional<std::set<int64_t>> CompareWithReference(Engine& engine, const SlicePlan& plan,
                                                        size_t step) {
    const auto quarantined = Quarantined(engine, plan.slice);
    if (!quarantined.ok()) {
      Fail(CaseFailure::Is::kWrong,
           absl::StrCat(Head(plan, step), ": ", quarantined.status().ToString()));
      return std::nullopt;
    }
    std::set<int64_t> excluded;
    for (const QuarantinedRecord& record : *quarantined) excluded.insert(record.position);
    if (!CheckQuarantine(plan, excluded, step)) return std::nullopt;
    const absl::Status computed = reference_->Compute(Slice(plan), excluded);
    if (!computed.ok()) {
      Fail(CaseFailure::Is::kWrong,
           absl::StrCat(Head(plan, step),
                        " answers, the reference run fails: ", computed.ToString()));
      return std::nullopt;
    }
    CompareRows(engine, plan, step);
    return excluded;
  }

  // Quarantined are exactly the unreadable records and those that the SQL fails on.
  bool CheckQuarantine(const SlicePlan& plan, const std::set<int64_t>& quarantined, size_t step) {
    const std::set<int64_t> unreadable = reference_->Unreadable(plan);
    std::vector<int64_t> missed;
    std::set_difference(unreadable.begin(), unreadable.end(), quarantined.begin(),
                        quarantined.end(), std::back_inserter(missed));
    std::vector<int64_t> blamed;
    std::set_difference(quarantined.begin(), quarantined.end(), unreadable.begin(),
                        unreadable.end(), std::back_inserter(blamed));
    if (!missed.empty()) {
      return Fail(
          CaseFailure::Is::kWrong,
          absl::StrCat(Head(plan, step), ": not quarantined: ", absl::StrJoin(missed, " ")));
    }
    result_.blamed += static_cast<int>(blamed.size());
    for (size_t i = 0; i < std::min(blamed.size(), kBlameCheckedMax); ++i) {
      std::set<int64_t> others = quarantined;
      others.erase(blamed[i]);
      if (!reference_->Compute(Slice(plan), others).ok()) continue;
      // It was blamed by what came before it; a later record may have taken its place.
      if (!reference_->Compute(Slice(plan), others, blamed[i] + 1).ok()) continue;
      return Fail(
          CaseFailure::Is::kWrong,
          absl::StrCat(Head(plan, step), ": quarantined, but the SQL takes it: ", blamed[i]));
    }
    return true;
  }

  bool CheckCounts(const SlicePlan& plan, const SliceReport& report,
                   const std::set<int64_t>& quarantined, size_t step) {
    const Progress& progress = report.progress;
    const int64_t expected = reference_->InputCount(plan);
    const bool counted =
        progress.quarantined == static_cast<int64_t>(quarantined.size()) &&
        progress.input == progress.applied + progress.filtered + progress.quarantined &&
        progress.input == expected;
    if (counted) return true;
    return Fail(
        CaseFailure::Is::kWrong,
        absl::StrCat(Head(plan, step), ": counts ", progress.input, " = ", progress.applied,
                     " applied + ", progress.filtered, " filtered + ", progress.quarantined,
                     " quarantined, of ", expected, " with ", quarantined.size(), " listed"));
  }

  absl::StatusOr<std::string> Ask(Engine& engine, const SlicePlan& plan) {
    Question question;
    question.text = SelectAsText(plan.slice, plan.columns.size());
    question.min_position = feed_.head();
    std::promise<absl::StatusOr<Answer>> promise;
    engine.Ask(std::move(question),
               [&](absl::StatusOr<Answer> answer) { promise.set_value(std::move(answer)); });
    ICEPIE_ASSIGN_OR_RETURN(Answer answer, promise.get_future().get());
    return std::move(answer.rows.body);
  }

  void CompareRows(Engine& engine, const SlicePlan& plan, size_t step) {
    const auto got = Ask(engine, plan);
    const auto wanted = reference_->Rows(plan.slice, plan.columns.size());
    if (!got.ok() || !wanted.ok()) {
      Fail(CaseFailure::Is::kWrong, absl::StrCat(Head(plan, step), ": ", got.status().ToString(),
                                                 " ", wanted.status().ToString()));
      return;
    }
    std::vector<bool> doubles;
    for (const OutputColumn& column : plan.columns) doubles.push_back(column.type == "DOUBLE");
    const std::vector<Row> ours = SortedRows(*got, doubles);
    const std::vector<Row> theirs = SortedRows(*wanted, doubles);
    const size_t common = std::min(ours.size(), theirs.size());
    size_t same = 0;
    while (same < common && SameRow(ours[same], theirs[same], doubles)) ++same;
    if (same == ours.size() && same == theirs.size()) return;
    Fail(CaseFailure::Is::kWrong,
         absl::StrCat(Head(plan, step), ": rows differ from sorted row ", same, " on\n  sql ",
                      Slice(plan).query.Sql(), "\n got ", ours.size(), ":\n", RowsText(ours),
                      " expected ", theirs.size(), ":\n", RowsText(theirs)));
  }

  const DifferentialCase& case_;
  const absl::Duration patience_;
  std::string directory_;
  CaseResult result_;
  DomainPlan plan_;
  std::unique_ptr<DifferentialReference> reference_;
  MemoryFeed feed_;
  std::unique_ptr<LiveEngine> engine_;
  int64_t epoch_ = 0;
  int64_t acknowledged_ = 0;       // all below
  std::set<std::string> stopped_;  // slices that have no rows, in this step
  struct Appended {
    const CaseBatch* batch = nullptr;
    int64_t position = 0;
    int64_t time_us = 0;
  };
  std::vector<Appended> appended_;
  int64_t appends_ = 0;
};

}  // namespace

CaseResult RunCase(const DifferentialCase& test_case, absl::Duration patience) {
  return CaseRunner(test_case, patience).Run();
}

}  // namespace icepie::slices
