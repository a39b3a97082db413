#include "cli/slice_history.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cli/answer.h"
#include "cli/confirm.h"
#include "cli/format.h"
#include "cli/operations.h"
#include "cli/slice_report.h"
#include "cli/table.h"
#include "core/base/status.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::Generation;
using icepie::v1::RollbackSliceRequest;
using icepie::v1::RollbackSliceResponse;

constexpr absl::Duration kHistoryPollEvery = absl::Milliseconds(200);
// Longer than the daemon tries.
constexpr absl::Duration kPromotionMax = absl::Minutes(10);

absl::StatusOr<icepie::v1::ListGenerationsResponse> Generations(Context& context,
                                                                const std::string& slice) {
  icepie::v1::ListGenerationsRequest request;
  request.set_name(slice);
  Client& client = context.client();
  return client.Call(client.admin(), &Admin::StubInterface::ListGenerations, request);
}

// What else there is to say of a generation.
std::string NoteOf(const Generation& generation) {
  std::vector<std::string> notes;
  if (generation.copy_of() > 0) notes.push_back(absl::StrCat("copy of g", generation.copy_of()));
  if (generation.continues_generation() > 0) {
    notes.push_back(absl::StrCat("g", generation.continues_generation(),
                                 " with its quarantined records tried again"));
  }
  if (generation.state() == Generation::RETIRED && generation.has_warm_until() &&
      ToTime(generation.warm_until()) > absl::Now()) {
    notes.push_back(absl::StrCat("kept fresh until ", FormatTime(generation.warm_until())));
  }
  if (generation.has_error()) notes.push_back(generation.error().message());
  if (generation.has_not_promoted()) notes.push_back(generation.not_promoted().message());
  return absl::StrJoin(notes, "; ");
}

std::string TimeOrNothing(bool has, const google::protobuf::Timestamp& time) {
  return has ? FormatTime(time) : "";
}

std::string Standing(const RollbackSliceResponse& where) {
  std::string text = absl::StrCat("g", where.generation());
  if (!where.instant()) {
    return absl::StrCat(text, " is no longer kept fresh: its definition is built again first, and ",
                        "the serving generation goes on meanwhile");
  }
  absl::StrAppend(&text, where.lag_records() == 0
                             ? " is at the head"
                             : absl::StrCat(" is ", FormatCounted(where.lag_records(), "record"),
                                            " behind the head"));
  return absl::StrCat(text, ", ", FormatCounted(where.quarantined_count(), "record"),
                      " quarantined");
}

}  // namespace

absl::StatusOr<int> PrintHistory(Context& context, const std::string& slice) {
  ICEPIE_ASSIGN_OR_RETURN(const auto answer, Generations(context, slice));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  Table table({{"generation", true},
               {"state"},
               {"definition"},
               {"by"},
               {"reason"},
               {"created"},
               {"promoted"},
               {"replaced"},
               {"rows", true},
               {"position", true},
               {"note"}});
  for (const Generation& generation : answer.generations()) {
    const bool ran = generation.applied_position() > 0;
    table.AddRow({absl::StrCat("g", generation.number()),
                  Generation::State_Name(generation.state()),
                  generation.definition_hash().substr(0, 8), generation.actor(),
                  generation.reason(), FormatTime(generation.create_time()),
                  TimeOrNothing(generation.has_promote_time(), generation.promote_time()),
                  TimeOrNothing(generation.has_replace_time(), generation.replace_time()),
                  generation.has_ready_time() ? FormatCount(generation.rows()) : "",
                  ran ? FormatCount(generation.applied_position()) : "", NoteOf(generation)});
  }
  table.Print(context.out(), context.terminal.width);
  if (answer.has_rolled_back()) {
    const auto& note = answer.rolled_back();
    context.out() << "rolled back from g" << note.from_generation() << " to g"
                  << note.to_generation() << " at " << FormatTime(note.time()) << " by "
                  << Printable(note.actor())
                  << (note.reason().empty() ? "" : absl::StrCat(": ", Printable(note.reason())))
                  << "; it does not stand at its domain's file\n";
  }
  return kExitDone;
}

absl::StatusOr<int> Rollback(Context& context, const RollbackArguments& arguments) {
  context.AllowTime(kChangeTime);
  Client& client = context.client();
  RollbackSliceRequest request;
  request.set_name(arguments.slice);
  request.set_generation(arguments.generation);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  request.set_validate_only(true);
  ICEPIE_ASSIGN_OR_RETURN(
      const RollbackSliceResponse where,
      client.Call(client.admin(), &Admin::StubInterface::RollbackSlice, request));
  if (!arguments.yes) ICEPIE_RETURN_IF_ERROR(Confirm(context, Standing(where), "to return to it"));
  // What was shown is what is done, or it fails.
  request.set_generation(where.generation());
  request.set_serving_generation(where.slice().meta().generation());
  request.set_validate_only(false);
  ICEPIE_ASSIGN_OR_RETURN(
      const RollbackSliceResponse done,
      client.Call(client.admin(), &Admin::StubInterface::RollbackSlice, request));
  if (!done.operation().empty() && !arguments.no_wait) {
    if (!context.options.json) context.out() << Standing(done) << '\n' << std::flush;
    ICEPIE_RETURN_IF_ERROR(FollowOperations(context, {done.operation()}));
    ICEPIE_ASSIGN_OR_RETURN(const auto generations, Generations(context, arguments.slice));
    ICEPIE_RETURN_IF_ERROR(
        WaitForPromotion(context, arguments.slice, generations.generations(0).number()));
  }
  if (context.options.json) {
    context.out() << ToJson(done);
  } else if (!done.operation().empty() && arguments.no_wait) {
    context.out() << ShortOperationName(done.operation()) << " builds it again\n";
  } else if (done.operation().empty()) {
    context.out() << OutcomeLine(done.slice()) << '\n';
  }
  return kExitDone;
}

absl::Status WaitForPromotion(Context& context, const std::string& slice, int64_t generation) {
  const absl::Time deadline = absl::Now() + kPromotionMax;
  while (absl::Now() < deadline) {
    ICEPIE_ASSIGN_OR_RETURN(const auto answer, Generations(context, slice));
    const auto found =
        std::find_if(answer.generations().begin(), answer.generations().end(),
                     [&](const Generation& each) { return each.number() == generation; });
    if (found == answer.generations().end()) {
      return absl::NotFoundError(absl::StrCat(slice, " g", generation, " is gone"));
    }
    if (found->has_not_promoted()) {
      return absl::FailedPreconditionError(found->not_promoted().message());
    }
    if (found->state() == Generation::SERVING) {
      if (!context.options.json) {
        context.out() << slice << " promoted: generation " << generation << '\n';
      }
      return absl::OkStatus();
    }
    const bool under_way =
        found->state() == Generation::BUILDING || found->state() == Generation::READY;
    if (!under_way || !found->promote_when_ready()) {
      return absl::AbortedError(
          absl::StrCat(slice, " g", generation, " is ", Generation::State_Name(found->state())));
    }
    absl::SleepFor(kHistoryPollEvery);
  }
  return absl::DeadlineExceededError(
      absl::StrCat(slice, " g", generation, " is still catching up; icepie slice history ", slice));
}

}  // namespace icepie::cli
