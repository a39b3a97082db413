#include "tests/e2e/daemon_fixture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "server/base/rpc_status.h"

extern char** environ;

namespace icepie::testing {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr absl::Duration kCallTimeout = absl::Seconds(60);
// A worker that starts, restores and applies, on a machine that stands still now and then.
constexpr int kAnswerWaitSeconds = 50;
constexpr size_t kLogTail = size_t{16} << 10;  // of each worker's, after a failure

// Small intervals: tests wait for snapshots. No worker is taken for dead that a busy machine keeps
// waiting for seconds; a test of one that hangs has a timeout of its own.
constexpr const char* kDefaultSettings = R"(
workers: {heartbeat_interval_ms: 100, heartbeat_timeout_ms: 10000, snapshot_interval_ms: 300, memory_bytes: 268435456}
logging: {level: debug}
)";

std::string BinDirectory() {
  const char* bin = std::getenv("ICEPIE_BIN");
  return bin != nullptr ? bin : ".";
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

pid_t Spawn(std::vector<std::string> arguments, const std::string& error_file) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, error_file.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                   0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, pointers[0], &files, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  EXPECT_EQ(error, 0) << arguments[0] << ": " << strerror(error);
  return error == 0 ? pid : 0;
}

int ExitCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Waits for the end, bounded; kills what does not end.
int WaitForExit(pid_t pid, absl::Duration timeout) {
  int status = 0;
  const bool ended = Eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }, timeout);
  if (ended) return ExitCode(status);
  ADD_FAILURE() << "process " << pid << " did not end within " << absl::FormatDuration(timeout);
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  return ExitCode(status);
}

}  // namespace

bool Eventually(const std::function<bool()>& holds, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!holds()) {
    if (absl::Now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

std::unique_ptr<grpc::ClientContext> Within(absl::Duration timeout) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  return context;
}

const icepie::v1::SliceCondition* FindCondition(const icepie::v1::Slice& slice,
                                                const std::string& type) {
  for (const auto& condition : slice.conditions()) {
    if (condition.type() == type) return &condition;
  }
  return nullptr;
}

DaemonFixture::DaemonFixture() : settings_(kDefaultSettings) {
  std::string pattern = absl::StrCat(::testing::TempDir(), "icepie-XXXXXX");
  directory_ = mkdtemp(pattern.data());
  data_directory_ = directory_ + "/data";
}

DaemonFixture::~DaemonFixture() {
  if (pid_ != 0) Kill();
  if (::testing::Test::HasFailure())
    std::fprintf(stderr, "%s\n%s", Log().c_str(), WorkerLogs().c_str());
  if (keep_directory_) return;
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::vector<std::string> DaemonFixture::Arguments() const {
  std::vector<std::string> arguments = {BinDirectory() + "/icepied",
                                        "--config=" + directory_ + "/icepie.yaml",
                                        "--data-directory=" + data_directory_,
                                        "--listen-grpc=127.0.0.1:0", "--listen-http=127.0.0.1:0"};
  arguments.insert(arguments.end(), more_arguments_.begin(), more_arguments_.end());
  return arguments;
}

std::string DaemonFixture::Log() const { return ReadWhole(directory_ + "/icepied.log"); }

std::string DaemonFixture::WorkerLogs() const {
  std::string all;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator file(data_directory_ + "/domains", error), end;
       !error && file != end; file.increment(error)) {
    if (file->path().extension() != ".log") continue;
    const std::string text = ReadWhole(file->path());
    const size_t begin = text.size() > kLogTail ? text.find('\n', text.size() - kLogTail) + 1 : 0;
    absl::StrAppend(&all, file->path().lexically_relative(data_directory_).string(), ":\n",
                    absl::string_view(text).substr(begin), "\n");
  }
  return all;
}

void DaemonFixture::ReadAnnouncement() {
  const auto announcement =
      nlohmann::json::parse(ReadWhole(data_directory_ + "/icepied.json"), nullptr, false);
  if (announcement.is_discarded() || announcement.value("pid", 0) != pid_) return;
  grpc_address_ = announcement.value("grpc", "");
  http_address_ = announcement.value("http", "");
}

void DaemonFixture::Start() {
  std::ofstream(directory_ + "/icepie.yaml") << settings_;
  grpc_address_.clear();
  pid_ = Spawn(Arguments(), directory_ + "/icepied.log");
  bool ended = false;
  const bool decided = Eventually(
      [&] {
        ReadAnnouncement();
        ended = waitpid(pid_, nullptr, WNOHANG) == pid_;
        return ended || !grpc_address_.empty();
      },
      kStartTimeout);
  if (ended) pid_ = 0;
  ASSERT_TRUE(decided && !ended) << "icepied did not start:\n" << Log();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);  // the status of a thousand domains; as the CLI
  channel_ =
      grpc::CreateCustomChannel(grpc_address_, grpc::InsecureChannelCredentials(), arguments);
}

