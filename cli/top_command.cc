// top: what the daemon does now, again and again.
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/raw_terminal.h"
#include "cli/table.h"
#include "cli/top_sample.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ServerStatus;

struct TopArguments {
  absl::Duration interval = absl::Seconds(1);
  bool once = false;
  TopSort sort = TopSort::kHealth;
};

struct SortName {
  char key;
  const char* name;
  TopSort sort;
};
constexpr SortName kSorts[] = {
    {'h', "health", TopSort::kHealth},   {'n', "name", TopSort::kName},
    {'l', "lag", TopSort::kLag},         {'a', "applied", TopSort::kApplied},
    {'r', "queries", TopSort::kQueries}, {'p', "p99", TopSort::kP99},
};

const char* NameOf(TopSort sort) {
  for (const SortName& each : kSorts) {
    if (each.sort == sort) return each.name;
  }
  return "";
}

std::string BytesText(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string LagText(const TopSlice& slice) {
  if (slice.lag > absl::ZeroDuration()) return FormatElapsed(slice.lag);
  return "-";
}

std::string LatencyText(int64_t us) {
  return us == 0 ? "-" : absl::StrFormat("%.1f ms", static_cast<double>(us) / 1000);
}

void PrintSlices(const TopSample& sample, int width, std::ostream& out) {
  Table table({{"slice"},
               {"state"},
               {"lag", true},
               {"applied", true},
               {"queries", true},
               {"p99", true},
               {"quarantined", true}});
  for (const TopSlice& slice : sample.slices) {
    table.AddRow({slice.name, slice.state, LagText(slice), FormatRate(slice.applied_per_second),
                  FormatRate(slice.queries_per_second), LatencyText(slice.p99_us),
                  FormatCount(slice.quarantined)});
  }
  table.Print(out, width);
}

void PrintWorkers(const TopSample& sample, int width, std::ostream& out) {
  Table table({{"worker"},
               {"state"},
               {"process", true},
               {"cpu", true},
               {"memory", true},
               {"restarts", true}});
  for (const TopWorker& worker : sample.workers) {
    table.AddRow({absl::StrCat(worker.domain, " ", worker.role), worker.state,
                  worker.pid == 0 ? "-" : absl::StrCat(worker.pid),
                  absl::StrFormat("%.0f %%", worker.cpu_percent),
                  worker.pid == 0 ? "-" : BytesText(worker.resident_bytes),
                  FormatCount(worker.restarts)});
  }
  table.Print(out, width);
}

std::string HeadLine(const TopSample& sample) {
  return absl::StrCat("core ", sample.core, "  head ", FormatCount(sample.head_position), "  ",
                      FormatRate(sample.appended_per_second), " appended    ",
                      FormatCounted(static_cast<int64_t>(sample.slices.size()), "slice"), ": ",
                      sample.states);
}

// At most `height` lines of `text`, and how many there are more.
std::string CutToHeight(const std::string& text, int height) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  const int count = static_cast<int>(lines.size());
  std::string out;
  const int shown = count <= height ? count : height - 1;
  for (int i = 0; i < shown; ++i) {
    absl::StrAppend(&out, lines[static_cast<size_t>(i)], "\n");
  }
  if (shown < count) absl::StrAppend(&out, "… ", count - shown, " more\n");
  return out;
}

// Slices get two thirds of the screen, or what workers leave.
std::string Screen(TopSample sample, TopSort sort, const std::string& trouble, ScreenSize size) {
  SortSlices(sort, &sample.slices);
  std::ostringstream slices;
  std::ostringstream workers;
  PrintSlices(sample, size.width, slices);
  PrintWorkers(sample, size.width, workers);
  const int room = std::max(6, size.height - 5);
  const int worker_lines = static_cast<int>(sample.workers.size()) + 2;
  const int for_workers = std::min(worker_lines, std::max(3, room / 3));
  const std::string keys = absl::StrCat("sorted by ", NameOf(sort),
                                        "; keys: h health n name l lag a applied r queries p p99, "
                                        "q quit");
  return absl::StrCat(CutToWidth(HeadLine(sample), size.width), "\n",
                      CutToWidth(trouble.empty() ? keys : trouble, size.width), "\n\n",
                      CutToHeight(slices.str(), room - for_workers), "\n",
                      CutToHeight(workers.str(), for_workers));
}

// Takes statuses, and makes samples of two that follow one another.
class Sampler {
 public:
  explicit Sampler(Client& client) : client_(client) {}

