// Domains that are deleted, brought back, and purged when their time is over. A deleted domain's
// entries stay in the catalog, hidden, and its files where they are.
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "core/base/steady_clock.h"
#include "server/admin/admin_reason.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_manager.h"
#include "server/domain/live_report.h"
#include "server/domain/slice_facts.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;
using Operations = std::vector<Catalog::Operation>;

constexpr absl::Duration kKeepDefault = absl::Hours(24 * 7);
constexpr absl::Duration kKeepMax = absl::Hours(24 * 365);
// For the workers of a domain that was deleted a moment ago to save their states and end.
constexpr absl::Duration kWorkersEndTimeout = absl::Seconds(40);
constexpr absl::Duration kEndLookInterval = absl::Milliseconds(20);

absl::StatusOr<absl::Duration> KeepOf(const v1::DeleteDomainRequest& request) {
  if (!request.has_keep()) return kKeepDefault;
  const absl::Duration keep = FromProto(request.keep());
  if (keep >= absl::ZeroDuration() && keep <= kKeepMax) return keep;
  return BadParameter("keep", absl::StrCat(absl::FormatDuration(keep), " is not from 0 to ",
                                           absl::FormatDuration(kKeepMax)));
}

bool IsOver(const CatalogDomain& domain, absl::Time now) {
  return FromProto(domain.entry.deletion().purge_time()) <= now;
}

}  // namespace

absl::Status DomainManager::CheckNotDeleted(const std::string& domain) const {
  const auto deleted = catalog_.FindDeleted(domain);
  return deleted ? DomainReader::DeletedError(*deleted, absl::StatusCode::kFailedPrecondition)
                 : absl::OkStatus();
}

absl::StatusOr<v1::Domain> DomainManager::Delete(const v1::DeleteDomainRequest& request,
                                                 AdminAction& action) {
  const std::string& name = request.name();
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), /*required=*/false));
  ICEPIE_ASSIGN_OR_RETURN(const absl::Duration keep, KeepOf(request));
  const auto deleted = catalog_.FindDeleted(name);
  if (!deleted || IsOver(*deleted, absl::Now())) {
    ICEPIE_RETURN_IF_ERROR(reader_.Find(name).status());
  }
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  Operations cancelled;
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(name, [&](CatalogDomain& domain, Operations& operations) {
    const absl::Time now = absl::Now();
    v1::DomainDeletion& deletion = *domain.entry.mutable_deletion();
    if (!deletion.has_time()) *deletion.mutable_time() = ToProto(now);
    *deletion.mutable_purge_time() = ToProto(now + keep);
    deletion.set_actor(ActorOr(request.actor()));
    deletion.set_reason(request.reason());
    for (auto& [slice, entry] : domain.slices) {
      CancelPending(entry, "its domain was deleted", operations);
    }
    cancelled = operations;
    return absl::OkStatus();
  }));
  {
    // Whoever still configures the domain has done so before, or finds it deleted.
    MutexLock lock(mutex_);
    supervisor_.RemoveDomain(name);
  }
  for (const auto& operation : cancelled) builds_.Drop(operation.number());
  spdlog::info("{}: deleted by {}, kept for {}", name, ActorOr(request.actor()),
               absl::FormatDuration(keep));
  const auto gone = catalog_.FindDeleted(name);
  if (!gone) return ChangedMeanwhile(absl::StrCat("domain ", name, " was changed meanwhile"));
  return DomainReader::Summary(*gone);
}

// What the workers save at their end is there, and nobody else writes the domain's files.
absl::Status DomainManager::WaitForWorkersToEnd(const std::string& domain) const {
  const absl::Time deadline = SteadyNow() + kWorkersEndTimeout;
  while (supervisor_.HasWorkers(domain)) {
    if (SteadyNow() > deadline) {
      return MakeError(
          absl::StatusCode::kUnavailable,
          absl::StrCat("the workers of domain ", domain, " have not ended yet; try again"),
          "WORKER_LOST", {{"domain", domain}});
    }
    absl::SleepFor(kEndLookInterval);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Domain> DomainManager::Undelete(const v1::UndeleteDomainRequest& request,
                                                   AdminAction& action) {
  const std::string& name = request.name();
  ICEPIE_RETURN_IF_ERROR(CheckReason(request.reason(), /*required=*/false));
  const auto deleted = catalog_.FindDeleted(name);
  if (!deleted || IsOver(*deleted, absl::Now())) {
    ICEPIE_RETURN_IF_ERROR(reader_.Find(name).status());
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat("domain ", name, " is not deleted"), "DOMAIN_NOT_DELETED",
                     {{"domain", name}});
  }
  ICEPIE_RETURN_IF_ERROR(WaitForWorkersToEnd(name));
  ICEPIE_RETURN_IF_ERROR(action.Begin());
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(name, [&](CatalogDomain& domain, Operations&) {
    if (!domain.entry.has_deletion() || IsOver(domain, absl::Now())) {
      return ChangedMeanwhile(absl::StrCat("domain ", name, " was changed meanwhile"));
    }
    domain.entry.clear_deletion();
    return absl::OkStatus();
  }));
  spdlog::info("{}: brought back by {}", name, ActorOr(request.actor()));
  const auto back = catalog_.Find(name);
  if (back && back->held.empty()) {
    const int64_t epoch = Configure(name);
    supervisor_.Resume(name);
    WaitForEpoch(name, epoch);
  }
  return reader_.GetDomain(name, 0);
}

void DomainManager::PurgeDeleted() {
  for (const auto& domain : catalog_.DeletedDomains()) {
    const std::string& name = domain->entry.name();
    if (!IsOver(*domain, absl::Now()) || supervisor_.HasWorkers(name)) continue;
    const absl::Status purged = Purge(name);
    if (!purged.ok()) spdlog::warn("{}: not purged yet: {}", name, purged.ToString());
  }
}

// The files first: should the daemon end in between, the next one finds what is left to do.
absl::Status DomainManager::Purge(const std::string& name) {
  ICEPIE_RETURN_IF_ERROR(catalog_.Change(name, [&](CatalogDomain& domain, Operations&) {
    if (!domain.entry.has_deletion() || !IsOver(domain, absl::Now())) {
      return absl::AbortedError("it is kept longer by now");
    }
    // Whatever the clock says from now on: there is no way back.
    *domain.entry.mutable_deletion()->mutable_purge_time() = ToProto(absl::UnixEpoch());
    return absl::OkStatus();
  }));
  std::error_code error;
  std::filesystem::remove_all(supervisor_.DomainDirectory(name), error);
  if (error) return absl::InternalError(absl::StrCat("removing its files: ", error.message()));
  ICEPIE_RETURN_IF_ERROR(catalog_.Remove(name));
  {
    MutexLock lock(mutex_);
    told_.erase(name);
    unswept_.erase(name);
    // Listeners look once more and find it gone, unless there is a new one of this name by now.
    if (!catalog_.Find(name)) supervisor_.RemoveDomain(name);
  }
  spdlog::info("{}: its files and entries are gone", name);
  return absl::OkStatus();
}

}  // namespace icepie::server
