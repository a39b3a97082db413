// A source's `where`: which records of the stream are the source's at all.
#ifndef ICEPIE_SLICES_READING_WHERE_FILTER_H_
#define ICEPIE_SLICES_READING_WHERE_FILTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "slices/definition/definition.h"
#include "slices/reading/json_scan.h"

namespace icepie::slices {

// Threads: one at a time. Lifetime: the scanner outlives it.
class WhereFilter {
 public:
  // Adds the terms' paths to `scanner`.
  WhereFilter(const std::vector<WhereTerm>& terms, JsonScanner& scanner);

  // INVALID_ARGUMENT/DEFINITION_INVALID for a value that is not JSON.
  absl::Status Check() const;

  enum class Verdict {
    kWanted,
    kFiltered,
    kAmbiguous,  // a key on the way to ambiguous_term() occurs twice
  };
  // Of the record that the scanner scanned last.
  Verdict Judge();
  const std::vector<std::string>& ambiguous_path() const { return terms_[ambiguous_].path; }
  const JsonValue& ambiguous_value() const { return scanner_.value(terms_[ambiguous_].slot); }

 private:
  struct Term {
    std::vector<std::string> path;
    int slot = 0;
    std::string json;
    std::unique_ptr<JsonScanner> scanner;  // of `json`
    int expected_slot = 0;
    bool valid = false;
  };

  const JsonScanner& scanner_;
  std::vector<Term> terms_;
  size_t ambiguous_ = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_WHERE_FILTER_H_
