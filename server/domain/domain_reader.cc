#include "server/domain/domain_reader.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "server/base/process_usage.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_limits.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr size_t kNamesShown = 20;

void SetStorage(const CoreStorage& storage, v1::CoreStorage* out) {
  out->set_sealed_position(storage.sealed_position);
  out->set_segment_count(storage.segment_count);
  out->set_segment_bytes(storage.segment_bytes);
  if (storage.hot_bytes) out->set_hot_bytes(*storage.hot_bytes);
}

void SetScrub(const ScrubState& scrub, v1::CoreScrub* out) {
  if (scrub.verified_time) *out->mutable_verified_time() = ToProto(*scrub.verified_time);
  out->set_verified_position(scrub.verified_position);
  if (scrub.pass_begin) *out->mutable_pass_begin_time() = ToProto(*scrub.pass_begin);
  out->set_position(scrub.position);
  out->set_end_position(scrub.end_position);
  out->set_bytes_read(scrub.bytes_read);
  out->set_finding_count(scrub.finding_count);
  for (const ScrubFinding& finding : scrub.findings) {
    auto* added = out->add_findings();
    added->set_position(finding.position);
    added->set_end_position(finding.end_position);
    added->set_what(finding.what);
  }
}

// "have: a, b, c", never longer than a message should be.
std::string Have(std::vector<std::string> names) {
  if (names.empty()) return "there is none yet; apply a domain file first";
  const bool more = names.size() > kNamesShown;
  if (more) names.resize(kNamesShown);
  return absl::StrCat("have: ", absl::StrJoin(names, ", "), more ? ", …" : "");
}

v1::Domain ToDomain(const CatalogDomain& domain, bool with_file) {
  const auto& entry = domain.entry;
  v1::Domain out;
  out.set_name(entry.name());
  out.set_revision(entry.revision());
  if (with_file) out.set_file(entry.file());
  out.set_hash(entry.hash());
  out.set_actor(entry.actor());
  out.set_reason(entry.reason());
  if (entry.has_apply_time()) *out.mutable_apply_time() = entry.apply_time();
  if (entry.has_deletion()) *out.mutable_deletion() = entry.deletion();
  return out;
}

v1::Domain ToDomain(const icepie::catalog::v1::RevisionEntry& entry, bool with_file) {
  v1::Domain out;
  out.set_name(entry.domain());
  out.set_revision(entry.revision());
  if (with_file) out.set_file(entry.file());
  out.set_hash(entry.hash());
  out.set_actor(entry.actor());
  out.set_reason(entry.reason());
  if (entry.has_apply_time()) *out.mutable_apply_time() = entry.apply_time();
  return out;
}

}  // namespace

absl::StatusOr<SliceName> ParseSliceName(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == name.size() ||
      name.find('.', dot + 1) != std::string::npos) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("\"", name, "\" does not name a slice; write domain.slice"),
                     "PARAMETER_INVALID", {{"field", "name"}, {"value", name}});
  }
  return SliceName{name.substr(0, dot), name.substr(dot + 1)};
}

absl::Status HeldError(const std::string& name, const std::string& why) {
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat(name, " is held: ", why, "; apply the domain's file again"),
                   "CATALOG_DAMAGED", {{"name", name}});
}

absl::StatusOr<std::shared_ptr<const CatalogDomain>> DomainReader::Find(
    const std::string& domain) const {
  auto found = catalog_.Find(domain);
  if (found) return found;
  if (const auto deleted = catalog_.FindDeleted(domain)) {
    return DeletedError(*deleted, absl::StatusCode::kNotFound);
  }
  return MakeError(
      absl::StatusCode::kNotFound,
      absl::StrCat("there is no domain \"", domain, "\" (", Have(catalog_.DomainNames()), ")"),
      "DOMAIN_NOT_FOUND", {{"domain", domain}});
}

