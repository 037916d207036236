//! `sekisho routes`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::Ask;
use super::render::{list, print_or, rejected, rows, text, truth, word};
use super::table::Table;

/// Rows of one exchange with the appliance.
const PAGE: usize = 2000;

#[derive(Args)]
pub(super) struct Wanted {
    /// Only this prefix, or the routes that lead to this address
    prefix: Option<String>,
    /// Only the prefix itself (what a prefix means where nothing else is said)
    #[arg(long, requires = "prefix", group = "relation")]
    exact: bool,
    /// The prefix and everything inside it
    #[arg(long, requires = "prefix", group = "relation")]
    longer: bool,
    /// The prefix and everything around it (what an address means where nothing else is said)
    #[arg(long, requires = "prefix", group = "relation")]
    covering: bool,
    /// Only what this peer says
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only this address family
    #[arg(long, value_parser = ["ipv4", "ipv6"])]
    family: Option<String>,
    /// Only the best path of each prefix
    #[arg(long)]
    best: bool,
    /// What is not let in, and why
    #[arg(long, conflicts_with_all = ["best", "count"])]
    rejected: bool,
    /// Only how many there are
    #[arg(long)]
    count: bool,
    /// Every attribute of every path
    #[arg(long)]
    detail: bool,
    /// Write the whole table to this file in MRT format (RFC 6396)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prefix", "peer", "family", "best", "rejected", "count", "detail"])]
    mrt: Option<PathBuf>,
    /// At most so many paths; 0 is all of them
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

/// Asks page by page and prints as they come: the appliance is never held up for the whole table.
pub(super) fn show(wanted: &Wanted, ask: &Ask) -> anyhow::Result<ExitCode> {
    if let Some(file) = &wanted.mrt {
        return mrt(file, ask);
    }
    let relation = match (wanted.exact, wanted.longer, wanted.covering) {
        (true, _, _) => Some("exact"),
        (_, true, _) => Some("longer"),
        (_, _, true) => Some("covering"),
        _ => None,
    };
    let client = ask.client()?;
    let flag = |set: bool| set.then_some("true");
    let mut after: Option<String> = None;
    let (mut shown, mut all) = (0, Vec::new());
    let mut out = std::io::stdout().lock();
    loop {
        // One more than is shown tells whether there is more.
        let left = match wanted.limit {
            0 => PAGE,
            limit => limit.saturating_sub(shown).saturating_add(1).min(PAGE),
        };
        let limit = left.to_string();
        let query = [
            ("prefix", wanted.prefix.as_deref()),
            ("match", relation),
            ("peer", wanted.peer.as_deref()),
            ("family", wanted.family.as_deref()),
            ("best", flag(wanted.best)),
            ("rejected", flag(wanted.rejected)),
            ("count", flag(wanted.count)),
            ("after", after.as_deref()),
            ("limit", Some(&limit)),
        ];
        let answer = client.get("routes", &query)?;
        if wanted.count {
            return super::print(ask, &answer, count);
        }
        if wanted.rejected {
            return super::print(ask, &answer, rejected);
        }
        let Value::Array(mut page) = answer else {
            bail!("the appliance answers something else than routes");
        };
        // Of related prefixes that are not in the order of the table there is one page only.
        let last = page.len() < left || matches!(relation, Some("exact" | "covering"));
        after = page.last().map(|route| word(route, "prefix"));
        let room = match wanted.limit {
            0 => usize::MAX,
            limit => limit.saturating_sub(shown),
        };
        let more = page.len() > room;
        page.truncate(room);
        shown += page.len();
        if ask.json {
            all.append(&mut page);
        } else if !(page.is_empty() && shown > 0) {
            let mut text = String::new();
            let page = Value::Array(page);
            table(&page, wanted.detail, &mut text);
            match out.write_all(text.as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                other => other?,
            }
        }
        if more || last || after.is_none() {
            if ask.json {
                serde_json::to_writer_pretty(&mut out, &all)?;
                out.write_all(b"\n")?;
            }
            if more {
                eprintln!(
                    "sekisho: only the first {shown} paths are shown; narrow the question, or say --limit 0 for all (--count tells how many)"
                );
            }
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file is there under its name only when it is whole.
fn mrt(file: &Path, ask: &Ask) -> anyhow::Result<ExitCode> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut out = std::io::BufWriter::new(
        std::fs::File::create(&part).with_context(|| format!("cannot write {}", part.display()))?,
    );
    let written = ask.client()?.download("routes.mrt", &mut out).and_then(|octets| {
        out.flush()?;
        std::fs::rename(&part, file)?;
        Ok(octets)
    });
    match written {
        Ok(octets) => {
            eprintln!("{}: {octets} octets", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

fn count(value: &Value, out: &mut String) {
    let _ = writeln!(
        out,
        "{} paths of {} prefixes",
        word(value, "paths"),
        word(value, "prefixes")
    );
}

fn table(value: &Value, detail: bool, out: &mut String) {
    if detail {
        return rows(value).iter().for_each(|row| details(row, out));
    }
    let mut table = Table::new(&[
        "",
        "PREFIX",
        "NEXT HOP",
        "INTERFACE",
        "PEER",
        "LOCAL PREF",
        "MED",
        "AS PATH",
        "WHY",
    ]);
    for row in rows(value) {
        table.row([
            if truth(row, "best") {
                "*".into()
            } else {
                String::new()
            },
            word(row, "prefix"),
            word(row, "next_hop"),
            word(row, "interface"),
            word(row, "peer"),
            word(row, "local_preference"),
            word(row, "med"),
            word(row, "as_path"),
            word(row, "reason"),
        ]);
    }
    print_or(&table, "no route", out);
}

/// One path with all that is known of it.
fn details(row: &Value, out: &mut String) {
    let state = match (truth(row, "best"), truth(row, "used")) {
        (true, true) => "best, carries packets",
        (true, false) => "best, and carries nothing",
        (false, true) => "equal to the best, carries packets",
        (false, false) => "not the best",
    };
    let _ = writeln!(out, "{} from {}: {state}", word(row, "prefix"), word(row, "peer"));
    let stale = if truth(row, "stale") {
        "kept from before a restart of the peer"
    } else {
        ""
    };
    let lines = [
        ("why", word(row, "reason")),
        ("path id", word(row, "path_id")),
        ("next hop", word(row, "next_hop")),
        ("link-local", word(row, "link_local")),
        ("interface", word(row, "interface")),
        ("origin", word(row, "origin")),
        ("AS path", word(row, "as_path")),
        ("local preference", word(row, "local_preference")),
        ("MED", word(row, "med")),
        ("communities", word(row, "communities")),
        ("originator", word(row, "originator_id")),
        ("cluster list", word(row, "cluster_list")),
        ("aggregator", word(row, "aggregator")),
        (
            "atomic aggregate",
            if truth(row, "atomic_aggregate") {
                "yes".into()
            } else {
                String::new()
            },
        ),
        ("stale", stale.to_owned()),
    ];
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "  {name:<18}{value}");
    }
    for attribute in list(row, "unknown_attributes") {
        let _ = writeln!(out, "  {:<18}{}", "unknown attribute", text(attribute));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_in_full() {
        let row = json!([{
            "prefix": "10.0.0.0/8", "peer": "tor-1", "best": false, "used": false, "reason": "longer AS path",
            "next_hop": "10.0.0.1", "as_path": "65000 1", "communities": ["65000:1", "65000:1:2"], "stale": true,
            "cluster_list": ["1.1.1.1", "2.2.2.2"], "unknown_attributes": ["type 99 flags 0xc0: 01\u{7}"],
        }]);
        let mut out = String::new();
        table(&row, true, &mut out);
        for line in [
            "10.0.0.0/8 from tor-1: not the best\n",
            "  why               longer AS path\n",
            "65000:1 65000:1:2\n",
            "1.1.1.1 2.2.2.2\n",
            "kept from before",
            "unknown attribute type 99",
        ] {
            assert!(out.contains(line), "{line:?} in\n{out}");
        }
        assert!(!out.contains("MED") && !out.contains('\u{7}'), "{out}");
        let mut out = String::new();
        table(&row, false, &mut out);
        let widths: Vec<_> = out
            .lines()
            .map(|line| line.find("tor-1").or_else(|| line.find("PEER")))
            .collect();
        assert_eq!(widths[0], widths[1], "the head stands over its column\n{out}");
    }
}
