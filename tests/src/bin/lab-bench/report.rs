//! The tables, in Markdown as `docs/performance.md` has them.

use anyhow::Result;

use crate::loads::{Load, Times};
use crate::measure;
use crate::proxies::{BEFORE, Proxy};

/// What one load gave at one proxy, by round.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) per_cpu_second: Vec<f64>,
    pub(crate) per_second: Vec<f64>,
}

impl Results {
    pub(crate) fn rate(&self) -> f64 {
        median(&self.per_second)
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Half the distance between the best and the worst round, in percent of the median.
fn spread(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    50.0 * (most - least) / median(values)
}

fn heading(first: &str, proxies: &[Proxy], last: &str) {
    let names: Vec<_> = proxies.iter().map(|proxy| proxy.name).collect();
    println!("| {first} | {} |{last}", names.join(" | "));
    println!(
        "|{}{}",
        "---|".repeat(proxies.len() + 1),
        if last.is_empty() { "" } else { "---|" }
    );
}

/// Requests per CPU second, and per second.
pub(crate) fn work(loads: &[&Load], proxies: &[Proxy]) {
    println!("Requests per CPU second of the proxy's processes, median of the rounds (± half the spread):\n");
    heading("Load", proxies, " Sekisho : best other |");
    for load in loads {
        let mut line = format!("| {} |", load.name);
        let mut medians = Vec::new();
        for proxy in proxies {
            match proxy.results.get(load.name) {
                Some(results) => {
                    let values = &results.per_cpu_second;
                    line += &format!(" {:.0} (±{:.0} %) |", median(values), spread(values));
                    medians.push(median(values));
                }
                None => {
                    line += " not served |";
                    medians.push(0.0);
                }
            }
        }
        let others = proxies.iter().zip(&medians).skip(1);
        let best = others
            .filter(|(proxy, _)| proxy.name != BEFORE)
            .map(|(_, median)| *median)
            .fold(0.0, f64::max);
        let ours = medians.first().copied().unwrap_or(0.0);
        if best > 0.0 && ours > 0.0 {
            line += &format!(" {:.2} |", ours / best);
        } else {
            line += " |";
        }
        println!("{line}");
    }
    println!("\nRequests per second on this machine, client and backend on the same cores:\n");
    heading("Load", proxies, "");
    for load in loads {
        let cells: Vec<_> = proxies
            .iter()
            .map(|proxy| {
                proxy.results.get(load.name).map_or_else(
                    || "not served".to_owned(),
                    |results| format!("{:.0}", results.rate()),
                )
            })
            .collect();
        println!("| {} | {} |", load.name, cells.join(" | "));
    }
    println!();
}

/// Response times at a fixed rate: the median over the rounds of each quantile.
pub(crate) fn latency(load: &str, rate: f64, proxies: &[Proxy], rows: &[Vec<Times>]) {
    println!("{load}, milliseconds at {rate:.0} requests per second:\n");
    heading("Quantile", proxies, "");
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let cells: Vec<_> = rows
            .iter()
            .map(|rounds| {
                let values: Vec<_> = rounds
                    .iter()
                    .filter_map(|times| times.get((times.len() as f64 * quantile) as usize).copied())
                    .collect();
                format!("{:.2}", 1000.0 * median(&values))
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

/// What they hold at the end, and for each idle connection.
pub(crate) fn memory(proxies: &[Proxy]) -> Result<()> {
    println!("Memory (proportional share of all processes):\n");
    heading("", proxies, "");
    let mut cells = Vec::new();
    for proxy in proxies {
        cells.push(format!(
            "{:.0} MiB",
            measure::memory(proxy.pid)? as f64 / (1 << 20) as f64
        ));
    }
    println!("| after all loads | {} |", cells.join(" | "));
    for (index, name) in ["for an idle connection", "for an idle TLS connection"]
        .iter()
        .enumerate()
    {
        let cells: Vec<_> = proxies
            .iter()
            .map(|proxy| {
                proxy.idle_bytes.get(index).map_or_else(
                    || "not measured".to_owned(),
                    |each| format!("{:.1} KiB", each / 1024.0),
                )
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}
