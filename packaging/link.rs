//! Leaves out of the shipped binary what only unwinding reads: call frame information is an eighth of its size. The
//! release build aborts at a panic, and has no symbols that a backtrace could name. A debug build keeps it, because tests
//! catch panics.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Both GNU ld and LLD read it beside their own script.
const SCRIPT: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table*) } } INSERT AFTER .text;\n";

fn main() {
    println!("cargo::rerun-if-changed=packaging/link.rs");
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let script = Path::new(&directory).join("without-unwinding.ld");
    fs::write(&script, SCRIPT).expect("write the linker's script");
    link(&format!("-T,{}", script.display()));
    link("--no-eh-frame-hdr");
    if glibc_minor().is_some_and(|minor| minor >= 36) {
        // The addresses that a position-independent program corrects when it starts. An older glibc cannot unpack them.
        link("-z,pack-relative-relocs");
    }
}

fn link(argument: &str) {
    println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
}

/// The 36 of glibc 2.36, which is linked in.
fn glibc_minor() -> Option<u32> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let answer = String::from_utf8(answer.ok()?.stdout).ok()?;
    answer.trim().strip_prefix("glibc 2.")?.parse().ok()
}
