// Names in a SELECT of which a part of the FROM is planned apart (parts_plan.h).
#ifndef ICEPIE_SLICES_PLAN_PART_REFERENCES_H_
#define ICEPIE_SLICES_PLAN_PART_REFERENCES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "slices/plan/join_shape.h"

namespace icepie::slices {

// The members of a SELECT node that name columns, beside FROM. Names in the last one are those of
// its outputs first.
inline constexpr const char* kLevelExpressions[] = {
    "select_list", "where_clause", "group_expressions", "having", "qualify", "modifiers"};

// All of them; null when there are none.
Json Conjunction(Json conjuncts);

// Writes references to some relations of a FROM as references to the part that takes their place.
class PartReferences {
 public:
  // Those of `relations` that are below `taken_end` are the part's, whose relation is `part`.
  PartReferences(const std::vector<JoinRelation>& relations, size_t taken_end, std::string part)
      : relations_(relations), taken_end_(taken_end), part_(std::move(part)) {}

  // In place. Names that stand for an output of `outputs`, a SELECT node, are left; null: none
  // does. FAILED_PRECONDITION for a name that cannot be followed.
  absl::Status Rewrite(Json& node, const Json* outputs);
  // All that a SELECT has beside FROM. Its columns keep their names.
  absl::Status RewriteLevel(Json& level);
  // Whether all columns in the tree are of relations that are taken.
  bool AreTaken(const Json& node) const;

  // What the part calls its column number `index`.
  static std::string Column(size_t index);
  // What it calls `column`, which it has from now on.
  std::string NameOf(const JoinColumn& column);
  // The columns that it has to have, by their number.
  const std::vector<JoinColumn>& taken() const { return taken_; }

 private:
  bool IsColumn(const std::string& name) const;

  const std::vector<JoinRelation>& relations_;
  const size_t taken_end_;
  const std::string part_;
  std::vector<JoinColumn> taken_;
};

// Writes USING in the joins of `level` as ON, and the columns that it joins as those of the first
// relation that has them. `relations` are those of its FROM. FAILED_PRECONDITION says what stands
// in the way.
absl::Status UsingToOn(DuckConnection& connection, const std::vector<JoinRelation>& relations,
                       Json& level);

// Takes those columns off `table`, a subquery in FROM of the SELECT node `reader`, that nothing
// there names. DuckDB would not compute them either; and what is not computed cannot fail, and be
// held against records that the SQL takes. Where that is hard to tell, they stay.
void DropUnread(const Json& reader, Json& table);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_PART_REFERENCES_H_
