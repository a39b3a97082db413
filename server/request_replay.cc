#include "server/request_replay.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

constexpr size_t kIdBytesMax = 128;

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

void RequestReplay::Finish(const std::string& request_id, const Answer& answer) {
  std::vector<Done> waiting;
  {
    MutexLock lock(mutex_);
    Entry& entry = entries_[request_id];
    waiting = std::move(entry.waiting);
    if (answer.ok()) {
      entry.finished = true;
      entry.answer = *answer;
      entry.time = now_();
      bytes_ += answer->size();
      finished_.push_back(request_id);
      Forget();
    } else {
      entries_.erase(request_id);
    }
  }
  for (const Done& done : waiting) done(answer);
}

void RequestReplay::Forget() {
  const absl::Time oldest = now_() - kReplayAge;
  while (!finished_.empty()) {
    const auto entry = entries_.find(finished_.front());
    const bool kept = finished_.size() <= kReplaysMax && bytes_ <= kReplayBytesMax &&
                      entry->second.time >= oldest;
    if (kept) return;
    bytes_ -= entry->second.answer.size();
    entries_.erase(entry);
    finished_.pop_front();
  }
}

}  // namespace icepie::server
