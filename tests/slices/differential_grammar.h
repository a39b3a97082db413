// Random cases for the differential test: schemas with nulls, missing and bad values, and SQL from
// a grammar over every strategy that the planner knows or may come to know (what it does not know
// is recomputed, and must give the same rows).
//
// The SQL is determined: windows and lists are ordered down to _position, what a LIMIT cuts is
// fully ordered, and doubles are never compared, because their sums may differ in the last bits.
#ifndef ICEPIE_TESTS_SLICES_DIFFERENTIAL_GRAMMAR_H_
#define ICEPIE_TESTS_SLICES_DIFFERENTIAL_GRAMMAR_H_

#include <cstdint>

#include "tests/slices/differential_case.h"

namespace icepie::slices {

// Equal seeds make equal cases.
DifferentialCase MakeCase(uint64_t seed);

}  // namespace icepie::slices

#endif  // ICEPIE_TESTS_SLICES_DIFFERENTIAL_GRAMMAR_H_
