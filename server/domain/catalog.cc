#include "server/domain/catalog.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace cv1 = icepie::catalog::v1;

constexpr int kOperationsKept = 200;
// Of a domain's file, beside those that generations refer to.
constexpr int kRevisionsKept = 50;
constexpr size_t kRevisionBytesKept = 8 << 20;

std::string DomainKey(absl::string_view domain) { return absl::StrCat("domain/", domain); }
std::string RevisionKey(absl::string_view domain, int64_t revision) {
  return absl::StrFormat("revision/%s/%09d", domain, revision);
}
std::string SliceKey(absl::string_view domain, absl::string_view slice) {
  return absl::StrCat("slice/", domain, "/", slice);
}
std::string DesiredKey(absl::string_view domain, absl::string_view slice) {
  return absl::StrCat("desired/", domain, "/", slice);
}
std::string OperationKey(int64_t number) { return absl::StrFormat("operation/%09d", number); }

void ErasePrefix(const std::string& prefix, std::map<std::string, std::string>& pairs) {
  auto pair = pairs.lower_bound(prefix);
  while (pair != pairs.end() && absl::StartsWith(pair->first, prefix)) pair = pairs.erase(pair);
}

// "slice/payments/volume" → {"slice", "payments", "volume"}
std::vector<std::string> KeyParts(const std::string& key) { return absl::StrSplit(key, '/'); }

template <typename Entry>
auto* FindGenerationIn(Entry& slice, int64_t number) {
  auto& generations = *slice.mutable_generations();
  auto found = std::find_if(generations.begin(), generations.end(), [number](const auto& entry) {
    return entry.generation().number() == number;
  });
  return found == generations.end() ? nullptr : &*found;
}

// Of what is not known, this is assumed.
icepie::v1::DesiredState Running() {
  icepie::v1::DesiredState running;
  running.set_mode(icepie::v1::DesiredState::RUN);
  return running;
}

bool IsDeleted(const CatalogDomain& domain) { return domain.entry.has_deletion(); }

// Why the slice's entry cannot be used; empty when it can.
std::string SliceDefect(const CatalogDomain& domain, const cv1::SliceEntry& slice) {
  const auto* serving = FindGeneration(slice, slice.serving_generation());
  if (serving == nullptr) return "its serving generation is not in the catalog";
  for (const auto& entry : slice.generations()) {
    const auto state = entry.generation().state();
    const bool used =
        state == icepie::v1::Generation::SERVING || state == icepie::v1::Generation::BUILDING;
    if (used && domain.revisions.count(entry.generation().revision()) == 0) {
      return absl::StrCat("revision ", entry.generation().revision(),
                          " of the domain's file is missing");
    }
  }
  return "";
}

}  // namespace

const cv1::GenerationEntry* FindGeneration(const cv1::SliceEntry& slice, int64_t number) {
  for (const auto& entry : slice.generations()) {
    if (entry.generation().number() == number) return &entry;
  }
  return nullptr;
}

cv1::GenerationEntry* FindGeneration(cv1::SliceEntry& slice, int64_t number) {
  return FindGenerationIn(slice, number);
}

const cv1::Suspension* SuspensionInForce(const cv1::SliceEntry& slice) {
  const cv1::Suspension& suspension = slice.suspension();
  const bool in_force = slice.has_suspension() && !suspension.lifted() &&
                        suspension.generation() == slice.serving_generation() &&
                        suspension.restarts() == slice.desired().restarts();
  return in_force ? &suspension : nullptr;
}

absl::Status ChangedMeanwhile(const std::string& what) {
  return MakeError(absl::StatusCode::kAborted, what, "ETAG_MISMATCH");
}

bool IsPassing(const absl::Status& refusal) {
  return absl::IsUnavailable(refusal) || absl::IsResourceExhausted(refusal) ||
         ErrorReason(refusal) == "CORE_READ_ONLY";
}

Catalog::Catalog(Core& core, std::string intents, std::string copies)
    : core_(core), intents_(std::move(intents)), copies_(std::move(copies)) {}

