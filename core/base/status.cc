#include "core/base/status.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace icepie {
namespace {

constexpr absl::string_view kDetailUrl = "icepie/error_detail";

// The payload is a list of length-prefixed strings: reason, retry, the number of variables, each
// key and value, then each violation's field and description. It never leaves the process.
void PutString(std::string& out, absl::string_view value) {
  absl::StrAppend(&out, value.size(), ":", value);
}

std::string TakeString(absl::string_view& in) {
  const size_t colon = in.find(':');
  size_t size = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(in.substr(0, colon), &size)) {
    in = {};
    return {};
  }
  std::string value(in.substr(colon + 1, size));
  in.remove_prefix(std::min(in.size(), colon + 1 + size));
  return value;
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, absl::string_view message,
                       const ErrorDetail& detail) {
  absl::Status status(code, message);
  std::string payload;
  PutString(payload, detail.reason);
  PutString(payload, detail.retry_after_ms ? absl::StrCat(*detail.retry_after_ms) : "");
  PutString(payload, absl::StrCat(detail.metadata.size()));
  for (const auto& [key, value] : detail.metadata) {
    PutString(payload, key);
    PutString(payload, value);
  }
  for (const FieldViolation& violation : detail.violations) {
    PutString(payload, violation.field);
    PutString(payload, violation.description);
  }
  status.SetPayload(kDetailUrl, absl::Cord(payload));
  return status;
}

absl::Status MakeError(absl::StatusCode code, absl::string_view message, absl::string_view reason,
                       std::map<std::string, std::string> metadata) {
  return MakeError(code, message,
                   ErrorDetail{std::string(reason), std::move(metadata), {}, std::nullopt});
}

std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(kDetailUrl);
  if (!payload) return std::nullopt;
  const std::string text(*payload);
  absl::string_view in = text;
  ErrorDetail detail;
  detail.reason = TakeString(in);
  if (int64_t retry = 0; absl::SimpleAtoi(TakeString(in), &retry)) detail.retry_after_ms = retry;
  size_t variables = 0;
  if (!absl::SimpleAtoi(TakeString(in), &variables)) variables = 0;
  for (size_t i = 0; i < variables; ++i) {
    std::string key = TakeString(in);
    detail.metadata[std::move(key)] = TakeString(in);
  }
  while (!in.empty()) {
    std::string field = TakeString(in);
    detail.violations.push_back({std::move(field), TakeString(in)});
  }
  return detail;
}

std::string ErrorReason(const absl::Status& status) {
  auto detail = GetErrorDetail(status);
  return detail ? detail->reason : "";
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  if (auto payload = status.GetPayload(kDetailUrl)) annotated.SetPayload(kDetailUrl, *payload);
  return annotated;
}

}  // namespace icepie
