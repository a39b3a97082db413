#include "server/admin/request_replay.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "icepie/catalog/v1/catalog.pb.h"
#include "server/base/proto_time.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

constexpr size_t kIdBytesMax = 128;
constexpr const char* kPrefix = "request/";

std::string KeyOf(const std::string& request_id) {
  return absl::StrCat(kPrefix, Sha256Hex(request_id));
}

absl::Status TooLong() {
  const std::string what = absl::StrCat("has more than ", kIdBytesMax, " bytes");
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat("request_id ", what),
                   ErrorDetail{"PARAMETER_INVALID", {}, {{"request_id", what}}, std::nullopt});
}

absl::Status Reused(const std::string& request_id) {
  return MakeError(absl::StatusCode::kAlreadyExists,
                   absl::StrCat("request_id ", request_id,
                                " was given to another request; take a new one for each change"),
                   "REQUEST_ID_REUSED", {{"request_id", request_id}});
}

}  // namespace

RequestReplay::RequestReplay(Core* core, Clock clock)
    : core_(core), clock_(std::move(clock)), begin_(clock_()) {
  if (core_ != nullptr) Load();
}

void RequestReplay::Load() {
  const auto pairs = core_->ScanCatalog(kPrefix);
  if (!pairs.ok()) {
    spdlog::error("answers to request_ids: {}", pairs.status().ToString());
    return;
  }
  std::vector<icepie::catalog::v1::RequestEntry> stored;
  for (const auto& [key, bytes] : *pairs) {
    icepie::catalog::v1::RequestEntry entry;
    if (entry.ParseFromString(bytes) && KeyOf(entry.request_id()) == key) {
      stored.push_back(std::move(entry));
    } else {
      spdlog::error("catalog: {} is damaged", key);
    }
  }
  std::sort(stored.begin(), stored.end(),
            [](const auto& a, const auto& b) { return FromProto(a.time()) < FromProto(b.time()); });
  if (!stored.empty()) loaded_time_ = FromProto(stored.back().time());
  MutexLock lock(mutex_);
  for (const auto& each : stored) {
    Entry entry;
    entry.digest = each.digest();
    entry.stored = true;
    entry.answer = each.answer();
    entry.time = FromProto(each.time());
    Keep(each.request_id(), std::move(entry));
  }
}

bool RequestReplay::Begin(const std::string& request_id, absl::string_view request, Done done) {
  Answer answer = TooLong();
  if (request_id.size() <= kIdBytesMax) {
    const std::string digest = Sha256Hex(request);
    MutexLock lock(mutex_);
    Forget();
    const auto [found, first] = entries_.try_emplace(request_id);
    Entry& entry = found->second;
    if (first) {
      entry.digest = digest;
      return true;
    }
    if (entry.digest == digest && !entry.finished) {
      entry.waiting.push_back(std::move(done));
      return false;
    }
    answer = entry.digest == digest ? Answer(entry.answer) : Answer(Reused(request_id));
  }
  done(answer);
  return false;
}

// Stores the answer and removes what is forgotten by now.
bool RequestReplay::Store(const std::string& request_id, const std::string& answer,
                          absl::Time time) {
  if (core_ == nullptr || answer.size() > kStoredAnswerBytesMax) return false;
  icepie::catalog::v1::RequestEntry entry;
  entry.set_request_id(request_id);
  entry.set_answer(answer);
  *entry.mutable_time() = ToProto(time);
  std::vector<Core::CatalogChange> changes;
  {
    MutexLock lock(mutex_);
    entry.set_digest(entries_[request_id].digest);
    for (const std::string& old : std::exchange(forgotten_, {})) {
      changes.emplace_back(KeyOf(old), std::nullopt);
    }
  }
  changes.emplace_back(KeyOf(request_id), entry.SerializeAsString());
  const absl::Status stored = core_->ChangeCatalog(changes);
  if (!stored.ok()) {
    spdlog::warn("the answer to request_id {} is kept only while the daemon runs: {}", request_id,
                 stored.ToString());
  }
  return stored.ok();
}

void RequestReplay::Keep(const std::string& request_id, Entry entry) {
  entry.finished = true;
  bytes_ += entry.answer.size();
  entries_[request_id] = std::move(entry);
  finished_.push_back(request_id);
  Forget();
}

void RequestReplay::Finish(const std::string& request_id, const Answer& answer) {
  const absl::Time time = Now();
  const bool stored = answer.ok() && Store(request_id, *answer, time);
  std::vector<Done> waiting;
  {
    MutexLock lock(mutex_);
    Entry entry = std::move(entries_[request_id]);
    waiting = std::exchange(entry.waiting, {});
    if (answer.ok()) {
      entry.stored = stored;
      entry.answer = *answer;
      entry.time = time;
      Keep(request_id, std::move(entry));
    } else {
      entries_.erase(request_id);
    }
  }
  for (const Done& done : waiting) done(answer);
}

void RequestReplay::Forget() {
  const absl::Time oldest = Now() - kReplayAge;
  while (!finished_.empty()) {
    const auto entry = entries_.find(finished_.front());
    const bool kept = finished_.size() <= kReplaysMax && bytes_ <= kReplayBytesMax &&
                      entry->second.time >= oldest;
    if (kept) return;
    bytes_ -= entry->second.answer.size();
    if (entry->second.stored) forgotten_.push_back(entry->first);
    entries_.erase(entry);
    finished_.pop_front();
  }
}

}  // namespace icepie::server
