#include "tests/bench/slice_peers.h"

#include <cstdio>
#include <fstream>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace icepie::slices {
namespace {

// A query for PostgreSQL: its SELECT, and what a trigger does with `fresh`, the new bids. Auctions
// of a batch are there before its bids, as they are in time.
struct PeerQuery {
  std::string select;
  std::string key;        // of its rows
  std::string fold = "";  // empty: there is no trigger for it
  bool joins_auctions = false;
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

// Each auction with a bid in its time and its highest one.
PeerQuery WinningBids() {
  return {
      "SELECT DISTINCT ON (a.id) a.id, a.item_name, a.description, a.initial_bid, a.reserve, "
      "a.date_time, a.expires, a.seller, a.category, a.extra, b.auction, b.bidder, b.price, "
      "b.date_time AS bid_date_time, b.extra AS bid_extra FROM auction AS a JOIN bid AS b "
      "ON a.id = b.auction WHERE b.date_time BETWEEN a.date_time AND a.expires "
      "ORDER BY a.id, b.price DESC, b.date_time, b.position",
      "id", "", true};
}

PeerQuery AverageByCategory() {
  return {
      "SELECT category, avg(final) AS average FROM (SELECT a.id, a.category, max(b.price) AS final "
      "FROM auction AS a JOIN bid AS b ON a.id = b.auction "
      "WHERE b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category) AS finals "
      "GROUP BY category",
      "category", "", true};
}

PeerQuery HotItems() {
  return {
      "SELECT auction, starts, num FROM (SELECT *, rank() OVER (PARTITION BY starts "
      "ORDER BY num DESC) AS place FROM (SELECT auction, starts, count(*) AS num FROM (SELECT "
      "auction, generate_series(first - INTERVAL '8 seconds', first, INTERVAL '2 seconds') "
      "AS starts FROM (SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP 'epoch') "
      "AS first FROM bid) AS bids) AS in_windows GROUP BY auction, starts) AS counts) AS ranked "
      "WHERE place = 1",
      "auction, starts"};
}

// What a new bid leaves of the rows of before is decided by these and the new ones alone.
PeerQuery HighestBids() {
  const std::string starts = "date_bin('10 seconds', date_time, TIMESTAMP 'epoch')";
  const auto select = [&](const std::string& from) {
    return absl::StrCat(
        "SELECT position, auction, price, bidder, date_time FROM (SELECT *, rank() OVER "
        "(PARTITION BY ",
        starts, " ORDER BY price DESC) AS place FROM ", from, ") AS ranked WHERE place = 1");
  };
  const std::string touched = absl::StrCat("SELECT ", starts, " FROM fresh");
  return {select("bid"), "position",
          absl::StrCat("WITH gone AS (DELETE FROM kept WHERE ", starts, " IN (", touched,
                       ") RETURNING *) INSERT INTO kept ",
                       select("(SELECT * FROM gone UNION ALL SELECT position, auction, price, "
                              "bidder, date_time FROM fresh) AS both_of_them"))};
}

PeerQuery TopTen() {
  const std::string columns = "position, auction, bidder, price, channel, date_time, extra";
  const auto select = [&](const std::string& from) {
    return absl::StrCat("SELECT ", columns, ", place FROM (SELECT ", columns,
                        ", row_number() OVER (PARTITION BY auction ORDER BY price DESC, position) "
                        "AS place FROM ",
                        from, ") AS ranked WHERE place <= 10");
  };
  return {select("bid"), "position",
          absl::StrCat("WITH gone AS (DELETE FROM kept WHERE auction IN (SELECT auction FROM "
                       "fresh) RETURNING *) INSERT INTO kept ",
                       select(absl::StrCat("(SELECT ", columns, " FROM gone UNION ALL SELECT ",
                                           columns, " FROM fresh) AS both_of_them")))};
}

PeerQuery ExpandedBids() {
  const auto select = [](const std::string& from) {
    return absl::StrCat(
        "SELECT b.position, b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS "
        "bid_date_time, b.extra AS bid_extra, a.item_name, a.description, a.initial_bid, "
        "a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra FROM ",
        from, " AS b JOIN auction AS a ON b.auction = a.id WHERE a.category = 10");
  };
  return {select("bid"), "position", absl::StrCat("INSERT INTO kept ", select("fresh")), true};
}

// Bids, bidders and auctions by rank of the price, behind the columns of `front`.
PeerQuery BidsByRank(const std::string& front, const std::string& key) {
  std::string select = absl::StrCat("SELECT ", front);
  for (const auto& [counted, name] :
       {std::pair("*", "bids"), {"DISTINCT bidder", "bidders"}, {"DISTINCT auction", "auctions"}}) {
    absl::StrAppend(&select, ", count(", counted, ") AS total_", name, ", count(", counted,
                    ") FILTER (WHERE price < 10000) AS rank1_", name, ", count(", counted,
                    ") FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_", name,
                    ", count(", counted, ") FILTER (WHERE price >= 1000000) AS rank3_", name);
  }
  return {absl::StrCat(select, " FROM bid GROUP BY ", key), key};
}

const std::map<std::string, PeerQuery>& Queries() {
  static const auto* const queries = new std::map<std::string, PeerQuery>{
      {"q0", PassThrough()},
      {"q4", AverageByCategory()},
      {"q5", HotItems()},
      {"q7", HighestBids()},
      {"q9", WinningBids()},
      {"q15", BidsByRank(absl::StrCat(kDay, " AS day"), "day")},
      {"q16", BidsByRank(absl::StrCat("channel, ", kDay,
                                      " AS day, max(to_char(date_time, 'HH24:MI')) AS minute"),
                         "channel, day")},
      {"q17", AuctionDays()},
      {"q18", LatestBids()},
      {"q19", TopTen()},
      {"q20", ExpandedBids()}};
  return *queries;
}

std::vector<std::string> PayloadsOf(const RecordBlocks& blocks, const std::string& stream) {
  std::vector<std::string> payloads;
  for (const RecordBlock& block : blocks) {
    if (block.stream != stream) continue;
    payloads.insert(payloads.end(), block.payloads.begin(), block.payloads.end());
  }
  return payloads;
}

std::string TimeIn(const std::string& member) {
  return absl::StrCat("to_timestamp((payload->>'", member,
                      "')::bigint / 1000.0) AT TIME ZONE 'UTC'");
}

// Reads what was copied to `staged` into the table of its stream.
std::string InsertInto(const std::string& stream) {
  if (stream == "bid") {
    return absl::StrCat(
        "INSERT INTO bid (auction, bidder, price, channel, url, date_time, extra) "
        "SELECT (payload->>'auction')::bigint, (payload->>'bidder')::bigint, "
        "(payload->>'price')::bigint, payload->>'channel', payload->>'url', ",
        TimeIn("date_time"), ", payload->>'extra' FROM staged; ");
  }
  return absl::StrCat(
      "INSERT INTO auction SELECT (payload->>'id')::bigint, payload->>'item_name', "
      "payload->>'description', (payload->>'initial_bid')::bigint, (payload->>'reserve')::bigint, ",
      TimeIn("date_time"), ", ", TimeIn("expires"),
      ", (payload->>'seller')::bigint, (payload->>'category')::bigint, payload->>'extra' "
      "FROM staged; ");
}

}  // namespace

bool PostgresSlices::Knows(const std::string& query, Way way) {
  const auto known = Queries().find(query);
  if (known == Queries().end()) return false;
  return way == Way::kRefresh || !known->second.fold.empty();
}

bool PostgresSlices::Do(const std::string& sql) {
  const bench::Ran ran = postgres_->Sql(sql);
  if (ran.exit_code == 0) return true;
  std::fprintf(stderr, "icepie-bench: PostgreSQL: %s\n", ran.output.substr(0, 400).c_str());
  return false;
}

std::unique_ptr<PostgresSlices> PostgresSlices::Start(const RecordBlocks& before) {
  std::unique_ptr<PostgresSlices> peer(new PostgresSlices());
  peer->postgres_ = bench::Postgres::Start(peer->scratch_.path());
  if (peer->postgres_ == nullptr) return nullptr;
  const bool made = peer->Do(
      "CREATE TABLE staged (payload jsonb); CREATE TABLE bid (position bigserial, auction bigint, "
      "bidder bigint, price bigint, channel text, url text, date_time timestamp, extra text); "
      "CREATE TABLE auction (id bigint PRIMARY KEY, item_name text, description text, initial_bid "
      "bigint, reserve bigint, date_time timestamp, expires timestamp, seller bigint, category "
      "bigint, extra text)");
  if (!made || peer->SecondsOf(before, {"auction", "bid"}, "") < 0) return nullptr;
  return peer->Do("ANALYZE bid; ANALYZE auction") ? std::move(peer) : nullptr;
}

double PostgresSlices::SecondsOf(const RecordBlocks& blocks,
                                 const std::vector<std::string>& streams, const std::string& then) {
  std::string load;
  for (const std::string& stream : streams) {
    const std::string file = absl::StrCat(scratch_.path(), "/", stream, ".jsonl");
    std::ofstream lines(file);
    for (const std::string& payload : PayloadsOf(blocks, stream)) lines << payload << '\n';
    absl::StrAppend(&load, "TRUNCATE staged; COPY staged FROM '", file,
                    "' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02'); ",
                    InsertInto(stream));
  }
  const std::string now = "SELECT extract(epoch FROM clock_timestamp()); ";
  const bench::Ran ran = postgres_->Sql(absl::StrCat(now, "BEGIN; ", load, then, "COMMIT; ", now));
  std::vector<double> times;
  for (const absl::string_view line : absl::StrSplit(ran.output, '\n')) {
    double time = 0;
    if (absl::SimpleAtod(line, &time)) times.push_back(time);
  }
  if (ran.exit_code == 0 && times.size() >= 2) return times.back() - times.front();
  std::fprintf(stderr, "icepie-bench: PostgreSQL: %s\n", ran.output.substr(0, 400).c_str());
  return -1;
}

std::optional<PostgresSlices::Figure> PostgresSlices::Run(
    const std::string& name, Way way, const std::vector<RecordBlocks>& batches) {
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
  if (!Do(absl::StrCat("CREATE TABLE mark AS SELECT (SELECT max(position) FROM bid) AS last, "
                       "(SELECT max(id) FROM auction) AS last_auction; ",
                       kept, "; ANALYZE kept"))) {
    return std::nullopt;
  }
  std::vector<std::string> streams = {"bid"};
  if (query.joins_auctions) streams.insert(streams.begin(), "auction");
  double seconds = 0;
  double records = 0;
  for (const RecordBlocks& batch : batches) {
    const double took =
        SecondsOf(batch, streams, triggers ? "" : "REFRESH MATERIALIZED VIEW kept; ");
    if (took < 0) return std::nullopt;
    seconds += took;
    for (const std::string& stream : streams) {
      records += static_cast<double>(PayloadsOf(batch, stream).size());
    }
  }
  const bench::Ran counted = postgres_->Sql("SELECT count(*) FROM kept");
  Figure figure{records / seconds, 0};
  if (counted.exit_code != 0 ||
      !absl::SimpleAtoi(absl::StripAsciiWhitespace(counted.output), &figure.rows)) {
    return std::nullopt;
  }
  const std::string cleared =
      triggers ? "DROP TABLE kept; DROP TRIGGER fold ON bid; DROP FUNCTION fold(); "
               : "DROP MATERIALIZED VIEW kept; ";
  if (!Do(absl::StrCat(cleared,
                       "DELETE FROM bid WHERE position > (SELECT last FROM mark); "
                       "DELETE FROM auction WHERE id > (SELECT last_auction FROM mark); "
                       "DROP TABLE mark"))) {
    return std::nullopt;
  }
  return figure;
}

}  // namespace icepie::slices
