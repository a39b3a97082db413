// Blocks of the core as the readers of Core.ReadRecords send them: read, decoded and encoded once,
// and then shared by every reader that wants the same records, down to the bytes that go to the
// socket. A small cache keeps what was read last, so that followers, which are all at the head,
// find it there.
#ifndef ICEPIE_SERVER_RECORD_SHARED_BLOCKS_H_
#define ICEPIE_SERVER_RECORD_SHARED_BLOCKS_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/core.h"

namespace icepie::server {

// The records of one block in the wire format of icepie.v1.ReadRecordsResponse.records: any number
// of consecutive ones is a part of a message as it is.
// Threads: any; immutable.
class EncodedBlock {
 public:
  // `live_bytes` counts the encoded bytes for as long as the block lives.
  // DATA_LOSS/RECORD_DAMAGED naming the position.
  static absl::StatusOr<std::shared_ptr<const EncodedBlock>> Make(
      const StoredBlock& stored, std::shared_ptr<std::atomic<int64_t>> live_bytes);
  ~EncodedBlock();
  EncodedBlock(const EncodedBlock&) = delete;
  EncodedBlock& operator=(const EncodedBlock&) = delete;

  int64_t first_position() const { return first_position_; }
  int64_t end_position() const { return first_position_ + static_cast<int64_t>(ends_.size()); }
  int64_t first_offset() const { return first_offset_; }
  size_t size() const { return ends_.size(); }  // records
  const std::string& bytes() const { return bytes_; }

  // Where record `i` is in bytes().
  size_t begin_of(size_t i) const { return i == 0 ? 0 : ends_[i - 1]; }
  size_t end_of(size_t i) const { return ends_[i]; }

  // The key of record `i`; nullopt when it has none.
  std::optional<absl::string_view> KeyOf(size_t i) const;

 private:
  EncodedBlock() = default;

  int64_t first_position_ = 0;
  int64_t first_offset_ = 0;
  std::string bytes_;
  std::vector<uint32_t> ends_;
  std::shared_ptr<std::atomic<int64_t>> live_bytes_;
};

// Threads: any.
// Errors: those of Core::ReadBlocks.
// Lifetime: the core outlives it; what it hands out may outlive it.
class SharedBlocks {
 public:
  // The cache holds blocks of about `bytes_max` encoded bytes.
  SharedBlocks(const Core* core, int64_t bytes_max);

  // Every wanted record from `from` to `complete_position` is in `blocks`, in position order; the
  // first block may begin before `from`.
  struct Range {
    int64_t from = 0;
    int64_t complete_position = 0;
    int64_t bytes = 0;
    std::vector<std::shared_ptr<const EncodedBlock>> blocks;
  };
  // A range of `streams` (empty: all) that holds `from`, read up to `end` at most, unless a longer
  // one is there already.
  absl::StatusOr<std::shared_ptr<const Range>> Read(const std::vector<std::string>& streams,
                                                    int64_t from, int64_t end);

  // Encoded bytes of all blocks that anybody still holds.
  int64_t live_bytes() const { return live_bytes_->load(); }

 private:
  // Readers of other streams have other ranges, but share the blocks in them.
  using Key = std::pair<std::vector<std::string>, int64_t>;  // streams, from
  struct Entry {
    Key key;
    std::shared_ptr<const Range> range;
  };

  std::shared_ptr<const Range> Find(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<const Range>> Load(const Key& key, int64_t end);
  absl::StatusOr<std::shared_ptr<const EncodedBlock>> Encode(const StoredBlock& stored);
  void Insert(const Key& key, std::shared_ptr<const Range> range)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetBlocks() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Core* const core_;
  const int64_t bytes_max_;
  const std::shared_ptr<std::atomic<int64_t>> live_bytes_;
  Mutex mutex_;
  CondVar loaded_;
  std::set<Key> loading_ ABSL_GUARDED_BY(mutex_);     // by somebody: others wait for it
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // the one used last first
  std::map<Key, std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Blocks by first position, as long as anybody holds them.
  std::unordered_map<int64_t, std::weak_ptr<const EncodedBlock>> blocks_ ABSL_GUARDED_BY(mutex_);
  size_t sweep_size_ ABSL_GUARDED_BY(mutex_);  // of blocks_, from which on the forgotten go
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_RECORD_SHARED_BLOCKS_H_
