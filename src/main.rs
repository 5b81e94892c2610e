//! Arguments in, exit code out; nothing else.

use clap::Parser;

fn main() -> std::process::ExitCode {
    let arguments = match wasagent::cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too, and are no mistake.
            let code = if error.use_stderr() {
                wasagent::cli::exit::USAGE
            } else {
                wasagent::cli::exit::DONE
            };
            let _ = error.print();
            return code.into();
        }
    };
    let code = wasagent::cli::run(&arguments);
    // A system call on a dead mount may still hold a thread: the process ends without waiting.
    std::process::exit(i32::from(code))
}
