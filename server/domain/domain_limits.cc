#include "server/domain/domain_limits.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "server/query/query_router.h"
#include "slices/definition/built_in_limits.h"

namespace icepie::server {
namespace {

using icepie::v1::DomainLimit;

// Where a limit can be stated; empty: nowhere.
struct Keys {
  const char* file = "";
  const char* settings = "";
};

class LimitWriter {
 public:
  explicit LimitWriter(LimitList* out) : out_(*out) {}

  // `unlimited`: a value of 0 is none.
  void Add(const char* name, const char* what, DomainLimit::Unit unit, const Keys& keys,
           std::optional<int64_t> stated, int64_t otherwise, bool unlimited = false) {
    DomainLimit& limit = *out_.Add();
    limit.set_name(name);
    limit.set_what(what);
    limit.set_unit(unit);
    limit.set_file_key(keys.file);
    limit.set_settings_key(keys.settings);
    limit.set_source(stated                ? DomainLimit::FILE
                     : *keys.settings != 0 ? DomainLimit::SETTINGS
                                           : DomainLimit::BUILT_IN);
    const int64_t value = stated.value_or(otherwise);
    if (value > 0 || !unlimited) limit.set_value(value);
  }

 private:
  LimitList& out_;
};

// A file that states a size states more than 0.
std::optional<int64_t> Stated(int64_t value) {
  return value > 0 ? std::optional<int64_t>(value) : std::nullopt;
}

template <typename Entry>
std::optional<int64_t> QueryTimeoutOf(const Entry& entry) {
  return entry.has_query_timeout_ms() ? std::optional<int64_t>(entry.query_timeout_ms())
                                      : std::nullopt;
}

void AddSpace(const icepie::catalog::v1::DomainEntry& entry, const WorkerSettings& settings,
              LimitWriter& out) {
  const auto memory = Stated(entry.memory_limit_bytes());
  out.Add("memory", "what the engine of each of its workers may use", DomainLimit::BYTES,
          {"limits.memory", "workers.memory_bytes"}, memory, settings.memory_bytes);
  out.Add("address_space",
          "all memory of each of its workers: four times the engine's, 2 GiB at least",
          DomainLimit::BYTES, {}, std::nullopt,
          slices::AddressSpaceLimit(memory.value_or(settings.memory_bytes)));
  out.Add("disk", "snapshots, logs, and what queries and slices spill", DomainLimit::BYTES,
          {"limits.disk", "workers.disk_bytes"}, Stated(entry.disk_limit_bytes()),
          settings.disk_bytes, true);
  out.Add("snapshots", "all its snapshots together, but for the last good ones", DomainLimit::BYTES,
          {"", "workers.snapshot_bytes_max"}, std::nullopt, settings.snapshot_bytes_max, true);
  out.Add("snapshot_writes", "of all domains together", DomainLimit::BYTES_PER_SECOND,
          {"", "workers.write_bytes_per_second"}, std::nullopt, settings.write_bytes_per_second);
}

void AddTimes(const icepie::catalog::v1::DomainEntry& entry, const WorkerSettings& settings,
              LimitWriter& out) {
  const auto timeout = QueryTimeoutOf(entry);
  out.Add("query_timeout", "one query, one check of an expectation", DomainLimit::MILLISECONDS,
          {"limits.query_timeout", "workers.query_timeout_ms"}, timeout, settings.query_timeout_ms);
  out.Add("recompute_time",
          "one recompute of a slice: six times the query timeout, a minute at least",
          DomainLimit::MILLISECONDS, {}, std::nullopt,
          absl::ToInt64Milliseconds(slices::RecomputeTimeLimit(
              absl::Milliseconds(timeout.value_or(settings.query_timeout_ms)))));
  out.Add("apply_time", "one batch of records on all slices", DomainLimit::MILLISECONDS,
          {"", "workers.apply_timeout_ms"}, std::nullopt, settings.apply_timeout_ms);
  const auto idle =
      entry.has_idle_after_ms() ? std::optional<int64_t>(entry.idle_after_ms()) : std::nullopt;
  out.Add("idle_after", "nobody asks and nothing comes for so long: it hibernates",
          DomainLimit::MILLISECONDS, {"idle_after", "workers.idle_after_ms"}, idle,
          settings.idle_after_ms, true);
}

void AddCounts(const icepie::catalog::v1::DomainEntry& entry, LimitWriter& out) {
  const auto rows =
      entry.has_max_result_rows() ? std::optional<int64_t>(entry.max_result_rows()) : std::nullopt;
  out.Add("max_result_rows", "of one answer", DomainLimit::COUNT, {"limits.max_result_rows", ""},
          rows, slices::kResultRowsDefault);
  out.Add("result_bytes", "of one answer", DomainLimit::BYTES, {}, std::nullopt,
          slices::kResultBytesMax);
  const auto kept =
      entry.has_kept_rows() ? std::optional<int64_t>(entry.kept_rows()) : std::nullopt;
  out.Add("kept_rows", "records that a slice keeps to be kept fresh by each batch",
          DomainLimit::COUNT, {"limits.kept_rows", ""}, kept, slices::kKeptRowsDefault);
  out.Add("questions", "under way in the daemon, waiting ones included", DomainLimit::COUNT, {},
          std::nullopt, kQuestionsPerDomain);
  out.Add("queries_at_once", "that one worker runs", DomainLimit::COUNT, {}, std::nullopt,
          slices::kQueriesAtOnce);
  out.Add("query_queue", "that wait in one worker", DomainLimit::COUNT, {}, std::nullopt,
          slices::kQueriesQueuedMax);
}

}  // namespace

int64_t DiskBytesByDefault(int64_t setting, const std::string& path) {
  constexpr int64_t kLeast = int64_t{1} << 30;
  if (setting >= 0) return setting;
  struct statvfs disk {};
  const bool known = ::statvfs(path.c_str(), &disk) == 0 && disk.f_blocks > 0;
  if (!known) return 0;
  const auto bytes = static_cast<int64_t>(disk.f_blocks * disk.f_frsize);
  return std::max(bytes / 2, kLeast);
}

LimitList DescribeLimits(const icepie::catalog::v1::DomainEntry& entry,
                         const WorkerSettings& settings) {
  LimitList limits;
  LimitWriter out(&limits);
  AddSpace(entry, settings, out);
  AddTimes(entry, settings, out);
  AddCounts(entry, out);
  return limits;
}

void KeepLimits(const icepie::worker::v1::PlanDomainResponse& plan,
                icepie::catalog::v1::DomainEntry& entry) {
  entry.set_memory_limit_bytes(plan.memory_limit_bytes());
  entry.set_disk_limit_bytes(plan.disk_limit_bytes());
  entry.clear_idle_after_ms();
  entry.clear_query_timeout_ms();
  entry.clear_max_result_rows();
  entry.clear_kept_rows();
  if (plan.has_idle_after_ms()) entry.set_idle_after_ms(plan.idle_after_ms());
  if (plan.has_query_timeout_ms()) entry.set_query_timeout_ms(plan.query_timeout_ms());
  if (plan.has_max_result_rows()) entry.set_max_result_rows(plan.max_result_rows());
  if (plan.has_kept_rows()) entry.set_kept_rows(plan.kept_rows());
}

}  // namespace icepie::server
