//! What the measurements were made on, without which they say little.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The machine in words and numbers.
#[derive(Clone, Debug)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    /// In GiB.
    pub memory: f64,
    pub kernel: String,
    /// How many processes wanted a processor in the last minute (proc_loadavg(5)), before anything was measured.
    pub load: f64,
}

impl Machine {
    pub fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memory_gib": self.memory,
            "kernel": self.kernel,
            "load": self.load,
        })
    }
}

/// This machine.
pub fn describe() -> Result<Machine> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kilobytes: f64 = field("/proc/meminfo", "MemTotal")?
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(Machine {
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|_| "unknown".to_owned()),
        processors: thread::available_parallelism()?.get(),
        memory: (kilobytes / 1024.0 / 1024.0 * 10.0).round() / 10.0,
        kernel: kernel.trim_end().to_owned(),
        load: load()?,
    })
}

/// The load of the last minute.
pub fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("/proc/loadavg: {text}"))
}

fn field(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let value = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()));
    value.with_context(|| format!("{file} names no {name}"))
}
