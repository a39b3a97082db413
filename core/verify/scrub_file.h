// Where the scrub stands, in a file, so that a restart goes on there. It is not synced at every
// step and may be lost: then a pass begins anew. core/README.md has its form.
#ifndef ICEPIE_CORE_VERIFY_SCRUB_FILE_H_
#define ICEPIE_CORE_VERIFY_SCRUB_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/verify/scrub.h"

namespace icepie {

inline constexpr absl::string_view kScrubFile = "scrub";  // in the core's directory

// Everything but bytes_read and end_position.
std::string EncodeScrubState(const ScrubState& state);

// The state without anything when the bytes are none.
ScrubState DecodeScrubState(absl::string_view bytes);

}  // namespace icepie

#endif  // ICEPIE_CORE_VERIFY_SCRUB_FILE_H_
