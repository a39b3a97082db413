#include "server/domain/done_requests.h"

#include <algorithm>

#include "server/admin/request_replay.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::catalog::v1::DoneRequest;

bool IsForgotten(const DoneRequest& done, absl::Time now) {
  return now - FromProto(done.time()) >= kReplayAge;
}

}  // namespace

bool IsDone(const icepie::catalog::v1::SliceEntry& slice, const std::string& digest,
            absl::Time now) {
  const auto& done = slice.done_requests();
  return !digest.empty() && std::any_of(done.begin(), done.end(), [&](const DoneRequest& each) {
    return each.digest() == digest && !IsForgotten(each, now);
  });
}

void NoteDone(const std::string& digest, absl::Time now, icepie::catalog::v1::SliceEntry& slice) {
  if (digest.empty()) return;
  auto& done = *slice.mutable_done_requests();
  done.erase(std::remove_if(done.begin(), done.end(),
                            [&](const DoneRequest& each) { return IsForgotten(each, now); }),
             done.end());
  if (done.size() >= kDoneRequestsMax) done.DeleteSubrange(0, done.size() - kDoneRequestsMax + 1);
  DoneRequest& added = *done.Add();
  added.set_digest(digest);
  *added.mutable_time() = ToProto(now);
}

}  // namespace icepie::server
