// A request and an answer without the wire: what routes work on.
#ifndef ICEPIE_SERVER_HTTP_HTTP_MESSAGE_H_
#define ICEPIE_SERVER_HTTP_HTTP_MESSAGE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace icepie::server {

struct HttpRequest {
  std::string method;
  std::string target;  // origin form: "/path?query"
  std::string host;
  std::string content_type;
  std::string if_none_match;
  std::string idempotency_key;
  std::string body;
};

struct HttpAnswer {
  int status = 200;
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // besides the content's own
  std::shared_ptr<const void> hold = nullptr;  // kept until it is written (AnswerHold)
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_HTTP_HTTP_MESSAGE_H_
