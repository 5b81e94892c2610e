//! Arguments in, exit code out; nothing else.

use clap::Parser;

fn main() -> std::process::ExitCode {
    let arguments = match wasagent::cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too, and are no error.
            let code = if error.use_stderr() {
                wasagent::cli::exit::USAGE
            } else {
                wasagent::cli::exit::DONE
            };
            let _ = error.print();
            return code.into();
        }
    };
    // Passwords are in this process's memory: prevent core dumps, and reads by other users.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let code = wasagent::cli::run(&arguments);
    // A thread may still hang in a system call on a dead mount: exit without waiting for it.
    std::process::exit(i32::from(code))
}
