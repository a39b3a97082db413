#include "server/http/http_answers.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "server/base/rpc_status.h"

namespace icepie::server {
namespace {

using Json = nlohmann::ordered_json;
using icepie::v1::Meta;
using icepie::v1::QueryResponse;
using icepie::v1::SliceMeta;

// Text from files and databases may hold anything; the answer is UTF-8 all the same.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ",
                          absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos()),
                          absl::UTCTimeZone());
}

// Without head and lag: they move all the time and are headers, so that a body stands for its ETag.
Json SliceMetaJson(const SliceMeta& meta) {
  Json json = {{"slice", meta.slice()},
               {"generation", meta.generation()},
               {"definition_hash", meta.definition_hash()},
               {"state", icepie::v1::SliceState_Name(meta.state())},
               {"stale", meta.stale()}};
  if (meta.stale()) {
    json["stale_reason"] = icepie::v1::StaleReason_Name(meta.stale_reason());
    if (meta.has_stale_since()) json["stale_since"] = TimeText(meta.stale_since());
  }
  json["applied_position"] = meta.applied_position();
  if (meta.has_applied_time()) json["applied_time"] = TimeText(meta.applied_time());
  if (meta.has_event_time_max()) json["event_time_max"] = TimeText(meta.event_time_max());
  json["quarantined_count"] = meta.quarantined_count();
  json["unacknowledged_count"] = meta.unacknowledged_count();
  json["failed_expectations"] = Json::array();
  for (const std::string& name : meta.failed_expectations()) {
    json["failed_expectations"].push_back(name);
  }
  if (meta.has_next_refresh_time()) json["next_refresh_time"] = TimeText(meta.next_refresh_time());
  json["source"] = icepie::v1::Source_Name(meta.source());
  json["content_version"] = meta.content_version();
  return json;
}

Json MetaJson(const Meta& meta) {
  Json slices = Json::array();
  for (const SliceMeta& slice : meta.slices()) slices.push_back(SliceMetaJson(slice));
  return {{"etag", meta.etag()}, {"stale", meta.stale()}, {"slices", std::move(slices)}};
}