absl::StatusOr<Catalog::Pairs> Catalog::Scan(absl::string_view prefix) {
  auto pairs = core_.ScanCatalog(prefix);
  if (!pairs.ok()) return Annotate(pairs.status(), absl::StrCat("reading catalog ", prefix));
  return pairs;
}

CatalogDomain& Catalog::Loading(const std::string& name) {
  MutexLock lock(mutex_);
  auto& domain = domains_[name];
  if (!domain) domain = std::make_shared<CatalogDomain>();
  // Nobody else sees the domain while the catalog loads.
  return const_cast<CatalogDomain&>(*domain);
}

void Catalog::LoadDomain(const std::string& key, const std::string& bytes) {
  const auto parts = KeyParts(key);
  CatalogDomain& domain = Loading(parts.back());
  if (!domain.entry.ParseFromString(bytes) || domain.entry.name() != parts.back()) {
    domain.entry.Clear();
    domain.entry.set_name(parts.back());
    domain.held = "its entry in the catalog is damaged; apply the domain's file again";
    return;
  }
  MutexLock lock(change_mutex_);
  persisted_[key] = bytes;
}

void Catalog::LoadRevision(const std::string& key, const std::string& bytes) {
  cv1::RevisionEntry revision;
  if (!revision.ParseFromString(bytes) ||
      RevisionKey(revision.domain(), revision.revision()) != key) {
    spdlog::error("catalog: {} is damaged", key);
    return;
  }
  Loading(revision.domain()).revisions[revision.revision()] = revision;
  MutexLock lock(change_mutex_);
  persisted_[key] = bytes;
}

void Catalog::LoadSlice(const std::string& key, const std::string& bytes) {
  const auto parts = KeyParts(key);
  if (parts.size() != 3) {
    spdlog::error("catalog: key {} is not one of ours", key);
    return;
  }
  CatalogDomain& domain = Loading(parts[1]);
  cv1::SliceEntry slice;
  if (!slice.ParseFromString(bytes) || SliceKey(slice.domain(), slice.name()) != key) {
    domain.damaged_slices[parts[2]] = {"its entry in the catalog is damaged", Running()};
  } else {
    domain.slices[parts[2]] = slice;
  }
  MutexLock lock(change_mutex_);
  persisted_[key] = bytes;
}

// Newer than what its entry says, if that is whole after all (a copy).
void Catalog::LoadDesired(const std::string& key, const std::string& bytes) {
  const auto parts = KeyParts(key);
  const auto domain = FindAny(parts.size() == 3 ? parts[1] : "");
  icepie::v1::DesiredState desired;
  if (!domain || !desired.ParseFromString(bytes)) {
    spdlog::error("catalog: {} is damaged", key);
    return;
  }
  CatalogDomain& loading = Loading(parts[1]);
  const auto damaged = loading.damaged_slices.find(parts[2]);
  const auto whole = loading.slices.find(parts[2]);
  if (damaged != loading.damaged_slices.end()) damaged->second.desired = desired;
  if (whole != loading.slices.end()) *whole->second.mutable_desired() = desired;
  MutexLock lock(change_mutex_);
  persisted_[key] = bytes;
}

void Catalog::LoadOperation(const std::string& key, const std::string& bytes) {
  Operation operation;
  if (!operation.ParseFromString(bytes) || OperationKey(operation.number()) != key) {
    spdlog::error("catalog: {} is damaged", key);
    return;
  }
  {
    MutexLock lock(change_mutex_);
    persisted_[key] = bytes;
  }
  MutexLock lock(mutex_);
  last_operation_ = std::max(last_operation_, operation.number());
  operations_[operation.number()] = std::move(operation);
}

void Catalog::CheckDomain(CatalogDomain& domain) {
  if (domain.entry.name().empty()) domain.held = "its entry is missing from the catalog";
  // One that was deleted while it was held.
  if (domain.held.empty() && domain.entry.revision() == 0) domain.held = "its entry was damaged";
  for (auto slice = domain.slices.begin(); slice != domain.slices.end();) {
    const std::string defect = SliceDefect(domain, slice->second);
    if (defect.empty()) {
      ++slice;
      continue;
    }
    domain.damaged_slices[slice->first] = {defect, slice->second.desired()};
    slice = domain.slices.erase(slice);
  }
}

