// What `icepie doctor` looks at. No check writes anything or needs a daemon; those that read the
// core's log leave it alone while a daemon has it open, which is then asked how it is.
#ifndef ICEPIE_CLI_DOCTOR_CHECKS_H_
#define ICEPIE_CLI_DOCTOR_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "icepie/config/v1/settings.pb.h"

namespace icepie::cli {

struct DoctorFinding {
  enum class Severity {
    kOk,
    kNote,     // worth knowing
    kWarning,  // works, but not as it should
    kProblem,  // a daemon does not start, or data is damaged
  };
  Severity severity = Severity::kOk;
  std::string check;   // in a word: "disk"
  std::string what;    // names the thing and the value
  std::string remedy;  // empty: nothing to do
};

using DoctorFindings = std::vector<DoctorFinding>;

// "PROBLEM".
const char* SeverityName(DoctorFinding::Severity severity);

// Who holds a data directory's lock: the process, 0 for nobody.
int64_t LockOwner(const std::string& data_directory);

// Where the daemon that runs on a data directory listens, as it says itself (`icepied.json`); what
// it does not say stays.
void ReadAnnouncement(const std::string& data_directory, icepie::config::v1::Settings& settings);

// The machine (doctor_host.cc).
void CheckKernel(bool require_sandbox, DoctorFindings& out);
void CheckLimits(const icepie::config::v1::Settings& settings, DoctorFindings& out);
void CheckVersions(const std::string& version, DoctorFindings& out);
void CheckDisk(const icepie::config::v1::Settings& settings, DoctorFindings& out);
// Whether the addresses are free, or (with a daemon) accept connections.
void CheckPorts(const icepie::config::v1::Settings& settings, int64_t daemon, DoctorFindings& out);

// The directory (doctor_data.cc). False when there is nothing more to look at.
bool CheckDirectory(const std::string& data_directory, DoctorFindings& out);
void CheckLock(const std::string& data_directory, int64_t daemon, DoctorFindings& out);
void CheckSnapshots(const std::string& data_directory, DoctorFindings& out);

// Log, mark, segments and the daemon's catalog (doctor_core.cc).
void CheckCore(const std::string& data_directory, DoctorFindings& out);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_DOCTOR_CHECKS_H_
