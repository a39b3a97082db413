#include "slices/reading/payload_scan.h"

#include "absl/strings/str_cat.h"

namespace icepie::slices {

bool PayloadScan::Scan(absl::string_view payload) {
  text_ = payload;
  if (schema_ != nullptr) {
    if (!schema_->ToJson(payload, json_, error_)) return false;
    text_ = json_;
  }
  if (scanner_.Scan(text_)) return true;
  error_ = schema_ == nullptr ? scanner_.error()
                              : absl::StrCat("a string in it is no text: ", scanner_.error());
  return false;
}

std::optional<size_t> PayloadScan::error_offset() const {
  return schema_ == nullptr ? std::optional<size_t>(scanner_.error_offset()) : std::nullopt;
}

}  // namespace icepie::slices
