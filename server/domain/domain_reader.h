// Answers about domains, slices and the whole server. They never fail because a worker is down:
// they are made of the catalog and the last reports.
#ifndef ICEPIE_SERVER_DOMAIN_DOMAIN_READER_H_
#define ICEPIE_SERVER_DOMAIN_DOMAIN_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/core.h"
#include "icepie/v1/admin.pb.h"
#include "icepie/v1/slices.pb.h"
#include "server/domain/catalog.h"
#include "server/domain/slice_facts.h"
#include "server/domain/slice_memory.h"
#include "server/record/stream_ends.h"
#include "server/supervisor/supervisor.h"

namespace icepie::server {

// Where this daemon is; part of its status.
struct ServerIdentity {
  std::string version;
  std::string data_directory;
  std::string grpc_address;
  std::string http_address;
  absl::Time start_time;
};

struct SliceName {
  std::string domain;
  std::string slice;
};

// "payments.volume_by_chain". INVALID_ARGUMENT/PARAMETER_INVALID for any other form.
absl::StatusOr<SliceName> ParseSliceName(const std::string& name);

// A domain that is held, or a slice that is damaged, cannot be changed otherwise than by applying.
absl::Status HeldError(const std::string& name, const std::string& why);

// Threads: any.
// Errors: NOT_FOUND/DOMAIN_NOT_FOUND and SLICE_NOT_FOUND, naming what there is.
class DomainReader {
 public:
  DomainReader(Core& core, Catalog& catalog, Supervisor& supervisor, SliceMemory& memory,
               StreamEnds& ends)
      : core_(core), catalog_(catalog), supervisor_(supervisor), memory_(memory), ends_(ends) {}

  absl::StatusOr<std::shared_ptr<const CatalogDomain>> Find(const std::string& domain) const;
  // Says that the domain was deleted and how it is brought back: DOMAIN_NOT_FOUND for NOT_FOUND,
  // else DOMAIN_DELETED.
  static absl::Status DeletedError(const CatalogDomain& domain, absl::StatusCode code);
  // Without the file and the workers.
  static icepie::v1::Domain Summary(const CatalogDomain& domain);
  // The slice's entry in `domain`.
  absl::StatusOr<const icepie::catalog::v1::SliceEntry*> FindSlice(const CatalogDomain& domain,
                                                                   const std::string& slice) const;

  // Of a revision (0: the current one) that is still kept: NOT_FOUND/REVISION_NOT_FOUND.
  absl::StatusOr<icepie::v1::Domain> GetDomain(const std::string& name, int64_t revision = 0) const;
  absl::StatusOr<icepie::v1::ListDomainRevisionsResponse> ListRevisions(
      const std::string& name) const;
  absl::StatusOr<icepie::v1::ListGenerationsResponse> ListGenerations(
      const std::string& name) const;
  // With `show_deleted` also those that can be brought back.
  icepie::v1::ListDomainsResponse ListDomains(bool show_deleted) const;
  absl::StatusOr<icepie::v1::Slice> GetSlice(const std::string& name) const;
  // One that is being deleted is NOT_FOUND: nothing can be done with it any more.
  absl::StatusOr<icepie::v1::Slice> GetSliceToChange(const std::string& name) const;
  // Of one domain or (empty) of all, by name. Those of a deleted domain are there, DELETING, until
  // its workers have ended, and again while its files are being removed.
  absl::StatusOr<icepie::v1::ListSlicesResponse> ListSlices(const std::string& domain) const;
  // Of one domain, in no order, without reading a record: may be called where nothing may wait for
  // the disk. How long records wait of a slice that stands still is then not as exact.
  absl::StatusOr<icepie::v1::ListSlicesResponse> GlanceAtSlices(const std::string& domain) const;
  // `with_domains`: also each domain's limits.
  icepie::v1::ServerStatus GetServerStatus(const ServerIdentity& identity,
                                           bool with_domains = false) const;

  // All that is known about the domain now, without reading a record; `domain` must outlive it.
  DomainFacts FactsOf(const CatalogDomain& domain) const;

 private:
  // And what it takes a look into the core to know.
  DomainFacts AllFactsOf(const CatalogDomain& domain) const;
  icepie::v1::Slice Describe(const DomainFacts& facts,
                             const icepie::catalog::v1::SliceEntry& slice) const;
  void AddDomains(icepie::v1::ServerStatus& out) const;
  std::vector<std::string> Leaving(const DomainFacts& facts) const;
  bool IsBeingDeleted(const CatalogDomain& domain) const;
  // It, or its deleted namesake whose slices are still DELETING. NOT_FOUND.
  absl::StatusOr<std::shared_ptr<const CatalogDomain>> FindListed(const std::string& domain) const;
  std::vector<std::shared_ptr<const CatalogDomain>> ListedDomains() const;
  void AddSlices(const DomainFacts& facts,
                 google::protobuf::RepeatedPtrField<icepie::v1::Slice>* slices) const;

  Core& core_;
  Catalog& catalog_;
  Supervisor& supervisor_;
  SliceMemory& memory_;
  StreamEnds& ends_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_DOMAIN_READER_H_
