use std::fs;

use anyhow::{Context, Result};

/// User and system time of a process with all its threads, and of its children.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name in brackets may hold anything; what follows it may not.
        let Some((head, rest)) = text.rsplit_once(')') else {
            continue;
        };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |n: usize| {
            fields
                .get(n)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let own = head.split(' ').next().and_then(|text| text.parse().ok());
        if own == Some(pid) || field(1) == u64::from(pid) {
            ticks += field(11) + field(12);
        }
    }
    Ok(ticks as f64 / ticks_per_second as f64)
}

/// Peak resident memory of a process, in octets.
///
/// # Errors
/// When it is gone.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .context("no VmHWM in its status")?;
    Ok(kilobytes << 10)
}
