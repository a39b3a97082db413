#include "server/admin/event_calls.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/base/drain_gate.h"
#include "server/base/proto_time.h"
#include "server/base/rpc_status.h"

namespace icepie::server {
namespace {

constexpr int32_t kPageSize = 100;
constexpr int32_t kPageSizeMax = 1000;

}  // namespace

icepie::v1::ListEventsResponse ListEvents(const EventLog& log,
                                          const icepie::v1::ListEventsRequest& request) {
  EventFilter filter = FilterFor(request.name());
  if (request.has_since()) filter.since = FromProto(request.since());
  const int32_t asked = request.page_size() > 0 ? request.page_size() : kPageSize;
  const auto size = static_cast<size_t>(std::min(asked, kPageSizeMax));
  if (request.newest()) {
    icepie::v1::ListEventsResponse newest;
    for (auto& event : log.ListNewest(filter, size)) *newest.add_events() = std::move(event);
    return newest;
  }
  std::vector<icepie::v1::Event> events = log.List(filter, request.after_number(), size + 1);
  icepie::v1::ListEventsResponse response;
  response.set_more(events.size() > size);
  if (response.more()) events.resize(size);
  for (auto& event : events) *response.add_events() = std::move(event);
  return response;
}

WatchEventsCall* WatchEventsCall::Start(EventLog& log,
                                        const icepie::v1::WatchEventsRequest& request) {
  const int64_t after = request.has_after_number() ? request.after_number() : log.last_number();
  auto* call = new WatchEventsCall(log, FilterFor(request.name()), after);
  call->subscription_ = log.Subscribe([call] { call->SendNext(); });
  call->SendNext();
  return call;
}

void WatchEventsCall::SendNext() {
  const MutexLock lock(mutex_);
  if (writing_ || ended_) return;
  const bool last_look = log_.watches_end();
  const int64_t last = log_.last_number();
  std::vector<icepie::v1::Event> next = log_.List(filter_, after_, 1);
  after_ = next.empty() ? std::max(after_, last) : next.front().number();
  if (next.empty() && last_look) return End(ToGrpcStatus(Draining()));
  if (next.empty()) return;
  event_ = std::move(next.front());
  writing_ = true;
  StartWrite(&event_);
}

void WatchEventsCall::End(const grpc::Status& status) {
  if (writing_ || std::exchange(ended_, true)) return;
  Finish(status);
}

void WatchEventsCall::OnWriteDone(bool ok) {
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) return End(grpc::Status::CANCELLED);
  }
  SendNext();
}

// With a write under way, its end finds the call broken and ends it.
void WatchEventsCall::OnCancel() {
  const MutexLock lock(mutex_);
  End(grpc::Status::CANCELLED);
}

void WatchEventsCall::OnDone() {
  log_.Unsubscribe(subscription_);
  delete this;
}

}  // namespace icepie::server