absl::Status DomainReader::DeletedError(const CatalogDomain& domain, absl::StatusCode code) {
  const auto& deletion = domain.entry.deletion();
  const std::string& name = domain.entry.name();
  const absl::Time purge = FromProto(deletion.purge_time());
  const bool over = purge <= absl::Now();
  return MakeError(
      code,
      absl::StrCat(
          "domain ", name, " was deleted by ", deletion.actor(), " at ",
          absl::FormatTime(FromProto(deletion.time()), absl::UTCTimeZone()),
          over ? ", and its files are being removed"
               : absl::StrCat("; until ", absl::FormatTime(purge, absl::UTCTimeZone()),
                              " it can be brought back (icepie domain undelete ", name,
                              ") or removed for good (icepie domain delete ", name, " --keep 0s)")),
      code == absl::StatusCode::kNotFound ? "DOMAIN_NOT_FOUND" : "DOMAIN_DELETED",
      {{"domain", name}, {"deleted", "true"}});
}

v1::Domain DomainReader::Summary(const CatalogDomain& domain) { return ToDomain(domain, false); }

absl::StatusOr<const icepie::catalog::v1::SliceEntry*> DomainReader::FindSlice(
    const CatalogDomain& domain, const std::string& slice) const {
  const std::string name = absl::StrCat(domain.entry.name(), ".", slice);
  if (!domain.held.empty()) return HeldError(domain.entry.name(), domain.held);
  auto damaged = domain.damaged_slices.find(slice);
  if (damaged != domain.damaged_slices.end()) return HeldError(name, damaged->second.why);
  auto found = domain.slices.find(slice);
  if (found != domain.slices.end()) return &found->second;
  std::vector<std::string> names;
  for (const auto& [other, entry] : domain.slices) names.push_back(other);
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("domain ", domain.entry.name(), " has no slice \"", slice, "\" (",
                                Have(std::move(names)), ")"),
                   "SLICE_NOT_FOUND", {{"slice", name}});
}

absl::StatusOr<v1::Domain> DomainReader::GetDomain(const std::string& name,
                                                   int64_t revision) const {
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, Find(name));
  if (revision != 0 && revision != domain->entry.revision()) {
    auto found = domain->revisions.find(revision);
    if (found != domain->revisions.end()) return ToDomain(found->second, true);
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("domain ", name, " has no revision ", revision,
                                  " any more; `icepie domain history ", name, "` lists them"),
                     "REVISION_NOT_FOUND", {{"revision", absl::StrCat(revision)}});
  }
  v1::Domain out = ToDomain(*domain, true);
  *out.mutable_limits() = DescribeLimits(domain->entry, supervisor_.settings());
  for (const auto& status : supervisor_.Statuses(name)) *out.add_workers() = status;
  return out;
}

absl::StatusOr<v1::ListDomainRevisionsResponse> DomainReader::ListRevisions(
    const std::string& name) const {
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, Find(name));
  v1::ListDomainRevisionsResponse out;
  for (auto it = domain->revisions.rbegin(); it != domain->revisions.rend(); ++it) {
    *out.add_revisions() = ToDomain(it->second, false);
  }
  return out;
}

absl::StatusOr<v1::ListGenerationsResponse> DomainReader::ListGenerations(
    const std::string& name) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(name));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, Find(parts.domain));
  ICEPIE_ASSIGN_OR_RETURN(const auto* slice, FindSlice(*domain, parts.slice));
  return DescribeGenerations(FactsOf(*domain), *slice);
}

v1::ListDomainsResponse DomainReader::ListDomains(bool show_deleted) const {
  v1::ListDomainsResponse out;
  for (const auto& domain : catalog_.Domains()) {
    *out.add_domains() = ToDomain(*domain, false);
    for (const auto& status : supervisor_.Statuses(domain->entry.name())) {
      *out.mutable_domains()->rbegin()->add_workers() = status;
    }
  }
  if (!show_deleted) return out;
  for (const auto& domain : catalog_.DeletedDomains()) *out.add_domains() = Summary(*domain);
  return out;
}

DomainFacts DomainReader::FactsOf(const CatalogDomain& domain) const {
  return {&domain,
          supervisor_.View(domain.entry.name()),
          core_.head_position(),
          absl::Now(),
          [this](const std::string& stream, int64_t position) {
            return ends_.HasBeyond(stream, position);
          },
          [this](const std::string& stream, int64_t position) {
            return ends_.BeyondFor(stream, position);
          },
          nullptr};
}

