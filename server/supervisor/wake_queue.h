// Whose live worker runs when more domains that may hibernate have records to apply than the
// machine has memory for: so many are awake at once, and they take turns.
//
// Who has waited longest is next. Who has nothing more to do goes to rest for the next one, and who
// always has goes when its turn is over; as many of both as are needed and no more. A domain that
// cannot rest keeps its place; but a quarter of all places never stays with such domains.
#ifndef ICEPIE_SERVER_SUPERVISOR_WAKE_QUEUE_H_
#define ICEPIE_SERVER_SUPERVISOR_WAKE_QUEUE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace icepie::server {

// Looked through in rounds: Begin, then a word for each domain, then End.
// Threads: one.
class WakeQueue {
 public:
  enum class Work {
    kNothing,     // idle since …
    kRecords,     // may rest and come back for the others; awake since …
    kCannotRest,  // it starts, or a slice of it is not well; awake since …
  };
  // What to do now.
  struct Turns {
    std::vector<std::string> wake;
    std::vector<std::string> wait;  // whose waiting begins
    std::vector<std::string> rest;
    bool crowded = false;  // somebody waits still
  };

  // `awake_max` 0: no limit. A turn ends after `turn` when others wait.
  WakeQueue(int awake_max, absl::Duration turn) : awake_max_(awake_max), turn_(turn) {}

  void Begin(absl::Time now);
  // One whose live worker runs, or is about to.
  void Awake(const std::string& domain, Work work, absl::Time since);
  // One whose live worker is ending.
  void Leaves() { ++leaving_; }
  // One that rests and has something to do.
  void Want(const std::string& domain);
  Turns End();

  int awake_max() const { return awake_max_; }
  absl::Duration turn() const { return turn_; }

 private:
  struct Waiting {
    int64_t round = 0;  // since
    bool wanted = false;
  };
  using Line = std::vector<std::pair<absl::Time, std::string>>;

  std::vector<std::pair<int64_t, std::string>> WaitingInOrder();

  const int awake_max_;
  const absl::Duration turn_;
  int64_t round_ = 0;
  std::map<std::string, Waiting> waiting_;
  // Of this round:
  absl::Time now_;
  int awake_ = 0;  // of those with a process all but `leaving_` and `stuck_`
  int leaving_ = 0;
  int stuck_ = 0;  // cannot rest although their turn is over
  Line idle_;      // since when
  Line over_;      // whose turn is over: awake since when
};

// How many domains may be awake with so much memory: half of it, for their two workers
// at 64 MiB each; 8 at least.
int AwakeMaxByMemory(int64_t memory_bytes);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_WAKE_QUEUE_H_
