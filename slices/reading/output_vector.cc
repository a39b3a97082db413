#include "slices/reading/output_vector.h"

#include <vector>

namespace icepie::slices {
namespace {

duckdb_logical_type ListType(const ColumnDef& column) {
  duckdb_logical_type element = LogicalType(column.children.front());
  duckdb_logical_type list = duckdb_create_list_type(element);
  duckdb_destroy_logical_type(&element);
  return list;
}

duckdb_logical_type StructType(const ColumnDef& column) {
  std::vector<duckdb_logical_type> types;
  std::vector<const char*> names;
  for (const ColumnDef& field : column.children) {
    types.push_back(LogicalType(field));
    names.push_back(field.name.c_str());
  }
  duckdb_logical_type all = duckdb_create_struct_type(types.data(), names.data(), types.size());
  for (duckdb_logical_type& type : types) duckdb_destroy_logical_type(&type);
  return all;
}

duckdb_type ScalarType(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::kBoolean:
      return DUCKDB_TYPE_BOOLEAN;
    case ColumnKind::kTinyInt:
      return DUCKDB_TYPE_TINYINT;
    case ColumnKind::kSmallInt:
      return DUCKDB_TYPE_SMALLINT;
    case ColumnKind::kInteger:
      return DUCKDB_TYPE_INTEGER;
    case ColumnKind::kBigInt:
      return DUCKDB_TYPE_BIGINT;
    case ColumnKind::kUTinyInt:
      return DUCKDB_TYPE_UTINYINT;
    case ColumnKind::kUSmallInt:
      return DUCKDB_TYPE_USMALLINT;
    case ColumnKind::kUInteger:
      return DUCKDB_TYPE_UINTEGER;
    case ColumnKind::kUBigInt:
      return DUCKDB_TYPE_UBIGINT;
    case ColumnKind::kHugeInt:
      return DUCKDB_TYPE_HUGEINT;
    case ColumnKind::kUHugeInt:
      return DUCKDB_TYPE_UHUGEINT;
    case ColumnKind::kFloat:
      return DUCKDB_TYPE_FLOAT;
    case ColumnKind::kDouble:
      return DUCKDB_TYPE_DOUBLE;
    case ColumnKind::kDate:
      return DUCKDB_TYPE_DATE;
    case ColumnKind::kTime:
      return DUCKDB_TYPE_TIME;
    case ColumnKind::kTimestamp:
      return DUCKDB_TYPE_TIMESTAMP;
    case ColumnKind::kTimestampTz:
      return DUCKDB_TYPE_TIMESTAMP_TZ;
    case ColumnKind::kUuid:
      return DUCKDB_TYPE_UUID;
    case ColumnKind::kBlob:
      return DUCKDB_TYPE_BLOB;
    default:
      return DUCKDB_TYPE_VARCHAR;
  }
}

}  // namespace

duckdb_logical_type LogicalType(const ColumnDef& column) {
  switch (column.kind) {
    case ColumnKind::kDecimal:
      return duckdb_create_decimal_type(static_cast<uint8_t>(column.decimal_width),
                                        static_cast<uint8_t>(column.decimal_scale));
    case ColumnKind::kList:
      return ListType(column);
    case ColumnKind::kStruct:
      return StructType(column);
    default:
      return duckdb_create_logical_type(ScalarType(column.kind));
  }
}

// Stored with the first bit turned over, so that UUIDs sort as numbers.
void OutputVector::SetUuid(idx_t row, absl::int128 bits) {
  const auto high = static_cast<uint64_t>(absl::Int128High64(bits)) ^ (uint64_t{1} << 63);
  Set(row, duckdb_hugeint{absl::Int128Low64(bits), static_cast<int64_t>(high)});
}

void OutputVector::SetRare(idx_t row, const ColumnDef& column, const Reading& reading) {
  switch (column.kind) {
    case ColumnKind::kUTinyInt:
      return Set(row, static_cast<uint8_t>(reading.integer));
    case ColumnKind::kUSmallInt:
      return Set(row, static_cast<uint16_t>(reading.integer));
    case ColumnKind::kUInteger:
      return Set(row, static_cast<uint32_t>(reading.integer));
    case ColumnKind::kUBigInt:
      return Set(row, absl::Int128Low64(reading.decimal));
    case ColumnKind::kHugeInt:
    case ColumnKind::kUHugeInt:  // the same bits
      return SetHuge(row, reading.decimal);
    case ColumnKind::kFloat:
      return Set(row, static_cast<float>(reading.real));
    case ColumnKind::kTime:
      return Set(row, reading.integer);
    case ColumnKind::kUuid:
      return SetUuid(row, reading.decimal);
    case ColumnKind::kBlob:
      return SetText(row, reading.text);
    default: {
      const Reading* next = reading.parts;
      return SetPart(row, column, reading, next);
    }
  }
}

idx_t OutputVector::ListBegin(idx_t row) const {
  if (row == 0) return 0;
  const auto& before = static_cast<const duckdb_list_entry*>(data_)[row - 1];
  return before.offset + before.length;
}

// The parts of a NULL are NULL too, and its list is empty: what comes after builds on that.
void OutputVector::SetNestedNull(idx_t row, const ColumnDef& column) {
  SetNull(row);
  if (column.kind == ColumnKind::kList) {
    static_cast<duckdb_list_entry*>(data_)[row] = {ListBegin(row), 0};
  } else if (column.kind == ColumnKind::kStruct) {
    for (size_t i = 0; i < column.children.size(); ++i) {
      OutputVector(duckdb_struct_vector_get_child(vector_, i))
          .SetNestedNull(row, column.children[i]);
    }
  }
}

void OutputVector::SetPart(idx_t row, const ColumnDef& column, const Reading& part,
                           const Reading*& next) {
  if (part.is_null) return SetNestedNull(row, column);
  if (column.kind == ColumnKind::kList) {
    return SetList(row, column.children.front(), static_cast<idx_t>(part.integer), next);
  }
  if (column.kind != ColumnKind::kStruct) return SetReading(row, column, part);
  SetValid(row);
  for (size_t i = 0; i < column.children.size(); ++i) {
    const Reading& field = *next++;
    OutputVector(duckdb_struct_vector_get_child(vector_, i))
        .SetPart(row, column.children[i], field, next);
  }
}

void OutputVector::SetList(idx_t row, const ColumnDef& element, idx_t count, const Reading*& next) {
  const idx_t begin = ListBegin(row);
  duckdb_list_vector_reserve(vector_, begin + count);
  duckdb_list_vector_set_size(vector_, begin + count);
  Set(row, duckdb_list_entry{begin, count});
  OutputVector elements(duckdb_list_vector_get_child(vector_));  // reserving has moved it
  for (idx_t i = 0; i < count; ++i) {
    const Reading& part = *next++;
    elements.SetPart(begin + i, element, part, next);
  }
}

}  // namespace icepie::slices
