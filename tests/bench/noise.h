// What a noisy domain's clients do: endless queries, queries for more memory than there is,
// re-slices one after another, a flood of appends. And a live worker that dies whenever it is
// there, so that the standby answers.
#ifndef ICEPIE_TESTS_BENCH_NOISE_H_
#define ICEPIE_TESTS_BENCH_NOISE_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "google/longrunning/operations.grpc.pb.h"
#include "icepie/v1/admin.grpc.pb.h"
#include "icepie/v1/slices.grpc.pb.h"

namespace icepie::bench {

// In domain `noisy` with its slice `volume` over stream `bench`.
//
// Threads: one; the clients are its own.
class Noise {
 public:
  // "query", "reslice", "flood" or "all" of these, "crash", "hungry"; goes on until Stop.
  Noise(const std::string& address, const std::string& kind);
  ~Noise() { Stop(); }
  Noise(const Noise&) = delete;
  Noise& operator=(const Noise&) = delete;

  void Stop();
  int64_t appended() const { return appended_; }  // records
  int64_t resliced() const { return resliced_; }  // to their end
  int64_t killed() const { return killed_; }

 private:
  void Ask(const std::string& sql, absl::Duration timeout);
  void AskEndlessly();
  void AskStandby();
  void KillLiveWorker();
  void ResliceAgain();
  void Flood();

  const std::string address_;
  std::unique_ptr<icepie::v1::Slices::Stub> slices_;
  std::unique_ptr<icepie::v1::Admin::Stub> admin_;
  std::unique_ptr<google::longrunning::Operations::Stub> operations_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> appended_{0};
  std::atomic<int64_t> resliced_{0};
  std::atomic<int64_t> killed_{0};
  std::atomic<int64_t> questions_{0};
  std::vector<std::thread> threads_;
};

// Makes noise until SIGINT, with the lowest priority: its clients would be other machines. Prints a
// line when it begins, and one with what it did in a second ("RECORDS RESLICES KILLS") at its end.
void RunNoise(const std::string& address, const std::string& kind);

}  // namespace icepie::bench

#endif  // ICEPIE_TESTS_BENCH_NOISE_H_
