#include "slices/definition/definition.h"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/definition/column_type.h"
#include "slices/definition/definition_values.h"
#include "slices/definition/expectation_reading.h"
#include "slices/definition/nearest_name.h"
#include "slices/definition/sql_variables.h"
#include "slices/definition/yaml_tree.h"
#include "slices/reading/json_reading.h"

namespace icepie::slices {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr size_t kSlicesMax = 1000;
constexpr size_t kSourcesMax = 1000;
constexpr size_t kColumnsMax = 1000;
constexpr size_t kVariablesMax = 1000;
constexpr size_t kViolationsMax = 50;
constexpr int64_t kMemoryBytesMin = 32000000;
constexpr int64_t kDiskBytesMin = 1000000;
constexpr absl::Duration kKeepReplacedMax = absl::Hours(7 * 24);
constexpr absl::Duration kIdleMin = absl::Seconds(1);
constexpr absl::Duration kIdleMax = absl::Hours(720);
constexpr int64_t kResultRowsMax = 10000000;
constexpr int64_t kKeptRowsMax = 1000000000;
constexpr int64_t kBudgetMax = int64_t{1} << 40;
// Where the file names no budget: with QuarantineBudget's 1,000 records that is one percent, and no
// slow drip of bad records ever adds up to it.
constexpr int64_t kBudgetWindowDefault = 100'000;
constexpr int64_t kSnapshotsKeptMax = 10000;

// Reads one file; all that is wrong with it is collected on the way.
class DomainParser {
 public:
  DomainParser(absl::string_view yaml, absl::string_view file_name)
      : yaml_(yaml), file_name_(file_name) {}

  absl::StatusOr<DomainDef> Parse();

 private:
  // What a map's key is read with.
  using Reader = std::function<void(const YamlNode& value, const std::string& field)>;
  using Readers = std::vector<std::pair<std::string, Reader>>;

  void Add(FilePlace place, absl::string_view field, absl::string_view what);
  absl::Status Errors() const;

  // Reads the known keys of a map; unknown and repeated ones are errors. `what` names the thing.
  void ReadMap(const YamlNode& node, absl::string_view what, const std::string& field,
               const Readers& readers);
  // Calls `each` for the named entries of a map (sources, slices, columns).
  void ReadNamed(const YamlNode& node, absl::string_view what, const std::string& field,
                 size_t count_max,
                 const std::function<void(const YamlNode& name, const YamlNode& value,
                                          const std::string& field)>& each);
  bool IsRepeated(const YamlNode& map, size_t entry, absl::string_view what,
                  const std::string& field);

  std::string Text(const YamlNode& node, const std::string& field);
  bool Flag(const YamlNode& node, const std::string& field);
  int64_t Whole(const YamlNode& node, const std::string& field, int64_t min, int64_t max);
  std::vector<std::string> Names(const YamlNode& node, const std::string& field);
  template <typename T>
  T ValueOr(absl::StatusOr<T> value, const YamlNode& node, const std::string& field, T fallback);
  void Check(const absl::Status& status, const YamlNode& node, const std::string& field);
  // One of several words; the index of it, 0 when it is none.
  size_t Choice(const YamlNode& node, const std::string& field,
                const std::vector<std::string>& words);