absl::StatusOr<std::map<std::string, std::string>> Catalog::ReadPairs() {
  std::map<std::string, std::string> pairs;
  absl::Status status;
  for (const char* prefix : {"operation/", "domain/", "revision/", "slice/", "desired/"}) {
    absl::StatusOr<Pairs> found = Scan(prefix);
    status.Update(found.status());
    if (found.ok()) pairs.insert(found->begin(), found->end());
    if (!found.ok() && prefix != absl::string_view("operation/")) domains_readable_ = false;
  }
  complete_ = status.ok() && core_.ReadOnlyCause().empty();
  const std::map<std::string, std::string> log = pairs;
  ReadCopies(pairs);
  if (complete_) complete_ = Restore(log, pairs);
  if (pairs.empty()) ICEPIE_RETURN_IF_ERROR(status);
  if (!status.ok()) spdlog::error("catalog: read as far as it can be: {}", status.ToString());
  return pairs;
}

// What the log has lost, or a change of it. The copy follows the log, and goes before it.
void Catalog::ReadCopies(std::map<std::string, std::string>& pairs) {
  for (auto& [name, copy] : copies_.ReadAll()) {
    if (copy.pairs.count(DomainKey(name)) == 0) continue;  // it is another's
    cv1::DomainEntry entry;
    const auto found = pairs.find(DomainKey(name));
    const bool is_there = found != pairs.end() && entry.ParseFromString(found->second);
    if (is_there && entry.epoch() > copy.epoch) continue;
    const bool is_lost = !is_there || entry.epoch() < copy.epoch;
    if (complete_ && !is_lost) continue;
    if (is_lost) {
      spdlog::warn("catalog: domain {} is as its copy says: the log has lost it or its last change",
                   name);
    }
    from_copies_.insert(name);
    ErasePrefix(SliceKey(name, ""), pairs);  // the copy has all that there were
    // What was wanted of a damaged slice before the copy was made, it may not want any more.
    if (is_there && is_lost) ErasePrefix(DesiredKey(name, ""), pairs);
    for (auto& [key, bytes] : copy.pairs) pairs[key] = std::move(bytes);
  }
}

// Makes what the log has what is wanted. False when it takes no change.
bool Catalog::Restore(const std::map<std::string, std::string>& log,
                      const std::map<std::string, std::string>& wanted) {
  Changes changes;
  for (const auto& [key, bytes] : log) {
    if (wanted.count(key) == 0) changes.emplace_back(key, std::nullopt);
  }
  for (const auto& [key, bytes] : wanted) {
    const auto old = log.find(key);
    if (old == log.end() || old->second != bytes) changes.emplace_back(key, bytes);
  }
  if (changes.empty()) return true;
  const absl::Status restored = core_.ChangeCatalog(changes);
  if (!restored.ok()) spdlog::error("catalog: not restored: {}", restored.ToString());
  return restored.ok();
}

// Copies are made with each change; here those that an older version or a failure left out.
void Catalog::RefreshCopies() {
  const std::map<std::string, CatalogCopies::Copy> copies = copies_.ReadAll();
  MutexLock lock(change_mutex_);
  std::vector<std::shared_ptr<const CatalogDomain>> domains;
  {
    MutexLock shown(mutex_);
    for (const auto& [name, domain] : domains_) domains.push_back(domain);
  }
  for (const auto& domain : domains) {
    const auto copy = copies.find(domain->entry.name());
    const bool is_new = copy == copies.end() || copy->second.epoch != domain->entry.epoch();
    if (is_new && domain->held.empty() && domain->damaged_slices.empty()) WriteCopy(*domain);
  }
}

