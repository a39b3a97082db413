// Where the daemon's Unix sockets are.
#ifndef ICEPIE_SERVER_SUPERVISOR_RUN_DIRECTORY_H_
#define ICEPIE_SERVER_SUPERVISOR_RUN_DIRECTORY_H_

#include <string>

#include "absl/status/statusor.h"

namespace icepie::server {

// `<data>/run`, or, where that would make socket paths longer than the kernel takes (108 bytes), a
// directory of our own under /tmp whose name comes from the data directory's. Created for this user
// only and emptied of the sockets of an earlier daemon; absolute.
absl::StatusOr<std::string> PrepareRunDirectory(const std::string& data_directory);

// Where a worker serves: `<run>/<name>/s`, in a directory of its own, the only place beside its
// domain's where its sandbox lets it create and remove files. At most 20 characters of `name`.
std::string WorkerSocket(const std::string& run_directory, const std::string& name);
// Makes that directory and returns the socket in it: where the disk has no room for one, in a
// directory of ours in memory (/dev/shm) in place of `run_directory`.
absl::StatusOr<std::string> PrepareWorkerSocket(const std::string& run_directory,
                                                const std::string& name);
// Where that worker notes what it is doing (slices/apply/flight_record.h); goes with its directory.
std::string FlightRecordOf(const std::string& socket);
// The assignment that it starts with, from its start until it has answered (icepie.worker.v1).
std::string AssignmentFileOf(const std::string& socket);
// What is left of it after the worker's end.
void RemoveWorkerSocket(const std::string& socket);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_RUN_DIRECTORY_H_
