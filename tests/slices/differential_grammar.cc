#include "tests/slices/differential_grammar.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/civil_time.h"

namespace icepie::slices {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // From 0 to below `end`, the same on every machine.
  size_t Below(size_t end) { return engine_() % end; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Pick(const std::vector<T>& from) {
    return from[Below(from.size())];
  }
  std::string Word(const std::vector<const char*>& from) { return Pick(from); }

 private:
  std::mt19937_64 engine_;
};

// ------------------------------------------------------------------------------------- records

struct TypeChoice {
  const char* type;
  ValueKind kind;
};

constexpr TypeChoice kTypes[] = {
    {"VARCHAR", ValueKind::kText},
    {"INTEGER", ValueKind::kInt},
    {"BIGINT", ValueKind::kInt},
    {"DECIMAL(18,4)", ValueKind::kDecimal},
    {"DECIMAL(9,2)", ValueKind::kDecimal},
    {"DOUBLE", ValueKind::kDouble},
    {"TIMESTAMP", ValueKind::kTime},
    {"TIMESTAMPTZ", ValueKind::kTime},
    {"DATE", ValueKind::kDate},
    {"BOOLEAN", ValueKind::kBool},
    {"SMALLINT", ValueKind::kInt},
    {"HUGEINT", ValueKind::kInt},
    {"UUID", ValueKind::kOther},
    {"INTEGER[]", ValueKind::kOther},
    {"STRUCT(a INTEGER, b VARCHAR)", ValueKind::kOther},
};

class RecordMaker {
 public:
  RecordMaker(Random& random, bool extreme) : random_(random), extreme_(extreme) {}

  CaseRecord Make(const CaseStream& stream) {
    CaseRecord record;
    record.broken = random_.OneIn(50);
    record.type = random_.Word({"a", "a", "b"});
    for (const CaseField& field : stream.fields) record.values.push_back(Value(field));
    return record;
  }

  CaseValue Good(const CaseField& field) {
    CaseValue value;
    value.is = CaseValue::Is::kGood;
    switch (field.kind) {
      case ValueKind::kBool:
        value.json = value.sql = random_.Word({"true", "false"});
        break;
      case ValueKind::kInt:
        value.json = value.sql = Integer(field);
        break;
      case ValueKind::kDecimal:
        Decimal(value);
        break;
      case ValueKind::kDouble:
        value.json = Double();
        value.sql = absl::StrCat("'", value.json, "'");
        break;
      case ValueKind::kOther:
        Other(field, value);
        break;
      case ValueKind::kText:
        Text(value);
        break;
      default:
        Time(field, value);
    }
    return value;
  }

 private:
  CaseValue Value(const CaseField& field) {
    CaseValue value;
    if (random_.OneIn(12)) return value;
    if (random_.OneIn(9)) {
      value.is = CaseValue::Is::kNull;
      value.json = "null";
      return value;
    }
    if (random_.OneIn(45)) return Wrong(field);
    if (field.kind == ValueKind::kDecimal && random_.OneIn(25)) {
      return {CaseValue::Is::kInexact, "12.3456789",
              field.type == "DECIMAL(9,2)" ? "12.35" : "12.3457"};
    }
    return Good(field);
  }

  CaseValue Wrong(const CaseField& field) {
    std::string json;
    switch (field.kind) {
      case ValueKind::kBool:
        json = random_.Word({"1", "\"true\""});
        break;
      case ValueKind::kInt:
        json = random_.Word({"\"7\"", "7.5", "1e3", "999999999999999999999999999999999999999999"});
        break;
      case ValueKind::kDecimal:
        json = random_.Word({"\"1,204.50\"", "true", "99999999999999999999"});
        break;
      case ValueKind::kDouble:
        json = random_.Word({"\"1.5\"", "1e999", "{}"});
        break;
      case ValueKind::kText:
        json = random_.Word({"12", "[\"x\"]", "false"});
        break;
      case ValueKind::kOther:
        json = random_.Word({"12", "\"x\"", "true"});
        break;
      default:
        json = random_.Word({"\"yesterday\"", "true", "\"2026-02-30T00:00:00\""});
    }
    return {CaseValue::Is::kWrong, json, ""};
  }

  std::string Integer(const CaseField& field) {
    const bool small = field.type == "SMALLINT";
    if (extreme_ && random_.OneIn(25)) {
      // A power of two: averages and deviations have it exactly.
      if (field.type == "HUGEINT") return random_.Word({"", "-"}) + "1180591620717411303424";
      return field.type == "BIGINT" ? "9223372036854775807" : small ? "32767" : "2147483647";
    }
    return absl::StrCat(static_cast<int>(random_.Below(24)) - 4);
  }

  // Those whose sums are exact in every order: so they may be compared closely, also where they
  // cancel out, and a large one hides none that is small.
  std::string Double() {
    const std::string sign = random_.OneIn(4) ? "-" : "";
    switch (random_.Below(12)) {
      case 0:
        return sign + "0.0";
      case 1:  // times 2 ^ 28
        return absl::StrFormat("%s%d", sign, static_cast<int64_t>(random_.Below(8)) << 28);
      case 2:  // times 2 ^ -12
        return absl::StrFormat("%s%d.000244140625", sign, static_cast<int>(random_.Below(3)));
      default:
        return absl::StrFormat("%s%d.%s", sign, static_cast<int>(random_.Below(400)),
                               random_.Word({"0", "25", "5", "75"}));
    }
  }

  void Other(const CaseField& field, CaseValue& value) {
    const int i = static_cast<int>(random_.Below(4));
    const int j = static_cast<int>(random_.Below(3));
    if (field.type == "UUID") {
      value.json = absl::StrFormat("\"0%d000000-0000-4000-8000-00000000000%d\"", i, j);
      value.sql = absl::StrFormat("'0%d000000-0000-4000-8000-00000000000%d'", i, j);
    } else if (field.type == "INTEGER[]") {
      value.json = random_.OneIn(4) ? "[]" : absl::StrFormat("[%d, null, %d]", i, j);
      value.sql = absl::StrCat("'", value.json, "'");
    } else {
      value.json = absl::StrFormat("{\"a\": %d, \"b\": \"%s\"}", i, j == 0 ? "eth" : "x");
      value.sql = absl::StrFormat("{'a': %d, 'b': '%s'}", i, j == 0 ? "eth" : "x");
    }
  }

  void Decimal(CaseValue& value) {
    value.sql = absl::StrFormat("%d.%02d", static_cast<int>(random_.Below(1200)) - 200,
                                static_cast<int>(random_.Below(100)));
    value.json = random_.OneIn(2) ? absl::StrCat("\"", value.sql, "\"") : value.sql;
  }

  void Text(CaseValue& value) {
    static constexpr struct {
      const char* json;
      const char* sql;
    } kTexts[] = {{"\"eth\"", "'eth'"},    {"\"sol\"", "'sol'"}, {"\"btc\"", "'btc'"},
                  {"\"eth\"", "'eth'"},    {"\"\"", "''"},       {"\"z\\u00fcrich\"", "'zürich'"},
                  {"\"it's\"", "'it''s'"}, {"\"17\"", "'17'"},   {"\"3\"", "'3'"},
                  {"\"many\"", "'many'"}};
    const auto& text = kTexts[random_.Below(std::size(kTexts) - (extreme_ ? 0 : 1))];
    value.json = text.json;
    value.sql = text.sql;
  }

