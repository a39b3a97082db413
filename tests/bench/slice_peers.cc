#include "tests/bench/slice_peers.h"

#include <cstdio>
#include <fstream>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace icepie::slices {
namespace {

// A query over bids for PostgreSQL: its SELECT, and what a trigger does with `fresh`, the new bids.
struct PeerQuery {
  std::string select;
  std::string key;  // of its rows
  std::string fold;
};

constexpr char kDay[] = "to_char(date_time, 'YYYY-MM-DD')";

PeerQuery PassThrough() {
  const std::string columns = "position, auction, bidder, price, date_time, extra";
  return {absl::StrCat("SELECT ", columns, " FROM bid"), "position",
          absl::StrCat("INSERT INTO kept SELECT ", columns, " FROM fresh")};
}

PeerQuery AuctionDays() {
  const auto select = [](const std::string& from) {
    return absl::StrCat(
        "SELECT auction, ", kDay, " AS day, count(*) AS total_bids, ",
        "count(*) FILTER (WHERE price < 10000) AS rank1_bids, ",
        "count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids, ",
        "count(*) FILTER (WHERE price >= 1000000) AS rank3_bids, ",
        "min(price) AS min_price, max(price) AS max_price, sum(price) AS sum_price ", "FROM ", from,
        " GROUP BY 1, 2");
  };
  return {select("bid"), "auction, day",
          absl::StrCat("INSERT INTO kept ", select("fresh"),
                       " ON CONFLICT (auction, day) DO UPDATE SET "
                       "total_bids = kept.total_bids + excluded.total_bids, "
                       "rank1_bids = kept.rank1_bids + excluded.rank1_bids, "
                       "rank2_bids = kept.rank2_bids + excluded.rank2_bids, "
                       "rank3_bids = kept.rank3_bids + excluded.rank3_bids, "
                       "min_price = least(kept.min_price, excluded.min_price), "
                       "max_price = greatest(kept.max_price, excluded.max_price), "
                       "sum_price = kept.sum_price + excluded.sum_price")};
}

PeerQuery LatestBids() {
  const auto select = [](const std::string& from) {
    return absl::StrCat("SELECT DISTINCT ON (bidder, auction) * FROM ", from,
                        " ORDER BY bidder, auction, date_time DESC, position DESC");
  };
  return {select("bid"), "bidder, auction",
          absl::StrCat("INSERT INTO kept ", select("fresh"),
                       " ON CONFLICT (bidder, auction) DO UPDATE SET position = excluded.position, "
                       "price = excluded.price, channel = excluded.channel, url = excluded.url, "
                       "date_time = excluded.date_time, extra = excluded.extra "
                       "WHERE (excluded.date_time, excluded.position) >= "
                       "(kept.date_time, kept.position)")};
}

const std::map<std::string, PeerQuery>& Queries() {
  static const auto* const queries = new std::map<std::string, PeerQuery>{
      {"q0", PassThrough()}, {"q17", AuctionDays()}, {"q18", LatestBids()}};
  return *queries;
}

std::vector<std::string> BidsOf(const RecordBlocks& blocks) {
  std::vector<std::string> bids;
  for (const RecordBlock& block : blocks) {
    if (block.stream == "bid")
      bids.insert(bids.end(), block.payloads.begin(), block.payloads.end());
  }
  return bids;
}

}  // namespace

bool PostgresSlices::Knows(const std::string& query) { return Queries().count(query) > 0; }

bool PostgresSlices::Do(const std::string& sql) {
  const bench::Ran ran = postgres_->Sql(sql);
  if (ran.exit_code == 0) return true;
  std::fprintf(stderr, "icepie-bench-slices: PostgreSQL: %s\n", ran.output.substr(0, 400).c_str());
  return false;
}

