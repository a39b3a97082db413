// What DuckDB's own settings keep from SQL that no gate has looked at: the layer behind the gate
// (sql_gate_test) and in front of the sandbox (sandbox_test).
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "slices/duckdb/duckdb.h"
#include "slices/duckdb/transaction.h"
#include "slices/role/engine.h"
#include "tests/slices/engine_fixture.h"

namespace icepie::slices {
namespace {

class InstanceSettingsTest : public EngineFixture {
 protected:
  InstanceSettingsTest() {
    std::ofstream(outside_) << "a,b\n1,2\n";
    instance_ = OpenInstance(Options(), 1).value();
    connection_ = DuckConnection::Connect(*instance_).value();
  }
  ~InstanceSettingsTest() override { std::filesystem::remove(outside_); }

  // That the SQL fails, and says this.
  void ExpectRefused(const std::string& sql, const std::string& why) {
    const absl::Status status = connection_->Run(sql);
    EXPECT_FALSE(status.ok()) << sql;
    EXPECT_NE(status.message().find(why), std::string::npos) << sql << ": " << status;
  }

  const std::string outside_ = directory_ + "-outside.csv";
  const std::string other_ = directory_ + "-other";
  std::unique_ptr<DuckDatabase> instance_;
  std::unique_ptr<DuckConnection> connection_;
};

TEST_F(InstanceSettingsTest, FilesOutsideOfTheDomainsDirectoryAreOutOfReach) {
  const std::string file = QuoteLiteral(outside_);
  const std::string other = QuoteLiteral(other_);
  const std::string why = "file system operations are disabled";
  ExpectRefused(absl::StrCat("SELECT * FROM read_text(", file, ")"), why);
  ExpectRefused(absl::StrCat("SELECT * FROM read_blob(", file, ")"), why);
  ExpectRefused(absl::StrCat("SELECT * FROM read_text('", directory_, "/../../etc/hostname')"),
                why);
  ExpectRefused(absl::StrCat("SELECT * FROM read_csv(", file, ")"), why);
  ExpectRefused(absl::StrCat("SELECT * FROM read_json(", file, ")"), why);
  ExpectRefused(absl::StrCat("SELECT * FROM read_parquet(", file, ")"), why);
  ExpectRefused("SELECT * FROM glob('/*')", why);
  ExpectRefused(absl::StrCat("COPY (SELECT 1) TO ", other), why);
  ExpectRefused(absl::StrCat("CREATE TABLE t (a INTEGER); COPY t FROM ", file), why);
  ExpectRefused(absl::StrCat("ATTACH ", other), why);
  ExpectRefused(absl::StrCat("EXPORT DATABASE ", other), why);
  ExpectRefused(absl::StrCat("IMPORT DATABASE ", other), why);
  ExpectRefused(absl::StrCat("SELECT * FROM ", QuoteIdentifier(outside_)), why);
  EXPECT_FALSE(std::filesystem::exists(other_));
}

TEST_F(InstanceSettingsTest, NothingIsLoadedAndNoSettingChanges) {
  ExpectRefused("INSTALL httpfs", "disabled");
  ExpectRefused("LOAD httpfs", "disabled");
  ExpectRefused(absl::StrCat("LOAD '", directory_, "/x.duckdb_extension'"), "disabled");
  ExpectRefused("SELECT * FROM read_text('https://localhost/x')", "disabled");
  for (const char* setting :
       {"threads = 4", "memory_limit = '1TB'", "enable_external_access = true",
        "allowed_directories = ['/']", "temp_directory = '/tmp'", "max_temp_directory_size = '1TB'",
        "lock_configuration = false", "autoload_known_extensions = true",
        "TimeZone = 'Europe/Zurich'"}) {
    ExpectRefused(absl::StrCat("SET GLOBAL ", setting), "the configuration has been locked");
  }
  ExpectRefused("PRAGMA threads = 4", "the configuration has been locked");
  ExpectRefused("RESET threads", "the configuration has been locked");
}

TEST_F(InstanceSettingsTest, AReadOnlyTransactionWritesNothing) {
  ASSERT_TRUE(connection_->Run("CREATE TABLE t AS SELECT 1 AS a").ok());
  for (const char* sql :
       {"INSERT INTO t VALUES (2)", "DELETE FROM t", "UPDATE t SET a = 2", "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN b INTEGER", "CREATE TABLE u (a INTEGER)",
        "CREATE VIEW v AS SELECT 1", "CREATE SCHEMA s", "CREATE TYPE e AS ENUM ('a')"}) {
    ASSERT_TRUE(connection_->Run("BEGIN TRANSACTION READ ONLY").ok());
    ExpectRefused(sql, "read-only mode");
    EXPECT_TRUE(RollBack(*connection_).ok());
  }
  EXPECT_EQ(std::get<int64_t>(connection_->QueryCells("SELECT sum(a) FROM t").value()[0][0]), 1);
}

// What these settings do not stop: the gate has to, and does (sql_gate_test), and the sandbox stops
// what of it would reach beyond the domain's directory.
TEST_F(InstanceSettingsTest, WhatOnlyTheGateStops) {
  const std::string own = QuoteLiteral(directory_ + "/own.csv");
  EXPECT_TRUE(connection_->Run(absl::StrCat("COPY (SELECT 1) TO ", own)).ok());
  EXPECT_TRUE(connection_->Run(absl::StrCat("SELECT * FROM read_text(", own, ")")).ok());
  EXPECT_TRUE(connection_->Run("ATTACH ':memory:' AS m; DETACH m").ok());
}

}  // namespace
}  // namespace icepie::slices
