#include "tests/slices/failing_duckdb.h"

#include <dlfcn.h>

#include <cstring>

#include "absl/time/clock.h"

namespace icepie::slices {
namespace {

thread_local bool failed = false;  // the thread's last statement, as it was made to

constexpr char kSlow[] = "SELECT sum(a.range * b.range % 7) FROM range(200000) a, range(10000) b";

bool Has(const char* sql, const char* text) {
  return text != nullptr && std::strstr(sql, text) != nullptr;
}

void WaitIfTold(const char* sql) {
  const auto waits = [sql] { return Has(sql, waits_with_text); };
  if (!waits()) return;
  ++waiting_statements;
  while (waits()) absl::SleepFor(absl::Milliseconds(1));
  --waiting_statements;
}

bool Fails(const char* sql) {
  failed = Has(sql, fails_with_text);
  if (failed) ++failed_statements;
  return failed;
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

const char* Words() {
  switch (fails_of) {
    case DUCKDB_ERROR_OUT_OF_MEMORY:
      return R"({"exception_type":"Out of Memory","exception_message":"made to"})";
    case DUCKDB_ERROR_IO:
      return R"({"exception_type":"IO","exception_message":"made to"})";
    default:
      return R"({"exception_type":"INTERNAL","exception_message":"made to"})";
  }
}

}  // namespace
}  // namespace icepie::slices

extern "C" {

duckdb_state duckdb_query(duckdb_connection connection, const char* sql, duckdb_result* result) {
  using Query = duckdb_state (*)(duckdb_connection, const char*, duckdb_result*);
  static const auto real = icepie::slices::Next<Query>("duckdb_query");
  icepie::slices::WaitIfTold(sql);
  if (icepie::slices::Has(sql, icepie::slices::slow_with_text)) {
    ++icepie::slices::waiting_statements;
    const duckdb_state ended = real(connection, icepie::slices::kSlow, result);
    --icepie::slices::waiting_statements;
    if (ended == DuckDBError) ++icepie::slices::interrupted_statements;
    return ended;
  }
  return real(connection, icepie::slices::Fails(sql) ? "SELECT error('made to')" : sql, result);
}

duckdb_error_type duckdb_result_error_type(duckdb_result* result) {
  using Type = duckdb_error_type (*)(duckdb_result*);
  static const auto real = icepie::slices::Next<Type>("duckdb_result_error_type");
  if (!icepie::slices::failed) return real(result);
  return icepie::slices::fails_of;
}

duckdb_state duckdb_prepare(duckdb_connection connection, const char* sql,
                            duckdb_prepared_statement* statement) {
  using Prepare = duckdb_state (*)(duckdb_connection, const char*, duckdb_prepared_statement*);
  static const auto real = icepie::slices::Next<Prepare>("duckdb_prepare");
  if (!icepie::slices::Fails(sql)) return real(connection, sql, statement);
  *statement = nullptr;
  return DuckDBError;
}

const char* duckdb_prepare_error(duckdb_prepared_statement statement) {
  using Error = const char* (*)(duckdb_prepared_statement);
  static const auto real = icepie::slices::Next<Error>("duckdb_prepare_error");
  return icepie::slices::failed ? icepie::slices::Words() : real(statement);
}
}
