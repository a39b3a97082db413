// Whether a stream has records at or beyond a position, and how long it has had them: what a slice
// that stands there has not seen.
#ifndef ICEPIE_SERVER_RECORD_STREAM_ENDS_H_
#define ICEPIE_SERVER_RECORD_STREAM_ENDS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/core.h"

namespace icepie::server {

// Looks a record up only when the answer is not known from before, so that it can be asked with
// every query while records stream in.
// Threads: any.
class StreamEnds {
 public:
  explicit StreamEnds(const Core& core) : core_(core) {}

  // True, too, when it cannot be found out; false of a stream that does not exist.
  bool HasBeyond(const std::string& stream, int64_t position);

  // For how long, at least, the stream has had a record at or beyond `position`; zero: it has none,
  // or nobody knows since when. Exact to the time between two such questions, so it must be asked
  // again and again, as with every report of a worker.
  absl::Duration BeyondFor(const std::string& stream, int64_t position);

  // The ingest time of its first record at or beyond `position`; InfiniteFuture: it has none, or
  // that one cannot be read. Looks it up in the core unless it is known from before, so it is for
  // positions that stand still.
  absl::Time OldestBeyond(const std::string& stream, int64_t position);

 private:
  struct Seen {
    absl::Time time;       // by SteadyNow()
    int64_t position = 0;  // as of End
  };
  struct Oldest {
    absl::Time time;   // InfiniteFuture: it could not be read …
    absl::Time again;  // … and is not tried before then, by SteadyNow()
  };
  struct End {
    int64_t offset = 0;                // the stream had so many records …
    int64_t position = 0;              // … of which the last is before this position
    std::vector<Seen> seen;            // by time; the older, the fewer
    std::map<int64_t, Oldest> oldest;  // beyond these positions
  };
  static void Note(End& end, absl::Time now);
  absl::Time ReadOldest(const std::string& stream, int64_t position) const;

  const Core& core_;
  Mutex mutex_;
  std::map<std::string, End> ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_STREAM_ENDS_H_