absl::Status Catalog::Load() {
  ICEPIE_ASSIGN_OR_RETURN(const auto pairs, ReadPairs());
  for (const auto& [key, bytes] : pairs) {
    if (absl::StartsWith(key, "domain/")) LoadDomain(key, bytes);
    if (absl::StartsWith(key, "revision/")) LoadRevision(key, bytes);
    if (absl::StartsWith(key, "slice/")) LoadSlice(key, bytes);
    if (absl::StartsWith(key, "operation/")) LoadOperation(key, bytes);
  }
  std::vector<std::string> names;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, domain] : domains_) names.push_back(name);
  }
  for (const std::string& name : names) {
    CatalogDomain& domain = Loading(name);
    CheckDomain(domain);
    domain.entry.set_name(name);
    domain.load_time = absl::Now();
    if (domain.held.empty() && !domains_readable_ && from_copies_.count(name) == 0) {
      domain.held = "not all that the catalog has of it can be read";
    }
    if (!domain.held.empty()) spdlog::error("catalog: domain {} is held: {}", name, domain.held);
    for (const auto& [slice, damaged] : domain.damaged_slices) {
      spdlog::error("catalog: slice {}.{} is held: {}", name, slice, damaged.why);
    }
  }
  for (const auto& [key, bytes] : pairs) {
    if (absl::StartsWith(key, "desired/")) LoadDesired(key, bytes);
  }
  LoadIntents();
  if (complete_) RefreshCopies();
  return absl::OkStatus();
}

std::vector<std::string> Catalog::DomainNames() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, domain] : domains_) {
    if (!IsDeleted(*domain)) names.push_back(name);
  }
  return names;
}

std::shared_ptr<const CatalogDomain> Catalog::FindAny(absl::string_view domain) const {
  MutexLock lock(mutex_);
  auto found = domains_.find(std::string(domain));
  return found == domains_.end() ? nullptr : found->second;
}

std::shared_ptr<const CatalogDomain> Catalog::Find(absl::string_view domain) const {
  auto found = FindAny(domain);
  return found && IsDeleted(*found) ? nullptr : found;
}

std::shared_ptr<const CatalogDomain> Catalog::FindDeleted(absl::string_view domain) const {
  auto found = FindAny(domain);
  return found && IsDeleted(*found) ? found : nullptr;
}

std::vector<std::shared_ptr<const CatalogDomain>> Catalog::Domains() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const CatalogDomain>> out;
  for (const auto& [name, domain] : domains_) {
    if (!IsDeleted(*domain)) out.push_back(domain);
  }
  return out;
}

std::vector<std::shared_ptr<const CatalogDomain>> Catalog::DeletedDomains() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const CatalogDomain>> out;
  for (const auto& [name, domain] : domains_) {
    if (IsDeleted(*domain)) out.push_back(domain);
  }
  return out;
}

Catalog::Changes Catalog::Difference(const CatalogDomain& domain,
                                     const std::vector<Operation>& operations) const {
  const std::string& name = domain.entry.name();
  std::map<std::string, std::string> wanted;
  wanted[DomainKey(name)] = domain.entry.SerializeAsString();
  for (const auto& [revision, entry] : domain.revisions) {
    wanted[RevisionKey(name, revision)] = entry.SerializeAsString();
  }
  for (const auto& [slice, entry] : domain.slices) {
    wanted[SliceKey(name, slice)] = entry.SerializeAsString();
  }
  // The bytes of a damaged entry are evidence: they stay until the slice is applied again or goes.
  for (const auto& [slice, damaged] : domain.damaged_slices) {
    if (domain.slices.count(slice) > 0) continue;
    const auto kept = persisted_.find(SliceKey(name, slice));
    if (kept != persisted_.end()) wanted[kept->first] = kept->second;
    const std::string desired = damaged.desired.SerializeAsString();
    if (desired != Running().SerializeAsString()) wanted[DesiredKey(name, slice)] = desired;
  }
  for (const Operation& operation : operations) {
    wanted[OperationKey(operation.number())] = operation.SerializeAsString();
  }
  Changes changes;
  for (const auto& [key, bytes] : wanted) {
    auto old = persisted_.find(key);
    if (old == persisted_.end() || old->second != bytes) changes.emplace_back(key, bytes);
  }
  for (const std::string& prefix : {RevisionKey(name, 0).substr(0, 10 + name.size()),
                                    SliceKey(name, ""), DesiredKey(name, "")}) {
    for (auto old = persisted_.lower_bound(prefix);
         old != persisted_.end() && absl::StartsWith(old->first, prefix); ++old) {
      if (wanted.count(old->first) == 0) changes.emplace_back(old->first, std::nullopt);
    }
  }
  return changes;
}

