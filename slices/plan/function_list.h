// Which functions users' SQL may call: the list is slices/plan/allowed_functions.inc.
#ifndef ICEPIE_SLICES_PLAN_FUNCTION_LIST_H_
#define ICEPIE_SLICES_PLAN_FUNCTION_LIST_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace icepie::slices {

enum class FunctionKind { kScalar, kAggregate, kWindow, kUnnest, kTable };
enum class FunctionUse { kStable, kOrdered, kClock, kVolatile, kApproximate };

struct AllowedFunction {
  std::string name;
  FunctionKind kind;
  FunctionUse use;
};

// The function of that name, lower case; nullptr when it is not allowed. Table functions are apart:
// `range` is one of each.
const AllowedFunction* FindFunction(absl::string_view name);
const AllowedFunction* FindTableFunction(absl::string_view name);

// For tests, which need what ends a process: calls of it pass from now on. Before the first
// look-up.
void AllowForTests(const AllowedFunction& function);

// Why a function was left out; "" when the list does not know it.
std::string WhyLeftOut(absl::string_view name);

// All names that users may call.
std::vector<std::string> AllowedFunctionNames();

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_PLAN_FUNCTION_LIST_H_
