//! `sekisho peers NAME`.

use std::fmt::Write;

use serde_json::Value;

use super::render::{list, since, text, truth, word};

/// Everything about one peer.
pub(super) fn render(peer: &Value, out: &mut String) {
    let _ = writeln!(
        out,
        "{}: {} for {}",
        word(peer, "name"),
        word(peer, "state"),
        since(peer, "since")
    );
    let timers = match word(peer, "hold_time_seconds") {
        hold if hold.is_empty() => String::new(),
        hold if hold == "0" => "off".into(),
        hold => format!("hold {hold} s, keepalive {} s", word(peer, "keepalive_seconds")),
    };
    let limit = match truth(peer, "over_max_prefixes") {
        true => format!("{}: it sent more and is kept away", word(peer, "max_prefixes")),
        false => word(peer, "max_prefixes"),
    };
    let stale = match word(peer, "stale_for_seconds") {
        seconds if seconds.is_empty() => seconds,
        seconds => format!("its routes are kept for {seconds} s more"),
    };
    for (name, value) in [
        ("address", word(peer, "address")),
        ("AS", word(peer, "asn")),
        ("AS configured", word(peer, "configured_asn")),
        ("role", word(peer, "role")),
        ("range", word(peer, "range")),
        (
            "passive",
            if truth(peer, "passive") {
                "yes".into()
            } else {
                String::new()
            },
        ),
        ("shut down", word(peer, "shutdown")),
        ("router id", word(peer, "router_id")),
        ("our end", word(peer, "local_address")),
        ("its end", word(peer, "remote_address")),
        ("timers", timers),
        ("families", word(peer, "families")),
        ("prefixes", prefixes(peer)),
        ("max prefixes", limit),
        ("graceful restart", stale),
        ("messages in", counts(peer, "messages_received")),
        ("messages out", counts(peer, "messages_sent")),
        ("a second, 1 min", rates(peer)),
        ("faulty UPDATEs", word(peer, "faulty_updates")),
        ("sessions lost", word(peer, "flaps")),
    ] {
        line(name, &value, out);
    }
    for capability in list(peer, "capabilities") {
        line("it offers", &text(capability), out);
    }
    for (name, key) in [
        ("NOTIFICATION in", "notification_received"),
        ("NOTIFICATION out", "notification_sent"),
        ("last error", "last_error"),
        ("connecting", "connect_error"),
    ] {
        if let Some(error) = peer.get(key).filter(|error| error.is_object()) {
            line(
                name,
                &format!("{} ago: {}", since(error, "at"), word(error, "text")),
                out,
            );
        }
    }
    if let Some(bfd) = peer.get("bfd").filter(|bfd| bfd.is_object()) {
        bfd_lines(bfd, out);
    }
}

fn bfd_lines(bfd: &Value, out: &mut String) {
    let micros = |key| bfd.get(key).and_then(Value::as_u64).unwrap_or(0);
    let ms = |key| format!("{} ms", micros(key).div_ceil(1000));
    let hops = if truth(bfd, "multihop") {
        ", of several hops"
    } else {
        ""
    };
    let holds = if truth(bfd, "holds_session") {
        ", the BGP session waits for it"
    } else {
        ""
    };
    line(
        "BFD",
        &format!(
            "{} for {}{hops}{holds}; the peer says {}",
            word(bfd, "state"),
            since(bfd, "since"),
            word(bfd, "remote_state")
        ),
        out,
    );
    let sends = match micros("transmit_interval_microseconds") {
        0 => "the peer wants none".into(),
        _ => format!("every {}", ms("transmit_interval_microseconds")),
    };
    let heard = match micros("detection_time_microseconds") {
        0 => "the peer has not been heard".into(),
        _ => format!("the peer may be silent for {}", ms("detection_time_microseconds")),
    };
    line("BFD packets", &format!("sent {sends}; {heard}"), out);
    line(
        "BFD counts",
        &format!(
            "up {} times, failed {} times, {} packets in, {} out",
            word(bfd, "ups"),
            word(bfd, "failures"),
            word(bfd, "packets_received"),
            word(bfd, "packets_sent")
        ),
        out,
    );
    line("BFD last down", &word(bfd, "last_down"), out);
    line("BFD obstacle", &word(bfd, "error"), out);
}

fn line(name: &str, value: &str, out: &mut String) {
    if !value.is_empty() {
        let _ = writeln!(out, "  {name:<18}{value}");
    }
}

fn prefixes(peer: &Value) -> String {
    let received = peer.get("received").unwrap_or(&Value::Null);
    format!(
        "{} IPv4 and {} IPv6 paths held, {} carry packets, {} stale; {} not let in; {} announced",
        word(received, "ipv4"),
        word(received, "ipv6"),
        word(received, "used"),
        word(received, "stale"),
        word(peer, "rejected_paths"),
        word(peer, "announced")
    )
}

fn counts(peer: &Value, key: &str) -> String {
    let counts = peer.get(key).unwrap_or(&Value::Null);
    let all = ["open", "update", "notification", "keepalive", "route_refresh"];
    all.map(|kind| format!("{} {kind}", word(counts, kind)))
        .join(", ")
}

fn rates(peer: &Value) -> String {
    let rates = peer.get("rates").unwrap_or(&Value::Null);
    format!(
        "{} messages in, {} out; {} UPDATEs in, {} out; {} prefixes in",
        word(rates, "messages_received"),
        word(rates, "messages_sent"),
        word(rates, "updates_received"),
        word(rates, "updates_sent"),
        word(rates, "prefixes_received")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_peer_in_full() {
        let peer = json!({
            "name": "tor-1", "state": "established", "since": "2026-01-01T00:00:00Z", "address": "10.0.0.1", "asn": 65000,
            "hold_time_seconds": 9, "keepalive_seconds": 3, "capabilities": ["route refresh", "4-octet AS 65000"],
            "received": {"ipv4": 2, "ipv6": 1, "used": 3, "stale": 0}, "rejected_paths": 4, "announced": 5,
            "rates": {"updates_received": 1.5},
            "notification_received": {"at": "2026-01-01T00:00:00Z", "text": "6/2 Cease, Administrative Shutdown: \"bye\""},
            "bfd": {"state": "up", "since": "2026-01-01T00:00:00Z", "remote_state": "up", "failures": 7,
                    "transmit_interval_microseconds": 50000, "detection_time_microseconds": 150000},
        });
        let mut out = String::new();
        render(&peer, &mut out);
        for part in [
            "tor-1: established for ",
            "hold 9 s, keepalive 3 s",
            "2 IPv4 and 1 IPv6 paths held",
            "4 not let in; 5 announced",
            "it offers         route refresh",
            "1.5 UPDATEs in",
            "Administrative Shutdown: \"bye\"",
            "every 50 ms; the peer may be silent for 150 ms",
            "failed 7 times",
        ] {
            assert!(out.contains(part), "{part:?} in\n{out}");
        }
        assert!(
            !out.contains("graceful restart") && !out.contains("passive"),
            "{out}"
        );
    }
}