  void Time(const CaseField& field, CaseValue& value) {
    // Three days, and now and then another century.
    const bool far = random_.OneIn(10);
    const int year = far ? 1890 + static_cast<int>(random_.Below(220)) : 2026;
    const int month = far ? 1 + static_cast<int>(random_.Below(12)) : 1;
    const int day = 1 + static_cast<int>(random_.Below(far ? 28 : 3));
    if (field.kind == ValueKind::kDate) {
      value.json = absl::StrFormat("\"%d-%02d-%02d\"", year, month, day);
      value.sql = absl::StrFormat("'%d-%02d-%02d'", year, month, day);
      return;
    }
    const int hour = static_cast<int>(random_.Below(24));
    const int minute = static_cast<int>(random_.Below(60));
    const std::string text =
        absl::StrFormat("%d-%02d-%02d %02d:%02d:00", year, month, day, hour, minute);
    value.sql = absl::StrCat("'", text, field.type == "TIMESTAMPTZ" ? "+00'" : "'");
    if (!field.format.empty()) {
      const absl::CivilMinute at(year, month, day, hour, minute);
      value.json = absl::StrCat((at - absl::CivilMinute(1970)) * 60'000);
      return;
    }
    value.json = absl::StrCat("\"", text, "\"");
    if (field.type != "TIMESTAMPTZ") return;
    const bool zoned = random_.OneIn(2);
    value.json = absl::StrCat("\"", text, zoned ? "+02:00\"" : "Z\"");
    if (zoned) value.sql = absl::StrCat("'", text, "+02'");
  }

  Random& random_;
  bool extreme_;
};

// ----------------------------------------------------------------------------------------- SQL

struct ScopeColumn {
  std::string sql;
  ValueKind kind;
};

// What a FROM clause offers. `position` orders its rows fully; empty: nothing does.
struct Scope {
  std::string from;
  std::vector<ScopeColumn> columns;
  std::string position;
  std::vector<std::string> reads;
  bool source = true;   // its position is a column
  bool sorted = false;  // rows of one slice, which have an order of their own

  std::vector<std::string> Of(ValueKind kind) const {
    std::vector<std::string> found;
    for (const ScopeColumn& column : columns) {
      if (column.kind == kind) found.push_back(column.sql);
    }
    return found;
  }
};

constexpr char kIngestTime[] = "_time";

class Grammar {
 public:
  Grammar(Random& random, const DifferentialCase& made, bool extreme)
      : random_(random), made_(made), extreme_(extreme) {}

  CaseSlice Make(const std::string& name) {
    slice_ = CaseSlice{name, {}, {}};
    by_ingest_time_ = random_.OneIn(4);
    const bool over_slice = !made_.slices.empty() && random_.OneIn(3);
    if (over_slice) {
      OverSlice();
    } else {
      OverSources();
    }
    return Take();
  }

  // A slice of a domain in which most read other slices.
  CaseSlice MakeLayer(const std::string& name) {
    slice_ = CaseSlice{name, {}, {}};
    by_ingest_time_ = random_.OneIn(6);
    if (made_.slices.empty() || random_.OneIn(5)) {
      Changing();
    } else {
      OverChanging();
    }
    return Take();
  }

 private:
  // Records come a second apart, or many in one; only ingest times are near the horizon.
  void Retain() {
    // What fails on rows that are let go fails in the reference run alone.
    const bool may_fail = extreme_ && absl::StrContains(query().from, "JOIN");
    if (!by_ingest_time_ || may_fail) return;
    std::vector<CaseItem*> times;
    for (CaseItem& item : query().items) {
      const bool ingest = absl::StrContains(item.sql, kIngestTime);
      if (ingest && item.kind == ValueKind::kTime) times.push_back(&item);
    }
    if (!times.empty()) random_.Pick(times)->retain_seconds = 1 + random_.Below(5);
  }

  CaseSlice Take() {
    Retain();
    std::sort(slice_.reads.begin(), slice_.reads.end());
    slice_.reads.erase(std::unique(slice_.reads.begin(), slice_.reads.end()), slice_.reads.end());
    return slice_;
  }

  void OverSources() {
    Scope scope = OfSource("", Source());
    if (random_.OneIn(8)) Hide(scope);
    const std::vector<void (Grammar::*)(Scope)> forms = {
        &Grammar::Append,      &Grammar::Append,      &Grammar::Aggregate,   &Grammar::Aggregate,
        &Grammar::Aggregate,   &Grammar::Aggregate,   &Grammar::Holistic,    &Grammar::Windows,
        &Grammar::TopN,        &Grammar::TopN,        &Grammar::Newest,      &Grammar::Joined,
        &Grammar::Joined,      &Grammar::Joined,      &Grammar::Others,      &Grammar::Others,
        &Grammar::Sessions,    &Grammar::Hopping,     &Grammar::Unnested,    &Grammar::Clusters,
        &Grammar::JoinedByKey, &Grammar::JoinedByKey, &Grammar::JoinedByKey, &Grammar::Dimensions,
        &Grammar::JoinedWide,  &Grammar::JoinedWide,  &Grammar::JoinedWide,  &Grammar::JoinedWide,
        &Grammar::TwoSteps,    &Grammar::Rollup,      &Grammar::Nearest,     &Grammar::Guarded};
    (this->*random_.Pick(forms))(scope);
  }

  // A further column of a name, which nobody above can name so.
  void Hide(Scope& scope) {
    std::string hidden = random_.Pick(scope.columns).sql;
    if (hidden == kIngestTime) hidden = scope.columns.front().sql;
    const std::string other =
        random_.OneIn(2) ? Text(scope) : absl::StrCat("row_number()", Over(scope, ""));
    scope.from = absl::StrCat("(SELECT *, ", other, " AS ", hidden, " FROM ", scope.from, ")");
  }

  // To each constant the record with the nearest number.
  void Nearest(Scope scope) {
    const std::string number = Column(scope, ValueKind::kInt, "abs(7)");
    From(scope);
    query().from = absl::StrCat("(VALUES (1), (6), (30)) AS v(x) ASOF JOIN ", scope.from,
                                " ON v.x >= ", number);
    Item("x", ValueKind::kInt);
    Item(number, ValueKind::kInt);
  }

  void OverSlice() {
    const CaseSlice& upstream = random_.Pick(made_.slices);
    Scope scope = OfSlice("", upstream);
    if (random_.OneIn(3)) {
      const Scope left = OfSlice("u", upstream);
      return Join(left, OfSource("b", Source()));
    }
    if (random_.OneIn(3)) return Append(scope);
    if (random_.OneIn(5)) return Windows(scope);
    if (random_.OneIn(5)) return Holistic(scope);
    if (random_.OneIn(8)) return Clusters(scope);
    Aggregate(scope);
  }

  // Rows that change and vanish as records come, for slices over them.
  void Changing() {
    const Scope scope = OfSource("", Source());
    const std::vector<void (Grammar::*)(Scope)> forms = {
        &Grammar::Newest,      &Grammar::Newest,    &Grammar::TopN,   &Grammar::Aggregate,
        &Grammar::Aggregate,   &Grammar::Holistic,  &Grammar::Append, &Grammar::Others,
        &Grammar::JoinedByKey, &Grammar::JoinedWide};
    (this->*random_.Pick(forms))(scope);
  }

