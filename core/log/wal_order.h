// Judges, while RocksDB replays its write-ahead logs, whether one goes on where the one before
// ends.
//
// RocksDB does not: of each log it takes a torn end for what a crash has left, and one that is
// missing for none. Where only one family was flushed, several logs are needed at once, so what is
// lost of an older one would be a hole that nothing later shows: neither the head nor the
// high-water mark.
#ifndef ICEPIE_CORE_LOG_WAL_ORDER_H_
#define ICEPIE_CORE_LOG_WAL_ORDER_H_

#include <rocksdb/wal_filter.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace icepie {

// Every write has a sequence number and takes as many as it has entries. Those of the logs must
// follow each other without a gap, across files. At the first one that does not, the replay meets a
// damaged entry. Logs of which nothing is needed are not replayed, so not judged.
// Threads: one. Outlives the database that it is given to.
class WalOrder final : public rocksdb::WalFilter {
 public:
  const char* Name() const override { return "icepie.WalOrder"; }
  WalProcessingOption LogRecordFound(unsigned long long number, const std::string& path,
                                     const rocksdb::WriteBatch& batch,
                                     rocksdb::WriteBatch* new_batch, bool* changed) override;

  void ColumnFamilyLogNumberMap(const std::map<uint32_t, uint64_t>& first_needed,
                                const std::map<std::string, uint32_t>& ids) override;

  // What is missing where, naming the files; empty: nothing.
  const std::string& gap() const { return gap_; }
  // Logs with smaller numbers are needed by no family; 0: no log was replayed.
  uint64_t first_needed() const { return first_needed_; }

 private:
  uint64_t first_needed_ = 0;
  std::string last_path_;
  std::optional<uint64_t> next_;  // the sequence number of the next write
  std::string gap_;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_WAL_ORDER_H_