void Catalog::Show(const std::string& name, CatalogDomain domain,
                   const std::vector<Operation>& operations) {
  auto shown = std::make_shared<const CatalogDomain>(std::move(domain));
  MutexLock lock(mutex_);
  domains_[name] = std::move(shown);
  for (const Operation& operation : operations) operations_[operation.number()] = operation;
}

namespace {

std::set<int64_t> UsedRevisions(const CatalogDomain& domain) {
  std::set<int64_t> used = {domain.entry.revision()};
  for (const auto& [name, slice] : domain.slices) {
    for (const auto& entry : slice.generations()) used.insert(entry.generation().revision());
  }
  return used;
}

// Files that no generation refers to any more go, but for the newest.
void DropUnusedFiles(CatalogDomain& domain) {
  std::set<int64_t> used = UsedRevisions(domain);
  size_t kept_bytes = 0;
  int kept = 0;
  for (auto file = domain.revisions.rbegin(); file != domain.revisions.rend(); ++file) {
    kept_bytes += file->second.file().size();
    if (++kept <= kRevisionsKept && kept_bytes <= kRevisionBytesKept) used.insert(file->first);
  }
  for (auto file = domain.revisions.begin(); file != domain.revisions.end();) {
    file = used.count(file->first) > 0 ? std::next(file) : domain.revisions.erase(file);
  }
}

// What the log has of a domain, as far as it can be read, in the place of what its copy says.
void ReadPersisted(const Core& core, const std::string& name,
                   std::map<std::string, std::string>& persisted) {
  persisted.erase(DomainKey(name));
  for (const std::string& prefix :
       {absl::StrCat("revision/", name, "/"), SliceKey(name, ""), DesiredKey(name, "")}) {
    ErasePrefix(prefix, persisted);
    const auto found = core.ScanCatalog(prefix);
    if (found.ok()) persisted.insert(found->begin(), found->end());
  }
}

}  // namespace

// Without it the domain would be unknown to a start with a damaged log; it is made again by the
// next change or start.
void Catalog::WriteCopy(const CatalogDomain& domain) {
  const std::string& name = domain.entry.name();
  CatalogCopies::Copy copy;
  copy.epoch = domain.entry.epoch();
  copy.pairs[DomainKey(name)] = domain.entry.SerializeAsString();
  for (const int64_t revision : UsedRevisions(domain)) {
    const auto found = domain.revisions.find(revision);
    if (found == domain.revisions.end()) continue;
    copy.pairs[RevisionKey(name, revision)] = found->second.SerializeAsString();
  }
  for (const auto& [slice, entry] : domain.slices) {
    copy.pairs[SliceKey(name, slice)] = entry.SerializeAsString();
  }
  const absl::Status written = copies_.Write(name, copy);
  if (!written.ok()) spdlog::warn("catalog: no copy of domain {}: {}", name, written.ToString());
}

absl::Status Catalog::Remove(const std::string& name) {
  MutexLock lock(change_mutex_);
  Changes changes = {{DomainKey(name), std::nullopt}};
  for (const std::string& prefix :
       {absl::StrCat("revision/", name, "/"), SliceKey(name, ""), DesiredKey(name, "")}) {
    ICEPIE_ASSIGN_OR_RETURN(const Pairs pairs, Scan(prefix));
    for (const auto& [key, bytes] : pairs) changes.emplace_back(key, std::nullopt);
  }
  // The copy goes first: one of what the log does not have always means that it has lost it.
  std::map<std::string, CatalogCopies::Copy> copies = copies_.ReadAll();
  ICEPIE_RETURN_IF_ERROR(copies_.Remove(name));
  const absl::Status changed = core_.ChangeCatalog(changes);
  if (!changed.ok()) {
    if (const auto copy = copies.find(name); copy != copies.end()) {
      const absl::Status written = copies_.Write(name, copy->second);
      if (!written.ok()) spdlog::error("catalog: {}", written.ToString());
    }
    return changed;
  }
  for (const auto& [key, bytes] : changes) persisted_.erase(key);
  DropIntents(name);
  MutexLock shown(mutex_);
  domains_.erase(name);
  return absl::OkStatus();
}

