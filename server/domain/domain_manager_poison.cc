// Slices that end their live worker: what was found about them is kept over restarts, shown, and
// after a while tried once more.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "google/protobuf/struct.pb.h"
#include "server/base/proto_time.h"
#include "server/domain/domain_manager.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

namespace cv1 = icepie::catalog::v1;
using Operations = std::vector<Catalog::Operation>;

// Each suspension in a row is twice as long, at most this.
constexpr absl::Duration kSuspensionMax = absl::Hours(1);
constexpr absl::Duration kLineUpAgain = absl::Seconds(1);

// "volume/7"; the number is 0 when it is none.
std::pair<std::string, int64_t> GenerationOf(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  int64_t number = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &number)) return {"", 0};
  return {parts[0], number};
}

bool HasDeadlyRecord(int64_t position, const cv1::GenerationEntry& generation) {
  const auto& known = generation.deadly_records();
  return std::any_of(known.begin(), known.end(),
                     [position](const auto& record) { return record.position() == position; });
}

void AddDeadlyRecord(int64_t position, cv1::GenerationEntry& generation) {
  cv1::DeadlyRecord& record = *generation.add_deadly_records();
  record.set_position(position);
  *record.mutable_time() = ToProto(absl::Now());
}

void Suspend(const std::string& why, int64_t generation, absl::Duration first,
             cv1::SliceEntry& slice) {
  const cv1::Suspension before = slice.suspension();
  cv1::Suspension& suspension = *slice.mutable_suspension();
  const bool again = before.generation() == generation && before.lifted() &&
                     before.restarts() == slice.desired().restarts();
  suspension.set_generation(generation);
  suspension.set_restarts(slice.desired().restarts());
  suspension.set_message(why);
  suspension.set_lifted(false);
  suspension.set_attempts(again ? before.attempts() + 1 : 1);
  const double doublings = std::min<double>(static_cast<double>(suspension.attempts() - 1), 20);
  const absl::Duration wait =
      std::max(first, std::min(kSuspensionMax, first * std::exp2(doublings)));
  *suspension.mutable_time() = ToProto(absl::Now());
  *suspension.mutable_next_try_time() = ToProto(absl::Now() + wait);
}

// One may be told again while it waits to be kept.
bool IsKept(const PoisonVerdict& verdict, int64_t number, const cv1::SliceEntry& slice) {
  if (verdict.kind != PoisonVerdict::kRecord) {
    const cv1::Suspension* suspension = SuspensionInForce(slice);
    return suspension != nullptr && suspension->generation() == number;
  }
  const auto* generation = FindGeneration(slice, number);
  return generation != nullptr && HasDeadlyRecord(verdict.position, *generation);
}

}  // namespace

// One that is not kept costs the domain its series of deaths again when the daemon ends.
void DomainManager::LineUpVerdict(const std::string& domain, const PoisonVerdict& verdict) {
  if (background_.Run([this, domain, verdict] { KeepVerdict(domain, verdict); })) return;
  clock_.RunAfter(kLineUpAgain, [this, domain, verdict] { LineUpVerdict(domain, verdict); });
}

void DomainManager::KeepVerdict(const std::string& name, const PoisonVerdict& verdict) {
  const std::pair<std::string, int64_t> generation_name = GenerationOf(verdict.generation);
  const std::string& slice_name = generation_name.first;
  const int64_t number = generation_name.second;
  const auto current = catalog_.Find(name);
  const bool has_slice = current && current->slices.count(slice_name) > 0;
  if (has_slice && IsKept(verdict, number, current->slices.at(slice_name))) {
    supervisor_.StoredVerdict(name, verdict);
    return;
  }
  google::protobuf::Struct request;
  auto& fields = *request.mutable_fields();
  fields["name"].set_string_value(absl::StrCat(name, ".", slice_name));
  fields["generation"].set_number_value(static_cast<double>(number));
  const bool record = verdict.kind == PoisonVerdict::kRecord;
  if (record) fields["position"].set_number_value(static_cast<double>(verdict.position));
  fields["reason"].set_string_value(record ? "applying it ends the worker" : verdict.why);
  AdminAction action(&log_, record ? "LeaveOutRecord" : "SuspendSlice", "icepied", request);
  action.BeginAnyhow(name);
  const absl::Status kept = catalog_.Change(name, [&](CatalogDomain& domain, Operations&) {
    auto slice = domain.slices.find(slice_name);
    auto* generation =
        slice == domain.slices.end() ? nullptr : FindGeneration(slice->second, number);
    if (generation == nullptr) return absl::AbortedError("it was replaced meanwhile");
    if (record) {
      AddDeadlyRecord(verdict.position, *generation);
    } else if (supervisor_.Resumes(name, slice_name) != verdict.resumes) {
      return absl::AbortedError("it was resumed meanwhile");
    } else {
      Suspend(verdict.why, number, supervisor_.suspension(), slice->second);
    }
    return absl::OkStatus();
  });
  action.End(kept);
  // It holds as long as the daemon runs, and is kept once the core takes changes. What that refuses
  // for another reason it would refuse again.
  if (!kept.ok() && !absl::IsAborted(kept)) {
    if (IsPassing(kept)) {
      MutexLock lock(mutex_);
      unkept_verdicts_ = true;
    }
    spdlog::warn("{}: what was found about {} is not kept: {}", name, verdict.generation,
                 kept.ToString());
    return;
  }
  supervisor_.StoredVerdict(name, verdict);
  Configure(name);
}

void DomainManager::KeepVerdictsAgain() {
  if (!core_.ReadOnlyCause().empty() || core_.Disk().full) return;
  {
    MutexLock lock(mutex_);
    if (!std::exchange(unkept_verdicts_, false)) return;
  }
  supervisor_.TellVerdictsAgain();
}

// Suspensions whose time is over: the slice is tried once more.
void DomainManager::LiftSuspensions(const std::string& name) {
  const absl::Time now = absl::Now();
  const auto is_over = [now](const cv1::SliceEntry& slice) {
    const cv1::Suspension* suspension = SuspensionInForce(slice);
    return suspension != nullptr && FromProto(suspension->next_try_time()) <= now;
  };
  const auto domain = catalog_.Find(name);
  if (!domain || !domain->held.empty()) return;
  const bool any = std::any_of(domain->slices.begin(), domain->slices.end(),
                               [&](const auto& slice) { return is_over(slice.second); });
  if (!any) return;
  const absl::Status changed = catalog_.Change(name, [&](CatalogDomain& edited, Operations&) {
    for (auto& [slice, entry] : edited.slices) {
      if (is_over(entry)) entry.mutable_suspension()->set_lifted(true);
    }
    return absl::OkStatus();
  });
  if (changed.ok()) Configure(name);
}

}  // namespace icepie::server
