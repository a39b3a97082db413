#include "slices/definition/definition_tests.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "slices/definition/definition.h"
#include "slices/definition/definition_values.h"
#include "slices/definition/nearest_name.h"
#include "slices/definition/yaml_tree.h"

namespace icepie::slices {
namespace {

constexpr size_t kTestsMax = 1000;
constexpr size_t kRecordsMax = 1000;
constexpr size_t kRowsMax = 10000;
constexpr int64_t kFirstIngestTimeUs = 946'684'800'000'000;  // 2000-01-01
constexpr int64_t kIngestStepUs = 1'000'000;

std::string JsonText(absl::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

const char* KindOf(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "";
}

// Reads the tests of one file; what is wrong with them goes to `add`.
class TestsReader {
 public:
  TestsReader(const DomainDef& domain, const AddViolation& add) : domain_(domain), add_(add) {}

  std::vector<TestDef> Read(const YamlNode& node) {
    std::vector<TestDef> tests;
    if (!IsList(node, "tests", "tests", kTestsMax)) return tests;
    std::map<std::string, FilePlace> names;
    for (const YamlNode& item : node.items) {
      TestDef test = ReadTest(item, absl::StrCat("tests[", tests.size(), "]"));
      const auto [first, fresh] = names.emplace(test.name, test.place);
      if (!fresh && !test.name.empty()) {
        add_(test.place, "tests",
             absl::StrCat("two tests have the name `", test.name, "` (first in line ",
                          first->second.line, "): rename one"));
      }
      tests.push_back(std::move(test));
    }
    return tests;
  }

 private:
  using Reader = std::function<void(const YamlNode& value, const std::string& field)>;

  bool IsList(const YamlNode& node, const std::string& field, const std::string& what,
              size_t most) {
    if (!node.is_sequence()) {
      add_(node.place, field, absl::StrCat(what, " must be a list, not ", KindOf(node)));
      return false;
    }
    if (node.items.size() <= most) return true;
    add_(node.place, field,
         absl::StrCat(what, " has ", node.items.size(), " entries, the limit is ", most));
    return false;
  }

  // Calls `each` for the entries of a map, of which none may be there twice.
  void ForEach(const YamlNode& node, const std::string& field, const std::string& what,
               const std::function<void(const YamlNode& key, const YamlNode& value)>& each) {
    if (!node.is_map()) {
      add_(node.place, field, absl::StrCat(what, " must be a map, not ", KindOf(node)));
      return;
    }
    std::map<std::string, FilePlace> seen;
    for (const YamlEntry& entry : node.entries) {
      const auto [first, fresh] = seen.emplace(entry.key.text, entry.key.place);
      if (!fresh) {
        add_(entry.key.place, field,
             absl::StrCat("`", entry.key.text, "` is there twice in ", what, " (first in line ",
                          first->second.line, "): remove or rename one"));
        continue;
      }
      each(entry.key, entry.value);
    }
  }

  void ReadKeys(const YamlNode& node, const std::string& field, const std::string& what,
                const std::map<std::string, Reader>& readers) {
    std::vector<std::string> known;
    for (const auto& [key, reader] : readers) known.push_back(key);
    ForEach(node, field, what, [&](const YamlNode& key, const YamlNode& value) {
      const auto reader = readers.find(key.text);
      if (reader == readers.end()) {
        add_(key.place, absl::StrCat(field, ".", key.text),
             absl::StrCat("unknown key `", key.text, "` in ", what, SuggestName(key.text, known)));
      } else {
        reader->second(value, absl::StrCat(field, ".", key.text));
      }
    });
  }

  TestDef ReadTest(const YamlNode& node, const std::string& field) {
    TestDef test;
    test.place = node.place;
    counts_.clear();
    first_.clear();
    // The records come first: what is expected of them names their places.
    const YamlNode* given = nullptr;
    const YamlNode* expect = nullptr;
    ReadKeys(node, field, "a test",
             {{"name",
               [&](const YamlNode& v, const std::string& f) {
                 if (v.is_scalar()) test.name = std::string(absl::StripAsciiWhitespace(v.text));
                 if (test.name.empty()) add_(v.place, f, "the name of a test must be text");
               }},
              {"given", [&](const YamlNode& v, const std::string&) { given = &v; }},
              {"expect", [&](const YamlNode& v, const std::string&) { expect = &v; }}});
    if (!node.is_map()) return test;
    if (test.name.empty()) add_(node.place, field, "the test has no `name`");
    if (given == nullptr) add_(node.place, field, "the test has no `given`");
    if (expect == nullptr) add_(node.place, field, "the test has no `expect`");
    if (given != nullptr) ReadGiven(*given, absl::StrCat(field, ".given"), test);
    if (expect != nullptr) ReadExpect(*expect, absl::StrCat(field, ".expect"), test);
    return test;
  }

  // ---- given ----

  // The stream that a name of `given` stands for; "" when it is neither a source nor a stream.
  std::string StreamOf(const YamlNode& name, const std::string& field) {
    if (const SourceDef* source = domain_.FindSource(name.text)) return source->stream;
    std::vector<std::string> names;
    for (const SourceDef& source : domain_.sources) {
      if (source.stream == name.text) return name.text;
      names.push_back(source.name);
    }
    add_(name.place, absl::StrCat(field, ".", name.text),
         absl::StrCat("there is no source `", name.text, "`", SuggestName(name.text, names)));
    return "";
  }

  void ReadGiven(const YamlNode& node, const std::string& field, TestDef& test) {
    ForEach(node, field, "given", [&](const YamlNode& name, const YamlNode& list) {
      const std::string stream = StreamOf(name, field);
      const std::string path = absl::StrCat(field, ".", name.text);
      if (!IsList(list, path, absl::StrCat("the records of ", name.text), kRecordsMax)) return;
      first_[name.text] = static_cast<int64_t>(test.given.size());
      counts_[name.text] = static_cast<int64_t>(list.items.size());
      for (const YamlNode& item : list.items) {
        TestRecord record = ReadRecord(item, path);
        record.stream = stream;
        if (record.ingest_time_us == 0) {
          record.ingest_time_us =
              kFirstIngestTimeUs + static_cast<int64_t>(test.given.size()) * kIngestStepUs;
        }
        test.given.push_back(std::move(record));
      }
    });
    if (test.given.size() <= kRecordsMax) return;
    add_(node.place, field,
         absl::StrCat(test.given.size(), " records, the limit of one test is ", kRecordsMax));
  }

  // With `raw` or `payload` and nothing but what describes a record; else the map is the payload.
  static bool IsDescribed(const YamlNode& node) {
    bool has_payload = false;
    for (const YamlEntry& entry : node.entries) {
      const std::string& key = entry.key.text;
      has_payload = has_payload || key == "raw" || key == "payload";
      if (key != "raw" && key != "payload" && key != "key" && key != "event_time" &&
          key != "ingest_time") {
        return false;
      }
    }
    return has_payload;
  }

  TestRecord ReadRecord(const YamlNode& node, const std::string& field) {
    TestRecord record;
    if (!node.is_map()) {
      add_(node.place, field,
           absl::StrCat("a record must be a map, e.g. {origin: ABE} or {raw: '{\"origin\":'}, not ",
                        KindOf(node)));
      return record;
    }
    if (!IsDescribed(node)) {
      record.payload = JsonOf(node, field);
      return record;
    }
    int payloads = 0;
    ReadKeys(node, field, "a record",
             {{"raw",
               [&](const YamlNode& v, const std::string& f) {
                 record.payload = Text(v, f);
                 ++payloads;
               }},
              {"payload",
               [&](const YamlNode& v, const std::string& f) {
                 record.payload = JsonOf(v, f);
                 ++payloads;
               }},
              {"key", [&](const YamlNode& v, const std::string& f) { record.key = Text(v, f); }},
              {"event_time",
               [&](const YamlNode& v, const std::string& f) { record.event_time_us = Time(v, f); }},
              {"ingest_time", [&](const YamlNode& v, const std::string& f) {
                 record.ingest_time_us = Time(v, f);
               }}});
    if (payloads > 1) add_(node.place, field, "a record has raw or payload, not both");
    return record;
  }

  std::string Text(const YamlNode& node, const std::string& field) {
    if (!node.is_scalar()) {
      add_(node.place, field, absl::StrCat(field, " must be text, not ", KindOf(node)));
    }
    return node.text;
  }

  int64_t Time(const YamlNode& node, const std::string& field) {
    absl::Time time;
    std::string ignored;
    if (node.is_scalar() && absl::ParseTime(absl::RFC3339_full, node.text, &time, &ignored)) {
      return absl::ToUnixMicros(time);
    }
    add_(node.place, field,
         absl::StrCat(field, " must be a time with its offset, e.g. \"2001-01-01T00:05:00Z\""));
    return 0;
  }

  // The YAML value as JSON; numbers keep their digits.
  std::string JsonOf(const YamlNode& node, const std::string& field) {
    std::vector<std::string> parts;
    switch (node.kind) {
      case YamlNode::Kind::kNull:
      case YamlNode::Kind::kScalar:
        return ScalarAsJson(node);
      case YamlNode::Kind::kSequence:
        for (const YamlNode& item : node.items) parts.push_back(JsonOf(item, field));
        return absl::StrCat("[", absl::StrJoin(parts, ","), "]");
      case YamlNode::Kind::kMap:
        ForEach(node, field, "a record", [&](const YamlNode& key, const YamlNode& value) {
          parts.push_back(absl::StrCat(JsonText(key.text), ":", JsonOf(value, field)));
        });
        return absl::StrCat("{", absl::StrJoin(parts, ","), "}");
    }
    return "null";
  }

  // ---- expect ----

  void ReadExpect(const YamlNode& node, const std::string& field, TestDef& test) {
    std::vector<std::string> names;
    for (const SliceDef& slice : domain_.slices) names.push_back(slice.name);
    ForEach(node, field, "expect", [&](const YamlNode& name, const YamlNode& value) {
      const std::string path = absl::StrCat(field, ".", name.text);
      if (domain_.FindSlice(name.text) == nullptr) {
        add_(name.place, path,
             absl::StrCat("there is no slice `", name.text, "`", SuggestName(name.text, names)));
        return;
      }
      test.expect.push_back(ReadExpectation(name, value, path));
    });
    if (node.is_map() && node.entries.empty()) {
      add_(node.place, field, "the test expects nothing: name a slice and its rows");
    }
  }

  TestExpectation ReadExpectation(const YamlNode& name, const YamlNode& node,
                                  const std::string& field) {
    TestExpectation expected;
    expected.slice = name.text;
    expected.place = name.place;
    ReadKeys(
        node, field, absl::StrCat("what is expected of ", name.text),
        {{"rows", [&](const YamlNode& v, const std::string& f) { expected.rows = ReadRows(v, f); }},
         {"quarantined",
          [&](const YamlNode& v, const std::string& f) { expected.quarantined = Places(v, f); }},
         {"filtered",
          [&](const YamlNode& v, const std::string& f) { expected.filtered = Places(v, f); }},
         {"tolerance",
          [&](const YamlNode& v, const std::string& f) { ReadTolerance(v, f, expected); }}});
    if (node.is_map() && node.entries.empty()) {
      add_(name.place, field, "nothing is expected: give rows, quarantined or filtered");
    }
    return expected;
  }

  std::vector<TestRow> ReadRows(const YamlNode& node, const std::string& field) {
    std::vector<TestRow> rows;
    if (!IsList(node, field, "rows", kRowsMax)) return rows;
    for (const YamlNode& item : node.items) {
      TestRow row;
      row.place = item.place;
      ForEach(item, field, "a row", [&](const YamlNode& column, const YamlNode& value) {
        row.values[column.text] = {JsonOf(value, field), value.place};
      });
      if (item.is_map() && !rows.empty() && !SameColumns(rows.front(), row)) {
        add_(item.place, field,
             absl::StrCat("this row names other columns than the first one in line ",
                          rows.front().place.line, ": all rows name the same"));
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }

  static bool SameColumns(const TestRow& a, const TestRow& b) {
    return std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(),
                      [](const auto& x, const auto& y) { return x.first == y.first; });
  }

  void ReadTolerance(const YamlNode& node, const std::string& field, TestExpectation& expected) {
    ForEach(node, field, "tolerance", [&](const YamlNode& column, const YamlNode& value) {
      double number = 0;
      if (!absl::SimpleAtod(value.text, &number) || !(number >= 0 && number <= 1)) {
        add_(value.place, absl::StrCat(field, ".", column.text),
             "a tolerance must be a number from 0 to 1, e.g. 1e-9");
      }
      expected.tolerance[column.text] = number;
    });
  }

  // [2] in the only list of `given`, or {flights: [2]}.
  std::vector<int64_t> Places(const YamlNode& node, const std::string& field) {
    std::vector<int64_t> positions;
    if (node.is_map()) {
      ForEach(node, field, field, [&](const YamlNode& name, const YamlNode& list) {
        if (counts_.count(name.text) > 0) {
          AddPlaces(list, field, name.text, positions);
        } else {
          add_(name.place, field, absl::StrCat("`given` has no list `", name.text, "`"));
        }
      });
    } else if (counts_.size() == 1) {
      AddPlaces(node, field, counts_.begin()->first, positions);
    } else if (!node.is_sequence() || !node.items.empty()) {
      add_(node.place, field,
           absl::StrCat("`given` has ", counts_.size(), " lists: say whose records, e.g. {",
                        counts_.empty() ? "flights" : counts_.begin()->first, ": [2]}"));
    }
    std::sort(positions.begin(), positions.end());
    return positions;
  }

  void AddPlaces(const YamlNode& list, const std::string& field, const std::string& given,
                 std::vector<int64_t>& positions) {
    if (!IsList(list, field, "the places of records", kRecordsMax)) return;
    for (const YamlNode& item : list.items) {
      int64_t place = 0;
      if (!item.is_scalar() || !absl::SimpleAtoi(item.text, &place) || place < 0 ||
          place >= counts_[given]) {
        add_(item.place, field,
             absl::StrCat("a place must be a number from 0 to ", counts_[given] - 1,
                          ", where the record stands in `", given, "`"));
        continue;
      }
      const int64_t position = first_[given] + place;
      if (std::find(positions.begin(), positions.end(), position) != positions.end()) {
        add_(item.place, field, absl::StrCat("place ", place, " is there twice"));
        continue;
      }
      positions.push_back(position);
    }
  }

  const DomainDef& domain_;
  const AddViolation& add_;
  // Of the test that is read: the lists of `given`, how long they are and where they begin.
  std::map<std::string, int64_t> counts_;
  std::map<std::string, int64_t> first_;
};

}  // namespace

std::vector<TestDef> ReadTests(const YamlNode& node, const DomainDef& domain,
                               const AddViolation& add) {
  return TestsReader(domain, add).Read(node);
}

}  // namespace icepie::slices
