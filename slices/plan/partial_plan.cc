#include "slices/plan/partial_plan.h"

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/plan/sql_binding.h"

namespace icepie::slices {
namespace {

// The words of `text` in lower case, into `words`.
void AddWords(const std::string& text, std::set<std::string>* words) {
  std::string word;
  for (const char c : text + " ") {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_') {
      word.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      words->insert(std::exchange(word, ""));
    }
  }
}

// The slice and whatever it may read, also by way of others: SQL that cannot be planned may not
// even be parsed, so each name that occurs in its text counts.
std::set<std::string> MayRead(const DomainDef& definition, const std::string& slice) {
  std::set<std::string> names = {slice};
  std::set<std::string> words;
  size_t before = 0;
  while (before != names.size()) {
    before = names.size();
    for (const SliceDef& each : definition.slices) {
      if (names.count(each.name) == 0) continue;
      AddWords(each.sql, &words);
      for (const ExpectationDef& expectation : each.expectations) {
        AddWords(absl::StrCat(expectation.sql, " ", expectation.to), &words);
      }
    }
    for (const SliceDef& each : definition.slices) {
      if (words.count(absl::AsciiStrToLower(each.name)) > 0) names.insert(each.name);
    }
  }
  return names;
}

DomainDef Only(const DomainDef& definition, const std::set<std::string>& slices) {
  DomainDef only = definition;
  only.tests.clear();  // they may be of others
  only.slices.clear();
  for (const SliceDef& slice : definition.slices) {
    if (slices.count(slice.name) > 0) only.slices.push_back(slice);
  }
  return only;
}

}  // namespace

absl::Status WhyNotPlanned(const DomainDef& definition, const std::string& slice,
                           const PlanOverrides& overrides) {
  if (definition.FindSlice(slice) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no slice ", slice, " in the file of domain ", definition.domain));
  }
  return PlanDomain(Only(definition, MayRead(definition, slice)), overrides).status();
}

absl::StatusOr<DomainPlan> PlanWhatCanBe(const DomainDef& definition,
                                         const PlanOverrides& overrides) {
  absl::StatusOr<DomainPlan> whole = PlanDomain(definition, overrides);
  if (whole.ok() || IsPassing(whole.status())) return whole;
  std::set<std::string> good;
  for (const SliceDef& slice : definition.slices) {
    const absl::Status why = WhyNotPlanned(definition, slice.name, overrides);
    if (IsPassing(why)) return why;
    if (why.ok()) good.insert(slice.name);
  }
  if (good.empty()) return whole;
  return PlanDomain(Only(definition, good), overrides);
}

}  // namespace icepie::slices
