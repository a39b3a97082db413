#include "server/http/routes.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status.h"
#include "server/http/http_answers.h"
#include "server/http/metrics.h"
#include "server/http/query_body.h"
#include "server/query/as_of.h"
#include "server/query/row_format.h"
#include "server/query/select_parameters.h"
#include "server/query/staleness.h"

namespace icepie::server {
namespace {

using icepie::v1::QueryRequest;
using icepie::v1::QueryResponse;
using icepie::v1::Slice;

constexpr absl::string_view kQuerySuffix = ":query";
constexpr absl::string_view kAppendSuffix = ":append";

bool IsRows(const std::vector<std::string>& path) {
  return path.size() == 6 && path[0] == "v1" && path[1] == "domains" && path[3] == "slices" &&
         path[5] == "rows";
}

bool IsQuery(const std::vector<std::string>& path) {
  return path.size() == 3 && path[0] == "v1" && path[1] == "domains" &&
         absl::EndsWith(path[2], kQuerySuffix);
}

bool IsAppend(const std::vector<std::string>& path) {
  return path.size() == 3 && path[0] == "v1" && path[1] == "streams" &&
         absl::EndsWith(path[2], kAppendSuffix);
}

bool IsReading(const std::string& method) { return method == "GET" || method == "HEAD"; }

HttpAnswer NotAllowed(const std::string& method, const std::string& allowed) {
  HttpAnswer answer =
      ProblemAnswer(405, "METHOD_NOT_ALLOWED", absl::StrCat(method, " is not one of: ", allowed));
  answer.headers.emplace_back("Allow", allowed);
  return answer;
}

HttpAnswer NotFound() {
  return ProblemAnswer(404, "PATH_NOT_FOUND",
                       "no such path (have: /v1/domains/{domain}/slices/{slice}/rows, "
                       "/v1/domains/{domain}:query, /v1/streams/{stream}:append, /checkpoint, "
                       "/tile/{level}/{index}, /metrics, /healthz, "
                       "/readyz)");
}

absl::Status BadParameter(absl::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "PARAMETER_INVALID");
}

// Parameters of ours; everything else filters a column.
bool IsControl(const std::string& name) {
  return name == "select" || name == "order" || name == "limit" || absl::StartsWith(name, "_");
}

absl::Status SetControl(const std::string& name, const std::string& value, QueryRequest* query) {
  if (name == "_format") return SetFormat(value, query);
  if (name == "_numbers") return SetNumbers(value, query);
  if (name == "_min_position") {
    int64_t position = 0;
    if (!absl::SimpleAtoi(value, &position) || position < 0) {
      return BadParameter(absl::StrCat("_min_position=", value, " is not a whole number from 0"));
    }
    query->mutable_consistency()->set_min_position(position);
    return absl::OkStatus();
  }
  if (name == "_as_of") return SetAsOf(value, query->mutable_consistency());
  if (name == "_max_staleness") return SetMaxStaleness(value, query->mutable_consistency());
  if (name == "_on_stale") return SetOnStale(value, query->mutable_consistency());
  return BadParameter(absl::StrCat(name,
                                   " is not known (have: _as_of, _format, _max_staleness, "
                                   "_min_position, _numbers, _on_stale)"));
}

absl::Status SetRows(const std::string& name, const std::string& value, const Columns& columns,
                     QueryRequest* query) {
  icepie::v1::Select* select = query->mutable_select();
  if (name == "select") return AddColumns(value, columns, select);
  if (name == "order") return AddOrder(value, columns, select);
  if (name == "limit") return SetLimit(value, select);
  if (absl::StartsWith(name, "_")) return SetControl(name, value, query);
  return AddFilter(name, value, columns, select);
}

bool NeedsColumns(const HttpTarget& target) {
  for (const auto& [name, value] : target.parameters) {
    if (name == "select" || name == "order" || !IsControl(name)) return true;
  }
  return false;
}

bool IsJson(absl::string_view content_type) {
  const absl::string_view type =
      absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';')));
  return absl::EqualsIgnoreCase(type, "application/json");
}

}  // namespace

