// The part of Admin that stops, starts and restarts slices and domains.
#include "server/admin/admin_service.h"
#include "server/base/call_time.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kRefreshMax = absl::Minutes(10);

}  // namespace

grpc::ServerUnaryReactor* AdminService::FreezeSlice(grpc::CallbackServerContext* context,
                                                    const v1::FreezeSliceRequest* request,
                                                    v1::Slice* response) {
  return Act("FreezeSlice", quick_, context, request, response,
             [this, request](AdminAction& action) { return control_.Freeze(*request, action); });
}

grpc::ServerUnaryReactor* AdminService::ThawSlice(grpc::CallbackServerContext* context,
                                                  const v1::ThawSliceRequest* request,
                                                  v1::Slice* response) {
  return Act("ThawSlice", quick_, context, request, response, [this, request](AdminAction& action) {
    return control_.Change(SliceAction::kThaw, *request, action);
  });
}

grpc::ServerUnaryReactor* AdminService::SuspendSlice(grpc::CallbackServerContext* context,
                                                     const v1::SuspendSliceRequest* request,
                                                     v1::Slice* response) {
  return Act("SuspendSlice", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.Change(SliceAction::kSuspend, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::ResumeSlice(grpc::CallbackServerContext* context,
                                                    const v1::ResumeSliceRequest* request,
                                                    v1::Slice* response) {
  return Act("ResumeSlice", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.Change(SliceAction::kResume, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::RestartSlice(grpc::CallbackServerContext* context,
                                                     const v1::RestartSliceRequest* request,
                                                     v1::Slice* response) {
  return Act("RestartSlice", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.Change(SliceAction::kRestart, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::FreezeDomain(grpc::CallbackServerContext* context,
                                                     const v1::ChangeDomainRequest* request,
                                                     v1::ListSlicesResponse* response) {
  return Act("FreezeDomain", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.ChangeDomain(SliceAction::kFreeze, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::ThawDomain(grpc::CallbackServerContext* context,
                                                   const v1::ChangeDomainRequest* request,
                                                   v1::ListSlicesResponse* response) {
  return Act("ThawDomain", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.ChangeDomain(SliceAction::kThaw, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::SuspendDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  return Act("SuspendDomain", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.ChangeDomain(SliceAction::kSuspend, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::ResumeDomain(grpc::CallbackServerContext* context,
                                                     const v1::ChangeDomainRequest* request,
                                                     v1::ListSlicesResponse* response) {
  return Act("ResumeDomain", quick_, context, request, response,
             [this, request](AdminAction& action) {
               return control_.ChangeDomain(SliceAction::kResume, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::RestartDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  return Act("RestartDomain", LineOf(slow_, request->name()), context, request, response,
             [this, request](AdminAction& action) {
               return control_.ChangeDomain(SliceAction::kRestart, *request, action);
             });
}

grpc::ServerUnaryReactor* AdminService::RefreshSlice(grpc::CallbackServerContext* context,
                                                     const v1::RefreshSliceRequest* request,
                                                     v1::Slice* response) {
  const absl::Duration timeout = TimeLeft(*context, kRefreshMax);
  return Act("RefreshSlice", LineOf(asking_, request->name()), context, request, response,
             [this, request, timeout](AdminAction& action) {
               return control_.Refresh(*request, action, timeout);
             });
}

grpc::ServerUnaryReactor* AdminService::RefreshDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  const absl::Duration timeout = TimeLeft(*context, kRefreshMax);
  return Act("RefreshDomain", LineOf(asking_, request->name()), context, request, response,
             [this, request, timeout](AdminAction& action) {
               return control_.RefreshDomain(*request, action, timeout);
             });
}

grpc::ServerUnaryReactor* AdminService::LeaveSafeMode(grpc::CallbackServerContext* context,
                                                      const v1::LeaveSafeModeRequest* request,
                                                      v1::ServerStatus* response) {
  return Act("LeaveSafeMode", quick_, context, request, response,
             [this](AdminAction& action) -> absl::StatusOr<v1::ServerStatus> {
               ICEPIE_RETURN_IF_ERROR(control_.LeaveSafeMode(action));
               return status_(false);
             });
}

}  // namespace icepie::server
