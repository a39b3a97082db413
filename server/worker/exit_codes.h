// How a worker ends, beside 0 (asked to) and 1 (said why on its log).
#ifndef ICEPIE_SERVER_WORKER_EXIT_CODES_H_
#define ICEPIE_SERVER_WORKER_EXIT_CODES_H_

namespace icepie::server {

inline constexpr int kExitBroken = 4;   // DuckDB broken, or a query that does not listen
inline constexpr int kExitUnboxed = 5;  // the sandbox that is required cannot be had
inline constexpr int kExitUnsaved = 6;  // asked to, but a state could not be saved

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_WORKER_EXIT_CODES_H_
