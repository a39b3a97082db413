#include "slices/role/domain_test_run.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "slices/apply/record_trace.h"
#include "slices/definition/definition.h"
#include "slices/expectation/expected_rows.h"
#include "slices/query/served_slice.h"
#include "slices/role/fixture_feed.h"
#include "slices/role/live_engine.h"

namespace icepie::slices {
namespace {

constexpr int64_t kMemoryBytesDefault = int64_t{512} << 20;
constexpr absl::Duration kReportInterval = absl::Milliseconds(2);
// Restarts of one run; with more records they are spread evenly.
constexpr size_t kRestartsMax = 32;
constexpr size_t kRowsShown = 20;

bool AppliesNoMore(SliceState state) {
  return state == SliceState::kFaulted || state == SliceState::kHeld ||
         state == SliceState::kBlocked;
}

// What a run may use; the same for all cases of a file.
struct Subject {
  const std::string& file;
  const TestRunOptions& options;
  std::shared_ptr<const DomainPlan> plan;
};

// Rows expected of each slice; of those whose rows do not matter, nothing.
using ExpectedBySlice = std::map<std::string, ExpectedRows>;

TestFailure MakeFailure(const std::string& run, const std::string& slice, const std::string& what,
                        FilePlace place) {
  TestFailure failure;
  failure.run = run;
  failure.slice = slice;
  failure.what = what;
  failure.place = place;
  return failure;
}

// One run of one case.
class CaseRun {
 public:
  CaseRun(const Subject& subject, const TestDef& test, const ExpectedBySlice& rows,
          std::string name, std::string directory)
      : subject_(subject),
        test_(test),
        rows_(rows),
        name_(std::move(name)),
        directory_(std::move(directory)) {}
  ~CaseRun() {
    engine_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  absl::Status AllAtOnce() {
    for (const TestRecord& record : test_.given) Append(record);
    ICEPIE_RETURN_IF_ERROR(StartEngine());
    return Settle();
  }

  absl::Status OneByOne() {
    ICEPIE_RETURN_IF_ERROR(StartEngine());
    ICEPIE_RETURN_IF_ERROR(Settle());
    const size_t records = test_.given.size();
    const size_t step = (records + kRestartsMax - 1) / std::max<size_t>(1, kRestartsMax);
    for (size_t i = 0; i < records; ++i) {
      Append(test_.given[i]);
      ICEPIE_RETURN_IF_ERROR(Settle());
      if (i + 1 == records || (i + 1) % step != 0) continue;
      engine_->Shutdown();
      engine_.reset();
      ICEPIE_RETURN_IF_ERROR(StartEngine());
    }
    return absl::OkStatus();
  }

  void Check(std::vector<TestFailure>& failures) {
    for (const TestExpectation& expected : test_.expect) {
      CheckRecords(expected, failures);
      const auto rows = rows_.find(expected.slice);
      if (rows == rows_.end()) continue;
      const absl::Status compared = CompareRowsOf(expected, rows->second, failures);
      if (!compared.ok()) {
        failures.push_back(
            Failure(expected.slice, std::string(compared.message()), expected.place));
      }
    }
  }

 private:
  TestFailure Failure(const std::string& slice, const std::string& what, FilePlace place) const {
    return MakeFailure(name_, slice, what, place);
  }

  void Append(const TestRecord& given) {
    NewRecord record;
    record.stream = given.stream;
    record.payload = given.payload;
    record.key = given.key;
    record.event_time_us = given.event_time_us;
    feed_.Append(given.stream, {record}, given.ingest_time_us);
  }

  absl::Status StartEngine() {
    EngineOptions options;
    const LimitsDef& limits = subject_.plan->definition.limits;
    options.domain = subject_.plan->definition.domain;
    options.directory = directory_;
    options.memory_bytes = limits.memory_bytes > 0 ? limits.memory_bytes : kMemoryBytesDefault;
    if (limits.query_timeout > absl::ZeroDuration()) options.query_timeout = limits.query_timeout;
    options.snapshot_interval = absl::Hours(1);  // at restarts only
    options.on_fatal = subject_.options.on_fatal;
    ICEPIE_ASSIGN_OR_RETURN(engine_, LiveEngine::Start(options, feed_));
    Assignment assignment;
    assignment.domain = options.domain;
    assignment.epoch = ++epoch_;
    for (const SlicePlan& slice : subject_.plan->slices) {
      GenerationSpec spec;
      spec.slice = slice.slice;
      spec.number = 1;
      spec.file = subject_.file;
      spec.definition_hash = slice.definition_hash;
      spec.serving = true;
      assignment.generations.push_back(std::move(spec));
    }
    engine_->Configure(std::move(assignment));
    return absl::OkStatus();
  }

  std::optional<SliceReport> Report(const std::string& slice) const {
    EngineReport report = engine_->Report();
    if (report.epoch < epoch_) return std::nullopt;
    for (SliceReport& each : report.slices) {
      if (each.info.slice == slice) return std::move(each);
    }
    return std::nullopt;
  }

  // Waits until every slice shows all that was appended, or cannot.
  absl::Status Settle() {
    const absl::Time deadline = absl::Now() + subject_.options.timeout;
    for (const SlicePlan& slice : subject_.plan->slices) {
      ICEPIE_RETURN_IF_ERROR(SettleSlice(slice, deadline));
    }
    return absl::OkStatus();
  }

  absl::Status SettleSlice(const SlicePlan& slice, absl::Time deadline) {
    const int64_t head = feed_.head();
    while (true) {
      const auto report = Report(slice.slice);
      if (report && AppliesNoMore(report->state)) return absl::OkStatus();
      const bool ready = report && (report->state == SliceState::kRunning ||
                                    report->state == SliceState::kLagging);
      if (ready && report->progress.applied_position >= head) return absl::OkStatus();
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat("slice ", slice.slice, " has not applied its records after ",
                         absl::FormatDuration(subject_.options.timeout)));
      }
      // Its own schedule may say tomorrow, and its own pace later than a test wants.
      if (report && slice.strategy == Strategy::kRecompute) Refresh(slice.slice, deadline);
      absl::SleepFor(kReportInterval);
    }
  }

