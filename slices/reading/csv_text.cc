#include "slices/reading/csv_text.h"

#include <string>

#include "absl/strings/numbers.h"

namespace icepie::slices {
namespace {

// The character that an escape of one letter stands for.
char Unescaped(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return letter;
  }
}

// The text of a JSON string. JsonText writes \u00XX for control characters, and for nothing else.
std::string TextOfJson(absl::string_view json) {
  constexpr size_t kHexDigits = 4;
  std::string text;
  const absl::string_view inside = json.substr(1, json.size() - 2);
  for (size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] != '\\') {
      text.push_back(inside[i]);
    } else if (inside[++i] == 'u') {
      int code = 0;
      const bool hex = absl::SimpleHexAtoi(inside.substr(i + 1, kHexDigits), &code);
      text.push_back(hex ? static_cast<char>(code) : '?');
      i += kHexDigits;
    } else {
      text.push_back(Unescaped(inside[i]));
    }
  }
  return text;
}

}  // namespace

void AddCsvText(absl::string_view text, JsonText& csv) {
  if (!text.empty() && text.find_first_of(",\"\r\n") == absl::string_view::npos) {
    return csv.Add(text);
  }
  csv.Add('"');
  for (size_t begin = 0; begin < text.size();) {
    const size_t quote = text.find('"', begin);
    const size_t end = quote == absl::string_view::npos ? text.size() : quote + 1;
    csv.Add(text.substr(begin, end - begin));
    if (quote != absl::string_view::npos) csv.Add('"');
    begin = end;
  }
  csv.Add('"');
}

void AddCsvValue(absl::string_view json, bool alone, JsonText& csv) {
  if (json == "null") {
    if (alone) csv.Add("\"\"");
  } else if (json.front() == '"') {
    AddCsvText(TextOfJson(json), csv);
  } else {
    AddCsvText(json, csv);
  }
}

}  // namespace icepie::slices
