// icepie-bench as it is called: its help, and lines as figure.h says. The figures themselves are
// not looked at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/figure.h"

namespace icepie::bench {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

struct Ended {
  int exit_code = -1;
  std::string output;  // without errors
};

Ended RunBench(const std::string& arguments, const std::string& environment = "",
               const std::string& error_file = "/dev/null") {
  const char* bin = std::getenv("ICEPIE_BIN");
  const std::string command = absl::StrCat("env ", environment, " ", bin != nullptr ? bin : ".",
                                           "/icepie-bench ", arguments, " 2>", error_file);
  FILE* pipe = popen(command.c_str(), "r");
  Ended ended;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    ended.output.append(buffer, n);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  return ended;
}

std::string TypeOrNull(const ordered_json& line, const std::string& member) {
  return line[member].is_null() ? "null" : line[member].type_name();
}

void ExpectWellFormed(const ordered_json& line) {
  std::vector<std::string> members;
  for (const auto& [member, value] : line.items()) members.push_back(member);
  EXPECT_THAT(members, ::testing::ElementsAre("name", "value", "unit", "floor", "peer", "ratio",
                                              "goal", "ok"))
      << line;
  EXPECT_EQ(TypeOrNull(line, "name"), "string");
  EXPECT_EQ(TypeOrNull(line, "unit"), "string");
  for (const char* member : {"value", "floor", "peer", "ratio", "goal"}) {
    EXPECT_TRUE(line[member].is_null() || line[member].is_number()) << line;
  }
  EXPECT_TRUE(line["ok"].is_null() || line["ok"].is_boolean()) << line;
  EXPECT_TRUE(line["floor"].is_null() || line["peer"].is_null()) << line;
}

std::vector<ordered_json> LinesOf(const std::string& output) {
  std::vector<ordered_json> lines;
  for (const absl::string_view line : absl::StrSplit(output, '\n', absl::SkipEmpty())) {
    lines.push_back(ordered_json::parse(line, nullptr, false));
    EXPECT_TRUE(lines.back().is_object()) << line;
    if (lines.back().is_object()) ExpectWellFormed(lines.back());
  }
  return lines;
}

ordered_json Find(const std::vector<ordered_json>& lines, const std::string& name) {
  for (const ordered_json& line : lines) {
    if (line["name"] == name) return line;
  }
  ADD_FAILURE() << name << " is not among the lines";
  return ordered_json::parse(ToJson({}));
}

TEST(FigureTest, TheRatioIsToTheFloorOrThePeer) {
  EXPECT_EQ(ToJson({.name = "a", .value = 3, .unit = "ms", .floor = 2}),
            R"({"name":"a","value":3.0,"unit":"ms","floor":2.0,"peer":null,"ratio":1.5,)"
            R"("goal":null,"ok":null})");
  EXPECT_EQ(ToJson({.name = "a", .value = 3, .unit = "ms", .peer = 4, .goal = RatioAtLeast(0.8)}),
            R"({"name":"a","value":3.0,"unit":"ms","floor":null,"peer":4.0,"ratio":0.75,)"
            R"("goal":0.8,"ok":false})");
}

TEST(FigureTest, AGoalIsOfTheRatioOrTheValue) {
  const auto ok = [](const Figure& figure) { return ordered_json::parse(ToJson(figure))["ok"]; };
  EXPECT_EQ(ok({.value = 3, .peer = 2, .ratio = 1.2, .goal = RatioAtMost(1.2)}), true);
  EXPECT_EQ(ok({.value = 3, .peer = 2, .goal = RatioAtMost(1.2)}), false);
  EXPECT_EQ(ok({.value = 3, .goal = ValueAtMost(3)}), true);
  EXPECT_EQ(ok({.value = 3.5, .goal = ValueAtMost(3)}), false);
}

TEST(FigureTest, WhatWasNotMeasuredIsNull) {
  EXPECT_EQ(ToJson({.name = "a", .value = 3, .unit = "ms", .goal = RatioAtLeast(2)}),
            R"({"name":"a","value":3.0,"unit":"ms","floor":null,"peer":null,"ratio":null,)"
            R"("goal":2.0,"ok":null})");
}

TEST(FigureTest, MediansAndQuantiles) {
  EXPECT_EQ(Median({}), std::nullopt);
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Quantile({}, 0.5), std::nullopt);
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({3, 1, 2}, 0.99), 3);
}

TEST(BenchTest, TheHelpNamesEveryBench) {
  const Ended help = RunBench("--help");
  EXPECT_EQ(help.exit_code, 0);
  for (const char* name :
       {"core", "all", "ingest", "merkle", "scan", "restart", "follow", "visible", "freshness",
        "slices", "reslice", "failover", "neighbour", "wake", "memory"}) {
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("\n  ", name, " "))) << name;
  }
  EXPECT_THAT(RunBench("ingest --help").output, HasSubstr("--rounds "));
  EXPECT_NE(RunBench("").exit_code, 0);
  EXPECT_NE(RunBench("nonsense").exit_code, 0);
}

