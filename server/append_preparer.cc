#include "server/append_preparer.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

// About 0.1 ms of work.
constexpr int64_t kSmallBytes = int64_t{32} << 10;
constexpr int64_t kWaitingBytesMax = int64_t{64} << 20;
constexpr int kNicer = 5;
constexpr int64_t kRetryMs = 200;

// Large batches are mostly waited for by imports: they may have every processor, but give way.
int Threads() { return std::max(2, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

AppendPreparer::AppendPreparer() : executor_(Threads(), kNicer, kWaitingBytesMax) {}

absl::Status AppendPreparer::Run(const icepie::v1::AppendRecordsRequest& request, int64_t bytes,
                                 std::function<void()> append) {
  if (bytes <= kSmallBytes) {
    append();
    return absl::OkStatus();
  }
  const std::string line = request.records_size() > 0 ? request.records(0).stream() : "";
  if (executor_.Run(line, bytes, std::move(append))) return absl::OkStatus();
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("too many large appends to stream ", line,
                                " are waiting; send the batch again later"),
                   ErrorDetail{"APPEND_QUEUE_FULL", {}, {}, kRetryMs});
}

}  // namespace icepie::server
