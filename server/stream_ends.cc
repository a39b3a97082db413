#include "server/stream_ends.h"

namespace icepie::server {

bool StreamEnds::HasBeyond(const std::string& stream, int64_t position) {
  const auto info = core_.GetStream(stream);
  if (!info.ok() || info->end_offset == 0) return false;
  {
    const MutexLock lock(mutex_);
    const End& known = ends_[stream];
    // Streams only grow.
    if (known.position > position) return true;
    if (known.offset == info->end_offset) return false;
  }
  const auto last = core_.PositionOf(stream, info->end_offset - 1);
  if (!last.ok()) return true;
  const MutexLock lock(mutex_);
  End& known = ends_[stream];
  if (info->end_offset > known.offset) known = {info->end_offset, *last + 1};
  return *last >= position;
}

}  // namespace icepie::server
