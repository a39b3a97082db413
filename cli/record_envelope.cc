#include "cli/record_envelope.h"

#include <simdjson.h>

#include <optional>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cli/import_source.h"
#include "core/base/status.h"
#include "core/base/utf8.h"
#include "slices/reading/json_text.h"
#include "slices/reading/timestamp_text.h"

namespace icepie::cli {
namespace {

using icepie::v1::Record;
using slices::JsonKind;
using slices::JsonText;
using slices::JsonValue;

constexpr int64_t kEnvelopeBytesMax = int64_t{1} << 40;  // the core's limits hold

void AddMember(JsonText& text, absl::string_view name) {
  text.Add('"');
  text.Add(name);
  text.Add("\":");
}

void AddTime(JsonText& text, absl::string_view name, const google::protobuf::Timestamp& time) {
  text.Add(',');
  AddMember(text, name);
  text.AddTimestamp(time.seconds() * slices::kMicrosPerSecond + time.nanos() / 1000,
                    slices::kMicrosPerSecond, "Z");
}

// "name":"text" or "name_base64":"…"
void AddBytes(JsonText& text, absl::string_view name, absl::string_view bytes) {
  if (IsUtf8(bytes)) {
    AddMember(text, name);
    text.AddString(bytes);
    return;
  }
  AddMember(text, absl::StrCat(name, "_base64"));
  text.AddBase64(bytes);
}

void AddHeaders(JsonText& text, const Record& record) {
  text.Add('[');
  for (int i = 0; i < record.headers_size(); ++i) {
    text.Add(i == 0 ? "{\"name\":" : ",{\"name\":");
    text.AddString(record.headers(i).name());
    text.Add(',');
    AddBytes(text, "value", record.headers(i).value());
    text.Add('}');
  }
  text.Add(']');
}

absl::Status Wrong(absl::string_view member, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("member \"", member, "\" ", what));
}

bool Present(const JsonValue& value) { return value.kind != JsonKind::kMissing; }

std::string TextOf(const JsonValue& value) {
  std::string text;
  if (value.escaped) {
    slices::UnescapeJson(value.text, text);
  } else {
    text.assign(value.text.data(), value.text.size());
  }
  return text;
}

std::optional<std::string> Text(const simdjson::dom::element& object, const char* name) {
  std::string_view text;
  if (object.at_key(name).get(text) != simdjson::SUCCESS) return std::nullopt;
  return std::string(text);
}

absl::Status ReadHeader(const simdjson::dom::element& element, icepie::v1::Header* header) {
  const auto name = Text(element, "name");
  const auto value = Text(element, "value");
  const auto base64 = Text(element, "value_base64");
  if (!name || value.has_value() == base64.has_value()) {
    return Wrong("headers", "must hold objects of name and value (or value_base64)");
  }
  header->set_name(*name);
  if (value) header->set_value(*value);
  if (base64 && !absl::Base64Unescape(*base64, header->mutable_value())) {
    return Wrong("headers", "has a value_base64 that is not base64");
  }
  return absl::OkStatus();
}

absl::Status ReadHeaders(const JsonValue& value, Record* record) {
  if (!Present(value) || value.kind == JsonKind::kNull) return absl::OkStatus();
  simdjson::dom::parser parser;
  simdjson::dom::array headers;
  const absl::string_view raw = value.raw();
  if (parser.parse(raw.data(), raw.size(), true).get(headers) != simdjson::SUCCESS) {
    return Wrong("headers", "is not an array");
  }
  for (const simdjson::dom::element element : headers) {
    ICEPIE_RETURN_IF_ERROR(ReadHeader(element, record->add_headers()));
  }
  return absl::OkStatus();
}

}  // namespace

std::string HeadersJson(const Record& record) {
  JsonText text(kEnvelopeBytesMax);
  AddHeaders(text, record);
  return std::move(text).Take();
}