  void OverChanging() {
    const CaseSlice& upstream = random_.Pick(made_.slices);
    // With the relation's name: what is ordered by could else be an output of the same name.
    Scope in_order = OfSlice("u", upstream);
    in_order.position = OrderOf(in_order);
    in_order.source = false;
    const std::vector<void (Grammar::*)(Scope)> forms = {
        &Grammar::Retracted,  &Grammar::Retracted, &Grammar::Retracted,  &Grammar::Append,
        &Grammar::Aggregate,  &Grammar::Holistic,  &Grammar::Distinct,   &Grammar::Nested,
        &Grammar::Common,     &Grammar::Rollup,    &Grammar::JoinedWide, &Grammar::JoinedWide,
        &Grammar::JoinedWide, &Grammar::Clusters,  &Grammar::TwoSteps,   &Grammar::Guarded};
    const std::vector<void (Grammar::*)(Scope)> ordered = {&Grammar::Windows, &Grammar::TopN,
                                                           &Grammar::Newest,  &Grammar::Largest,
                                                           &Grammar::Listed,  &Grammar::WholeRows};
    const bool plain = in_order.position.empty() || !random_.OneIn(3);
    if (plain) return (this->*random_.Pick(forms))(OfSlice("", upstream));
    (this->*random_.Pick(ordered))(in_order);
  }

  // All columns, which order rows fully; "" when some cannot be compared exactly.
  static std::string OrderOf(const Scope& scope) {
    std::vector<std::string> names;
    for (const ScopeColumn& column : scope.columns) {
      if (column.kind == ValueKind::kDouble || column.kind == ValueKind::kOther) return "";
      names.push_back(column.sql);
    }
    return absl::StrJoin(names, ", ");
  }

  // Whole rows of a slice, as text.
  void WholeRows(Scope scope) {
    From(scope);
    const std::string row = random_.Word({"CAST(u AS VARCHAR)", "md5(CAST(u AS VARCHAR))"});
    Item(row, ValueKind::kText);
    switch (random_.Below(3)) {
      case 0:
        break;
      case 1:
        Item(absl::StrCat("row_number() OVER (PARTITION BY ", Text(scope), " ORDER BY ",
                          scope.position, ")"),
             ValueKind::kInt);
        break;
      default:
        Item("count(*)", ValueKind::kInt);
        query().group = "ALL";
    }
    Where(scope);
  }

  // Aggregates from which rows can be taken back.
  void Retracted(Scope scope) {
    From(scope);
    query().group = Keys(scope);
    for (size_t i = 1 + random_.Below(3); i > 0; --i) {
      const std::string decimal = Column(scope, ValueKind::kDecimal, "");
      const bool exact = !decimal.empty() && random_.OneIn(2);
      const std::string number = exact ? decimal : Int(scope);
      const ValueKind kind = exact ? ValueKind::kDecimal : ValueKind::kInt;
      const std::string filter =
          random_.OneIn(3) ? absl::StrCat(" FILTER (WHERE ", Bool(scope), ")") : "";
      const std::string name = random_.Word({"count", "sum", "sum", "avg"});
      Item(absl::StrCat(name, "(", number, ")", filter), name == "avg"   ? ValueKind::kDouble
                                                         : name == "sum" ? kind
                                                                         : ValueKind::kInt);
    }
    if (random_.OneIn(3)) Item("count(*)", ValueKind::kInt);
    Where(scope);
    if (!query().group.empty() && random_.OneIn(4)) query().having = "count(*) > 1";
  }

  void Nested(Scope scope) {
    const CaseItem key = Key(scope);
    query().from = absl::StrCat("(SELECT ", Text(scope), " AS k, ", key.sql,
                                " AS j, count(*) AS n FROM ", scope.from, " GROUP BY ALL)");
    slice_.reads.insert(slice_.reads.end(), scope.reads.begin(), scope.reads.end());
    Item("k", ValueKind::kText);
    Item(random_.Word({"max(n)", "sum(n)", "count(*)"}), ValueKind::kInt);
    query().group = "k";
  }

  // Grouped, or counted within windows, by what fails on the rows that a filter drops.
  void Guarded(Scope scope) {
    const std::string text = Column(scope, ValueKind::kText, "upper('17')");
    const std::string key = absl::StrCat("CAST(", text, " AS INTEGER)");
    const std::string filter =
        random_.Word({" IN ('17', '3')", " COLLATE NOCASE IN ('17', '3')", " = '17'"});
    // Above the rows, or where they are read.
    if (random_.OneIn(2)) scope.from = absl::StrCat("(SELECT * FROM ", scope.from, ")");
    From(scope);
    query().where = absl::StrCat(text, filter);
    if (random_.OneIn(3)) {
      Item(text, ValueKind::kText);
      Item(absl::StrCat("count(*) OVER (PARTITION BY ", key, ")"), ValueKind::kInt);
      return;
    }
    Item(key, ValueKind::kInt);
    query().group = "ALL";
    scope.position.clear();  // a subquery does not hand it on
    const CaseItem item = HolisticItem(scope);
    Item(item.sql, item.kind);
  }

  // Groups of groups, or windows over windows, that have no key in common.
  void TwoSteps(Scope scope) {
    const std::string text = Text(scope);
    const std::string number = Int(scope);
    slice_.reads.insert(slice_.reads.end(), scope.reads.begin(), scope.reads.end());
    if (random_.OneIn(2) || scope.position.empty()) {
      query().from = absl::StrCat("(SELECT ", text, " AS k, count(*) AS n, max(", number,
                                  ") AS m FROM ", scope.from, " GROUP BY ALL)");
      Item(random_.Word({"n", "m", "n % 3"}), ValueKind::kInt);
      Item(random_.Word({"count(*)", "sum(n)", "max(k)"}), ValueKind::kInt);
      query().items.back().kind =
          query().items.back().sql == "max(k)" ? ValueKind::kText : ValueKind::kInt;
      query().group = "ALL";
      return;
    }
    query().from = absl::StrCat("(SELECT ", text, " AS k, ", number, " AS m FROM ", scope.from,
                                " QUALIFY row_number() OVER (PARTITION BY ", text, " ORDER BY ",
                                scope.position, " DESC) <= 2)");
    Item("k", ValueKind::kText);
    Item("m", ValueKind::kInt);
    Item("count(*) OVER (PARTITION BY m)", ValueKind::kInt);
  }

  void Listed(Scope scope) {
    From(scope);
    query().group = Keys(scope);
    const auto [value, kind] = Ordered(scope);
    const std::string name = random_.Word({"list(", "first(", "last("});
    Item(absl::StrCat(name, value, " ORDER BY ", scope.position, ")"),
         name == "list(" ? ValueKind::kOther : kind);
    Item("count(*)", ValueKind::kInt);
  }

  const CaseSource& Source() { return random_.Pick(made_.sources); }

  // Another source; often another reading of the stream of `first`, if there is one.
  const CaseSource& Beside(const std::string& first) {
    const CaseSource* one = made_.FindSource(first);
    if (one == nullptr || !random_.OneIn(3)) return Source();
    std::vector<const CaseSource*> readings;
    for (const CaseSource& source : made_.sources) {
      if (source.stream == one->stream) readings.push_back(&source);
    }
    return *random_.Pick(readings);
  }

  Scope OfSource(const std::string& alias, const CaseSource& source) {
    const std::string before = alias.empty() ? "" : alias + ".";
    Scope scope;
    scope.from = alias.empty() ? source.name : absl::StrCat(source.name, " AS ", alias);
    scope.position = before + "_position";
    scope.reads = {source.name};
    for (const CaseColumn& column : source.columns) {
      const CaseField& field = made_.streams[source.stream].fields[column.field];
      scope.columns.push_back({before + field.name, field.kind});
    }
    // Often enough to be grouped by.
    for (int i = 0; by_ingest_time_ && i < 3; ++i) {
      scope.columns.push_back({before + kIngestTime, ValueKind::kTime});
    }
    return scope;
  }

