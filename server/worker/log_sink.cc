#include "server/worker/log_sink.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "spdlog/pattern_formatter.h"

namespace icepie::server {
namespace {

constexpr int64_t kLookEveryBytes = int64_t{64} << 10;

}  // namespace

LogSink::LogSink(std::string path, int64_t file_bytes_max)
    : base_sink(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%fZ %l %v",
                                                            spdlog::pattern_time_type::utc, "")),
      path_(std::move(path)),
      file_bytes_max_(file_bytes_max) {}

void LogSink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t formatted;
  formatter_->format(message, formatted);
  std::string line(formatted.data(), formatted.size());
  absl::StrReplaceAll({{"\n", "\\n"}}, &line);
  if (line.size() > kLineBytesMax) line.resize(kLineBytesMax);
  line += '\n';
  RotateIfLong();
  const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  if (written > 0) bytes_until_look_ -= written;
}

void LogSink::RotateIfLong() {
  if (path_.empty() || bytes_until_look_ > 0) return;
  bytes_until_look_ = std::min(kLookEveryBytes, file_bytes_max_);
  struct stat mine {};
  struct stat named {};
  if (::fstat(STDERR_FILENO, &mine) != 0 || !S_ISREG(mine.st_mode)) return;
  const bool is_named = ::stat(path_.c_str(), &named) == 0 && named.st_ino == mine.st_ino;
  // Another worker of the role may have renamed the file already.
  if (is_named && mine.st_size < file_bytes_max_) return;
  if (is_named) std::rename(path_.c_str(), absl::StrCat(path_, ".1").c_str());
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::close(fd);
}

}  // namespace icepie::server