TEST(BenchTest, MissingProgramsAreSaid) {
  const std::string path = ::testing::TempDir() + absl::StrCat("/bench_bin_", ::getpid());
  const Ended ended = RunBench("ingest", "ICEPIE_BIN=" + path, path);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_EQ(ended.output, "");
  std::ifstream errors(path);
  std::string line;
  std::getline(errors, line);
  EXPECT_THAT(line, HasSubstr(path));
  EXPECT_THAT(line, HasSubstr("ICEPIE_BIN"));
  std::filesystem::remove(path);
}

TEST(BenchTest, TheBenchesOfTheCorePrintTheirFigures) {
  const Ended ended = RunBench(
      "merkle --rounds 1 --batches 1 scan --rounds 1 --records 5000 restart --rounds 1 --log-mib 1 "
      "--ids 1000");
  EXPECT_EQ(ended.exit_code, 0);
  const std::vector<ordered_json> lines = LinesOf(ended.output);
  for (const char* name :
       {"merkle.ingest", "merkle.cpu", "scan.hot", "scan.sealed", "scan.segments",
        "scan.segments_cold", "scan.segments_cold.stored", "scan.decoding_to_disk",
        "restart.logs.vs_empty", "restart.ids.vs_empty"}) {
    const ordered_json line = Find(lines, name);
    EXPECT_TRUE(line["value"].is_number() && line["floor"].is_number()) << line;
    EXPECT_TRUE(line["ratio"].is_number()) << line;
  }
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.back()["name"], "goals_met");
  EXPECT_EQ(lines.back()["goal"], 4);  // of the tree, of cold segments and of two starts
  EXPECT_GE(Find(lines, "restart.logs.size")["value"], 1);
}

// How many processes have `text` in their command line.
int CountProcesses(const std::string& text) {
  int count = 0;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(process.path() / "cmdline");
    std::string line;
    std::getline(file, line, '\xff');  // all of it; one that has just ended is none, and no error
    count += line.find(text) != std::string::npos ? 1 : 0;
  }
  return count;
}

// In the long part: the peers take half a minute, most of it to start.
TEST(BenchTest, EveryPeerIsMeasuredAndStopped) {
  if (std::getenv("ICEPIE_BENCH_PEERS") == nullptr) GTEST_SKIP() << "ICEPIE_BENCH_PEERS=1 asks";
  for (const char* program : {"db_bench", "redis-server", "redis-cli", "initdb", "pgbench"}) {
    if (!FindProgram(program, {"/usr/lib/postgresql/15/bin"})) {
      GTEST_SKIP() << program << " is not installed";
    }
  }
  const std::string path = ::testing::TempDir() + absl::StrCat("/bench_peers_", ::getpid());
  std::filesystem::create_directory(path);
  std::filesystem::permissions(path, std::filesystem::perms::others_exec,
                               std::filesystem::perm_options::add);  // PostgreSQL's account
  const Ended ended =
      RunBench("ingest --rounds 1 --seconds 0.5 --batches 1 1000 --clients 1 --kinds transfer",
               "TMPDIR=" + path);
  EXPECT_EQ(ended.exit_code, 0) << "3: a peer did not start";
  const std::vector<ordered_json> lines = LinesOf(ended.output);
  for (const char* name :
       {"b1.c1.vs_fdatasync", "b1.c1.vs_echo", "b1.c1.vs_db_bench", "b1.c1.vs_redis",
        "b1.c1.vs_postgres_insert", "b1000.c1.vs_echo", "b1000.c1.vs_db_bench", "b1000.c1.vs_redis",
        "b1000.c1.vs_postgres_copy"}) {
    const ordered_json line = Find(lines, absl::StrCat("ingest.transfer.", name));
    EXPECT_TRUE(line["value"].is_number() && line["ratio"].is_number()) << line;
    EXPECT_TRUE(line["floor"].is_number() || line["peer"].is_number()) << line;
  }
  EXPECT_EQ(CountProcesses(path), 0) << "they were not stopped";
  EXPECT_TRUE(std::filesystem::is_empty(path));
  std::filesystem::remove_all(path);
}

// The peer's figures are null, a goal that needs them is none that is met, and the exit code says
// so.
TEST(BenchTest, AMissingPeerIsSaid) {
  const std::string path = ::testing::TempDir() + absl::StrCat("/bench_test_", ::getpid());
  std::filesystem::create_directory(path);
  std::filesystem::create_symlink("/usr/bin/setpriv", path + "/setpriv");
  const Ended ended = RunBench(
      "ingest --rounds 1 --seconds 0.1 --batches 1000 --clients 1 --kinds nexmark --peers redis",
      "PATH=" + path);
  EXPECT_EQ(ended.exit_code, 3);
  const std::vector<ordered_json> lines = LinesOf(ended.output);
  EXPECT_TRUE(Find(lines, "ingest.nexmark.b1000.c1")["value"].is_number());
  EXPECT_TRUE(Find(lines, "ingest.nexmark.b1000.c1.vs_echo")["ratio"].is_number());
  const ordered_json line = Find(lines, "ingest.nexmark.b1000.c1.vs_redis");
  EXPECT_TRUE(line["value"].is_number()) << line;
  EXPECT_EQ(line["goal"], 3) << line;
  EXPECT_TRUE(line["peer"].is_null() && line["ratio"].is_null() && line["ok"].is_null()) << line;
  EXPECT_EQ(Find(lines, "goals_met")["ok"], false);
  std::filesystem::remove_all(path);
}

}  // namespace
}  // namespace icepie::bench
