// What two questions have in common that differ only in their constants, comments, spaces and case.
#ifndef ICEPIE_SERVER_QUERY_QUERY_FINGERPRINT_H_
#define ICEPIE_SERVER_QUERY_QUERY_FINGERPRINT_H_

#include <string>

#include "icepie/v1/slices.pb.h"

namespace icepie::server {

// Of SQL: its tokens, each constant as "?". The daemon has no SQL parser and this needs none, so a
// query that breaks the worker's parser has one, too.
std::string NormalizedSql(const std::string& sql);

// 32 hexadecimal digits; differs between domains.
std::string QueryFingerprint(const icepie::v1::QueryRequest& request);

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_QUERY_QUERY_FINGERPRINT_H_
