// Control groups (cgroup v2) for the workers: each domain has a group of its own, so that no domain
// takes the processor from the others, and what its workers take together has a cap. Below the
// group that is delegated to the daemon:
//
//   daemon/               icepied itself                         cpu.weight 1000
//   planners/             planners                               cpu.weight 100
//   domain-NAME/          one domain                             cpu.weight 100, memory.max
//   domain-NAME/answers/  its live and standby workers           cpu.weight 100
//   domain-NAME/builds/   its build workers                      cpu.weight 10
//
// Controllers that are not offered there, or are refused, are left out: each is of use without the
// other. Processes that others put there, as `docker exec` does, are no harm: a group that cannot
// be removed for one is tried again. A domain's memory.max is six times its
// memory limit and 1 GiB: what the engines of five workers may use (live, standby, its successor
// in a roll, and two builds), and what they take beside. It only rises while the daemon runs: a
// worker that has been there for longer goes by the limit that it was started with. memory.high is
// left alone: a worker that is slowed down has nothing to give back, and would be taken for one
// that hangs.
#ifndef ICEPIE_SERVER_SUPERVISOR_DOMAIN_GROUPS_H_
#define ICEPIE_SERVER_SUPERVISOR_DOMAIN_GROUPS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"

namespace icepie::server {

// Threads: one at a time; the supervisor's loop, once there is one.
// Errors: a group that cannot be made is logged, and its workers stay where the daemon is.
class DomainGroups {
 public:
  // Moves the daemon into its group below the one that it is in, or finds it there already
  // (DelegateSubgroup=daemon), and removes what an earlier daemon left. FAILED_PRECONDITION when
  // none is delegated to it, and what is missing: everything is then as before. `root` has proc/
  // and sys/, "" for those of the machine.
  static absl::StatusOr<std::shared_ptr<DomainGroups>> Enter(const std::string& root = "");
  // `base` is a group that holds no process, and these controllers are enabled for those below it.
  DomainGroups(std::string base, std::set<std::string> controllers);
  // Removes those that are empty.
  ~DomainGroups();
  DomainGroups(const DomainGroups&) = delete;
  DomainGroups& operator=(const DomainGroups&) = delete;

  // The group for a worker that is about to start; empty: it has none.
  std::string ForWorker(const std::string& domain, const std::string& role, int64_t memory_bytes);
  std::string ForPlanner();
  // Where the daemon is.
  std::string OfDaemon() const;
  // The domain is gone. False: its last processes still hold its group, as they do for a moment
  // after they were reaped.
  bool Remove(const std::string& domain);
  // Of earlier daemons, and of domains that are gone. False: some still hold processes.
  bool RemoveLeft();
  // Whether the kernel has ended one of the domain's workers for its group's memory since it was
  // last said so, and the cap in words; empty: it has not. To be asked at each such death.
  std::string TakeMemoryKill(const std::string& domain);

  // "cpu, memory"
  std::string controllers() const;

 private:
  // Of a group since it was made.
  struct MemoryEvents {
    int64_t kills = 0;     // of its processes, for whatever memory: also the machine's
    int64_t at_limit = 0;  // how often one of its threads found no room within its own limit
  };
  struct Group {
    int64_t memory_max = 0;  // as written
    MemoryEvents seen;       // at the last death
    int64_t untold = 0;      // kills for its own memory
  };

  bool Has(const std::string& controller) const { return controllers_.count(controller) > 0; }
  static MemoryEvents EventsOf(const std::string& group);
  std::string PathOf(const std::string& domain) const;
  bool MakeDomain(const std::string& domain);
  void SetWeight(const std::string& group, int weight) const;

  const std::string base_;
  const std::set<std::string> controllers_;
  std::map<std::string, Group> groups_;
  std::set<std::string> left_;  // to be removed
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_SUPERVISOR_DOMAIN_GROUPS_H_
