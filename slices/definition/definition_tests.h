// `tests:` of a domain file: records that a case is given, and what its slices then show.
//
//   tests:
//     - name: early_and_late
//       given:                                   # by source (or stream), in the order of the file
//         flights:
//           - {date: "2001-01-01T00:05:00", origin: ABE, delay: -3}        # a payload …
//           - {raw: '{"date":"x"', key: ABE, event_time: "2001-01-01T00:05:00Z"}   # … or its text
//           - {payload: {key: a field of the payload}, ingest_time: "2001-01-02T00:00:00Z"}
//       expect:
//         on_time:
//           rows: [{origin: ABE, flights: 1}]    # in any order; columns that no row names are free
//           quarantined: [1]                     # places in the list; without it: none
//           filtered: {flights: [2]}             # without it: any
//           tolerance: {avg_delay: 1e-6}         # relative; DOUBLE and FLOAT have 1e-9
//
// The position of a record is its place over all lists of `given`. Ingest times begin at
// 2000-01-01 and are a second apart.
#ifndef ICEPIE_SLICES_DEFINITION_DEFINITION_TESTS_H_
#define ICEPIE_SLICES_DEFINITION_DEFINITION_TESTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "slices/definition/file_place.h"

namespace icepie::slices {

struct DomainDef;
struct YamlNode;

struct TestRecord {
  std::string stream;
  std::string payload;
  std::optional<std::string> key;
  std::optional<int64_t> event_time_us;
  int64_t ingest_time_us = 0;
};

// An expected value: JSON text.
struct TestValue {
  std::string json;
  FilePlace place;
};

struct TestRow {
  std::map<std::string, TestValue> values;  // all rows of an expectation have the same columns
  FilePlace place;
};

struct TestExpectation {
  std::string slice;
  std::optional<std::vector<TestRow>> rows;
  std::vector<int64_t> quarantined;              // positions, sorted
  std::optional<std::vector<int64_t>> filtered;  // positions, sorted
  std::map<std::string, double> tolerance;
  FilePlace place;
};

struct TestDef {
  std::string name;
  std::vector<TestRecord> given;  // by position
  std::vector<TestExpectation> expect;
  FilePlace place;
};

// What is wrong, and where.
using AddViolation =
    std::function<void(FilePlace place, const std::string& field, const std::string& what)>;

// Reads the list of a file whose sources and slices are known already.
std::vector<TestDef> ReadTests(const YamlNode& node, const DomainDef& domain,
                               const AddViolation& add);

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_DEFINITION_DEFINITION_TESTS_H_
