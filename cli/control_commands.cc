// slice freeze|thaw|suspend|resume|restart, domain freeze|thaw|suspend|resume|restart|refresh,
// leave-safe-mode, workers roll: what stops slices and workers that run and lets them go on.
#include <CLI/App.hpp>
#include <CLI/Error.hpp>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/slice_report.h"
#include "cli/time_span.h"
#include "core/base/status.h"
#include "server/base/proto_time.h"

namespace icepie::cli {
namespace {

using icepie::v1::Admin;
using icepie::v1::ChangeDomainRequest;
using icepie::v1::ListSlicesResponse;
using icepie::v1::Slice;
using Stub = Admin::StubInterface;

struct ControlArguments {
  std::string name;
  std::string reason;
  std::optional<absl::Duration> remind_after;
};

template <typename Request>
constexpr bool kMayRemind = std::is_same_v<Request, icepie::v1::FreezeSliceRequest> ||
                            std::is_same_v<Request, ChangeDomainRequest>;

template <typename Request>
Request MakeRequest(const Context& context, const ControlArguments& arguments) {
  Request request;
  request.set_name(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  if constexpr (kMayRemind<Request>) {
    if (arguments.remind_after) {
      *request.mutable_remind_after() = server::ToProto(*arguments.remind_after);
    }
  }
  return request;
}

template <typename Request>
using SliceCall = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Slice*);
using DomainCall = grpc::Status (Stub::*)(grpc::ClientContext*, const ChangeDomainRequest&,
                                          ListSlicesResponse*);

template <typename Request>
absl::StatusOr<int> ChangeSlice(Context& context, const ControlArguments& arguments,
                                SliceCall<Request> call) {
  context.AllowTime(kChangeTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(const Slice slice, client.Call(client.admin(), call,
                                                         MakeRequest<Request>(context, arguments)));
  context.out() << (context.options.json ? ToJson(slice) : absl::StrCat(OutcomeLine(slice), "\n"));
  return kExitDone;
}

absl::StatusOr<int> ChangeDomain(Context& context, const ControlArguments& arguments,
                                 DomainCall call) {
  context.AllowTime(call == &Stub::RefreshDomain ? kWholeStateTime : kChangeTime);
  Client& client = context.client();
  ICEPIE_ASSIGN_OR_RETURN(
      const ListSlicesResponse answer,
      client.Call(client.admin(), call, MakeRequest<ChangeDomainRequest>(context, arguments)));
  if (context.options.json) {
    context.out() << ToJson(answer);
    return kExitDone;
  }
  for (const Slice& slice : answer.slices()) context.out() << OutcomeLine(slice) << '\n';
  return kExitDone;
}

struct Help {
  const char* name;
  const char* text;
  const char* reason;  // help of --reason
  bool needs_reason;
  bool reminds = false;  // takes --for
};

void AddReminder(CLI::App* added, const std::shared_ptr<ControlArguments>& arguments) {
  added->add_option_function<std::string>(
      "--for",
      [arguments](const std::string& text) {
        arguments->remind_after = ParseTimeSpan(text);
        if (arguments->remind_after.value_or(absl::ZeroDuration()) <= absl::ZeroDuration()) {
          throw CLI::ValidationError("--for", "a time such as 90m, 2h or 3d, not " + text);
        }
      },
      "how long it is meant to last, as in 2h: a reminder (FREEZE_OVERDUE), never a thaw");
}

CLI::App* AddCommand(CLI::App* group, const char* what, const Help& help,
                     const std::shared_ptr<ControlArguments>& arguments) {
  CLI::App* added = group->add_subcommand(help.name, help.text);
  added->add_option(what, arguments->name)->required();
  CLI::Option* reason = added->add_option("--reason", arguments->reason, help.reason);
  if (help.needs_reason) reason->required();
  if (help.reminds) AddReminder(added, arguments);
  return added;
}

template <typename Request>
void AddSlice(CLI::App* slice, Context& context, const Help& help, SliceCall<Request> call) {
  auto arguments = std::make_shared<ControlArguments>();
  AddCommand(slice, "SLICE", help, arguments)->callback([&context, arguments, call] {
    context.action = [&context, arguments, call] {
      return ChangeSlice<Request>(context, *arguments, call);
    };
  });
}

void AddDomain(CLI::App* domain, Context& context, const Help& help, DomainCall call) {
  auto arguments = std::make_shared<ControlArguments>();
  AddCommand(domain, "DOMAIN", help, arguments)->callback([&context, arguments, call] {
    context.action = [&context, arguments, call] {
      return ChangeDomain(context, *arguments, call);
    };
  });
}

absl::StatusOr<int> Roll(Context& context, const ControlArguments& arguments) {
  icepie::v1::RollWorkersRequest request;
  request.set_domain(arguments.name);
  request.set_reason(arguments.reason);
  request.set_actor(context.options.actor);
  Client& client = context.client();
  client.Identify(request);
  grpc::ClientContext call;
  const auto reader = client.admin().RollWorkers(&call, request);
  icepie::v1::RollWorkersResponse rolled;
  int domains = 0;
  while (reader->Read(&rolled)) {
    ++domains;
    if (context.options.json) {
      context.out() << ToJson(rolled);
    } else {
      context.out() << rolled.domain() << ": standby pid " << rolled.standby_pid()
                    << (rolled.live_pid() > 0 ? absl::StrCat(", live pid ", rolled.live_pid())
                                              : ", live paused")
                    << ", " << rolled.elapsed_ms() << " ms, "
                    << FormatCounted(rolled.domains_left(), "domain") << " left\n";
    }
    context.out().flush();
  }
  ICEPIE_RETURN_IF_ERROR(client.ErrorOf(reader->Finish()));
  if (!context.options.json) context.out() << FormatCounted(domains, "domain") << " rolled\n";
  return kExitDone;
}

constexpr const char* kShown = "shown with every answer";
constexpr const char* kWritten = "written down with the change";

}  // namespace

void AddSliceControl(CLI::App* slice, Context& context) {
  AddSlice<icepie::v1::FreezeSliceRequest>(
      slice, context, {"freeze", "stop applying; answers go on, marked stale", kShown, true, true},
      &Stub::FreezeSlice);
  AddSlice<icepie::v1::ThawSliceRequest>(slice, context, {"thaw", "apply again", kWritten, false},
                                         &Stub::ThawSlice);
  AddSlice<icepie::v1::SuspendSliceRequest>(
      slice, context,
      {"suspend", "take it out of its worker; its last snapshot answers", kShown, true},
      &Stub::SuspendSlice);
  AddSlice<icepie::v1::ResumeSliceRequest>(
      slice, context, {"resume", "end a suspension, whoever began it", kWritten, false},
      &Stub::ResumeSlice);
  AddSlice<icepie::v1::RestartSliceRequest>(
      slice, context,
      {"restart", "open its state anew from its last snapshot and try again", kWritten, false},
      &Stub::RestartSlice);
}

void AddDomainControl(CLI::App* domain, Context& context) {
  AddDomain(domain, context, {"freeze", "freeze every slice of it", kShown, true, true},
            &Stub::FreezeDomain);
  AddDomain(domain, context, {"thaw", "let every slice of it apply again", kWritten, false},
            &Stub::ThawDomain);
  AddDomain(
      domain, context,
      {"suspend", "end its live worker; its slices answer from their last snapshots", kShown, true},
      &Stub::SuspendDomain);
  AddDomain(domain, context,
            {"resume", "end a suspension, also one after too many failures", kWritten, false},
            &Stub::ResumeDomain);
  AddDomain(domain, context,
            {"restart", "end and start its workers, one after the other", kWritten, false},
            &Stub::RestartDomain);
  AddDomain(domain, context, {"refresh", "recompute its scheduled slices now", kWritten, false},
            &Stub::RefreshDomain);
}

void AddWorkersCommand(CLI::App& app, Context& context) {
  CLI::App* workers = app.add_subcommand("workers", "the worker processes");
  workers->require_subcommand(1);
  auto arguments = std::make_shared<ControlArguments>();
  CLI::App* roll = workers->add_subcommand(
      "roll", "start all anew with the program that is there now, without a failed query");
  roll->add_option("--domain", arguments->name, "only this one's");
  roll->add_option("--reason", arguments->reason, kWritten);
  roll->callback([&context, arguments] {
    context.action = [&context, arguments] { return Roll(context, *arguments); };
  });
}

void AddSafeModeCommand(CLI::App& app, Context& context) {
  auto reason = std::make_shared<std::string>();
  CLI::App* leave = app.add_subcommand("leave-safe-mode",
                                       "let slices apply and builds run after icepied --safe-mode");
  leave->add_option("--reason", *reason, kWritten);
  leave->callback([&context, reason] {
    context.action = [&context, reason]() -> absl::StatusOr<int> {
      icepie::v1::LeaveSafeModeRequest request;
      request.set_reason(*reason);
      request.set_actor(context.options.actor);
      Client& client = context.client();
      ICEPIE_ASSIGN_OR_RETURN(const auto status,
                              client.Call(client.admin(), &Stub::LeaveSafeMode, request));
      context.out() << (context.options.json ? ToJson(status)
                                             : "the slices apply again: icepie status\n");
      return kExitDone;
    };
  });
}

}  // namespace icepie::cli
