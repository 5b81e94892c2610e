//! The binary as it is shipped: static, and without the functions of glibc that would load a guest's NSS modules.

use std::process::Command;

use anyhow::{Result, ensure};
use wasagent_lab::agent;

/// Functions that end in NSS. glibc's resolver and account functions load shared modules of the guest even from a
/// static program, and crash where those do not fit.
const NSS: [&str; 10] = [
    "getpwnam",
    "getpwnam_r",
    "getpwuid",
    "getpwuid_r",
    "getgrnam",
    "getgrnam_r",
    "getgrgid_r",
    "getgrouplist",
    "getaddrinfo",
    "gethostbyname",
];

fn answer(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_release_build_is_static() -> Result<()> {
    let binary = agent::build()?;
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
    let binary = agent::build()?;
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
