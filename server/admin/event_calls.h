// Admin.ListEvents and Admin.WatchEvents.
#ifndef ICEPIE_SERVER_ADMIN_EVENT_CALLS_H_
#define ICEPIE_SERVER_ADMIN_EVENT_CALLS_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>

#include "core/base/mutex.h"
#include "icepie/v1/events.pb.h"
#include "server/admin/event_log.h"

namespace icepie::server {

icepie::v1::ListEventsResponse ListEvents(const EventLog& log,
                                          const icepie::v1::ListEventsRequest& request);

// Sends events until the client goes, or the daemon stops (SERVER_DRAINING). One that does not take
// them is not waited for: it goes on at the oldest that is still kept, and sees by the numbers that
// some are missing. Lifetime: deletes itself; `log` must outlive it.
class WatchEventsCall final : public grpc::ServerWriteReactor<icepie::v1::Event> {
 public:
  static WatchEventsCall* Start(EventLog& log, const icepie::v1::WatchEventsRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  WatchEventsCall(EventLog& log, EventFilter filter, int64_t after)
      : log_(log), filter_(std::move(filter)), after_(after) {}

  void SendNext();
  void End(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EventLog& log_;
  const EventFilter filter_;
  int64_t subscription_ = 0;
  icepie::v1::Event event_;  // being sent

  Mutex mutex_;
  int64_t after_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_EVENT_CALLS_H_
