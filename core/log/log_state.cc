#include "core/log/log_state.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/append/catalog_changes.h"
#include "core/base/status.h"
#include "core/block/block.h"

namespace icepie {
namespace {

// The hot part must begin where the sealed one ends.
absl::Status CheckJoin(const LogStore& store, int64_t sealed_position) {
  std::optional<int64_t> first;
  ICEPIE_RETURN_IF_ERROR(store.VisitPlaces(0, INT64_MAX, [&first](const BlockPlace& place) {
    first = place.first_position;
    return false;
  }));
  if (!first || *first == sealed_position) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("segments end at position ", sealed_position,
                                          " but the log begins at ", *first));
}

void AddSealedEnds(LogState& state) {
  for (const auto& segment : state.segments->List()) {
    for (const auto& [id, end_offset] : segment->stream_ends) {
      state.streams->Extend(id, end_offset);
    }
    state.last_ingest_time_us = segment->last_ingest_time_us;
  }
  state.head = state.segments->sealed_position();
}

// The index knows where a stream ends whose last block is damaged, and a block where the log ends
// whose last index entry is.
LogState SalvageState(const LogStore& store, const std::string& segments, int64_t acknowledged) {
  LogState state;
  int64_t hot_position = INT64_MAX;
  int64_t hot_end = 0;
  std::map<uint32_t, int64_t> ends;
  store.SalvagePlaces([&](const BlockPlace& place) {
    hot_position = std::min(hot_position, place.first_position);
    hot_end = std::max(hot_end, place.end_position());
    int64_t& end = ends[place.stream_id];
    end = std::max(end, place.first_offset + place.record_count);
  });
  if (hot_position == INT64_MAX) hot_position = acknowledged;  // as far as is known
  state.segments = SegmentSet::Salvage(store, segments, hot_position);
  state.streams = StreamRegistry::Salvage(store);
  for (const auto& [id, name] : state.segments->StreamNames()) state.streams->AddNamed(id, name);
  AddSealedEnds(state);
  for (const auto& [id, end] : ends) state.streams->Extend(id, end);
  for (const Stream* stream : state.streams->All()) {
    const absl::Status ignored =
        store.VisitStreamBackwards(stream->id, [&](const BlockPlace& last) {
          hot_end = std::max(hot_end, last.end_position());
          state.streams->Extend(stream->id, last.first_offset + last.record_count);
          return false;
        });
  }
  state.head = std::max(state.head, hot_end);
  return state;
}

}  // namespace

absl::Status CheckIndex(const LogStore& store) {
  std::optional<int64_t> next;
  std::optional<int64_t> found;
  ICEPIE_RETURN_IF_ERROR(store.VisitPlaces(0, INT64_MAX, [&](const BlockPlace& place) {
    if (next && place.first_position != *next) {
      found = place.first_position;
      return false;
    }
    next = place.end_position();
    return true;
  }));
  if (!found) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("behind position ", *next, " the index goes on at ", *found));
}

absl::StatusOr<LogState> ReadLogState(const LogStore& store, const std::string& segments) {
  LogState state;
  ICEPIE_ASSIGN_OR_RETURN(state.segments, SegmentSet::Load(store, segments));
  ICEPIE_ASSIGN_OR_RETURN(state.streams, StreamRegistry::Load(store));
  ICEPIE_ASSIGN_OR_RETURN(state.catalog_changes, CountCatalogChanges(store));
  AddSealedEnds(state);
  ICEPIE_RETURN_IF_ERROR(CheckJoin(store, state.head));
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<BlockPlace> last, store.LastPlace());
  if (last) {
    state.head = last->end_position();
    ICEPIE_ASSIGN_OR_RETURN(const std::string block, store.ReadBlock(*last));
    ICEPIE_ASSIGN_OR_RETURN(const BlockHeader header, ReadBlockHeader(block));
    state.last_ingest_time_us = header.last_ingest_time_us;
  }
  if (const int64_t total = state.streams->TotalRecords(); total != state.head) {
    return absl::DataLossError(
        absl::StrCat("the streams have ", total, " records together, the index has ", state.head));
  }
  return state;
}

SalvagedLog SalvageLog(const std::string& log, const std::string& segments, int64_t acknowledged,
                       rocksdb::Env* env) {
  SalvagedLog salvaged;
  absl::StatusOr<std::unique_ptr<LogStore>> store =
      LogStore::Open({log, LogStore::Mode::kSalvage, env});
  if (store.ok()) {
    absl::StatusOr<LogState> state = ReadLogState(**store, segments);
    salvaged.is_consistent = state.ok() && CheckIndex(**store).ok();
    if (state.ok()) salvaged.state = *std::move(state);
  } else {
    store = LogStore::Open({log, LogStore::Mode::kSalvageTables, env});
  }
  if (store.ok() && !salvaged.is_consistent)
    salvaged.state = SalvageState(**store, segments, acknowledged);
  if (store.ok()) {
    salvaged.store = *std::move(store);
  } else {
    salvaged.state.segments = std::make_unique<SegmentSet>(segments);
    salvaged.state.streams = std::make_unique<StreamRegistry>();
  }
  return salvaged;
}

}  // namespace icepie
