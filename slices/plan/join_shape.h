// What a join reads, and the key that all its relations are joined by.
#ifndef ICEPIE_SLICES_PLAN_JOIN_SHAPE_H_
#define ICEPIE_SLICES_PLAN_JOIN_SHAPE_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "slices/plan/strategy_plan.h"

namespace icepie::slices {

struct JoinRelation {
  std::string name;                   // of the source or the slice
  const SourceDef* source = nullptr;  // null: a slice
  std::string alias;                  // what the SQL calls it
  std::vector<std::string> columns;   // that are read, with the hidden ones that are named
  // What is joined by, over one of its rows: as a tree and as SQL.
  Json key;
  std::string key_sql;
  std::string key_type;
  bool outer = false;   // its columns may be NULL though it has the key
  bool visible = true;  // its columns can be named outside of its ON (not of SEMI and ANTI joins)
  // In any case.
  bool HasColumn(const std::string& column) const;
  bool IsStream() const { return source != nullptr && source->latest_by.empty(); }
  bool IsDimension() const { return source != nullptr && !source->latest_by.empty(); }
};

struct JoinShape {
  std::vector<JoinRelation> relations;  // in the order of FROM
};

struct JoinColumn {
  size_t relation = 0;
  std::string name;  // in lower case
};

// The sources and slices that `from` reads, without their keys; `node` names their columns.
// UNIMPLEMENTED when it is no join; FAILED_PRECONDITION says what stands in the way.
absl::StatusOr<std::vector<JoinRelation>> FindRelations(const PlanRequest& request,
                                                        const Json& from, const Json& node);

// Whose column a reference is; nullopt: an alias, a part of a column, or of several relations.
std::optional<JoinColumn> FindColumn(const std::vector<JoinRelation>& relations,
                                     const Json& reference);

// An expression over one row of a relation, its columns without the relation's name.
struct JoinSide {
  size_t relation = 0;
  Json expression;
};

// `expression` as one of columns of a single relation, with functions that never fail; nullopt: it
// is none.
std::optional<JoinSide> FindSide(const std::vector<JoinRelation>& relations,
                                 const Json& expression);

// The shape of `node`, whose joins have no USING any more. As FindRelations.
absl::StatusOr<JoinShape> FindJoinShape(const PlanRequest& request, const Json& node);

// The tables of the join in `from`, in the order of JoinShape::relations.
std::vector<Json*> TablesOf(Json& from);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_JOIN_SHAPE_H_
