#include "core/commit_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status.h"

namespace icepie {
namespace {

absl::Status ConditionFailed(const StreamCondition& failed,
                             const std::vector<StreamCondition>& actual) {
  std::map<std::string, std::string> metadata;
  int64_t end_offset = 0;
  for (const StreamCondition& condition : actual) {
    metadata[condition.stream->name] = absl::StrCat(condition.end_offset);
    if (condition.stream == failed.stream) end_offset = condition.end_offset;
  }
  return MakeError(absl::StatusCode::kAborted,
                   absl::StrCat("stream ", failed.stream->name, " ends at offset ", end_offset,
                                ", not at ", failed.end_offset,
                                " as the batch requires; nothing was stored, read the new records "
                                "and send the batch again"),
                   "APPEND_CONDITION_FAILED", std::move(metadata));
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

absl::Status CommitGroup::Check(const PreparedAppend& append) {
  if (append.chain && append.chain->failed.load()) return ChainBroken();
  const StreamCondition* failed = nullptr;
  std::vector<StreamCondition> actual;
  for (const StreamCondition& condition : append.conditions) {
    actual.push_back({condition.stream, EndOffset(condition.stream)});
    if (failed == nullptr && actual.back().end_offset != condition.end_offset) failed = &condition;
  }
  return failed == nullptr ? absl::OkStatus() : ConditionFailed(*failed, actual);
}

void CommitGroup::Refuse(PreparedAppend append, const absl::Status& why) {
  if (append.chain) append.chain->failed.store(true);
  Planned& planned = planned_.emplace_back();
  planned.append = std::move(append);
  planned.refused = why;
}

void CommitGroup::Add(PreparedAppend append) {
  if (const absl::Status refused = Check(append); !refused.ok()) {
    return Refuse(std::move(append), refused);
  }
  Planned& planned = planned_.emplace_back();
  planned.append = std::move(append);
  planned.result.first_position = head_;
  planned.result.ingest_time_us = ingest_time_us_;
  for (const AppendRun& run : planned.append.runs) {
    int64_t& end_offset = EndOffset(run.stream);
    const BlockPlace place{head_, run.stream->id, end_offset, run.record_count};
    ExtendRange(planned.result, place, run.stream->name);
    Place(run, place);
    Grow(run, place);
    head_ += run.record_count;
    end_offset += run.record_count;
  }
  planned.result.end_position = head_;
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
    } else if (!commit.ok()) {
      planned.append.done(commit);
    } else {
      planned.append.done(std::move(planned.result));
    }
  }
}

}  // namespace icepie
