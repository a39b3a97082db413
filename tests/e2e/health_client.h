// The standard health service as a stranger's client asks it.
#ifndef ICEPIE_TESTS_E2E_HEALTH_CLIENT_H_
#define ICEPIE_TESTS_E2E_HEALTH_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/time/time.h"
#include "tests/e2e/daemon_fixture.h"
#include "wire/health.grpc.pb.h"

namespace icepie::testing {

using Health = grpc::health::v1::HealthCheckResponse;

// "" is the whole server.
inline Health::ServingStatus HealthOf(const DaemonFixture& daemon, const std::string& service) {
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateChannel(daemon.grpc_address(), grpc::InsecureChannelCredentials()));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  Health response;
  const grpc::Status status = stub->Check(Within(absl::Seconds(60)).get(), request, &response);
  return status.ok() ? response.status() : Health::SERVICE_UNKNOWN;
}

}  // namespace icepie::testing

#endif  // ICEPIE_TESTS_E2E_HEALTH_CLIENT_H_
