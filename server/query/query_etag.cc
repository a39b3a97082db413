#include "server/query/query_etag.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/utf8.h"

namespace icepie::server {
namespace {

constexpr size_t kHashDigits = 16;

std::string ShortHash(const std::string& bytes) { return Sha256Hex(bytes).substr(0, kHashDigits); }

// Maps have no order of their own: the same parameters must give the same bytes.
std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string out;
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return out;
}

// "payments.volume" → "volume"
absl::string_view WithoutDomain(absl::string_view name) {
  const size_t dot = name.find('.');
  return dot == absl::string_view::npos ? name : name.substr(dot + 1);
}

bool ParseVersion(absl::string_view text, icepie::worker::v1::SliceVersion& version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  int64_t generation = 0;
  int64_t content = 0;
  if (parts.size() != 3) return false;
  absl::string_view g = parts[1];
  absl::string_view c = parts[2];
  if (!absl::ConsumePrefix(&g, "g") || !absl::ConsumePrefix(&c, "c") ||
      !absl::SimpleAtoi(g, &generation) || !absl::SimpleAtoi(c, &content)) {
    return false;
  }
  version.set_slice(std::string(parts[0]));
  version.set_generation(generation);
  version.set_content_version(content);
  return true;
}

}  // namespace

std::string QuestionHash(const icepie::v1::QueryRequest& request) {
  icepie::v1::QueryRequest question = request;
  question.clear_if_none_match();
  question.clear_consistency();
  return ShortHash(DeterministicBytes(question));
}

std::string MakeEtag(const std::string& question_hash, const icepie::v1::Meta& meta) {
  std::string states;
  std::string versions;
  for (const auto& slice : meta.slices()) {
    absl::StrAppend(&states, slice.slice(), ":", static_cast<int>(slice.state()), ":",
                    static_cast<int>(slice.stale_reason()), ":", static_cast<int>(slice.source()),
                    ":", slice.quarantined_count(), ":", slice.unacknowledged_count(), ":",
                    absl::StrJoin(slice.failed_expectations(), ","), ";");
    absl::StrAppend(&versions, versions.empty() ? "" : "+", WithoutDomain(slice.slice()), ".g",
                    slice.generation(), ".c", slice.content_version());
  }
  return absl::StrCat("W/\"", question_hash, "-", ShortHash(states), "-", versions, "\"");
}

std::optional<std::vector<icepie::worker::v1::SliceVersion>> KnownVersions(
    const std::string& etag, const std::string& question_hash) {
  if (!IsUtf8(etag)) return std::nullopt;
  absl::string_view text = etag;
  absl::ConsumePrefix(&text, "W/");
  if (!absl::ConsumePrefix(&text, "\"") || !absl::ConsumeSuffix(&text, "\"")) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('-', 2));
  if (parts.size() != 3 || parts[0] != question_hash) return std::nullopt;
  std::vector<icepie::worker::v1::SliceVersion> versions;
  for (const absl::string_view part : absl::StrSplit(parts[2], '+', absl::SkipEmpty())) {
    if (!ParseVersion(part, versions.emplace_back())) return std::nullopt;
  }
  if (versions.empty()) return std::nullopt;
  return versions;
}

}  // namespace icepie::server