int DaemonFixture::Stop() {
  kill(pid_, SIGTERM);
  return WaitForExit(std::exchange(pid_, 0), absl::Seconds(60));
}

void DaemonFixture::Kill() {
  kill(pid_, SIGKILL);
  WaitForExit(std::exchange(pid_, 0), absl::Seconds(60));
}

ProgramEnd DaemonFixture::RunIcepied(const std::vector<std::string>& arguments) const {
  const std::string error_file = directory_ + "/second.log";
  std::filesystem::remove(error_file);  // an earlier one's
  std::vector<std::string> all = Arguments();
  all.insert(all.end(), arguments.begin(), arguments.end());
  ProgramEnd end;
  end.exit_code = WaitForExit(Spawn(std::move(all), error_file), kStartTimeout);
  end.errors = ReadWhole(error_file);
  return end;
}

std::unique_ptr<icepie::v1::Core::Stub> DaemonFixture::Core() const {
  return icepie::v1::Core::NewStub(channel_);
}
std::unique_ptr<icepie::v1::Slices::Stub> DaemonFixture::Slices() const {
  return icepie::v1::Slices::NewStub(channel_);
}
std::unique_ptr<icepie::v1::Admin::Stub> DaemonFixture::Admin() const {
  return icepie::v1::Admin::NewStub(channel_);
}
std::unique_ptr<google::longrunning::Operations::Stub> DaemonFixture::Operations() const {
  return google::longrunning::Operations::NewStub(channel_);
}

grpc::Status DaemonFixture::CreateStream(const std::string& name) const {
  icepie::v1::CreateStreamRequest request;
  icepie::v1::Stream response;
  request.set_name(name);
  return Core()->CreateStream(Within(kCallTimeout).get(), request, &response);
}

absl::StatusOr<int64_t> DaemonFixture::Append(const std::string& stream,
                                              const std::vector<std::string>& payloads) const {
  icepie::v1::AppendRecordsRequest request;
  icepie::v1::AppendRecordsResponse response;
  for (const std::string& payload : payloads) {
    auto& record = *request.add_records();
    record.set_stream(stream);
    record.set_payload(payload);
  }
  const auto status = Core()->AppendRecords(Within(kCallTimeout).get(), request, &response);
  if (!status.ok()) return server::FromGrpcStatus(status);
  return response.end_position();
}

grpc::Status DaemonFixture::Apply(const std::string& file,
                                  icepie::v1::ApplyDomainResponse* response) const {
  icepie::v1::ApplyDomainRequest request;
  request.set_file(file);
  request.set_file_name("test.yaml");
  request.set_actor("test");
  return Admin()->ApplyDomain(Within(kCallTimeout).get(), request, response);
}

grpc::Status DaemonFixture::Query(const std::string& domain, const std::string& sql,
                                  int64_t min_position, icepie::v1::QueryResponse* response) const {
  icepie::v1::QueryRequest request;
  request.set_domain(domain);
  request.set_sql(sql);
  if (min_position >= 0) {
    request.mutable_consistency()->set_min_position(min_position);
    request.mutable_consistency()->mutable_max_wait()->set_seconds(kAnswerWaitSeconds);
  }
  return Slices()->Query(Within(kCallTimeout).get(), request, response);
}

icepie::v1::Slice DaemonFixture::GetSlice(const std::string& name) const {
  icepie::v1::GetSliceRequest request;
  icepie::v1::Slice slice;
  request.set_name(name);
  const auto status = Slices()->GetSlice(Within(kCallTimeout).get(), request, &slice);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return slice;
}

icepie::v1::WorkerStatus DaemonFixture::Worker(const std::string& domain,
                                               const std::string& role) const {
  icepie::v1::GetDomainRequest request;
  icepie::v1::Domain response;
  request.set_name(domain);
  const auto status = Admin()->GetDomain(Within(kCallTimeout).get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (const auto& worker : response.workers()) {
    if (worker.role() == role) return worker;
  }
  return {};
}

namespace {

// A thread may answer for a moment after the signal has been sent.
bool Stands(pid_t pid) {
  std::error_code error;
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    std::ifstream file(task.path() / "stat");
    std::string stat((std::istreambuf_iterator<char>(file)), {});
    const size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || stat.compare(name_end, 3, ") T") != 0) return false;
  }
  return !error;
}

}  // namespace

pid_t DaemonFixture::SignalWorker(const std::string& domain, const std::string& role,
                                  int signal) const {
  pid_t pid = 0;
  const bool there = Eventually([&] {
    pid = static_cast<pid_t>(Worker(domain, role).pid());
    return pid > 0;
  });
  EXPECT_TRUE(there) << domain << " has no " << role << " worker";
  if (!there) return -1;
  EXPECT_EQ(::kill(pid, signal), 0);
  if (signal == SIGSTOP) EXPECT_TRUE(Eventually([&] { return Stands(pid); }));
  return pid;
}

}  // namespace icepie::testing
