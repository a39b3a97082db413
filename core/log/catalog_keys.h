// Who owns which keys of the catalog: the first byte says it.
#ifndef ICEPIE_CORE_LOG_CATALOG_KEYS_H_
#define ICEPIE_CORE_LOG_CATALOG_KEYS_H_

#include "absl/strings/string_view.h"

namespace icepie {

inline constexpr absl::string_view kStreamKeyPrefix = "s";  // then the stream's name
inline constexpr absl::string_view kTreeKeyPrefix = "t";    // then a word about the Merkle tree
inline constexpr absl::string_view kRequestKeyPrefix =
    "r";  // core/append/request_log.h has the rest
inline constexpr absl::string_view kRequestOrderKeyPrefix = "o";  // then a position
inline constexpr absl::string_view kProducerKeyPrefix = "p";      // then the producer's id
inline constexpr absl::string_view kDaemonKeyPrefix = "d";        // then the daemon's own key
inline constexpr absl::string_view kSegmentKeyPrefix = "g";       // then the first position, BE
inline constexpr absl::string_view kChangeCountKey = "c";         // core/append/catalog_changes.h

}  // namespace icepie

#endif  // ICEPIE_CORE_LOG_CATALOG_KEYS_H_
