// Where the daemon's Unix sockets are.
#ifndef ICEPIE_SERVER_RUN_DIRECTORY_H_
#define ICEPIE_SERVER_RUN_DIRECTORY_H_

#include <string>

#include "absl/status/statusor.h"

namespace icepie::server {

// `<data>/run`, or, where that would make socket paths longer than the kernel takes (108 bytes), a
// directory of our own under /tmp whose name comes from the data directory's. Created for this user
// only and emptied of the sockets of an earlier daemon; absolute.
absl::StatusOr<std::string> PrepareRunDirectory(const std::string& data_directory);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RUN_DIRECTORY_H_