absl::Status Catalog::Change(const std::string& name, const Edit& edit) {
  MutexLock lock(change_mutex_);
  return ChangeLocked(name, edit);
}

absl::Status Catalog::ChangeLocked(const std::string& name, const Edit& edit) {
  const auto current = FindAny(name);
  CatalogDomain changed = current ? *current : CatalogDomain{};
  changed.entry.set_name(name);
  std::vector<Operation> operations;
  ICEPIE_RETURN_IF_ERROR(edit(changed, operations));
  changed.entry.set_epoch(changed.entry.epoch() + 1);
  DropUnusedFiles(changed);
  if (!complete_ && from_copies_.count(name) > 0) ReadPersisted(core_, name, persisted_);
  Changes changes = Difference(changed, operations);
  const std::vector<int64_t> ended = OldOperations();
  for (const int64_t number : ended) changes.emplace_back(OperationKey(number), std::nullopt);
  ICEPIE_RETURN_IF_ERROR(core_.ChangeCatalog(changes));
  for (const auto& [key, bytes] : changes) {
    if (bytes) {
      persisted_[key] = *bytes;
    } else {
      persisted_.erase(key);
    }
  }
  DropIntents(name);  // what they wanted is in the catalog now, or was changed with this
  // The copy of what is damaged here may be whole.
  const bool is_whole = complete_ || from_copies_.count(name) > 0;
  if (is_whole && changed.held.empty() && changed.damaged_slices.empty()) WriteCopy(changed);
  Show(name, std::move(changed), operations);
  MutexLock shown(mutex_);
  for (const int64_t number : ended) operations_.erase(number);
  return absl::OkStatus();
}

// Ended ones beyond the newest that are kept.
std::vector<int64_t> Catalog::OldOperations() const {
  MutexLock lock(mutex_);
  std::vector<int64_t> old;
  int kept = 0;
  for (auto it = operations_.rbegin(); it != operations_.rend(); ++it) {
    if (++kept > kOperationsKept && it->second.done()) old.push_back(it->first);
  }
  return old;
}

std::optional<Catalog::Operation> Catalog::FindOperation(int64_t number) const {
  MutexLock lock(mutex_);
  auto found = operations_.find(number);
  if (found == operations_.end()) return std::nullopt;
  return found->second;
}

std::vector<Catalog::Operation> Catalog::Operations() const {
  MutexLock lock(mutex_);
  std::vector<Operation> out;
  out.reserve(operations_.size());
  for (auto it = operations_.rbegin(); it != operations_.rend(); ++it) out.push_back(it->second);
  return out;
}

int64_t Catalog::NextOperationNumber() {
  MutexLock lock(mutex_);
  return ++last_operation_;
}

int64_t Catalog::FirstOperationFromNow() const {
  MutexLock lock(mutex_);
  return last_operation_ + 1;
}

namespace {

// A serialised DesiredState, whose reason is cut between two characters.
std::string WithShortReason(const std::string& bytes, size_t reason_max) {
  icepie::v1::DesiredState state;
  if (!state.ParseFromString(bytes) || state.reason().size() <= reason_max) return bytes;
  size_t end = reason_max;
  while (end > 0 && (static_cast<unsigned char>(state.reason()[end]) & 0xC0) == 0x80) --end;
  state.mutable_reason()->resize(end);
  return state.SerializeAsString();
}

}  // namespace

absl::Status Catalog::KeepIntents(const std::string& domain, const DesiredStates& desired) {
  IntentFile::Intents intents = intents_.intents();
  for (const auto& [slice, state] : desired) {
    intents[absl::StrCat(domain, ".", slice)] = state.SerializeAsString();
  }
  // That it is frozen counts for more than the whole of why.
  absl::Status saved = intents_.Save(intents);
  for (const size_t reason_max : {size_t{100}, size_t{0}}) {
    if (!absl::IsResourceExhausted(saved)) break;
    for (auto& [slice, state] : intents) state = WithShortReason(state, reason_max);
    saved = intents_.Save(intents);
  }
  return saved;
}