QueryRouter::CallOff Routes::Handle(const HttpRequest& request, Done done) const {
  if (!IsAllowedHost(request.host)) {
    done(ProblemAnswer(403, "HOST_NOT_ALLOWED",
                       absl::StrCat("host \"", request.host,
                                    "\" is not served; ask localhost, 127.0.0.1 or [::1]")));
    return nullptr;
  }
  const absl::StatusOr<HttpTarget> target = ParseTarget(request.target);
  if (!target.ok()) {
    done(ProblemAnswer(target.status()));
    return nullptr;
  }
  const std::string path = absl::StrCat("/", absl::StrJoin(target->segments, "/"));
  const bool posts = IsQuery(target->segments) || IsAppend(target->segments);
  const bool known = posts || IsRows(target->segments) || path == "/healthz" || path == "/readyz" ||
                     path == "/metrics" || IsTreePath(target->segments);
  if (!known) {
    done(NotFound());
  } else if (posts && request.method != "POST") {
    done(NotAllowed(request.method, "POST"));
  } else if (!posts && !IsReading(request.method)) {
    done(NotAllowed(request.method, "GET, HEAD"));
  } else if (posts) {
    return Post(request, *target, std::move(done));
  } else if (path == "/healthz") {
    done(TextAnswer(200, "ok\n"));
  } else if (path == "/readyz") {
    done(Ready());
  } else if (IsTreePath(target->segments)) {
    done(TreeAnswer(tree_, target->segments));
  } else if (path == "/metrics") {
    done(
        {200, "text/plain; version=0.0.4; charset=utf-8", MetricsText(status_(), absl::Now()), {}});
  } else {
    return Rows(request, *target, std::move(done));
  }
  return nullptr;
}

// Ready: it takes work, and somebody answers. A domain without a worker is named, and is no reason
// to take the daemon from all the others; when no domain has one, nothing has started yet. Neither
// is a core that takes no appends, which is said too: slices answer on, and no other daemon has its
// records.
HttpAnswer Routes::Ready() const {
  const icepie::v1::ServerStatus status = status_();
  std::map<std::string, bool> answering;
  for (const auto& worker : status.workers()) {
    if (worker.role() == "build") continue;
    answering[worker.domain()] = answering[worker.domain()] || worker.state() == "running" ||
                                 worker.state() == "hibernating" ||  // a question wakes it
                                 worker.state() == "waiting";
  }
  std::vector<std::string> silent;
  for (const auto& [domain, answers] : answering) {
    if (!answers) silent.push_back(domain);
  }
  const std::string named =
      silent.empty() ? ""
                     : absl::StrCat("no worker answers for: ", absl::StrJoin(silent, ", "), "\n");
  std::string core;
  if (status.core_read_only()) {
    core = absl::StrCat("core read-only: ", status.core_read_only_cause(), "\n");
  } else if (status.core_disk_full()) {
    core = "core full: appends are refused until there is space on its disk\n";
  }
  const bool nobody = !silent.empty() && silent.size() == answering.size();
  if (!nobody && !draining_) return TextAnswer(200, absl::StrCat("ready\n", core, named));
  HttpAnswer answer = TextAnswer(503, draining_ ? "the daemon is stopping\n" : named);
  answer.headers.emplace_back("Retry-After", "1");
  return answer;
}

absl::StatusOr<Slice> Routes::FindSlice(const std::string& domain,
                                        const std::string& slice_name) const {
  const std::string name = absl::StrCat(domain, ".", slice_name);
  const icepie::v1::ServerStatus status = status_();
  std::vector<std::string> others;
  for (const Slice& slice : status.slices()) {
    if (absl::StartsWith(slice.name(), absl::StrCat(domain, "."))) others.push_back(slice.name());
    if (slice.name() != name) continue;
    if (!slice.columns().empty()) return slice;
    return MakeError(absl::StatusCode::kUnavailable,
                     absl::StrCat("slice ", name, " has no answers yet; its columns are not known"),
                     "NO_SNAPSHOT_YET");
  }
  if (others.empty()) {
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat("there is no domain \"", domain, "\" with a slice"),
                     "DOMAIN_NOT_FOUND", {{"domain", domain}});
  }
  return MakeError(
      absl::StatusCode::kNotFound,
      absl::StrCat("there is no slice ", name, " (have: ", absl::StrJoin(others, ", "), ")"),
      "SLICE_NOT_FOUND", {{"slice", name}});
}

