// Payloads of one stream for the readers of columns: JSON as it is, or by the stream's schema.
#ifndef ICEPIE_SLICES_READING_PAYLOAD_SCAN_H_
#define ICEPIE_SLICES_READING_PAYLOAD_SCAN_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "slices/reading/json_scan.h"
#include "slices/reading/payload_schema.h"

namespace icepie::slices {

// Threads: one at a time. Lifetime: the scanner outlives it; its values point into text().
class PayloadScan {
 public:
  PayloadScan(const std::string& stream, JsonScanner& scanner)
      : scanner_(scanner), schema_(PayloadSchemas::Get().Find(stream)) {}

  // Lets the scanner scan the payload. False when it cannot be read: code() and error() say why.
  bool Scan(absl::string_view payload);

  // The JSON text of the last payload.
  absl::string_view text() const { return text_; }

  const char* code() const { return schema_ == nullptr ? "INVALID_JSON" : "INVALID_PROTOBUF"; }
  const std::string& error() const { return error_; }
  // Where in the payload the error is, when that is known.
  std::optional<size_t> error_offset() const;

 private:
  JsonScanner& scanner_;
  const std::shared_ptr<const PayloadSchema> schema_;
  std::string json_;
  absl::string_view text_;
  std::string error_;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_PAYLOAD_SCAN_H_
