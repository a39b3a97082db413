// checkpoint, prove
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/whole_number.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/merkle/receipt.h"
#include "nlohmann/json.hpp"

namespace icepie::cli {
namespace {

using icepie::v1::Core;

// Asks until the checkpoint is signed or the command's time is over: much that was never signed is
// hashed again first.
absl::StatusOr<icepie::v1::Checkpoint> AskCheckpoint(Context& context, int64_t min_size) {
  icepie::v1::GetCheckpointRequest request;
  request.set_min_size(min_size);
  const absl::Time end = absl::Now() + context.options.timeout;
  Client& client = context.client();
  while (true) {
    auto answer = client.Call(client.core(), &Core::StubInterface::GetCheckpoint, request);
    if (!absl::IsDeadlineExceeded(answer.status()) || absl::Now() >= end) return answer;
  }
}

absl::StatusOr<int> PrintCheckpoint(Context& context, bool key_only) {
  ICEPIE_ASSIGN_OR_RETURN(const icepie::v1::Checkpoint checkpoint, AskCheckpoint(context, 0));
  if (context.options.json) {
    context.out() << ToJson(checkpoint);
  } else if (key_only) {
    context.out() << checkpoint.verifier_key() << '\n';
  } else {
    context.out() << checkpoint.note();
  }
  return kExitDone;
}

struct ProveArguments {
  int64_t position = -1;
  std::string output = "-";
  std::string check;    // a receipt
  std::string key;      // a verifier key, or a file that holds one
  std::string payload;  // a file
};

// The receipt, which holds what it says: it was checked as its reader will check it.
absl::StatusOr<std::string> MakeReceipt(Context& context, int64_t position) {
  ICEPIE_ASSIGN_OR_RETURN(const icepie::v1::Checkpoint checkpoint,
                          AskCheckpoint(context, position + 1));
  icepie::v1::GetInclusionProofRequest request;
  request.set_position(position);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const icepie::v1::InclusionProof answer,
      client.Call(client.core(), &Core::StubInterface::GetInclusionProof, request));
  TlogProof proof;
  proof.extra = answer.leaf_entry();
  proof.index = position;
  proof.checkpoint = answer.checkpoint();
  for (const std::string& hash : answer.hashes()) {
    if (hash.size() != sizeof(Digest)) return absl::DataLossError("the daemon sent a broken proof");
    proof.hashes.push_back(DigestFrom(hash));
  }
  std::string text = EncodeTlogProof(proof);
  ICEPIE_ASSIGN_OR_RETURN(const VerifierKey key, VerifierKey::Parse(checkpoint.verifier_key()));
  ICEPIE_RETURN_IF_ERROR(CheckReceipt(text, key).status());
  return text;
}

absl::StatusOr<int> Prove(Context& context, const ProveArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const std::string receipt, MakeReceipt(context, arguments.position));
  const bool to_file = arguments.output != "-";
  if (to_file) ICEPIE_RETURN_IF_ERROR(WriteFileAtomically(arguments.output, receipt));
  if (context.options.json) {
    nlohmann::json out = {{"position", arguments.position}};
    if (to_file) {
      out["file"] = arguments.output;
    } else {
      out["receipt"] = receipt;
    }
    // File names are bytes.
    context.out() << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return kExitDone;
  }
  if (!to_file) {
    context.out() << receipt;
    return kExitDone;
  }
  context.out() << "receipt for position " << FormatCount(arguments.position) << " in "
                << arguments.output << "; check it with: icepie prove --check " << arguments.output
                << " --key KEY (icepie checkpoint --key prints it)\n";
  return kExitDone;
}

absl::StatusOr<VerifierKey> ReadKey(const std::string& text_or_file) {
  const absl::StatusOr<std::string> file = ReadFile(text_or_file);
  return VerifierKey::Parse(file.ok() ? *file : text_or_file);
}

std::string Hex(const Digest& digest) { return absl::BytesToHexString(ViewOf(digest)); }

std::string TimeText(int64_t time_us) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromUnixMicros(time_us),
                          absl::UTCTimeZone());
}

