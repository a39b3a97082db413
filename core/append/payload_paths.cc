#include "core/append/payload_paths.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "core/base/status.h"

namespace icepie {
namespace {

constexpr size_t kPathBytesMax = 256;
constexpr size_t kMembersMax = 16;
constexpr absl::string_view kDateTime = "%Y-%m-%d%ET%H:%M:%E*S";

namespace json = simdjson::ondemand;

// What stands at the end of a path: a text's characters, or the token of anything else.
struct Found {
  bool is_text = false;
  std::string value;
};

bool IsMemberCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; }

bool IsMember(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), IsMemberCharacter);
}

absl::Status PathError(const std::string& field, absl::string_view text) {
  const std::string what =
      absl::StrCat("\"", text.substr(0, 64),
                   "\" is not a path such as $.from.wallet: members of letters, digits, _ and -, ",
                   kMembersMax, " at most");
  return MakeError(absl::StatusCode::kInvalidArgument, absl::StrCat(field, " ", what),
                   ErrorDetail{"PARAMETER_INVALID", {}, {{field, what}}, std::nullopt});
}

absl::Status ValueError(size_t index, const NewRecord& record, const PayloadPath& path,
                        absl::string_view what) {
  const std::string message = absl::StrCat(path.text, " of the payload ", what, "; stream ",
                                           record.stream, " reads it (icepie stream describe ",
                                           record.stream, "), nothing of the batch was stored");
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("record ", index, " of the batch: ", message),
      ErrorDetail{"PAYLOAD_INVALID",
                  {{"record", absl::StrCat(index)}, {"stream", record.stream}, {"path", path.text}},
                  {{absl::StrCat("records[", index, "].payload"), message}},
                  std::nullopt});
}

// Every member of each object on the way is looked at, so that a second one of the name is seen.
class Finder {
 public:
  explicit Finder(const std::vector<std::string>& members) : members_(members) {}

  // Why there is no value; empty when `found` has it.
  std::string Find(json::object object, size_t depth) {
    bool seen = false;
    for (auto field : object) {
      std::string_view key;
      if (field.unescaped_key().get(key) != simdjson::SUCCESS) return "cannot be read";
      if (key != members_[depth]) continue;
      if (std::exchange(seen, true))
        return absl::StrCat("is ambiguous: ", members_[depth], " occurs twice");
      json::value value;
      if (field.value().get(value) != simdjson::SUCCESS) return "cannot be read";
      const std::string why = Take(value, depth);
      if (!why.empty()) return why;
    }
    return seen ? "" : "is missing";
  }

  Found found;

 private:
  std::string Take(json::value value, size_t depth) {
    if (depth + 1 < members_.size()) {
      json::object inner;
      if (value.get_object().get(inner) != simdjson::SUCCESS) return "is missing";
      return Find(inner, depth + 1);
    }
    json::json_type type;
    if (value.type().get(type) != simdjson::SUCCESS) return "cannot be read";
    if (type == json::json_type::string) {
      std::string_view text;
      if (value.get_string().get(text) != simdjson::SUCCESS) return "cannot be read";
      found = {true, std::string(text)};
      return "";
    }
    if (type == json::json_type::null) return "is null";
    if (type == json::json_type::array || type == json::json_type::object) {
      return "is neither a text nor a number";
    }
    const std::string_view token = value.raw_json_token();
    found = {false, std::string(absl::StripAsciiWhitespace({token.data(), token.size()}))};
    return "";
  }

  const std::vector<std::string>& members_;
};

// The value at `path`, or why there is none.
std::string FindValue(const PayloadPath& path, absl::string_view payload, Found& found) {
  thread_local json::parser parser;
  thread_local std::string padded;  // simdjson reads a little beyond the end
  padded.assign(payload.data(), payload.size());
  padded.append(simdjson::SIMDJSON_PADDING, '\0');
  json::document document;
  json::object object;
  const simdjson::padded_string_view view(padded.data(), payload.size(), padded.size());
  if (parser.iterate(view).get(document) != simdjson::SUCCESS ||
      document.get_object().get(object) != simdjson::SUCCESS) {
    return "is missing: the payload is not an object";
  }
  Finder finder(path.members);
  const std::string why = finder.Find(object, 0);
  found = std::move(finder.found);
  return why;
}

bool IsWholeNumber(absl::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

std::optional<int64_t> ParseTimeText(const std::string& text) {
  // absl::ParseTime passes over spaces and knows "infinite-future".
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text.front()))) {
    return std::nullopt;
  }
  absl::Time time;
  std::string error;
  const bool parsed = absl::ParseTime(absl::StrCat(kDateTime, "%Ez"), text, &time, &error) ||
                      absl::ParseTime(kDateTime, text, &time, &error);
  const absl::CivilSecond civil = absl::ToCivilSecond(time, absl::UTCTimeZone());
  if (!parsed || absl::ascii_isspace(static_cast<unsigned char>(text.back())) || civil.year() < 1 ||
      civil.year() > 9999) {
    return std::nullopt;
  }
  return absl::ToUnixMicros(time);
}

}  // namespace

absl::StatusOr<PayloadPath> ParsePayloadPath(const std::string& field, absl::string_view text) {
  PayloadPath path;
  if (text.empty()) return path;
  if (text.size() > kPathBytesMax || text.substr(0, 2) != "$.") return PathError(field, text);
  path.text = std::string(text);
  path.members = absl::StrSplit(text.substr(2), '.');
  if (path.members.size() > kMembersMax ||
      !std::all_of(path.members.begin(), path.members.end(), IsMember)) {
    return PathError(field, text);
  }
  return path;
}

absl::Status FillFromPayload(const PayloadPaths& paths, size_t index, NewRecord& record) {
  Found found;
  if (!paths.key.text.empty() && !record.key) {
    std::string why = FindValue(paths.key, record.payload, found);
    if (why.empty() && !found.is_text && !IsWholeNumber(found.value)) {
      why = "is neither a text nor a whole number";
    }
    if (!why.empty()) return ValueError(index, record, paths.key, why);
    record.key = std::move(found.value);
  }
  if (!paths.event_time.text.empty() && !record.event_time_us) {
    std::string why = FindValue(paths.event_time, record.payload, found);
    if (why.empty()) {
      if (found.is_text) record.event_time_us = ParseTimeText(found.value);
      if (!record.event_time_us) why = "is not ISO 8601 text, e.g. 2026-11-22T03:11:02.125+01:00";
    }
    if (!why.empty()) return ValueError(index, record, paths.event_time, why);
  }
  return absl::OkStatus();
}

}  // namespace icepie
