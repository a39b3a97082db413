#include "slices/definition/expectation_reading.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "slices/definition/definition_values.h"
#include "slices/definition/nearest_name.h"

namespace icepie::slices {
namespace {

constexpr size_t kExpectationsMax = 50;  // of one slice
constexpr size_t kValuesMax = 1000;
constexpr size_t kNameMax = 63;
constexpr int64_t kRowCountMax = int64_t{1} << 60;

// What a map's key is read with.
using Reader = std::function<void(const YamlNode& value, const std::string& field)>;
using Readers = std::vector<std::pair<std::string, Reader>>;

// Reads one entry.
class EntryReader {
 public:
  EntryReader(absl::string_view yaml, const ReportViolation& report)
      : yaml_(yaml), report_(report) {}

  ExpectationDef Read(const YamlNode& node, const std::string& field);
  bool failed() const { return failed_; }

 private:
  void Fail(const YamlNode& node, const std::string& field, absl::string_view what);
  void ReadMap(const YamlNode& node, const std::string& what, const std::string& field,
               const Readers& readers);
  std::string Text(const YamlNode& node, const std::string& field);
  std::string Column(const YamlNode& node, const std::string& field);
  int64_t Rows(const YamlNode& node, const std::string& field);
  // Notes the check's kind; a second one is a violation.
  void SetKind(ExpectationDef::Kind kind, const YamlNode& node, const std::string& field);

  void ReadColumns(ExpectationDef::Kind kind, const YamlNode& node, const std::string& field);
  void ReadAcceptedValues(const YamlNode& node, const std::string& field);
  void ReadRelationships(const YamlNode& node, const std::string& field);
  void ReadRowCount(const YamlNode& node, const std::string& field);
  void ReadSql(const YamlNode& node, const std::string& field);
  void ReadSeverity(const YamlNode& node, const std::string& field);
  void SetName(const YamlNode& node, const std::string& field);

  absl::string_view yaml_;
  const ReportViolation& report_;
  ExpectationDef entry_;
  bool has_kind_ = false;
  bool failed_ = false;
};

std::string FieldOf(const std::string& field, absl::string_view key) {
  return absl::StrCat(field, ".", key);
}

std::string Shown(const YamlNode& node) {
  if (node.is_scalar()) return absl::StrCat("`", absl::string_view(node.text).substr(0, 80), "`");
  if (node.is_sequence()) return "a list";
  return node.is_map() ? "a map" : "nothing";
}

void EntryReader::Fail(const YamlNode& node, const std::string& field, absl::string_view what) {
  failed_ = true;
  report_(node.place, field, what);
}

void EntryReader::ReadMap(const YamlNode& node, const std::string& what, const std::string& field,
                          const Readers& readers) {
  std::vector<std::string> known;
  known.reserve(readers.size());
  for (const auto& [key, reader] : readers) known.push_back(key);
  if (!node.is_map()) {
    return Fail(node, field,
                absl::StrCat(what, " must be a map with ", absl::StrJoin(known, ", "), ", not ",
                             Shown(node)));
  }
  std::vector<std::string> seen;
  for (const auto& [key, value] : node.entries) {
    const auto it = std::find(known.begin(), known.end(), key.text);
    if (!key.is_scalar() || it == known.end()) {
      Fail(key, FieldOf(field, key.text),
           absl::StrCat("unknown key ", Shown(key), " in ", what, SuggestName(key.text, known)));
    } else if (std::find(seen.begin(), seen.end(), key.text) != seen.end()) {
      Fail(key, FieldOf(field, key.text),
           absl::StrCat("`", key.text, "` is there twice in ", what, ": remove one"));
    } else {
      seen.push_back(key.text);
      readers[static_cast<size_t>(it - known.begin())].second(value, FieldOf(field, key.text));
    }
  }
}

std::string EntryReader::Text(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && !absl::StripAsciiWhitespace(node.text).empty()) return node.text;
  Fail(node, field, absl::StrCat(field, " must be text, not ", Shown(node)));
  return "";
}

std::string EntryReader::Column(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && !node.text.empty()) return node.text;
  Fail(node, field, absl::StrCat(field, " must be a column, not ", Shown(node)));
  return "";
}

