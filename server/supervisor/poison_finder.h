// Finds out which slice of a domain ends its live worker again and again, and which record of that
// slice: from what the worker's flight records say after its deaths.
//
// A slice that was at the same work, over the same records, at several deaths in a row is
// suspected. When that work is applying, the records are applied a few at a time from then on,
// which narrows them down to one within a few more deaths. That one is quarantined. So is one that
// does so in a recompute, where it does so alone: parts of the records are tried in front of that.
// Where there is no such record to be found, the slice is suspended and the rest of its domain goes
// on.
#ifndef ICEPIE_SERVER_SUPERVISOR_POISON_FINDER_H_
#define ICEPIE_SERVER_SUPERVISOR_POISON_FINDER_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "slices/apply/flight_record.h"

namespace icepie::server {

// What is to be done about a generation, "slice/number".
struct PoisonVerdict {
  enum Kind { kNothing, kProbe, kRecord, kSlice };
  Kind kind = kNothing;
  std::string generation;
  int64_t position = 0;  // kRecord
  // kProbe: of [begin, end), so many records at a time.
  int64_t begin = 0;
  int64_t end = 0;
  int64_t records = 0;
  std::string why;      // kSlice
  int64_t resumes = 0;  // of the slice by then: what was found before one is void after it
};

// Erases what is about the generations of `slice`, from a map by "slice/number".
template <typename Value>
void EraseGenerationsOf(const std::string& slice, std::map<std::string, Value>& generations) {
  const std::string prefix = slice + "/";
  auto next = generations.lower_bound(prefix);
  while (next != generations.end() && next->first.compare(0, prefix.size(), prefix) == 0) {
    next = generations.erase(next);
  }
}

// Threads: none; the caller's. It never looks at a clock: times are passed in.
class PoisonFinder {
 public:
  static constexpr int kDeaths = 5;        // before anything is done …
  static constexpr int kBlamedDeaths = 3;  // … or so many that hit the thread at this work
  static constexpr int kProbesMax = 12;    // before it is given up to find the record
  static constexpr int kRecordsMax = 5;    // of one generation; one more suspends the slice
  static constexpr absl::Duration kWindow = absl::Minutes(10);  // between two deaths

  // The worker has died while it was doing this.
  PoisonVerdict OnDeath(absl::Time now, const std::vector<slices::FlightNote>& notes);

  // The record is left out of the generation already, found by an earlier daemon, say.
  void Know(const std::string& generation, int64_t position) {
    found_[generation].insert(position);
  }

  // What was found about a slice, or any, is void: it was changed, or somebody wants it tried
  // again.
  void Forget(const std::string& slice);
  void Forget();

 private:
  PoisonVerdict Judge();
  void Suspect(const slices::FlightNote& note);
  bool Narrow(const slices::FlightNote& note);

  std::string generation_;
  std::string subject_;  // of the notes: the generation, or an expectation of it
  slices::Activity activity_ = slices::Activity::kNone;
  absl::Time last_ = absl::InfinitePast();
  int deaths_ = 0;
  int blamed_ = 0;
  int probes_ = 0;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  int64_t records_ = 0;    // of the last probe; 0: none yet
  bool narrowed_ = false;  // since then
  bool alone_ = false;     // it died in a probe
  std::map<std::string, std::set<int64_t>> found_;
  std::map<std::string, int> known_;  // deaths that one starts with that was found guilty before
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_POISON_FINDER_H_
