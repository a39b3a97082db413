#include "server/admin/event_log.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/file.h"
#include "server/base/proto_time.h"
#include "spdlog/spdlog.h"

namespace icepie::server {
namespace {

using icepie::v1::Event;

constexpr size_t kTextBytesMax = 1024;

std::string Shortened(std::string text) {
  if (text.size() <= kTextBytesMax) return text;
  size_t end = kTextBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;  // UTF-8
  text.resize(end);
  return text + "…";
}

std::string LineOf(const Event& event) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string line;
  if (!google::protobuf::util::MessageToJsonString(event, &line, options).ok()) return "";
  return line + '\n';
}

// A string field of any request; "" when it has none of that name.
std::string TextField(const google::protobuf::Message& message, const char* name) {
  const auto* field = message.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated() ||
      field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_STRING) {
    return "";
  }
  return message.GetReflection()->GetString(message, field);
}

}  // namespace

bool EventFilter::Takes(const Event& event) const {
  if (FromProto(event.time()) < since) return false;
  if (!slice.empty()) return event.slice() == slice;
  return domain.empty() || event.domain() == domain;
}

EventFilter FilterFor(const std::string& name) {
  EventFilter filter;
  filter.domain = name.substr(0, name.find('.'));
  if (absl::StrContains(name, ".")) filter.slice = name;
  return filter;
}

EventLog::EventLog(std::string path, size_t kept, int64_t file_bytes_max)
    : path_(std::move(path)), kept_(kept), file_bytes_max_(file_bytes_max) {
  const MutexLock lock(mutex_);
  Load(path_ + ".1");
  Load(path_);
  OpenFile();
  file_begin_ = last_number_ + 1;
}

EventLog::~EventLog() {
  const MutexLock lock(mutex_);
  if (fd_ >= 0) ::close(fd_);
}

void EventLog::Load(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    Event event;
    if (!google::protobuf::util::JsonStringToMessage(line, &event).ok()) continue;
    if (event.number() > 0 && events_.count(event.number()) == 0) Keep(std::move(event));
  }
}

void EventLog::OpenFile() {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const off_t end = fd_ < 0 ? 0 : ::lseek(fd_, 0, SEEK_END);
  file_bytes_ = std::max<int64_t>(end, 0);
  // Behind a line that a crash cut off, a new one begins.
  if (file_bytes_ > 0 && ::write(fd_, "\n", 1) == 1) ++file_bytes_;
}

void EventLog::Keep(Event event) {
  const int64_t number = event.number();
  last_number_ = std::max(last_number_, number);
  auto& numbers = by_domain_[event.domain()];
  // Files are read in the order of their age, and what is carried over is older than its file.
  numbers.insert(std::upper_bound(numbers.begin(), numbers.end(), number), number);
  events_[number] = std::move(event);
  if (events_.size() > kept_) Forget();
}

void EventLog::Forget() {
  const auto most = std::max_element(
      by_domain_.begin(), by_domain_.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  events_.erase(most->second.front());
  most->second.pop_front();
  if (most->second.empty()) by_domain_.erase(most);
}

void EventLog::Write(const Event& event) {
  const std::string line = LineOf(event);
  if (line.empty()) return;
  const auto has_room = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return file_bytes_ + static_cast<int64_t>(line.size()) <= file_bytes_max_;
  };
  if (!has_room()) TurnFile();
  if (has_room()) {
    WriteLine(line);
  } else {
    Complain("the file is full and cannot be replaced");
  }
}

// The new file takes along what is kept and was not new in the old one, whose predecessor goes. An
// old one that cannot be renamed is replaced by the newest instead, since one that went on would
// grow without bound; when that fails, too, it stands.
void EventLog::TurnFile() {
  const bool renamed = std::rename(path_.c_str(), (path_ + ".1").c_str()) == 0;
  if (!renamed) file_begin_ = last_number_ + 1;
  if (!ReplaceFile(CarriedOver()) && !renamed) return;
  if (fd_ >= 0) ::close(fd_);
  OpenFile();
  file_begin_ = last_number_ + 1;
}

