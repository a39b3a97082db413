#include "core/append/catalog_changes.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/byte_order.h"
#include "core/log/catalog_keys.h"

namespace icepie {

absl::StatusOr<int64_t> CountCatalogChanges(const LogStore& store) {
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<std::string> count,
                          store.ReadCatalog(kChangeCountKey));
  if (!count) return 0;
  if (count->size() != sizeof(int64_t)) {
    return MakeError(absl::StatusCode::kDataLoss, "the count of catalog changes is damaged",
                     "RECORD_DAMAGED");
  }
  return GetLittleEndian<int64_t>(count->data());
}

absl::Status CatalogChanges::Make(absl::Span<const LogStore::CatalogChange> changes) {
  const MutexLock lock(mutex_);
  std::string count;
  PutLittleEndian(count, count_ + 1);
  std::vector<LogStore::CatalogChange> counted(changes.begin(), changes.end());
  counted.emplace_back(kChangeCountKey, std::move(count));
  ICEPIE_RETURN_IF_ERROR(parts_.store->ChangeCatalog(counted));
  ++count_;
  absl::Status marked = parts_.mark->WriteChanges(count_);
  if (marked.ok()) marked = parts_.mark->Sync();
  if (!marked.ok()) {
    parts_.guard->Trip(
        absl::StrCat("the high-water mark cannot be written (", marked.message(), ")"));
  }
  return absl::OkStatus();
}

}  // namespace icepie
