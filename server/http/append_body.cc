#include "server/http/append_body.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "server/base/proto_time.h"

namespace icepie::server {
namespace {

using icepie::v1::AppendRecordsRequest;

absl::string_view MediaType(absl::string_view content_type) {
  return absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';')));
}

bool IsLines(absl::string_view type) {
  return absl::EqualsIgnoreCase(type, "application/x-ndjson") ||
         absl::EqualsIgnoreCase(type, "application/ndjson") ||
         absl::EqualsIgnoreCase(type, "application/jsonl");
}

void AddRecord(const std::string& stream, absl::string_view payload,
               AppendRecordsRequest& request) {
  icepie::v1::Record& record = *request.add_records();
  record.set_stream(stream);
  record.set_payload(payload.data(), payload.size());
}

}  // namespace

bool IsAppendType(const std::string& content_type) {
  const absl::string_view type = MediaType(content_type);
  return IsLines(type) || absl::EqualsIgnoreCase(type, "application/json");
}

AppendRecordsRequest ParseAppend(const std::string& stream, const HttpRequest& request) {
  AppendRecordsRequest append;
  if (!request.idempotency_key.empty()) append.set_request_id(request.idempotency_key);
  if (!IsLines(MediaType(request.content_type))) {
    AddRecord(stream, request.body, append);
    return append;
  }
  for (absl::string_view line : absl::StrSplit(request.body, '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    if (!line.empty()) AddRecord(stream, line, append);
  }
  return append;
}

HttpAnswer AppendAnswer(const icepie::v1::AppendRecordsResponse& response) {
  nlohmann::ordered_json json = {
      {"first_position", response.first_position()},
      {"end_position", response.end_position()},
      {"replayed", response.replayed()},
      {"ingest_time", absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", FromProto(response.ingest_time()),
                                       absl::UTCTimeZone())},
      {"streams", nlohmann::ordered_json::array()}};
  for (const auto& range : response.streams()) {
    json["streams"].push_back({{"stream", range.stream()},
                               {"first_offset", range.first_offset()},
                               {"end_offset", range.end_offset()}});
  }
  return {200, "application/json", json.dump() + "\n", {{"Cache-Control", "no-store"}}};
}

}  // namespace icepie::server
