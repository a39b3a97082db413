// What the tree commits to for each record: a leaf entry of fixed size that binds the record's
// bytes to its place, its stream and its times. core/README.md describes every byte.
#ifndef ICEPIE_CORE_MERKLE_LEAF_ENTRY_H_
#define ICEPIE_CORE_MERKLE_LEAF_ENTRY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/merkle/sha256.h"
#include "core/record.h"

namespace icepie {

inline constexpr size_t kLeafEntryBytes = 176;

struct LeafEntry {
  uint32_t stream_id = 0;
  Digest stream_name{};           // SHA-256 of the stream's name
  Digest payload{};               // SHA-256 of the payload
  std::optional<Digest> key;      // SHA-256 of the key; nullopt: the record has none
  std::optional<Digest> headers;  // SHA-256 of the headers as a block stores them
  uint64_t payload_bytes = 0;
  std::optional<int64_t> event_time_us;
  int64_t ingest_time_us = 0;
  int64_t offset = 0;
  int64_t position = 0;
};

std::string EncodeLeafEntry(const LeafEntry& entry);
// DATA_LOSS/PROOF_DAMAGED for anything that EncodeLeafEntry does not make.
absl::StatusOr<LeafEntry> DecodeLeafEntry(absl::string_view bytes);

// Of a stored record.
LeafEntry LeafEntryOf(uint32_t stream_id, const Digest& stream_name, const RecordView& record);

// A leaf whose record has no position yet: the appending thread hashes all that does not depend on
// it, so that one block of SHA-256 is left for the sequencer.
class PreparedLeaf {
 public:
  // `headers` are encoded as in a block; empty: none.
  PreparedLeaf(uint32_t stream_id, const Digest& stream_name, const NewRecord& record,
               absl::string_view headers);

  Digest Hash(int64_t ingest_time_us, int64_t offset, int64_t position) const;

 private:
  Sha256State state_;
  std::array<char, 49> rest_{};  // the entry's bytes behind those in `state_`
};

}  // namespace icepie

#endif  // ICEPIE_CORE_MERKLE_LEAF_ENTRY_H_
