//! The binary as it is shipped: static, and without the functions of glibc that would load a guest's NSS modules.

use std::process::Command;

use anyhow::{Result, ensure};
use wasagent_lab::agent;

/// Functions that end in NSS: they load shared modules of the guest even from a static program, and crash where those do
/// not fit. Not in the list, because zbus links them, for peers that it serves and for buses over TCP: getpwuid_r,
/// getgrouplist and getaddrinfo. The agent uses neither; that none is entered is proved on the guests, by strace.
const NSS: [&str; 8] = [
    "getpwnam",
    "getpwnam_r",
    "getpwuid",
    "getgrnam",
    "getgrgid",
    "getgrgid_r",
    "gethostbyname",
    "gethostbyname_r",
];

fn answer(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

/// The whole binary is copied to each VM, and an operator looks at its size before anything else.
const LARGEST: u64 = 5_000_000;

#[test]
fn the_release_build_is_static_and_small() -> Result<()> {
    let binary = agent::build()?;
    let size = binary.metadata()?.len();
    ensure!(size <= LARGEST, "the binary has {size} bytes");
    let path = binary.display().to_string();
    let kind = answer("file", &["--brief", &path])?;
    ensure!(kind.contains("static"), "file says {kind}");
    let needed = answer("ldd", &[&path])?;
    ensure!(
        needed.contains("statically linked") || needed.contains("not a dynamic executable"),
        "ldd says {needed}"
    );
    Ok(())
}

#[test]
fn no_function_of_nss_is_linked_in() -> Result<()> {
    let binary = agent::build_with_symbols()?;
    let symbols = answer("nm", &[&binary.display().to_string()])?;
    ensure!(
        symbols.lines().count() > 1000,
        "the symbol table is gone, so nothing is proved"
    );
    let names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    for function in NSS {
        ensure!(!names.contains(&function), "{function} is linked in");
    }
    Ok(())
}
