// What clients say beside a request that is of somebody else's protocol.
#ifndef ICEPIE_SERVER_BASE_CALL_METADATA_H_
#define ICEPIE_SERVER_BASE_CALL_METADATA_H_

namespace icepie::server {

// Who asks, as UTF-8, which only keys that end so may hold.
constexpr char kActorMetadata[] = "icepie-actor-bin";

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_BASE_CALL_METADATA_H_
