// icepie: the command line of Ice Pie.
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/terminal.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return icepie::cli::RunProgram(arguments, icepie::cli::Terminal::Standard());
}