int64_t EntryReader::Rows(const YamlNode& node, const std::string& field) {
  int64_t rows = 0;
  if (node.is_scalar() && absl::SimpleAtoi(node.text, &rows) && rows >= 0 && rows <= kRowCountMax) {
    return rows;
  }
  Fail(node, field, absl::StrCat(field, " must be a number of rows, not ", Shown(node)));
  return 0;
}

void EntryReader::SetKind(ExpectationDef::Kind kind, const YamlNode& node,
                          const std::string& field) {
  if (has_kind_) Fail(node, field, "an entry of expect is one check: begin another entry for this");
  has_kind_ = true;
  entry_.kind = kind;
}

void EntryReader::ReadColumns(ExpectationDef::Kind kind, const YamlNode& node,
                              const std::string& field) {
  SetKind(kind, node, field);
  if (node.is_scalar()) {
    entry_.columns = {Column(node, field)};
    return;
  }
  if (!node.is_sequence() || node.items.empty()) {
    return Fail(
        node, field,
        absl::StrCat(field, " must be a list of columns, e.g. [origin, hour], not ", Shown(node)));
  }
  for (const YamlNode& item : node.items) {
    const std::string column = Column(item, field);
    if (std::find(entry_.columns.begin(), entry_.columns.end(), column) != entry_.columns.end()) {
      Fail(item, field, absl::StrCat("`", column, "` is there twice in ", field));
    }
    entry_.columns.push_back(column);
  }
}

void EntryReader::ReadAcceptedValues(const YamlNode& node, const std::string& field) {
  SetKind(ExpectationDef::Kind::kAcceptedValues, node, field);
  const auto values = [this](const YamlNode& list, const std::string& path) {
    if (!list.is_sequence() || list.items.empty() || list.items.size() > kValuesMax) {
      return Fail(list, path,
                  absl::StrCat(path, " must be a list of 1 to ", kValuesMax,
                               " values, e.g. [eth, sol], not ", Shown(list)));
    }
    for (const YamlNode& item : list.items) {
      const std::string json = ScalarAsJson(item);
      if (!item.is_scalar() || json == "null") {
        Fail(item, path, "an accepted value is text, a number, true or false; NULL always is one");
      }
      entry_.values.push_back(json);
    }
  };
  ReadMap(node, "accepted_values", field,
          {{"column",
            [this](const YamlNode& v, const std::string& f) { entry_.columns = {Column(v, f)}; }},
           {"values", values}});
  if (node.is_map() && (entry_.columns.empty() || entry_.values.empty())) {
    Fail(node, field, "accepted_values needs a column and values");
  }
}

void EntryReader::ReadRelationships(const YamlNode& node, const std::string& field) {
  SetKind(ExpectationDef::Kind::kRelationships, node, field);
  ReadMap(node, "relationships", field,
          {{"column",
            [this](const YamlNode& v, const std::string& f) { entry_.columns = {Column(v, f)}; }},
           {"to", [this](const YamlNode& v, const std::string& f) { entry_.to = Text(v, f); }},
           {"field",
            [this](const YamlNode& v, const std::string& f) { entry_.field = Column(v, f); }}});
  if (node.is_map() && (entry_.columns.empty() || entry_.to.empty() || entry_.field.empty())) {
    Fail(node, field, "relationships needs column, to (a slice of this domain) and field");
  }
}

void EntryReader::ReadRowCount(const YamlNode& node, const std::string& field) {
  SetKind(ExpectationDef::Kind::kRowCount, node, field);
  ReadMap(
      node, "row_count", field,
      {{"min", [this](const YamlNode& v, const std::string& f) { entry_.rows_min = Rows(v, f); }},
       {"max", [this](const YamlNode& v, const std::string& f) { entry_.rows_max = Rows(v, f); }}});
  if (node.is_map() && !entry_.rows_min && !entry_.rows_max) {
    Fail(node, field, "row_count needs min, max or both");
  } else if (entry_.rows_min.value_or(0) > entry_.rows_max.value_or(kRowCountMax)) {
    Fail(node, field, "row_count: min is more than max");
  }
}

void EntryReader::ReadSql(const YamlNode& node, const std::string& field) {
  SetKind(ExpectationDef::Kind::kSql, node, field);
  entry_.sql = Text(node, field);
  entry_.sql_runs = MapScalar(yaml_, node);
  entry_.sql_place = entry_.sql_runs.empty() ? node.place : entry_.sql_runs.front().place;
}

