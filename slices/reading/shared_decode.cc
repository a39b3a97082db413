#include "slices/reading/shared_decode.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/reading/output_vector.h"

namespace icepie::slices {
namespace {

constexpr int64_t kScansWorthSharing = 2;

void AppendText(std::string& key, absl::string_view text) {
  absl::StrAppend(&key, text.size(), ":", text);
}

void AppendPath(std::string& key, const std::vector<std::string>& path) {
  absl::StrAppend(&key, path.size(), "/");
  for (const std::string& part : path) AppendText(key, part);
}

void AppendColumn(std::string& key, const ColumnDef& column) {
  AppendText(key, column.name);
  AppendText(key, column.type);
  AppendPath(key, column.path);
  for (const int part : {static_cast<int>(column.kind), column.decimal_width, column.decimal_scale,
                         static_cast<int>(column.format), static_cast<int>(column.blob_format),
                         static_cast<int>(column.rounding), static_cast<int>(column.required),
                         static_cast<int>(column.default_json.has_value()),
                         static_cast<int>(column.children.size())}) {
    absl::StrAppend(&key, part, ",");
  }
  AppendText(key, column.default_json.value_or(""));
  for (const ColumnDef& child : column.children) AppendColumn(key, child);
}

// An upper bound, roughly, of what a row takes besides its payload's bytes. A chunk has room for
// all its rows from the beginning.
constexpr int64_t kBytesOfValue = 16;

// How often the payload's bytes may be there again in what is shown of it.
int64_t PayloadCopies(const SourceReading& reading, const std::vector<bool>& shown) {
  // An element takes two bytes of JSON at the least, and sixteen in a vector.
  constexpr int64_t kOfNested = 8;
  int64_t copies = shown[reading.columns.size() + kPayload] ? 1 : 0;
  bool text = false;
  bool nested = false;
  for (size_t i = 0; i < reading.columns.size(); ++i) {
    if (!shown[i]) continue;
    const ColumnDef& column = reading.columns[i];
    nested = nested || !column.children.empty();
    // The same text may be in several columns.
    if (column.kind == ColumnKind::kJson) ++copies;
    text = text || column.kind == ColumnKind::kVarchar || column.kind == ColumnKind::kBlob;
  }
  return copies + (text ? 1 : 0) + (nested ? kOfNested : 0);
}

// Decodes the records of one supply.
class Decoding {
 public:
  Decoding(SourceReading reading, std::vector<bool> shown, int64_t bytes_max)
      : reading_(std::move(reading)),
        shown_(std::move(shown)),
        bytes_max_(bytes_max),
        reader_(reading_),
        outputs_(reader_.output_count()),
        payload_copies_(PayloadCopies(reading_, shown_)) {
    for (size_t i = 0; i < shown_.size(); ++i) {
      rows_->vectors.push_back(shown_[i] ? static_cast<int>(types_.size()) : -1);
      if (!shown_[i]) continue;
      types_.push_back(i < reading_.columns.size()
                           ? LogicalType(reading_.columns[i])
                           : duckdb_create_logical_type(
                                 HiddenType(static_cast<int>(i - reading_.columns.size()))));
    }
  }
  ~Decoding() {
    for (duckdb_logical_type& type : types_) duckdb_destroy_logical_type(&type);
  }
  Decoding(const Decoding&) = delete;
  Decoding& operator=(const Decoding&) = delete;