nlohmann::json Describe(const Receipt& receipt) {
  const LeafEntry& entry = receipt.entry;
  nlohmann::json out = {{"origin", receipt.checkpoint.origin},
                        {"tree_size", receipt.checkpoint.size},
                        {"root_sha256", Hex(receipt.checkpoint.root)},
                        {"position", entry.position},
                        {"stream_id", entry.stream_id},
                        {"stream_name_sha256", Hex(entry.stream_name)},
                        {"offset", entry.offset},
                        {"ingest_time", TimeText(entry.ingest_time_us)},
                        {"payload_bytes", entry.payload_bytes},
                        {"payload_sha256", Hex(entry.payload)}};
  if (entry.key) out["key_sha256"] = Hex(*entry.key);
  if (entry.headers) out["headers_sha256"] = Hex(*entry.headers);
  if (entry.event_time_us) out["event_time"] = TimeText(*entry.event_time_us);
  return out;
}

// Offline: nothing is asked of a daemon.
absl::StatusOr<int> Check(Context& context, const ProveArguments& arguments) {
  ICEPIE_ASSIGN_OR_RETURN(const VerifierKey key, ReadKey(arguments.key));
  ICEPIE_ASSIGN_OR_RETURN(const std::string text, ReadFile(arguments.check));
  const absl::StatusOr<Receipt> receipt = CheckReceipt(text, key);
  if (!receipt.ok()) return Annotate(receipt.status(), arguments.check);
  if (!arguments.payload.empty()) {
    ICEPIE_ASSIGN_OR_RETURN(const std::string payload, ReadFile(arguments.payload));
    if (Sha256(payload) != receipt->entry.payload) {
      return absl::DataLossError(absl::StrCat(arguments.payload, " is not the payload of position ",
                                              receipt->entry.position, ": the receipt is for ",
                                              receipt->entry.payload_bytes, " bytes with SHA-256 ",
                                              Hex(receipt->entry.payload)));
    }
  }
  const nlohmann::json facts = Describe(*receipt);
  if (context.options.json) {
    context.out() << facts.dump(2) << '\n';
    return kExitDone;
  }
  context.out() << "valid: position " << FormatCount(receipt->entry.position) << " is in "
                << receipt->checkpoint.origin << ", in its signed checkpoint of "
                << FormatCounted(receipt->checkpoint.size, "record") << '\n';
  for (const auto& [name, value] : facts.items()) {
    context.out() << "  " << absl::StrFormat("%-19s", name) << ' '
                  << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
  }
  return kExitDone;
}

absl::StatusOr<int> ProveOrCheck(Context& context, const ProveArguments& arguments) {
  if (arguments.check.empty() == (arguments.position < 0)) {
    return absl::InvalidArgumentError("give a POSITION to prove, or --check FILE --key KEY");
  }
  if (arguments.check.empty()) return Prove(context, arguments);
  if (arguments.key.empty()) {
    return absl::InvalidArgumentError(
        "--check needs --key KEY: the key of the core, as icepie checkpoint --key printed it when "
        "you trusted it");
  }
  return Check(context, arguments);
}

}  // namespace

void AddProofCommands(CLI::App& app, Context& context) {
  CLI::App* checkpoint = app.add_subcommand(
      "checkpoint", "the core's size and root, signed: keep it to compare later");
  auto key_only = std::make_shared<bool>(false);
  checkpoint->add_flag("--key", *key_only, "only the public key with which it can be checked");
  checkpoint->callback([&context, key_only] {
    context.action = [&context, key_only] { return PrintCheckpoint(context, *key_only); };
  });

  CLI::App* prove =
      app.add_subcommand("prove", "write or check a receipt: a record is in the core");
  auto arguments = std::make_shared<ProveArguments>();
  prove->add_option("POSITION", arguments->position, "the record to prove")
      ->check(WholeNumberFrom(0));
  prove->add_option("--output", arguments->output,
                    "where the receipt goes (default: -, the output)");
  prove->add_option("--check", arguments->check, "check this receipt; no daemon is needed");
  prove->add_option("--key", arguments->key, "the core's public key, or a file that holds it");
  prove->add_option("--payload", arguments->payload,
                    "a file that holds the record's payload, to be compared");
  prove->callback([&context, arguments] {
    context.action = [&context, arguments] { return ProveOrCheck(context, *arguments); };
  });
}

}  // namespace icepie::cli
