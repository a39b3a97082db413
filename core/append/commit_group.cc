#include "core/append/commit_group.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"

namespace icepie {
namespace {

// What a condition asks for and what is there; nullopt: no such stream.
bool Holds(const AppendCondition& condition, std::optional<int64_t> end_offset) {
  switch (condition.kind) {
    case AppendCondition::Kind::kEndOffset:
      return end_offset == condition.end_offset;
    case AppendCondition::Kind::kAbsent:
      return end_offset.value_or(0) == 0;
    case AppendCondition::Kind::kPresent:
      return end_offset.value_or(0) > 0;
  }
  return false;
}

std::string Wanted(const AppendCondition& condition) {
  switch (condition.kind) {
    case AppendCondition::Kind::kEndOffset:
      return absl::StrCat("not at ", condition.end_offset, " as the batch requires");
    case AppendCondition::Kind::kAbsent:
      return "and the batch requires that it has no record";
    case AppendCondition::Kind::kPresent:
      return "and the batch requires that it has a record";
  }
  return "";
}

absl::Status ConditionFailed(const AppendCondition& failed,
                             std::map<std::string, std::string> actual) {
  const std::string end = actual[failed.stream];
  return MakeError(
      absl::StatusCode::kAborted,
      absl::StrCat("stream ", failed.stream,
                   end.empty() ? " does not exist" : absl::StrCat(" ends at offset ", end), ", ",
                   Wanted(failed),
                   "; nothing was stored, read the new records and send the batch again"),
      "APPEND_CONDITION_FAILED", std::move(actual));
}

// Records of one stream within an append are neighbours in it, whatever lies between them.
void ExtendRange(AppendResult& result, const BlockPlace& place, const std::string& stream) {
  const int64_t end_offset = place.first_offset + place.record_count;
  for (AppendedRange& range : result.streams) {
    if (range.stream == stream) {
      range.end_offset = end_offset;
      return;
    }
  }
  result.streams.push_back({stream, place.first_offset, end_offset});
}

}  // namespace

int64_t& CommitGroup::EndOffset(Stream* stream) {
  return end_offsets_.try_emplace(stream, stream->end_offset.load()).first->second;
}

absl::Status CommitGroup::CheckConditions(const PreparedAppend& append) {
  const AppendCondition* failed = nullptr;
  std::map<std::string, std::string> actual;
  for (const AppendCondition& condition : append.conditions) {
    const absl::StatusOr<Stream*> stream = append.registry->Find(condition.stream);
    const std::optional<int64_t> end =
        stream.ok() ? std::optional<int64_t>(EndOffset(*stream)) : std::nullopt;
    actual[condition.stream] = end ? absl::StrCat(*end) : "";
    if (failed == nullptr && !Holds(condition, end)) failed = &condition;
  }
  return failed == nullptr ? absl::OkStatus() : ConditionFailed(*failed, std::move(actual));
}

// What was stored before is answered whatever holds now.
absl::Status CommitGroup::Decide(Planned& planned, const absl::Status& room) {
  const PreparedAppend& append = planned.append;
  if (append.chain && append.chain->failed.load()) return ChainBroken();
  if (append.identity) {
    ICEPIE_ASSIGN_OR_RETURN(std::optional<RequestLog::Known> known,
                            requests_->Find(*append.identity, append.fingerprint));
    if (known) {
      planned.result = std::move(known->result);
      planned.committed = known->committed;
      return absl::OkStatus();
    }
  }
  ICEPIE_RETURN_IF_ERROR(append.refusal);
  ICEPIE_RETURN_IF_ERROR(room);
  return CheckConditions(append);
}

void CommitGroup::Add(PreparedAppend append, const absl::Status& room) {
  Planned& planned = planned_.emplace_back();
  planned.append = std::move(append);
  planned.refused = Decide(planned, room);
  if (!planned.refused.ok()) {
    if (planned.append.chain) planned.append.chain->failed.store(true);
    return;
  }
  if (planned.result.replayed) return;
  planned.result.ingest_time_us = ingest_time_us_;
  planned.result.first_position = head_;
  if (!planned.append.validate_only) Append(planned);
  planned.result.end_position = head_;
  if (planned.append.identity && !planned.append.validate_only) {
    requests_->Add(*planned.append.identity, planned.append.fingerprint, planned.result);
  }
}

void CommitGroup::Append(Planned& planned) {
  for (const AppendRun& run : planned.append.runs) {
    int64_t& end_offset = EndOffset(run.stream);
    const BlockPlace place{head_, run.stream->id, end_offset, run.record_count};
    ExtendRange(planned.result, place, run.stream->name);
    Place(run, place);
    Grow(run, place);
    head_ += run.record_count;
    end_offset += run.record_count;
  }
}

BlockHeader CommitGroup::HeaderOf(const BlockPlace& place) const {
  return {place.stream_id, place.first_position, place.first_offset, place.record_count,
          ingest_time_us_};
}

void CommitGroup::Place(const AppendRun& run, const BlockPlace& place) {
  if (run.body) {
    CloseBlock();
    entries_.push_back({place, SealBlock(HeaderOf(place), *run.body)});
    return;
  }
  const bool shares = !open_.records.empty() && open_.place.stream_id == place.stream_id &&
                      open_.framed_bytes + run.framed_bytes <= kBlockTargetBytes &&
                      open_.place.record_count + run.record_count <= kBlockRecordsMax;
  if (!shares) {
    CloseBlock();
    open_.place = place;
    open_.place.record_count = 0;
  }
  open_.place.record_count += run.record_count;
  open_.framed_bytes += run.framed_bytes;
  for (const NewRecord& record : run.records) open_.records.push_back(&record);
}

void CommitGroup::CloseBlock() {
  if (open_.records.empty()) return;
  entries_.push_back({open_.place, EncodeBlock(HeaderOf(open_.place), open_.records)});
  open_ = {};
}

void CommitGroup::Grow(const AppendRun& run, const BlockPlace& place) {
  if (tree_ == nullptr) return;
  ICEPIE_CHECK(run.leaves.size() == run.record_count && tree_->size() == place.first_position);
  int64_t i = 0;
  for (const PreparedLeaf& leaf : run.leaves) {
    tree_->Append(leaf.Hash(ingest_time_us_, place.first_offset + i, place.first_position + i));
    ++i;
  }
}

std::vector<LogEntry> CommitGroup::TakeEntries() {
  CloseBlock();
  return std::move(entries_);
}

void CommitGroup::Publish() {
  for (const auto& [stream, end_offset] : end_offsets_) stream->end_offset.store(end_offset);
}

void CommitGroup::Answer(const absl::Status& commit) {
  for (Planned& planned : planned_) {
    if (!planned.refused.ok()) {
      planned.append.done(planned.refused);
    } else if (!commit.ok() && !planned.committed) {
      planned.append.done(commit);
    } else {
      planned.append.done(std::move(planned.result));
    }
  }
}

}  // namespace icepie
