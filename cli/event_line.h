// An event on one line, as people read it.
#ifndef ICEPIE_CLI_EVENT_LINE_H_
#define ICEPIE_CLI_EVENT_LINE_H_

#include <string>

#include "icepie/v1/events.pb.h"

namespace icepie::cli {

// "2026-11-22 02:58:41Z  payments.volume  RUNNING → FAULTED  SQL_ERROR  …"
std::string EventLine(const icepie::v1::Event& event);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_EVENT_LINE_H_
