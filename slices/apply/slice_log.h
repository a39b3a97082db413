// Log lines that concern one slice. They begin with its name in brackets ("[on_time] …"), by which
// readers of the log choose them (server/supervisor/worker_log.h).
#ifndef ICEPIE_SLICES_APPLY_SLICE_LOG_H_
#define ICEPIE_SLICES_APPLY_SLICE_LOG_H_

#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "spdlog/spdlog.h"

namespace icepie::slices {

// `slice` without its domain.
// Threads: any.
template <typename... Args>
void LogSlice(spdlog::level::level_enum level, absl::string_view slice,
              spdlog::format_string_t<Args...> format, Args&&... args) {
  if (!spdlog::should_log(level)) return;
  spdlog::log(level, "[{}] {}", std::string(slice),
              fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void SliceInfo(absl::string_view slice, spdlog::format_string_t<Args...> format, Args&&... args) {
  LogSlice<Args...>(spdlog::level::info, slice, format, std::forward<Args>(args)...);
}

template <typename... Args>
void SliceWarn(absl::string_view slice, spdlog::format_string_t<Args...> format, Args&&... args) {
  LogSlice<Args...>(spdlog::level::warn, slice, format, std::forward<Args>(args)...);
}

template <typename... Args>
void SliceError(absl::string_view slice, spdlog::format_string_t<Args...> format, Args&&... args) {
  LogSlice<Args...>(spdlog::level::err, slice, format, std::forward<Args>(args)...);
}

}  // namespace icepie::slices

#endif  // ICEPIE_SLICES_APPLY_SLICE_LOG_H_
