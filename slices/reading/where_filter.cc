#include "slices/reading/where_filter.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/reading/json_reading.h"

namespace icepie::slices {

WhereFilter::WhereFilter(const std::vector<WhereTerm>& terms, JsonScanner& scanner)
    : scanner_(scanner) {
  for (const WhereTerm& term : terms) {
    Term made{term.path, scanner.AddPath(term.path), term.json, std::make_unique<JsonScanner>()};
    made.expected_slot = made.scanner->AddPath({});
    terms_.push_back(std::move(made));
  }
  for (Term& term : terms_) term.valid = term.scanner->Scan(term.json);
}

absl::Status WhereFilter::Check() const {
  for (const Term& term : terms_) {
    if (term.valid) continue;
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("where ", PathText(term.path), ": ", term.json,
                                  " is not a JSON value: ", term.scanner->error()),
                     "DEFINITION_INVALID");
  }
  return absl::OkStatus();
}

WhereFilter::Verdict WhereFilter::Judge() {
  for (size_t i = 0; i < terms_.size(); ++i) {
    const JsonValue& value = scanner_.value(terms_[i].slot);
    if (value.kind == JsonKind::kDuplicate) {
      ambiguous_ = i;
      return Verdict::kAmbiguous;
    }
    if (!SameScalar(value, terms_[i].scanner->value(terms_[i].expected_slot))) {
      return Verdict::kFiltered;
    }
  }
  return Verdict::kWanted;
}

}  // namespace icepie::slices