std::string EnvelopeLine(const Record& record, bool json_payload) {
  JsonText text(kEnvelopeBytesMax);
  text.Add("{\"stream\":");
  text.AddString(record.stream());
  text.Add(",\"position\":");
  text.AddInteger(record.position());
  text.Add(",\"offset\":");
  text.AddInteger(record.offset());
  AddTime(text, "time", record.ingest_time());
  if (record.has_event_time()) AddTime(text, "event_time", record.event_time());
  if (record.has_key()) {
    text.Add(',');
    AddBytes(text, "key", record.key());
  }
  if (record.headers_size() > 0) {
    text.Add(",\"headers\":");
    AddHeaders(text, record);
  }
  const absl::string_view payload = record.payload();
  const bool plain = json_payload && payload.find_first_of("\r\n") == absl::string_view::npos;
  text.Add(plain ? ",\"payload\":" : ",\"payload_base64\":");
  plain ? text.Add(payload) : text.AddBase64(payload);
  text.Add('}');
  return std::move(text).Take();
}

EnvelopeReader::EnvelopeReader()
    : payload_(scanner_.AddPath({"payload"})),
      payload_base64_(scanner_.AddPath({"payload_base64"})),
      key_(scanner_.AddPath({"key"})),
      key_base64_(scanner_.AddPath({"key_base64"})),
      event_time_(scanner_.AddPath({"event_time"})),
      headers_(scanner_.AddPath({"headers"})) {}

absl::Status EnvelopeReader::Read(absl::string_view line, Record* record) {
  if (!scanner_.Scan(line)) {
    return absl::InvalidArgumentError(absl::StrCat("not well-formed JSON: ", scanner_.error()));
  }
  for (const int slot : {payload_, payload_base64_, key_, key_base64_, event_time_, headers_}) {
    const JsonKind kind = scanner_.value(slot).kind;
    if (kind == JsonKind::kNotAnObject) return absl::InvalidArgumentError("not a JSON object");
    if (kind == JsonKind::kDuplicate) return absl::InvalidArgumentError("a member occurs twice");
  }
  ICEPIE_RETURN_IF_ERROR(ReadPayload(record));
  if (Present(scanner_.value(key_)) || Present(scanner_.value(key_base64_))) {
    ICEPIE_RETURN_IF_ERROR(ReadBytes(key_, key_base64_, "key", record->mutable_key()));
  }
  ICEPIE_RETURN_IF_ERROR(ReadEventTime(record));
  return ReadHeaders(scanner_.value(headers_), record);
}

absl::Status EnvelopeReader::ReadPayload(Record* record) {
  const JsonValue& plain = scanner_.value(payload_);
  if (Present(plain) == Present(scanner_.value(payload_base64_))) {
    return absl::InvalidArgumentError("one of payload and payload_base64 must be there");
  }
  if (Present(plain)) {
    const absl::string_view raw = plain.raw();
    record->set_payload(raw.data(), raw.size());
    return absl::OkStatus();
  }
  return ReadBytes(payload_, payload_base64_, "payload", record->mutable_payload());
}

// A string, or a string of base64.
absl::Status EnvelopeReader::ReadBytes(int plain, int base64, const char* name, std::string* out) {
  const JsonValue& text = scanner_.value(plain);
  const JsonValue& encoded = scanner_.value(base64);
  if (Present(text) && Present(encoded)) return Wrong(name, "is there twice, also as base64");
  if (Present(text)) {
    if (text.kind != JsonKind::kString) return Wrong(name, "is not a string");
    *out = TextOf(text);
    return absl::OkStatus();
  }
  if (encoded.kind != JsonKind::kString || !absl::Base64Unescape(TextOf(encoded), out)) {
    return Wrong(absl::StrCat(name, "_base64"), "is not base64");
  }
  return absl::OkStatus();
}

absl::Status EnvelopeReader::ReadEventTime(Record* record) const {
  const JsonValue& value = scanner_.value(event_time_);
  if (!Present(value) || value.kind == JsonKind::kNull) return absl::OkStatus();
  const auto time = value.kind == JsonKind::kString ? slices::ParseTimeText(value.text)
                                                    : std::optional<slices::TimeText>();
  if (!time) return Wrong("event_time", "is no time such as \"2001-01-01T00:05:00Z\"");
  SetEventTime(time->micros - time->offset_micros.value_or(0), record);
  return absl::OkStatus();
}

}  // namespace icepie::cli
