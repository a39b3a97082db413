// What several scans of one batch see is decoded once, and each sees what it would have read alone.
#include "slices/reading/shared_decode.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "slices/duckdb/duckdb.h"
#include "tests/slices/source_column.h"

namespace icepie::slices {
namespace {

using Alter = std::function<std::string(int64_t position)>;

SourceDef Flights() {
  SourceDef source;
  source.name = "flights";
  source.stream = "flights";
  source.columns = {Column("delay", "INTEGER"), Column("origin", "VARCHAR"),
                    Column("legs", "STRUCT(a BIGINT, b VARCHAR)[]"), Column("date", "DATE")};
  source.columns[1].required = true;
  source.where = {{{"kind"}, "\"flight\""}};
  return source;
}

// A batch of records, of which some are read otherwise than the most.
class Records {
 public:
  Records(size_t count, const Alter& alter) : payloads_(count), views_(count) {
    for (size_t i = 0; i < count; ++i) {
      payloads_[i] = alter(static_cast<int64_t>(i));
      if (payloads_[i].empty()) {
        payloads_[i] = absl::StrCat(R"({"kind":"flight","delay":)", i, R"(,"origin":"airport )", i,
                                    R"( of many","legs":[{"a":)", i, R"(},{"a":1,"b":"x"}]})");
      }
      views_[i].position = static_cast<int64_t>(i) * 2;
      views_[i].offset = static_cast<int64_t>(i);
      views_[i].ingest_time_us = 1'000'000 + static_cast<int64_t>(i);
      if (i % 3 == 0) views_[i].event_time_us = static_cast<int64_t>(i);
      views_[i].payload = payloads_[i];
    }
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  absl::Span<const RecordView> views() const { return views_; }

 private:
  std::vector<std::string> payloads_;
  std::vector<RecordView> views_;
};

// Counts how often records are read for all scans, and by one for itself.
struct Readings {
  int shared = 0;
  int alone = 0;
};

class SharingSupply : public RecordSupply {
 public:
  SharingSupply(absl::Span<const RecordView> records, DecodeSharing::Batch& batch,
                Readings& readings)
      : records_(records), batch_(batch), readings_(readings) {}

  absl::StatusOr<absl::Span<const RecordView>> Next() override {
    if (!records_.empty()) ++readings_.alone;
    return std::exchange(records_, {});
  }
  absl::StatusOr<std::shared_ptr<const SharedRows>> Share(const ScanRequest& request) override {
    return batch_.Find(request, 0, 1, [this]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
      ++readings_.shared;
      return MakeSpanSupply(records_);
    });
  }

 private:
  absl::Span<const RecordView> records_;
  DecodeSharing::Batch& batch_;
  Readings& readings_;
};

class SharedDecodeTest : public ::testing::Test {
 protected:
  // A slice's input, with its own connection; `together` and alone.
  struct Reader {
    std::vector<std::string> columns;
    std::string sql;
    std::unique_ptr<DuckConnection> connection;
    std::unique_ptr<SourceInput> input;
  };

  Reader MakeReader(const SourceDef& source, std::vector<std::string> columns, std::string sql) {
    Reader reader{columns, std::move(sql), DuckConnection::Connect(*database_).value(), nullptr};
    auto input =
        SourceInput::Create(*reader.connection, source, std::move(columns), /*notes_taken=*/true);
    EXPECT_TRUE(input.ok()) << input.status();
    reader.input = std::move(input).value();
    return reader;
  }

  std::string Seen(Reader& reader, const SourceInput::OpenSupply& open) {
    reader.input->SetRecords(open, {});
    const auto rows = reader.connection->QueryCells(
        absl::StrCat("SELECT CAST(row(", reader.sql, ") AS VARCHAR) FROM flights"));
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::string seen;
    for (const CellRow& row : *rows) absl::StrAppend(&seen, std::get<std::string>(row[0]), "\n");
    const ScanCounts& counts = reader.input->counts();
    absl::StrAppend(&seen, "input ", counts.input, " rows ", counts.rows, " filtered ",
                    counts.filtered, " bad ", counts.bad_count, " event ", counts.event_time_max_us,
                    " ingest ", counts.ingest_time_max_us, "\n");
    for (const BadRecord& bad : counts.bad) {
      absl::StrAppend(&seen, bad.position, " ", bad.offset, " ", bad.code, " ", bad.column, " ",
                      bad.path, " ", bad.value, " ", bad.message, "\n");
    }
    for (const bool taken : counts.taken) absl::StrAppend(&seen, taken ? "1" : "0");
    return seen;
  }

