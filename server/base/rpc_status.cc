#include "server/base/rpc_status.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "core/base/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace icepie::server {
namespace {

constexpr size_t kStatusBytesMax = 4096;
constexpr size_t kMessageBytesMax = 1500;

// Cuts at a character's beginning, so that the message stays UTF-8.
std::string Shortened(absl::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "…";
}

google::rpc::Status Details(const absl::Status& status, const ErrorDetail& detail,
                            const std::string& message, bool with_violations) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(detail.reason);
  info.set_domain("icepie");
  for (const auto& [key, value] : detail.metadata) {
    (*info.mutable_metadata())[key] = Shortened(value, 256);
  }
  out.add_details()->PackFrom(info);
  if (detail.retry_after_ms) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(*detail.retry_after_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(*detail.retry_after_ms % 1000 * 1000000));
    out.add_details()->PackFrom(retry);
  }
  if (with_violations && !detail.violations.empty()) {
    google::rpc::BadRequest bad;
    size_t bytes = 0;
    for (const FieldViolation& violation : detail.violations) {
      auto* field = bad.add_field_violations();
      field->set_field(Shortened(violation.field, 128));
      field->set_description(Shortened(violation.description, 400));
      bytes += field->ByteSizeLong();
      if (bytes > kStatusBytesMax / 3) break;
    }
    out.add_details()->PackFrom(bad);
  }
  return out;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Shortened(status.message(), kMessageBytesMax);
  const auto detail = GetErrorDetail(status);
  if (!detail) return grpc::Status(code, message);
  std::string bytes = Details(status, *detail, message, true).SerializeAsString();
  if (bytes.size() + message.size() > kStatusBytesMax) {
    bytes =
        Details(status, ErrorDetail{detail->reason, {}, {}, detail->retry_after_ms}, message, false)
            .SerializeAsString();
  }
  return grpc::Status(code, message, bytes);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  google::rpc::Status details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) {
    return absl::Status(code, status.error_message());
  }
  ErrorDetail detail;
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      detail.reason = info.reason();
      detail.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&retry)) {
      detail.retry_after_ms =
          retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1000000;
    } else if (any.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) {
        detail.violations.push_back({violation.field(), violation.description()});
      }
    }
  }
  return MakeError(code, status.error_message(), detail);
}

int HttpStatusOf(const absl::Status& status) {
  const std::string reason = ErrorReason(status);
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
      return reason == "RECORD_TOO_LARGE" || reason == "BATCH_TOO_LARGE" ? 413 : 400;
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kFailedPrecondition:
      return reason == "STALENESS_EXCEEDED" || reason == "POSITION_UNREACHABLE" ? 503 : 409;
    case absl::StatusCode::kResourceExhausted:
      return reason == "CORE_DISK_FULL" || reason == "DOMAIN_DISK_FULL" ? 507 : 429;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    case absl::StatusCode::kUnimplemented:
      return 501;
    default:
      return 500;
  }
}

}  // namespace icepie::server
