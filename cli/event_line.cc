#include "cli/event_line.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/format.h"
#include "cli/table.h"

namespace icepie::cli {
namespace {

using icepie::v1::Event;

std::string Whose(const Event& event) {
  if (!event.slice().empty()) return event.slice();
  if (event.kind() == Event::CORE) return "core";
  const std::string role = event.kind() == Event::WORKER ? absl::StrCat(" ", event.subject()) : "";
  return absl::StrCat(event.domain(), role);
}

std::string What(const Event& event) {
  std::vector<std::string> parts;
  if (event.kind() == Event::ADMIN) {
    parts.push_back(absl::StrCat(event.subject(), " by ", Printable(event.actor())));
  } else {
    parts.push_back(event.from().empty() ? event.to()
                                         : absl::StrCat(event.from(), " → ", event.to()));
  }
  if (!event.reason().empty()) parts.push_back(Printable(event.reason()));
  if (!event.message().empty()) parts.push_back(Printable(event.message()));
  return absl::StrJoin(parts, "  ");
}

}  // namespace

std::string EventLine(const Event& event) {
  return absl::StrCat(FormatTime(event.time()), "  ", Whose(event), "  ", What(event));
}

}  // namespace icepie::cli
