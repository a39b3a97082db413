#include "cli/import_jsonl.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/record_envelope.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::cli {
namespace {

constexpr size_t kReadBytes = 1 << 20;
// Beyond what the core takes in one record; a file without line ends must not fill the memory.
constexpr size_t kLineBytesMax = 16 << 20;

// Of a time or a date, since 1970.
std::optional<int64_t> MicrosOf(absl::string_view text) {
  if (const auto days = slices::ParseDateDays(text)) return *days * slices::kMicrosPerDay;
  const auto time = slices::ParseTimeText(text);
  if (!time) return std::nullopt;
  return time->micros - time->offset_micros.value_or(0);
}

class JsonLines : public ImportSource {
 public:
  JsonLines(const ImportFile& file, int fd, int64_t file_bytes)
      : file_(file), fd_(fd), file_bytes_(file_bytes) {}
  ~JsonLines() override {
    if (fd_ != STDIN_FILENO) close(fd_);
  }
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  absl::Status Fill(const BatchLimits& limits, icepie::v1::AppendRecordsRequest* batch) override {
    int64_t bytes = 0;
    while (batch->records_size() < limits.records_max && records_ < file_.limit) {
      absl::string_view line;
      ICEPIE_ASSIGN_OR_RETURN(const bool more, PeekLine(&line));
      if (!more) break;
      const bool first = batch->records_size() == 0;
      const auto size = static_cast<int64_t>(line.size());
      if (!first && bytes + size > limits.bytes_max) break;
      TakeLine(line);
      if (absl::StripAsciiWhitespace(line).empty()) continue;
      if (++records_ <= file_.skip) continue;
      icepie::v1::Record record;
      ICEPIE_RETURN_IF_ERROR(Take(line, &record));
      *batch->add_records() = std::move(record);
      bytes += size;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> CountRecords() override { return records_; }

  int64_t TotalRecords() const override {
    if (file_bytes_ <= 0 || records_ == 0) return -1;
    const double share = static_cast<double>(taken_bytes_) / static_cast<double>(file_bytes_);
    const double total = std::max(1.0, static_cast<double>(records_) / share);
    return std::min(file_.limit, static_cast<int64_t>(total));
  }

 private:
  // The next line without its end; it stands in the buffer until TakeLine. False at the end.
  absl::StatusOr<bool> PeekLine(absl::string_view* line) {
    while (true) {
      const char* begin = buffer_.data() + begin_;
      const size_t size = buffer_.size() - begin_;
      const void* end = size > scanned_ ? memchr(begin + scanned_, '\n', size - scanned_) : nullptr;
      if (end != nullptr || (ended_ && size > 0)) {
        const size_t length = end == nullptr ? size : static_cast<const char*>(end) - begin;
        *line = WithoutReturn(absl::string_view(begin, length));
        line_bytes_ = std::min(length + 1, size);
        return true;
      }
      if (ended_) return false;
      scanned_ = size;
      if (size > kLineBytesMax) {
        return absl::InvalidArgumentError(absl::StrCat(Place(line_ + 1), "longer than ",
                                                       kLineBytesMax,
                                                       " bytes; one record stands on a line"));
      }
      ICEPIE_RETURN_IF_ERROR(ReadMore());
    }
  }

  static absl::string_view WithoutReturn(absl::string_view line) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    return line;
  }

  void TakeLine(absl::string_view) {
    begin_ += line_bytes_;
    taken_bytes_ += static_cast<int64_t>(line_bytes_);
    scanned_ = 0;
    ++line_;
  }

  absl::Status ReadMore() {
    buffer_.erase(0, begin_);
    begin_ = 0;
    const size_t old_size = buffer_.size();
    buffer_.resize(old_size + kReadBytes);
    ssize_t count = -1;
    do {
      count = read(fd_, buffer_.data() + old_size, kReadBytes);
    } while (count < 0 && errno == EINTR);
    buffer_.resize(old_size + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0) return ErrnoError(errno, absl::StrCat("reading ", file_.path));
    ended_ = count == 0;
    return absl::OkStatus();
  }

  absl::Status Take(absl::string_view line, icepie::v1::Record* record) {
    if (file_.envelope) return Annotate(envelope_.Read(line, record), PlaceName(line_));
    record->set_payload(line.data(), line.size());
    return Check(line, record);
  }

  // Whether the line is what it should be, and its event time.
  absl::Status Check(absl::string_view line, icepie::v1::Record* record) {
    if (!file_.check_json && file_.event_time.empty()) return absl::OkStatus();
    simdjson::dom::element value;
    const auto error = parser_.parse(line.data(), line.size(), true).get(value);
    if (error != simdjson::SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(line_), "not well-formed JSON: ", simdjson::error_message(error)));
    }
    return file_.event_time.empty() ? absl::OkStatus() : ReadEventTime(value, record);
  }

  // A record without the member, or with null there, has no event time.
  absl::Status ReadEventTime(const simdjson::dom::element& value,
                             icepie::v1::Record* record) const {
    simdjson::dom::element member;
    const auto error = value.at_key(file_.event_time).get(member);
    if (error != simdjson::SUCCESS || member.is_null()) return absl::OkStatus();
    std::string_view text;
    if (member.get(text) != simdjson::SUCCESS) text = {};
    const auto micros = MicrosOf({text.data(), text.size()});
    if (!micros) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(line_), "--event-time ", file_.event_time,
                       " is no time; it must be text such as \"2001-01-01T00:05:00Z\", or null"));
    }
    SetEventTime(*micros, record);
    return absl::OkStatus();
  }

  std::string Place(int64_t line) const { return absl::StrCat(PlaceName(line), ": "); }
  std::string PlaceName(int64_t line) const { return absl::StrCat(file_.path, ":", line); }

  const ImportFile file_;
  const int fd_;
  const int64_t file_bytes_;  // -1: not a plain file
  simdjson::dom::parser parser_;
  EnvelopeReader envelope_;
  std::string buffer_;
  size_t begin_ = 0;
  size_t scanned_ = 0;     // bytes after begin_ known to hold no line end
  size_t line_bytes_ = 0;  // of the line last peeked, its end counted
  bool ended_ = false;
  int64_t line_ = 0;
  int64_t records_ = 0;
  int64_t taken_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ImportSource>> OpenJsonLines(const ImportFile& file) {
  if (file.path == "-") return std::make_unique<JsonLines>(file, STDIN_FILENO, -1);
  const int fd = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("opening ", file.path));
  struct stat facts {};
  if (fstat(fd, &facts) != 0 || S_ISDIR(facts.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(file.path, " is not a file"));
  }
  return std::make_unique<JsonLines>(file, fd, S_ISREG(facts.st_mode) ? facts.st_size : -1);
}

}  // namespace icepie::cli
