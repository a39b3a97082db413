// The messages of Core.ReadRecords for as long as the command wants them: a reading that the daemon
// ended because this program did not take its messages for a while (its output was blocked) is
// taken up again where it stood.
#ifndef ICEPIE_CLI_RECORD_MESSAGES_H_
#define ICEPIE_CLI_RECORD_MESSAGES_H_

#include <grpcpp/support/sync_stream.h>

#include <memory>

#include "absl/status/status.h"
#include "cli/client.h"

namespace icepie::cli {

// Threads: one at a time.
// Errors: the daemon's, of the reading that was the last one.
class RecordMessages {
 public:
  RecordMessages(Client& client, const icepie::v1::ReadRecordsRequest& request);
  // Ends the call.
  ~RecordMessages();
  RecordMessages(const RecordMessages&) = delete;
  RecordMessages& operator=(const RecordMessages&) = delete;

  // Waits for the next message. False at the end: status() says which.
  bool Read(icepie::v1::ReadRecordsResponse* message);

  const absl::Status& status() const { return status_; }

 private:
  void Open();
  // The rest of what was asked for, once `message` has come.
  void Advance(const icepie::v1::ReadRecordsResponse& message);

  Client& client_;
  icepie::v1::ReadRecordsRequest request_;
  std::unique_ptr<grpc::ClientContext> context_;  // no deadline: whoever reads may be a pager
  std::unique_ptr<grpc::ClientReaderInterface<icepie::v1::ReadRecordsResponse>> reader_;
  bool all_read_ = false;  // as many as were asked for
  bool ended_ = false;
  absl::Status status_;
};

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_RECORD_MESSAGES_H_
