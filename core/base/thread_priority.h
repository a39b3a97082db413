// What the system's scheduler is told of single threads: which of them do bulk work, for which one
// asker waits for long, and must not keep those from the processor that answer in milliseconds.
#ifndef ICEPIE_CORE_BASE_THREAD_PRIORITY_H_
#define ICEPIE_CORE_BASE_THREAD_PRIORITY_H_

#include <pthread.h>

#include "absl/time/time.h"

namespace icepie {

// A thread as others of its process name it.
struct ThreadName {
  pthread_t handle = 0;
  int id = 0;  // the kernel's
};
ThreadName ThisThread();

// The calling thread, and those that it makes from now on, ask for the processor for a moment only
// (0.2 ms), and in turn take the place at once of one that has asked for more: who answers in a
// millisecond would else wait for a tick of the clock, up to 4 ms, when others compute. Linux 6.12
// and later; earlier ones ignore it. False where the system does not allow it.
bool AskForShortSlices();
// What the calling thread does is more than a moment's work: as it was without the above.
bool AskForNormalSlices();

// From now on the thread gives way to others (SCHED_BATCH at nice 15), but is not left without
// processor where there is nothing but work: SCHED_IDLE would be, and what it does may have a
// deadline. Threads that it makes inherit that, and without privileges it cannot be taken back. It
// is asked by a signal (SIGRTMIN + 5) and does so as soon as it has the processor; where the system
// does not allow it, it goes on as it was. False: there is no such thread.
bool MakeBulk(const ThreadName& thread);

// The calling thread's share becomes smaller by so many steps of nice, and it takes nobody's place
// when it wakes up. False likewise.
bool BeNicer(int steps);

// What the calling thread, and those that it makes from now on, read and write comes after that of
// others, on disks whose scheduler knows the classes: last of all that is wanted, or only when
// nobody else wants anything. False where the system does not allow it.
bool BeLastAtDisk();
bool UseIdleDiskOnly();

// Both for work that nobody waits for (sealing, scrubbing): nice 19, and the disk when it is idle.
// False where the system does not allow all of it; the work's own pauses have to do then.
bool BeLast();

// The processor time that the thread has had, while it lives; zero when unknown.
absl::Duration ProcessorTime(const ThreadName& thread);

}  // namespace icepie

#endif  // ICEPIE_CORE_BASE_THREAD_PRIORITY_H_
