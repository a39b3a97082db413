// A case of the differential test: a random domain, the records that come to it step by step, and
// what each record means to each source. It is plain data, so that it can be made smaller.
#ifndef ICEPIE_TESTS_SLICES_DIFFERENTIAL_CASE_H_
#define ICEPIE_TESTS_SLICES_DIFFERENTIAL_CASE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace icepie::slices {

// What an expression gives, as far as the grammar has to know.
enum class ValueKind { kBool, kInt, kDecimal, kDouble, kText, kTime, kDate, kOther };

// A field that the records of a stream carry.
struct CaseField {
  std::string name;
  std::string type;  // SQL
  ValueKind kind = ValueKind::kInt;
  std::string path;    // "$.n.c1"; empty: the name
  std::string format;  // epoch_ms; empty: none
};

// A value of a field in one record.
struct CaseValue {
  enum class Is { kAbsent, kNull, kGood, kWrong, kInexact };
  Is is = Is::kAbsent;
  std::string json;
  std::string sql;  // of kGood, and of kInexact once rounded
};

struct CaseRecord {
  bool broken = false;  // not well-formed JSON
  bool harmed = false;  // so on its way to the engine only: what the test of shrinking looks for
  std::string type;     // $.type, what a source's `where` looks at
  std::vector<CaseValue> values;
};

struct CaseStream {
  std::string name;
  std::vector<CaseField> fields;
};

struct CaseColumn {
  size_t field = 0;
  bool required = false;
  bool half_up = false;
  std::string default_json;  // empty: none
  std::string default_sql;
};

struct CaseSource {
  std::string name;
  size_t stream = 0;
  std::string where;  // the value of $.type; empty: all
  std::vector<CaseColumn> columns;
  std::string latest_by;  // empty: no dimension
};

// An output column: `sql` AS c<number>.
struct CaseItem {
  std::string sql;
  ValueKind kind = ValueKind::kInt;
  int retain_seconds = 0;  // not 0: the slice retains by it
};

// One SELECT, in parts that can be left out.
struct CaseQuery {
  std::string with;      // "WITH …"
  std::string distinct;  // "DISTINCT ON (…)"
  std::vector<CaseItem> items;
  std::string from;
  std::string where;
  std::string group;
  std::string having;
  std::string qualify;
  std::string order;  // with its LIMIT

  std::string Sql() const;
  // The item that the slice retains by; nullopt: it keeps all.
  std::optional<size_t> Retained() const;
};

struct CaseSlice {
  std::string name;
  CaseQuery query;
  std::vector<std::string> reads;  // sources and slices
};

struct CaseBatch {
  size_t stream = 0;
  std::vector<CaseRecord> records;
};

enum class CaseRestart { kNone, kClean, kKill };

// Batches are appended one after the other; then the slices are compared, then the engine restarts.
struct CaseStep {
  std::vector<CaseBatch> batches;
  CaseRestart restart = CaseRestart::kNone;
  bool refresh = false;              // recomputes are asked for instead of waited for
  bool acknowledges = false;         // all that is in quarantine, before the restart
  std::optional<size_t> lost_slice;  // whose snapshots are not there after the restart
};

struct DifferentialCase {
  uint64_t seed = 0;
  std::vector<CaseStream> streams;
  std::vector<CaseSource> sources;
  std::vector<CaseSlice> slices;
  std::vector<CaseStep> steps;
  size_t blocks_per_piece = 4;
  bool saved_often = false;  // snapshots also between restarts
  // The slice that is built anew at the end is so from the same file, as when its quarantine is
  // tried again; and what the build has saved when its process ends, if not 0, so many times.
  bool retried = false;
  int interrupted = 0;

  const CaseSource* FindSource(const std::string& name) const;
  const CaseSlice* FindSlice(const std::string& name) const;
  std::string Yaml() const;
  size_t RecordCount() const;
};

// The JSON text of a record.
std::string PayloadOf(const CaseStream& stream, const CaseRecord& record);

// The value's SQL literal in `column`; "" when the record is bad there.
std::string LiteralOf(const CaseColumn& column, const CaseValue& value);

// Everything for people: the file, the records, the restarts.
std::string Describe(const DifferentialCase& test_case);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_DIFFERENTIAL_CASE_H_
