// The streams: their names, and how many records each has.
#ifndef ICEPIE_CORE_APPEND_STREAM_REGISTRY_H_
#define ICEPIE_CORE_APPEND_STREAM_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/append/catalog_changes.h"
#include "core/append/payload_paths.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "core/log/log_store.h"
#include "core/merkle/sha256.h"

namespace icepie {

// A stream lives as long as its registry, at one address.
struct Stream {
  uint32_t id = 0;
  std::string name;
  Digest name_digest{};  // SHA-256 of the name, for leaf entries
  PayloadFormat format = PayloadFormat::kJson;
  std::shared_ptr<const StreamSchema> schema;  // of kProtobuf
  absl::Time create_time;
  std::shared_ptr<const PayloadPaths> paths() const {
    const MutexLock lock(paths_mutex);
    return paths_now;
  }
  mutable Mutex paths_mutex;
  std::shared_ptr<const PayloadPaths> paths_now ABSL_GUARDED_BY(paths_mutex);  // nullptr: none
  std::atomic<int64_t> end_offset{0};  // written by the sequencer, after the commit
};

StreamInfo InfoOf(const Stream& stream);

// What whoever misses a stream of that name can do.
std::string HowStreamComesToBe(absl::string_view name);

// Threads: any.
class StreamRegistry {
 public:
  // Reads the catalog and each stream's last hot block.
  static absl::StatusOr<std::unique_ptr<StreamRegistry>> Load(const LogStore& store);

  // The streams whose entries can be read of a damaged log, without their ends.
  static std::unique_ptr<StreamRegistry> Salvage(const LogStore& store);
  // One more, unless it is known: of one whose entry is lost.
  void AddNamed(uint32_t id, const std::string& name);

  // A registry without streams, for a core that cannot be read.
  StreamRegistry() = default;

  // INVALID_ARGUMENT/STREAM_NAME_INVALID or PARAMETER_INVALID for a path or schema, ALREADY_EXISTS/
  // STREAM_EXISTS for another format, schema or path than one that is given. An equal stream is
  // returned. `internal` allows names that begin with "_". Synced.
  // CheckCreate and CheckUpdate say the same without a change; true: there would be one.
  absl::StatusOr<bool> CheckCreate(absl::string_view name, PayloadFormat format,
                                   const StreamPaths& paths,
                                   const std::shared_ptr<const StreamSchema>& schema) const;
  absl::Status CheckUpdate(absl::string_view name, const Core::StreamChange& change) const;
  absl::StatusOr<Stream*> Create(CatalogChanges& catalog, absl::string_view name,
                                 PayloadFormat format, const StreamPaths& paths,
                                 std::shared_ptr<const StreamSchema> schema, bool internal);

  // NOT_FOUND/STREAM_NOT_FOUND, INVALID_ARGUMENT/PARAMETER_INVALID for a path. Synced.
  absl::StatusOr<Stream*> Update(CatalogChanges& catalog, absl::string_view name,
                                 const Core::StreamChange& change);

  // The stream has records up to `end_offset` at least: segments say so.
  void Extend(uint32_t id, int64_t end_offset);

  // NOT_FOUND/STREAM_NOT_FOUND with the remedy.
  absl::StatusOr<Stream*> Find(absl::string_view name) const;

  // nullptr when there is none.
  Stream* FindById(uint32_t id) const;

  // By name: those behind `after` (empty: from the first), `count_max` of them at most.
  std::vector<Stream*> List(absl::string_view after, size_t count_max) const;
  std::vector<Stream*> All() const { return List({}, std::numeric_limits<size_t>::max()); }

  // Of all streams; equals the number of records in the core.
  int64_t TotalRecords() const;

 private:
  absl::Status Add(absl::string_view name, absl::string_view entry);
  absl::StatusOr<Stream*> FindEqual(absl::string_view name, PayloadFormat format,
                                    const StreamPaths& paths,
                                    const std::shared_ptr<const StreamSchema>& schema) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Stream* Insert(std::unique_ptr<Stream> stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, std::unique_ptr<Stream>, std::less<>> by_name_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, Stream*> by_id_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_STREAM_REGISTRY_H_
