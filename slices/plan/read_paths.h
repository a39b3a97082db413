// What a domain's sources read of payloads, for streams of which it is known what can be there
// (payload_schema.h).
#ifndef ICEPIE_SLICES_PLAN_READ_PATHS_H_
#define ICEPIE_SLICES_PLAN_READ_PATHS_H_

#include <string>
#include <vector>

#include "slices/definition/definition.h"
#include "slices/definition/file_place.h"

namespace icepie::slices {

struct ReadPath {
  std::vector<std::string> path;  // member by member; "[]": of each element of a list
  std::string field;              // where the file says so: sources.orders.columns.amount
  FilePlace place;
};

// Of its columns, those of lists and structs down to their last member, and of its `where`.
std::vector<ReadPath> ReadPathsOf(const SourceDef& source);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_READ_PATHS_H_
