#include "server/query/query_text.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

namespace icepie::server {
namespace {

using icepie::v1::Select;
using icepie::v1::Value;

absl::Status CheckField(absl::string_view text, absl::string_view field) {
  if (IsUtf8(text)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(field, " is not UTF-8; bytes are a value of kind blob"),
                   "PARAMETER_INVALID", {{"field", std::string(field)}});
}

absl::Status CheckValue(const Value& value, absl::string_view field) {
  ICEPIE_RETURN_IF_ERROR(CheckField(value.text(), field));
  return CheckField(value.decimal(), field);
}

absl::Status CheckSelect(const Select& select) {
  ICEPIE_RETURN_IF_ERROR(CheckField(select.slice(), "select.slice"));
  for (const std::string& column : select.columns()) {
    ICEPIE_RETURN_IF_ERROR(CheckField(column, "select.columns"));
  }
  for (const auto& filter : select.filters()) {
    ICEPIE_RETURN_IF_ERROR(CheckField(filter.column(), "select.filters.column"));
    for (const Value& value : filter.values()) {
      ICEPIE_RETURN_IF_ERROR(CheckValue(value, absl::StrCat("the filter of ", filter.column())));
    }
  }
  for (const auto& order : select.order_by()) {
    ICEPIE_RETURN_IF_ERROR(CheckField(order.column(), "select.order_by"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckText(const icepie::v1::QueryRequest& request) {
  ICEPIE_RETURN_IF_ERROR(CheckField(request.domain(), "domain"));
  ICEPIE_RETURN_IF_ERROR(CheckField(request.sql(), "sql"));
  ICEPIE_RETURN_IF_ERROR(CheckSelect(request.select()));
  for (const auto& [name, value] : request.parameters()) {
    ICEPIE_RETURN_IF_ERROR(CheckField(name, "a name in parameters"));
    ICEPIE_RETURN_IF_ERROR(CheckValue(value, absl::StrCat("parameters.", name)));
  }
  return absl::OkStatus();
}

}  // namespace icepie::server
