#include "tests/slices/slice_case.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace icepie::slices {
namespace {

// The first word of `text`, which is left with the rest.
std::string TakeWord(absl::string_view& text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  const size_t end = std::min(text.find(' '), text.size());
  const std::string word(text.substr(0, end));
  text = absl::StripAsciiWhitespace(text.substr(end));
  return word;
}

class CaseReader {
 public:
  explicit CaseReader(std::string file_name) : file_name_(std::move(file_name)) {}

  absl::StatusOr<std::vector<SliceCase>> Read(absl::string_view text) {
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      ++line_;
      const absl::Status status = ReadLine(line);
      if (!status.ok()) return status;
    }
    Finish();
    return std::move(cases_);
  }

 private:
  absl::Status Wrong(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_name_, ":", line_, ": ", what));
  }

  absl::Status ReadLine(absl::string_view line) {
    if (absl::ConsumePrefix(&line, "--@")) return ReadDirective(line);
    if (absl::ConsumePrefix(&line, "-->")) {
      if (!in_case_) return Wrong("rows before the first case");
      if (!now_.rows) now_.rows.emplace();
      now_.rows->emplace_back(absl::StripAsciiWhitespace(line));
      return absl::OkStatus();
    }
    const absl::string_view bare = absl::StripAsciiWhitespace(line);
    if (bare.empty() || absl::StartsWith(bare, "--")) return absl::OkStatus();
    if (sql_ == nullptr) return Wrong("SQL that belongs to no case and no slice");
    absl::StrAppend(sql_, sql_->empty() ? "" : "\n", line);
    return absl::OkStatus();
  }

  absl::Status ReadDirective(absl::string_view text) {
    const std::string word = TakeWord(text);
    if (word == "source" && !in_case_) {
      const std::string name = TakeWord(text);
      common_.sources.push_back(absl::StrCat(name, ": ", text));
    } else if (word == "slice" && !in_case_) {
      common_.upstream.push_back({TakeWord(text), "", std::string(text)});
      sql_ = &common_.upstream.back().sql;
    } else if (word == "record") {
      ReadRecord(text);
    } else if (word == "case") {
      return BeginCase(text);
    } else if (!in_case_) {
      return Wrong(absl::StrCat("--@ ", word, " before the first case"));
    } else {
      return ReadExpectation(word, text);
    }
    return absl::OkStatus();
  }

  // A case with records of its own does not have the file's.
  void ReadRecord(absl::string_view text) {
    const std::string source = TakeWord(text);
    SliceCase& to = in_case_ ? now_ : common_;
    if (in_case_ && !own_records_) now_.records.clear();
    own_records_ = in_case_;
    to.records.push_back({source, std::string(text)});
  }

  absl::Status BeginCase(absl::string_view text) {
    Finish();
    in_case_ = true;
    own_records_ = false;
    now_ = common_;
    now_.line = line_;
    now_.name = TakeWord(text);
    now_.strategy = TakeWord(text);
    now_.slice.name = "it";
    sql_ = &now_.slice.sql;
    const bool known = std::any_of(cases_.begin(), cases_.end(),
                                   [&](const SliceCase& each) { return each.name == now_.name; });
    if (now_.name.empty() || known) return Wrong("a case needs a name of its own");
    return text.empty() ? absl::OkStatus() : Wrong("one strategy after the name, no more");
  }

  absl::Status ReadExpectation(const std::string& word, absl::string_view text) {
    if (word == "why") {
      now_.why = std::string(text);
    } else if (word == "reference") {
      now_.reference = std::string(text);
    } else if (word == "with") {
      now_.slice.options = std::string(text);
    } else if (word == "quarantined" || word == "filtered") {
      int64_t count = 0;
      if (!absl::SimpleAtoi(text, &count)) return Wrong(absl::StrCat("--@ ", word, " COUNT"));
      (word == "filtered" ? now_.filtered : now_.quarantined) = count;
    } else if (word == "no" && text == "rows") {
      now_.rows.emplace();
    } else if (word == "no" && text == "random") {
      now_.random = false;
    } else {
      return Wrong(absl::StrCat("unknown --@ ", word, " ", text));
    }
    return absl::OkStatus();
  }

  void Finish() {
    if (in_case_) cases_.push_back(now_);
  }

  const std::string file_name_;
  int line_ = 0;
  SliceCase common_;
  SliceCase now_;
  bool in_case_ = false;
  bool own_records_ = false;
  std::string* sql_ = nullptr;
  std::vector<SliceCase> cases_;
};

std::string SliceYaml(const CaseSlice& slice) {
  return absl::StrCat("  ", slice.name, ": {sql: ", nlohmann::json(slice.sql).dump(),
                      slice.options.empty() ? "" : ", ", slice.options, "}\n");
}

