// The result of one statement as a relation for the statements after it. A temporary table would do
// the same, but what is deleted from one stays in its scans, and replacing it each time makes every
// statement over it be planned anew.
#ifndef ICEPIE_SLICES_APPLY_BATCH_RELATION_H_
#define ICEPIE_SLICES_APPLY_BATCH_RELATION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "slices/duckdb/duckdb.h"

namespace icepie::slices {

// Threads: one connection's.
// Errors: of Create, those of the view's statement; of Set, those of DuckResult::NextChunk.
// Lifetime: statements prepared over the view may be run again after each Set; run after the
//   relation is gone, they fail. The view stays on the connection.
class BatchRelation {
 public:
  // Makes the temporary view `name` on `connection`, with the columns that `producer` gives; it is
  // empty until Set().
  static absl::StatusOr<std::unique_ptr<BatchRelation>> Create(DuckConnection& connection,
                                                               const std::string& name,
                                                               const DuckStatement& producer);
  virtual ~BatchRelation() = default;

  // What the view shows from now on: the rows of `result`, which has the producer's columns. After
  // an error (RESOURCE_EXHAUSTED) these are not all: whoever would read them must not go on.
  virtual absl::Status Set(DuckResult result) = 0;
  // Lets go of the rows.
  virtual void Clear() = 0;
  virtual int64_t RowCount() const = 0;
  // Makes the view once more, when another has taken its name meanwhile.
  virtual absl::Status MakeView(DuckConnection& connection) = 0;
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_BATCH_RELATION_H_
