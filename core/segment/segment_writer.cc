#include "core/segment/segment_writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/segment/segment_reader.h"

namespace icepie {
namespace {

// Written and handed to the disk in pieces of this size: one large sync at the end would make the
// log's own syncs wait.
constexpr size_t kWriteBytes = size_t{1} << 20;

absl::Status OutOfOrder(int64_t position, const BlockHeader& header) {
  return MakeError(absl::StatusCode::kDataLoss,
                   absl::StrCat("a block of position ", header.first_position,
                                " stands where position ", position, " should"),
                   "RECORD_DAMAGED", {{"position", absl::StrCat(position)}});
}

}  // namespace

SegmentWriter::SegmentWriter(std::string path, int fd, int64_t first_position)
    : path_(std::move(path)),
      fd_(fd),
      first_position_(first_position),
      end_position_(first_position),
      buffer_(EncodeSegmentHeader(first_position)) {}

absl::StatusOr<std::unique_ptr<SegmentWriter>> SegmentWriter::Create(const std::string& path,
                                                                     int64_t first_position) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoError(errno, absl::StrCat("create ", path));
  return absl::WrapUnique(new SegmentWriter(path, fd, first_position));
}

SegmentWriter::~SegmentWriter() {
  ::close(fd_);
  if (!finished_) ::unlink(path_.c_str());
}

void SegmentWriter::CountRecords(absl::string_view stream, const BlockHeader& header) {
  auto place =
      std::lower_bound(index_.streams.begin(), index_.streams.end(), header.stream_id,
                       [](const SegmentStream& each, uint32_t id) { return each.id < id; });
  if (place == index_.streams.end() || place->id != header.stream_id) {
    place = index_.streams.insert(place,
                                  {header.stream_id, std::string(stream), header.first_offset, 0});
  }
  place->record_count += header.record_count;
}

bool SegmentWriter::Joins(const BlockHeader& header, int64_t raw_bytes) const {
  return !joined_.empty() && raw_bytes < kSmallBlockBytes &&
         RawBytesOf(joined_.back()) < kSmallBlockBytes &&
         joined_header_.stream_id == header.stream_id &&
         joined_header_.first_offset + joined_header_.record_count == header.first_offset &&
         joined_header_.last_ingest_time_us <= header.ingest_time_us &&
         joined_raw_bytes_ + raw_bytes <= kSegmentBlockTargetBytes &&
         joined_header_.record_count + header.record_count <= kBlockRecordsMax;
}

absl::Status SegmentWriter::Add(absl::string_view stream, std::string block) {
  ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, CheckBlock(block));
  if (header.first_position != end_position_) return OutOfOrder(end_position_, header);
  CountRecords(stream, header);
  end_position_ = header.end_position();
  last_ingest_time_us_ = std::max(last_ingest_time_us_, header.last_ingest_time_us);
  const int64_t raw_bytes = RawBytesOf(block);
  const bool joins = Joins(header, raw_bytes);
  if (!joins) {
    ICEPIE_RETURN_IF_ERROR(CloseJoined());
    joined_header_ = header;
    joined_header_.record_count = 0;
    joined_raw_bytes_ = 0;
  }
  joined_header_.record_count += header.record_count;
  joined_header_.last_ingest_time_us = header.last_ingest_time_us;
  joined_raw_bytes_ += raw_bytes;
  joined_.push_back(std::move(block));
  return absl::OkStatus();
}

absl::Status SegmentWriter::CloseJoined() {
  if (joined_.empty()) return absl::OkStatus();
  if (joined_.size() == 1) {
    ICEPIE_RETURN_IF_ERROR(Put(joined_header_, joined_.front()));
  } else {
    std::vector<DecodedBlock> blocks;
    for (const std::string& stored : joined_) {
      ICEPIE_ASSIGN_OR_RETURN(DecodedBlock block, DecodedBlock::Decode(stored));
      blocks.push_back(std::move(block));
    }
    ICEPIE_RETURN_IF_ERROR(Put(joined_header_, MergeBlocks(blocks)));
  }
  joined_.clear();
  return absl::OkStatus();
}

absl::Status SegmentWriter::Put(const BlockHeader& header, absl::string_view block) {
  index_.blocks.push_back(
      {header, static_cast<uint64_t>(bytes()), static_cast<uint32_t>(block.size())});
  buffer_.append(block.data(), block.size());
  return buffer_.size() >= kWriteBytes ? Flush() : absl::OkStatus();
}

absl::Status SegmentWriter::Flush() {
  const int64_t begin = written_;
  ICEPIE_RETURN_IF_ERROR(WriteAll(fd_, buffer_, path_));
  written_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
  // Only a beginning: the sync at the end tells whether it has worked.
  (void)::sync_file_range(fd_, begin, written_ - begin, SYNC_FILE_RANGE_WRITE);
  return absl::OkStatus();
}

absl::StatusOr<SegmentFooter> SegmentWriter::Finish() {
  ICEPIE_RETURN_IF_ERROR(CloseJoined());
  ICEPIE_CHECK(!index_.blocks.empty());
  const std::string index = EncodeSegmentIndex(index_);
  SegmentFooter footer;
  footer.first_position = first_position_;
  footer.end_position = end_position_;
  footer.index_place = static_cast<uint64_t>(bytes());
  footer.index_bytes = index.size();
  footer.index_checksum = XXH3_64bits(index.data(), index.size());
  footer.last_ingest_time_us = last_ingest_time_us_;
  buffer_ += index;
  buffer_ += EncodeSegmentFooter(footer);
  ICEPIE_RETURN_IF_ERROR(Flush());
  if (::fsync(fd_) != 0) return ErrnoError(errno, absl::StrCat("fsync ", path_));
  ICEPIE_RETURN_IF_ERROR(ReadBack());
  finished_ = true;
  return footer;
}

// The hot copy is dropped on the strength of this file.
absl::Status SegmentWriter::ReadBack() const {
  ICEPIE_ASSIGN_OR_RETURN(const auto reader, SegmentReader::Open(path_));
  for (const SegmentBlock& block : reader->blocks()) {
    ICEPIE_RETURN_IF_ERROR(reader->ReadBlock(block).status());
  }
  return absl::OkStatus();
}

}  // namespace icepie
