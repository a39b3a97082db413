// What the daemon must not forget: domain files, desired states, generations and operations, kept
// in the core's catalog as icepie.catalog.v1 messages.
//
//   domain/payments                       DomainEntry
//   revision/payments/000000012           RevisionEntry
//   slice/payments/volume_by_chain        SliceEntry
//   desired/payments/volume_by_chain      DesiredState, of a slice whose entry is damaged
//   operation/000000071                   OperationEntry
//
// A deleted domain keeps all of it until it is purged; only FindDeleted and DeletedDomains show it.
#ifndef ICEPIE_SERVER_DOMAIN_CATALOG_H_
#define ICEPIE_SERVER_DOMAIN_CATALOG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/core.h"
#include "icepie/catalog/v1/catalog.pb.h"
#include "server/domain/catalog_copy.h"
#include "server/domain/intent_file.h"

namespace icepie::server {

// A slice whose entry could not be used: HELD until it is applied again.
struct DamagedSlice {
  std::string why;
  // What is wanted of it, as far as it is known; applying it again goes on with that.
  icepie::v1::DesiredState desired;
};

// One domain with everything that belongs to it.
struct CatalogDomain {
  icepie::catalog::v1::DomainEntry entry;
  // The files that were applied, by revision: the newest, and those that a generation refers to.
  std::map<int64_t, icepie::catalog::v1::RevisionEntry> revisions;
  std::map<std::string, icepie::catalog::v1::SliceEntry> slices;
  std::map<std::string, DamagedSlice> damaged_slices;
  // Why the whole domain is HELD; empty when it is not.
  std::string held;
  absl::Time load_time;  // when such damage was found
};

// The generation's entry, or null.
const icepie::catalog::v1::GenerationEntry* FindGeneration(
    const icepie::catalog::v1::SliceEntry& slice, int64_t number);
icepie::catalog::v1::GenerationEntry* FindGeneration(icepie::catalog::v1::SliceEntry& slice,
                                                     int64_t number);

// Why the daemon keeps the slice out of its live worker; null when it does not.
const icepie::catalog::v1::Suspension* SuspensionInForce(
    const icepie::catalog::v1::SliceEntry& slice);

// ABORTED/ETAG_MISMATCH: somebody else's change came first, as `what` says.
absl::Status ChangedMeanwhile(const std::string& what);

// Whether a change that was refused so may be taken later as it is: the core is read-only or full,
// or had no room for it just then.
bool IsPassing(const absl::Status& refusal);

// Threads: any. Readers get immutable copies; changes run one at a time.
// Errors: those of Core::ChangeCatalog. A change that fails changes nothing.
class Catalog {
 public:
  using Operation = icepie::catalog::v1::OperationEntry;

  // The file `intents` takes freezes and thaws while the core accepts no change. The directory
  // `copies` has what is needed of each domain where the core's log is damaged; "": none is kept.
  Catalog(Core& core, std::string intents, std::string copies = "");

  // Reads everything, and never fails for a damaged entry: a slice's holds it, a domain's counts as
  // lost. What the log has lost is as its copy says, and a core that takes changes is told; so is,
  // where not all of the log can be read, a domain whose copy is as new. Without such a copy it is
  // held.
  absl::Status Load();
  // Whether Load() has read all that the core has ever been told.
  bool complete() const { return complete_; }

  std::vector<std::string> DomainNames() const;
  // Null when there is none.
  std::shared_ptr<const CatalogDomain> Find(absl::string_view domain) const;
  std::vector<std::shared_ptr<const CatalogDomain>> Domains() const;
  std::shared_ptr<const CatalogDomain> FindDeleted(absl::string_view domain) const;
  std::vector<std::shared_ptr<const CatalogDomain>> DeletedDomains() const;

  // Lets `edit` change a copy of the domain (an empty one when it is new) and of the operations
  // that it adds to `operations`, writes the difference in one synced batch, and only then shows it
  // to readers. An error of `edit` changes nothing. The domain's epoch grows. Deleted ones, too,
  // are changed.
  using Edit =
      std::function<absl::Status(CatalogDomain& domain, std::vector<Operation>& operations)>;
  absl::Status Change(const std::string& domain, const Edit& edit);
  // Removes the domain with everything that belongs to it, also what is damaged.
  absl::Status Remove(const std::string& domain);

  // Change of the desired states of some of a domain's slices, also of damaged ones, in one step,
  // which must also work while the core accepts none: they are then kept in intent files, which the
  // next start reads. `after` says what becomes of each, of the entry as no other change can alter
  // it meanwhile; of a damaged one that has its desired state alone. When all stay as they are,
  // nothing is written. ABORTED when a slice was deleted meanwhile. `on_taken` is called when it
  // has not failed, before any other change.
  using DesiredEdit =
      std::function<icepie::v1::DesiredState(const icepie::catalog::v1::SliceEntry& slice)>;
  absl::Status ChangeDesired(const std::string& domain, const std::vector<std::string>& slices,
                             const DesiredEdit& after, const std::function<void()>& on_taken = {});

  std::optional<Operation> FindOperation(int64_t number) const;
  std::vector<Operation> Operations() const;  // newest first: the newest 200, and all not done
  // A number that no operation has had.
  int64_t NextOperationNumber();
  // The least number that an operation from now on can get.
  int64_t FirstOperationFromNow() const;

 private:
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  using Changes = std::vector<Core::CatalogChange>;

  absl::StatusOr<Pairs> Scan(absl::string_view prefix);
  absl::StatusOr<std::map<std::string, std::string>> ReadPairs();
  void ReadCopies(std::map<std::string, std::string>& pairs);
  bool Restore(const std::map<std::string, std::string>& log,
               const std::map<std::string, std::string>& wanted);
  void RefreshCopies();
  void WriteCopy(const CatalogDomain& domain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  void LoadDomain(const std::string& name, const std::string& bytes);
  void LoadRevision(const std::string& key, const std::string& bytes);
  void LoadSlice(const std::string& key, const std::string& bytes);
  void LoadDesired(const std::string& key, const std::string& bytes);
  void LoadOperation(const std::string& key, const std::string& bytes);
  void CheckDomain(CatalogDomain& domain);
  void LoadIntents();
  CatalogDomain& Loading(const std::string& name);
  std::shared_ptr<const CatalogDomain> FindAny(absl::string_view domain) const;
  Changes Difference(const CatalogDomain& domain, const std::vector<Operation>& operations) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  std::vector<int64_t> OldOperations() const;
  void Show(const std::string& name, CatalogDomain domain,
            const std::vector<Operation>& operations);
  using DesiredStates = std::map<std::string, icepie::v1::DesiredState>;  // by slice
  absl::Status ChangeLocked(const std::string& domain, const Edit& edit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  absl::Status StoreDesired(const std::string& domain, const DesiredStates& desired)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  absl::Status KeepIntents(const std::string& domain, const DesiredStates& desired)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);
  void DropIntents(const std::string& domain) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);

  Core& core_;
  Mutex change_mutex_;  // held while a change is written; taken before mutex_
  IntentFile intents_ ABSL_GUARDED_BY(change_mutex_);
  const CatalogCopies copies_;
  // All of these since Load().
  bool complete_ = true;
  bool domains_readable_ = true;       // each of them, in the log
  std::set<std::string> from_copies_;  // these domains are as their copies say
  std::map<std::string, std::string> persisted_ ABSL_GUARDED_BY(change_mutex_);
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const CatalogDomain>> domains_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, Operation> operations_ ABSL_GUARDED_BY(mutex_);
  int64_t last_operation_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_CATALOG_H_
