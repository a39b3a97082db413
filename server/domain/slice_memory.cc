#include "server/domain/slice_memory.h"

#include <google/protobuf/util/json_util.h>

#include <utility>

#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "server/base/proto_time.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

using icepie::v1::Slice;
using icepie::v1::SliceError;

bool IsSame(const SliceError& a, const SliceError& b) {
  return a.reason() == b.reason() && a.message() == b.message();
}

}  // namespace

SliceMemory::SliceMemory(std::string path) : path_(std::move(path)) {
  const MutexLock lock(mutex_);
  if (!path_.empty()) Load();
}

void SliceMemory::Load() {
  const auto text = ReadFile(path_);
  if (!text.ok()) return;
  for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    Slice slice;
    const auto parsed = google::protobuf::util::JsonStringToMessage(std::string(line), &slice);
    if (parsed.ok() && !slice.name().empty()) errors_[slice.name()] = slice.last_error();
  }
}

std::string SliceMemory::Text() const {
  std::string text;
  for (const auto& [name, error] : errors_) {
    Slice slice;
    slice.set_name(name);
    *slice.mutable_last_error() = error;
    std::string line;
    if (!google::protobuf::util::MessageToJsonString(slice, &line).ok()) continue;
    text += line + '\n';
  }
  return text;
}

void SliceMemory::Flush() {
  const MutexLock file_lock(file_mutex_);
  std::string text;
  {
    const MutexLock lock(mutex_);
    if (path_.empty() || !std::exchange(changed_, false)) return;
    text = Text();
  }
  const absl::Status written = WriteFileAtomically(path_, text);
  if (written.ok() || std::exchange(complained_, true)) return;
  spdlog::warn("last errors of slices are not kept: {}", written.ToString());
}

void SliceMemory::Complete(Slice& slice, absl::Time now) {
  {
    const MutexLock lock(mutex_);
    auto cleared = cleared_.find(slice.name());
    if (slice.has_last_error() && cleared != cleared_.end() &&
        FromProto(slice.last_error().time()) <= cleared->second) {
      slice.clear_last_error();
    }
    auto known = errors_.find(slice.name());
    if (slice.has_last_error()) {
      const bool is_new = known == errors_.end() || !IsSame(known->second, slice.last_error());
      const bool is_older = known != errors_.end() &&
                            FromProto(slice.last_error().time()) < FromProto(known->second.time());
      if (!is_older || slice.last_error().permanent()) {
        SliceError& kept = errors_[slice.name()];
        kept = slice.last_error();
        kept.clear_permanent();
        changed_ = changed_ || is_new;
      } else {
        *slice.mutable_last_error() = known->second;
      }
    } else if (known != errors_.end()) {
      *slice.mutable_last_error() = known->second;
    }
  }
  *slice.mutable_queries() = queries_.Load(slice.name(), now);
}

void SliceMemory::ClearError(const std::string& slice, absl::Time now) {
  {
    const MutexLock lock(mutex_);
    cleared_[slice] = now;
    changed_ = errors_.erase(slice) > 0 || changed_;
  }
  Flush();
}

void SliceMemory::KeepOnly(const std::set<std::string>& slices) {
  queries_.KeepOnly(slices);
  const MutexLock lock(mutex_);
  const size_t before = errors_.size();
  for (auto it = errors_.begin(); it != errors_.end();) {
    it = slices.count(it->first) > 0 ? std::next(it) : errors_.erase(it);
  }
  changed_ = changed_ || errors_.size() < before;
  for (auto it = cleared_.begin(); it != cleared_.end();) {
    it = slices.count(it->first) > 0 ? std::next(it) : cleared_.erase(it);
  }
}

}  // namespace icepie::server