void Catalog::DropIntents(const std::string& domain) {
  IntentFile::Intents intents = intents_.intents();
  ErasePrefix(absl::StrCat(domain, "."), intents);
  if (intents.size() == intents_.intents().size()) return;
  const absl::Status saved = intents_.Save(std::move(intents));
  if (!saved.ok()) spdlog::error("catalog: {}", saved.ToString());
}

absl::Status Catalog::ChangeDesired(const std::string& domain,
                                    const std::vector<std::string>& slices,
                                    const DesiredEdit& after,
                                    const std::function<void()>& on_taken) {
  MutexLock lock(change_mutex_);
  const auto current = FindAny(domain);
  DesiredStates desired;
  for (const std::string& name : slices) {
    icepie::catalog::v1::SliceEntry entry;
    if (current && current->slices.count(name) > 0) {
      entry = current->slices.at(name);
    } else if (current && current->damaged_slices.count(name) > 0) {
      *entry.mutable_desired() = current->damaged_slices.at(name).desired;
    } else {
      return ChangedMeanwhile(absl::StrCat("slice ", domain, ".", name, " was deleted meanwhile"));
    }
    icepie::v1::DesiredState state = after(entry);
    if (state.SerializeAsString() != entry.desired().SerializeAsString()) {
      desired[name] = std::move(state);
    }
  }
  if (!desired.empty()) ICEPIE_RETURN_IF_ERROR(StoreDesired(domain, desired));
  if (on_taken) on_taken();
  return absl::OkStatus();
}

absl::Status Catalog::StoreDesired(const std::string& domain, const DesiredStates& desired) {
  const auto edit = [&](CatalogDomain& changed, std::vector<Operation>&) {
    for (const auto& [slice, state] : desired) {
      const auto found = changed.slices.find(slice);
      if (found != changed.slices.end()) {
        *found->second.mutable_desired() = state;
      } else {
        changed.damaged_slices.at(slice).desired = state;
      }
    }
    return absl::OkStatus();
  };
  const absl::Status changed = ChangeLocked(domain, edit);
  if (changed.ok()) return changed;
  spdlog::warn("catalog: the core takes no change ({}); {} of {} go to the intent file",
               std::string(changed.message()), desired.size(), domain);
  ICEPIE_RETURN_IF_ERROR(KeepIntents(domain, desired));
  CatalogDomain copy = *FindAny(domain);
  std::vector<Operation> none;
  ICEPIE_RETURN_IF_ERROR(edit(copy, none));
  copy.entry.set_epoch(copy.entry.epoch() + 1);
  Show(domain, std::move(copy), {});
  return absl::OkStatus();
}

void Catalog::LoadIntents() {
  MutexLock lock(change_mutex_);
  const absl::Status opened = intents_.Open();
  if (!opened.ok()) spdlog::error("catalog: {}", opened.ToString());
  // All of a domain in one step: its next change drops what is left of them.
  std::map<std::string, DesiredStates> usable;
  for (const auto& [slice, bytes] : intents_.intents()) {
    const std::vector<std::string> name = absl::StrSplit(slice, absl::MaxSplits('.', 1));
    icepie::v1::DesiredState desired;
    const auto domain = FindAny(name.front());
    if (name.size() != 2 || !desired.ParseFromString(bytes) || !domain ||
        domain->slices.count(name[1]) + domain->damaged_slices.count(name[1]) == 0) {
      spdlog::error("catalog: the intent for {} is not usable", slice);
      continue;
    }
    usable[name[0]][name[1]] = std::move(desired);
  }
  for (const auto& [domain, desired] : usable) {
    // Go into the catalog now if the core takes changes again, else they stay intents.
    const absl::Status changed = StoreDesired(domain, desired);
    if (!changed.ok()) spdlog::error("catalog: intents of {}: {}", domain, changed.ToString());
  }
}

}  // namespace icepie::server