void EntryReader::ReadSeverity(const YamlNode& node, const std::string& field) {
  if (node.is_scalar() && node.text == "warn") {
    entry_.severity = ExpectationSeverity::kWarn;
  } else if (!node.is_scalar() || node.text != "error") {
    Fail(node, field, absl::StrCat(field, " must be warn or error, not ", Shown(node)));
  }
}

std::string KindName(ExpectationDef::Kind kind) {
  switch (kind) {
    case ExpectationDef::Kind::kNotNull:
      return "not_null";
    case ExpectationDef::Kind::kUnique:
      return "unique";
    case ExpectationDef::Kind::kAcceptedValues:
      return "accepted_values";
    case ExpectationDef::Kind::kRelationships:
      return "relationships";
    case ExpectationDef::Kind::kRowCount:
      return "row_count";
    case ExpectationDef::Kind::kSql:
      break;
  }
  return "sql";
}

void EntryReader::SetName(const YamlNode& node, const std::string& field) {
  if (!entry_.name.empty() || failed_) return;
  if (entry_.kind == ExpectationDef::Kind::kSql) {
    return Fail(node, field, "an expectation in SQL needs a name, by which it is shown and waived");
  }
  std::string name = KindName(entry_.kind);
  for (const std::string& column : entry_.columns) {
    absl::StrAppend(&name, "_", absl::AsciiStrToLower(column));
  }
  for (char& c : name) {
    if (!absl::ascii_isalnum(c)) c = '_';
  }
  entry_.name = name.substr(0, kNameMax);
}

ExpectationDef EntryReader::Read(const YamlNode& node, const std::string& field) {
  using CheckKind = ExpectationDef::Kind;
  entry_.place = node.place;
  const auto columns = [this](CheckKind kind) {
    return [this, kind](const YamlNode& v, const std::string& f) { ReadColumns(kind, v, f); };
  };
  const auto by = [this](void (EntryReader::*read)(const YamlNode&, const std::string&)) {
    return [this, read](const YamlNode& v, const std::string& f) { (this->*read)(v, f); };
  };
  const auto name = [this](const YamlNode& v, const std::string& f) {
    entry_.name = Text(v, f);
    const absl::Status status = CheckName(entry_.name);
    if (!status.ok()) Fail(v, f, status.message());
  };
  ReadMap(node, "an entry of expect", field,
          {{"not_null", columns(CheckKind::kNotNull)},
           {"unique", columns(CheckKind::kUnique)},
           {"accepted_values", by(&EntryReader::ReadAcceptedValues)},
           {"relationships", by(&EntryReader::ReadRelationships)},
           {"row_count", by(&EntryReader::ReadRowCount)},
           {"sql", by(&EntryReader::ReadSql)},
           {"name", name},
           {"severity", by(&EntryReader::ReadSeverity)}});
  if (!failed_ && !has_kind_) {
    Fail(node, field,
         "an entry of expect needs a check: not_null, unique, accepted_values, relationships, "
         "row_count or sql");
  }
  SetName(node, field);
  return std::move(entry_);
}

}  // namespace

std::vector<ExpectationDef> ReadExpectations(absl::string_view yaml, const YamlNode& node,
                                             const std::string& field,
                                             const ReportViolation& report) {
  std::vector<ExpectationDef> entries;
  if (!node.is_sequence() || node.items.size() > kExpectationsMax) {
    report(node.place, field,
           absl::StrCat(field, " must be a list of at most ", kExpectationsMax,
                        " checks, e.g. [{not_null: [origin]}], not ",
                        node.is_sequence() ? absl::StrCat(node.items.size()) : Shown(node)));
    return entries;
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    const YamlNode& item = node.items[i];
    const std::string path = absl::StrCat(field, "[", i, "]");
    EntryReader reader(yaml, report);
    ExpectationDef entry = reader.Read(item, path);
    if (reader.failed()) continue;
    const auto same = std::find_if(entries.begin(), entries.end(),
                                   [&](const auto& other) { return other.name == entry.name; });
    if (same != entries.end()) {
      report(item.place, path,
             absl::StrCat("two expectations are named `", entry.name, "` (first in line ",
                          same->place.line, "): give one another name"));
      continue;
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace icepie::slices