  // Null when it would be too much to keep.
  absl::StatusOr<std::shared_ptr<SharedRows>> Run(RecordSupply& supply) {
    while (true) {
      ICEPIE_ASSIGN_OR_RETURN(const absl::Span<const RecordView> records, supply.Next());
      if (records.empty()) break;
      for (const RecordView& record : records) {
        if (!Add(record)) return std::shared_ptr<SharedRows>();
      }
    }
    EndChunk();
    rows_->counts = std::move(reader_.counts());
    return std::move(rows_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  bool Add(const RecordView& record) {
    if (rows_->chunks.empty() || row_ == duckdb_vector_size()) BeginChunk();
    bytes_ += payload_copies_ * static_cast<int64_t>(record.payload.size());
    const int64_t number = reader_.counts().rows;
    if (reader_.ReadForAll(record, outputs_, row_, number, rows_->faults)) {
      rows_->event_times.push_back(record.event_time_us.value_or(INT64_MIN));
      ++row_;
    }
    return bytes_ <= bytes_max_ && rows_->faults.size() <= DecodeSharing::kFaultsMax;
  }
  void BeginChunk() {
    EndChunk();
    duckdb_data_chunk chunk = duckdb_create_data_chunk(types_.data(), types_.size());
    if (chunk == nullptr) throw std::bad_alloc();  // it has no other reason, and is not told
    rows_->chunks.push_back(chunk);
    bytes_ += kBytesOfValue * static_cast<int64_t>(types_.size() * duckdb_vector_size());
    for (size_t i = 0; i < shown_.size(); ++i) {
      if (!shown_[i]) continue;
      outputs_[i] =
          OutputVector(duckdb_data_chunk_get_vector(chunk, static_cast<idx_t>(rows_->vectors[i])));
    }
    row_ = 0;
  }
  void EndChunk() {
    if (!rows_->chunks.empty()) duckdb_data_chunk_set_size(rows_->chunks.back(), row_);
  }

  const SourceReading reading_;
  const std::vector<bool> shown_;
  const int64_t bytes_max_;
  RecordReader reader_;
  std::vector<OutputVector> outputs_;
  const int64_t payload_copies_;
  std::vector<duckdb_logical_type> types_;
  std::shared_ptr<SharedRows> rows_ = std::make_shared<SharedRows>();
  idx_t row_ = 0;  // of the last chunk
  int64_t bytes_ = 0;
};

}  // namespace

std::string ShareGroup(const SourceReading& reading) {
  std::string group;
  AppendText(group, reading.stream);
  for (const WhereTerm& term : reading.where) {
    AppendPath(group, term.path);
    AppendText(group, term.json);
  }
  return group;
}

std::string ColumnKey(const ColumnDef& column) {
  std::string key;
  AppendColumn(key, column);
  return key;
}

SharedRows::~SharedRows() {
  for (duckdb_data_chunk& chunk : chunks) duckdb_destroy_data_chunk(&chunk);
}

bool SharedRows::Covers(const ScanRequest& request) const {
  const std::vector<std::string>& keys = *request.column_keys;
  for (size_t i = 0; i < request.shown.size(); ++i) {
    size_t column = column_count() + i - std::min(i, keys.size());
    if (i < keys.size()) {
      const auto found = columns.find(keys[i]);
      if (found == columns.end()) return false;
      column = found->second;
    }
    if (request.shown[i] && vectors[column] < 0) return false;
  }
  return true;
}

SharedScan::SharedScan(std::shared_ptr<const SharedRows> rows, const ScanRequest& request)
    : rows_(std::move(rows)) {
  const std::vector<std::string>& keys = *request.column_keys;
  // Of a record that is bad in several columns, the scan's first one is to blame.
  constexpr size_t kNotRead = SIZE_MAX;
  std::vector<size_t> order(rows_->column_count(), kNotRead);
  for (size_t i = 0; i < keys.size(); ++i) {
    const size_t column = rows_->columns.at(keys[i]);
    order[column] = std::min(order[column], i);
    vectors_.push_back(rows_->vectors[column]);
  }
  for (size_t i = 0; i < kHiddenCount; ++i) {
    vectors_.push_back(rows_->vectors[rows_->column_count() + i]);
  }
  for (const ColumnFault& fault : rows_->faults) {
    if (order[fault.column] == kNotRead) continue;
    if (bad_.empty() || bad_.back()->row != fault.row) {
      bad_.push_back(&fault);
    } else if (order[fault.column] < order[bad_.back()->column]) {
      bad_.back() = &fault;
    }
  }
}

ScanCounts SharedScan::Counts(bool notes_taken) const {
  ScanCounts counts = rows_->counts;
  if (!notes_taken) counts.taken.clear();
  if (bad_.empty()) return counts;
  counts.rows -= static_cast<int64_t>(bad_.size());
  counts.bad_count += static_cast<int64_t>(bad_.size());
  for (const ColumnFault* fault : bad_) {
    counts.bad.push_back(fault->bad);
    if (notes_taken) counts.taken[static_cast<size_t>(fault->record)] = false;
  }
  std::sort(counts.bad.begin(), counts.bad.end(),
            [](const BadRecord& a, const BadRecord& b) { return a.position < b.position; });
  counts.event_time_max_us = INT64_MIN;
  size_t next_bad = 0;
  for (size_t row = 0; row < rows_->event_times.size(); ++row) {
    if (next_bad < bad_.size() && bad_[next_bad]->row == static_cast<int64_t>(row)) {
      ++next_bad;
    } else {
      counts.event_time_max_us = std::max(counts.event_time_max_us, rows_->event_times[row]);
    }
  }
  return counts;
}

idx_t SharedScan::Fill(duckdb_data_chunk chunk, const std::vector<int>& chunk_columns) {
  while (next_ < rows_->chunks.size()) {
    const auto begin = static_cast<int64_t>(next_ * duckdb_vector_size());
    duckdb_data_chunk from = rows_->chunks[next_++];
    const idx_t size = duckdb_data_chunk_get_size(from);
    const auto is_bad = [&](idx_t row) {
      return next_bad_ < bad_.size() && bad_[next_bad_]->row == begin + static_cast<int64_t>(row);
    };
    const bool all =
        next_bad_ == bad_.size() || bad_[next_bad_]->row >= begin + static_cast<int64_t>(size);
    if (all) {
      if (size == 0) continue;
      Show(from, chunk, chunk_columns, nullptr, size);
      return size;
    }
    duckdb_selection_vector kept = duckdb_create_selection_vector(size);
    sel_t* const rows = duckdb_selection_vector_get_data_ptr(kept);
    idx_t count = 0;
    for (idx_t row = 0; row < size; ++row) {
      if (is_bad(row)) {
        ++next_bad_;
      } else {
        rows[count++] = static_cast<sel_t>(row);
      }
    }
    if (count > 0) Show(from, chunk, chunk_columns, kept, count);
    duckdb_destroy_selection_vector(kept);
    if (count > 0) return count;
  }
  return 0;
}

void SharedScan::Show(duckdb_data_chunk from, duckdb_data_chunk to,
                      const std::vector<int>& chunk_columns, duckdb_selection_vector kept,
                      idx_t count) const {
  for (size_t i = 0; i < vectors_.size(); ++i) {
    if (chunk_columns[i] < 0) continue;
    duckdb_vector shown = duckdb_data_chunk_get_vector(to, static_cast<idx_t>(chunk_columns[i]));
    duckdb_vector_reference_vector(
        shown, duckdb_data_chunk_get_vector(from, static_cast<idx_t>(vectors_[i])));
    if (kept != nullptr) duckdb_slice_vector(shown, kept, count);
  }
}

std::shared_ptr<DecodeSharing::Batch> DecodeSharing::NextBatch(
    const std::shared_ptr<DecodeSharing>& sharing) {
  MutexLock lock(sharing->mutex_);
  const int64_t number = ++sharing->batches_;
  auto& demands = sharing->demands_;
  for (auto it = demands.begin(); it != demands.end();) {
    const bool forgotten = it->second.batch_number < number - kForgetBatches;
    it = forgotten ? demands.erase(it) : std::next(it);
  }
  return std::make_shared<Batch>(sharing, number);
}

// What the scan asks for, for the batches to come.
DecodeSharing::Demand& DecodeSharing::Note(const ScanRequest& request, int64_t batch_number) {
  Demand& demand = demands_[*request.group];
  if (demand.batch_number != batch_number) {
    demand.batch_number = batch_number;
    demand.scans_before = std::exchange(demand.scans, 0);
    ++demand.batches;
    const int64_t last = demand.batches - kForgetBatches;
    for (auto it = demand.columns.begin(); it != demand.columns.end();) {
      it = it->second.read < last ? demand.columns.erase(it) : std::next(it);
    }
  }
  if (demand.stream.empty()) {
    demand.stream = request.reading->stream;
    demand.where = request.reading->where;
  }
  const std::vector<ColumnDef>& columns = request.reading->columns;
  for (size_t i = 0; i < columns.size(); ++i) {
    Wish& wish = demand.columns[(*request.column_keys)[i]];
    if (wish.read == 0) wish.column = columns[i];
    wish.read = demand.batches;
    if (request.shown[i]) wish.shown = demand.batches;
  }
  for (size_t i = 0; i < kHiddenCount; ++i) {
    if (request.shown[columns.size() + i]) demand.hidden_shown[i] = demand.batches;
  }
  return demand;
}

DecodeSharing::Foreseen DecodeSharing::Foresee(const Demand& demand) {
  const auto wanted = [&](int64_t batch) {
    return batch > 0 && batch > demand.batches - kForgetBatches;
  };
  Foreseen foreseen{{demand.stream, {}, demand.where, true}, {}, {}};
  for (const auto& [key, wish] : demand.columns) {
    foreseen.columns[key] = foreseen.reading.columns.size();
    foreseen.reading.columns.push_back(wish.column);
    foreseen.shown.push_back(wanted(wish.shown));
  }
  for (const int64_t batch : demand.hidden_shown) foreseen.shown.push_back(wanted(batch));
  return foreseen;
}

absl::StatusOr<std::shared_ptr<SharedRows>> DecodeSharing::Decode(
    Foreseen foreseen, int64_t bytes_max, const SourceInput::OpenSupply& open, int64_t& bytes) {
  ICEPIE_ASSIGN_OR_RETURN(const auto supply, open());
  Decoding decoding(std::move(foreseen.reading), std::move(foreseen.shown), bytes_max);
  ICEPIE_ASSIGN_OR_RETURN(std::shared_ptr<SharedRows> rows, decoding.Run(*supply));
  if (rows == nullptr) return rows;
  rows->columns = std::move(foreseen.columns);
  bytes = decoding.bytes();
  return rows;
}

DecodeSharing::Batch::Batch(std::shared_ptr<DecodeSharing> sharing, int64_t number)
    : sharing_(std::move(sharing)), number_(number) {}

// After one that was too much to keep.
void DecodeSharing::TryLater(const std::string& group) {
  const auto demand = demands_.find(group);
  if (demand != demands_.end()) demand->second.try_again = demand->second.batches + kForgetBatches;
}

// Of who decodes an entry, outside of the lock; others go on when it ends, however it does.
class DecodeSharing::Batch::Turn {
 public:
  Turn(DecodeSharing& sharing, Entry& entry) : sharing_(sharing), entry_(entry) {}
  ~Turn() {
    const MutexLock lock(sharing_.mutex_);
    entry_.under_way = false;
    sharing_.decoded_.SignalAll();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  DecodeSharing& sharing_;
  Entry& entry_;
};

void DecodeSharing::Batch::Keep(const std::string& group, Entry& entry,
                                std::shared_ptr<const SharedRows> rows, int64_t bytes) {
  const MutexLock lock(sharing_->mutex_);
  if (rows == nullptr) sharing_->TryLater(group);
  entry.rows = std::move(rows);
  bytes_ += bytes;
}

absl::StatusOr<std::shared_ptr<const SharedRows>> DecodeSharing::Batch::Find(
    const ScanRequest& request, int64_t from, int64_t to, const SourceInput::OpenSupply& open) {
  const auto covering = [&](const Entry& entry) {
    return entry.rows != nullptr && entry.rows->Covers(request) ? entry.rows : nullptr;
  };
  Entry* entry = nullptr;
  Foreseen foreseen;
  int64_t bytes_left = 0;
  {
    const MutexLock lock(sharing_->mutex_);
    Demand& demand = sharing_->Note(request, number_);
    entry = &entries_[{*request.group, from, to}];  // it stays where it is
    demand.scans = std::max(demand.scans, ++entry->scans);
    const bool worth =
        demand.scans_before >= kScansWorthSharing && demand.batches >= demand.try_again;
    if (!entry->tried && worth) {
      foreseen = Foresee(demand);
      bytes_left = sharing_->bytes_max_ - bytes_;
      entry->tried = entry->under_way = true;
    } else {
      while (entry->under_way) sharing_->decoded_.Wait(sharing_->mutex_);
      return covering(*entry);
    }
  }
  const Turn turn(*sharing_, *entry);
  int64_t bytes = 0;
  ICEPIE_ASSIGN_OR_RETURN(std::shared_ptr<const SharedRows> rows,
                          Decode(std::move(foreseen), bytes_left, open, bytes));
  Keep(*request.group, *entry, rows, bytes);
  return rows != nullptr && rows->Covers(request) ? rows : nullptr;
}

void DecodeSharing::Batch::Prepare(
    int64_t from, int64_t to,
    const std::function<SourceInput::OpenSupply(const std::string& stream)>& open) {
  std::map<std::string, Foreseen> wanted;  // by their groups
  int64_t bytes_left = 0;
  {
    MutexLock lock(sharing_->mutex_);
    bytes_left = sharing_->bytes_max_ - bytes_;
    for (const auto& [group, demand] : sharing_->demands_) {
      if (demand.batches >= demand.try_again) wanted[group] = Foresee(demand);
    }
  }
  for (auto& [group, foreseen] : wanted) {
    const SourceInput::OpenSupply supply = open(foreseen.reading.stream);
    std::shared_ptr<SharedRows> rows;
    int64_t bytes = 0;
    try {
      auto decoded = Decode(std::move(foreseen), bytes_left, supply, bytes);
      if (!decoded.ok()) continue;
      rows = *std::move(decoded);
    } catch (const std::exception&) {
      // Out of memory: the scan may be luckier, and says so if not.
    }
    bytes_left -= bytes;
    MutexLock lock(sharing_->mutex_);
    if (rows == nullptr) sharing_->TryLater(group);
    Entry& entry = entries_[{group, from, to}];
    if (rows == nullptr || entry.tried) continue;
    entry.tried = true;
    entry.rows = std::move(rows);
    bytes_ += bytes;
  }
}

}  // namespace icepie::slices
