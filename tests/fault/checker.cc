#include "tests/fault/checker.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "tests/fault/fault_domains.h"
#include "tests/fault/isolation_check.h"
#include "tests/fault/order_check.h"
#include "tests/fault/reference.h"
#include "tests/fault/weather.h"

namespace icepie::fault {
namespace {

using Json = nlohmann::json;

bool IsDown(const CallRecord& record, const ReadCall& read, absl::Duration margin) {
  return std::any_of(record.downs.begin(), record.downs.end(), [&](const DownSpan& down) {
    return read.end >= down.begin && read.begin <= down.end + margin;
  });
}

bool IsFrozenAllAlong(const CallRecord& record, const std::string& slice, const ReadCall& read) {
  return std::any_of(record.frozen.begin(), record.frozen.end(), [&](const FrozenSpan& frozen) {
    return frozen.slice == slice && frozen.begin <= read.begin && read.end <= frozen.end;
  });
}

std::string Describe(const ReadCall& read) {
  const Question& question = Questions()[static_cast<size_t>(read.question)];
  return absl::StrCat(question.domain, read.by_http ? " over HTTP: " : ": ", question.sql);
}

// The checks over one record, and what they found so far.
class Checker {
 public:
  Checker(const CallRecord& record, const CheckOptions& options)
      : record_(record), options_(options) {}

  absl::StatusOr<Verdict> Run() {
    CheckAppends();
    CheckSent();
    slow_read_ = SlowRead();
    for (const ReadCall& read : record_.reads) CheckRead(read);
    CheckIsolation(record_, options_, &verdict_);
    CheckOrder(record_, options_, &verdict_);
    ICEPIE_RETURN_IF_ERROR(Recompute());
    CheckFaults();
    CheckRestarts();
    return std::move(verdict_);
  }

 private:
  void Break(const std::string& promise, std::string what, absl::Time time) {
    verdict_.Break(promise, std::move(what), time);
  }

  // ---- Faults -----------------------------------------------------------------------------------

  void CheckFaults() {
    for (const FaultSpan& fault : record_.faults) {
      if (!fault.error.empty()) Break("P9", fault.error, fault.begin);
    }
    for (const std::string& kind : NeverHappened(record_)) {
      Break("harness", absl::StrCat(kind, " was tried and never happened"), absl::InfiniteFuture());
    }
  }

  // Ports back, and answers from snapshots, whatever else a start has to do.
  void CheckRestarts() {
    const double p99 = Percentile(RestartLatencies(record_), 0.99);
    const double allowed = absl::ToDoubleMilliseconds(options_.restart_p99);
    if (options_.shared_machine || p99 <= allowed) return;
    Break("P3",
          absl::StrFormat("from a daemon's start to its first answer the p99 is %.0f ms of %.0f ms",
                          p99, allowed),
          absl::InfiniteFuture());
  }

  // ---- Appends ----------------------------------------------------------------------------------

  void CheckAppends() {
    std::map<std::pair<std::string, std::string>, std::vector<int64_t>> places;
    int64_t next = 0;
    for (const StoredRecord& stored : record_.stored) {
      if (stored.position != next) {
        Break("P1", absl::StrCat("position ", next, " is missing"), absl::InfiniteFuture());
        next = stored.position;
      }
      ++next;
      places[{stored.stream, stored.payload}].push_back(stored.position);
    }
    std::map<int, int64_t> last_end;  // by client
    for (const AppendCall& append : record_.appends) {
      if (append.acknowledged) {
        CheckAcknowledged(append, places);
        if (append.first_position < last_end[append.client]) {
          Break("P1",
                absl::StrCat("batch ", append.batch, " of client ", append.client,
                             " stands before an earlier one"),
                append.end);
        }
        last_end[append.client] = append.end_position;
      } else {
        Break("P2",
              absl::StrCat("batch ", append.batch, " of client ", append.client,
                           " was never acknowledged: ", append.error),
              append.begin);
      }
    }
  }

  void CheckAcknowledged(
      const AppendCall& append,
      const std::map<std::pair<std::string, std::string>, std::vector<int64_t>>& places) {
    for (size_t i = 0; i < append.records.size(); ++i) {
      ++verdict_.acknowledged;
      const StoredRecord& sent = append.records[i];
      const auto found = places.find({sent.stream, sent.payload});
      const std::string which = absl::StrCat("record ", i, " of batch ", append.batch,
                                             " of client ", append.client, " (", sent.payload, ")");
      const int64_t expected = append.first_position + static_cast<int64_t>(i);
      if (found == places.end()) {
        ++verdict_.lost;
        Break("P1", absl::StrCat(which, " is lost"), append.end);
      } else if (found->second.size() > 1) {
        ++verdict_.doubled;
        Break("P1", absl::StrCat(which, " is stored ", found->second.size(), " times"), append.end);
      } else if (found->second.front() != expected) {
        Break("P1",
              absl::StrCat(which, " is at ", found->second.front(), " and was said to be at ",
                           expected),
              append.end);
      }
    }
  }

