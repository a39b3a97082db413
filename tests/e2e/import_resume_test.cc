// An import that is killed or stopped in the middle, or whose daemon is, goes on without a double
// and without a hole, and mixes nothing of others in: the real programs, for every format.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "slices/duckdb/duckdb.h"
#include "tests/e2e/daemon_fixture.h"

extern char** environ;

namespace icepie::testing {
namespace {

constexpr int64_t kRecords = 200'000;

class ImportResumeTest : public ::testing::TestWithParam<std::string> {
 protected:
  ImportResumeTest() {
    std::string pattern = ::testing::TempDir() + "icepie-import-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~ImportResumeTest() override { std::filesystem::remove_all(directory_); }

  static std::string Payload(int64_t n) {
    return "{\"n\":" + std::to_string(n) + ",\"text\":\"record number " + std::to_string(n) + "\"}";
  }

  // The file, in the format that the test is about.
  std::string MakeFile() {
    const std::string path = directory_ + "/records." + GetParam();
    if (GetParam() == "parquet") {
      auto database = slices::DuckDatabase::OpenInMemory({});
      auto connection = slices::DuckConnection::Connect(**database);
      EXPECT_TRUE((*connection)
                      ->Run("COPY (SELECT n, 'record number ' || n AS text FROM range(" +
                            std::to_string(kRecords) + ") r(n)) TO '" + path + "'")
                      .ok());
      return path;
    }
    std::ofstream file(path);
    if (GetParam() == "csv") file << "n,text\n";
    for (int64_t n = 0; n < kRecords; ++n) {
      if (GetParam() == "csv") file << n << ",record number " << n << '\n';
      if (GetParam() == "jsonl") file << Payload(n) << '\n' << (n % 7 == 0 ? "\n" : "");
    }
    return path;
  }

  pid_t StartImport(const std::string& file, const std::vector<std::string>& more = {"--resume"}) {
    const char* bin = std::getenv("ICEPIE_BIN");
    std::vector<std::string> arguments = {std::string(bin != nullptr ? bin : ".") + "/icepie",
                                          "--address",
                                          daemon_.grpc_address(),
                                          "import",
                                          "records",
                                          file,
                                          "--batch-records",
                                          "100"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    pid_t pid = 0;
    EXPECT_EQ(posix_spawn(&pid, pointers[0], nullptr, nullptr, pointers.data(), environ), 0);
    return pid;
  }

  static int Wait(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  int64_t EndOffset() {
    icepie::v1::GetStreamRequest request;
    request.set_name("records");
    icepie::v1::Stream stream;
    const auto status =
        daemon_.Core()->GetStream(Within(absl::Seconds(10)).get(), request, &stream);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return stream.end_offset();
  }

  // Waits until more than `records` have come; the import is then in the middle of its work.
  bool Beyond(int64_t records) {
    return Eventually([&] { return EndOffset() > records; }, absl::Seconds(60));
  }

  // Starts the import, again while batches of a killed one still come in, until more than `records`
  // are there: it is then in the middle of its work.
  pid_t StartBeyond(const std::string& file, int64_t records) {
    pid_t import = StartImport(file);
    EXPECT_TRUE(Eventually(
        [&] {
          if (EndOffset() > records) return true;
          if (waitpid(import, nullptr, WNOHANG) == import) import = StartImport(file);
          return false;
        },
        absl::Seconds(60)));
    return import;
  }

  std::vector<std::string> Payloads() {
    icepie::v1::ReadRecordsRequest request;
    request.add_streams("records");
    const auto context = Within(absl::Seconds(60));
    const auto stub = daemon_.Core();
    const auto reader = stub->ReadRecords(context.get(), request);
    icepie::v1::ReadRecordsResponse part;
    std::vector<std::string> payloads;
    while (reader->Read(&part)) {
      for (const auto& record : part.records()) {
        EXPECT_EQ(record.offset(), static_cast<int64_t>(payloads.size()));
        payloads.push_back(record.payload());
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    return payloads;
  }

  void ExpectEveryRecordOnce() {
    const std::vector<std::string> payloads = Payloads();
    ASSERT_EQ(payloads.size(), static_cast<size_t>(kRecords));
    for (int64_t n = 0; n < kRecords; ++n) ASSERT_EQ(payloads[n], Payload(n));
  }

  DaemonFixture daemon_;
  std::string directory_;
};

TEST_P(ImportResumeTest, KillsCostNothingAndDoubleNothing) {
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("records").ok());
  const std::string file = MakeFile();
  int64_t stored = 0;
  const std::vector<std::pair<int, bool>> ends = {
      {SIGKILL, true}, {SIGKILL, false}, {SIGINT, false}};
  for (const auto& [signal, restarts] : ends) {
    const pid_t import = StartBeyond(file, stored + 2000);
    kill(import, signal);
    EXPECT_EQ(Wait(import), signal == SIGKILL ? 128 + SIGKILL : 1)
        << "it was done before it could be stopped";
    if (restarts) {
      daemon_.Kill();
      daemon_.Start();
    }
    stored = EndOffset();  // what it had sent may still come in
    EXPECT_LT(stored, kRecords);
  }
  const pid_t cut_off = StartImport(file, {"--resume", "--retry-for", "0"});
  ASSERT_TRUE(Beyond(stored + 2000));
  daemon_.Kill();
  EXPECT_EQ(Wait(cut_off), 1);
  daemon_.Start();
  EXPECT_LT(EndOffset(), kRecords);
  EXPECT_EQ(Wait(StartImport(file)), 0);
  ExpectEveryRecordOnce();
  EXPECT_EQ(Wait(StartImport(file)), 0);
  EXPECT_EQ(EndOffset(), kRecords);
}

// Neither killing it nor stopping it in order ends the import, with or without --resume.
TEST_P(ImportResumeTest, AnImportOutlivesItsDaemon) {
  daemon_.Start();
  daemon_.AddArgument("--listen-grpc=" + daemon_.grpc_address());  // the same after each start
  ASSERT_TRUE(daemon_.CreateStream("records").ok());
  const pid_t import =
      StartImport(MakeFile(), GetParam() == "csv" ? std::vector<std::string>{"--resume"}
                                                  : std::vector<std::string>{});
  for (const bool in_order : {false, true, false}) {
    ASSERT_TRUE(Beyond(EndOffset() + 2000));
    if (in_order) {
      EXPECT_EQ(daemon_.Stop(), 0);
    } else {
      daemon_.Kill();
    }
    daemon_.Start();
    EXPECT_LT(EndOffset(), kRecords) << "it was done before the daemon ended";
  }
  EXPECT_EQ(Wait(import), 0);
  ExpectEveryRecordOnce();
}

// Where it goes on is settled when it begins. Whoever appends then is not overrun.
class ForeignAppendTest : public ImportResumeTest {};

TEST_P(ForeignAppendTest, EndsAnImportThatGoesOnAndIsNotMixedIn) {
  daemon_.Start();
  ASSERT_TRUE(daemon_.CreateStream("records").ok());
  const std::string file = MakeFile();
  const std::string foreign = R"({"foreign":true})";
  const pid_t import = StartImport(file);
  ASSERT_TRUE(Beyond(2000));
  ASSERT_TRUE(daemon_.Append("records", {foreign}).ok());
  EXPECT_EQ(Wait(import), 3) << "refused";
  const std::vector<std::string> payloads = Payloads();
  ASSERT_LT(payloads.size(), static_cast<size_t>(kRecords)) << "it was done before";
  EXPECT_EQ(payloads.back(), foreign);
  for (size_t n = 0; n + 1 < payloads.size(); ++n) {
    ASSERT_EQ(payloads[n], Payload(static_cast<int64_t>(n)));
  }
  EXPECT_EQ(Wait(StartImport(file)), 3) << "the stream's end is none of the file's records";
  EXPECT_EQ(EndOffset(), static_cast<int64_t>(payloads.size()));
}

INSTANTIATE_TEST_SUITE_P(Jsonl, ForeignAppendTest, ::testing::Values("jsonl"));
INSTANTIATE_TEST_SUITE_P(Formats, ImportResumeTest, ::testing::Values("jsonl", "csv", "parquet"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace icepie::testing
