// A worker's side of server/supervisor/life_watch.h.
#ifndef ICEPIE_SERVER_WORKER_LIFE_H_
#define ICEPIE_SERVER_WORKER_LIFE_H_

#include "absl/status/status.h"

namespace icepie::server {

// Starts a thread that holds the futex of the page that `fd` is, as long as the process lives, and
// closes `fd`. It makes the process's first thread: what threads inherit comes before.
absl::Status HoldLife(int fd);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_LIFE_H_