  // Whatever is in the load's streams was sent by somebody, whether or not he was told so.
  void CheckSent() {
    std::set<std::string> streams;
    for (const StreamSpec& stream : Streams()) streams.insert(stream.name);
    std::set<std::pair<std::string, std::string>> sent;
    for (const AppendCall& append : record_.appends) {
      for (const StoredRecord& record : append.records)
        sent.insert({record.stream, record.payload});
    }
    for (const StoredRecord& stored : record_.stored) {
      if (streams.count(stored.stream) == 0 || sent.count({stored.stream, stored.payload}) > 0) {
        continue;
      }
      ++verdict_.unsent;
      Break("P1",
            absl::StrCat("nobody sent the record at ", stored.position, " (", stored.payload, ")"),
            absl::InfiniteFuture());
    }
  }

  // ---- Reads ------------------------------------------------------------------------------------

  void CheckRead(const ReadCall& read) {
    ++verdict_.reads;
    CheckSlow(read);
    if (!read.answered) {
      CheckFailure(read);
      return;
    }
    if (read.stale) ++verdict_.stale_answers;
    const bool any = std::any_of(read.slices.begin(), read.slices.end(),
                                 [](const SliceStand& stand) { return stand.stale; });
    if (any != read.stale) Unmarked(read, "the answer and its slices differ in being stale");
    for (const SliceStand& stand : read.slices) CheckStand(read, stand);
  }

  absl::Duration SlowRead() const {
    constexpr size_t kSamples = 20;  // fewer say nothing of the machine
    const std::vector<double> calm = ReadLatencies(record_).calm;
    if (calm.size() < kSamples) return options_.slow_read;
    return std::max(options_.slow_read,
                    absl::Milliseconds(options_.slow_medians * Percentile(calm, 0.5)));
  }

  // Only those who asked for a position wait for something.
  void CheckSlow(const ReadCall& read) {
    const absl::Duration took = read.end - read.begin;
    if (read.min_position >= 0 || took <= slow_read_ ||
        IsDown(record_, read, options_.down_margin)) {
      return;
    }
    ++verdict_.slow_reads;
    if (options_.shared_machine) return;
    Break("P3", absl::StrCat("a read took ", absl::FormatDuration(took), ", ", Describe(read)),
          read.begin);
  }

  void CheckFailure(const ReadCall& read) {
    if (IsExcused(read)) {
      ++verdict_.refused_while_down;
    } else if (read.min_position >= 0 && read.reason == "POSITION_UNREACHABLE" &&
               (options_.shared_machine || WeatherOf(record_, read) == Weather::kOwn)) {
      // The answer that it asks for does not exist now; it is told so.
      ++verdict_.unreachable;
    } else {
      ++verdict_.failed_reads;
      Break("P3",
            absl::StrCat("failed read after ", absl::FormatDuration(read.end - read.begin), ", ",
                         Describe(read), ": ", read.error),
            read.begin);
    }
  }

  // Nobody was there, or said that he was about to go. Whoever is there and answers, answers right.
  bool IsExcused(const ReadCall& read) const {
    return (read.unheard || read.reason == "SERVER_DRAINING") &&
           IsDown(record_, read, options_.down_margin);
  }

  void Unmarked(const ReadCall& read, const std::string& what) {
    ++verdict_.unmarked_stale;
    Break("P4", absl::StrCat(what, ", ", Describe(read)), read.begin);
  }

  // The position that a fresh answer must have reached: of what was acknowledged long enough ago.
  int64_t AcknowledgedBefore(absl::Time time) {
    if (ends_.empty()) {
      for (const AppendCall& append : record_.appends) {
        if (append.acknowledged) ends_.emplace_back(append.end, append.end_position);
      }
      std::sort(ends_.begin(), ends_.end());
      int64_t most = 0;
      for (auto& [end, position] : ends_) position = most = std::max(most, position);
    }
    const auto after = std::upper_bound(
        ends_.begin(), ends_.end(), time,
        [](absl::Time t, const std::pair<absl::Time, int64_t>& end) { return t < end.first; });
    return after == ends_.begin() ? 0 : std::prev(after)->second;
  }

  void CheckStand(const ReadCall& read, const SliceStand& stand) {
    const std::string where =
        absl::StrCat(stand.slice, " at ", stand.applied_position, " by ", stand.source);
    if (stand.stale && stand.stale_reason.empty()) {
      Unmarked(read, absl::StrCat(where, " is stale without a reason"));
    }
    if (!stand.stale) {
      const bool live = stand.source == "LIVE";
      const int64_t least = live ? AcknowledgedBefore(read.begin - options_.fresh_within)
                                 : read.acknowledged_position;
      if (stand.applied_position < least) {
        Unmarked(read, absl::StrCat(where, " is not marked stale and lacks records below ", least));
      } else if (IsFrozenAllAlong(record_, stand.slice, read)) {
        Unmarked(read, absl::StrCat(where, " is frozen and not marked stale"));
      }
    }
    if (read.min_position > stand.applied_position) {
      ++verdict_.wrong_answers;
      Break("P4",
            absl::StrCat(where, " was asked for min_position ", read.min_position, ", ",
                         Describe(read)),
            read.begin);
    }
  }

