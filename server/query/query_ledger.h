// Which queries were running when workers died, and which of them are therefore refused for a
// while.
//
// A query is known by its fingerprint. The flight record of a dead worker says what ran, and often
// which thread it was that died: that counts twice. A query that has been answered since is
// innocent, however often it was there: a dashboard that asks all the time is there at every death.
//
// What it is to blame for outlasts the daemon, in a file: one line for each query, its fingerprint,
// points, refusals so far, last death and end of the refusal (microseconds since 1970), between
// spaces. The file is replaced as a whole and not synced: after a power cut the daemon may learn
// anew.
#ifndef ICEPIE_SERVER_QUERY_QUERY_LEDGER_H_
#define ICEPIE_SERVER_QUERY_QUERY_LEDGER_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace icepie::server {

// Threads: any. It never looks at a clock: times are passed in.
class QueryLedger {
 public:
  static constexpr int kPointsOfBlamed = 2;
  static constexpr int kPointsToBlock = 4;  // two deaths that it is to blame for, or four others
  static constexpr absl::Duration kBlockFor = absl::Minutes(5);  // doubles each time …
  static constexpr absl::Duration kBlockMax = absl::Hours(1);    // … up to this
  static constexpr size_t kEntriesMax = 4096;

  // With what is in `file`, if that is not empty.
  explicit QueryLedger(std::string file = "");

  // Until when it is refused; nullopt: it is not.
  std::optional<absl::Time> BlockedUntil(const std::string& fingerprint, absl::Time now) const;

  // It was answered: deaths that it was only there at do not count any more. Those that it is to
  // blame for do, and a refusal goes on, since constants do not count: `f(1)` may be harmless.
  void OnAnswered(const std::string& fingerprint);
  // True: it is refused from now on.
  bool OnDeath(const std::string& fingerprint, bool blamed, absl::Time now);

 private:
  struct Entry {
    int points = 0;         // of all deaths
    int points_blamed = 0;  // those of them that it is to blame for
    int blocks = 0;
    absl::Time last = absl::InfinitePast();
    absl::Time until = absl::InfinitePast();
  };
  void DropOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Count(const std::string& fingerprint, bool blamed, absl::Time now);
  void Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Lines() const;
  void Write();

  const std::string file_;
  Mutex writing_;
  mutable Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_LEDGER_H_
