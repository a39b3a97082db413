// What every process pays once, whoever's it is: the code and the tables of DuckDB come into its
// memory when they are used first, page by page.
#ifndef ICEPIE_SLICES_ROLE_WARM_UP_H_
#define ICEPIE_SLICES_ROLE_WARM_UP_H_

#include "absl/status/status.h"

namespace icepie::slices {

// Opens an instance as the engines do, asks it a question as the query service does, and closes it
// again. Nothing is left of it but a process in which that goes faster the next time: no file, no
// thread, no instance. DuckDB's errors as they come.
// Threads: the calling one alone.
absl::Status WarmUp();

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_ROLE_WARM_UP_H_