  // ---- Recomputing ------------------------------------------------------------------------------

  using Key = std::tuple<int, std::vector<int64_t>>;  // question, positions of its slices

  static Key KeyOf(const ReadCall& read) {
    std::vector<int64_t> positions;
    for (const SliceStand& stand : read.slices) positions.push_back(stand.applied_position);
    return {read.question, positions};
  }

  // All answers that a standby gave, and as many others as there is room for.
  std::set<Key> Choose() const {
    std::set<Key> chosen;
    std::vector<Key> others;
    for (const ReadCall& read : record_.reads) {
      if (!read.answered) continue;
      const bool standby = std::any_of(read.slices.begin(), read.slices.end(),
                                       [](const SliceStand& s) { return s.source != "LIVE"; });
      if (standby) {
        chosen.insert(KeyOf(read));
      } else {
        others.push_back(KeyOf(read));
      }
    }
    std::shuffle(others.begin(), others.end(), std::mt19937(options_.seed));
    for (const Key& key : others) {
      if (static_cast<int64_t>(chosen.size()) >= options_.recomputed_max) break;
      chosen.insert(key);
    }
    return chosen;
  }

  absl::Status Recompute() {
    ICEPIE_ASSIGN_OR_RETURN(const auto reference, Reference::Open(record_.stored));
    const std::set<Key> chosen = Choose();
    std::map<Key, std::pair<Json, std::vector<int64_t>>> expected;
    for (const ReadCall& read : record_.reads) {
      const Key key = KeyOf(read);
      if (!read.answered || chosen.count(key) == 0) continue;
      auto known = expected.find(key);
      if (known == expected.end()) {
        ICEPIE_ASSIGN_OR_RETURN(auto answer, Expect(*reference, read));
        known = expected.emplace(key, std::move(answer)).first;
        ++verdict_.recomputed;
      }
      Compare(read, known->second.first, known->second.second);
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<std::pair<Json, std::vector<int64_t>>> Expect(Reference& reference,
                                                                      const ReadCall& read) {
    const Question& question = Questions()[static_cast<size_t>(read.question)];
    ICEPIE_ASSIGN_OR_RETURN(const std::string rows, reference.Answer(question, read.slices));
    std::vector<int64_t> quarantined;
    for (const SliceStand& stand : read.slices) {
      ICEPIE_ASSIGN_OR_RETURN(const int64_t count, reference.Quarantined(FindSlice(stand.slice),
                                                                         stand.applied_position));
      quarantined.push_back(count);
    }
    return std::make_pair(Json::parse(rows, nullptr, false), std::move(quarantined));
  }

  void Compare(const ReadCall& read, const Json& rows, const std::vector<int64_t>& quarantined) {
    std::string stands;
    for (size_t i = 0; i < read.slices.size(); ++i) {
      const SliceStand& stand = read.slices[i];
      absl::StrAppend(&stands, i == 0 ? "" : ", ", stand.slice, " at ", stand.applied_position,
                      " by ", stand.source, " ", stand.state);
      if (stand.quarantined == quarantined[i]) continue;
      ++verdict_.wrong_answers;
      Break("P8",
            absl::StrCat(stands, " says ", stand.quarantined, " quarantined, there are ",
                         quarantined[i]),
            read.begin);
    }
    if (Json::parse(read.rows, nullptr, false) == rows) return;
    ++verdict_.wrong_answers;
    Break("P5",
          absl::StrCat("wrong answer (", stands, "), ", Describe(read), ": got ",
                       read.rows.substr(0, 600), " expected ", rows.dump().substr(0, 600)),
          read.begin);
  }

  const CallRecord& record_;
  const CheckOptions& options_;
  Verdict verdict_;
  absl::Duration slow_read_;
  std::vector<std::pair<absl::Time, int64_t>> ends_;  // of acknowledged appends, running maximum
};

}  // namespace

std::vector<std::string> NeverHappened(const CallRecord& record) {
  std::map<std::string, bool> happened;
  for (const FaultSpan& fault : record.faults) {
    happened[fault.kind] = happened[fault.kind] || fault.injected;
  }
  std::vector<std::string> kinds;
  for (const auto& [kind, once] : happened) {
    if (!once) kinds.push_back(kind);
  }
  return kinds;
}

absl::StatusOr<Verdict> Check(const CallRecord& record, const CheckOptions& options) {
  return Checker(record, options).Run();
}

}  // namespace icepie::fault
