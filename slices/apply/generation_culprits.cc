// Generation: records of its own streams on which SQL fails that is not run record by record: over
// slices, or as a whole. They are looked for by running it on some of them, and left out.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "slices/apply/flight_record.h"
#include "slices/apply/generation.h"

namespace icepie::slices {
namespace {

// So long, or as long as some runs take; and as long again to be sure of what was found. Whatever
// else wants to be computed waits.
constexpr int kSearchRuns = 50;
constexpr int kSearchRunsMin = 4;
constexpr absl::Duration kSearchTimeMax = absl::Minutes(1);

// The search's own end, by its reason: an interrupt's is DEADLINE_EXCEEDED, and a feed may say
// OUT_OF_RANGE.
constexpr char kOutOfTime[] = "SEARCH_OUT_OF_TIME";

absl::Status OutOfTime() {
  return MakeError(absl::StatusCode::kOutOfRange,
                   "it takes long to find the records on which the SQL fails", kOutOfTime);
}

bool IsOutOfTime(const absl::Status& status) { return ErrorReason(status) == kOutOfTime; }

absl::Status TryWithout(const absl::Status& error, size_t records) {
  return absl::AbortedError(
      absl::StrCat(error.message(), "; once more without the ", records, " records that it is of"));
}

}  // namespace

void Generation::SetSearchTime(absl::Duration run) {
  search_time_ = std::max(
      {search_time_min_, std::min(run * kSearchRuns, kSearchTimeMax), run * kSearchRunsMin});
  RenewSearchTime();
  search_end_ = search_until_;
}

void Generation::RenewSearchTime() { search_until_ = SteadyNow() + search_time_; }

absl::Status Generation::TryOut(const std::function<absl::Status()>& run) {
  if (SteadyNow() > search_until_) return OutOfTime();
  if (on_trial_) on_trial_();
  ICEPIE_RETURN_IF_ERROR(Settle());
  ICEPIE_RETURN_IF_ERROR(PrepareBatch());
  ICEPIE_RETURN_IF_ERROR(Begin());
  const absl::Status status = run();
  Rollback();
  for (auto& [slice, changes] : upstream_changes_) changes.rows->Clear();
  return status;
}

// Held back ones, those that end the process, and those on which the SQL fails.
std::vector<int64_t> Generation::LeftOut() const {
  std::set<int64_t> all(suspects_.deadly);
  all.insert(held_back_.begin(), held_back_.end());
  for (const auto& [position, error] : culprits_) all.insert(position);
  return {all.begin(), all.end()};
}

// Those in quarantine stay there, whatever has come to what they failed on.
absl::Status Generation::ReadCulprits() {
  ICEPIE_ASSIGN_OR_RETURN(const auto rows,
                          connection_->QueryCells("SELECT position, message FROM __quarantine "
                                                  "WHERE code = 'SQL_ERROR'"));
  for (const CellRow& row : rows) {
    culprits_.emplace(std::get<int64_t>(row[0]), std::get<std::string>(row[1]));
  }
  return absl::OkStatus();
}

// More would be over the budget, or nearly.
bool Generation::FoundEnough(size_t count) const {
  const bool one = definition_->on_bad_record == BadRecordAction::kFault;
  return static_cast<int64_t>(count) > (one ? 0 : definition_->budget.records);
}

bool Generation::TookRecords() const {
  return std::any_of(inputs_.begin(), inputs_.end(),
                     [](const Input& input) { return input.input->counts().rows > 0; });
}

// Looks for some that pass among the last half of them, the last quarter, and so on: where many of
// the first ones fail, FindAlone() comes to others late.
absl::Status Generation::LookForOthers(const Trial& trial, int64_t from, int64_t end,
                                       Alone& alone) const {
  for (int64_t count = (end - from) / 2; count > 0 && !alone.others_pass; count /= 2) {
    const absl::Status status = trial(end - count, end);
    if (!status.ok() && !absl::IsInvalidArgument(status)) return status;
    alone.others_pass = status.ok() && TookRecords();
  }
  return absl::OkStatus();
}

// Halves them down to those that fail without any other.
absl::Status Generation::FindAlone(const Trial& trial, int64_t from, int64_t end, bool fails,
                                   Alone& alone) const {
  if (alone.others_pass && FoundEnough(alone.fail.size())) return absl::OkStatus();
  if (!fails) {
    const absl::Status status = trial(from, end);
    if (status.ok() && TookRecords()) alone.others_pass = true;
    if (!absl::IsInvalidArgument(status)) return status;
  }
  if (end - from == 1) {
    alone.fail.push_back(from);
    return absl::OkStatus();
  }
  const int64_t middle = from + (end - from) / 2;
  ICEPIE_RETURN_IF_ERROR(FindAlone(trial, from, middle, /*fails=*/false, alone));
  return FindAlone(trial, middle, end, /*fails=*/false, alone);
}

// A record is to blame when the SQL fails with it and those before it, and does not without it.
// Most of those fail alone, too, and are found quickly thereby; one that needs others for it (an
// overflow of a sum) is the last of the fewest that fail.
absl::Status Generation::SearchCulprits(const Trial& trial, const Suspects& among) {
  if (among.from >= among.end) return absl::OkStatus();
  const absl::Status before = trial(among.base, among.from);
  if (!before.ok()) return absl::IsInvalidArgument(before) ? absl::OkStatus() : before;
  // With none that it ever took, a row of a slice is what all of several fail on.
  Alone alone;
  alone.others_pass = among.from > 0 || upstream_.empty();
  ICEPIE_RETURN_IF_ERROR(LookForOthers(trial, among.from, among.end, alone));
  const absl::Status looked = FindAlone(trial, among.from, among.end,
                                        /*fails=*/among.base == among.from, alone);
  if (!looked.ok()) {
    if (!IsOutOfTime(looked) || alone.fail.empty()) return looked;
    RenewSearchTime();
  }
  if (alone.fail.size() > 1 && !alone.others_pass) return absl::OkStatus();
  const size_t known = culprits_.size();
  for (const int64_t position : alone.fail) {
    const absl::Status status = trial(among.base, position + 1);
    if (status.ok()) continue;
    if (!absl::IsInvalidArgument(status)) return status;
    culprits_.emplace(position, std::string(status.message()));
  }
  if (culprits_.size() > known || !looked.ok()) return looked;
  int64_t good = among.from;
  int64_t bad = among.end;
  absl::Status error = among.error;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    const absl::Status status = trial(among.base, middle);
    if (!status.ok() && !absl::IsInvalidArgument(status)) return status;
    if (!status.ok()) error = status;
    (status.ok() ? good : bad) = middle;
  }
  if (bad == among.end) {
    // Nothing has failed here yet: what did fail may have been a row of a slice that is gone.
    const absl::Status status = trial(among.base, bad);
    if (!absl::IsInvalidArgument(status)) return status;
    error = status;
  }
  culprits_.emplace(good, std::string(error.message()));
  return absl::OkStatus();
}