  // nullopt the first time.
  absl::StatusOr<std::optional<TopSample>> Take() {
    ICEPIE_ASSIGN_OR_RETURN(ServerStatus now,
                            client_.Call(client_.admin(), &Admin::StubInterface::GetServerStatus,
                                         icepie::v1::GetServerStatusRequest()));
    const absl::Time time = absl::Now();
    std::optional<TopSample> sample;
    if (time_ > absl::InfinitePast()) sample = MakeTopSample(last_, now, time - time_, time);
    last_ = std::move(now);
    time_ = time;
    return sample;
  }

 private:
  Client& client_;
  ServerStatus last_;
  absl::Time time_ = absl::InfinitePast();
};

absl::StatusOr<int> PrintSamples(Context& context, const TopArguments& arguments) {
  Sampler sampler(context.client());
  CatchInterrupts();
  while (!Interrupted() && context.out()) {
    ICEPIE_ASSIGN_OR_RETURN(std::optional<TopSample> sample, sampler.Take());
    if (sample) {
      SortSlices(arguments.sort, &sample->slices);
      if (context.options.json) {
        context.out() << TopJson(*sample) << std::flush;
      } else {
        context.out() << HeadLine(*sample) << "\n\n";
        PrintSlices(*sample, context.terminal.width, context.out());
        context.out() << '\n';
        PrintWorkers(*sample, context.terminal.width, context.out());
      }
      if (arguments.once || !context.options.json) return kExitDone;
    }
    const absl::Time until = absl::Now() + arguments.interval;
    while (!Interrupted() && absl::Now() < until) {
      absl::SleepFor(std::min(absl::Milliseconds(100), until - absl::Now()));
    }
  }
  return kExitDone;
}

// Returns false for the key that ends it.
bool TakeKey(char key, TopSort* sort) {
  for (const SortName& each : kSorts) {
    if (each.key == key) *sort = each.sort;
  }
  return key != 'q' && key != 'Q';
}

absl::StatusOr<int> ShowLive(Context& context, const TopArguments& arguments) {
  Sampler sampler(context.client());
  // The first two looks are before the screen is taken: a daemon that is not there is an error.
  ICEPIE_RETURN_IF_ERROR(sampler.Take().status());
  absl::SleepFor(std::min(arguments.interval, absl::Milliseconds(300)));
  ICEPIE_ASSIGN_OR_RETURN(std::optional<TopSample> sample, sampler.Take());
  TopSort sort = arguments.sort;
  std::string trouble;
  const RawTerminal screen;
  absl::Time next = absl::Now() + arguments.interval;
  while (!screen.ended()) {
    screen.Draw(Screen(*sample, sort, trouble, screen.Size()));
    const std::optional<char> key = screen.ReadKey(next - absl::Now());
    if (key && !TakeKey(*key, &sort)) break;
    if (absl::Now() < next) continue;
    const auto taken = sampler.Take();
    trouble = taken.ok() ? "" : absl::StrCat("no news: ", Printable(taken.status().message()));
    if (taken.ok() && *taken) sample = *taken;
    next = absl::Now() + arguments.interval;
  }
  return kExitDone;
}

absl::Duration ReadInterval(const std::string& text) {
  absl::Duration interval;
  if (absl::ParseDuration(text, &interval) && interval >= absl::Milliseconds(100) &&
      interval <= absl::Hours(1)) {
    return interval;
  }
  throw CLI::ValidationError("--interval", "a duration from 100ms to 1h, not " + text);
}

TopSort ReadSort(const std::string& text) {
  for (const SortName& each : kSorts) {
    if (text == each.name) return each.sort;
  }
  throw CLI::ValidationError("--sort", "health, name, lag, applied, queries or p99, not " + text);
}

}  // namespace

void AddTopCommand(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<TopArguments>();
  CLI::App* top =
      app.add_subcommand("top", "slices and workers at work: rates, lag, latency, memory, live");
  top->add_option_function<std::string>(
      "--interval",
      [arguments](const std::string& text) { arguments->interval = ReadInterval(text); },
      "between two looks (default 1s)");
  top->add_option_function<std::string>(
      "--sort", [arguments](const std::string& text) { arguments->sort = ReadSort(text); },
      "health, name, lag, applied, queries or p99");
  top->add_flag("--once", arguments->once, "one sample and no live view");
  top->footer(
      "Without a terminal it prints one sample; with --json one object a line until Ctrl-C, or one "
      "with --once.");
  top->callback([&context, arguments] {
    context.action = [&context, arguments]() -> absl::StatusOr<int> {
      const bool live = context.terminal.out_is_terminal && isatty(STDIN_FILENO) == 1 &&
                        !arguments->once && !context.options.json;
      return live ? ShowLive(context, *arguments) : PrintSamples(context, *arguments);
    };
  });
}

}  // namespace icepie::cli
