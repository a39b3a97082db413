#include "core/segment/segment_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status.h"

namespace icepie {
namespace {

absl::Status NamingPosition(absl::string_view what, const std::string& path, int64_t position) {
  return MakeError(
      absl::StatusCode::kDataLoss,
      absl::StrCat(path, ": records at position ", position, " cannot be read: ", what),
      "RECORD_DAMAGED", {{"position", absl::StrCat(position)}, {"file", path}});
}

// An open file whose reads are whole or an error.
class ReadableFile {
 public:
  static absl::StatusOr<ReadableFile> Open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoError(errno, absl::StrCat("open ", path));
    ReadableFile file(path, fd);
    struct stat info {};
    if (::fstat(fd, &info) != 0) return ErrnoError(errno, absl::StrCat("read ", path));
    file.bytes_ = static_cast<uint64_t>(info.st_size);
    return file;
  }
  ReadableFile(ReadableFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_) {}
  ReadableFile(const ReadableFile&) = delete;
  ReadableFile& operator=(const ReadableFile&) = delete;
  ReadableFile& operator=(ReadableFile&&) = delete;
  ~ReadableFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }
  int fd() const { return fd_; }

  absl::StatusOr<std::string> Read(uint64_t place, size_t bytes) const {
    std::string out(bytes, '\0');
    size_t done = 0;
    while (done < bytes) {
      const ssize_t got =
          ::pread(fd_, out.data() + done, bytes - done, static_cast<off_t>(place + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError(errno, absl::StrCat("read ", path_));
      if (got == 0) return absl::DataLossError(absl::StrCat(path_, " is cut off"));
      done += static_cast<size_t>(got);
    }
    return out;
  }

 private:
  ReadableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
  uint64_t bytes_ = 0;
};

absl::StatusOr<SegmentFooter> ReadFooter(const ReadableFile& file) {
  if (file.bytes() < kSegmentHeaderBytes + kSegmentFooterBytes ||
      file.bytes() > static_cast<uint64_t>(2 * kSegmentBytesMax)) {
    return MakeError(absl::StatusCode::kDataLoss,
                     absl::StrCat(file.path(), ": ", file.bytes(), " bytes are no segment"),
                     "RECORD_DAMAGED", {{"file", file.path()}});
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::string bytes,
                          file.Read(file.bytes() - kSegmentFooterBytes, kSegmentFooterBytes));
  absl::StatusOr<SegmentFooter> footer = DecodeSegmentFooter(bytes, file.bytes());
  if (!footer.ok()) return Annotate(footer.status(), file.path());
  return footer;
}

bool Same(const BlockHeader& a, const BlockHeader& b) {
  return a.stream_id == b.stream_id && a.first_position == b.first_position &&
         a.first_offset == b.first_offset && a.record_count == b.record_count &&
         a.ingest_time_us == b.ingest_time_us && a.last_ingest_time_us == b.last_ingest_time_us;
}

// Version 1: blocks as the log has them.
class BlockSegmentReader final : public SegmentReader {
 public:
  BlockSegmentReader(ReadableFile file, SegmentFooter footer, SegmentIndex index)
      : file_(std::move(file)), footer_(footer), index_(std::move(index)) {
    for (const SegmentStream& stream : index_.streams) names_[stream.id] = stream.name;
    // Reading goes forwards, whole blocks at a time.
    (void)::posix_fadvise(file_.fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }

  const SegmentFooter& footer() const override { return footer_; }
  const std::vector<SegmentStream>& streams() const override { return index_.streams; }
  const std::vector<SegmentBlock>& blocks() const override { return index_.blocks; }

  std::vector<StreamChunk> Chunks(const std::set<std::string>& streams, int64_t from,
                                  int64_t end) const override;

  absl::StatusOr<std::string> ReadBlock(const SegmentBlock& block) const override {
    const int64_t position = block.header.first_position;
    absl::StatusOr<std::string> bytes = file_.Read(block.place, block.bytes);
    if (!bytes.ok()) return NamingPosition(bytes.status().message(), file_.path(), position);
    const absl::StatusOr<BlockHeader> header = CheckBlock(*bytes);
    if (!header.ok()) return NamingPosition(header.status().message(), file_.path(), position);
    if (!Same(*header, block.header)) {
      return NamingPosition("block and index disagree", file_.path(), position);
    }
    return bytes;
  }

 private:
  const ReadableFile file_;
  const SegmentFooter footer_;
  const SegmentIndex index_;
  std::unordered_map<uint32_t, std::string> names_;
};

class SegmentChunk final : public RecordChunk {
 public:
  SegmentChunk(std::shared_ptr<const SegmentReader> reader, const SegmentBlock& block)
      : reader_(std::move(reader)), block_(block) {}

  const BlockHeader& header() const override { return block_.header; }

  absl::StatusOr<DecodedBlock> Decode(RecordColumns columns) const override {
    ICEPIE_ASSIGN_OR_RETURN(const std::string bytes, reader_->ReadBlock(block_));
    return DecodedBlock::Decode(bytes, columns);
  }

 private:
  const std::shared_ptr<const SegmentReader> reader_;
  const SegmentBlock block_;
};

std::vector<SegmentReader::StreamChunk> BlockSegmentReader::Chunks(
    const std::set<std::string>& streams, int64_t from, int64_t end) const {
  std::vector<StreamChunk> chunks;
  for (size_t i = FirstBlock(from); i < index_.blocks.size(); ++i) {
    const SegmentBlock& block = index_.blocks[i];
    if (block.header.first_position >= end) break;
    const std::string& stream = names_.at(block.header.stream_id);
    if (!streams.empty() && streams.count(stream) == 0) continue;
    chunks.push_back({stream, std::make_shared<const SegmentChunk>(shared_from_this(), block)});
  }
  return chunks;
}

}  // namespace

size_t SegmentReader::FirstBlock(int64_t from) const {
  const auto found = std::partition_point(
      blocks().begin(), blocks().end(),
      [from](const SegmentBlock& block) { return block.header.end_position() <= from; });
  return static_cast<size_t>(found - blocks().begin());
}

absl::StatusOr<std::shared_ptr<const SegmentReader>> SegmentReader::Open(const std::string& path) {
  ICEPIE_ASSIGN_OR_RETURN(ReadableFile file, ReadableFile::Open(path));
  ICEPIE_ASSIGN_OR_RETURN(const SegmentFooter footer, ReadFooter(file));
  ICEPIE_ASSIGN_OR_RETURN(const std::string header, file.Read(0, kSegmentHeaderBytes));
  const absl::Status checked = CheckSegmentHeader(header, footer.first_position);
  if (!checked.ok()) return Annotate(checked, path);
  ICEPIE_ASSIGN_OR_RETURN(const std::string bytes,
                          file.Read(footer.index_place, footer.index_bytes));
  absl::StatusOr<SegmentIndex> index = DecodeSegmentIndex(bytes, footer);
  if (!index.ok()) return Annotate(index.status(), path);
  return std::make_shared<const BlockSegmentReader>(std::move(file), footer, *std::move(index));
}

absl::StatusOr<SegmentFooter> ReadSegmentFooter(const std::string& path) {
  ICEPIE_ASSIGN_OR_RETURN(const ReadableFile file, ReadableFile::Open(path));
  return ReadFooter(file);
}

}  // namespace icepie
