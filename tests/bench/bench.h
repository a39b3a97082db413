// The benches of icepie-bench, each a command of it (main.cc). What they print is in figure.h.
#ifndef ICEPIE_TESTS_BENCH_BENCH_H_
#define ICEPIE_TESTS_BENCH_BENCH_H_

#include <functional>

namespace CLI {
class App;
}

namespace icepie::bench {

// Of all benches.
struct CommonOptions {
  bool no_peers = false;  // an option of those that have peers
};

// Each adds its options to its command and returns what runs it after they are parsed. A bench ends
// the program when something fails that is not a peer.
using RunBench = std::function<void()>;
RunBench AddFailover(CLI::App& command, CommonOptions& common);
RunBench AddFollow(CLI::App& command, CommonOptions& common);
RunBench AddFreshness(CLI::App& command, CommonOptions& common);
RunBench AddIngest(CLI::App& command, CommonOptions& common);
RunBench AddMemory(CLI::App& command, CommonOptions& common);
RunBench AddMerkle(CLI::App& command, CommonOptions& common);
RunBench AddNeighbour(CLI::App& command, CommonOptions& common);
RunBench AddReslice(CLI::App& command, CommonOptions& common);
RunBench AddRestart(CLI::App& command, CommonOptions& common);
RunBench AddScan(CLI::App& command, CommonOptions& common);
RunBench AddSlices(CLI::App& command, CommonOptions& common);
RunBench AddVisible(CLI::App& command, CommonOptions& common);
RunBench AddWake(CLI::App& command, CommonOptions& common);

// What benches start of this program in processes of its own (noise.h, append_load.h, restart.cc).
RunBench AddEchoServer(CLI::App& command);
RunBench AddFillCore(CLI::App& command);
RunBench AddNoise(CLI::App& command);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_BENCH_H_