absl::StatusOr<QueryRequest> Routes::RowsQuery(const HttpTarget& target) const {
  QueryRequest query;
  query.set_domain(target.segments[2]);
  query.mutable_select()->set_slice(target.segments[4]);
  Columns columns;
  if (NeedsColumns(target)) {
    ICEPIE_ASSIGN_OR_RETURN(Slice slice, FindSlice(target.segments[2], target.segments[4]));
    columns.Swap(slice.mutable_columns());
  }
  std::set<std::string> seen;
  for (const auto& [name, value] : target.parameters) {
    if (IsControl(name) && !seen.insert(name).second) {
      return BadParameter(absl::StrCat(name, " is given twice"));
    }
    ICEPIE_RETURN_IF_ERROR(SetRows(name, value, columns, &query));
  }
  return query;
}

QueryRouter::CallOff Routes::Rows(const HttpRequest& request, const HttpTarget& target,
                                  Done done) const {
  absl::StatusOr<QueryRequest> query = RowsQuery(target);
  if (!query.ok()) {
    done(ProblemAnswer(query.status()));
    return nullptr;
  }
  query->set_if_none_match(SingleEntityTag(request.if_none_match));
  return Ask(*query, request.if_none_match, std::move(done));
}

QueryRouter::CallOff Routes::Post(const HttpRequest& request, const HttpTarget& target,
                                  Done done) const {
  if (IsAppend(target.segments)) {
    Append(request, target, std::move(done));
    return nullptr;
  }
  return Query(request, target, std::move(done));
}

void Routes::Append(const HttpRequest& request, const HttpTarget& target, Done done) const {
  if (!IsAppendType(request.content_type)) {
    done(ProblemAnswer(415, "CONTENT_TYPE_INVALID",
                       "the body must be application/x-ndjson, a record in each line, or "
                       "application/json, one record"));
    return;
  }
  if (!target.parameters.empty()) {
    done(ProblemAnswer(BadParameter(absl::StrCat(
        target.parameters[0].first, " is not known: an append is all in its body and headers"))));
    return;
  }
  append_(ParseAppend(std::string(absl::StripSuffix(target.segments[2], kAppendSuffix)), request),
          [done = std::move(done)](absl::StatusOr<icepie::v1::AppendRecordsResponse> response) {
            done(response.ok() ? AppendAnswer(*response) : ProblemAnswer(response.status()));
          });
}

QueryRouter::CallOff Routes::Query(const HttpRequest& request, const HttpTarget& target,
                                   Done done) const {
  // A page of another site can post text and forms without asking the browser, but not JSON.
  if (!IsJson(request.content_type)) {
    done(ProblemAnswer(415, "CONTENT_TYPE_INVALID", "the body must be application/json"));
    return nullptr;
  }
  absl::StatusOr<QueryRequest> query = ParseQueryBody(request.body);
  if (!target.parameters.empty()) {
    query = BadParameter(
        absl::StrCat(target.parameters[0].first, " is not known: a query is all in its body"));
  }
  if (!query.ok()) {
    done(ProblemAnswer(query.status()));
    return nullptr;
  }
  query->set_domain(std::string(absl::StripSuffix(target.segments[2], kQuerySuffix)));
  return Ask(*query, "", std::move(done));
}

QueryRouter::CallOff Routes::Ask(const QueryRequest& query, const std::string& if_none_match,
                                 Done done) const {
  return router_.Ask(query, absl::Now() + query_timeout_, kAnswerBytesMax,
                     [if_none_match, format = query.format(), done = std::move(done)](
                         absl::StatusOr<QueryResponse> response, AnswerHold hold) {
                       HttpAnswer answer = response.ok()
                                               ? RowsAnswer(*response, format, if_none_match)
                                               : ProblemAnswer(response.status());
                       answer.hold = std::move(hold);
                       response = absl::CancelledError();  // its rows are in the answer by now
                       done(std::move(answer));
                     });
}

}  // namespace icepie::server
