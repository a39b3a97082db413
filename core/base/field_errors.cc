#include "core/base/field_errors.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace icepie {
namespace {

constexpr size_t kFieldsMax = 16;  // more than a status has room for

}  // namespace

absl::Status WithField(const absl::Status& error, absl::string_view field) {
  ErrorDetail detail = GetErrorDetail(error).value_or(ErrorDetail());
  detail.violations.push_back({std::string(field), std::string(error.message())});
  return MakeError(error.code(), error.message(), detail);
}

bool FieldErrors::Knows(const FieldViolation& violation) const {
  return std::any_of(detail_.violations.begin(), detail_.violations.end(),
                     [&](const FieldViolation& known) { return known.field == violation.field; });
}

void FieldErrors::Add(const absl::Status& error) {
  if (error.ok()) return;
  const std::optional<ErrorDetail> detail = GetErrorDetail(error);
  if (first_.ok()) {
    first_ = error;
    if (detail) detail_ = *detail;
    return;
  }
  if (!detail) return;
  for (const FieldViolation& violation : detail->violations) {
    if (!full() && !Knows(violation)) detail_.violations.push_back(violation);
  }
}

bool FieldErrors::full() const { return detail_.violations.size() >= kFieldsMax; }

absl::Status FieldErrors::ToStatus() const {
  if (first_.ok() || detail_.violations.size() < 2) return first_;
  return MakeError(first_.code(),
                   absl::StrCat(first_.message(), " (and ", full() ? "at least " : "",
                                detail_.violations.size() - 1, " more)"),
                   detail_);
}

}  // namespace icepie
