// What a join of sources reads, and the key that all its relations are joined by.
#ifndef ICEPIE_SLICES_JOIN_SHAPE_H_
#define ICEPIE_SLICES_JOIN_SHAPE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/strategy_plan.h"

namespace icepie::slices {

struct JoinRelation {
  const SourceDef* source = nullptr;
  std::string alias;                 // what the SQL calls it
  std::vector<std::string> columns;  // that are read, with the hidden ones that are named
  std::string key;                   // one of them
  std::string key_type;
  bool outer = false;  // its columns may be NULL though it has the key
};

struct JoinShape {
  std::vector<JoinRelation> relations;  // in the order of FROM
};

// The shape of `node`. UNIMPLEMENTED when it reads no join; FAILED_PRECONDITION says what stands in
// the way.
absl::StatusOr<JoinShape> FindJoinShape(const PlanRequest& request, const Json& node);

// The tables of the join in `from`, in the order of JoinShape::relations.
std::vector<Json*> TablesOf(Json& from);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_JOIN_SHAPE_H_
