// The logs of a domain's workers: files LOGS/ROLE.log and, before it, LOGS/ROLE.log.1, of lines as
// server/worker/log_sink.h writes them. Read here without the workers, so that a dead one's last
// words are there.
#ifndef ICEPIE_SERVER_SUPERVISOR_WORKER_LOG_H_
#define ICEPIE_SERVER_SUPERVISOR_WORKER_LOG_H_

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "icepie/v1/admin.pb.h"

namespace icepie::server {

// Which lines somebody wants.
struct LogFilter {
  std::string slice;  // "domain.slice": its lines, and those without a slice; empty: all
  absl::Time since = absl::InfinitePast();
  icepie::v1::LogLine::Level level_min = icepie::v1::LogLine::LEVEL_UNSPECIFIED;

  bool Takes(const icepie::v1::LogLine& line) const;
};

// One line of a file; without a level when it has not the form of one of ours.
icepie::v1::LogLine ParseLogLine(absl::string_view line, const std::string& domain);

// Adds a line of the daemon's own to a worker's log, e.g. how the worker ended. Best effort.
void NoteInWorkerLog(const std::string& path, icepie::v1::LogLine::Level level,
                     absl::string_view message);

// Reads one file as it grows, and goes on with the new one when it was renamed.
// Threads: one.
class LogFile {
 public:
  LogFile(std::string path, std::string domain, std::string role);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // The newest `count_max` lines of both files that the filter takes; later calls of ReadNew go on
  // behind them.
  std::deque<icepie::v1::LogLine> ReadPast(const LogFilter& filter, size_t count_max);
  // What has been written since, at most about 1 MiB of it at a time.
  std::deque<icepie::v1::LogLine> ReadNew(const LogFilter& filter);

 private:
  bool OpenNamed();
  // False at the end of the file.
  bool ReadPiece();
  void TakeLines(const LogFilter& filter, std::deque<icepie::v1::LogLine>& out, size_t count_max);
  void ReadAll(const std::string& path, const LogFilter& filter, size_t count_max,
               std::deque<icepie::v1::LogLine>& out);

  const std::string path_;
  const std::string domain_;
  const std::string role_;
  int fd_ = -1;
  ino_t inode_ = 0;
  off_t offset_ = 0;
  std::string rest_;  // read, without a line's end yet
  google::protobuf::Timestamp last_time_;
};

// All roles of a domain together, in the order of time.
// Threads: one.
class DomainLog {
 public:
  DomainLog(const std::string& domain_directory, const std::string& domain, LogFilter filter);

  std::vector<icepie::v1::LogLine> ReadPast(size_t count_max);
  std::vector<icepie::v1::LogLine> ReadNew();

 private:
  const LogFilter filter_;
  std::vector<std::unique_ptr<LogFile>> files_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_WORKER_LOG_H_