  static Scope OfSlice(const std::string& alias, const CaseSlice& slice) {
    const std::string before = alias.empty() ? "" : alias + ".";
    Scope scope;
    scope.from = alias.empty() ? slice.name : absl::StrCat(slice.name, " AS ", alias);
    scope.reads = {slice.name};
    for (size_t i = 0; i < slice.query.items.size(); ++i) {
      scope.columns.push_back({absl::StrCat(before, "c", i), slice.query.items[i].kind});
    }
    scope.sorted = !OrderOf(scope).empty();
    return scope;
  }

  CaseQuery& query() { return slice_.query; }
  void Item(std::string sql, ValueKind kind) { query().items.push_back({std::move(sql), kind}); }
  void From(const Scope& scope) {
    query().from = scope.from;
    slice_.reads.insert(slice_.reads.end(), scope.reads.begin(), scope.reads.end());
  }

  std::string Column(const Scope& scope, ValueKind kind, const std::string& otherwise) {
    const std::vector<std::string> found = scope.Of(kind);
    return found.empty() ? otherwise : random_.Pick(found);
  }

  std::string Int(const Scope& scope) {
    const std::string column = Column(scope, ValueKind::kInt, "abs(7)");
    const std::string text = Column(scope, ValueKind::kText, "upper('abc')");
    const std::string time = Column(scope, ValueKind::kTime, "TIMESTAMP '2026-01-01 00:00:00'");
    switch (random_.Below(extreme_ ? 10 : 8)) {
      case 0:
        return absl::StrCat("coalesce(", column, ", 0)");
      case 1:
        return absl::StrCat(column, " % 3");
      case 2:
        return absl::StrCat("length(", text, ")");
      case 3:
        return absl::StrCat("extract(hour FROM ", time, ")");
      case 4:
        return absl::StrCat("(", column, " + 1)");
      case 8:
      case 9:
        return absl::StrCat("CAST(", text, " AS INTEGER)");
      default:
        return column;
    }
  }

  std::string Text(const Scope& scope) {
    const std::string column = Column(scope, ValueKind::kText, "upper('abc')");
    switch (random_.Below(6)) {
      case 0:
        return absl::StrCat("upper(", column, ")");
      case 1:
        return absl::StrCat("coalesce(", column, ", 'none')");
      case 2:
        return absl::StrCat(column, " || '-'");
      default:
        return column;
    }
  }

  std::string Bool(const Scope& scope) {
    const std::string number = Column(scope, ValueKind::kInt, "abs(7)");
    const std::string text = Column(scope, ValueKind::kText, "upper('abc')");
    switch (random_.Below(8)) {
      case 0:
        return absl::StrCat(number, " > ", random_.Below(12));
      case 1:
        return absl::StrCat(text, " IN ('eth', 'sol')");
      case 2:
        return absl::StrCat(text, " IS NULL");
      case 3:
        return absl::StrCat("(", number, " < 9 OR ", text, " = 'eth')");
      case 4:
        return absl::StrCat(Column(scope, ValueKind::kBool, "(1 = 1)"), " IS NOT FALSE");
      case 5:
        return absl::StrCat(Column(scope, ValueKind::kDecimal, "1.5"), " BETWEEN 1 AND 700");
      case 6:
        return absl::StrCat("NOT (", text, " LIKE 'e%')");
      default:
        return absl::StrCat(number, " IS NOT NULL AND ", number, " <> 5");
    }
  }

  CaseItem Key(const Scope& scope) {
    const std::string time = Column(scope, ValueKind::kTime, "");
    switch (random_.Below(8)) {
      case 0:
      case 1:
        return {Column(scope, ValueKind::kInt, "abs(7)"), ValueKind::kInt};
      case 2:
        if (time.empty()) break;
        if (absl::StrContains(time, kIngestTime)) return {time, ValueKind::kTime};
        return {absl::StrCat("date_trunc('day', ", time, ")"), ValueKind::kTime};
      case 3:
        if (time.empty()) break;
        return {absl::StrCat("time_bucket(INTERVAL ",
                             absl::StrContains(time, kIngestTime) ? "2 SECOND, " : "6 HOUR, ", time,
                             ")"),
                ValueKind::kTime};
      case 4:
        return {Column(scope, ValueKind::kBool, "(1 = 1)"), ValueKind::kBool};
      case 5:
        return {Column(scope, ValueKind::kDate, "DATE '2026-01-01'"), ValueKind::kDate};
      case 6: {
        const std::string other = Column(scope, ValueKind::kOther, "");
        if (other.empty()) break;
        return {other, ValueKind::kOther};
      }
      default:
        break;
    }
    return {Text(scope), ValueKind::kText};
  }

  // Any value that can be given out row by row.
  CaseItem Scalar(const Scope& scope) {
    switch (random_.Below(6)) {
      case 0:
        return {Int(scope), ValueKind::kInt};
      case 1:
        return {Text(scope), ValueKind::kText};
      case 2: {
        const std::string column = Column(scope, ValueKind::kDecimal, "");
        if (column.empty()) break;
        return {random_.OneIn(2) ? column : column + " * 2", ValueKind::kDecimal};
      }
      case 3: {
        const std::string column = Column(scope, ValueKind::kDouble, "");
        if (column.empty()) break;
        return {random_.OneIn(2) ? column : column + " / 4", ValueKind::kDouble};
      }
      case 4:
        return {absl::StrCat("CASE WHEN ", Bool(scope), " THEN 'yes' ELSE 'no' END"),
                ValueKind::kText};
      default:
        break;
    }
    if (scope.columns.empty()) return {"1", ValueKind::kInt};
    const ScopeColumn& column = random_.Pick(scope.columns);
    return {column.sql, column.kind};
  }

  std::pair<std::string, ValueKind> Number(const Scope& scope) {
    const size_t choice = random_.Below(3);
    const std::string decimal = Column(scope, ValueKind::kDecimal, "");
    if (choice == 0 && !decimal.empty()) return {decimal, ValueKind::kDecimal};
    const std::string real = Column(scope, ValueKind::kDouble, "");
    if (choice == 1 && !real.empty()) return {real, ValueKind::kDouble};
    return {Int(scope), ValueKind::kInt};
  }

  std::pair<std::string, ValueKind> Ordered(const Scope& scope) {
    const std::vector<ValueKind> kinds = {ValueKind::kText, ValueKind::kTime, ValueKind::kDate,
                                          ValueKind::kDecimal, ValueKind::kInt};
    const ValueKind kind = random_.Pick(kinds);
    const std::string column = Column(scope, kind, "");
    if (!column.empty()) return {column, kind};
    return {Column(scope, ValueKind::kInt, "abs(7)"), ValueKind::kInt};
  }

