// Tables for people: aligned columns, cut to the terminal's width.
#ifndef ICEPIE_CLI_TABLE_H_
#define ICEPIE_CLI_TABLE_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace icepie::cli {

// Columns that `text` takes on a terminal: one for each UTF-8 character.
int DisplayWidth(absl::string_view text);

// `text`, or its beginning and "…" where it is wider than `width`.
std::string CutToWidth(absl::string_view text, int width);

// `text` on one line, its control characters replaced: data must not steer the terminal.
std::string Printable(absl::string_view text);

class Table {
 public:
  struct Column {
    std::string name;
    bool right = false;  // numbers stand at the right
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell for each column.
  void AddRow(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }

  // Writes heading, rule and rows; with `width` > 0 the widest columns are cut until a row fits,
  // and columns that cannot be shown at all are counted below.
  void Print(std::ostream& out, int width) const;

 private:
  std::vector<int> FittedWidths(int width) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Adds the rows of a JSON array of objects (the body of a query's answer): NULL for null, other
// values as their JSON text, strings without quotes. `columns` gives the order.
absl::Status AddJsonRows(absl::string_view body, const std::vector<std::string>& columns,
                         Table* table);

// Whether DuckDB's `type` is a number, whose column stands at the right.
bool IsNumericType(absl::string_view type);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_TABLE_H_
