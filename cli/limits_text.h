// Limits of a domain as people read them.
#ifndef ICEPIE_CLI_LIMITS_TEXT_H_
#define ICEPIE_CLI_LIMITS_TEXT_H_

#include <string>

#include "icepie/v1/admin.pb.h"

namespace icepie::cli {

// "512.0 MB", "5 s", "100,000"; "none" when it has no value.
std::string LimitText(const icepie::v1::DomainLimit& limit);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_LIMITS_TEXT_H_
