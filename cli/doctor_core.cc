// Checks of the core that no daemon has open: what the log says of itself beside the high-water
// mark, the segment files, the signing key, and the daemon's own entries in the catalog.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/doctor_checks.h"
#include "cli/format.h"
#include "core/append/catalog_changes.h"
#include "core/append/stream_registry.h"
#include "core/base/directory.h"
#include "core/base/status.h"
#include "core/log/catalog_keys.h"
#include "core/log/high_water_mark.h"
#include "core/log/log_store.h"
#include "core/proof/signing_files.h"
#include "core/segment/segment_set.h"
#include "icepie/catalog/v1/catalog.pb.h"

namespace icepie::cli {
namespace {

using Severity = DoctorFinding::Severity;
namespace fs = std::filesystem;
namespace cv1 = icepie::catalog::v1;

constexpr const char* kRestore =
    "start the daemon: it serves answers read-only and names the way out (restore a backup, or "
    "--accept-core-loss)";

// The log under other names: RocksDB writes a log of its own wherever it opens one, and this
// program writes nothing there.
class LinkedLog {
 public:
  explicit LinkedLog(const std::string& log) {
    std::error_code error;
    std::string pattern = (fs::temp_directory_path(error) / "icepie-doctor-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) return;
    path_ = pattern;
    for (const auto& file : DirectoryEntries(log, error_)) {
      const std::string name = file.path().filename().string();
      if (absl::StartsWith(name, "LOG") || name == "LOCK") continue;
      fs::create_symlink(fs::absolute(file.path()), fs::path(path_) / name, error);
    }
  }
  ~LinkedLog() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  LinkedLog(const LinkedLog&) = delete;
  LinkedLog& operator=(const LinkedLog&) = delete;

  const std::string& path() const { return path_; }  // empty: it could not be made
  // Why the log's directory cannot be listed.
  const std::error_code& error() const { return error_; }

 private:
  std::error_code error_;
  std::string path_;
};

// The records that the log and its segments hold; an error when they do not fit together.
absl::StatusOr<int64_t> HeadOf(const LogStore& store, const std::string& core) {
  ICEPIE_ASSIGN_OR_RETURN(const auto segments, SegmentSet::Load(store, core + "/segments"));
  ICEPIE_ASSIGN_OR_RETURN(const auto streams, StreamRegistry::Load(store));
  ICEPIE_RETURN_IF_ERROR(segments->CheckFiles());
  for (const auto& segment : segments->List()) {
    for (const auto& [id, end_offset] : segment->stream_ends) streams->Extend(id, end_offset);
  }
  ICEPIE_ASSIGN_OR_RETURN(const std::optional<BlockPlace> last, store.LastPlace());
  const int64_t head = last ? last->end_position() : segments->sealed_position();
  if (streams->TotalRecords() == head) return head;
  return absl::DataLossError(absl::StrCat("the streams have ", streams->TotalRecords(),
                                          " records together, the index has ", head));
}

void CheckMark(const std::string& core, const LogStore& store, int64_t head, DoctorFindings& out) {
  const auto mark = HighWaterMark::Read(core + "/high_water_mark");
  const auto changes = CountCatalogChanges(store);
  if (!mark.ok()) {
    const bool is_new = head == 0 && absl::IsNotFound(mark.status());
    out.push_back({is_new ? Severity::kOk : Severity::kProblem, "mark",
                   absl::StrCat("the high-water mark: ", std::string(mark.status().message())),
                   is_new ? "" : kRestore});
  } else if (mark->position > head) {
    out.push_back({Severity::kProblem, "mark",
                   absl::StrCat("the core has ", FormatCount(head), " records, but ",
                                FormatCount(mark->position), " were acknowledged"),
                   kRestore});
  } else if (changes.value_or(0) < mark->changes) {
    out.push_back({Severity::kProblem, "mark",
                   absl::StrCat("the core has ", FormatCount(changes.value_or(0)),
                                " changes of its catalog (streams, domains, slices), but ",
                                FormatCount(mark->changes), " were acknowledged"),
                   kRestore});
  } else {
    out.push_back(
        {Severity::kOk, "mark",
         absl::StrCat("all ", FormatCount(mark->position), " acknowledged records are there"), ""});
  }
}

bool Parses(absl::string_view kind, const std::string& bytes) {
  if (kind == "domain") return cv1::DomainEntry().ParseFromString(bytes);
  if (kind == "revision") return cv1::RevisionEntry().ParseFromString(bytes);
  if (kind == "slice") return cv1::SliceEntry().ParseFromString(bytes);
  return kind != "operation" || cv1::OperationEntry().ParseFromString(bytes);
}

void CheckCatalog(const LogStore& store, DoctorFindings& out) {
  const auto pairs = store.ScanCatalog(kDaemonKeyPrefix);
  if (!pairs.ok()) {
    out.push_back({Severity::kProblem, "catalog", std::string(pairs.status().message()), kRestore});
    return;
  }
  int64_t damaged = 0;
  for (const auto& [key, bytes] : *pairs) {
    const std::string name = key.substr(kDaemonKeyPrefix.size());
    const std::string kind = name.substr(0, name.find('/'));
    if (Parses(kind, bytes)) continue;
    ++damaged;
    out.push_back({Severity::kProblem, "catalog", absl::StrCat("the entry ", name, " is damaged"),
                   "the daemon starts and holds what it is of; apply the domain's file again"});
  }
  if (damaged > 0) return;
  out.push_back(
      {Severity::kOk, "catalog", FormatCounted(static_cast<int64_t>(pairs->size()), "key"), ""});
}

}  // namespace

void CheckCore(const std::string& data_directory, DoctorFindings& out) {
  const std::string core = data_directory + "/core";
  const std::string log = core + "/rocksdb";
  if (!LogStore::Exists(log)) {
    std::error_code error;
    const bool was_there = fs::exists(core + "/high_water_mark", error) ||
                           LastEndOfFiles(core + "/segments").value_or(1) > 0;
    out.push_back({was_there ? Severity::kProblem : Severity::kNote, "core",
                   absl::StrCat(core, was_there ? " has lost its log" : " holds no core yet"),
                   was_there ? kRestore : ""});
    return;
  }
  const LinkedLog linked(log);
  if (linked.path().empty()) {
    out.push_back({Severity::kWarning, "core", "not looked at: no temporary directory can be made",
                   "set TMPDIR to a directory that can be written"});
    return;
  }
  if (linked.error()) {
    out.push_back({Severity::kProblem, "core",
                   absl::StrCat(log, " cannot be listed: ", linked.error().message()), kRestore});
    return;
  }
  const auto store = LogStore::Open({linked.path(), LogStore::Mode::kReadOnly, nullptr});
  const auto head = store.ok() ? HeadOf(**store, core) : store.status();
  if (!head.ok()) {
    out.push_back({Severity::kProblem, "core",
                   absl::StrCat("the log is damaged: ", std::string(head.status().message())),
                   kRestore});
  } else {
    out.push_back({Severity::kOk, "core",
                   absl::StrCat(FormatCount(*head), " records; icepie verify --data-dir ",
                                data_directory, " reads and hashes them all"),
                   ""});
    CheckMark(core, **store, *head, out);
  }
  if (store.ok()) CheckCatalog(**store, out);
  const auto signing = LoadSigning(core, "", /*may_create=*/false);
  const std::string damage =
      signing.ok() ? signing->damage : std::string(signing.status().message());
  if (damage.empty() || (head.ok() && *head == 0)) return;
  out.push_back({Severity::kProblem, "signing", damage,
                 "records are taken and answers given, but no checkpoint is signed until then"});
}

}  // namespace icepie::cli