  // An aggregate that the engine may fold; a plain one it folds for certain.
  CaseItem Fold(const Scope& scope, bool plain) {
    const auto [number, kind] = Number(scope);
    const auto [ordered, ordered_kind] = Ordered(scope);
    const std::string filter =
        random_.OneIn(4) ? absl::StrCat(" FILTER (WHERE ", Bool(scope), ")") : "";
    switch (random_.Below(plain ? 7 : 14)) {
      case 0:
        return {absl::StrCat("count(*)", filter), ValueKind::kInt};
      case 1:
        return {absl::StrCat("count(", ordered, ")", filter), ValueKind::kInt};
      case 2:
      case 3:
        return {absl::StrCat("sum(", number, ")", filter), kind};
      case 4:
        return {absl::StrCat("min(", ordered, ")", filter), ordered_kind};
      case 5:
        return {absl::StrCat("max(", ordered, ")", filter), ordered_kind};
      case 6:
        return {absl::StrCat("avg(", number, ")", filter), ValueKind::kDouble};
      case 7:
        return {absl::StrCat(random_.Word({"stddev", "var_pop", "stddev_pop", "var_samp"}), "(",
                             number, ")", filter),
                ValueKind::kDouble};
      case 8:
        return {absl::StrCat(random_.Word({"bool_and(", "bool_or("}), Bool(scope), ")", filter),
                ValueKind::kBool};
      case 9:
        return {absl::StrCat("count(DISTINCT ", ordered, ")", filter), ValueKind::kInt};
      case 10:
      case 11:
        return ByPosition(scope, filter);
      case 12:
        return {
            absl::StrCat("sum(", Column(scope, ValueKind::kInt, "abs(7)"), ")::DOUBLE / count(*)"),
            ValueKind::kDouble};
      default:
        return {absl::StrCat("CASE WHEN count(*) > 3 THEN max(", ordered, ") END"), ordered_kind};
    }
  }

  // Aggregates whose answer depends on the order of rows.
  CaseItem ByPosition(const Scope& scope, const std::string& filter) {
    const auto [value, kind] = Ordered(scope);
    if (scope.position.empty() && !scope.sorted) {
      return {absl::StrCat("max(", value, ")", filter), kind};
    }
    const auto [by, by_kind] = Ordered(scope);
    switch (scope.position.empty() ? 2 + random_.Below(3) : random_.Below(4)) {
      case 0:
        return {absl::StrCat("first(", value, " ORDER BY ", scope.position, ")", filter), kind};
      case 1:
        return {absl::StrCat("last(", value, " ORDER BY ", scope.position, ")", filter), kind};
      case 2:
        return {absl::StrCat("arg_min(", value, ", ", by, ")", filter), kind};
      case 4:
        return {absl::StrCat("mode(", value, ")", filter), kind};
      default:
        return {absl::StrCat("arg_max(", value, ", ", by, ")", filter), kind};
    }
  }

  CaseItem HolisticItem(const Scope& scope) {
    const auto [number, kind] = Number(scope);
    const auto [ordered, ordered_kind] = Ordered(scope);
    const size_t choice = random_.Below(scope.position.empty() ? 3 : 6);
    switch (choice) {
      case 0:
        return {absl::StrCat("CAST(median(", number, ") AS DOUBLE)"), ValueKind::kDouble};
      case 1:
        return {absl::StrCat("quantile_disc(", ordered, ", 0.5)"), ordered_kind};
      case 2:
        return {absl::StrCat("sum(DISTINCT ", Column(scope, ValueKind::kInt, "abs(7)"), ")"),
                ValueKind::kInt};
      case 3:
        return {absl::StrCat("list(", ordered, " ORDER BY ", scope.position, ")"),
                ValueKind::kOther};
      case 4:
        return {absl::StrCat("string_agg(", Text(scope), ", ',' ORDER BY ", scope.position, ")"),
                ValueKind::kText};
      default:
        return {absl::StrCat("list(DISTINCT ", ordered, " ORDER BY ", ordered, ")"),
                ValueKind::kOther};
    }
  }

  void Where(const Scope& scope) {
    if (random_.OneIn(2)) query().where = Bool(scope);
  }

  void Append(Scope scope) {
    From(scope);
    const bool positions = scope.source && !scope.position.empty();
    if (positions) Item(scope.position, ValueKind::kInt);
    for (size_t i = 1 + random_.Below(4); i > 0; --i) {
      CaseItem item = Scalar(scope);
      Item(item.sql, item.kind);
    }
    if (positions && random_.OneIn(4)) Item("_offset", ValueKind::kInt);
    Where(scope);
  }

  void Unnested(Scope scope) {
    From(scope);
    Item(scope.position, ValueKind::kInt);
    const std::string text = Column(scope, ValueKind::kText, "upper('abc')");
    Item(random_.OneIn(2) ? absl::StrCat("unnest([", text, ", 'x'])")
                          : absl::StrCat("unnest(string_split(", text, ", 't'))"),
         ValueKind::kText);
    Where(scope);
  }

  // Two columns of one kind as the ends of edges.
  std::string Edges(const Scope& scope) {
    const ValueKind kind = random_.OneIn(2) ? ValueKind::kText : ValueKind::kInt;
    const std::string otherwise = kind == ValueKind::kText ? "upper('abc')" : "abs(7)";
    const std::string a = Column(scope, kind, otherwise);
    const std::string b = random_.OneIn(2)           ? Column(scope, kind, otherwise)
                          : kind == ValueKind::kText ? absl::StrCat("upper(", a, ")")
                                                     : absl::StrCat("(", a, " // 3)");
    if (kind == ValueKind::kText) return absl::StrCat("components(", a, ", ", b, ")");
    // Sums are HUGEINT, which is no node.
    return absl::StrCat("components(CAST(", a, " % 100 AS BIGINT), CAST(", b, " % 100 AS BIGINT))");
  }

  void Clusters(Scope scope) {
    From(scope);
    const std::string where = random_.OneIn(2) ? " WHERE " + Bool(scope) : "";
    if (random_.OneIn(3)) {
      const std::string key = Text(scope);
      query().from = absl::StrCat("(SELECT ", key, " AS k, unnest(", Edges(scope), ") AS c FROM ",
                                  scope.from, where, " GROUP BY ", key, ")");
      Item("k", ValueKind::kText);
    } else {
      query().from =
          absl::StrCat("(SELECT unnest(", Edges(scope), ") AS c FROM ", scope.from, where, ")");
    }
    if (random_.OneIn(3)) {
      Item("c.cluster", ValueKind::kOther);
      Item("count(*)", ValueKind::kInt);
      query().group = "ALL";
      return;
    }
    Item("c.node", ValueKind::kOther);
    Item("c.cluster", ValueKind::kOther);
  }

  // Keys into the select list; what GROUP BY has to say.
  std::string Keys(const Scope& scope) {
    std::vector<std::string> keys;
    for (size_t i = random_.Below(4); i > 0; --i) {
      const CaseItem key = Key(scope);
      if (std::find(keys.begin(), keys.end(), key.sql) != keys.end()) continue;
      keys.push_back(key.sql);
      Item(key.sql, key.kind);
    }
    if (keys.empty()) return "";
    return random_.OneIn(2) ? "ALL" : absl::StrJoin(keys, ", ");
  }

  void Having(const Scope& scope) {
    if (query().group.empty() || !random_.OneIn(4)) return;
    const std::string number = Column(scope, ValueKind::kInt, "abs(7)");
    query().having = random_.OneIn(2) ? "count(*) > 2" : absl::StrCat("max(", number, ") > 9");
  }

  void Aggregate(Scope scope) {
    From(scope);
    query().group = Keys(scope);
    const bool plain = random_.OneIn(2);
    for (size_t i = 1 + random_.Below(4); i > 0; --i) {
      const CaseItem item = Fold(scope, plain);
      Item(item.sql, item.kind);
    }
    Where(scope);
    Having(scope);
  }

  void Holistic(Scope scope) {
    Aggregate(scope);
    const CaseItem item = HolisticItem(scope);
    Item(item.sql, item.kind);
  }

  std::string Over(const Scope& scope, const std::string& frame) {
    const std::string key = Key(scope).sql;
    const auto [by, kind] = Ordered(scope);
    const std::string direction = random_.OneIn(2) ? " DESC" : "";
    return absl::StrCat(" OVER (PARTITION BY ", key, " ORDER BY ", by, direction, ", ",
                        scope.position, frame, ")");
  }

