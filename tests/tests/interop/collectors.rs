//! What the box tells programs that keep or read tables: pmacct's BMP daemon, bgpdump.

use std::fs;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{Appliance, BOX, Bird, BirdVersion, Daemon, State, program, wait_for};
use serde_json::Value;

use crate::Case;
use crate::cases::case;
use crate::rig::{OTHER_V4, PATIENCE, PEER_V4, PEER_V6, Rig, shown};

pub(crate) fn all() -> Vec<Case> {
    vec![
        case(
            "pmacct: a BMP collector hears tables, changes and the end",
            collector,
        ),
        case("bgpdump: reads the table that routes --mrt writes", dump),
    ]
}

const PEER: &str =
    "[[bgp.peers]]\nname = \"peer\"\naddress = \"10.0.0.20\"\nasn = 65001\nrole = \"cluster\"\n";

/// A neighbour of another AS, in both families, with what a path can have.
fn bird(rig: &Rig) -> Result<Bird> {
    let attributes = "bgp_path.prepend(65010); bgp_community.add((65000,7)); \
                      bgp_large_community.add((65000,1,2)); bgp_ext_community.add((rt,65000,9));";
    let text = format!(
        "log stderr all;\nrouter id {PEER_V4};\nprotocol device {{ }}\n\
         protocol static one {{ ipv4; route 10.244.1.0/26 blackhole {{ {attributes} }}; route 10.244.2.0/26 blackhole; }}\n\
         protocol static two {{ ipv4; route 10.244.3.0/26 blackhole; }}\n\
         protocol static six {{ ipv6; route fd00:244:1::/122 blackhole {{ {attributes} }}; }}\n\
         protocol bgp box {{ local as 65001; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2;\n\
         ipv4 {{ import all; export filter {{ if source != RTS_STATIC then reject; bgp_med = 30; accept; }}; }};\n\
         ipv6 {{ import all; export filter {{ if source != RTS_STATIC then reject; bgp_med = 30; accept; }}; next hop address {PEER_V6}; }}; }}\n",
        BOX.v4
    );
    Bird::start(&rig.state, "peer", &rig.peer, BirdVersion::V2, &text)
}

fn learnt(appliance: &Appliance, ipv4: u64) -> Result<()> {
    wait_for("the peer's routes", PATIENCE, || {
        let shown = shown(appliance, "peer")?;
        let held = |family: &str| {
            shown
                .pointer(&format!("/received/{family}"))
                .and_then(Value::as_u64)
        };
        ensure!(
            (held("ipv4"), held("ipv6")) == (Some(ipv4), Some(1)),
            "{shown:.600}"
        );
        Ok(())
    })
    .map(drop)
}

fn collector(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let (file, log) = (state.file("pmbmpd.conf"), state.file("pmbmpd.json"));
    fs::write(
        &file,
        format!(
            "bmp_daemon_ip: {OTHER_V4}\nbmp_daemon_port: 5000\nbmp_daemon_msglog_file: {}\nbmp_daemon_msglog_output: json\n",
            log.display()
        ),
    )?;
    let mut command = program(&rig.other, "pmacct", "usr/sbin/pmbmpd")?;
    command.arg("-f").arg(&file);
    let mut daemon = Daemon::start(state, "pmbmpd", command)?;
    let bird = bird(&rig)?;
    let appliance = rig.start_with("required", "9s", &format!("bmp = [\"{OTHER_V4}:5000\"]\n{PEER}"))?;
    learnt(&appliance, 3)?;
    // Every line is an object of its own; the last one may be on its way.
    let heard = |want: &[(&str, &str)]| -> Result<Value> {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let fits = |event: &Value| {
            want.iter().all(|(key, value)| {
                let got = event.get(key).map(ToString::to_string).unwrap_or_default();
                got.trim_matches('"') == *value
            })
        };
        events
            .rev()
            .find(fits)
            .with_context(|| format!("no {want:?} in {text:.3000}"))
    };
    let mut wait = |what: &str, want: &[(&str, &str)]| -> Result<Value> {
        let (event, _) = wait_for(what, PATIENCE, || {
            daemon.check()?;
            heard(want)
        })?;
        Ok(event)
    };
    wait("the beginning", &[("bmp_msg_type", "init")])?;
    let up = wait(
        "Peer Up",
        &[("bmp_msg_type", "peer_up"), ("peer_ip", "10.0.0.20")],
    )?;
    ensure!(up.to_string().contains("65001"), "{up}");
    let route = |prefix: &'static str, kind: &'static str| {
        [
            ("bmp_msg_type", "route_monitor"),
            ("log_type", kind),
            ("ip_prefix", prefix),
        ]
    };
    let path = wait("a path", &route("10.244.1.0/26", "update"))?.to_string();
    for wanted in ["65001 65010", "65000:7", "65000:1:2", "RT:65000:9", "10.0.0.20"] {
        ensure!(path.contains(wanted), "no {wanted} in {path}");
    }
    let path = wait("an IPv6 path", &route("fd00:244:1::/122", "update"))?.to_string();
    ensure!(path.contains(&PEER_V6.to_string()), "{path}");
    wait("another path", &route("10.244.3.0/26", "update"))?;
    bird.order("disable two")?;
    wait("a withdrawal", &route("10.244.3.0/26", "withdraw"))?;
    drop(bird);
    wait(
        "Peer Down",
        &[("bmp_msg_type", "peer_down"), ("peer_ip", "10.0.0.20")],
    )?;
    appliance.stop(PATIENCE)?;
    wait("the end", &[("bmp_msg_type", "term")])?;
    Ok(())
}

fn dump(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let _bird = bird(&rig)?;
    let appliance = rig.start_with("required", "9s", PEER)?;
    learnt(&appliance, 3)?;
    let file = state.file("table.mrt");
    let name = file.to_str().context("a path that is no text")?;
    appliance.ask(&["routes", "--mrt", name])?;
    let mut command = program(&rig.the_box, "bgpdump", "usr/bin/bgpdump")?;
    let out = command.args(["-m", name]).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(
        out.status.success(),
        "bgpdump: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    for (prefix, hop) in [
        ("10.244.1.0/26", PEER_V4),
        ("10.244.2.0/26", PEER_V4),
        ("10.244.3.0/26", PEER_V4),
        ("fd00:244:1::/122", PEER_V6),
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(&format!("|{prefix}|")))
            .with_context(|| format!("no {prefix} in {text}"))?;
        for wanted in [
            "TABLE_DUMP2|".to_owned(),
            "|10.0.0.20|65001|".to_owned(),
            format!("|{hop}|"),
        ] {
            ensure!(line.contains(&wanted), "no {wanted} in {line}");
        }
        if prefix.contains("1.0/26") || prefix.contains(':') {
            for wanted in ["|65001 65010|", "|30|", "65000:7"] {
                ensure!(line.contains(wanted), "no {wanted} in {line}");
            }
        }
    }
    Ok(())
}