// Whether it may go on without them. What is no record of its own is forgotten: SQL that fails now
// and then finds such.
absl::Status Generation::JudgeCulprits(const SupplyOf& supply, bool anew) {
  const std::vector<int64_t> left_out = LeftOut();
  ICEPIE_RETURN_IF_ERROR(SetRecords(supply, left_out));
  const std::vector<QuarantinedRecord> bad = BadRecords(left_out, "");
  for (Input& input : inputs_) ICEPIE_RETURN_IF_ERROR(input.input->supply_error());
  std::set<int64_t> own;
  for (const QuarantinedRecord& record : bad) own.insert(record.position);
  for (auto it = culprits_.begin(); it != culprits_.end();) {
    it = own.count(it->first) > 0 ? std::next(it) : culprits_.erase(it);
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<size_t> over, FirstOver(bad, anew));
  if (over) return OverBudget({bad.begin() + static_cast<int64_t>(*over), bad.end()});
  return absl::OkStatus();
}

// What its upstream slices have: what is equal before and after had it all the time.
absl::StatusOr<std::string> Generation::UpstreamContent() {
  ICEPIE_RETURN_IF_ERROR(Settle());
  std::string content;
  for (const auto& [slice, from] : upstream_) {
    ICEPIE_ASSIGN_OR_RETURN(const auto rows, connection_->QueryCells(absl::StrCat(
                                                 "SELECT content_version FROM ",
                                                 QuoteIdentifier(from.alias), ".main.__progress")));
    absl::StrAppend(&content, from.run, " ", std::get<int64_t>(rows[0][0]), "\n");
  }
  return content;
}