  CaseItem Window(const Scope& scope) {
    const auto [value, kind] = Ordered(scope);
    const std::string number = Column(scope, ValueKind::kInt, "abs(7)");
    if (scope.position.empty()) {
      return {absl::StrCat(random_.Word({"rank()", "dense_rank()", "count(*)"}),
                           " OVER (PARTITION BY ", Key(scope).sql, " ORDER BY ", value, ")"),
              ValueKind::kInt};
    }
    switch (random_.Below(6)) {
      case 0:
        return {"row_number()" + Over(scope, ""), ValueKind::kInt};
      case 1:
        return {absl::StrCat("lag(", value, ")", Over(scope, "")), kind};
      case 2:
        return {absl::StrCat("sum(", number, ")", Over(scope, "")), ValueKind::kInt};
      case 3:
        return {absl::StrCat("max(", value, ")",
                             Over(scope, " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW")),
                kind};
      case 4:
        return {absl::StrCat("count(*) OVER (PARTITION BY ", Key(scope).sql, ")"), ValueKind::kInt};
      default:
        return {absl::StrCat("first_value(", value, ")", Over(scope, "")), kind};
    }
  }

  void Windows(Scope scope) {
    Append(scope);
    for (size_t i = 1 + random_.Below(2); i > 0; --i) {
      const CaseItem item = Window(scope);
      Item(item.sql, item.kind);
    }
  }

  void TopN(Scope scope) {
    Append(scope);
    query().qualify = absl::StrCat("row_number()", Over(scope, ""), " <= ", 1 + random_.Below(3));
  }

  void Newest(Scope scope) {
    Append(scope);
    if (random_.OneIn(4)) {
      Item(absl::StrCat("unnest(CASE WHEN ", Bool(scope), " THEN [", Text(scope), "] END)"),
           ValueKind::kText);
    }
    const std::string key = Column(scope, ValueKind::kText, "abs(7)");
    const std::string by = random_.OneIn(2) ? Ordered(scope).first + " DESC, " : "";
    query().distinct = absl::StrCat("DISTINCT ON (", key, ")");
    query().order = absl::StrCat(key, ", ", by, scope.position, " DESC");
  }

  // Two to four relations on one key, each joined to the first or to the one before it.
  void JoinedByKey(Scope scope) {
    const ValueKind kind = random_.OneIn(2) ? ValueKind::kText : ValueKind::kInt;
    Scope all = OfSource("a", *made_.FindSource(scope.reads.front()));
    const std::string first = Column(all, kind, "");
    std::string before = first;
    bool inner = true;
    for (size_t i = 1, count = 2 + random_.Below(2); i < count; ++i) {
      const Scope next = OfSource(absl::StrCat("b", i), Beside(all.reads.front()));
      const std::string key = Column(next, kind, "");
      if (first.empty() || key.empty()) break;
      const std::string more =
          random_.OneIn(3) ? " AND " + Bool(random_.OneIn(2) ? all : next) : "";
      const bool left = random_.OneIn(2);
      inner = inner && !left;
      absl::StrAppend(&all.from, left ? " LEFT JOIN " : " JOIN ", next.from, " ON ",
                      random_.OneIn(2) ? first : before, " = ", key, more);
      before = key;
      all.columns.insert(all.columns.end(), next.columns.begin(), next.columns.end());
      all.reads.insert(all.reads.end(), next.reads.begin(), next.reads.end());
    }
    all.position = "";
    if (random_.OneIn(2)) {
      Append(all);
      return;
    }
    Item(first.empty() ? "abs(7)" : random_.OneIn(2) && inner ? before : first, kind);
    Aggregate(all);
    query().group = "ALL";
    query().having = "";
  }

  // A subquery to be joined: groups, newest rows, or some rows as they are.
  Scope Derived(const std::string& alias) {
    const bool slice = !made_.slices.empty() && random_.OneIn(3);
    const Scope of = slice ? OfSlice("", random_.Pick(made_.slices)) : OfSource("", Source());
    const std::string text = Column(of, ValueKind::kText, "upper('abc')");
    const std::string number = Column(of, ValueKind::kInt, "abs(7)");
    Scope scope;
    scope.reads = of.reads;
    scope.columns = {{alias + ".g0", ValueKind::kText}, {alias + ".g1", ValueKind::kInt}};
    scope.source = false;
    std::string select = absl::StrCat("SELECT ", text, " AS g0, ", number, " AS g1");
    if (random_.OneIn(2)) {
      absl::StrAppend(&select, ", count(*) AS g2 FROM ", of.from, " GROUP BY ALL");
      scope.columns.push_back({alias + ".g2", ValueKind::kInt});
      scope.position = absl::StrCat(alias, ".g0, ", alias, ".g1");
    } else if (!slice && random_.OneIn(2)) {
      absl::StrAppend(&select, " FROM ", of.from, " QUALIFY row_number() OVER (PARTITION BY ",
                      Key(of).sql, " ORDER BY _position DESC) = 1");
    } else {
      absl::StrAppend(&select, " FROM ", of.from, " WHERE ", Bool(of));
    }
    scope.from = absl::StrCat("(", select, ") AS ", alias);
    return scope;
  }

  Scope Relation(const std::string& alias) {
    const size_t choice = random_.Below(made_.slices.empty() ? 5 : 9);
    if (choice < 4) return OfSource(alias, Source());
    if (choice == 4) return Derived(alias);
    Scope scope = OfSlice(alias, random_.Pick(made_.slices));
    scope.position = OrderOf(scope);
    return scope;
  }

  // `next` joined to `all` by a key of its own.
  std::string JoinCondition(const Scope& all, const Scope& next, bool may_widen) {
    const ValueKind kind = random_.OneIn(2) ? ValueKind::kText : ValueKind::kInt;
    const std::string a = Column(all, kind, "");
    const std::string b = Column(next, kind, "");
    if (a.empty() || b.empty()) return "";
    const bool swap = random_.OneIn(2);
    const auto equal = [&](const std::string& x, const std::string& y) {
      return swap ? absl::StrCat(y, " = ", x) : absl::StrCat(x, " = ", y);
    };
    switch (random_.Below(8)) {
      case 0:
        if (kind == ValueKind::kText) return equal(absl::StrCat("upper(", a, ")"), b);
        return may_widen ? equal(absl::StrCat(a, " % 5"), b) : equal(a, b);
      case 1:
        if (kind != ValueKind::kText) break;
        return equal(absl::StrCat("coalesce(", a, ", 'eth')"), absl::StrCat("lower(", b, ")"));
      case 2:
        return absl::StrCat(equal(a, b), " AND ", Bool(random_.OneIn(2) ? all : next));
      default:
        break;
    }
    return equal(a, b);
  }

  // Two or three relations of any kind, each joined to one before it by a key of its own.
  void JoinedWide(Scope /*unused*/) {
    Scope all = Relation("a");
    all.source = false;
    all.sorted = false;
    bool ordered = !all.position.empty();
    std::string where;
    const size_t count = random_.OneIn(3) ? 3 : 2;
    for (size_t i = 1; i < count; ++i) {
      const Scope next = Relation(absl::StrCat("b", i));
      const std::string condition = JoinCondition(all, next, count == 2);
      if (condition.empty()) break;
      all.reads.insert(all.reads.end(), next.reads.begin(), next.reads.end());
      const size_t how = random_.Below(12);
      if (how < 2) {
        absl::StrAppend(&all.from, how == 0 ? " SEMI JOIN " : " ANTI JOIN ", next.from, " ON ",
                        condition);
        continue;
      }
      if (how == 2 && count == 2) {
        absl::StrAppend(&all.from, ", ", next.from);
        absl::StrAppend(&where, where.empty() ? "" : " AND ", condition);
      } else {
        absl::StrAppend(&all.from, how < 7 ? " LEFT JOIN " : " JOIN ", next.from,
                        OnOrUsing(all, next, i, condition));
      }
      all.columns.insert(all.columns.end(), next.columns.begin(), next.columns.end());
      ordered = ordered && !next.position.empty();
      absl::StrAppend(&all.position, ", ", next.position);
    }
    if (!ordered) all.position = "";
    OverJoin(std::move(all), where);
  }

