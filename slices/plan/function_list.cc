#include "slices/plan/function_list.h"

#include <map>

namespace icepie::slices {
namespace {

constexpr struct {
  const char* name;
  FunctionKind kind;
  FunctionUse use;
} kAllowed[] = {
#define ICEPIE_FUNCTION(name, kind, use) {name, FunctionKind::k##kind, FunctionUse::k##use},
#define ICEPIE_LEFT_OUT(name, reason)
#include "slices/plan/allowed_functions.inc"
#undef ICEPIE_FUNCTION
#undef ICEPIE_LEFT_OUT
};

constexpr struct {
  const char* name;
  const char* reason;
} kLeftOut[] = {
#define ICEPIE_FUNCTION(name, kind, use)
#define ICEPIE_LEFT_OUT(name, reason) {name, reason},
#include "slices/plan/allowed_functions.inc"
#undef ICEPIE_FUNCTION
#undef ICEPIE_LEFT_OUT
};

using FunctionMap = std::map<std::string, AllowedFunction, std::less<>>;

std::vector<AllowedFunction>& AllowedForTests() {
  static auto* const kFunctions = new std::vector<AllowedFunction>();
  return *kFunctions;
}

FunctionMap Collect(bool table_functions) {
  FunctionMap functions;
  for (const auto& entry : kAllowed) {
    if ((entry.kind == FunctionKind::kTable) != table_functions) continue;
    functions.emplace(entry.name, AllowedFunction{entry.name, entry.kind, entry.use});
  }
  for (const AllowedFunction& function : AllowedForTests()) {
    functions.emplace(function.name, function);
  }
  return functions;
}

const AllowedFunction* Find(const FunctionMap& functions, absl::string_view name) {
  const auto it = functions.find(std::string(name));
  return it == functions.end() ? nullptr : &it->second;
}

}  // namespace

const AllowedFunction* FindFunction(absl::string_view name) {
  static const auto* const kFunctions = new FunctionMap(Collect(/*table_functions=*/false));
  return Find(*kFunctions, name);
}

const AllowedFunction* FindTableFunction(absl::string_view name) {
  static const auto* const kFunctions = new FunctionMap(Collect(/*table_functions=*/true));
  return Find(*kFunctions, name);
}

void AllowForTests(const AllowedFunction& function) { AllowedForTests().push_back(function); }

std::string WhyLeftOut(absl::string_view name) {
  for (const auto& entry : kLeftOut) {
    if (name == entry.name) return entry.reason;
  }
  return "";
}

std::vector<std::string> AllowedFunctionNames() {
  std::vector<std::string> names;
  for (const auto& entry : kAllowed) names.emplace_back(entry.name);
  return names;
}

}  // namespace icepie::slices
