// The bad fields of one request, told together: whoever repairs them sends it once more, not once
// for each.
#ifndef ICEPIE_CORE_BASE_FIELD_ERRORS_H_
#define ICEPIE_CORE_BASE_FIELD_ERRORS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/status.h"

namespace icepie {

// `error` as one of the field `field`, e.g. "records[17].stream"; its message describes it.
absl::Status WithField(const absl::Status& error, absl::string_view field);

// Threads: one at a time.
class FieldErrors {
 public:
  // Nothing when it is OK. Of a field that is known to be bad only the first error counts.
  void Add(const absl::Status& error);

  bool empty() const { return first_.ok(); }
  // So many are known that whoever checks may stop.
  bool full() const;

  // OK when there are none. Code, reason and variables of the first, which the message is of, too,
  // with the number of the others; and the fields of all.
  absl::Status ToStatus() const;

 private:
  bool Knows(const FieldViolation& violation) const;

  absl::Status first_;
  ErrorDetail detail_;
};

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_FIELD_ERRORS_H_