// In one transaction, so over the same rows of other slices: the SQL has to fail with a record, and
// not without it. Others, and those that there is no time for, are to blame no more.
absl::Status Generation::ProveCulprits(const std::map<int64_t, std::string>& known,
                                       const Trial& run) {
  const std::map<int64_t, std::string> found = std::exchange(culprits_, known);
  const absl::Time end = SteadyNow() + search_time_;
  search_until_ = absl::InfiniteFuture();
  for (const auto& [position, message] : found) {
    if (known.count(position) > 0) continue;
    if (culprits_.size() > known.size() && SteadyNow() > end) break;
    bool without = false;
    culprits_.emplace(position, message);
    const absl::Status with = TryOut([&, at = position] {
      ICEPIE_RETURN_IF_ERROR(run(0, at + 1));
      without = true;
      culprits_.erase(at);
      return run(0, at + 1);
    });
    culprits_.erase(position);
    if (!with.ok() && !absl::IsInvalidArgument(with)) return with;
    if (without && !with.ok()) culprits_.emplace(position, with.message());
  }
  if (culprits_.size() > known.size()) return absl::OkStatus();
  return absl::AbortedError("slices that it reads have changed while it was looked for records");
}

// OK: it may be tried again without those that were found; the error itself: there are none.
absl::Status Generation::FindCulprits(const Trial& trial, const Suspects& among,
                                      const SupplyOf& supply, bool anew) {
  const std::map<int64_t, std::string> known = culprits_;
  ICEPIE_ASSIGN_OR_RETURN(const std::string content, UpstreamContent());
  absl::Status status = SearchCulprits(trial, among);
  const bool searched = status.ok() || IsOutOfTime(status);
  if (searched && culprits_.size() == known.size()) return among.error;
  // A slice that it reads may have changed during the search, and be what it fails on: one run more
  // tells, however long the search took.
  search_until_ = absl::InfiniteFuture();
  if (searched) status = trial(among.base, among.from);
  RenewSearchTime();
  if (!status.ok()) {
    culprits_ = known;
    return absl::IsInvalidArgument(status) ? among.error : status;
  }
  // Or it may have been that, and be it no more.
  if (among.run != nullptr) {
    const absl::StatusOr<std::string> now = UpstreamContent();
    absl::Status proven = now.status();
    if (now.ok() && *now != content) proven = ProveCulprits(known, among.run);
    if (!proven.ok()) culprits_ = known;
    ICEPIE_RETURN_IF_ERROR(proven);
  }
  ICEPIE_RETURN_IF_ERROR(JudgeCulprits(supply, anew));
  return culprits_.size() > known.size() ? absl::OkStatus() : among.error;
}

// Records that its present rows are of were taken once: when it fails on these alone, its upstream
// slices have changed. Only the caller can make those stand where they stood, so the next attempt
// is the caller's.
absl::Status Generation::FindCulpritsOfRun(Feed& feed, int64_t position,
                                           const absl::Status& error) {
  const Trial run = [&](int64_t begin, int64_t end) { return RunWhole(feed, begin, end); };
  const Trial trial = [&](int64_t begin, int64_t end) {
    return TryOut([&] { return run(begin, end); });
  };
  const int64_t good = tries_all_anew_ ? 0 : std::min(position, progress_.applied_position);
  const size_t known = culprits_.size();
  ICEPIE_RETURN_IF_ERROR(FindCulprits(
      trial, {0, good, position, error, run},
      [&](const std::string& stream) { return FeedSupply(feed, stream, position); },
      /*anew=*/true));
  return TryWithout(error, culprits_.size() - known);
}

