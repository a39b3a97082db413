// Numbers on the command line.
#ifndef ICEPIE_CLI_WHOLE_NUMBER_H_
#define ICEPIE_CLI_WHOLE_NUMBER_H_

#include <CLI/App.hpp>
#include <cstdint>

namespace icepie::cli {

// Of an option that takes numbers from `least`, 0 or 1, on. CLI11's own validators are of doubles,
// and name the largest one to whoever has typed -1.
CLI::Validator WholeNumberFrom(int64_t least);

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_WHOLE_NUMBER_H_
