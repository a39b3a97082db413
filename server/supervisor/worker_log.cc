#include "server/supervisor/worker_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/utf8.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::v1::LogLine;

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr int kPiecesPerCall = 16;
constexpr size_t kLineBytesMax = size_t{16} << 10;

struct LevelName {
  absl::string_view name;
  LogLine::Level level;
};
constexpr LevelName kLevels[] = {{"trace", LogLine::DEBUG}, {"debug", LogLine::DEBUG},
                                 {"info", LogLine::INFO},   {"warning", LogLine::WARNING},
                                 {"error", LogLine::ERROR}, {"critical", LogLine::CRITICAL}};

LogLine::Level LevelOf(absl::string_view name) {
  for (const LevelName& each : kLevels) {
    if (each.name == name) return each.level;
  }
  return LogLine::LEVEL_UNSPECIFIED;
}

absl::string_view NameOf(LogLine::Level level) {
  for (const LevelName& each : kLevels) {
    if (each.level == level) return each.name;
  }
  return "info";
}

absl::string_view CutWord(absl::string_view& text) {
  const size_t space = text.find(' ');
  const absl::string_view word = text.substr(0, space);
  text = space == absl::string_view::npos ? absl::string_view() : text.substr(space + 1);
  return word;
}

// Bytes of a crashing process may be anything; the protocol wants UTF-8.
std::string Clean(absl::string_view text) {
  std::string out(text.substr(0, kLineBytesMax));
  if (IsUtf8(out)) return out;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return out;
}

}  // namespace

bool LogFilter::Takes(const LogLine& line) const {
  if (since > absl::InfinitePast() && FromProto(line.time()) < since) return false;
  if (line.level() != LogLine::LEVEL_UNSPECIFIED && line.level() < level_min) return false;
  return slice.empty() || line.slice().empty() || line.slice() == slice;
}

LogLine ParseLogLine(absl::string_view line, const std::string& domain) {
  LogLine out;
  absl::string_view rest = line;
  const absl::string_view time_text = CutWord(rest);
  const LogLine::Level level = LevelOf(CutWord(rest));
  absl::Time time;
  if (level == LogLine::LEVEL_UNSPECIFIED ||
      !absl::ParseTime(absl::RFC3339_full, time_text, &time, nullptr)) {
    out.set_message(Clean(line));
    return out;
  }
  *out.mutable_time() = ToProto(time);
  out.set_level(level);
  const size_t end = rest.find("] ");
  if (absl::StartsWith(rest, "[") && end != absl::string_view::npos) {
    out.set_slice(Clean(absl::StrCat(domain, ".", rest.substr(1, end - 1))));
    rest.remove_prefix(end + 2);
  }
  out.set_message(Clean(rest));
  return out;
}

// The directory is the worker's: what it may have put in the place of its log is not followed.
void NoteInWorkerLog(const std::string& path, LogLine::Level level, absl::string_view message) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return;
  const std::string line =
      absl::StrCat(absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone()), " ",
                   NameOf(level), " ", absl::StrReplaceAll(message, {{"\n", "\\n"}}), "\n");
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
  ::close(fd);
}

LogFile::LogFile(std::string path, std::string domain, std::string role)
    : path_(std::move(path)), domain_(std::move(domain)), role_(std::move(role)) {}

LogFile::~LogFile() {
  if (fd_ >= 0) ::close(fd_);
}

bool LogFile::OpenNamed() {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0) {
    if (fd >= 0) ::close(fd);
    return false;
  }
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
  inode_ = info.st_ino;
  offset_ = 0;
  return true;
}

bool LogFile::ReadPiece() {
  const size_t before = rest_.size();
  rest_.resize(before + kReadBytes);
  const ssize_t got = ::pread(fd_, rest_.data() + before, kReadBytes, offset_);
  rest_.resize(before + static_cast<size_t>(std::max<ssize_t>(0, got)));
  offset_ += std::max<ssize_t>(0, got);
  return got > 0;
}

void LogFile::TakeLines(const LogFilter& filter, std::deque<LogLine>& out, size_t count_max) {
  size_t begin = 0;
  for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
    LogLine line = ParseLogLine(absl::string_view(rest_).substr(begin, end - begin), domain_);
    begin = end + 1;
    line.set_role(role_);
    if (line.has_time()) {
      last_time_ = line.time();
    } else {
      *line.mutable_time() = last_time_;
    }
    if (!filter.Takes(line)) continue;
    out.push_back(std::move(line));
    if (out.size() > count_max) out.pop_front();
  }
  rest_.erase(0, begin);
  // Bytes without end, of whoever writes them, are not collected.
  if (rest_.size() > kReadBytes) rest_.clear();
}

void LogFile::ReadAll(const std::string& path, const LogFilter& filter, size_t count_max,
                      std::deque<LogLine>& out) {
  LogFile older(path, domain_, role_);
  if (!older.OpenNamed()) return;
  while (older.ReadPiece()) older.TakeLines(filter, out, count_max);
  last_time_ = older.last_time_;
}

std::deque<LogLine> LogFile::ReadPast(const LogFilter& filter, size_t count_max) {
  std::deque<LogLine> out;
  ReadAll(path_ + ".1", filter, count_max, out);
  if (!OpenNamed()) return out;
  while (ReadPiece()) TakeLines(filter, out, count_max);
  return out;
}

std::deque<LogLine> LogFile::ReadNew(const LogFilter& filter) {
  std::deque<LogLine> out;
  if (fd_ < 0 && !OpenNamed()) return out;
  for (int pieces = 0; pieces < kPiecesPerCall && ReadPiece(); ++pieces) {
    TakeLines(filter, out, SIZE_MAX);
  }
  struct stat named {};
  const bool renamed = ::stat(path_.c_str(), &named) == 0 && named.st_ino != inode_;
  // The old one is read to its end first; nobody writes to it any more.
  if (!renamed || ReadPiece()) {
    TakeLines(filter, out, SIZE_MAX);
    return out;
  }
  rest_.clear();
  if (OpenNamed() && ReadPiece()) TakeLines(filter, out, SIZE_MAX);
  return out;
}

DomainLog::DomainLog(const std::string& domain_directory, const std::string& domain,
                     LogFilter filter)
    : filter_(std::move(filter)) {
  for (const char* role : {"live", "standby", "build"}) {
    files_.push_back(std::make_unique<LogFile>(
        absl::StrCat(domain_directory, "/logs/", role, ".log"), domain, role));
  }
}

namespace {

std::vector<LogLine> InOrder(std::vector<LogLine> lines) {
  std::stable_sort(lines.begin(), lines.end(), [](const LogLine& a, const LogLine& b) {
    return FromProto(a.time()) < FromProto(b.time());
  });
  return lines;
}

}  // namespace

std::vector<LogLine> DomainLog::ReadPast(size_t count_max) {
  std::vector<LogLine> all;
  for (const auto& file : files_) {
    for (LogLine& line : file->ReadPast(filter_, count_max)) all.push_back(std::move(line));
  }
  all = InOrder(std::move(all));
  if (all.size() > count_max) all.erase(all.begin(), all.end() - static_cast<int64_t>(count_max));
  return all;
}

std::vector<LogLine> DomainLog::ReadNew() {
  std::vector<LogLine> all;
  for (const auto& file : files_) {
    for (LogLine& line : file->ReadNew(filter_)) all.push_back(std::move(line));
  }
  return InOrder(std::move(all));
}

}  // namespace icepie::server
