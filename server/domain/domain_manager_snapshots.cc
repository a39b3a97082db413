// Named snapshots: the workers make them, the daemon lists and deletes them.
#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/domain/domain_manager.h"
#include "server/domain/snapshot_list.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
namespace wv1 = icepie::worker::v1;

// A large slice is copied and hashed meanwhile.
constexpr absl::Duration kNameTimeout = absl::Minutes(5);

absl::Status Name(WorkerClient& worker, const wv1::NameSnapshotRequest& request,
                  absl::Duration timeout) {
  auto named = std::make_shared<std::promise<absl::Status>>();
  auto result = named->get_future();
  worker.NameSnapshot(request, timeout,
                      [named](const auto& response) { named->set_value(response.status()); });
  return result.get();
}

}  // namespace

absl::StatusOr<v1::ListSnapshotsResponse> DomainManager::ListSnapshots(
    const v1::ListSnapshotsRequest& request) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.slice()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, reader_.FindSlice(*domain, parts.slice));
  v1::ListSnapshotsResponse response;
  for (v1::Snapshot& snapshot : server::ListSnapshots(supervisor_.DomainDirectory(parts.domain),
                                                      parts.slice, slice->serving_generation())) {
    snapshot.set_slice(request.slice());
    *response.add_snapshots() = std::move(snapshot);
  }
  return response;
}

absl::StatusOr<v1::Snapshot> DomainManager::CreateSnapshot(const v1::CreateSnapshotRequest& request,
                                                           AdminAction& action,
                                                           absl::Duration timeout) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.slice()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(reader_.FindSlice(*domain, parts.slice).status());
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  wv1::NameSnapshotRequest name;
  name.set_slice(parts.slice);
  name.set_name(request.name());
  name.set_actor(request.actor());
  name.set_reason(request.reason());
  const absl::Time deadline = SteadyNow() + timeout;
  const DomainView view = supervisor_.AwakeView(parts.domain, std::min(timeout, kAwakeTimeout));
  absl::Status named = MakeError(absl::StatusCode::kUnavailable,
                                 absl::StrCat("no worker of domain ", parts.domain,
                                              " is running; they are being restarted, try again"),
                                 "WORKER_LOST", {{"domain", parts.domain}});
  for (const WorkerView* worker : {&view.live, &view.standby}) {
    if (!worker->client) continue;
    named = Name(*worker->client, name, std::min(deadline - SteadyNow(), kNameTimeout));
    if (!absl::IsUnavailable(named)) break;
  }
  ICEPIE_RETURN_IF_ERROR(named);
  v1::ListSnapshotsRequest list;
  list.set_slice(request.slice());
  ICEPIE_ASSIGN_OR_RETURN(const auto listed, ListSnapshots(list));
  for (const v1::Snapshot& snapshot : listed.snapshots()) {
    if (snapshot.name() == request.name()) return snapshot;
  }
  return ChangedMeanwhile(absl::StrCat("snapshot ", request.name(), " was deleted meanwhile"));
}

absl::StatusOr<v1::DeleteSnapshotResponse> DomainManager::DeleteSnapshot(
    const v1::DeleteSnapshotRequest& request, AdminAction& action) {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(request.slice()));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, reader_.Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(reader_.FindSlice(*domain, parts.slice).status());
  action.BeginAnyhow();  // it gives room back, where there may be none for a record of it
  ICEPIE_RETURN_IF_ERROR(server::DeleteSnapshot(supervisor_.DomainDirectory(parts.domain),
                                                parts.slice, request.name()));
  return v1::DeleteSnapshotResponse();
}

}  // namespace icepie::server
