// How services of the core record who changes what, without knowing where.
#ifndef ICEPIE_SERVER_CHANGE_LOG_H_
#define ICEPIE_SERVER_CHANGE_LOG_H_

#include <google/protobuf/message.h>

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace icepie::server {

// Called before the change, which happens only when it returns OK. Empty: nothing is recorded.
using ChangeLog = std::function<absl::Status(const std::string& action, const std::string& actor,
                                             const google::protobuf::Message& request)>;

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_CHANGE_LOG_H_
