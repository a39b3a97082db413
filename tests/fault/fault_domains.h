// The domains that the harness runs: their streams, files and questions, and the same slices as
// plain SQL over a table of records, which the reference runs.
#ifndef ICEPIE_TESTS_FAULT_FAULT_DOMAINS_H_
#define ICEPIE_TESTS_FAULT_FAULT_DOMAINS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/fault/call_record.h"

namespace icepie::fault {

// A stream as a slice reads it: which of its records it can take (SQL over the reference's table).
struct ReadStream {
  std::string name;
  std::string readable;
};

struct SliceSpec {
  std::string domain;
  std::string name;
  std::string sql;
  std::vector<ReadStream> streams;
  std::string upstream;  // a slice of the domain; empty: none

  std::string FullName() const { return domain + "." + name; }
};

struct Question {
  std::string domain;
  std::string sql;
  std::vector<std::string> slices;  // names within the domain
};

struct StreamSpec {
  std::string name;
  bool bytes = false;  // takes payloads that are no JSON
};

const std::vector<StreamSpec>& Streams();
const std::vector<std::string>& Domains();
const std::vector<SliceSpec>& Slices();
const std::vector<Question>& Questions();
const SliceSpec& FindSlice(const std::string& full_name);
// The domain's YAML file.
std::string DomainFile(const std::string& domain);

// How many clients append; each sends batches of its own kind.
inline constexpr int kAppenders = 4;

// Batch `batch` of `client`: different for every one, and the same whenever it is asked for.
std::vector<StoredRecord> MakeBatch(int client, int64_t batch);
// A batch of records that some slices cannot take: no JSON, wrong types, a text that a cast in the
// SQL refuses. Sent as batches of the client that numbers are given for.
std::vector<StoredRecord> MakePoison(int client, int64_t batch);

}  // namespace icepie::fault

#endif  // ICEPIE_TESTS_FAULT_FAULT_DOMAINS_H_
