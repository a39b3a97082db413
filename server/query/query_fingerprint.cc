#include "server/query/query_fingerprint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"

namespace icepie::server {
namespace {

bool IsWord(char c) { return absl::ascii_isalnum(c) || c == '_' || (c & 0x80) != 0; }

// Reads SQL token by token.
class Tokens {
 public:
  explicit Tokens(const std::string& sql) : sql_(sql) {}

  std::string Normalize() {
    while (at_ < sql_.size()) Take();
    return std::move(out_);
  }

 private:
  bool Has(const char* text) const { return sql_.compare(at_, 2, text) == 0; }

  void Take() {
    const char c = sql_[at_];
    if (absl::ascii_isspace(c)) {
      ++at_;
    } else if (Has("--")) {
      at_ = std::min(sql_.find('\n', at_), sql_.size());
    } else if (Has("/*")) {
      SkipTo("*/", 2);
    } else if (Has("$$")) {
      SkipTo("$$", 2);
      Add("?");
    } else if (c == '\'') {
      SkipQuoted('\'');
      Add("?");
    } else if (c == '"') {
      const size_t begin = at_;
      SkipQuoted('"');
      Add(absl::AsciiStrToLower(sql_.substr(begin, at_ - begin)));
    } else if (IsWord(c) || (c == '.' && at_ + 1 < sql_.size() &&
                             absl::ascii_isdigit(sql_[at_ + 1]) && !after_word_)) {
      TakeWord();
      return;
    } else {
      Add(std::string(1, c));
      ++at_;
    }
    after_word_ = false;
  }

  // A name, or a number: 12, 1.5, 1e9, 0x1f, 1_000.
  void TakeWord() {
    const size_t begin = at_;
    const bool number = !IsWord(sql_[at_]) || absl::ascii_isdigit(sql_[at_]);
    while (at_ < sql_.size() && (IsWord(sql_[at_]) || (number && sql_[at_] == '.'))) ++at_;
    Add(number ? "?" : absl::AsciiStrToLower(sql_.substr(begin, at_ - begin)));
    after_word_ = true;
  }

  void SkipTo(const char* end, size_t size) {
    const size_t found = sql_.find(end, at_ + size);
    at_ = found == std::string::npos ? sql_.size() : found + size;
  }

  void SkipQuoted(char quote) {
    for (++at_; at_ < sql_.size(); ++at_) {
      if (sql_[at_] != quote) continue;
      const bool doubled = at_ + 1 < sql_.size() && sql_[at_ + 1] == quote;
      if (!doubled) break;
      ++at_;
    }
    at_ = std::min(at_ + 1, sql_.size());
  }

  void Add(const std::string& token) { absl::StrAppend(&out_, out_.empty() ? "" : " ", token); }

  const std::string& sql_;
  size_t at_ = 0;
  bool after_word_ = false;
  std::string out_;
};

std::string NormalizedSelect(const icepie::v1::Select& select) {
  std::string out = absl::StrCat("select ", select.slice());
  for (const auto& column : select.columns()) absl::StrAppend(&out, " ", column);
  for (const auto& filter : select.filters()) {
    absl::StrAppend(&out, " where ", filter.column(), " ", static_cast<int>(filter.operator_()));
  }
  for (const auto& order : select.order_by()) absl::StrAppend(&out, " order ", order.column());
  return out;
}

}  // namespace

std::string NormalizedSql(const std::string& sql) { return Tokens(sql).Normalize(); }

std::string QueryFingerprint(const icepie::v1::QueryRequest& request) {
  const std::string text =
      request.has_sql() ? NormalizedSql(request.sql()) : NormalizedSelect(request.select());
  return Sha256Hex(absl::StrCat(request.domain(), "\n", text)).substr(0, 32);
}

}  // namespace icepie::server