  // How it ended is in the slice's report.
  void Refresh(const std::string& slice, absl::Time deadline) {
    std::promise<void> refreshed;
    engine_->Refresh(slice, 0, deadline,
                     [&](const absl::StatusOr<int64_t>&) { refreshed.set_value(); });
    refreshed.get_future().wait();
  }

  // ---- What a slice did with the records ----

  void CheckRecords(const TestExpectation& expected, std::vector<TestFailure>& failures) {
    const auto report = Report(expected.slice);
    if (report && AppliesNoMore(report->state)) {
      const std::string why = report->last_error ? report->last_error->message : "";
      failures.push_back(Failure(expected.slice,
                                 absl::StrCat("is ", StateName(report->state), ": ", why),
                                 expected.place));
    }
    std::vector<int64_t> quarantined;
    std::vector<int64_t> filtered;
    std::vector<std::string> errors;
    for (size_t position = 0; position < test_.given.size(); ++position) {
      const TracedSlice traced = Trace(expected.slice, static_cast<int64_t>(position));
      if (!traced.via.empty()) continue;  // what a slice that it reads did is that one's
      if (traced.fate == RecordFate::kFiltered) filtered.push_back(static_cast<int64_t>(position));
      if (!traced.standing.quarantined) continue;
      quarantined.push_back(static_cast<int64_t>(position));
      if (errors.size() >= kRowsShown) continue;
      errors.push_back(
          absl::StrCat("record ", position, ": ", traced.standing.quarantined->message));
    }
    if (quarantined != expected.quarantined) {
      TestFailure failure = Failure(
          expected.slice, Listed("quarantined", expected.quarantined, quarantined), expected.place);
      failure.differences = errors;
      failures.push_back(std::move(failure));
    }
    if (expected.filtered && filtered != *expected.filtered) {
      failures.push_back(Failure(expected.slice, Listed("filtered", *expected.filtered, filtered),
                                 expected.place));
    }
  }

  TracedSlice Trace(const std::string& slice, int64_t position) {
    const auto plan_of = [this](const std::string&,
                                int64_t) -> absl::StatusOr<std::shared_ptr<const DomainPlan>> {
      return subject_.plan;
    };
    const TestRecord& given = test_.given[static_cast<size_t>(position)];
    for (TracedSlice& traced :
         TraceRecord(engine_->Locate(position), plan_of, {given.stream, position, given.payload})) {
      if (traced.standing.slice == slice) return std::move(traced);
    }
    return {};
  }

