// The part of Admin that stops, starts and restarts slices and domains.
#include "server/admin_service.h"
#include "server/call_time.h"
#include "server/unary_on.h"

namespace icepie::server {
namespace {

namespace v1 = icepie::v1;

constexpr absl::Duration kRefreshMax = absl::Minutes(10);

}  // namespace

grpc::ServerUnaryReactor* AdminService::FreezeSlice(grpc::CallbackServerContext* context,
                                                    const v1::FreezeSliceRequest* request,
                                                    v1::Slice* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.Change(SliceAction::kFreeze, *request); });
}

grpc::ServerUnaryReactor* AdminService::ThawSlice(grpc::CallbackServerContext* context,
                                                  const v1::ThawSliceRequest* request,
                                                  v1::Slice* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.Change(SliceAction::kThaw, *request); });
}

grpc::ServerUnaryReactor* AdminService::SuspendSlice(grpc::CallbackServerContext* context,
                                                     const v1::SuspendSliceRequest* request,
                                                     v1::Slice* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.Change(SliceAction::kSuspend, *request); });
}

grpc::ServerUnaryReactor* AdminService::ResumeSlice(grpc::CallbackServerContext* context,
                                                    const v1::ResumeSliceRequest* request,
                                                    v1::Slice* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.Change(SliceAction::kResume, *request); });
}

grpc::ServerUnaryReactor* AdminService::RestartSlice(grpc::CallbackServerContext* context,
                                                     const v1::RestartSliceRequest* request,
                                                     v1::Slice* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.Change(SliceAction::kRestart, *request); });
}

grpc::ServerUnaryReactor* AdminService::FreezeDomain(grpc::CallbackServerContext* context,
                                                     const v1::ChangeDomainRequest* request,
                                                     v1::ListSlicesResponse* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.ChangeDomain(SliceAction::kFreeze, *request); });
}

grpc::ServerUnaryReactor* AdminService::ThawDomain(grpc::CallbackServerContext* context,
                                                   const v1::ChangeDomainRequest* request,
                                                   v1::ListSlicesResponse* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.ChangeDomain(SliceAction::kThaw, *request); });
}

grpc::ServerUnaryReactor* AdminService::SuspendDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  return UnaryOn(quick_, context, response, [this, request] {
    return control_.ChangeDomain(SliceAction::kSuspend, *request);
  });
}

grpc::ServerUnaryReactor* AdminService::ResumeDomain(grpc::CallbackServerContext* context,
                                                     const v1::ChangeDomainRequest* request,
                                                     v1::ListSlicesResponse* response) {
  return UnaryOn(quick_, context, response,
                 [this, request] { return control_.ChangeDomain(SliceAction::kResume, *request); });
}

grpc::ServerUnaryReactor* AdminService::RestartDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  return UnaryOn(slow_, context, response, [this, request] {
    return control_.ChangeDomain(SliceAction::kRestart, *request);
  });
}

grpc::ServerUnaryReactor* AdminService::RefreshSlice(grpc::CallbackServerContext* context,
                                                     const v1::RefreshSliceRequest* request,
                                                     v1::Slice* response) {
  const absl::Duration timeout = TimeLeft(*context, kRefreshMax);
  return UnaryOn(slow_, context, response,
                 [this, request, timeout] { return control_.Refresh(*request, timeout); });
}

grpc::ServerUnaryReactor* AdminService::RefreshDomain(grpc::CallbackServerContext* context,
                                                      const v1::ChangeDomainRequest* request,
                                                      v1::ListSlicesResponse* response) {
  const absl::Duration timeout = TimeLeft(*context, kRefreshMax);
  return UnaryOn(slow_, context, response,
                 [this, request, timeout] { return control_.RefreshDomain(*request, timeout); });
}

grpc::ServerUnaryReactor* AdminService::LeaveSafeMode(grpc::CallbackServerContext* context,
                                                      const v1::LeaveSafeModeRequest* request,
                                                      v1::ServerStatus* response) {
  return UnaryOn(quick_, context, response, [this, request]() -> absl::StatusOr<v1::ServerStatus> {
    ICEPIE_RETURN_IF_ERROR(control_.LeaveSafeMode(*request));
    return status_();
  });
}

}  // namespace icepie::server
