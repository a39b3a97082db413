#include "slices/definition/nearest_name.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

namespace icepie::slices {
namespace {

constexpr size_t kListedMax = 20;

// Edits between two names; a swap of neighbours counts as one.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates) {
  const std::string wanted = absl::AsciiStrToLower(name.substr(0, 64));
  // Further away is no typing mistake; every letter is near every other one.
  size_t best = wanted.size() < 2 ? 1 : wanted.size() / 3 + 2;
  std::string nearest;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > 64) continue;
    const size_t distance = EditDistance(wanted, absl::AsciiStrToLower(candidate));
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string SuggestName(absl::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(name, candidates);
  const size_t listed = std::min(candidates.size(), kListedMax);
  std::string have = absl::StrJoin(absl::MakeConstSpan(candidates).first(listed), ", ");
  if (candidates.empty()) have = "nothing";
  if (listed < candidates.size())
    absl::StrAppend(&have, " and ", candidates.size() - listed, " more");
  return absl::StrCat(" (", nearest.empty() ? "" : absl::StrCat("did you mean \"", nearest, "\"? "),
                      "have: ", have, ")");
}

}  // namespace icepie::slices