  // USING, when two readings of one stream are joined and the condition is of that kind.
  std::string OnOrUsing(const Scope& all, const Scope& next, size_t index,
                        const std::string& condition) {
    const std::string a = Column(all, ValueKind::kText, "");
    const bool same =
        index == 1 && absl::StartsWith(a, "a.") &&
        std::any_of(next.columns.begin(), next.columns.end(), [&](const auto& column) {
          return column.sql == absl::StrCat("b1.", a.substr(2));
        });
    if (same && random_.OneIn(2)) return absl::StrCat(" USING (", a.substr(2), ")");
    return absl::StrCat(" ON ", condition);
  }

  void OverJoin(Scope all, const std::string& where) {
    const std::vector<void (Grammar::*)(Scope)> plain = {&Grammar::Append, &Grammar::Aggregate,
                                                         &Grammar::Retracted, &Grammar::Holistic};
    const std::vector<void (Grammar::*)(Scope)> more = {
        &Grammar::Append,   &Grammar::Aggregate, &Grammar::Retracted, &Grammar::Holistic,
        &Grammar::Distinct, &Grammar::Nested,    &Grammar::Rollup,    &Grammar::TwoSteps};
    const std::vector<void (Grammar::*)(Scope)> in_order = {
        &Grammar::Windows, &Grammar::Windows, &Grammar::TopN, &Grammar::Newest, &Grammar::Listed};
    if (!all.position.empty() && random_.OneIn(2)) {
      (this->*random_.Pick(in_order))(std::move(all));
    } else {
      all.position = "";
      (this->*random_.Pick(where.empty() ? more : plain))(std::move(all));
    }
    if (where.empty()) return;
    query().where =
        query().where.empty() ? where : absl::StrCat(where, " AND (", query().where, ")");
  }

  void Dimensions(Scope scope) {
    const auto dimension =
        std::find_if(made_.sources.begin(), made_.sources.end(),
                     [](const CaseSource& source) { return !source.latest_by.empty(); });
    if (dimension == made_.sources.end()) return JoinedByKey(std::move(scope));
    scope = OfSource("", *dimension);
    if (random_.OneIn(2)) return Append(scope);
    Item(Column(scope, ValueKind::kText, "abs(7)"), ValueKind::kText);
    Aggregate(scope);
    query().group = "ALL";
  }

  void Joined(Scope scope) {
    const std::string& first = scope.reads.front();
    Join(OfSource("a", *made_.FindSource(first)), OfSource("b", Beside(first)));
  }

  void Join(const Scope& left, const Scope& right) {
    const ValueKind kind = random_.OneIn(2) ? ValueKind::kText : ValueKind::kInt;
    const std::string a = Column(left, kind, "");
    const std::string b = Column(right, kind, "");
    const std::string condition = a.empty() || b.empty() ? "true" : absl::StrCat(a, " = ", b);
    Scope both;
    both.from = absl::StrCat(left.from, random_.Word({" JOIN ", " JOIN ", " LEFT JOIN "}),
                             right.from, " ON ", condition);
    both.columns = left.columns;
    both.columns.insert(both.columns.end(), right.columns.begin(), right.columns.end());
    both.reads = left.reads;
    both.reads.insert(both.reads.end(), right.reads.begin(), right.reads.end());
    if (random_.OneIn(2)) return Aggregate(both);
    if (!left.position.empty()) Item(left.position, ValueKind::kInt);
    Item(right.position, ValueKind::kInt);
    Append(both);
  }

  void Sessions(Scope scope) {
    const std::string key = Column(scope, ValueKind::kText, "upper('abc')");
    const std::string time = Column(scope, ValueKind::kTime, "TIMESTAMP '2026-01-01 00:00:00'");
    const std::string window =
        absl::StrCat(" OVER (PARTITION BY ", key, " ORDER BY ", time, ", _position)");
    const std::string marked = absl::StrCat(
        "SELECT ", key, " AS k, ", time, " AS t, _position, CASE WHEN ", time, " - lag(", time, ")",
        window, " > INTERVAL 4 HOUR THEN 1 ELSE 0 END AS new FROM ", scope.from);
    From(scope);
    query().from = absl::StrCat(
        "(SELECT k, t, sum(new) OVER (PARTITION BY k ORDER BY t, _position) AS session FROM (",
        marked, "))");
    Item("k", ValueKind::kText);
    Item("session", ValueKind::kInt);
    Item("count(*)", ValueKind::kInt);
    Item("min(t)", ValueKind::kTime);
    Item("max(t)", ValueKind::kTime);
    query().group = "ALL";
  }

  void Hopping(Scope scope) {
    const std::string time = Column(scope, ValueKind::kTime, "TIMESTAMP '2026-01-01 00:00:00'");
    const std::string bucket = absl::StrCat("time_bucket(INTERVAL 6 HOUR, ", time, ")");
    From(scope);
    query().from =
        absl::StrCat("(SELECT unnest(generate_series(", bucket, " - INTERVAL 12 HOUR, ", bucket,
                     ", INTERVAL 6 HOUR)) AS w, ", Column(scope, ValueKind::kInt, "abs(7)"),
                     " AS x FROM ", scope.from, ")");
    Item("w", ValueKind::kTime);
    Item("count(*)", ValueKind::kInt);
    Item("sum(x)", ValueKind::kInt);
    query().group = "ALL";
  }

  void Others(Scope scope) {
    const std::vector<void (Grammar::*)(Scope)> forms = {
        &Grammar::Union,   &Grammar::Common, &Grammar::Among,   &Grammar::Recursive,
        &Grammar::Largest, &Grammar::Rollup, &Grammar::Distinct};
    (this->*random_.Pick(forms))(std::move(scope));
  }

  void Union(Scope scope) {
    const Scope other = OfSource("", Beside(scope.reads.front()));
    const auto half = [&](const Scope& of) {
      return absl::StrCat("SELECT ", Column(of, ValueKind::kText, "upper('abc')"), " AS k, CAST(",
                          Column(of, ValueKind::kInt, "abs(7)"), " AS BIGINT) AS x FROM ", of.from);
    };
    Scope both;
    both.from = absl::StrCat("(", half(scope), random_.Word({" UNION ALL ", " UNION ", " EXCEPT "}),
                             half(other), ")");
    both.columns = {{"k", ValueKind::kText}, {"x", ValueKind::kInt}};
    both.reads = {scope.reads.front(), other.reads.front()};
    if (random_.OneIn(2)) return Aggregate(both);
    Append(both);
  }

  void Common(Scope scope) {
    From(scope);
    query().with = absl::StrCat("WITH w AS (SELECT ", Text(scope), " AS k, count(*) AS n FROM ",
                                scope.from, " GROUP BY ALL)");
    query().from = "w";
    query().where = random_.OneIn(2) ? "n = (SELECT max(n) FROM w)" : "n > 1";
    Item("k", ValueKind::kText);
    Item("n", ValueKind::kInt);
  }

