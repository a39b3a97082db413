// Whether a stream has records at or beyond a position: what a slice that stands there has not
// seen.
#ifndef ICEPIE_SERVER_STREAM_ENDS_H_
#define ICEPIE_SERVER_STREAM_ENDS_H_

#include <cstdint>
#include <map>
#include <string>

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

 private:
  struct End {
    int64_t offset = 0;    // the stream had so many records …
    int64_t position = 0;  // … of which the last is before this position
  };

  const Core& core_;
  Mutex mutex_;
  std::map<std::string, End> ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_STREAM_ENDS_H_