DomainFacts DomainReader::AllFactsOf(const CatalogDomain& domain) const {
  DomainFacts facts = FactsOf(domain);
  facts.oldest_beyond = [this](const std::string& stream, int64_t position) {
    return ends_.OldestBeyond(stream, position);
  };
  return facts;
}

v1::Slice DomainReader::Describe(const DomainFacts& facts,
                                 const icepie::catalog::v1::SliceEntry& slice) const {
  v1::Slice out = DescribeSlice(facts, slice);
  memory_.Complete(out, facts.now);
  return out;
}

absl::StatusOr<v1::Slice> DomainReader::GetSlice(const std::string& name) const {
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(name));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, FindListed(parts.domain));
  const DomainFacts facts = AllFactsOf(*domain);
  if (!domain->entry.has_deletion() &&
      (!domain->held.empty() || domain->damaged_slices.count(parts.slice) > 0)) {
    return DescribeHeldSlice(facts, parts.slice);
  }
  const auto slice = FindSlice(*domain, parts.slice);
  const std::vector<std::string> leaving = Leaving(facts);
  const bool leaves = std::find(leaving.begin(), leaving.end(), parts.slice) != leaving.end();
  if (leaves || (slice.ok() && domain->entry.has_deletion())) {
    return DescribeLeavingSlice(facts, parts.slice);
  }
  ICEPIE_RETURN_IF_ERROR(slice.status());
  return Describe(facts, **slice);
}

// What workers report may be newer than `facts.domain`: a slice that was created meanwhile.
std::vector<std::string> DomainReader::Leaving(const DomainFacts& facts) const {
  std::vector<std::string> leaving = LeavingSlices(facts);
  if (leaving.empty()) return leaving;
  const auto now = catalog_.Find(facts.domain->entry.name());
  if (!now) return {};
  leaving.erase(
      std::remove_if(leaving.begin(), leaving.end(),
                     [&](const std::string& slice) {
                       return now->slices.count(slice) + now->damaged_slices.count(slice) > 0;
                     }),
      leaving.end());
  return leaving;
}

absl::StatusOr<v1::Slice> DomainReader::GetSliceToChange(const std::string& name) const {
  ICEPIE_ASSIGN_OR_RETURN(v1::Slice slice, GetSlice(name));
  if (slice.state() != v1::DELETING) return slice;
  ICEPIE_ASSIGN_OR_RETURN(const SliceName parts, ParseSliceName(name));
  ICEPIE_ASSIGN_OR_RETURN(const auto domain, Find(parts.domain));
  ICEPIE_RETURN_IF_ERROR(FindSlice(*domain, parts.slice).status());
  return slice;
}

bool DomainReader::IsBeingDeleted(const CatalogDomain& domain) const {
  return FromProto(domain.entry.deletion().purge_time()) <= absl::Now() ||
         supervisor_.HasWorkers(domain.entry.name());
}

absl::StatusOr<std::shared_ptr<const CatalogDomain>> DomainReader::FindListed(
    const std::string& domain) const {
  const auto deleted = catalog_.FindDeleted(domain);
  if (deleted && IsBeingDeleted(*deleted)) return deleted;
  return Find(domain);
}

std::vector<std::shared_ptr<const CatalogDomain>> DomainReader::ListedDomains() const {
  auto domains = catalog_.Domains();
  for (auto& deleted : catalog_.DeletedDomains()) {
    if (!IsBeingDeleted(*deleted)) continue;
    // It may have been deleted in between.
    const bool listed = std::any_of(domains.begin(), domains.end(), [&](const auto& domain) {
      return domain->entry.name() == deleted->entry.name();
    });
    if (!listed) domains.push_back(std::move(deleted));
  }
  return domains;
}