  // One batch, which may be decoded ahead: all readers see together what each sees alone.
  Readings RunBatch(std::vector<Reader>& readers, const Records& records, bool ahead = false) {
    Readings readings;
    const auto batch = DecodeSharing::NextBatch(sharing_);
    if (ahead) {
      batch->Prepare(0, 1, [&](const std::string& stream) -> SourceInput::OpenSupply {
        EXPECT_EQ(stream, "flights");
        return [&] {
          ++readings.shared;
          return MakeSpanSupply(records.views());
        };
      });
    }
    for (Reader& reader : readers) {
      const std::string alone = Seen(reader, [&] { return MakeSpanSupply(records.views()); });
      const std::string together =
          Seen(reader, [&]() -> absl::StatusOr<std::unique_ptr<RecordSupply>> {
            return std::make_unique<SharingSupply>(records.views(), *batch, readings);
          });
      EXPECT_EQ(together, alone) << absl::StrJoin(reader.columns, ", ");
    }
    return readings;
  }

  std::vector<Reader> ThreeReaders() {
    std::vector<Reader> readers;
    readers.push_back(MakeReader(Flights(), {"delay", "origin"}, "delay, origin, _position"));
    readers.push_back(MakeReader(Flights(), {"origin", "legs", "delay"}, "legs, origin, _key"));
    readers.push_back(MakeReader(Flights(), {"date", "legs"}, "legs, _event_time, _payload"));
    return readers;
  }

  std::unique_ptr<DuckDatabase> database_ = DuckDatabase::OpenInMemory({{"threads", "1"}}).value();
  std::shared_ptr<DecodeSharing> sharing_ = DecodeSharing::Create();
};

std::string AsMost(int64_t /*position*/) { return ""; }

std::string MixedRecord(int64_t i) {
  switch (i % 97) {
    case 3:
      return R"({"kind":"flight","delay":"late","origin":"A"})";
    case 20:
      return R"({"kind":"flight","delay":1,"legs":[{"a":1},{"a":"x"}]})";
    case 21:
      return R"({"kind":"flight","delay":7.5,"legs":3})";
    case 40:
      return R"({"kind":"ship","delay":"late"})";
    case 41:
      return R"({"kind":"flight","kind":"ship"})";
    case 60:
      return "{nope";
    case 80:
      return R"({"kind":"flight","delay":null,"origin":"B","date":"2001-02-30"})";
    default:
      return "";
  }
}

TEST_F(SharedDecodeTest, SeveralScansOfABatchDecodeItOnce) {
  std::vector<Reader> readers = ThreeReaders();
  const Records records(3000, AsMost);
  const Readings first = RunBatch(readers, records);
  EXPECT_EQ(first.shared, 0);  // nobody could know
  EXPECT_EQ(first.alone, 3);
  for (int batch = 0; batch < 3; ++batch) {
    const Readings next = RunBatch(readers, records);
    EXPECT_EQ(next.shared, 1);
    EXPECT_EQ(next.alone, 0);
  }
}

TEST_F(SharedDecodeTest, ARecordIsBadOnlyForThoseThatReadTheBadColumn) {
  std::vector<Reader> readers = ThreeReaders();
  const Records records(7001, MixedRecord);
  for (int batch = 0; batch < 4; ++batch) {
    const Readings readings = RunBatch(readers, records);
    EXPECT_EQ(readings.shared, batch == 0 ? 0 : 1);
  }
  // Whole chunks without a row for one of them.
  const Records most_bad(4500, [](int64_t i) {
    return i > 1000 && i < 4490 ? R"({"kind":"flight","origin":"C","date":"never"})" : "";
  });
  EXPECT_EQ(RunBatch(readers, most_bad).shared, 1);
  EXPECT_EQ(RunBatch(readers, Records(1, MixedRecord)).shared, 1);
}

TEST_F(SharedDecodeTest, ThoseThatDifferInAColumnDoNotSeeEachOthers) {
  std::vector<Reader> readers = ThreeReaders();
  SourceDef lenient = Flights();
  lenient.columns[1].required = false;
  lenient.columns[1].default_json = "\"nowhere\"";
  readers.push_back(MakeReader(lenient, {"origin"}, "origin"));
  SourceDef every = Flights();
  every.where.clear();
  every.columns[0] = Column("delay", "VARCHAR");
  readers.push_back(MakeReader(every, {"delay"}, "delay, _position"));
  const Records records(3000, MixedRecord);
  RunBatch(readers, records);
  const Readings readings = RunBatch(readers, records);
  EXPECT_EQ(readings.shared, 1);
  EXPECT_EQ(readings.alone, 1);  // the one under another `where`
}

