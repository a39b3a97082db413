#include "slices/reading/record_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::slices {
namespace {

void SetKey(OutputVector& output, idx_t row, const std::optional<absl::string_view>& key) {
  if (!key) {
    output.SetNull(row);
  } else if (simdjson::validate_utf8(key->data(), key->size())) {
    output.SetText(row, *key);
  } else {
    output.SetText(row, Utf8Text(*key));
  }
}

void SetHidden(OutputVector& output, idx_t row, int column, const RecordView& record,
               absl::string_view payload) {
  switch (column) {
    case kPosition:
      return output.Set(row, record.position);
    case kOffset:
      return output.Set(row, record.offset);
    case kTime:
      return output.Set(row, record.ingest_time_us);
    case kEventTime:
      if (!record.event_time_us) return output.SetNull(row);
      return output.Set(row, *record.event_time_us);
    case kKey:
      return SetKey(output, row, record.key);
    default:
      return output.SetText(row, payload);
  }
}

std::string ShownPayload(const RecordView& record) {
  return ShortenedValue(Utf8Text(ShortenedValue(record.payload)));
}

BadRecord MakeBad(const RecordView& record, const ReadFault& fault, const std::string& column,
                  std::string path, std::string value) {
  return {record.position,
          record.offset,
          fault.code,
          column,
          std::move(path),
          std::move(value),
          column.empty() ? fault.message : absl::StrCat("column ", column, ": ", fault.message)};
}

}  // namespace

duckdb_type HiddenType(int column) {
  if (column == kPosition || column == kOffset) return DUCKDB_TYPE_BIGINT;
  return column == kTime || column == kEventTime ? DUCKDB_TYPE_TIMESTAMP_TZ : DUCKDB_TYPE_VARCHAR;
}

RecordReader::RecordReader(const SourceReading& source)
    : payload_(source.stream, scanner_),
      where_(source.where, scanner_),
      notes_taken_(source.notes_taken) {
  readers_.reserve(source.columns.size());
  for (const ColumnDef& column : source.columns) readers_.emplace_back(column, scanner_);
}

absl::Status RecordReader::Check() {
  for (ColumnReader& reader : readers_) ICEPIE_RETURN_IF_ERROR(reader.CheckDefault());
  return where_.Check();
}

bool RecordReader::Read(const RecordView& record, const std::vector<int64_t>& excluded,
                        std::vector<OutputVector>& outputs, idx_t row) {
  const bool taken = Take(record, excluded, outputs, row);
  if (notes_taken_) counts_.taken.push_back(taken);
  return taken;
}

bool RecordReader::Take(const RecordView& record, const std::vector<int64_t>& excluded,
                        std::vector<OutputVector>& outputs, idx_t row) {
  ++counts_.input;
  counts_.ingest_time_max_us = std::max(counts_.ingest_time_max_us, record.ingest_time_us);
  if (!excluded.empty() && IsExcluded(record, excluded)) return false;
  if (!IsReadable(record)) return false;
  for (size_t i = 0; i < readers_.size(); ++i) {
    if (!readers_[i].Read(scanner_, reading_, fault_)) {
      AddBad(FaultOf(record, readers_[i]));
      return false;
    }
    if (outputs[i].wanted()) outputs[i].SetReading(row, readers_[i].column(), reading_);
  }
  CountRow(record, outputs, row);
  return true;
}

bool RecordReader::ReadForAll(const RecordView& record, std::vector<OutputVector>& outputs,
                              idx_t row, int64_t row_number, std::vector<ColumnFault>& faults) {
  const int64_t number = counts_.input++;
  counts_.ingest_time_max_us = std::max(counts_.ingest_time_max_us, record.ingest_time_us);
  const bool taken = IsReadable(record);
  counts_.taken.push_back(taken);
  if (!taken) return false;
  for (size_t i = 0; i < readers_.size(); ++i) {
    if (!readers_[i].Read(scanner_, reading_, fault_)) {
      faults.push_back({number, row_number, i, FaultOf(record, readers_[i])});
      reading_ = Reading();
      reading_.is_null = true;
    }
    if (outputs[i].wanted()) outputs[i].SetReading(row, readers_[i].column(), reading_);
  }
  CountRow(record, outputs, row);
  return true;
}

bool RecordReader::IsReadable(const RecordView& record) {
  if (payload_.Scan(record.payload)) return IsWanted(record);
  AddBad(MakeBad(record, {payload_.code(), payload_.error()}, "", "$", ShownPayload(record)));
  return false;
}

void RecordReader::CountRow(const RecordView& record, std::vector<OutputVector>& outputs,
                            idx_t row) {
  for (int i = 0; i < kHiddenCount; ++i) {
    OutputVector& output = outputs[readers_.size() + i];
    if (output.wanted()) SetHidden(output, row, i, record, payload_.text());
  }
  ++counts_.rows;
  if (record.event_time_us) {
    counts_.event_time_max_us = std::max(counts_.event_time_max_us, *record.event_time_us);
  }
}

bool RecordReader::IsExcluded(const RecordView& record, const std::vector<int64_t>& excluded) {
  if (!std::binary_search(excluded.begin(), excluded.end(), record.position)) return false;
  AddBad(MakeBad(record, {"STATEMENT_FAILED", "the slice's statement fails on this record"}, "",
                 "$", ShownPayload(record)));
  return true;
}

bool RecordReader::IsWanted(const RecordView& record) {
  switch (where_.Judge()) {
    case WhereFilter::Verdict::kWanted:
      return true;
    case WhereFilter::Verdict::kFiltered:
      ++counts_.filtered;
      return false;
    case WhereFilter::Verdict::kAmbiguous:
      AddBad(MakeBad(record, {"DUPLICATE_KEY", "a key occurs twice in one object; send it once"},
                     "", PathText(where_.ambiguous_path()),
                     ShortenedValue(where_.ambiguous_value().text)));
      return false;
  }
  return false;
}

BadRecord RecordReader::FaultOf(const RecordView& record, const ColumnReader& reader) {
  const JsonValue& value = reader.value(scanner_);
  const bool absent = value.kind == JsonKind::kMissing;
  const std::string path = absl::StrCat(PathText(reader.column().path), fault_.path);
  std::string shown = absent ? "" : ShortenedValue(value.raw());
  if (fault_.path.empty()) {
    return MakeBad(record, fault_, reader.column().name, path, std::move(shown));
  }
  fault_.message = absl::StrCat(path, ": ", fault_.message);
  return MakeBad(record, fault_, reader.column().name, path, fault_.value);
}

void RecordReader::AddBad(BadRecord bad) {
  ++counts_.bad_count;
  if (counts_.bad_count > kBadRecordsListedMax) return;
  counts_.bad.push_back(std::move(bad));
}

}  // namespace icepie::slices
