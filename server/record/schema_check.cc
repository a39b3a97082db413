#include "server/record/schema_check.h"

#include <map>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "slices/reading/payload_schema.h"

namespace icepie::server {
namespace {

using icepie::worker::v1::ReadPath;
using SharedSchema = std::shared_ptr<const slices::PayloadSchema>;

constexpr size_t kViolationsMax = 50;

// Each stream's schema is made once; null: it has none.
class Schemas {
 public:
  explicit Schemas(const Core& core) : core_(core) {}

  SharedSchema Of(const std::string& stream) {
    const auto [schema, first] = known_.try_emplace(stream);
    const auto info = first ? core_.GetStream(stream) : absl::NotFoundError("");
    if (info.ok() && info->schema != nullptr) {
      auto made = slices::PayloadSchema::Make(info->schema->descriptor_set, info->schema->message);
      if (made.ok()) schema->second = *std::move(made);
    }
    return schema->second;
  }

 private:
  const Core& core_;
  std::map<std::string, SharedSchema> known_;
};

absl::Status Error(const ReadPath& first, const std::string& file_name,
                   std::vector<FieldViolation> violations, size_t count) {
  ErrorDetail detail;
  detail.reason = "DEFINITION_INVALID";
  detail.metadata = {{"file", file_name},
                     {"field", first.field()},
                     {"line", absl::StrCat(first.line())},
                     {"column", absl::StrCat(first.column())}};
  std::string message = violations.front().description;
  if (count > 1) absl::StrAppend(&message, " (and ", count - 1, " more)");
  detail.violations = std::move(violations);
  return MakeError(absl::StatusCode::kInvalidArgument, message, detail);
}

}  // namespace

absl::Status CheckReadPaths(const Core& core, const icepie::worker::v1::PlanDomainResponse& plan,
                            const std::string& file_name) {
  Schemas schemas(core);
  const ReadPath* first = nullptr;
  std::vector<FieldViolation> violations;
  size_t count = 0;
  for (const ReadPath& path : plan.paths()) {
    const SharedSchema schema = schemas.Of(path.stream());
    if (schema == nullptr) continue;
    const absl::Status found = schema->CheckPath({path.path().begin(), path.path().end()});
    if (found.ok()) continue;
    if (first == nullptr) first = &path;
    if (++count > kViolationsMax) continue;
    violations.push_back(
        {path.field(), absl::StrCat(file_name, ":", path.line(), ":", path.column(), ": ",
                                    path.field(), ": ", found.message())});
  }
  if (first == nullptr) return absl::OkStatus();
  return Error(*first, file_name, std::move(violations), count);
}

}  // namespace icepie::server
