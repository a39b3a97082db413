// JSON text that grows in one buffer: the scalars of an answer, each as API.md section 4 says.
#ifndef ICEPIE_SLICES_READING_JSON_TEXT_H_
#define ICEPIE_SLICES_READING_JSON_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/numeric/int128.h"
#include "absl/strings/string_view.h"

namespace icepie::slices {

// Threads: one at a time. Beyond `bytes_max` nothing large is written any more and full() is true;
// the text is then useless.
class JsonText {
 public:
  explicit JsonText(int64_t bytes_max) : bytes_max_(static_cast<size_t>(bytes_max)) {}

  bool full() const { return refused_ || size_ > bytes_max_; }
  int64_t bytes_max() const { return static_cast<int64_t>(bytes_max_); }
  // Makes the text full: something did not fit.
  void Refuse() { refused_ = true; }
  std::string Take() &&;
  // What there is until more is added.
  absl::string_view text() const { return {buffer_.data(), size_}; }
  void Clear() { size_ = 0, refused_ = false; }

  // As they are.
  void Add(char c) { *Grow(1) = c, ++size_; }
  void Add(absl::string_view text);

  void AddString(absl::string_view utf8);  // quoted and escaped
  void AddInteger(int64_t value);
  void AddUnsigned(uint64_t value);
  void AddInteger128(absl::int128 value);
  void AddUnsigned128(absl::uint128 value);
  void AddDecimal(absl::int128 digits, int scale);  // digits / 10^scale
  // The shortest text that reads back as the same value, always with a point or an exponent; null
  // for NaN and infinities.
  void AddReal(double value);
  void AddReal(float value);
  void AddBase64(absl::string_view bytes);  // quoted

  // Quoted ISO 8601; fractions only when they are not zero, of 3, 6 or 9 digits; years beyond four
  // digits with a sign. `zone` is put behind: "Z" or nothing.
  void AddDate(int64_t days);
  void AddTime(int64_t nanos_of_day, absl::string_view zone);
  // `fraction` parts of 1 / `parts_per_second` since 1970: 1, 10^3, 10^6 or 10^9.
  void AddTimestamp(int64_t parts, int64_t parts_per_second, absl::string_view zone);

 private:
  char* Grow(size_t more);
  void AddYear(int64_t year);
  void AddTwo(int64_t value);
  void AddCivilDay(int64_t days);
  void AddClock(int64_t seconds_of_day, int64_t nanos);
  template <typename Real>
  void AddAnyReal(Real value);
  template <typename Integer>
  void AddDigits(Integer value);

  size_t bytes_max_;
  bool refused_ = false;
  size_t size_ = 0;
  std::string buffer_;  // of which the first size_ bytes count
};

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_READING_JSON_TEXT_H_
