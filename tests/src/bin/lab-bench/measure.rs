//! What a proxy has used, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// A process and its children.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut found = vec![pid];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if stat(child).is_some_and(|fields| fields.get(1).is_some_and(|parent| *parent == u64::from(pid))) {
            found.push(child);
        }
    }
    Ok(found)
}

/// The numbers of /proc/PID/stat after the name; what is no number reads as 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; what follows it may not.
    let (_, rest) = text.rsplit_once(')')?;
    Some(
        rest.split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect(),
    )
}

/// User and system time of a process with all its threads, and of its children.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let ticks: u64 = family(pid)?
        .into_iter()
        .filter_map(stat)
        .map(|fields| fields.get(11..13).map_or(0, |times| times.iter().sum()))
        .sum();
    Ok(ticks as f64 / ticks_per_second as f64)
}

/// Memory of a process and its children in octets: their proportional share (PSS), so that what workers share counts once.
pub(crate) fn memory(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in family(pid)? {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .context("no Pss in smaps_rollup")?;
        sum += kib * 1024;
    }
    Ok(sum)
}
