// google.longrunning.Operations over gRPC: the builds of new generations.
#ifndef ICEPIE_SERVER_ADMIN_OPERATIONS_SERVICE_H_
#define ICEPIE_SERVER_ADMIN_OPERATIONS_SERVICE_H_

#include "google/longrunning/operations.grpc.pb.h"
#include "server/admin/admin_action.h"
#include "server/base/executor.h"
#include "server/domain/builds.h"

namespace icepie::server {

// Threads: gRPC's and the builds'. WaitOperation holds no thread while it waits.
class OperationsService final : public google::longrunning::Operations::CallbackService {
 public:
  OperationsService(Builds& builds, AdminLog& log) : builds_(builds), log_(log), executor_(2, 64) {}

  grpc::ServerUnaryReactor* ListOperations(
      grpc::CallbackServerContext* context,
      const google::longrunning::ListOperationsRequest* request,
      google::longrunning::ListOperationsResponse* response) override;
  grpc::ServerUnaryReactor* GetOperation(grpc::CallbackServerContext* context,
                                         const google::longrunning::GetOperationRequest* request,
                                         google::longrunning::Operation* response) override;
  grpc::ServerUnaryReactor* CancelOperation(
      grpc::CallbackServerContext* context,
      const google::longrunning::CancelOperationRequest* request,
      google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* WaitOperation(grpc::CallbackServerContext* context,
                                          const google::longrunning::WaitOperationRequest* request,
                                          google::longrunning::Operation* response) override;

 private:
  Builds& builds_;
  AdminLog& log_;
  Executor executor_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_ADMIN_OPERATIONS_SERVICE_H_
