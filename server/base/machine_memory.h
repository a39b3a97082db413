// How much memory the daemon and its workers have.
#ifndef ICEPIE_SERVER_BASE_MACHINE_MEMORY_H_
#define ICEPIE_SERVER_BASE_MACHINE_MEMORY_H_

#include <cstdint>
#include <optional>
#include <string>

namespace icepie::server {

// The smallest limit of the cgroups (both versions) that this process is in; nullopt: none has one.
// `root` has proc/ and sys/, "" for those of the machine. A container may see its own cgroup as the
// root of all, or have a path that is not there for it: what is there counts.
std::optional<int64_t> CgroupMemoryLimit(const std::string& root = "");

// The machine's, or what a cgroup's limit leaves of it.
int64_t MemoryBytes();

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_MACHINE_MEMORY_H_
