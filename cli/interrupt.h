// Ctrl-C for work that ends in order: the first asks for the end, a second one kills.
#ifndef ICEPIE_CLI_INTERRUPT_H_
#define ICEPIE_CLI_INTERRUPT_H_

namespace icepie::cli {

// SIGINT and SIGTERM set the flag from now on, the first time.
void CatchInterrupts();

// Whether one came since CatchInterrupts.
bool Interrupted();

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_INTERRUPT_H_
