//! The JSON of the admin API as text for people.

use std::fmt::Write;

use serde_json::Value;

use super::table::{Table, printable};

/// `sekisho status`
pub(super) fn status(value: &Value, out: &mut String) {
    let _ = writeln!(
        out,
        "{} (sekisho {}): {}, revision {}, up {}",
        word(value, "name"),
        word(value, "version"),
        if truth(value, "ready") {
            "ready"
        } else {
            "NOT READY"
        },
        word(value, "revision"),
        span(value.get("uptime_seconds").and_then(Value::as_i64).unwrap_or(0)),
    );
    for missing in list(value, "not_ready") {
        let _ = writeln!(out, "  missing: {}", text(missing));
    }
    section(out, "Source");
    let source = value.get("source").unwrap_or(&Value::Null);
    let _ = writeln!(
        out,
        "  {} {}: {}{}",
        word(source, "kind"),
        word(source, "location"),
        if truth(source, "synced") {
            "complete view held"
        } else {
            "no complete view yet"
        },
        match word(source, "last_error") {
            error if error.is_empty() => String::new(),
            error => format!("; last error: {error}"),
        }
    );
    section(out, "BGP peers");
    indented(&peers_table(value.get("peers").unwrap_or(&Value::Null)), out);
    if let Some(bgp) = value.get("bgp").filter(|bgp| bgp.is_object()) {
        kernel(bgp, out);
    }
    section(out, "VIPs");
    indented(&vips_table(value.get("vips").unwrap_or(&Value::Null)), out);
    section(out, "Services");
    let mut table = Table::new(&["SERVICE", "IN USE", "KNOWN"]);
    for row in list(value, "services") {
        table.row([word(row, "pool"), word(row, "eligible"), word(row, "known")]);
    }
    indented(&table, out);
    section(out, "Certificates");
    indented(
        &certificates_table(value.get("certificates").unwrap_or(&Value::Null)),
        out,
    );
    section(out, "Findings");
    let findings = list(value, "findings");
    if findings.is_empty() {
        out.push_str("  none\n");
    }
    for finding in findings {
        let _ = writeln!(out, "  {}", one_finding(finding));
    }
}

/// `sekisho peers`
pub(super) fn peers(value: &Value, out: &mut String) {
    peers_table(value).print(0, out);
    for peer in rows(value) {
        if let Some(error) = peer.get("last_error").filter(|error| error.is_object()) {
            let _ = writeln!(
                out,
                "{}: last error {} ago, ended by {}: {}",
                word(peer, "name"),
                since(error, "at"),
                word(error, "by"),
                word(error, "text")
            );
        }
        let Some(bfd) = peer.get("bfd").filter(|bfd| bfd.is_object()) else {
            continue;
        };
        for (what, key) in [
            ("BFD cannot work", "error"),
            ("BFD was last left because of", "last_down"),
        ] {
            match word(bfd, key) {
                text if text.is_empty() => {}
                text => drop(writeln!(out, "{}: {what}: {text}", word(peer, "name"))),
            }
        }
    }
}

/// `sekisho routes --rejected`
pub(super) fn rejected(value: &Value, out: &mut String) {
    let mut table = Table::new(&["PREFIX", "NEXT HOP", "PEER", "WHY"]);
    for row in rows(value) {
        table.row([
            word(row, "prefix"),
            word(row, "next_hop"),
            word(row, "peer"),
            word(row, "text"),
        ]);
    }
    print_or(&table, "nothing is kept out", out);
}

/// `sekisho vips`
pub(super) fn vips(value: &Value, out: &mut String) {
    print_or(&vips_table(value), "no VIP is in use", out);
    let mut told = Table::new(&[
        "VIP",
        "PEER",
        "NEXT HOP",
        "AS PATH",
        "LOCAL PREF",
        "MED",
        "COMMUNITIES",
    ]);
    for row in rows(value) {
        for one in rows(row.get("announcements").unwrap_or(&Value::Null)) {
            told.row([
                word(row, "address"),
                word(one, "peer"),
                match word(one, "next_hop") {
                    none if none.is_empty() => "this box".into(),
                    given => given,
                },
                word(one, "as_path"),
                word(one, "local_preference"),
                word(one, "med"),
                word(one, "communities"),
            ]);
        }
    }
    if !told.is_empty() {
        out.push('\n');
        told.print(0, out);
    }
}