void DomainReader::AddSlices(const DomainFacts& facts,
                             google::protobuf::RepeatedPtrField<v1::Slice>* slices) const {
  const CatalogDomain& domain = *facts.domain;
  if (domain.entry.has_deletion()) {
    for (const auto& [slice, entry] : domain.slices) {
      *slices->Add() = DescribeLeavingSlice(facts, slice);
    }
    return;
  }
  for (const std::string& slice : Leaving(facts)) {
    *slices->Add() = DescribeLeavingSlice(facts, slice);
  }
  for (const auto& [slice, entry] : domain.slices) {
    *slices->Add() = domain.held.empty() ? Describe(facts, entry) : DescribeHeldSlice(facts, slice);
  }
  for (const auto& [slice, damaged] : domain.damaged_slices) {
    *slices->Add() = DescribeHeldSlice(facts, slice);
  }
  // A held domain whose slices are lost, too, must not vanish from the lists.
  if (!domain.held.empty() && domain.slices.empty() && domain.damaged_slices.empty()) {
    *slices->Add() = DescribeHeldSlice(facts, "*");
  }
}

absl::StatusOr<v1::ListSlicesResponse> DomainReader::ListSlices(const std::string& domain) const {
  v1::ListSlicesResponse out;
  if (!domain.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(const auto found, FindListed(domain));
    AddSlices(AllFactsOf(*found), out.mutable_slices());
  } else {
    for (const auto& each : ListedDomains()) AddSlices(AllFactsOf(*each), out.mutable_slices());
  }
  std::sort(out.mutable_slices()->begin(), out.mutable_slices()->end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  out.set_head_position(core_.head_position());
  return out;
}

absl::StatusOr<v1::ListSlicesResponse> DomainReader::GlanceAtSlices(
    const std::string& domain) const {
  v1::ListSlicesResponse out;
  ICEPIE_ASSIGN_OR_RETURN(const auto found, FindListed(domain));
  AddSlices(FactsOf(*found), out.mutable_slices());
  out.set_head_position(core_.head_position());
  return out;
}

void DomainReader::AddDomains(v1::ServerStatus& out) const {
  for (const auto& domain : catalog_.Domains()) {
    v1::Domain& added = *out.add_domains();
    added.set_name(domain->entry.name());
    added.set_revision(domain->entry.revision());
    *added.mutable_limits() = DescribeLimits(domain->entry, supervisor_.settings());
  }
}

v1::ServerStatus DomainReader::GetServerStatus(const ServerIdentity& identity,
                                               bool with_domains) const {
  v1::ServerStatus out;
  out.set_version(identity.version);
  *out.mutable_start_time() = ToProto(identity.start_time);
  out.set_head_position(core_.head_position());
  out.set_core_read_only_cause(core_.ReadOnlyCause());
  out.set_core_read_only(!out.core_read_only_cause().empty());
  const DiskState disk = core_.Disk();
  out.set_core_disk_full(disk.full);
  out.set_core_disk_free_bytes(disk.free_bytes);
  SetStorage(core_.Storage(), out.mutable_core_storage());
  if (const auto scrub = core_.Scrub(); scrub) SetScrub(*scrub, out.mutable_core_scrub());
  for (const auto& domain : ListedDomains()) AddSlices(AllFactsOf(*domain), out.mutable_slices());
  std::stable_sort(
      out.mutable_slices()->begin(), out.mutable_slices()->end(),
      [](const auto& a, const auto& b) { return HealthRank(a.state()) < HealthRank(b.state()); });
  for (const auto& status : supervisor_.Statuses("")) {
    v1::WorkerStatus& worker = *out.add_workers();
    worker = status;
    const auto usage = worker.pid() > 0 ? UsageOf(worker.pid()) : std::nullopt;
    if (!usage) continue;
    worker.set_resident_bytes(usage->resident_bytes);
    *worker.mutable_cpu_time() = ToProto(usage->cpu_time);
  }
  out.set_grpc_address(identity.grpc_address);
  out.set_http_address(identity.http_address);
  out.set_data_directory(identity.data_directory);
  out.set_pid(getpid());
  out.set_safe_mode(supervisor_.safe_mode());
  if (with_domains) AddDomains(out);
  return out;
}

}  // namespace icepie::server