std::unique_ptr<PostgresSlices> PostgresSlices::Start(const RecordBlocks& before) {
  std::unique_ptr<PostgresSlices> peer(new PostgresSlices());
  peer->postgres_ = bench::Postgres::Start(peer->scratch_.path());
  if (peer->postgres_ == nullptr) {
    std::fprintf(stderr,
                 "icepie-bench-slices: PostgreSQL is not installed and left out; "
                 "deploy/install-deps.sh --with-bench\n");
    return nullptr;
  }
  const bool made = peer->Do(
      "CREATE TABLE staged (payload jsonb); CREATE TABLE bid (position bigserial, auction bigint, "
      "bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text)");
  if (!made || peer->SecondsOf(BidsOf(before), "") < 0) return nullptr;
  return peer->Do("ANALYZE bid") ? std::move(peer) : nullptr;
}

double PostgresSlices::SecondsOf(const std::vector<std::string>& bids, const std::string& then) {
  const std::string file = scratch_.path() + "/bids.jsonl";
  std::ofstream lines(file);
  for (const std::string& bid : bids) lines << bid << '\n';
  lines.close();
  const std::string now = "SELECT extract(epoch FROM clock_timestamp()); ";
  const bench::Ran ran = postgres_->Sql(
      absl::StrCat(now, "BEGIN; TRUNCATE staged; COPY staged FROM '", file,
                   "' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02'); "
                   "INSERT INTO bid (auction, bidder, price, channel, url, date_time, extra) "
                   "SELECT (payload->>'auction')::bigint, (payload->>'bidder')::bigint, "
                   "(payload->>'price')::bigint, payload->>'channel', payload->>'url', "
                   "to_timestamp((payload->>'date_time')::bigint / 1000.0) AT TIME ZONE 'UTC', "
                   "payload->>'extra' FROM staged; ",
                   then, "COMMIT; ", now));
  std::vector<double> times;
  for (const absl::string_view line : absl::StrSplit(ran.output, '\n')) {
    double time = 0;
    if (absl::SimpleAtod(line, &time)) times.push_back(time);
  }
  if (ran.exit_code == 0 && times.size() >= 2) return times.back() - times.front();
  std::fprintf(stderr, "icepie-bench-slices: PostgreSQL: %s\n", ran.output.substr(0, 400).c_str());
  return -1;
}

std::optional<double> PostgresSlices::Run(const std::string& name, Way way,
                                          const std::vector<RecordBlocks>& batches) {
  const PeerQuery& query = Queries().at(name);
  const bool triggers = way == Way::kTriggers;
  const std::string kept =
      triggers ? absl::StrCat("CREATE TABLE kept AS ", query.select,
                              "; CREATE UNIQUE INDEX ON kept (", query.key,
                              "); CREATE FUNCTION fold() RETURNS trigger LANGUAGE "
                              "plpgsql AS $$ BEGIN ",
                              query.fold,
                              "; RETURN NULL; END $$; CREATE TRIGGER fold AFTER "
                              "INSERT ON bid REFERENCING NEW TABLE AS fresh FOR EACH "
                              "STATEMENT EXECUTE FUNCTION fold()")
               : absl::StrCat("CREATE MATERIALIZED VIEW kept AS ", query.select);
  if (!Do(absl::StrCat("CREATE TABLE mark AS SELECT max(position) AS last FROM bid; ", kept,
                       "; ANALYZE kept"))) {
    return std::nullopt;
  }
  double seconds = 0;
  double bids = 0;
  for (const RecordBlocks& batch : batches) {
    const std::vector<std::string> payloads = BidsOf(batch);
    const double took = SecondsOf(payloads, triggers ? "" : "REFRESH MATERIALIZED VIEW kept; ");
    if (took < 0) return std::nullopt;
    seconds += took;
    bids += static_cast<double>(payloads.size());
  }
  const std::string cleared =
      triggers ? "DROP TABLE kept; DROP TRIGGER fold ON bid; DROP FUNCTION fold(); "
               : "DROP MATERIALIZED VIEW kept; ";
  if (!Do(absl::StrCat(cleared, "DELETE FROM bid WHERE position > (SELECT last FROM mark); ",
                       "DROP TABLE mark"))) {
    return std::nullopt;
  }
  return bids / seconds;
}

}  // namespace icepie::slices
