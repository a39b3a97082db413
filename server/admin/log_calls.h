// Admin.TailLogs: reads log files on a thread of its own and sends them line by line.
#ifndef ICEPIE_SERVER_ADMIN_LOG_CALLS_H_
#define ICEPIE_SERVER_ADMIN_LOG_CALLS_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "icepie/v1/admin.pb.h"
#include "server/base/event_loop.h"
#include "server/domain/domain_reader.h"
#include "server/supervisor/worker_log.h"

namespace icepie::server {

// Threads: any.
// Lifetime: its calls must have ended before it goes, which ending the gRPC server sees to.
class LogTails {
 public:
  static constexpr int kCallsMax = 16;

  // `directory_of` gives a domain's directory.
  LogTails(const DomainReader& reader, std::function<std::string(const std::string&)> directory_of);
  ~LogTails();

  // DOMAIN_NOT_FOUND, SLICE_NOT_FOUND; RESOURCE_EXHAUSTED/TOO_MANY_CALLS beyond kCallsMax.
  grpc::ServerWriteReactor<icepie::v1::LogLine>* Start(const icepie::v1::TailLogsRequest& request);

  // Ends those that follow, with SERVER_DRAINING.
  void Drain() { *draining_ = true; }

 private:
  class Call;

  absl::StatusOr<std::unique_ptr<DomainLog>> Open(const icepie::v1::TailLogsRequest& request) const;

  const DomainReader& reader_;
  const std::function<std::string(const std::string&)> directory_of_;
  std::shared_ptr<std::atomic<int>> calls_;
  const std::shared_ptr<std::atomic<bool>> draining_ = std::make_shared<std::atomic<bool>>(false);
  EventLoop loop_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_LOG_CALLS_H_
