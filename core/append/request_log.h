// Which appends were stored under which id, so that a retry gets the first answer and nothing is
// stored twice: kept in the catalog, changed in the same write as the records themselves.
//
//   r + id         → fingerprint of the content, and the answer
//   o + position   → the id stored there, in the order of storing, for forgetting the oldest
//   p + producer   → its epoch and last sequence
//
// An id of a simple client is forgotten after Limits::age_max, or when count_max newer ones are
// known; a producer after producer_age_max without an append. They grow old by the steady clock
// alone: what was just stored must not be stored again because the wall clock jumps by a day. While
// the core is closed, nothing grows older.
#ifndef ICEPIE_CORE_APPEND_REQUEST_LOG_H_
#define ICEPIE_CORE_APPEND_REQUEST_LOG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/steady_clock.h"
#include "core/core.h"
#include "core/log/log_store.h"

namespace icepie {

// INVALID_ARGUMENT/PARAMETER_INVALID naming the field: ids are 1 to 128 visible ASCII characters,
// epoch and sequence are not negative.
absl::Status CheckIdentity(const AppendIdentity& identity);

// 16 bytes that differ when records or conditions do.
std::string FingerprintOf(const AppendBatch& batch);

// Threads: one, the sequencer's, after Load.
// Lifetime: the store that it reads outlives it.
class RequestLog {
 public:
  struct Limits {
    int64_t count_max = 1'000'000;
    absl::Duration age_max = absl::Hours(24);
    int64_t producers_max = 100'000;
    absl::Duration producer_age_max = absl::Hours(24 * 7);
  };
  struct Known {
    AppendResult result;     // `replayed` is set
    bool committed = false;  // false: it is in the group that is being made
  };

  using Clock = std::function<absl::Time()>;

  // DATA_LOSS when what is stored cannot be understood. `clock` is one that nobody sets.
  static absl::StatusOr<std::unique_ptr<RequestLog>> Load(const LogStore& store,
                                                          const Limits& limits, Clock clock);
  static absl::StatusOr<std::unique_ptr<RequestLog>> Load(const LogStore& store) {
    return Load(store, Limits(), SteadyNow);
  }

  // The same log, opened in another way: reads `store` from now on.
  void ReadFrom(const LogStore& store) { store_ = &store; }

  // nullopt: the append is new. Errors: ALREADY_EXISTS/REQUEST_ID_REUSED for other content,
  // FAILED_PRECONDITION/SEQUENCE_GAP, PRODUCER_FENCED for an older epoch, SEQUENCE_FORGOTTEN for a
  // stored one whose answer is no longer kept, RESOURCE_EXHAUSTED/TOO_MANY_PRODUCERS.
  absl::StatusOr<std::optional<Known>> Find(const AppendIdentity& identity,
                                            const std::string& fingerprint);

  // The append that Find() called new becomes a part of the group.
  void Add(const AppendIdentity& identity, const std::string& fingerprint,
           const AppendResult& result);

  // What the group's write must change, with what is to be forgotten; the next group begins.
  absl::StatusOr<std::vector<LogStore::CatalogChange>> TakeChanges();

  int64_t count() const { return count_; }

 private:
  struct Stored {
    std::string fingerprint;
    AppendResult result;
  };
  struct Producer {
    int64_t epoch = 0;
    int64_t last_sequence = 0;
    int64_t last_age_us = 0;
  };

  RequestLog(const LogStore& store, const Limits& limits, Clock clock)
      : store_(&store), limits_(limits), clock_(std::move(clock)), begin_(clock_()) {}
  absl::Status LoadProducers();
  absl::Status LoadOrder();
  absl::StatusOr<std::optional<Known>> FindKey(const std::string& key,
                                               const std::string& fingerprint) const;
  absl::Status CheckProducer(const AppendIdentity& identity);
  absl::Status ForgetOld(std::vector<LogStore::CatalogChange>& changes);
  void ForgetProducers(std::vector<LogStore::CatalogChange>& changes);
  bool IsDue(int64_t age_us, int64_t count) const;

  const LogStore* store_;
  const Limits limits_;
  const Clock clock_;
  const absl::Time begin_;
  std::map<std::string, Stored> group_;  // of the group that is being made, by key
  std::vector<LogStore::CatalogChange> changes_;
  std::map<std::string, Producer> producers_;
  int64_t count_ = 0;            // ids in the store
  int64_t oldest_position_ = 0;  // none is stored before it
  // The age of the log: how long it has been open, counted on from the newest that is stored.
  int64_t age_us_ = 0;
  int64_t loaded_age_us_ = 0;
  int64_t oldest_age_us_ = INT64_MAX;
  int64_t producers_checked_us_ = 0;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_APPEND_REQUEST_LOG_H_