  static std::string Listed(const std::string& what, const std::vector<int64_t>& expected,
                            const std::vector<int64_t>& actual) {
    return absl::StrCat("expected ", what, " records [", absl::StrJoin(expected, ", "), "], got [",
                        absl::StrJoin(actual, ", "), "]");
  }

  // ---- Its rows ----

  absl::Status CompareRowsOf(const TestExpectation& expected, const ExpectedRows& wanted,
                             std::vector<TestFailure>& failures) {
    ICEPIE_ASSIGN_OR_RETURN(const std::vector<TextRow> actual,
                            ActualRows(expected.slice, wanted.columns));
    const RowMismatch mismatch = CompareRows(wanted, actual, expected.tolerance);
    if (mismatch.missing.empty() && mismatch.unexpected.empty()) return absl::OkStatus();
    TestFailure failure =
        Failure(expected.slice,
                absl::StrCat("rows: expected ", wanted.rows.size(), ", got ", actual.size(), "; ",
                             mismatch.missing.size(), " missing, ", mismatch.unexpected.size(),
                             " unexpected"),
                expected.place);
    for (const size_t row : mismatch.missing) {
      if (failure.missing.size() >= kRowsShown) break;
      failure.missing.push_back(RowText(wanted.columns, wanted.rows[row]));
    }
    for (const size_t row : mismatch.unexpected) {
      if (failure.unexpected.size() >= kRowsShown) break;
      failure.unexpected.push_back(RowText(wanted.columns, actual[row]));
    }
    AddDifferences(expected.slice, wanted, actual, mismatch, failure);
    failures.push_back(std::move(failure));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<TextRow>> ActualRows(const std::string& slice,
                                                  const std::vector<OutputColumn>& columns) {
    std::vector<std::string> items;
    for (const OutputColumn& column : columns) {
      const std::string name = QuoteIdentifier(column.name);
      items.push_back(absl::StrCat("CAST(", name, " AS VARCHAR) AS ", name));
    }
    Question question;
    question.text = absl::StrCat("SELECT ", absl::StrJoin(items, ", "), " FROM ",
                                 QuoteIdentifier(slice), " ORDER BY ALL");
    std::promise<absl::StatusOr<Answer>> promise;
    engine_->Ask(std::move(question),
                 [&](absl::StatusOr<Answer> answer) { promise.set_value(std::move(answer)); });
    ICEPIE_ASSIGN_OR_RETURN(const Answer answer, promise.get_future().get());
    std::vector<TextRow> rows;
    for (const auto& object : nlohmann::json::parse(answer.rows.body)) {
      TextRow row;
      for (const OutputColumn& column : columns) {
        const auto& value = object.at(column.name);
        row.push_back(value.is_null() ? std::nullopt : std::optional(value.get<std::string>()));
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }

  // Of rows with the same key, the columns that differ.
  void AddDifferences(const std::string& slice, const ExpectedRows& wanted,
                      const std::vector<TextRow>& actual, const RowMismatch& mismatch,
                      TestFailure& failure) const {
    const std::vector<std::string>& key = subject_.plan->definition.FindSlice(slice)->key;
    std::vector<size_t> key_places;
    for (size_t i = 0; i < wanted.columns.size(); ++i) {
      if (std::find(key.begin(), key.end(), wanted.columns[i].name) != key.end()) {
        key_places.push_back(i);
      }
    }
    if (key.empty() || key_places.size() != key.size()) return;
    for (const size_t missing : mismatch.missing) {
      const TextRow& expected = wanted.rows[missing];
      for (const size_t unexpected : mismatch.unexpected) {
        const TextRow& got = actual[unexpected];
        const bool same = std::all_of(key_places.begin(), key_places.end(),
                                      [&](size_t at) { return expected[at] == got[at]; });
        if (!same || failure.differences.size() >= kRowsShown) continue;
        failure.differences.push_back(DifferenceText(wanted.columns, key_places, expected, got));
      }
    }
  }

  static std::string DifferenceText(const std::vector<OutputColumn>& columns,
                                    const std::vector<size_t>& key, const TextRow& expected,
                                    const TextRow& got) {
    std::vector<std::string> keys;
    std::vector<std::string> parts;
    for (size_t i = 0; i < columns.size(); ++i) {
      if (std::find(key.begin(), key.end(), i) != key.end()) {
        keys.push_back(got[i].value_or("NULL"));
      } else if (expected[i] != got[i]) {
        parts.push_back(absl::StrCat(columns[i].name, " expected ", expected[i].value_or("NULL"),
                                     ", got ", got[i].value_or("NULL")));
      }
    }
    return absl::StrCat(absl::StrJoin(keys, ", "), ": ", absl::StrJoin(parts, "; "));
  }

  const Subject& subject_;
  const TestDef& test_;
  const ExpectedBySlice& rows_;
  const std::string name_;
  const std::string directory_;
  FixtureFeed feed_;
  std::unique_ptr<LiveEngine> engine_;
  int64_t epoch_ = 0;
};

// The expected values as their slices' types; what is no such value goes to `failures`.
absl::StatusOr<ExpectedBySlice> ReadExpected(const Subject& subject, const TestDef& test,
                                             std::vector<TestFailure>& failures) {
  ICEPIE_ASSIGN_OR_RETURN(const auto scratch, DuckDatabase::OpenInMemory({{"threads", "1"}}));
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*scratch));
  ICEPIE_RETURN_IF_ERROR(connection->Run("SET TimeZone = 'UTC'"));
  ExpectedBySlice out;
  for (const TestExpectation& expected : test.expect) {
    if (!expected.rows) continue;
    FilePlace bad = expected.place;
    auto rows = ReadExpectedRows(*connection, subject.plan->Find(expected.slice)->columns,
                                 *expected.rows, bad);
    if (rows.ok()) {
      out.emplace(expected.slice, *std::move(rows));
    } else {
      failures.push_back(
          MakeFailure("", expected.slice, std::string(rows.status().message()), bad));
    }
  }
  return out;
}

bool SameButRun(const TestFailure& a, const TestFailure& b) {
  return a.slice == b.slice && a.what == b.what && a.missing == b.missing &&
         a.unexpected == b.unexpected && a.differences == b.differences;
}

// What both runs did wrong is said once.
void Join(std::vector<TestFailure> more, std::vector<TestFailure>& failures) {
  for (TestFailure& failure : more) {
    const auto same = std::find_if(failures.begin(), failures.end(),
                                   [&](const auto& other) { return SameButRun(failure, other); });
    if (same == failures.end()) {
      failures.push_back(std::move(failure));
    } else {
      same->run.clear();
    }
  }
}

std::vector<TestFailure> RunOnce(const Subject& subject, const TestDef& test,
                                 const ExpectedBySlice& rows, bool all_at_once) {
  const std::string name = all_at_once ? "all at once" : "one by one";
  CaseRun run(subject, test, rows, name, absl::StrCat(subject.options.directory, "/run"));
  const absl::Status ran = all_at_once ? run.AllAtOnce() : run.OneByOne();
  if (!ran.ok()) return {MakeFailure(name, "", std::string(ran.message()), test.place)};
  std::vector<TestFailure> failures;
  run.Check(failures);
  return failures;
}

TestResult RunCase(const Subject& subject, const TestDef& test) {
  TestResult result;
  result.name = test.name;
  result.place = test.place;
  const absl::Time begin = absl::Now();
  const auto rows = ReadExpected(subject, test, result.failures);
  if (!rows.ok()) {
    result.failures.push_back(
        MakeFailure("", "", std::string(rows.status().message()), test.place));
  }
  // Without good expectations there is nothing to compare with.
  if (result.failures.empty()) {
    Join(RunOnce(subject, test, *rows, true), result.failures);
    Join(RunOnce(subject, test, *rows, false), result.failures);
  }
  result.took = absl::Now() - begin;
  return result;
}

}  // namespace

absl::Status RunDomainTests(const std::string& file, const TestRunOptions& options,
                            const std::function<bool(const std::string& name)>& wanted,
                            const std::function<void(const TestResult&)>& on_result) {
  ICEPIE_ASSIGN_OR_RETURN(const DomainDef definition, ParseDomain(file, options.file_name));
  ICEPIE_ASSIGN_OR_RETURN(DomainPlan plan, PlanDomain(definition));
  const Subject subject{file, options, std::make_shared<const DomainPlan>(std::move(plan))};
  for (const TestDef& test : definition.tests) {
    if (wanted(test.name)) on_result(RunCase(subject, test));
  }
  return absl::OkStatus();
}

}  // namespace icepie::slices
