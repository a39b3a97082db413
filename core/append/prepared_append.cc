#include "core/append/prepared_append.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/append/request_log.h"
#include "core/base/field_errors.h"
#include "core/base/status.h"

namespace icepie {
namespace {

// Smaller runs are worth sharing a block with other appends' records.
constexpr int64_t kEncodeAloneBytes = int64_t{64} << 10;

bool Fits(const AppendRun& run, const Stream* stream, int64_t framed_bytes) {
  return run.stream == stream && run.record_count < kBlockRecordsMax &&
         run.framed_bytes + framed_bytes <= kBlockTargetBytes;
}

std::vector<AppendRun> CutIntoRuns(std::vector<NewRecord> records,
                                   const std::vector<Stream*>& streams) {
  std::vector<AppendRun> runs;
  for (size_t i = 0; i < records.size(); ++i) {
    const int64_t framed_bytes = FramedBytesMax(records[i]);
    if (runs.empty() || !Fits(runs.back(), streams[i], framed_bytes)) {
      runs.emplace_back().stream = streams[i];
    }
    AppendRun& run = runs.back();
    ++run.record_count;
    run.framed_bytes += framed_bytes;
    run.records.push_back(std::move(records[i]));
  }
  return runs;
}

void PrepareLeaves(AppendRun& run) {
  run.leaves.reserve(run.records.size());
  for (const NewRecord& record : run.records) {
    run.leaves.emplace_back(run.stream->id, run.stream->name_digest, record,
                            record.headers.empty() ? "" : EncodeHeaders(record.headers));
  }
}

void EncodeWhenLarge(AppendRun& run) {
  if (run.framed_bytes < kEncodeAloneBytes) return;
  std::vector<const NewRecord*> pointers;
  pointers.reserve(run.records.size());
  for (const NewRecord& record : run.records) pointers.push_back(&record);
  run.body = EncodeBlockBody(pointers);
  run.records = {};
}

int64_t MemoryBytes(const AppendRun& run) {
  constexpr auto kRecordBytes = static_cast<int64_t>(sizeof(NewRecord));
  const auto fixed =
      static_cast<int64_t>(sizeof(AppendRun) + run.leaves.size() * sizeof(PreparedLeaf));
  if (run.body) return fixed + static_cast<int64_t>(run.body->stored.size());
  return fixed + run.framed_bytes + kRecordBytes * run.record_count;
}

// The answer to a failed condition names every stream's end, and must fit a status.
constexpr size_t kConditionsMax = 32;

absl::Status CheckConditions(const std::vector<AppendCondition>& conditions,
                             const StreamRegistry& registry) {
  if (conditions.size() > kConditionsMax) {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("the batch has ", conditions.size(), " conditions, ",
                                  kConditionsMax, " are allowed"),
                     "BATCH_TOO_LARGE", {{"limit", absl::StrCat(kConditionsMax)}});
  }
  FieldErrors errors;
  for (size_t i = 0; i < conditions.size(); ++i) {
    if (conditions[i].kind != AppendCondition::Kind::kEndOffset) continue;
    const absl::Status found = registry.Find(conditions[i].stream).status();
    if (!found.ok()) errors.Add(WithField(found, absl::StrCat("conditions[", i, "].stream")));
  }
  return errors.ToStatus();
}

absl::Status FillFromPayloads(std::vector<NewRecord>& records,
                              const std::vector<Stream*>& streams) {
  std::shared_ptr<const PayloadPaths> paths;
  FieldErrors errors;
  for (size_t i = 0; i < records.size() && !errors.full(); ++i) {
    if (i == 0 || streams[i] != streams[i - 1]) paths = streams[i]->paths();
    if (paths) errors.Add(FillFromPayload(*paths, i, records[i]));
  }
  return errors.ToStatus();
}

bool IsInternal(const Stream* stream) { return stream->name.front() == '_'; }

}  // namespace

absl::Status ChainBroken() {
  return MakeError(absl::StatusCode::kAborted,
                   "a batch before this one failed; nothing of this one was stored",
                   "APPEND_CHAIN_BROKEN");
}

absl::StatusOr<PreparedAppend> PrepareAppend(AppendBatch batch, const std::vector<Stream*>& streams,
                                             const StreamRegistry& registry, bool with_leaves) {
  ICEPIE_RETURN_IF_ERROR(CheckConditions(batch.conditions, registry));
  PreparedAppend append;
  if (batch.identity) {
    ICEPIE_RETURN_IF_ERROR(CheckIdentity(*batch.identity));
    append.fingerprint = FingerprintOf(batch);
    append.identity = std::move(batch.identity);
  }
  append.refusal = FillFromPayloads(batch.records, streams);
  // The stream may have got other paths since the batch was stored, if it was.
  if (!append.identity) ICEPIE_RETURN_IF_ERROR(append.refusal);
  append.conditions = std::move(batch.conditions);
  append.registry = &registry;
  append.validate_only = batch.validate_only;
  append.chain = std::move(batch.chain);
  append.peer = batch.peer;
  append.internal = std::all_of(streams.begin(), streams.end(), IsInternal);
  append.runs = CutIntoRuns(std::move(batch.records), streams);
  append.memory_bytes = static_cast<int64_t>(sizeof(PreparedAppend));
  for (AppendRun& run : append.runs) {
    if (with_leaves) PrepareLeaves(run);
    EncodeWhenLarge(run);
    append.memory_bytes += MemoryBytes(run);
  }
  return append;
}

}  // namespace icepie
