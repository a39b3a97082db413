// The domain of benches that are about workers and not about SQL: one slice with a row an item.
#ifndef ICEPIE_TESTS_BENCH_SALES_DOMAIN_H_
#define ICEPIE_TESTS_BENCH_SALES_DOMAIN_H_

#include <cstdint>
#include <string>

#include "tests/e2e/daemon_fixture.h"

namespace icepie::bench {

enum class Items { kNumbers, kNames };  // 17, or "item17"

// The payload of a record of stream "sales".
std::string Sale(int64_t item, int64_t amount, Items items = Items::kNumbers);

// Creates the stream, appends a sale of each of `rows` items and applies domain "bench" with slice
// by_item (item, sales, total), which then begins to read them. Returns the position behind them.
int64_t ApplySalesDomain(const testing::DaemonFixture& daemon, int rows,
                         Items items = Items::kNumbers);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_SALES_DOMAIN_H_