/// `sekisho endpoints`
pub(super) fn endpoints(value: &Value, out: &mut String) {
    print_or(&endpoints_table(value), "no endpoint", out);
}

/// `sekisho certificates`
pub(super) fn certificates(value: &Value, out: &mut String) {
    print_or(&certificates_table(value), "no TLS host", out);
    for row in rows(value) {
        let error = word(row, "last_error");
        if !error.is_empty() {
            let _ = writeln!(out, "{}: {error}", word(row, "hosts"));
        }
    }
}

/// `sekisho explain URL`
pub(super) fn explain(value: &Value, out: &mut String) {
    let _ = writeln!(out, "{}", word(value, "request"));
    for step in list(value, "steps") {
        let mark = if truth(step, "good") { "ok" } else { "NO" };
        let _ = writeln!(
            out,
            "  {mark}  {:<12} {}",
            word(step, "what"),
            word(step, "found")
        );
        for line in list(step, "detail") {
            let _ = writeln!(out, "      {:<12} {}", "", text(line));
        }
    }
    let endpoints = endpoints_table(value.get("endpoints").unwrap_or(&Value::Null));
    if !endpoints.is_empty() {
        out.push('\n');
        endpoints.print(2, out);
    }
    let _ = writeln!(out, "\n=> {}", word(value, "answer"));
}

/// Routes in the kernel, and what stands in the way there and at the listeners.
fn kernel(bgp: &Value, out: &mut String) {
    let state = bgp.get("kernel").unwrap_or(&Value::Null);
    let _ = writeln!(
        out,
        "  kernel: {} IPv4 and {} IPv6 routes, {} VIPs, {} pending",
        word(state, "ipv4"),
        word(state, "ipv6"),
        word(state, "vips"),
        word(state, "pending")
    );
    let error = word(state, "error");
    if !error.is_empty() {
        let _ = writeln!(out, "  kernel: {error}");
    }
    for listener in list(bgp, "listeners") {
        let error = word(listener, "error");
        if !error.is_empty() {
            let _ = writeln!(out, "  listener {}: {error}", word(listener, "address"));
        }
    }
}

fn peers_table(value: &Value) -> Table {
    let mut table = Table::new(&[
        "PEER", "ADDRESS", "AS", "ROLE", "STATE", "SINCE", "BFD", "RECEIVED", "USED", "SENT",
    ]);
    for row in rows(value) {
        table.row([
            word(row, "name"),
            word(row, "address"),
            word(row, "asn"),
            word(row, "role"),
            word(row, "state"),
            since(row, "since"),
            bfd(row),
            received(row).0,
            received(row).1,
            word(row, "announced"),
        ]);
    }
    table
}

/// State of the BFD session and how long the peer may be silent.
fn bfd(peer: &Value) -> String {
    let Some(bfd) = peer.get("bfd").filter(|bfd| bfd.is_object()) else {
        return "-".into();
    };
    let state = word(bfd, "state");
    match bfd.get("detection_time_microseconds").and_then(Value::as_u64) {
        Some(time) if state == "up" => format!("up, {} ms", time.div_ceil(1000)),
        _ if truth(bfd, "holds_session") => format!("{state}, waited for"),
        _ => state,
    }
}

fn vips_table(value: &Value) -> Table {
    let mut table = Table::new(&["VIP", "POOL", "SERVES", "ANNOUNCED TO", "WHY NOT"]);
    for row in rows(value) {
        table.row([
            word(row, "address"),
            word(row, "pool"),
            word(row, "serves"),
            word(row, "announced_to"),
            word(row, "withheld"),
        ]);
    }
    table
}

