// Protobuf payloads as JSON texts, so that sources read them by the rules of json_reading.h: a
// column names a field ($.amount.value) by its name in the .proto file.
//
//   field                       JSON
//   bool, numbers               true, 17, 7.5: integers of 64 bits are numbers, too
//   string, bytes               "text", "base64"
//   enum                        the value's name; its number when it has none
//   message, group              an object
//   repeated                    an array, [] when there is none
//   map                         an object; of equal keys the last counts
//   google.protobuf.Timestamp   "2001-01-31T00:05:00.125Z"
//   google.protobuf.Duration    "90.5s"
//   google.protobuf.…Value      the wrapped value
//
// A field that knows whether it was set (optional, oneof, messages, proto2) and was not is missing;
// others have their default. Fields that the schema does not know are passed over. A payload is not
// of the schema when its bytes are no message, a field has another wire type than it should, or a
// required one is missing.
#ifndef ICEPIE_SLICES_READING_PAYLOAD_SCHEMA_H_
#define ICEPIE_SLICES_READING_PAYLOAD_SCHEMA_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"

namespace icepie::slices {

inline constexpr size_t kDescriptorSetBytesMax = 256 << 10;

// Threads: any. Errors: of bytes it never throws and its work is bounded, whatever they are.
class PayloadSchema {
 public:
  // `descriptor_set`: a serialized google.protobuf.FileDescriptorSet with the imports of its files
  // (those of google/protobuf/ may be left out); `message`: "shop.v1.Order". INVALID_ARGUMENT/
  // PARAMETER_INVALID says what is wrong with which field.
  static absl::StatusOr<std::shared_ptr<const PayloadSchema>> Make(absl::string_view descriptor_set,
                                                                   absl::string_view message);
  ~PayloadSchema();

  // Replaces `json` by the payload's text. False when the payload is not of the schema: `error`
  // says why, and `json` is undefined.
  bool ToJson(absl::string_view payload, std::string& json, std::string& error) const;

  // NOT_FOUND when no payload can have anything at `path`: says which member of it is no field, and
  // which ones there are. An element "[]" stands for those of a repeated field.
  absl::Status CheckPath(const std::vector<std::string>& path) const;

 private:
  struct Files;
  explicit PayloadSchema(std::unique_ptr<Files> files);

  const std::unique_ptr<Files> files_;
};

// The schemas of streams that have one, as the daemon tells them before the first record. A stream
// never changes its schema.
// Threads: any.
class PayloadSchemas {
 public:
  static PayloadSchemas& Get();

  // Keeps the first one of each stream.
  absl::Status Set(const std::string& stream, absl::string_view descriptor_set,
                   absl::string_view message);
  // nullptr: its payloads are JSON.
  std::shared_ptr<const PayloadSchema> Find(const std::string& stream) const;

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const PayloadSchema>> schemas_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_PAYLOAD_SCHEMA_H_
