// A live worker's suspension after too many failures, in a file: another daemon goes on with it
// instead of trying the same again as if it had never been.
//
// A serialized WorkerStatus. It is not in the domain's directory, where the worker itself may
// write. It is replaced as a whole, but not synced: the supervisor's loop does not wait for a disk,
// and whom a power cut makes forget just tries.
#ifndef ICEPIE_SERVER_SUPERVISOR_SUSPENSION_FILE_H_
#define ICEPIE_SERVER_SUPERVISOR_SUSPENSION_FILE_H_

#include <optional>
#include <string>
#include <utility>

#include "icepie/v1/admin.pb.h"

namespace icepie::server {

// Errors: none; what cannot be written is logged, and what cannot be read is not there.
// Threads: none of its own; one file, one thread.
class SuspensionFile {
 public:
  // Nothing is kept when `path` is empty.
  explicit SuspensionFile(std::string path) : path_(std::move(path)) {}

  void Write(const icepie::v1::WorkerStatus& status) const;
  std::optional<icepie::v1::WorkerStatus> Read() const;
  void Remove() const;

 private:
  const std::string path_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_SUSPENSION_FILE_H_