fn endpoints_table(value: &Value) -> Table {
    let mut table = Table::new(&[
        "SERVICE",
        "POD",
        "ADDRESS",
        "NODE",
        "PREFIX",
        "NEXT HOP",
        "INTERFACE",
        "ROUTE",
        "HEALTH",
        "USED",
        "WHY NOT",
    ]);
    for row in rows(value) {
        table.row([
            format!(
                "{}/{}:{}",
                word(row, "namespace"),
                word(row, "service"),
                word(row, "port")
            ),
            word(row, "pod"),
            word(row, "address"),
            word(row, "node"),
            word(row, "prefix"),
            word(row, "next_hops"),
            word(row, "interface"),
            word(row, "route"),
            // The rest of it stands in the last column.
            match word(row, "health") {
                health if health == "well" => health,
                health if health == "not checked yet" => "unknown".into(),
                _ => "out".into(),
            },
            if truth(row, "in_use") {
                "yes".into()
            } else {
                "NO".into()
            },
            word(row, "why"),
        ]);
    }
    table
}

fn certificates_table(value: &Value) -> Table {
    let mut table = Table::new(&["HOSTS", "SOURCE", "STATE", "ISSUER", "EXPIRES IN", "NEXT RENEWAL"]);
    for row in rows(value) {
        table.row([
            word(row, "hosts"),
            word(row, "source"),
            word(row, "state"),
            word(row, "issuer"),
            row.get("seconds_left")
                .and_then(Value::as_i64)
                .map(span)
                .unwrap_or_default(),
            since(row, "next_renewal"),
        ]);
    }
    table
}

fn one_finding(row: &Value) -> String {
    let place = match word(row, "place") {
        place if place.is_empty() => place,
        place => format!(" {place}"),
    };
    printable(&format!(
        "{} {}{place}: {}",
        word(row, "object_kind"),
        word(row, "object"),
        word(row, "message")
    ))
}

fn indented(table: &Table, out: &mut String) {
    if table.is_empty() {
        out.push_str("  none\n");
    } else {
        table.print(2, out);
    }
}

pub(super) fn print_or(table: &Table, nothing: &str, out: &mut String) {
    if table.is_empty() {
        let _ = writeln!(out, "{nothing}");
    } else {
        table.print(0, out);
    }
}

fn section(out: &mut String, name: &str) {
    let _ = writeln!(out, "\n{name}");
}

pub(super) fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).map_or(&[], rows)
}

pub(super) fn truth(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn word(value: &Value, key: &str) -> String {
    value.get(key).map(text).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => printable(&other.to_string()),
    }
}

/// Paths that a peer announced, and how many of them carry packets.
fn received(peer: &Value) -> (String, String) {
    let counts = peer.get("received").unwrap_or(&Value::Null);
    let count = |key| counts.get(key).and_then(Value::as_u64).unwrap_or(0);
    (
        (count("ipv4") + count("ipv6")).to_string(),
        count("used").to_string(),
    )
}

/// How far a time stamp is from now.
pub(super) fn since(value: &Value, key: &str) -> String {
    let Ok(at) = word(value, key).parse::<jiff::Timestamp>() else {
        return String::new();
    };
    span((at.as_second() - jiff::Timestamp::now().as_second()).abs())
}

/// Seconds in the two largest units: `3d4h`, `5m12s`.
fn span(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let s = seconds.unsigned_abs();
    let (days, hours, minutes, rest) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{rest}s"),
        (0, 0, _) => format!("{sign}{minutes}m{rest}s"),
        (0, _, _) => format!("{sign}{hours}h{minutes}m"),
        _ => format!("{sign}{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, want) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3_661, "1h1m"),
            (90_061, "1d1h"),
            (-61, "-1m1s"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }

    #[test]
    fn every_screen_survives_any_answer() {
        let odd = serde_json::json!([null, 1, "x", [], {"hosts": 1, "steps": 3, "best": "no"}]);
        for render in [
            status,
            peers,
            super::super::peer::render,
            rejected,
            vips,
            endpoints,
            certificates,
            explain,
        ] {
            for value in [
                &Value::Null,
                &odd,
                &serde_json::json!({"peers": odd, "steps": odd, "findings": odd}),
            ] {
                let mut out = String::new();
                render(value, &mut out);
            }
        }
    }
}
