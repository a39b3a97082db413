// icepie.v1.Slices over gRPC.
#ifndef ICEPIE_SERVER_QUERY_SLICES_SERVICE_H_
#define ICEPIE_SERVER_QUERY_SLICES_SERVICE_H_

#include "icepie/v1/slices.grpc.pb.h"
#include "server/base/event_loop.h"
#include "server/domain/domain_reader.h"
#include "server/query/query_router.h"

namespace icepie::server {

// Threads: gRPC's and the router's, and one of its own for clients that take nothing: an answer of
//   which no further message is taken for `stall_timeout` is cut off (ABORTED), so that nobody
//   keeps the memory that it takes.
class SlicesService final : public icepie::v1::Slices::CallbackService {
 public:
  SlicesService(QueryRouter& router, const DomainReader& reader, absl::Duration stall_timeout)
      : router_(router), reader_(reader), stall_timeout_(stall_timeout) {}

  grpc::ServerUnaryReactor* Query(grpc::CallbackServerContext* context,
                                  const icepie::v1::QueryRequest* request,
                                  icepie::v1::QueryResponse* response) override;
  grpc::ServerWriteReactor<icepie::v1::StreamQueryResponse>* StreamQuery(
      grpc::CallbackServerContext* context, const icepie::v1::QueryRequest* request) override;
  grpc::ServerUnaryReactor* GetSlice(grpc::CallbackServerContext* context,
                                     const icepie::v1::GetSliceRequest* request,
                                     icepie::v1::Slice* response) override;
  grpc::ServerUnaryReactor* ListSlices(grpc::CallbackServerContext* context,
                                       const icepie::v1::ListSlicesRequest* request,
                                       icepie::v1::ListSlicesResponse* response) override;

 private:
  QueryRouter& router_;
  const DomainReader& reader_;
  const absl::Duration stall_timeout_;
  EventLoop stalls_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_SLICES_SERVICE_H_
