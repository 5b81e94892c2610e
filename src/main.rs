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
    // Passwords are in this process's memory: it leaves no core dump, and no other user looks into it.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let code = wasagent::cli::run(&arguments);
    // A system call on a dead mount may still hold a thread: the process ends without waiting.
    std::process::exit(i32::from(code))
}
