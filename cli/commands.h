// The groups of commands; each adds its own to the program and sets Context::action when it is
// given.
#ifndef ICEPIE_CLI_COMMANDS_H_
#define ICEPIE_CLI_COMMANDS_H_

#include <CLI/App.hpp>

#include "cli/context.h"

namespace icepie::cli {

void AddStreamCommands(CLI::App& app, Context& context);    // stream, append, import, export, read
void AddReadCommand(CLI::App& app, Context& context);       // read
void AddTraceCommand(CLI::App& app, Context& context);      // trace
void AddSliceCommands(CLI::App& app, Context& context);     // slice
void AddExpectCommand(CLI::App* slice, Context& context);   // slice expect
void AddSliceControl(CLI::App* slice, Context& context);    // slice freeze, thaw, suspend, …
void AddDomainControl(CLI::App* domain, Context& context);  // domain freeze, thaw, suspend, …
void AddLimitsCommand(CLI::App* domain, Context& context);  // domain limits
void AddWorkersCommand(CLI::App& app, Context& context);    // workers
void AddSafeModeCommand(CLI::App& app, Context& context);   // leave-safe-mode
void AddSnapshotCommands(CLI::App* slice, Context& context);    // slice snapshots
void AddQueryCommand(CLI::App& app, Context& context);          // query
void AddDomainCommands(CLI::App& app, Context& context);        // domain, plan, apply
void AddTestCommand(CLI::App& app, Context& context);           // test
void AddOperationCommands(CLI::App& app, Context& context);     // operation
void AddProofCommands(CLI::App& app, Context& context);         // checkpoint, prove
void AddVerifyCommand(CLI::App& app, Context& context);         // verify
void AddBackupCommand(CLI::App& app, Context& context);         // backup
void AddStatusCommand(CLI::App& app, Context& context);         // status
void AddEventCommands(CLI::App& app, Context& context);         // events
void AddQuarantineCommand(CLI::App* slice, Context& context);   // slice quarantine
void AddSliceExportCommand(CLI::App* slice, Context& context);  // slice export
void AddLogCommand(CLI::App* slice, Context& context);          // slice logs
void AddDoctorCommand(CLI::App& app, Context& context);         // doctor
void AddTopCommand(CLI::App& app, Context& context);            // top

}  // namespace icepie::cli

#endif  // ICEPIE_CLI_COMMANDS_H_