absl::Status Generation::FindCulpritsOfChanges(Feed& feed, const RecordBatch* batch, int64_t to,
                                               const absl::Status& error) {
  const Trial trial = [&](int64_t begin, int64_t end) {
    return TryOutChanges(feed, batch, begin, end, std::nullopt);
  };
  const size_t known = culprits_.size();
  const absl::Status status = FindCulprits(
      trial, {position_, position_, to, error, nullptr},
      [&](const std::string& stream) {
        return batch != nullptr ? batch->Supply(stream, position_, to)
                                : FeedSupply(feed, stream, to, position_);
      },
      /*anew=*/false);
  if (absl::IsInvalidArgument(status)) NoteBlame(feed);
  ICEPIE_RETURN_IF_ERROR(status);
  // Others of the domain wait for their turn.
  if (SteadyNow() <= search_end_) return absl::OkStatus();
  return TryWithout(error, culprits_.size() - known);
}

std::string Generation::FlightSubject() const {
  return absl::StrCat(slice_plan_->slice, "/", served_->info().number);
}

void Generation::SetSuspects(SuspectRecords suspects) {
  const bool same = suspects.probe_begin == suspects_.probe_begin &&
                    suspects.probe_end == suspects_.probe_end &&
                    suspects.probe_records == suspects_.probe_records;
  suspects_ = std::move(suspects);
  if (!same) probe_next_ = suspects_.probe_begin;
}

bool Generation::ProbesDeadly(int64_t from, int64_t end) const {
  return suspects_.probe_records > 0 &&
         std::max(from, probe_next_) < std::min(end, suspects_.probe_end);
}

// One of them ends the process when its SQL is run over all: where it does so alone, the flight
// record tells in which part it is. What else its SQL says of them is not asked; a part that there
// is no memory for is passed over, for it would be the next time, too. Others of the domain have
// their turn in between: ABORTED then, and the next attempt goes on. Each begins without any
// record: a row of another slice is no fault of theirs.
absl::Status Generation::ProbeDeadly(const Trial& trial, int64_t from, int64_t end) {
  const absl::Time until = SteadyNow() + search_time_min_;
  search_until_ = absl::InfiniteFuture();
  const auto probe = [&](int64_t first, int64_t behind) {
    const FlightEntry flight(Activity::kProbe, FlightSubject(), first, behind);
    const absl::Status status = trial(first, behind);
    const bool over = absl::IsInvalidArgument(status) || absl::IsResourceExhausted(status);
    return over ? absl::OkStatus() : status;
  };
  probe_next_ = std::max(from, probe_next_);
  end = std::min(end, suspects_.probe_end);
  ICEPIE_RETURN_IF_ERROR(probe(probe_next_, probe_next_));
  while (probe_next_ < end) {
    const int64_t behind = std::min(end, probe_next_ + suspects_.probe_records);
    ICEPIE_RETURN_IF_ERROR(probe(probe_next_, behind));
    probe_next_ = behind;
    if (probe_next_ < end && SteadyNow() >= until) {
      return absl::AbortedError("more records are to be tried alone");
    }
  }
  return absl::OkStatus();
}

// The run itself is the caller's next attempt, as behind a search for culprits.
absl::Status Generation::ProbeRun(Feed& feed, int64_t position) {
  Rollback();
  const Trial trial = [&](int64_t begin, int64_t end) {
    return TryOut([&] { return RunWhole(feed, begin, end); });
  };
  ICEPIE_RETURN_IF_ERROR(ProbeDeadly(trial, 0, position));
  return absl::AbortedError("none of the records that were suspected ends the process alone");
}

}  // namespace icepie::slices