  void ReadDomain(const YamlNode& root);
  void ReadOwner(const YamlNode& node, const std::string& field);
  void ReadLimits(const YamlNode& node, const std::string& field);
  absl::Duration ReadIdleAfter(const YamlNode& node, const std::string& field);
  void ReadVariable(const YamlNode& name, const YamlNode& value, const std::string& field);
  void ReadSource(const YamlNode& name, const YamlNode& value, const std::string& field);
  void ReadWhere(SourceDef& source, const YamlNode& node, const std::string& field);
  void ReadColumns(SourceDef& source, const YamlNode& node, const std::string& field);
  ColumnDef ReadColumn(const YamlNode& name, const YamlNode& value, const std::string& field);
  void ReadType(ColumnDef& column, const YamlNode& value, const std::string& field);
  void ReadFormat(ColumnDef& column, const YamlNode& node, const std::string& field);
  void CheckFormat(const ColumnDef& column, const YamlNode& node, const std::string& field);
  void CheckColumn(const ColumnDef& column, const YamlNode& value, const std::string& field);
  void CheckDefault(const ColumnDef& column, const YamlNode& value, const std::string& field);
  void CheckLatestBy(const SourceDef& source, const YamlNode& value, const std::string& field);
  void ReadSlice(const YamlNode& name, const YamlNode& value, const std::string& field);
  void ReadSql(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadRefresh(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadBudget(QuarantineBudget& budget, const YamlNode& node, const std::string& field);
  void ReadBadRecord(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadKeep(SnapshotSchedule& schedule, const YamlNode& node, const std::string& field);
  void ReadSnapshots(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadRetain(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadDiff(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadPromote(PromoteDef& promote, const YamlNode& node, const std::string& field);
  void ReadPromoteLimits(PromoteDef& promote, const YamlNode& node, const std::string& field);
  void ReadMaxStale(SliceDef& slice, const YamlNode& node, const std::string& field);
  void ReadOverlay(const YamlNode& node, const std::string& field);
  void ReadOverlaid(const YamlNode& name, const YamlNode& value, const std::string& field);
  void CheckNames();
  void CheckRefreshes();
  void PutInVariables();

  absl::string_view yaml_;
  std::string file_name_;
  DomainDef domain_;
  std::map<std::string, std::string> variables_;  // as SQL literals
  std::vector<FieldViolation> violations_;
  size_t violation_count_ = 0;
};

std::string Join(const std::string& field, absl::string_view key) {
  return field.empty() ? std::string(key) : absl::StrCat(field, ".", key);
}

std::string KindName(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return absl::StrCat("`", absl::string_view(node.text).substr(0, 80), "`");
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "";
}

// `DECIMAL(18` of an unquoted {amount: DECIMAL(18,2)}: YAML splits it at the comma.
bool IsSplitType(const YamlNode& value) {
  return value.is_scalar() && !value.quoted && absl::StrContains(value.text, "(") &&
         !absl::StrContains(value.text, ")");
}
bool IsRestOfSplitType(const YamlNode& name, const YamlNode& value) {
  return value.kind == YamlNode::Kind::kNull && absl::EndsWith(name.text, ")");
}

bool HasKey(const YamlNode& map, absl::string_view key) {
  return std::any_of(map.entries.begin(), map.entries.end(),
                     [&](const auto& entry) { return entry.key.text == key; });
}

const YamlNode& ValueOf(const YamlNode& map, absl::string_view key) {
  for (const auto& [name, value] : map.entries) {
    if (name.text == key) return value;
  }
  return map;
}

void DomainParser::Add(FilePlace place, absl::string_view field, absl::string_view what) {
  ++violation_count_;
  if (violations_.size() >= kViolationsMax) return;
  violations_.push_back({std::string(field),
                         absl::StrCat(file_name_, ":", place.line, ":", place.column, ": ", what)});
}

absl::Status DomainParser::Errors() const {
  if (violations_.empty()) return absl::OkStatus();
  ErrorDetail detail;
  detail.reason = "DEFINITION_INVALID";
  detail.violations = violations_;
  const FieldViolation& first = violations_.front();
  const std::string rest = first.description.substr(file_name_.size() + 1);
  detail.metadata = {{"file", file_name_},
                     {"field", first.field},
                     {"line", rest.substr(0, rest.find(':'))},
                     {"column", rest.substr(rest.find(':') + 1, rest.find(':', rest.find(':') + 1) -
                                                                    rest.find(':') - 1)}};
  std::string message = first.description;
  if (violation_count_ > 1) {
    absl::StrAppend(&message, " (and ", violation_count_ - 1, " more)");
  }
  return MakeError(absl::StatusCode::kInvalidArgument, message, detail);
}

bool DomainParser::IsRepeated(const YamlNode& map, size_t entry, absl::string_view what,
                              const std::string& field) {
  const YamlNode& key = map.entries[entry].key;
  for (size_t i = 0; i < entry; ++i) {
    const YamlNode& earlier = map.entries[i].key;
    if (!absl::EqualsIgnoreCase(earlier.text, key.text)) continue;
    Add(key.place, Join(field, key.text),
        absl::StrCat("`", key.text, "` is there twice in ", what, " (first in line ",
                     earlier.place.line, "): remove or rename one"));
    return true;
  }
  return false;
}

void DomainParser::ReadMap(const YamlNode& node, absl::string_view what, const std::string& field,
                           const Readers& readers) {
  std::vector<std::string> known;
  known.reserve(readers.size());
  for (const auto& [key, reader] : readers) known.push_back(key);
  if (!node.is_map()) {
    Add(node.place, field,
        absl::StrCat(what, " must be a map with ", absl::StrJoin(known, ", "), ", not ",
                     KindName(node)));
    return;
  }
  for (size_t i = 0; i < node.entries.size(); ++i) {
    const auto& [key, value] = node.entries[i];
    if (IsRepeated(node, i, what, field)) continue;
    const auto it = std::find(known.begin(), known.end(), key.text);
    if (!key.is_scalar() || it == known.end()) {
      Add(key.place, Join(field, key.text),
          absl::StrCat("unknown key ", key.is_scalar() ? KindName(key) : "", " in ", what,
                       SuggestName(key.text, known)));
      continue;
    }
    readers[it - known.begin()].second(value, Join(field, key.text));
  }
}

void DomainParser::ReadNamed(
    const YamlNode& node, absl::string_view what, const std::string& field, size_t count_max,
    const std::function<void(const YamlNode&, const YamlNode&, const std::string&)>& each) {
  if (!node.is_map()) {
    Add(node.place, field, absl::StrCat(what, " must be a map of names, not ", KindName(node)));
    return;
  }
  if (node.entries.size() > count_max) {
    Add(node.place, field,
        absl::StrCat(what, ": ", node.entries.size(), " entries, the limit is ", count_max));
    return;
  }
  for (size_t i = 0; i < node.entries.size(); ++i) {
    const auto& [key, value] = node.entries[i];
    if (i > 0 && IsSplitType(node.entries[i - 1].value) && IsRestOfSplitType(key, value)) continue;
    if (!key.is_scalar()) {
      Add(key.place, field, absl::StrCat("a name in ", what, " must be text"));
    } else if (!IsRepeated(node, i, what, field)) {
      each(key, value, Join(field, key.text));
    }
  }
}

std::string DomainParser::Text(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && !absl::StripAsciiWhitespace(node.text).empty()) return node.text;
  Add(node.place, field, absl::StrCat(field, " must be text, not ", KindName(node)));
  return "";
}

bool DomainParser::Flag(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && !node.quoted && (node.text == "true" || node.text == "false")) {
    return node.text == "true";
  }
  Add(node.place, field, absl::StrCat(field, " must be true or false, not ", KindName(node)));
  return false;
}

int64_t DomainParser::Whole(const YamlNode& node, const std::string& field, int64_t min,
                            int64_t max) {
  int64_t value = 0;
  if (node.is_scalar() && absl::SimpleAtoi(node.text, &value) && value >= min && value <= max) {
    return value;
  }
  Add(node.place, field,
      absl::StrCat(field, " must be a number from ", min, " to ", max, ", not ", KindName(node)));
  return min;
}

std::vector<std::string> DomainParser::Names(const YamlNode& node, const std::string& field) {
  std::vector<std::string> names;
  if (!node.is_sequence() || node.items.empty()) {
    Add(node.place, field, absl::StrCat(field, " must be a list of columns, e.g. [origin, hour]"));
    return names;
  }
  for (const YamlNode& item : node.items) {
    const std::string name = Text(item, field);
    if (name.empty()) continue;
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      Add(item.place, field, absl::StrCat("`", name, "` is there twice in ", field));
    }
    names.push_back(name);
  }
  return names;
}

template <typename T>
T DomainParser::ValueOr(absl::StatusOr<T> value, const YamlNode& node, const std::string& field,
                        T fallback) {
  if (value.ok()) return *std::move(value);
  Add(node.place, field, absl::StrCat(field, ": ", value.status().message()));
  return fallback;
}

void DomainParser::Check(const absl::Status& status, const YamlNode& node,
                         const std::string& field) {
  if (!status.ok()) Add(node.place, field, status.message());
}

size_t DomainParser::Choice(const YamlNode& node, const std::string& field,
                            const std::vector<std::string>& words) {
  const auto it = std::find(words.begin(), words.end(), node.text);
  if (node.is_scalar() && it != words.end()) return it - words.begin();
  Add(node.place, field,
      absl::StrCat(field, " must be ", absl::StrJoin(words, " or "), ", not ", KindName(node)));
  return 0;
}

void DomainParser::ReadOwner(const YamlNode& node, const std::string& field) {
  const auto into = [this](std::string& target) {
    return [this, &target](const YamlNode& value, const std::string& path) {
      target = Text(value, path);
    };
  };
  ReadMap(node, "owner", field,
          {{"team", into(domain_.team)},
           {"contact", into(domain_.contact)},
           {"runbook", into(domain_.runbook)}});
}

void DomainParser::ReadLimits(const YamlNode& node, const std::string& field) {
  LimitsDef& limits = domain_.limits;
  const auto memory = [&](const YamlNode& value, const std::string& path) {
    limits.memory_bytes = ValueOr(ParseByteSize(Text(value, path)), value, path, int64_t{0});
    if (limits.memory_bytes > 0 && limits.memory_bytes < kMemoryBytesMin) {
      Add(value.place, path,
          absl::StrCat(path, ": ", value.text, " is too little, give 32MB or more"));
    }
  };
  const auto disk = [&](const YamlNode& value, const std::string& path) {
    limits.disk_bytes = ValueOr(ParseByteSize(Text(value, path)), value, path, int64_t{0});
    if (limits.disk_bytes > 0 && limits.disk_bytes < kDiskBytesMin) {
      Add(value.place, path,
          absl::StrCat(path, ": ", value.text, " is too little, give 1MB or more"));
    }
  };
  const auto timeout = [&](const YamlNode& value, const std::string& path) {
    limits.query_timeout =
        ValueOr(ParseDuration(Text(value, path)), value, path, absl::ZeroDuration());
  };
  const auto rows = [&](const YamlNode& value, const std::string& path) {
    limits.max_result_rows = Whole(value, path, 1, kResultRowsMax);
    limits.states_max_result_rows = true;
  };
  const auto kept = [&](const YamlNode& value, const std::string& path) {
    limits.kept_rows = Whole(value, path, 0, kKeptRowsMax);
    limits.states_kept_rows = true;
  };
  ReadMap(node, "limits", field,
          {{"memory", memory},
           {"disk", disk},
           {"query_timeout", timeout},
           {"max_result_rows", rows},
           {"kept_rows", kept}});
}

void DomainParser::ReadWhere(SourceDef& source, const YamlNode& node, const std::string& field) {
  if (!node.is_map()) {
    Add(node.place, field, absl::StrCat(field, " must be a map, e.g. {$.type: transfer}"));
    return;
  }
  for (size_t i = 0; i < node.entries.size(); ++i) {
    const auto& [key, value] = node.entries[i];
    if (IsRepeated(node, i, "where", field)) continue;
    if (!value.is_scalar() && value.kind != YamlNode::Kind::kNull) {
      Add(value.place, Join(field, key.text), "a value of where must be a single value");
      continue;
    }
    WhereTerm term;
    term.path = ValueOr(ParseJsonPath(key.text), key, field, std::vector<std::string>{});
    term.json = ScalarAsJson(value);
    source.where.push_back(std::move(term));
  }
}

void DomainParser::ReadType(ColumnDef& column, const YamlNode& value, const std::string& field) {
  if (IsSplitType(value)) {
    Add(value.place, field,
        absl::StrCat("YAML splits the type of `", column.name, "` at its comma: quote it, \"",
                     value.text, ",…)\""));
    return;
  }
  const std::string text = Text(value, field);
  if (text.empty()) return;
  const absl::StatusOr<ColumnType> type = ParseColumnType(text);
  if (!type.ok()) {
    Add(value.place, field, absl::StrCat("column ", column.name, ": ", type.status().message()));
    return;
  }
  column.kind = type->kind;
  column.type = type->text;
  column.decimal_width = type->decimal_width;
  column.decimal_scale = type->decimal_scale;
  column.children = type->children;
}

// Format and rounding hold for all parts of a nested column.
void PassToParts(ColumnDef& column) {
  for (ColumnDef& part : column.children) {
    const bool zoned = part.kind == ColumnKind::kTimestamp || part.kind == ColumnKind::kTimestampTz;
    if (zoned || part.kind == ColumnKind::kList || part.kind == ColumnKind::kStruct) {
      part.format = column.format;
    }
    part.blob_format = column.blob_format;
    part.rounding = column.rounding;
    PassToParts(part);
  }
}

ColumnDef DomainParser::ReadColumn(const YamlNode& name, const YamlNode& value,
                                   const std::string& field) {
  ColumnDef column;
  column.name = name.text;
  column.place = name.place;
  column.path = {name.text};
  if (!value.is_map()) {
    ReadType(column, value, field);
    return column;
  }
  ReadMap(
      value, absl::StrCat("column ", name.text), field,
      {{"type", [&](const YamlNode& v, const std::string& f) { ReadType(column, v, f); }},
       {"path",
        [&](const YamlNode& v, const std::string& f) {
          column.path = ValueOr(ParseJsonPath(Text(v, f)), v, f, column.path);
        }},
       {"required", [&](const YamlNode& v, const std::string& f) { column.required = Flag(v, f); }},
       {"default",
        [&](const YamlNode& v, const std::string&) { column.default_json = ScalarAsJson(v); }},
       {"format", [&](const YamlNode& v, const std::string& f) { ReadFormat(column, v, f); }},
       {"rounding", [&](const YamlNode& v, const std::string& f) {
          column.rounding = static_cast<Rounding>(Choice(v, f, {"refuse", "half_up"}));
        }}});
  PassToParts(column);
  // A list's or struct's default is JSON, which in YAML is text.
  if (!column.children.empty() && column.default_json.has_value()) {
    column.default_json = ValueOf(value, "default").text;
  }
  CheckColumn(column, value, field);
  return column;
}

bool HasKind(const ColumnDef& column, std::initializer_list<ColumnKind> kinds) {
  return AnyPart(column, [&](const ColumnDef& part) {
    return std::find(kinds.begin(), kinds.end(), part.kind) != kinds.end();
  });
}

constexpr size_t kTimeFormats = 4;  // of the words for `format`; then those of BLOB

void DomainParser::ReadFormat(ColumnDef& column, const YamlNode& node, const std::string& field) {
  const size_t word =
      Choice(node, field, {"iso8601", "epoch_s", "epoch_ms", "epoch_us", "base64", "hex"});
  if (word < kTimeFormats) {
    column.format = static_cast<TimeFormat>(word);
  } else {
    column.blob_format = static_cast<BlobFormat>(word - kTimeFormats);
  }
}

void DomainParser::CheckFormat(const ColumnDef& column, const YamlNode& node,
                               const std::string& field) {
  const std::string& word = node.text;
  std::string types = "TIMESTAMP and TIMESTAMPTZ";
  bool fits = HasKind(column, {ColumnKind::kTimestamp, ColumnKind::kTimestampTz});
  if (word == "base64" || word == "hex") {
    types = "BLOB";
    fits = HasKind(column, {ColumnKind::kBlob});
  } else if (column.format == TimeFormat::kIso8601) {
    types = "DATE, TIMESTAMP and TIMESTAMPTZ";
    fits = fits || HasKind(column, {ColumnKind::kDate});
  }
  if (fits) return;
  Add(node.place, field,
      absl::StrCat("column ", column.name, ": this format is for ", types, ", not ", column.type));
}

void DomainParser::CheckColumn(const ColumnDef& column, const YamlNode& value,
                               const std::string& field) {
  if (!HasKey(value, "type")) {
    Add(value.place, field, absl::StrCat("column ", column.name, " has no type"));
    return;
  }
  if (HasKey(value, "format")) CheckFormat(column, ValueOf(value, "format"), Join(field, "format"));
  if (HasKey(value, "rounding") && !HasKind(column, {ColumnKind::kDecimal})) {
    Add(ValueOf(value, "rounding").place, Join(field, "rounding"),
        absl::StrCat("column ", column.name, ": rounding is for DECIMAL, not ", column.type));
  }
  if (column.default_json.has_value()) CheckDefault(column, value, field);
}

void DomainParser::CheckDefault(const ColumnDef& column, const YamlNode& value,
                                const std::string& field) {
  const YamlNode& node = ValueOf(value, "default");
  const std::string path = Join(field, "default");
  if (!node.is_scalar() || *column.default_json == "null") {
    Add(node.place, path,
        absl::StrCat("the default of ", column.name, " must be one ", column.type, ", not ",
                     KindName(node),
                     column.children.empty() ? "" : ": write it as JSON in quotes, e.g. \"[]\""));
  } else {
    JsonScanner scanner;
    Check(ColumnReader(column, scanner).CheckDefault(), node, path);
  }
  if (column.required) {
    Add(node.place, path,
        absl::StrCat("column ", column.name, " is required and has a default: drop one of them"));
  }
}

void DomainParser::ReadColumns(SourceDef& source, const YamlNode& node, const std::string& field) {
  ReadNamed(node, absl::StrCat("columns of ", source.name), field, kColumnsMax,
            [&](const YamlNode& name, const YamlNode& value, const std::string& path) {
              Check(CheckColumnName(name.text), name, path);
              source.columns.push_back(ReadColumn(name, value, path));
            });
  if (node.is_map() && node.entries.empty()) {
    Add(node.place, field, absl::StrCat("source ", source.name, " has no columns"));
  }
}

void DomainParser::CheckLatestBy(const SourceDef& source, const YamlNode& value,
                                 const std::string& field) {
  std::vector<std::string> names;
  for (const ColumnDef& column : source.columns) names.push_back(column.name);
  for (const std::string& name : source.latest_by) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    Add(ValueOf(value, "latest_by").place, Join(field, "latest_by"),
        absl::StrCat("latest_by: source ", source.name, " has no column `", name, "`",
                     SuggestName(name, names)));
  }
}

void DomainParser::ReadVariable(const YamlNode& name, const YamlNode& value,
                                const std::string& field) {
  Check(CheckName(name.text), name, field);
  if (value.is_scalar() || value.kind == YamlNode::Kind::kNull) {
    variables_[name.text] = SqlLiteral(value);
  } else {
    Add(value.place, field, absl::StrCat(field, " must be one value, not ", KindName(value)));
  }
}

void DomainParser::PutInVariables() {
  std::vector<std::string> names;
  for (const auto& [name, literal] : variables_) names.push_back(name);
  const auto put_in = [&](const std::string& field, FilePlace place, std::string* sql,
                          std::vector<TextRun>* runs) {
    const std::vector<TextRun> before = *runs;
    for (const UnknownVariable& unknown : slices::PutInVariables(variables_, sql, runs)) {
      Add(PlaceInRuns(before, unknown.offset, place), field,
          absl::StrCat("there is no variable $", unknown.name, " in vars",
                       SuggestName(unknown.name, names)));
    }
  };
  for (SliceDef& slice : domain_.slices) {
    const std::string field = Join("slices", slice.name);
    put_in(Join(field, "sql"), slice.sql_place, &slice.sql, &slice.sql_runs);
    for (ExpectationDef& expectation : slice.expectations) {
      put_in(Join(field, "expect"), expectation.sql_place, &expectation.sql, &expectation.sql_runs);
    }
  }
}

void DomainParser::ReadSource(const YamlNode& name, const YamlNode& value,
                              const std::string& field) {
  SourceDef source;
  source.name = name.text;
  source.stream = name.text;
  source.place = name.place;
  Check(CheckName(name.text), name, field);
  ReadMap(value, absl::StrCat("source ", name.text), field,
          {{"columns", [&](const YamlNode& v, const std::string& f) { ReadColumns(source, v, f); }},
           {"latest_by",
            [&](const YamlNode& v, const std::string& f) { source.latest_by = Names(v, f); }},
           {"stream",
            [&](const YamlNode& v, const std::string& f) {
              source.stream = Text(v, f);
              Check(CheckName(source.stream), v, f);
            }},
           {"where", [&](const YamlNode& v, const std::string& f) { ReadWhere(source, v, f); }}});
  if (value.is_map() && !HasKey(value, "columns")) {
    Add(name.place, field, absl::StrCat("source ", source.name, " has no columns"));
  }
  CheckLatestBy(source, value, field);
  domain_.sources.push_back(std::move(source));
}

void DomainParser::ReadSql(SliceDef& slice, const YamlNode& node, const std::string& field) {
  slice.sql = Text(node, field);
  slice.sql_runs = MapScalar(yaml_, node);
  slice.sql_place = slice.sql_runs.front().place;
}

void DomainParser::ReadRefresh(SliceDef& slice, const YamlNode& node, const std::string& field) {
  RefreshDef& refresh = slice.refresh;
  refresh.place = node.place;
  if (node.is_scalar() && node.text == "continuous") return;
  if (!node.is_map()) {
    Add(node.place, field,
        absl::StrCat(field,
                     " must be continuous, {every: 30s}, {cron: \"0 2 * * *\", time_zone: UTC} "
                     "or {after: other_slice}, not ",
                     KindName(node)));
    return;
  }
  const auto every = [&](const YamlNode& v, const std::string& f) {
    refresh.kind = RefreshDef::Kind::kEvery;
    refresh.every = ValueOr(ParseDuration(Text(v, f)), v, f, absl::Seconds(1));
  };
  const auto cron = [&](const YamlNode& v, const std::string& f) {
    refresh.kind = RefreshDef::Kind::kCron;
    refresh.cron = Text(v, f);
    Check(CheckCron(refresh.cron), v, f);
  };
  const auto zone = [&](const YamlNode& v, const std::string& f) {
    refresh.time_zone = Text(v, f);
    Check(CheckTimeZone(refresh.time_zone), v, f);
  };
  const auto after = [&](const YamlNode& v, const std::string& f) {
    refresh.kind = RefreshDef::Kind::kAfter;
    refresh.after = Text(v, f);
  };
  const auto missed = [&](const YamlNode& v, const std::string& f) {
    refresh.skip_missed = Choice(v, f, {"run_once", "skip"}) == 1;
  };
  ReadMap(node, "refresh", field,
          {{"every", every},
           {"cron", cron},
           {"time_zone", zone},
           {"after", after},
           {"on_missed", missed}});
  const int whens = (HasKey(node, "every") ? 1 : 0) + (HasKey(node, "cron") ? 1 : 0) +
                    (HasKey(node, "after") ? 1 : 0);
  if (whens != 1) {
    Add(node.place, field, "refresh needs one of every, cron and after");
  } else if (HasKey(node, "time_zone") && !HasKey(node, "cron")) {
    Add(node.place, field, "time_zone belongs to cron: drop it, or use cron");
  } else if (HasKey(node, "on_missed") && HasKey(node, "after")) {
    Add(node.place, field, "on_missed belongs to every and cron: drop it");
  }
}

// `after` leads, perhaps over several slices, to one that has a time.
void DomainParser::CheckRefreshes() {
  std::vector<std::string> names;
  for (const SliceDef& slice : domain_.slices) names.push_back(slice.name);
  for (const SliceDef& slice : domain_.slices) {
    const std::string field = absl::StrCat("slices.", slice.name, ".refresh.after");
    std::set<std::string> seen = {slice.name};
    const SliceDef* at = &slice;
    while (at != nullptr && at->refresh.kind == RefreshDef::Kind::kAfter) {
      const std::string& after = at->refresh.after;
      const SliceDef* next = domain_.FindSlice(after);
      if (at == &slice && next == nullptr && !after.empty()) {
        Add(slice.refresh.place, field,
            absl::StrCat("after: the domain has no slice `", after, "`",
                         SuggestName(after, names)));
      } else if (next != nullptr && next->refresh.kind == RefreshDef::Kind::kContinuous) {
        Add(slice.refresh.place, field,
            absl::StrCat(
                "after: slice ", after,
                " is refreshed all the time; give it every or cron, or drop this refresh"));
      } else if (next != nullptr && !seen.insert(after).second) {
        Add(slice.refresh.place, field, absl::StrCat("after: ", after, " waits for itself"));
        break;
      }
      at = next;
    }
  }
}

void DomainParser::ReadBudget(QuarantineBudget& budget, const YamlNode& node,
                              const std::string& field) {
  double percent = -1;
  budget.window = 0;
  const auto count = [this](int64_t& target, int64_t min) {
    return [this, &target, min](const YamlNode& v, const std::string& f) {
      target = Whole(v, f, min, kBudgetMax);
    };
  };
  const auto share = [&](const YamlNode& v, const std::string& f) {
    if (v.is_scalar() && absl::SimpleAtod(v.text, &percent) && percent >= 0 && percent <= 100) {
      return;
    }
    Add(v.place, f, absl::StrCat(f, " must be a number from 0 to 100, not ", KindName(v)));
    percent = 100;
  };
  ReadMap(node, "budget", field,
          {{"records", count(budget.records, 0)},
           {"percent", share},
           {"window", count(budget.window, 1)}});
  if (percent < 0) return;
  if (budget.window == 0) {
    Add(node.place, field,
        absl::StrCat(field, ": percent needs a window, the number of records it is a part of, ",
                     "e.g. {percent: 1, window: 100000}"));
    return;
  }
  const auto part = static_cast<int64_t>(static_cast<double>(budget.window) * percent / 100);
  budget.records = HasKey(node, "records") ? std::min(budget.records, part) : part;
}

// The action alone, or a map.
void DomainParser::ReadBadRecord(SliceDef& slice, const YamlNode& node, const std::string& field) {
  const auto budget = [&](const YamlNode& v, const std::string& f) {
    ReadBudget(slice.budget, v, f);
  };
  const auto action = [&](const YamlNode& v, const std::string& f) {
    slice.on_bad_record = static_cast<BadRecordAction>(Choice(v, f, {"quarantine", "fault"}));
  };
  if (node.is_scalar()) return action(node, field);
  ReadMap(node, "on_bad_record", field, {{"action", action}, {"budget", budget}});
  if (slice.on_bad_record == BadRecordAction::kFault && HasKey(node, "budget")) {
    Add(ValueOf(node, "budget").place, Join(field, "budget"),
        "a budget is for action quarantine; fault stops at the first bad record: drop one of them");
  }
}

// `keep: forever`, a number of snapshots, or how long.
void DomainParser::ReadKeep(SnapshotSchedule& schedule, const YamlNode& node,
                            const std::string& field) {
  if (node.is_scalar() && node.text == "forever") return;
  if (node.is_scalar() && absl::SimpleAtoi(node.text, &schedule.keep_count) &&
      schedule.keep_count >= 1 && schedule.keep_count <= kSnapshotsKeptMax) {
    return;
  }
  schedule.keep_count = 0;
  const absl::StatusOr<absl::Duration> time = ParseAge(node.text);
  if (node.is_scalar() && time.ok()) {
    schedule.keep_for = *time;
    return;
  }
  Add(node.place, field,
      absl::StrCat(field, " must be forever, a number from 1 to ", kSnapshotsKeptMax,
                   " or a time such as 400d or 12h, not ", KindName(node)));
}

void DomainParser::ReadSnapshots(SliceDef& slice, const YamlNode& node, const std::string& field) {
  SnapshotSchedule& schedule = slice.snapshots;
  const auto name = [&](const YamlNode& v, const std::string& f) {
    schedule.name = Text(v, f);
    if (!schedule.name.empty()) Check(CheckSnapshotPattern(schedule.name), v, f);
  };
  const auto cron = [&](const YamlNode& v, const std::string& f) {
    schedule.cron = Text(v, f);
    Check(CheckCron(schedule.cron), v, f);
  };
  const auto zone = [&](const YamlNode& v, const std::string& f) {
    schedule.time_zone = Text(v, f);
    Check(CheckTimeZone(schedule.time_zone), v, f);
  };
  const auto keep = [&](const YamlNode& v, const std::string& f) { ReadKeep(schedule, v, f); };
  ReadMap(node, "snapshots", field,
          {{"name", name}, {"cron", cron}, {"time_zone", zone}, {"keep", keep}});
  for (const char* key : {"name", "cron", "keep"}) {
    if (node.is_map() && !HasKey(node, key)) {
      Add(node.place, field, absl::StrCat("snapshots has no `", key, "`"));
    }
  }
}

void DomainParser::ReadRetain(SliceDef& slice, const YamlNode& node, const std::string& field) {
  RetainDef& retain = slice.retain.emplace();
  retain.place = node.place;
  const auto column = [&](const YamlNode& v, const std::string& f) { retain.column = Text(v, f); };
  const auto span = [&](const YamlNode& v, const std::string& f) {
    retain.span = ValueOr(ParseAge(Text(v, f)), v, f, absl::Hours(1));
    if (retain.span >= absl::Seconds(1) && retain.span <= absl::Hours(24 * 36500)) return;
    Add(v.place, f, absl::StrCat(f, " must be from 1s to 36500d, not ", KindName(v)));
  };
  const auto relative = [&](const YamlNode& v, const std::string& f) {
    if (v.is_scalar() && v.text == "ingest_time") return;
    Add(v.place, f,
        absl::StrCat(f, " must be ingest_time, not ", KindName(v),
                     ": one record dated 9999 would empty the slice"));
  };
  ReadMap(node, "retain", field, {{"column", column}, {"for", span}, {"relative_to", relative}});
  for (const char* key : {"column", "for"}) {
    if (node.is_map() && !HasKey(node, key)) {
      Add(node.place, field, absl::StrCat("retain has no `", key, "`"));
    }
  }
}

void DomainParser::ReadDiff(SliceDef& slice, const YamlNode& node, const std::string& field) {
  const auto tolerance = [&](const YamlNode& v, const std::string& f) {
    ReadNamed(v, "tolerance", f, kColumnsMax,
              [&](const YamlNode& name, const YamlNode& value, const std::string& path) {
                double number = 0;
                if (!absl::SimpleAtod(value.text, &number) || !(number >= 0 && number <= 1)) {
                  Add(value.place, path,
                      absl::StrCat(path, " must be a number from 0 to 1, e.g. ", "1e-9, not ",
                                   KindName(value)));
                }
                slice.diff_tolerance[name.text] = number;
              });
  };
  ReadMap(node, "diff", field, {{"tolerance", tolerance}});
}

void DomainParser::ReadPromoteLimits(PromoteDef& promote, const YamlNode& node,
                                     const std::string& field) {
  const auto into = [this](std::optional<int64_t>& limit) {
    return [this, &limit](const YamlNode& v, const std::string& f) {
      limit = Whole(v, f, 0, int64_t{1} << 40);
    };
  };
  const auto percent = [&](const YamlNode& v, const std::string& f) {
    double number = 0;
    if (!v.is_scalar() || !absl::SimpleAtod(v.text, &number) || !(number >= 0 && number <= 100)) {
      Add(v.place, f, absl::StrCat(f, " must be a number from 0 to 100, not ", KindName(v)));
    }
    promote.changed_rows_percent = number;
  };
  ReadMap(node, "unless", field,
          {{"changed_rows_percent", percent},
           {"changed_rows", into(promote.changed_rows)},
           {"added_rows", into(promote.added_rows)},
           {"removed_rows", into(promote.removed_rows)},
           {"quarantined_records", into(promote.quarantined_records)}});
}

void DomainParser::ReadPromote(PromoteDef& promote, const YamlNode& node,
                               const std::string& field) {
  const auto keep = [&](const YamlNode& v, const std::string& f) {
    promote.keep_replaced = ValueOr(ParseDuration(Text(v, f)), v, f, absl::Hours(1));
    if (*promote.keep_replaced > kKeepReplacedMax) {
      Add(v.place, f, absl::StrCat(f, ": at most 168h, for it is kept in memory"));
    }
  };
  ReadMap(node, "promote", field,
          {{"mode",
            [&](const YamlNode& v, const std::string& f) {
              promote.automatic = Choice(v, f, {"manual", "auto"}) == 1;
            }},
           {"unless",
            [&](const YamlNode& v, const std::string& f) { ReadPromoteLimits(promote, v, f); }},
           {"keep_replaced", keep}});
}

// `idle_after: 10m`, or `never`.
absl::Duration DomainParser::ReadIdleAfter(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && node.text == "never") return absl::ZeroDuration();
  const absl::Duration time = ValueOr(ParseDuration(Text(node, field)), node, field, kIdleMin);
  if (time < kIdleMin || time > kIdleMax) {
    Add(node.place, field, absl::StrCat(field, " must be never or a time from 1s to 720h"));
  }
  return time;
}

void DomainParser::ReadMaxStale(SliceDef& slice, const YamlNode& node, const std::string& field) {
  MaxStaleDef max_stale;
  const auto after = [&](const YamlNode& v, const std::string& f) {
    max_stale.after = ValueOr(ParseDuration(Text(v, f)), v, f, absl::Hours(1));
  };
  const auto then = [&](const YamlNode& v, const std::string& f) {
    max_stale.fail = Choice(v, f, {"serve", "fail"}) == 1;
  };
  ReadMap(node, "max_stale", field, {{"after", after}, {"then", then}});
  if (node.is_map() && !HasKey(node, "after")) {
    Add(node.place, field, "max_stale has no `after`, the time such as 15m that is too long");
  }
  slice.max_stale = max_stale;
}

void DomainParser::ReadSlice(const YamlNode& name, const YamlNode& value,
                             const std::string& field) {
  SliceDef slice;
  slice.name = name.text;
  slice.place = name.place;
  slice.budget.window = kBudgetWindowDefault;
  Check(CheckName(name.text), name, field);
  ReadMap(
      value, absl::StrCat("slice ", name.text), field,
      {{"sql", [&](const YamlNode& v, const std::string& f) { ReadSql(slice, v, f); }},
       {"key", [&](const YamlNode& v, const std::string& f) { slice.key = Names(v, f); }},
       {"strategy",
        [&](const YamlNode& v, const std::string& f) {
          const std::vector<std::string> words = {"append", "aggregate", "keys", "recompute"};
          slice.strategy = words[Choice(v, f, words)];
          slice.strategy_place = v.place;
        }},
       {"refresh", [&](const YamlNode& v, const std::string& f) { ReadRefresh(slice, v, f); }},
       {"retain", [&](const YamlNode& v, const std::string& f) { ReadRetain(slice, v, f); }},
       {"on_bad_record",
        [&](const YamlNode& v, const std::string& f) { ReadBadRecord(slice, v, f); }},
       {"expect",
        [&](const YamlNode& v, const std::string& f) {
          slice.expectations = ReadExpectations(
              yaml_, v, f, [this](FilePlace place, absl::string_view at, absl::string_view what) {
                Add(place, at, what);
              });
        }},
       {"renamed_from",
        [&](const YamlNode& v, const std::string& f) {
          slice.renamed_from = Text(v, f);
          Check(CheckName(slice.renamed_from), v, f);
        }},
       {"snapshots", [&](const YamlNode& v, const std::string& f) { ReadSnapshots(slice, v, f); }},
       {"diff", [&](const YamlNode& v, const std::string& f) { ReadDiff(slice, v, f); }},
       {"max_stale", [&](const YamlNode& v, const std::string& f) { ReadMaxStale(slice, v, f); }},
       {"promote",
        [&](const YamlNode& v, const std::string& f) { ReadPromote(slice.promote, v, f); }}});
  if (value.is_map() && !HasKey(value, "sql")) {
    Add(name.place, field, absl::StrCat("slice ", slice.name, " has no sql"));
  }
  domain_.slices.push_back(std::move(slice));
}

// Sources and slices share one name space: SQL names both.
void DomainParser::CheckNames() {
  for (const SliceDef& slice : domain_.slices) {
    const SourceDef* source = domain_.FindSource(slice.name);
    if (source == nullptr) continue;
    Add(slice.place, Join("slices", slice.name),
        absl::StrCat("slice ", slice.name, " has the name of the source in line ",
                     source->place.line, ": rename one (a source can name its `stream`)"));
  }
  std::set<std::string> renamed;
  for (const SliceDef& slice : domain_.slices) {
    if (slice.renamed_from.empty()) continue;
    const std::string field = Join(Join("slices", slice.name), "renamed_from");
    if (domain_.FindSlice(slice.renamed_from) != nullptr) {
      Add(slice.place, field, absl::StrCat("slice ", slice.renamed_from, " is still in the file"));
    } else if (!renamed.insert(slice.renamed_from).second) {
      Add(slice.place, field,
          absl::StrCat("another slice is renamed from ", slice.renamed_from, ", too"));
    }
  }
}

// Other values of what changes no row, for one environment: whatever of it is there takes the place
// of what the file says.
void DomainParser::ReadOverlay(const YamlNode& node, const std::string& field) {
  ReadMap(node, "overlay", field,
          {{"limits", [&](const YamlNode& v, const std::string& f) { ReadLimits(v, f); }},
           {"slices", [&](const YamlNode& v, const std::string& f) {
              ReadNamed(v, "slices of the overlay", f, kSlicesMax,
                        [this](const YamlNode& n, const YamlNode& value, const std::string& path) {
                          ReadOverlaid(n, value, path);
                        });
            }}});
}

void DomainParser::ReadOverlaid(const YamlNode& name, const YamlNode& value,
                                const std::string& field) {
  std::vector<std::string> names;
  SliceDef* slice = nullptr;
  for (SliceDef& each : domain_.slices) {
    names.push_back(each.name);
    if (each.name == name.text) slice = &each;
  }
  if (slice == nullptr) {
    Add(name.place, field,
        absl::StrCat("the domain has no slice `", name.text, "`", SuggestName(name.text, names)));
    return;
  }
  ReadMap(value, absl::StrCat("slice ", name.text, " of the overlay"), field,
          {{"refresh",
            [&](const YamlNode& v, const std::string& f) {
              slice->refresh = {};
              ReadRefresh(*slice, v, f);
            }},
           {"snapshots", [&](const YamlNode& v, const std::string& f) {
              slice->snapshots = {};
              ReadSnapshots(*slice, v, f);
            }}});
}

void DomainParser::ReadDomain(const YamlNode& root) {
  const YamlNode* tests = nullptr;
  const YamlNode* overlay = nullptr;
  ReadMap(root, "the domain file", "",
          {{"domain",
            [&](const YamlNode& v, const std::string& f) {
              domain_.domain = Text(v, f);
              if (!domain_.domain.empty()) Check(CheckName(domain_.domain), v, f);
            }},
           {"owner", [&](const YamlNode& v, const std::string& f) { ReadOwner(v, f); }},
           {"vars",
            [&](const YamlNode& v, const std::string& f) {
              ReadNamed(v, "vars", f, kVariablesMax,
                        [this](const YamlNode& n, const YamlNode& value, const std::string& path) {
                          ReadVariable(n, value, path);
                        });
            }},
           {"sources",
            [&](const YamlNode& v, const std::string& f) {
              ReadNamed(v, "sources", f, kSourcesMax,
                        [this](const YamlNode& n, const YamlNode& value, const std::string& path) {
                          ReadSource(n, value, path);
                        });
            }},
           {"slices",
            [&](const YamlNode& v, const std::string& f) {
              ReadNamed(v, "slices", f, kSlicesMax,
                        [this](const YamlNode& n, const YamlNode& value, const std::string& path) {
                          ReadSlice(n, value, path);
                        });
            }},
           {"limits", [&](const YamlNode& v, const std::string& f) { ReadLimits(v, f); }},
           {"idle_after", [&](const YamlNode& v,
                              const std::string& f) { domain_.idle_after = ReadIdleAfter(v, f); }},
           {"overlay", [&](const YamlNode& v, const std::string&) { overlay = &v; }},
           {"tests", [&](const YamlNode& v, const std::string&) { tests = &v; }}});
  for (const char* key : {"domain", "sources", "slices"}) {
    if (root.is_map() && !HasKey(root, key)) {
      Add(root.place, key, absl::StrCat("the domain file has no `", key, "`"));
    }
  }
  if (overlay != nullptr) ReadOverlay(*overlay, "overlay");
  if (tests == nullptr) return;
  domain_.tests = ReadTests(
      *tests, domain_, [this](FilePlace place, const std::string& field, const std::string& what) {
        Add(place, field, what);
      });
}

absl::StatusOr<DomainDef> DomainParser::Parse() {
  domain_.file_name = file_name_;
  if (yaml_.size() > kFileBytesMax) {
    Add({1, 1}, "",
        absl::StrCat("the file has ", yaml_.size(), " bytes, the limit is ", kFileBytesMax));
    return Errors();
  }
  absl::StatusOr<YamlNode> root = ParseYaml(yaml_);
  if (!root.ok()) {
    ErrorDetail detail;
    const std::string message = absl::StrCat(file_name_, ":", root.status().message());
    detail.reason = "DEFINITION_INVALID";
    detail.metadata = {{"file", file_name_}};
    detail.violations = {{"", message}};
    return MakeError(absl::StatusCode::kInvalidArgument, message, detail);
  }
  ReadDomain(*root);
  CheckNames();
  CheckRefreshes();
  PutInVariables();
  ICEPIE_RETURN_IF_ERROR(Errors());
  return std::move(domain_);
}

template <typename T>
const T* FindByName(const std::vector<T>& things, absl::string_view name) {
  for (const T& thing : things) {
    if (thing.name == name) return &thing;
  }
  return nullptr;
}

}  // namespace

const SourceDef* DomainDef::FindSource(absl::string_view name) const {
  return FindByName(sources, name);
}

const SliceDef* DomainDef::FindSlice(absl::string_view name) const {
  return FindByName(slices, name);
}

FilePlace PlaceInRuns(const std::vector<TextRun>& runs, size_t offset, FilePlace fallback) {
  const TextRun* last = nullptr;
  for (const TextRun& run : runs) {
    if (run.offset <= offset) last = &run;
  }
  if (last == nullptr) return fallback;
  return {last->place.line, last->place.column + static_cast<int>(offset - last->offset)};
}

FilePlace SliceDef::SqlPlaceAt(size_t offset) const {
  return PlaceInRuns(sql_runs, offset, sql_place);
}

absl::StatusOr<DomainDef> ParseDomain(absl::string_view yaml, absl::string_view file_name) {
  return DomainParser(yaml, file_name).Parse();
}

}  // namespace icepie::slices
