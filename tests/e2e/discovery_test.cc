// What tools like grpcurl need: reflection that lists the services and hands out their files, and
// the standard health service with an entry for the core and for each slice.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/byte_order.h"
#include "core/merkle/checkpoint.h"
#include "core/merkle/signed_note.h"
#include "tests/core/merkle/rfc_verifier.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/e2e/health_client.h"
#include "tests/server/http_client.h"
#include "wire/reflection.grpc.pb.h"

namespace icepie::testing {
namespace {

namespace reflection = grpc::reflection::v1alpha;

constexpr char kDomain[] = R"(
domain: shop
sources: {orders: {columns: {item: VARCHAR}}}
slices: {by_item: {sql: "SELECT item, count(*) AS orders FROM orders GROUP BY item", key: [item]}}
)";

class DiscoveryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    daemon_.Start();
    channel_ = grpc::CreateChannel(daemon_.grpc_address(), grpc::InsecureChannelCredentials());
  }

  reflection::ServerReflectionResponse Reflect(const reflection::ServerReflectionRequest& request) {
    const auto stub = reflection::ServerReflection::NewStub(channel_);
    const auto context = Within(absl::Seconds(10));
    const auto call = stub->ServerReflectionInfo(context.get());
    reflection::ServerReflectionResponse response;
    EXPECT_TRUE(call->Write(request));
    EXPECT_TRUE(call->Read(&response));
    call->WritesDone();
    const grpc::Status status = call->Finish();
    EXPECT_TRUE(status.ok()) << status.error_code() << ": " << status.error_message();
    return response;
  }

  DaemonFixture daemon_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DiscoveryTest, ReflectionListsThePublicServicesAndTheirFiles) {
  reflection::ServerReflectionRequest request;
  request.set_list_services("*");
  std::vector<std::string> names;
  const auto listed = Reflect(request);
  for (const auto& service : listed.list_services_response().service()) {
    names.push_back(service.name());
  }
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"icepie.v1.Core", "icepie.v1.Slices", "icepie.v1.Admin",
                                       "google.longrunning.Operations", "grpc.health.v1.Health"}));
  // The private services are on the workers' sockets only.
  EXPECT_THAT(names, ::testing::Not(::testing::Contains("icepie.worker.v1.Host")));

  request.set_file_containing_symbol("icepie.v1.Slices");
  const auto declared = Reflect(request);
  std::vector<std::string> files;
  for (const std::string& bytes : declared.file_descriptor_response().file_descriptor_proto()) {
    google::protobuf::FileDescriptorProto file;
    ASSERT_TRUE(file.ParseFromString(bytes));
    files.push_back(file.name());
  }
  EXPECT_THAT(files, ::testing::Contains("icepie/v1/slices.proto"));
}

TEST_F(DiscoveryTest, HealthHasTheServerTheCoreAndEachSlice) {
  EXPECT_EQ(HealthOf(daemon_, ""), Health::SERVING);
  EXPECT_TRUE(Eventually([this] { return HealthOf(daemon_, "icepie.v1.Core") == Health::SERVING; },
                         absl::Seconds(60)));
  EXPECT_EQ(HealthOf(daemon_, "slices/shop.by_item"), Health::SERVICE_UNKNOWN);
  ASSERT_TRUE(daemon_.CreateStream("orders").ok());
  icepie::v1::ApplyDomainResponse applied;
  ASSERT_TRUE(daemon_.Apply(kDomain, &applied).ok());
  EXPECT_TRUE(
      Eventually([this] { return HealthOf(daemon_, "slices/shop.by_item") == Health::SERVING; }));
}

TEST_F(DiscoveryTest, CheckpointAndTilesAreThereForOtherPeoplesVerifiers) {
  ASSERT_TRUE(daemon_.CreateStream("orders").ok());
  ASSERT_TRUE(daemon_.Append("orders", {"{\"item\":\"a\"}", "{\"item\":\"b\"}"}).ok());
  icepie::v1::Checkpoint checkpoint;
  ASSERT_TRUE(daemon_.Core()->GetCheckpoint(Within(absl::Seconds(60)).get(), {}, &checkpoint).ok());
  const std::string& address = daemon_.http_address();
  server::HttpClient http(std::stoi(address.substr(address.rfind(':') + 1)));
  EXPECT_EQ(http.Get("/checkpoint").body, checkpoint.note());
  EXPECT_FALSE(checkpoint.verifier_key().empty());
  EXPECT_NE(daemon_.Log().find(checkpoint.verifier_key()), std::string::npos) << "not printed";
  EXPECT_EQ(http.Get("/tile/0/001").status, 404);
  // With nothing but what HTTP gives and the key: the signature, the root of the tiles, every
  // record's entry in it; and a later tree that continues this one.
  const auto key = VerifierKey::Parse(checkpoint.verifier_key());
  ASSERT_TRUE(key.ok()) << key.status();
  const auto leaves_of = [&](const Checkpoint& opened) {
    const std::string width = std::to_string(opened.size);
    const std::string tile = http.Get("/tile/0/000.p/" + width).body;
    const std::string entries = http.Get("/tile/entries/000.p/" + width).body;
    std::vector<std::string> leaves;
    for (size_t at = 0; at + 32 <= tile.size(); at += 32) leaves.push_back(tile.substr(at, 32));
    EXPECT_EQ(static_cast<int64_t>(leaves.size()), opened.size);
    size_t at = 0;
    for (const std::string& leaf : leaves) {
      if (at + 2 > entries.size()) return std::vector<std::string>();
      const size_t bytes = GetBigEndian<uint16_t>(entries.data() + at);
      EXPECT_EQ(rfc::Leaf(entries.substr(at + 2, bytes)), leaf);
      at += 2 + bytes;
    }
    EXPECT_EQ(at, entries.size());
    EXPECT_EQ(rfc::Root(leaves, leaves.size()), ViewOf(opened.root));
    return leaves;
  };
  const auto first = OpenCheckpoint(http.Get("/checkpoint").body, *key);
  ASSERT_TRUE(first.ok()) << first.status();
  const std::vector<std::string> before = leaves_of(*first);
  const auto end = daemon_.Append("orders", {"{\"item\":\"c\"}"});
  ASSERT_TRUE(end.ok()) << end.status();
  icepie::v1::GetCheckpointRequest newer;
  newer.set_min_size(*end);
  ASSERT_TRUE(
      daemon_.Core()->GetCheckpoint(Within(absl::Seconds(60)).get(), newer, &checkpoint).ok());
  const auto second = OpenCheckpoint(http.Get("/checkpoint").body, *key);
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_GT(second->size, first->size);
  const std::vector<std::string> after = leaves_of(*second);
  ASSERT_GE(after.size(), before.size());
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
}

}  // namespace
}  // namespace icepie::testing
