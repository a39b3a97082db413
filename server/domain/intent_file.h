// Desired states that the catalog could not take, because the disk is full to its last byte or the
// core is damaged. Their room is taken at the first start and only ever overwritten, so that
// writing them needs no space.
//
// Two halves of 2 MiB, written in turns, so that one is always whole: IPIN, a number, and each
// intent's name and state, a serialised DesiredState (server/base/numbered_pairs.h). The half with
// the higher number counts. A smaller file, of an earlier version, is made larger when it is
// opened, or used as it is while there is no room for that.
#ifndef ICEPIE_SERVER_DOMAIN_INTENT_FILE_H_
#define ICEPIE_SERVER_DOMAIN_INTENT_FILE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace icepie::server {

// Threads: one at a time.
// Errors: the operating system's, with the path.
class IntentFile {
 public:
  // "payments.volume" → serialised DesiredState
  using Intents = std::map<std::string, std::string>;

  explicit IntentFile(std::string path) : path_(std::move(path)) {}

  // Reads what there is, and makes the file when there is none. DATA_LOSS when it is not readable;
  // it then begins anew with the next Save.
  absl::Status Open();

  const Intents& intents() const { return intents_; }

  // Replaces all intents; synced. RESOURCE_EXHAUSTED when they do not fit. On an error the old ones
  // stand.
  absl::Status Save(Intents intents);

 private:
  bool Decode(absl::string_view half);
  absl::Status Make(const Intents& intents);

  const std::string path_;
  size_t half_bytes_ = 0;
  int64_t number_ = 0;  // of the newest half
  Intents intents_;
};

}  // namespace icepie::server

#endif  // ICEPIE_SERVER_DOMAIN_INTENT_FILE_H_
