#include "core/verify/scrub_file.h"

#include <xxhash.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace icepie {
namespace {

constexpr absl::string_view kFirstLine = "icepie scrub 1\n";
constexpr size_t kWhatBytesMax = 500;

std::string Checksum(absl::string_view bytes) {
  return absl::StrCat("checksum ", absl::Hex(XXH3_64bits(bytes.data(), bytes.size())), "\n");
}

// "name time position\n"
void PutTime(absl::string_view name, absl::Time time, int64_t position, std::string& bytes) {
  absl::StrAppend(&bytes, name, " ", absl::ToUnixMicros(time), " ", position, "\n");
}

bool ReadLine(absl::string_view line, ScrubState& state) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
  int64_t first = 0;
  int64_t second = 0;
  if (words.size() < 3 || !absl::SimpleAtoi(words[1], &first) ||
      !absl::SimpleAtoi(words[2], &second)) {
    return false;
  }
  if (words[0] == "verified") {
    state.verified_time = absl::FromUnixMicros(first);
    state.verified_position = second;
  } else if (words[0] == "pass") {
    state.pass_begin = absl::FromUnixMicros(first);
    state.position = second;
  } else if (words[0] == "finding" && words.size() == 4) {
    state.findings.push_back({first, second, std::string(words[3])});
    ++state.finding_count;
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::string EncodeScrubState(const ScrubState& state) {
  std::string bytes(kFirstLine);
  if (state.verified_time) {
    PutTime("verified", *state.verified_time, state.verified_position, bytes);
  }
  if (state.pass_begin) PutTime("pass", *state.pass_begin, state.position, bytes);
  for (const ScrubFinding& finding : state.findings) {
    absl::StrAppend(&bytes, "finding ", finding.position, " ", finding.end_position, " ",
                    absl::StrReplaceAll(finding.what.substr(0, kWhatBytesMax), {{"\n", " "}}),
                    "\n");
  }
  return bytes + Checksum(bytes);
}

ScrubState DecodeScrubState(absl::string_view bytes) {
  const size_t end = bytes.rfind("checksum ");
  if (end == absl::string_view::npos || bytes.substr(end) != Checksum(bytes.substr(0, end))) {
    return {};
  }
  absl::string_view lines = bytes.substr(0, end);
  if (!absl::ConsumePrefix(&lines, kFirstLine)) return {};
  ScrubState state;
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    if (!ReadLine(line, state)) return {};
  }
  return state;
}

}  // namespace icepie
