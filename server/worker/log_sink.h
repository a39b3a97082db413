// Where a worker's log lines go: standard error, which the daemon has connected with a file. A line
// is
//   2026-11-22T02:58:41.120394Z warning [volume_by_chain] generation 7: FAULTED: …
// with the slice in brackets when it concerns one (slices/apply/slice_log.h); line breaks in a
// message are written as \n. server/supervisor/worker_log.h reads them.
//
// The file is bounded: when it is long it becomes FILE.1, and a new one begins. What libraries and
// the C++ run time write to standard error is in the same file.
#ifndef ICEPIE_SERVER_WORKER_LOG_SINK_H_
#define ICEPIE_SERVER_WORKER_LOG_SINK_H_

#include <cstdint>
#include <mutex>
#include <string>

#include "spdlog/sinks/base_sink.h"

namespace icepie::server {

// Threads: any, as all of spdlog's sinks.
class LogSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  static constexpr int64_t kFileBytesMax = int64_t{8} << 20;
  static constexpr size_t kLineBytesMax = size_t{16} << 10;  // longer lines are cut

  // `path` is the file behind standard error; empty: it is no file of ours and never renamed.
  LogSink(std::string path, int64_t file_bytes_max);

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}  // every line is written at once

 private:
  void RotateIfLong();

  const std::string path_;
  const int64_t file_bytes_max_;
  int64_t bytes_until_look_ = 0;  // other processes may write to the file, too
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_LOG_SINK_H_
