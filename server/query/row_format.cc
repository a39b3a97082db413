#include "server/query/row_format.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace icepie::server {
namespace {

using icepie::v1::QueryRequest;

absl::Status UnknownWord(const std::string& field, absl::string_view text, absl::string_view have) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(field, " \"", text, "\" is not known (have: ", have, ")"),
                   "PARAMETER_INVALID", {{"field", field}});
}

}  // namespace

absl::Status SetFormat(absl::string_view text, QueryRequest* query) {
  if (text == "json") {
    query->set_format(icepie::v1::ROW_FORMAT_JSON);
  } else if (text == "ndjson") {
    query->set_format(icepie::v1::ROW_FORMAT_NDJSON);
  } else if (text == "csv") {
    query->set_format(icepie::v1::ROW_FORMAT_CSV);
  } else {
    return UnknownWord("format", text, "csv, json, ndjson");
  }
  return absl::OkStatus();
}

absl::Status SetNumbers(absl::string_view text, QueryRequest* query) {
  if (text != "number" && text != "string") {
    return UnknownWord("numbers", text, "number, string");
  }
  query->set_exact_as_text(text == "string");
  return absl::OkStatus();
}

}  // namespace icepie::server
