#include "tests/fault/reference.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::fault {
namespace {

using Json = nlohmann::json;

constexpr size_t kRowsOfInsert = 500;

std::string IntegerOf(const Json& record, const char* member) {
  const auto found = record.find(member);
  return found != record.end() && found->is_number_integer() ? found->dump() : "NULL";
}

std::string TextOf(const Json& record, const char* member) {
  const auto found = record.find(member);
  return found != record.end() && found->is_string()
             ? slices::QuoteLiteral(found->get<std::string>())
             : "NULL";
}

bool IsIntegerOrAbsent(const Json& record, const char* member) {
  return record.find(member) == record.end() || record[member].is_number_integer();
}

bool IsNumberText(const Json& record, const char* member) {
  int32_t value = 0;
  return record.find(member) == record.end() ||
         (record[member].is_string() &&
          absl::SimpleAtoi(record[member].get<std::string>(), &value));
}

std::string RowOf(const StoredRecord& stored) {
  const Json parsed = Json::parse(stored.payload, nullptr, false);
  const bool well_formed = parsed.is_object();
  const Json record = well_formed ? parsed : Json::object();
  const auto flag = [&](bool good) { return well_formed && good ? "true" : "false"; };
  return absl::StrCat("(", stored.position, ",", slices::QuoteLiteral(stored.stream), ",",
                      flag(true), ",", flag(IsIntegerOrAbsent(record, "amount")), ",",
                      flag(IsNumberText(record, "tag")), ",", IntegerOf(record, "client"), ",",
                      IntegerOf(record, "n"), ",", IntegerOf(record, "account"), ",",
                      IntegerOf(record, "amount"), ",", IntegerOf(record, "size"), ",",
                      TextOf(record, "tag"), ",", TextOf(record, "page"), ")");
}

std::string Below(const ReadStream& stream, int64_t position, bool readable) {
  return absl::StrCat("SELECT * FROM records WHERE stream = ", slices::QuoteLiteral(stream.name),
                      " AND _position < ", position, " AND ", readable ? "" : "NOT ", "(",
                      stream.readable, ")");
}

// The slice's rows at `position` as a subquery.
std::string Relation(const SliceSpec& slice, int64_t position) {
  std::vector<std::string> parts;
  for (const ReadStream& stream : slice.streams) {
    parts.push_back(absl::StrCat(stream.name, " AS (", Below(stream, position, true), ")"));
  }
  if (!slice.upstream.empty()) {
    const SliceSpec& upstream = FindSlice(absl::StrCat(slice.domain, ".", slice.upstream));
    parts.push_back(absl::StrCat(slice.upstream, " AS (", Relation(upstream, position), ")"));
  }
  return absl::StrCat("WITH ", absl::StrJoin(parts, ", "), " ", slice.sql);
}

}  // namespace

Reference::Reference() = default;
Reference::~Reference() = default;

absl::StatusOr<std::unique_ptr<Reference>> Reference::Open(
    const std::vector<StoredRecord>& stored) {
  std::unique_ptr<Reference> reference(new Reference);
  ICEPIE_ASSIGN_OR_RETURN(reference->database_,
                          slices::DuckDatabase::OpenInMemory({{"threads", "1"}}));
  ICEPIE_ASSIGN_OR_RETURN(reference->connection_,
                          slices::DuckConnection::Connect(*reference->database_));
  ICEPIE_RETURN_IF_ERROR(reference->Load(stored));
  return reference;
}

absl::Status Reference::Load(const std::vector<StoredRecord>& stored) {
  ICEPIE_RETURN_IF_ERROR(connection_->Run(
      "CREATE TABLE records (_position BIGINT, stream VARCHAR, well_formed BOOLEAN, "
      "amount_good BOOLEAN, tag_good BOOLEAN, client INTEGER, n BIGINT, account INTEGER, "
      "amount INTEGER, size INTEGER, tag VARCHAR, page VARCHAR)"));
  std::vector<std::string> rows;
  for (const StoredRecord& record : stored) {
    rows.push_back(RowOf(record));
    if (rows.size() < kRowsOfInsert && &record != &stored.back()) continue;
    ICEPIE_RETURN_IF_ERROR(
        connection_->Run(absl::StrCat("INSERT INTO records VALUES ", absl::StrJoin(rows, ","))));
    rows.clear();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Reference::Answer(const Question& question,
                                              const std::vector<SliceStand>& stands) {
  std::vector<std::string> parts;
  for (const std::string& name : question.slices) {
    const std::string full_name = absl::StrCat(question.domain, ".", name);
    const auto stand = std::find_if(stands.begin(), stands.end(),
                                    [&](const SliceStand& s) { return s.slice == full_name; });
    if (stand == stands.end()) {
      return absl::NotFoundError(absl::StrCat("the answer says nothing of ", full_name));
    }
    parts.push_back(absl::StrCat(name, " AS MATERIALIZED (",
                                 Relation(FindSlice(full_name), stand->applied_position), ")"));
  }
  return connection_->QueryText(
      absl::StrCat("SELECT coalesce(CAST(to_json(list(answer)) AS VARCHAR), '[]') FROM (WITH ",
                   absl::StrJoin(parts, ", "), " ", question.sql, ") AS answer"));
}

absl::StatusOr<int64_t> Reference::Quarantined(const SliceSpec& slice, int64_t position) {
  int64_t total = 0;
  for (const ReadStream& stream : slice.streams) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string text, connection_->QueryText(absl::StrCat(
                                                        "SELECT CAST(count(*) AS VARCHAR) FROM (",
                                                        Below(stream, position, false), ")")));
    int64_t count = 0;
    if (!absl::SimpleAtoi(text, &count)) return absl::InternalError(text);
    total += count;
  }
  return total;
}

}  // namespace icepie::fault