// JSON text of a value that nlohmann would write differently, marked for being unquoted.
std::string Bare(const std::string& text) { return absl::StrCat("\x01", text, "\x01"); }

std::string RandomTime(std::mt19937& random, const char* format, const char* zone) {
  return absl::StrCat(
      absl::StrFormat("2001-01-%02d", 1 + random() % 9), format[0] == 'T' ? "T" : "",
      format[0] == 'T'
          ? absl::StrFormat("%02d:%02d:%02d", random() % 24, random() % 60, random() % 60)
          : "",
      zone);
}

std::string RandomDecimal(const ColumnDef& column, std::mt19937& random) {
  const int whole = std::min(column.decimal_width - column.decimal_scale, 5);
  std::string text = random() % 2 == 0 ? "-" : "";
  absl::StrAppend(&text, whole == 0 ? 0 : random() % static_cast<uint32_t>(std::pow(10, whole)));
  if (column.decimal_scale == 0) return text;
  absl::StrAppend(&text, ".");
  for (int i = 0; i < column.decimal_scale; ++i) absl::StrAppend(&text, random() % 10);
  return text;
}

nlohmann::json RandomNumber(const ColumnDef& column, std::mt19937& random) {
  const auto small = static_cast<int64_t>(random() % 11) - 5;
  switch (column.kind) {
    case ColumnKind::kTinyInt:
      return small * 20;
    case ColumnKind::kBigInt:
      return random() % 2 == 0 ? small : small * 900'000'000'000 + random() % 1000;
    case ColumnKind::kDouble:
      return static_cast<double>(random() % 4001) / 4 - 500;
    case ColumnKind::kDecimal:
      return Bare(RandomDecimal(column, random));
    default:
      return random() % 2 == 0 ? small : static_cast<int64_t>(random() % 401) - 200;
  }
}

nlohmann::json RandomValue(const ColumnDef& column, bool first_text, std::mt19937& random) {
  switch (column.kind) {
    case ColumnKind::kBoolean:
      return random() % 2 == 0;
    case ColumnKind::kVarchar:
      if (!first_text) return absl::StrCat("s", random() % 40);
      return random() % 8 == 0 ? "void" : std::string(1, static_cast<char>('a' + random() % 5));
    case ColumnKind::kDate:
      return RandomTime(random, "", "");
    case ColumnKind::kTimestamp:
      return RandomTime(random, "T", "");
    case ColumnKind::kTimestampTz:
      return RandomTime(random, "T", random() % 2 == 0 ? "Z" : "+02:00");
    case ColumnKind::kJson:
      return {{"a", random() % 3}};
    default:
      return RandomNumber(column, random);
  }
}

void Put(nlohmann::json& record, const std::vector<std::string>& path, nlohmann::json value) {
  nlohmann::json* at = &record;
  for (const std::string& name : path) at = &(*at)[name];
  *at = std::move(value);
}

}  // namespace

std::string SliceCase::Yaml() const {
  std::string yaml = "domain: test\nsources:\n";
  for (const std::string& source : sources) absl::StrAppend(&yaml, "  ", source, "\n");
  absl::StrAppend(&yaml, "slices:\n");
  // Only what is read, also by way of others.
  std::string slices = SliceYaml(slice);
  for (auto each = upstream.rbegin(); each != upstream.rend(); ++each) {
    if (absl::StrContains(slices, each->name)) slices = SliceYaml(*each) + slices;
  }
  return yaml + slices;
}

absl::StatusOr<std::vector<SliceCase>> ParseCases(absl::string_view text,
                                                  const std::string& file_name) {
  return CaseReader(file_name).Read(text);
}

std::string RandomPayload(const SourceDef& source, uint32_t seed) {
  std::mt19937 random(seed);
  nlohmann::json record = nlohmann::json::object();
  for (const WhereTerm& term : source.where) {
    Put(record, term.path, random() % 6 == 0 ? nlohmann::json() : nlohmann::json::parse(term.json));
  }
  bool first_text = true;
  bool is_void = false;  // of such a key, all other values are NULL
  for (const ColumnDef& column : source.columns) {
    const uint32_t luck = random() % 12;
    nlohmann::json value = RandomValue(column, first_text, random);
    if (!column.required && (is_void || luck < 2)) {
      if (luck % 2 == 0) Put(record, column.path, nullptr);
    } else {
      is_void = is_void || value == "void";
      Put(record, column.path, std::move(value));
    }
    if (column.kind == ColumnKind::kVarchar) first_text = false;
  }
  return absl::StrReplaceAll(record.dump(), {{"\"\\u0001", ""}, {"\\u0001\"", ""}});
}

}  // namespace icepie::slices