TEST_F(SharedDecodeTest, WhatIsNotAskedForAnyMoreIsNotDecoded) {
  std::vector<Reader> readers = ThreeReaders();
  const Records records(10, AsMost);
  RunBatch(readers, records);
  readers.pop_back();
  const SourceReading reading{"flights", {Flights().columns[0]}, Flights().where};
  const std::string group = ShareGroup(reading);
  const std::vector<std::string> keys = {ColumnKey(reading.columns[0])};
  const ScanRequest request{&reading, &group, &keys, std::vector<bool>(1 + kHiddenCount, false)};
  const auto decodes_date = [&] {
    RunBatch(readers, records);
    const auto batch = DecodeSharing::NextBatch(sharing_);
    const auto rows = *batch->Find(request, 0, 1, [&] { return MakeSpanSupply(records.views()); });
    return rows != nullptr && rows->columns.count(ColumnKey(Flights().columns[3])) > 0;
  };
  ASSERT_TRUE(decodes_date());
  for (int64_t i = 0; i < DecodeSharing::kForgetBatches; ++i) RunBatch(readers, records);
  EXPECT_FALSE(decodes_date());
}

TEST_F(SharedDecodeTest, TooManyBytesAreDecodedByEach) {
  sharing_ = DecodeSharing::Create(500'000);
  std::vector<Reader> readers = ThreeReaders();
  RunBatch(readers, Records(100, AsMost));
  EXPECT_EQ(RunBatch(readers, Records(100, AsMost)).alone, 0);
  const Readings readings = RunBatch(readers, Records(1000, AsMost));
  EXPECT_EQ(readings.shared, 1);  // given up
  EXPECT_EQ(readings.alone, 3);
  // It is not tried for nothing with every batch.
  for (int64_t i = 1; i < DecodeSharing::kForgetBatches; ++i) {
    EXPECT_EQ(RunBatch(readers, Records(1, AsMost)).shared, 0) << i;
  }
  EXPECT_EQ(RunBatch(readers, Records(1, AsMost)).shared, 1);
}

// A chunk has room for its rows from the beginning: ranges of one record each are not many rows,
// but as much memory as if they were.
TEST_F(SharedDecodeTest, RangesOfFewRecordsCountWithAllTheirRoom) {
  sharing_ = DecodeSharing::Create(1'000'000);
  std::vector<Reader> readers = ThreeReaders();
  const Records records(1, AsMost);
  RunBatch(readers, records);
  const auto batch = DecodeSharing::NextBatch(sharing_);
  const SourceReading reading{"flights", {Flights().columns[0]}, Flights().where};
  const std::string group = ShareGroup(reading);
  const std::vector<std::string> keys = {ColumnKey(reading.columns[0])};
  const ScanRequest request{&reading, &group, &keys, std::vector<bool>(1 + kHiddenCount, false)};
  int64_t kept = 0;
  for (int64_t range = 0; range < 100; ++range) {
    const auto rows =
        *batch->Find(request, range, range + 1, [&] { return MakeSpanSupply(records.views()); });
    if (rows != nullptr) ++kept;
  }
  EXPECT_GE(kept, 1);
  EXPECT_LE(kept, 10);
}

// Rows of so many columns that the allocator has to ask the system for their chunk.
class WideReading {
 public:
  WideReading() {
    for (int i = 0; i < 500; ++i)
      reading_.columns.push_back(Column(absl::StrCat("c", i), "VARCHAR"));
    for (const ColumnDef& column : reading_.columns) keys_.push_back(ColumnKey(column));
    group_ = ShareGroup(reading_);
  }
  ScanRequest Request() const {
    std::vector<bool> shown(keys_.size(), true);
    shown.resize(shown.size() + kHiddenCount, false);
    return {&reading_, &group_, &keys_, shown};
  }

 private:
  SourceReading reading_{"flights", {}, {}};
  std::vector<std::string> keys_;
  std::string group_;
};

rlim_t AddressSpaceBytes() {
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

// Of rows that there was no memory for, none may be taken for read. Exits with 0 when none was.
void DecodeWithoutMemory() {
  const WideReading wide;
  const Records records(10, AsMost);
  const auto sharing = DecodeSharing::Create();
  const auto open = [&] { return MakeSpanSupply(records.views()); };
  for (int i = 0; i < 2; ++i) {
    const auto batch = DecodeSharing::NextBatch(sharing);
    if (i == 1) {
      // Enough for all but the chunk.
      const rlim_t bytes = AddressSpaceBytes() + (4 << 20);
      const rlimit limit = {bytes, bytes};
      ::setrlimit(RLIMIT_AS, &limit);
    }
    for (int scan = 0; scan < 2; ++scan) {
      try {
        const auto rows = batch->Find(wide.Request(), 0, 1, open);
        if (i == 1 && rows.ok() && *rows != nullptr) ::_exit(1);
      } catch (const std::bad_alloc&) {
        ::_exit(0);
      }
    }
  }
  ::_exit(2);
}

TEST(SharedDecodeDeathTest, RowsThatThereIsNoMemoryForAreNotLostSilently) {
  EXPECT_EXIT(DecodeWithoutMemory(), ::testing::ExitedWithCode(0), "");
}

// Two slices that read other streams, or other ranges, do not wait for each other.
TEST_F(SharedDecodeTest, WhoDecodesHoldsUpOnlyThoseWhoWantTheSame) {
  std::vector<Reader> readers = ThreeReaders();
  const Records records(100, AsMost);
  RunBatch(readers, records);
  const SourceReading reading{"flights", Flights().columns, Flights().where, true};
  const std::string group = ShareGroup(reading);
  std::vector<std::string> keys;
  for (const ColumnDef& column : reading.columns) keys.push_back(ColumnKey(column));
  ScanRequest request{&reading, &group, &keys,
                      std::vector<bool>(reading.columns.size() + kHiddenCount)};
  const auto batch = DecodeSharing::NextBatch(sharing_);
  std::atomic<int> decoded{0};
  const auto open = [&] {
    ++decoded;
    return MakeSpanSupply(records.views());
  };
  absl::Notification opened;
  absl::Notification other_is_done;
  std::thread first([&] {
    const auto rows = batch->Find(request, 0, 100, [&] {
      opened.Notify();
      EXPECT_TRUE(other_is_done.WaitForNotificationWithTimeout(absl::Seconds(60)));
      return open();
    });
    EXPECT_TRUE(rows.ok() && *rows != nullptr);
  });
  opened.WaitForNotification();
  std::thread same([&] {
    const auto rows = batch->Find(request, 0, 100, open);
    EXPECT_TRUE(rows.ok() && *rows != nullptr);
  });
  const auto rows = batch->Find(request, 100, 200, open);
  EXPECT_TRUE(rows.ok() && *rows != nullptr);
  other_is_done.Notify();
  first.join();
  same.join();
  EXPECT_EQ(decoded, 2);
}

TEST_F(SharedDecodeTest, WhatIsDecodedAheadIsThereForOneScanToo) {
  std::vector<Reader> readers;
  readers.push_back(MakeReader(Flights(), {"delay", "origin"}, "delay, origin, _position"));
  const Records records(7001, MixedRecord);
  const Readings first = RunBatch(readers, records, /*ahead=*/true);
  EXPECT_EQ(first.shared, 0);  // nobody could know
  EXPECT_EQ(first.alone, 1);
  for (int batch = 0; batch < 3; ++batch) {
    const Readings next = RunBatch(readers, records, /*ahead=*/true);
    EXPECT_EQ(next.shared, 1);
    EXPECT_EQ(next.alone, 0);
  }
  // Another one joins, with a column that nobody has asked for so far.
  readers.push_back(MakeReader(Flights(), {"date"}, "date"));
  EXPECT_EQ(RunBatch(readers, records, /*ahead=*/true).alone, 1);
  const Readings both = RunBatch(readers, records, /*ahead=*/true);
  EXPECT_EQ(both.shared, 1);
  EXPECT_EQ(both.alone, 0);
}

TEST_F(SharedDecodeTest, WhatIsTooMuchIsNotDecodedAheadAgainAtOnce) {
  sharing_ = DecodeSharing::Create(500'000);
  std::vector<Reader> readers;
  readers.push_back(MakeReader(Flights(), {"origin"}, "origin, _payload"));
  RunBatch(readers, Records(100, AsMost), /*ahead=*/true);
  const Records many(10000, AsMost);
  const Readings given_up = RunBatch(readers, many, /*ahead=*/true);
  EXPECT_EQ(given_up.shared, 1);
  EXPECT_EQ(given_up.alone, 1);
  for (int64_t i = 1; i < DecodeSharing::kForgetBatches; ++i) {
    EXPECT_EQ(RunBatch(readers, many, /*ahead=*/true).shared, 0);
  }
  EXPECT_EQ(RunBatch(readers, many, /*ahead=*/true).shared, 1);
}

}  // namespace
}  // namespace icepie::slices
