// Rows of a slice asked for in text, after PostgREST: column=op.value, order=a.desc,b. HTTP's query
// strings and the command line share it.
#ifndef ICEPIE_SERVER_QUERY_SELECT_PARAMETERS_H_
#define ICEPIE_SERVER_QUERY_SELECT_PARAMETERS_H_

#include <google/protobuf/repeated_ptr_field.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "icepie/v1/slices.pb.h"

namespace icepie::server {

using Columns = google::protobuf::RepeatedPtrField<icepie::v1::Column>;

// Errors of all: INVALID_ARGUMENT with UNKNOWN_COLUMN (and what columns there are) or
// PARAMETER_INVALID; `select` is then unspecified.

// "a,b" → the columns, in this order.
absl::Status AddColumns(absl::string_view text, const Columns& columns, icepie::v1::Select* select);

// One filter: `column` with "eq.5", "neq.x", "lt.", "lte.", "gt.", "gte.", "in.(a,b)", "is.null" or
// "is.notnull". Values of in may stand in double quotes, with \ before a quote inside. Numbers and
// booleans are read as the column's type; other values are left to the engine as text.
absl::Status AddFilter(absl::string_view column, absl::string_view text, const Columns& columns,
                       icepie::v1::Select* select);

// "a.desc,b" → order by a descending, then b.
absl::Status AddOrder(absl::string_view text, const Columns& columns, icepie::v1::Select* select);

// A whole number from 0.
absl::Status SetLimit(absl::string_view text, icepie::v1::Select* select);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_SELECT_PARAMETERS_H_
