#include "slices/roll_back.h"

namespace icepie::slices {
namespace {

// A statement that begins has a fresh flag, so even an interrupt that is set all the time misses
// some of them.
constexpr int kTriesMax = 500;

}  // namespace

absl::Status RollBack(DuckConnection& connection) {
  absl::Status status = connection.Run("ROLLBACK");
  for (int tries = 1; absl::IsDeadlineExceeded(status) && tries < kTriesMax; ++tries) {
    status = connection.Run("ROLLBACK");
  }
  return status;
}

}  // namespace icepie::slices