std::string DumpAscii(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

// For a header: ASCII, and not longer than what clients and proxies take; slices that it has no
// room for are counted.
std::string MetaHeader(const Meta& meta) {
  constexpr size_t kBytesMax = 4096;
  Json json = {{"stale", meta.stale()}, {"slices", Json::array()}};
  size_t bytes = 0;
  int left_out = 0;
  for (const SliceMeta& slice : meta.slices()) {
    Json one = SliceMetaJson(slice);
    bytes += DumpAscii(one).size();
    if (bytes > kBytesMax) {
      ++left_out;
    } else {
      json["slices"].push_back(std::move(one));
    }
  }
  if (left_out > 0) json["slices_left_out"] = left_out;
  return DumpAscii(json);
}

std::string JsonBody(const QueryResponse& response) {
  Json columns = Json::array();
  for (const auto& column : response.columns()) {
    columns.push_back({{"name", column.name()}, {"type", column.type()}});
  }
  return absl::StrCat("{\"meta\":", Dump(MetaJson(response.meta())), ",\"columns\":", Dump(columns),
                      ",\"rows\":", response.body().empty() ? "[]" : response.body(), "}\n");
}

void SetBody(const QueryResponse& response, icepie::v1::RowFormat format, HttpAnswer* answer) {
  if (format == icepie::v1::ROW_FORMAT_CSV) {
    answer->content_type = "text/csv; charset=utf-8; header=present";
    answer->body = response.body();
  } else if (format == icepie::v1::ROW_FORMAT_NDJSON) {
    answer->content_type = "application/x-ndjson";
    answer->body =
        absl::StrCat(response.body(), "{\"end\":{\"rows\":", response.row_count(), "}}\n");
  } else {
    answer->content_type = "application/json";
    answer->body = JsonBody(response);
  }
}

std::string StaleHeader(const Meta& meta) {
  for (const SliceMeta& slice : meta.slices()) {
    if (!slice.stale()) continue;
    return absl::StrCat("?1;reason=", icepie::v1::StaleReason_Name(slice.stale_reason()));
  }
  return meta.stale() ? "?1" : "?0";
}

void AddHeaders(const Meta& meta, HttpAnswer* answer) {
  auto& headers = answer->headers;
  if (!meta.etag().empty()) headers.emplace_back("ETag", meta.etag());
  headers.emplace_back("Age", "0");
  headers.emplace_back("Cache-Control", "no-cache, stale-if-error=86400");
  headers.emplace_back("Vary", "Accept, Accept-Encoding, Origin");
  headers.emplace_back("IcePie-Stale", StaleHeader(meta));
  headers.emplace_back("IcePie-Head-Position", absl::StrCat(meta.head_position()));
  if (meta.slices().empty()) return;
  // Of several slices the one that is furthest behind speaks for the answer.
  const auto oldest = std::min_element(
      meta.slices().begin(), meta.slices().end(),
      [](const auto& a, const auto& b) { return a.applied_position() < b.applied_position(); });
  headers.emplace_back("IcePie-Applied-Position", absl::StrCat(oldest->applied_position()));
  headers.emplace_back("IcePie-Lag-Records", absl::StrCat(oldest->lag_records()));
  headers.emplace_back("IcePie-Source", icepie::v1::Source_Name(oldest->source()));
}

// "W/\"a\"" and "\"a\"" → a: comparison is weak, as RFC 9110 has it for If-None-Match.
absl::string_view OpaqueTag(absl::string_view tag) {
  tag = absl::StripAsciiWhitespace(tag);
  absl::ConsumePrefix(&tag, "W/");
  if (!absl::ConsumePrefix(&tag, "\"") || !absl::ConsumeSuffix(&tag, "\"")) return "";
  return tag;
}

bool Matches(absl::string_view if_none_match, absl::string_view etag) {
  if (etag.empty()) return false;
  if (absl::StripAsciiWhitespace(if_none_match) == "*") return true;
  for (const absl::string_view tag : absl::StrSplit(if_none_match, ',')) {
    const absl::string_view opaque = OpaqueTag(tag);
    if (!opaque.empty() && opaque == OpaqueTag(etag)) return true;
  }
  return false;
}

HttpAnswer Problem(int http_status, absl::string_view reason, absl::string_view message,
                   const ErrorDetail& detail) {
  Json json = {
      {"status", http_status}, {"reason", std::string(reason)}, {"detail", std::string(message)}};
  const auto hint = detail.metadata.find("hint");
  if (hint != detail.metadata.end()) json["hint"] = hint->second;
  for (const FieldViolation& violation : detail.violations) {
    json["violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  HttpAnswer answer{http_status, "application/problem+json", Dump(json) + "\n", {}};
  answer.headers.emplace_back("Cache-Control", "no-store");
  if (http_status == 429 || http_status == 503) {
    const int64_t wait_ms = detail.retry_after_ms.value_or(1000);
    answer.headers.emplace_back("Retry-After",
                                absl::StrCat(std::max<int64_t>(1, (wait_ms + 999) / 1000)));
  }
  return answer;
}

}  // namespace

HttpAnswer RowsAnswer(const QueryResponse& response, icepie::v1::RowFormat format,
                      absl::string_view if_none_match) {
  HttpAnswer answer;
  AddHeaders(response.meta(), &answer);
  if (format != icepie::v1::ROW_FORMAT_JSON) {
    answer.headers.emplace_back("IcePie-Meta", MetaHeader(response.meta()));
  }
  if (response.not_modified() || Matches(if_none_match, response.meta().etag())) {
    answer.status = 304;
    return answer;
  }
  SetBody(response, format, &answer);
  return answer;
}

HttpAnswer ProblemAnswer(const absl::Status& status) {
  const auto detail = GetErrorDetail(status).value_or(ErrorDetail{});
  const std::string reason =
      detail.reason.empty() ? absl::StatusCodeToString(status.code()) : detail.reason;
  return Problem(HttpStatusOf(status), reason, status.message(), detail);
}

HttpAnswer ProblemAnswer(int http_status, absl::string_view reason, absl::string_view detail) {
  return Problem(http_status, reason, detail, ErrorDetail{});
}

HttpAnswer TextAnswer(int http_status, absl::string_view text) {
  return {http_status, "text/plain; charset=utf-8", std::string(text), {}};
}

std::string SingleEntityTag(absl::string_view if_none_match) {
  if (if_none_match.find(',') != absl::string_view::npos) return "";
  const absl::string_view opaque = OpaqueTag(if_none_match);
  return opaque.empty() ? "" : absl::StrCat("W/\"", opaque, "\"");
}

}  // namespace icepie::server
