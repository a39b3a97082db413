// The lowest priority there is, for the core's work that nobody waits for: sealing, scrubbing.
#ifndef ICEPIE_CORE_BACKGROUND_PRIORITY_H_
#define ICEPIE_CORE_BACKGROUND_PRIORITY_H_

namespace icepie {

// Of the calling thread, from now on: processor and disk. Where the system does not allow it, the
// work's own pauses have to do.
void LowerPriority();

}  // namespace icepie

#endif  // ICEPIE_CORE_BACKGROUND_PRIORITY_H_