  void Among(Scope scope) {
    const CaseSource& other = Beside(scope.reads.front());
    const Scope inner = OfSource("o", other);
    Append(scope);
    const std::string key = Column(scope, ValueKind::kInt, "abs(7)");
    const std::string of_other = Column(inner, ValueKind::kInt, "abs(7)");
    query().where = random_.OneIn(2)
                        ? absl::StrCat(key, random_.Word({" IN ", " NOT IN "}), "(SELECT ",
                                       of_other, " FROM ", inner.from, " WHERE ", of_other, " > 2)")
                        : absl::StrCat("EXISTS (SELECT 1 FROM ", inner.from, " WHERE ", of_other,
                                       " > ", key, " + 9)");
    slice_.reads.push_back(other.name);
  }

  void Recursive(Scope scope) {
    From(scope);
    query().with = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5)";
    query().from = absl::StrCat("r LEFT JOIN ", scope.from, " ON ",
                                Column(scope, ValueKind::kInt, "abs(7)"), " % 6 = r.n");
    Item("r.n", ValueKind::kInt);
    Item("count(_position)", ValueKind::kInt);
    query().group = "ALL";
  }

  void Largest(Scope scope) {
    Append(scope);
    query().order = absl::StrCat(Ordered(scope).first, " DESC, ", scope.position, " LIMIT ",
                                 1 + random_.Below(6));
  }

  void Rollup(Scope scope) {
    From(scope);
    const std::string a = Column(scope, ValueKind::kText, "upper('abc')");
    const std::string b = Column(scope, ValueKind::kInt, "abs(7)");
    Item(a, ValueKind::kText);
    Item(b, ValueKind::kInt);
    Item("count(*)", ValueKind::kInt);
    Item(absl::StrCat("sum(", b, ")"), ValueKind::kInt);
    const auto [number, kind] = Number(scope);
    Item(absl::StrCat("avg(", number, ")"), ValueKind::kDouble);
    if (random_.OneIn(2)) Item(absl::StrCat("grouping(", a, ")"), ValueKind::kInt);
    if (random_.OneIn(2)) Item(absl::StrCat("count(DISTINCT ", b, ")"), ValueKind::kInt);
    Where(scope);
    if (random_.OneIn(3)) {
      query().group = absl::StrCat("GROUPING SETS ((", b, "), (", a, ", ", b, "), (", a, "))");
      return;
    }
    query().group = absl::StrCat(random_.Word({"ROLLUP (", "CUBE ("}), a, ", ", b, ")");
  }

  void Distinct(Scope scope) {
    From(scope);
    query().distinct = "DISTINCT";
    Item(Text(scope), ValueKind::kText);
    Item(Column(scope, ValueKind::kInt, "abs(7)") + " % 4", ValueKind::kInt);
    Where(scope);
  }

  Random& random_;
  const DifferentialCase& made_;
  bool extreme_;
  bool by_ingest_time_ = false;  // the slice's sources offer it
  CaseSlice slice_;
};

// ---------------------------------------------------------------------------------- the domain

class CaseMaker {
 public:
  explicit CaseMaker(uint64_t seed)
      : random_(seed), extreme_(random_.OneIn(3)), records_(random_, extreme_) {
    made_.seed = seed;
  }

  DifferentialCase Make() {
    made_.streams = {Stream("s0", "x"), Stream("s1", "y")};
    made_.sources = {Source("left_in", 0), Source("right_in", 1)};
    if (random_.OneIn(2)) made_.sources.push_back(Dimension());
    if (random_.OneIn(2)) made_.sources.push_back(Source("other_in", random_.Below(2)));
    Grammar grammar(random_, made_, extreme_);
    const bool layered = random_.OneIn(2);
    for (size_t i = 0, count = (layered ? 3 : 1) + random_.Below(4); i < count; ++i) {
      const std::string name = absl::StrCat("v", i);
      made_.slices.push_back(layered ? grammar.MakeLayer(name) : grammar.Make(name));
    }
    made_.saved_often = random_.OneIn(2);
    made_.blocks_per_piece = 1 + random_.Below(4);
    for (size_t i = 0, count = (layered ? 4 : 2) + random_.Below(3); i < count; ++i) {
      made_.steps.push_back(Step());
    }
    made_.steps.back().restart = CaseRestart::kNone;
    // Last: other seeds than before are other cases, the same ones begin alike.
    for (CaseStep& step : made_.steps) step.acknowledges = random_.OneIn(6);
    made_.retried = random_.OneIn(4);
    made_.interrupted = random_.OneIn(2) ? 0 : 1 + static_cast<int>(random_.Below(2));
    return std::move(made_);
  }

 private:
  CaseStream Stream(const std::string& name, const std::string& letter) {
    CaseStream stream{name, {}};
    for (size_t i = 0, count = 3 + random_.Below(4); i < count; ++i) {
      // A text and a number are always there to group and join by.
      const TypeChoice& type = kTypes[i < 2 ? i : random_.Below(std::size(kTypes))];
      CaseField field{absl::StrCat(letter, i), type.type, type.kind, "", ""};
      if (random_.OneIn(4)) field.path = absl::StrCat("$.n.", field.name);
      if (field.kind == ValueKind::kTime && random_.OneIn(3)) field.format = "epoch_ms";
      stream.fields.push_back(std::move(field));
    }
    return stream;
  }

  CaseColumn Column(const CaseStream& stream, size_t field) {
    CaseColumn column;
    column.field = field;
    column.required = random_.OneIn(4);
    column.half_up = stream.fields[field].kind == ValueKind::kDecimal && random_.OneIn(2);
    const ValueKind kind = stream.fields[field].kind;
    if (column.required) return column;
    if (random_.OneIn(6) && kind == ValueKind::kInt) {
      column.default_json = column.default_sql = "5";
    } else if (random_.OneIn(6) && kind == ValueKind::kText) {
      column.default_json = "\"eth\"";
      column.default_sql = "'eth'";
    }
    return column;
  }

  CaseSource Source(const std::string& name, size_t stream) {
    CaseSource source;
    source.name = name;
    source.stream = stream;
    if (random_.OneIn(3)) source.where = "a";
    for (size_t i = 0; i < made_.streams[stream].fields.size(); ++i) {
      source.columns.push_back(Column(made_.streams[stream], i));
    }
    return source;
  }

  CaseSource Dimension() {
    CaseSource source = Source("newest", random_.Below(2));
    source.where = random_.OneIn(2) ? "b" : "";
    source.latest_by = made_.streams[source.stream].fields[random_.Below(2)].name;
    return source;
  }

  CaseStep Step() {
    CaseStep step;
    for (size_t i = 1 + random_.Below(3); i > 0; --i) {
      CaseBatch batch;
      batch.stream = random_.Below(2);
      const std::vector<size_t> sizes = {1, 1, 2, 5, 10, 20, 40};
      for (size_t n = random_.Pick(sizes); n > 0; --n) {
        batch.records.push_back(records_.Make(made_.streams[batch.stream]));
      }
      step.batches.push_back(std::move(batch));
    }
    step.refresh = !random_.OneIn(4);
    const size_t restart = random_.Below(8);
    if (restart < 2) step.restart = CaseRestart::kClean;
    if (restart == 2) step.restart = CaseRestart::kKill;
    if (random_.OneIn(3)) step.lost_slice = random_.Below(made_.slices.size());
    return step;
  }

  Random random_;
  bool extreme_;
  RecordMaker records_;
  DifferentialCase made_;
};

}  // namespace

DifferentialCase MakeCase(uint64_t seed) { return CaseMaker(seed).Make(); }

}  // namespace icepie::slices
