#include "slices/role/engine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "slices/apply/generation.h"
#include "slices/apply/quarantine_budget.h"
#include "slices/apply/slice_log.h"
#include "slices/definition/built_in_limits.h"
#include "slices/plan/components.h"
#include "slices/role/process_mark.h"

namespace icepie::slices {
namespace {

constexpr int64_t kPageSizeDefault = 100;
constexpr int64_t kPageSizeMax = 1000;

std::string TextAt(const CellRow& row, size_t index) {
  const auto* text = std::get_if<std::string>(&row[index]);
  return text == nullptr ? "" : *text;
}

int64_t IntAt(const CellRow& row, size_t index) {
  const auto* value = std::get_if<int64_t>(&row[index]);
  return value == nullptr ? 0 : *value;
}

QuarantinedRecord QuarantinedOf(const CellRow& row) {
  return {IntAt(row, 0),  TextAt(row, 1), IntAt(row, 2),  TextAt(row, 3), TextAt(row, 4),
          TextAt(row, 5), TextAt(row, 6), TextAt(row, 7), false};
}

absl::StatusOr<std::vector<QuarantinedRecord>> ReadRecords(DuckConnection& connection,
                                                           const std::string& alias) {
  ICEPIE_ASSIGN_OR_RETURN(
      const auto rows,
      connection.QueryCells(absl::StrCat(
          "SELECT position, stream, \"offset\", code, column_name, path, value, message FROM ",
          QuoteIdentifier(alias), ".main.__quarantine ORDER BY position")));
  std::vector<QuarantinedRecord> records;
  records.reserve(rows.size());
  for (const CellRow& row : rows) records.push_back(QuarantinedOf(row));
  return records;
}

// Position and quarantine in one statement, so that they are of one commit.
absl::Status ReadStanding(DuckDatabase& instance, const ServedSlice& served, int64_t position,
                          RecordStanding& standing) {
  const auto database = served.storage();
  if (database == nullptr) return absl::FailedPreconditionError("it has no state yet");
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
  const std::string name = QuoteIdentifier(database->alias());
  ICEPIE_ASSIGN_OR_RETURN(
      const std::vector<CellRow> rows,
      connection->QueryCells(absl::StrCat(
          "SELECT q.position, stream, \"offset\", code, column_name, path, value, message, "
          "p.applied_position FROM ",
          name, ".main.__progress p LEFT JOIN ", name,
          ".main.__quarantine q ON q.position = ", position)));
  if (rows.empty()) return absl::InternalError("its state has no position");
  const CellRow& row = rows.front();
  // It may have been passed on over records of other streams since.
  standing.applied_position = std::max(standing.applied_position, IntAt(row, 8));
  if (std::holds_alternative<int64_t>(row[0])) standing.quarantined = QuarantinedOf(row);
  for (const QuarantinedRecord& record : served.overflow()) {
    if (record.position == position) standing.quarantined = record;
  }
  return absl::OkStatus();
}

std::vector<QuarantineGroup> GroupRecords(const std::vector<QuarantinedRecord>& records) {
  std::map<std::tuple<std::string, std::string, std::string>, QuarantineGroup> groups;
  for (const QuarantinedRecord& record : records) {
    QuarantineGroup& group = groups[{record.code, record.column, record.path}];
    if (group.count++ == 0) {
      group = {record.code, record.column,   record.path,     record.value,
               1,           record.position, record.position, 0};
    }
    group.last_position = record.position;
    if (!record.acknowledged) ++group.unacknowledged;
  }
  std::vector<QuarantineGroup> sorted;
  for (auto& [key, group] : groups) sorted.push_back(std::move(group));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  return sorted;
}

QuarantinePage MakePage(const std::vector<QuarantinedRecord>& records, int64_t after,
                        int64_t page_size) {
  QuarantinePage page;
  page.total = static_cast<int64_t>(records.size());
  if (after <= 0) page.groups = GroupRecords(records);
  const auto size =
      static_cast<size_t>(page_size <= 0 ? kPageSizeDefault : std::min(page_size, kPageSizeMax));
  for (const QuarantinedRecord& record : records) {
    if (after > 0 && record.position <= after) continue;
    page.more = page.records.size() == size;
    if (page.more) break;
    page.records.push_back(record);
  }
  return page;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DuckDatabase>> OpenInstance(const EngineOptions& options,
                                                           int threads) {
  ICEPIE_ASSIGN_OR_RETURN(auto instance, OpenUnlockedInstance(options, threads));
  ICEPIE_RETURN_IF_ERROR(LockSettings(*instance));
  return instance;
}

absl::Status LockSettings(DuckDatabase& instance) {
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
  return connection->Run("SET GLOBAL lock_configuration = true");
}

absl::StatusOr<std::unique_ptr<DuckDatabase>> OpenUnlockedInstance(const EngineOptions& options,
                                                                   int threads) {
  const std::string tmp = options.directory + "/tmp";
  ICEPIE_RETURN_IF_ERROR(MakeDirectories(tmp));
  MarkProcess(tmp).IgnoreError();  // a disk that has no room for it ends no start
  RemoveLeftovers(tmp);
  ICEPIE_ASSIGN_OR_RETURN(
      auto instance,
      DuckDatabase::OpenInMemory({{"threads", absl::StrCat(threads)},
                                  {"memory_limit", absl::StrCat(options.memory_bytes, "B")},
                                  {"autoinstall_known_extensions", "false"},
                                  {"autoload_known_extensions", "false"}}));
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(*instance));
  ICEPIE_RETURN_IF_ERROR(RegisterComponents(*connection, options.memory_bytes / 2));
  int64_t spill_bytes = std::max(int64_t{1} << 30, options.memory_bytes * 4);
  if (options.disk_bytes > 0) {
    spill_bytes = std::min(spill_bytes, options.disk_bytes / kSpillPartOfDisk);
  }
  // The order matters: after the last one no directory can be set any more. The spill's size is
  // only enforced when it is set after opening.
  const std::vector<std::string> settings = {
      "SET GLOBAL TimeZone = 'UTC'",
      absl::StrCat("SET GLOBAL temp_directory = ",
                   QuoteLiteral(absl::StrCat(tmp, "/spill-", ::getpid()))),
      absl::StrCat("SET GLOBAL max_temp_directory_size = '", spill_bytes, "B'"),
      // Every integer sum is a HUGEINT: adding up 400,000 of them takes one core 168 ms when they
      // are bit-packed, 2.4 ms when they are plain (measured on 1.5.6).
      "SET GLOBAL disabled_compression_methods = 'bitpacking'",
      // A checkpoint of a state in memory compresses all of it; it need not happen every few folds.
      "SET GLOBAL checkpoint_threshold = '256MB'",
      absl::StrCat("SET GLOBAL allowed_directories = [", QuoteLiteral(options.directory), "]"),
      "SET GLOBAL enable_external_access = false",
  };
  for (const std::string& setting : settings) {
    ICEPIE_RETURN_IF_ERROR(Annotate(connection->Run(setting), setting));
  }
  return instance;
}

SnapshotStore OpenStore(const EngineOptions& options) {
  return SnapshotStore(options.directory, options.snapshots,
                       {options.disk_bytes, options.write_bytes_per_second, options.write_pace});
}

absl::StatusOr<std::shared_ptr<ServedSlice>> OpenSnapshot(DuckDatabase& instance,
                                                          const SnapshotStore& store,
                                                          const SnapshotManifest& manifest) {
  return OpenSnapshot(instance, store.AbsolutePath(manifest.path), manifest);
}

absl::StatusOr<std::shared_ptr<ServedSlice>> OpenSnapshot(DuckDatabase& instance,
                                                          const std::string& file,
                                                          const SnapshotManifest& manifest) {
  static std::atomic<int64_t> counter{0};
  const std::string alias =
      absl::StrCat("s", manifest.info.number, "_", manifest.info.slice, "_", ++counter);
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
  ICEPIE_RETURN_IF_ERROR(SnapshotError(connection->Run(absl::StrCat(
      "ATTACH ", QuoteLiteral(file), " AS ", QuoteIdentifier(alias), " (READ_ONLY)"))));
  auto served = std::make_shared<ServedSlice>(manifest.info, manifest.rows_max);
  served->Publish(manifest.progress);
  served->SetSnapshot(manifest.Info());
  served->SetExpectations(manifest.expectations);
  served->SetStorage(std::make_shared<AttachedDatabase>(instance, alias));
  served->SetDatabase(served->storage());
  return served;
}

absl::StatusOr<SnapshotManifest> FindSnapshot(const SnapshotStore& store,
                                              const GenerationSpec& spec, SnapshotUse use) {
  auto newest = store.NewestGood(spec.slice, spec.number, spec.definition_hash, use);
  if (newest.ok() || spec.start_snapshot.empty()) return newest;
  if (!store.IsUsable(spec.start_snapshot, use)) return newest;
  return store.Check(spec.start_snapshot);
}

absl::StatusOr<std::shared_ptr<ServedSlice>> OpenOrNote(DuckDatabase& instance,
                                                        const SnapshotStore& store,
                                                        const SnapshotManifest& manifest) {
  auto served = OpenSnapshot(instance, store, manifest);
  if (!IsUnusableSnapshot(served.status())) return served;
  const absl::Status noted =
      store.NoteUnusable(manifest.path, SnapshotUse::kServe, served.status());
  if (!noted.ok()) SliceWarn(manifest.info.slice, "{}", noted.ToString());
  return served;
}

absl::StatusOr<std::shared_ptr<ServedSlice>> OpenNewestSnapshot(DuckDatabase& instance,
                                                                const SnapshotStore& store,
                                                                const GenerationSpec& spec) {
  std::string tried;
  while (true) {
    ICEPIE_ASSIGN_OR_RETURN(const SnapshotManifest manifest,
                            FindSnapshot(store, spec, SnapshotUse::kServe));
    auto served = OpenOrNote(instance, store, manifest);
    const absl::Status& status = served.status();
    // The same again: it could not be noted.
    const bool next = IsUnusableSnapshot(status) && !absl::IsInternal(status);
    if (!next || manifest.path == tried) return served;
    SliceWarn(spec.slice, "{}", status.ToString());
    tried = manifest.path;
  }
}

absl::StatusOr<QuarantinePage> ReadQuarantine(DuckDatabase& instance, const ServingSet& slices,
                                              const std::string& domain, const std::string& slice,
                                              int64_t after, int64_t page_size) {
  absl::string_view name = slice;
  absl::ConsumePrefix(&name, absl::StrCat(domain, "."));
  const std::shared_ptr<ServedSlice> served = slices.Find(name);
  if (served == nullptr) return NoSuchSlice(domain, std::string(name));
  std::vector<QuarantinedRecord> records;
  if (const auto database = served->storage()) {
    ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
    ICEPIE_ASSIGN_OR_RETURN(records, ReadRecords(*connection, database->alias()));
  }
  const std::vector<QuarantinedRecord> overflow = served->overflow();
  records.insert(records.end(), overflow.begin(), overflow.end());
  const PositionRanges acknowledged = served->acknowledged();
  for (QuarantinedRecord& record : records) {
    record.acknowledged = acknowledged.Contains(record.position);
  }
  return MakePage(records, after, page_size);
}

absl::Status SetAcknowledged(DuckDatabase& instance, const PositionRanges& acknowledged,
                             ServedSlice& slice) {
  slice.SetAcknowledged(acknowledged);
  const auto database = slice.storage();
  if (database == nullptr) return absl::OkStatus();
  ICEPIE_ASSIGN_OR_RETURN(const auto connection, DuckConnection::Connect(instance));
  ICEPIE_ASSIGN_OR_RETURN(const auto records, ReadRecords(*connection, database->alias()));
  slice.SetUnacknowledged(CountUnacknowledged(acknowledged, records));
  return absl::OkStatus();
}

std::vector<RecordStanding> LocateRecord(DuckDatabase& instance, const ServingSet& slices,
                                         int64_t position) {
  std::vector<RecordStanding> standings;
  for (const auto& [name, served] : slices.All()) {
    RecordStanding standing{name, served->info().number, served->applied_position(), std::nullopt,
                            ""};
    const absl::Status status = ReadStanding(instance, *served, position, standing);
    if (!status.ok()) standing.unknown = std::string(status.message());
    standings.push_back(std::move(standing));
  }
  return standings;
}

absl::Duration QueryTimeout(const EngineOptions& options, const DomainDef& definition) {
  const absl::Duration own = definition.limits.query_timeout;
  return own > absl::ZeroDuration() ? own : options.query_timeout;
}

absl::Duration QueryTimeout(const EngineOptions& options, const Assignment& assignment) {
  std::set<absl::string_view> files;
  for (const GenerationSpec& spec : assignment.generations) {
    if (spec.serving) files.insert(spec.file);
  }
  absl::Duration longest = absl::ZeroDuration();
  for (const absl::string_view file : files) {
    const auto definition = ParseDomain(file, options.domain + ".yaml");
    if (definition.ok()) longest = std::max(longest, definition->limits.query_timeout);
  }
  return longest > absl::ZeroDuration() ? longest : options.query_timeout;
}

absl::Status NoSuchSlice(const std::string& domain, const std::string& slice) {
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("domain ", domain, " has no slice ", slice), "SLICE_NOT_FOUND");
}

absl::Status NoSnapshotYet(const ServedSlice& slice) {
  const int percent = slice.BackfillPercent();
  if (slice.stopped()) {
    const SliceReport report = slice.Report();
    const std::string why =
        report.last_error ? absl::StrCat(" (", report.last_error->reason, ")") : "";
    return MakeError(
        absl::StatusCode::kUnavailable,
        absl::StrCat("slice ", slice.info().slice, " is ", StateName(report.state), why,
                     " and has no state to answer from; icepie slice describe "
                     "says more"),
        "NO_SNAPSHOT_YET", {{"slice", slice.info().slice}, {"percent", absl::StrCat(percent)}});
  }
  ErrorDetail detail;
  detail.reason = "NO_SNAPSHOT_YET";
  detail.metadata = {{"slice", slice.info().slice}, {"percent", absl::StrCat(percent)}};
  detail.retry_after_ms = 1000;
  return MakeError(absl::StatusCode::kUnavailable,
                   absl::StrCat("slice ", slice.info().slice,
                                " has no complete state yet: ", percent, " % of the records read"),
                   detail);
}

QueryOptions MakeQueryOptions(const EngineOptions& options, PastSnapshots* past) {
  QueryOptions query;
  if (past != nullptr) {
    query.state_at = [past](const GenerationInfo& serving, const AsOf& as_of, absl::Time deadline) {
      return past->Find(serving, as_of, deadline);
    };
  }
  query.domain = options.domain;
  query.timeout = options.query_timeout;
  query.heartbeat_interval = options.heartbeat_timeout / 10;
  query.on_stuck = [fatal = options.on_fatal](const std::string& what) {
    fatal(absl::StrCat("a ", what, " does not listen to its interrupt"));
  };
  query.on_broken = [fatal = options.on_fatal](const absl::Status& status) {
    fatal(absl::StrCat("DuckDB is broken: ", status.ToString()));
  };
  return query;
}

}  // namespace icepie::slices