// As much as leaves the file half of its room, the newest.
std::string EventLog::CarriedOver() const {
  std::vector<std::string> lines;
  int64_t bytes = 0;
  for (auto at = std::make_reverse_iterator(events_.lower_bound(file_begin_));
       at != events_.rend() && bytes < file_bytes_max_ / 2; ++at) {
    lines.push_back(LineOf(at->second));
    bytes += static_cast<int64_t>(lines.back().size());
  }
  std::reverse(lines.begin(), lines.end());
  return absl::StrJoin(lines, "");
}

// As a whole: a daemon that ends meanwhile leaves the old one.
bool EventLog::ReplaceFile(const std::string& content) const {
  const std::string temporary = path_ + ".new";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  const bool written = WriteAll(fd, content, temporary).ok();
  ::close(fd);
  if (written && std::rename(temporary.c_str(), path_.c_str()) == 0) return true;
  unlink(temporary.c_str());
  return false;
}

void EventLog::WriteLine(const std::string& line) {
  const ssize_t written = ::write(fd_, line.data(), line.size());
  if (written > 0) file_bytes_ += written;
  if (written == static_cast<ssize_t>(line.size())) return;
  Complain(written < 0 ? std::strerror(errno) : "short write");  // NOLINT(concurrency-mt-unsafe)
}

void EventLog::Complain(const std::string& why) {
  if (std::exchange(complained_, true)) return;
  spdlog::warn("events are not written to {} ({}); the newest {} stay in memory", path_, why,
               kept_);
}

void EventLog::Add(Event event) {
  event.set_message(Shortened(event.message()));
  event.set_reason(Shortened(event.reason()));
  {
    const MutexLock lock(mutex_);
    event.set_number(last_number_ + 1);
    *event.mutable_time() = ToProto(absl::Now());
    Write(event);
    Keep(std::move(event));
  }
  const MutexLock lock(listeners_mutex_);
  for (const auto& [id, listener] : listeners_) listener();
}

void EventLog::AddAction(const std::string& action, const std::string& actor,
                         const std::string& domain, const google::protobuf::Message& request) {
  const std::string name = TextField(request, "name");
  Event event;
  event.set_kind(Event::ADMIN);
  event.set_subject(action);
  event.set_actor(actor);
  event.set_domain(domain.empty() ? name.substr(0, name.find('.')) : domain);
  if (absl::StrContains(name, ".")) event.set_slice(name);
  event.set_reason(TextField(request, "reason"));
  Add(std::move(event));
}

std::vector<Event> EventLog::List(const EventFilter& filter, int64_t after,
                                  size_t count_max) const {
  std::vector<Event> found;
  const MutexLock lock(mutex_);
  for (auto at = events_.upper_bound(after); at != events_.end() && found.size() < count_max;
       ++at) {
    if (filter.Takes(at->second)) found.push_back(at->second);
  }
  return found;
}

std::vector<Event> EventLog::ListNewest(const EventFilter& filter, size_t count_max) const {
  std::vector<Event> found;
  {
    const MutexLock lock(mutex_);
    for (auto at = events_.rbegin(); at != events_.rend() && found.size() < count_max; ++at) {
      if (filter.Takes(at->second)) found.push_back(at->second);
    }
  }
  std::reverse(found.begin(), found.end());
  return found;
}

int64_t EventLog::last_number() const {
  const MutexLock lock(mutex_);
  return last_number_;
}

int64_t EventLog::Subscribe(std::function<void()> on_event) {
  const MutexLock lock(listeners_mutex_);
  listeners_[++last_listener_] = std::move(on_event);
  return last_listener_;
}

void EventLog::EndWatches() {
  watches_end_ = true;
  const MutexLock lock(listeners_mutex_);
  for (const auto& [id, on_event] : listeners_) on_event();
}

void EventLog::Unsubscribe(int64_t id) {
  const MutexLock lock(listeners_mutex_);
  listeners_.erase(id);
}

}  // namespace icepie::server
