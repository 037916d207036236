//! BFD with BIRD and FRR. Hold times are long, so that whatever happens soon is not their doing; how soon is not judged.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Appliance, BOX, Bird, BirdVersion, State, wait_for};
use serde_json::Value;

use crate::Case;
use crate::cases::case;
use crate::peer::{Frr, Kind, Setup, configuration};
use crate::rig::{PATIENCE, PEER_V4, Rig, established, find};

/// Longer than every wait of a case: what is gone before was not ended by the hold timer.
const HOLD: u32 = 900;
const HOLD_TEXT: &str = "900s";

const BFD: &str = "[bgp.peers.bfd]\ninterval = \"100ms\"\nmultiplier = 5\n";

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Kind::Bird16, Kind::Bird16Ipv6, Kind::Bird2] {
        cases.push(case(
            &format!("{}: BFD notices a cut wire and a dead daemon", kind.name()),
            move |state| bird(state, kind, Hops::One),
        ));
    }
    cases.push(case("bird-2: BFD over several hops", |state| {
        bird(state, Kind::Bird2, Hops::Many)
    }));
    cases.push(case(
        "bird-2: BFD strict holds the session back until it is up",
        strict,
    ));
    cases.push(case(
        "bird-2: BFD is optional: a peer without it is a peer",
        |state| {
            let rig = Rig::new(state)?;
            let _bird = start_bird(&rig, Kind::Bird2, &configuration::bird(&setup(Kind::Bird2)))?;
            let mut appliance = start(&rig, Kind::Bird2, BFD)?;
            rig.wait_route(&mut appliance, FIRST, PEER_V4)?;
            bfd_state(&appliance, "down").map(drop)
        },
    ));
    for algorithm in [
        "keyed md5",
        "meticulous keyed md5",
        "keyed sha1",
        "meticulous keyed sha1",
    ] {
        cases.push(case(&format!("bird-2: BFD with {algorithm}"), move |state| {
            authenticated(state, algorithm)
        }));
    }
    cases.push(case("frr: BFD notices a cut wire; AdminDown ends nothing", frr));
    cases
}

fn setup(kind: Kind) -> Setup {
    Setup {
        graceful_restart: true,
        hold: HOLD,
        kind,
        ..Setup::default()
    }
}

/// A block that the peer announces.
const FIRST: &str = "10.244.20.0/26";

/// The box with this neighbour, `more` lines for it.
fn start(rig: &Rig, kind: Kind, more: &str) -> Result<Appliance> {
    let address = kind.address();
    let peer = format!(
        "[[bgp.peers]]\nname = \"peer\"\naddress = \"{address}\"\nasn = 64512\nrole = \"cluster\"\n{more}"
    );
    rig.start_with("required", HOLD_TEXT, &peer)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Hops {
    One,
    Many,
}

fn start_bird(rig: &Rig, kind: Kind, configuration: &str) -> Result<Bird> {
    let version = match kind {
        Kind::Bird16 => BirdVersion::V16Ipv4,
        Kind::Bird16Ipv6 => BirdVersion::V16Ipv6,
        _ => BirdVersion::V2,
    };
    Bird::start(&rig.state, "peer", &rig.peer, version, configuration)
}

/// BIRD's configuration with BFD.
fn with_bfd(kind: Kind, hops: Hops) -> String {
    let base = configuration::bird(&setup(kind));
    // BIRD takes a peer of its own AS for one of several hops unless it is told otherwise.
    let many = if hops == Hops::Many {
        "multihop 3; "
    } else {
        "direct; "
    };
    let timing = "min rx interval 100 ms; min tx interval 100 ms; idle tx interval 1000 ms; multiplier 5;";
    format!(
        "{}protocol bfd {{ interface \"*\" {{ {timing} }}; multihop {{ {timing} }}; }}\n",
        base.replace("connect delay", &format!("bfd on; {many}connect delay"))
    )
}

fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

/// Fails unless the box says that the BFD session is in this state.
fn bfd_state(appliance: &Appliance, want: &str) -> Result<Value> {
    let peers = appliance.json(&["peers"])?;
    let peer = find(&peers, "peer").context("no peer")?;
    let state = peer.pointer("/bfd/state").and_then(Value::as_str);
    ensure!(
        state == Some(want),
        "BFD is {state:?}: {:.600}",
        field(peer, "bfd").to_string()
    );
    Ok(field(peer, "bfd").clone())
}

fn wait_bfd(appliance: &Appliance, want: &str) -> Result<()> {
    wait_for(&format!("BFD to be {want}"), PATIENCE, || {
        bfd_state(appliance, want).map(drop)
    })
    .map(drop)
}

/// The session ended because of BFD and nothing else.
fn ended_by_bfd(appliance: &Appliance) -> Result<()> {
    let (_, _) = wait_for("the session to end by BFD", PATIENCE, || {
        let peers = appliance.json(&["peers"])?;
        let peer = find(&peers, "peer").context("no peer")?;
        let said = peer
            .pointer("/last_error/text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        ensure!(said.contains("6/10 Cease, BFD Down"), "last error: {said:?}");
        Ok(())
    })?;
    Ok(())
}

fn routes(rig: &Rig, appliance: &mut Appliance, kind: Kind) -> Result<()> {
    for ([first, second], via) in kind.blocks() {
        rig.wait_route(appliance, first, via)?;
        rig.wait_route(appliance, second, via)?;
    }
    Ok(())
}

/// Every route is in the kernel at this moment.
fn kept(rig: &Rig, kind: Kind) -> Result<()> {
    for block in kind.blocks().iter().flat_map(|(blocks, _)| blocks) {
        ensure!(rig.kernel(block)?.is_some(), "{block} is gone");
    }
    Ok(())
}

fn no_routes(rig: &Rig, appliance: &mut Appliance, kind: Kind) -> Result<()> {
    for (blocks, _) in kind.blocks() {
        for block in blocks {
            rig.wait_gone(appliance, block, PATIENCE)?;
        }
    }
    Ok(())
}

fn bird(state: &State, kind: Kind, hops: Hops) -> Result<()> {
    let rig = Rig::new(state)?;
    let configuration = with_bfd(kind, hops);
    let mut bird = start_bird(&rig, kind, &configuration)?;
    let more = match hops {
        Hops::One => BFD.to_owned(),
        Hops::Many => format!("multihop = 3\n{BFD}min_ttl = 64\n"),
    };
    let mut appliance = start(&rig, kind, &more)?;
    routes(&rig, &mut appliance, kind)?;
    wait_bfd(&appliance, "up")?;
    wait_for("BIRD to have it up as well", PATIENCE, || {
        let text = bird.birdc("show bfd sessions")?;
        ensure!(text.contains(" Up "), "{text}");
        Ok(())
    })?;
    let shown = bfd_state(&appliance, "up")?;
    ensure!(*field(&shown, "multihop") == (hops == Hops::Many), "{shown}");
    ensure!(
        *field(&shown, "transmit_interval_microseconds") == 100_000,
        "{shown}"
    );
    ensure!(
        *field(&shown, "detection_time_microseconds") == 500_000,
        "{shown}"
    );

    // The box's own interface stays up: nothing but BFD can notice.
    rig.peer.ip("link set eth0 down")?;
    no_routes(&rig, &mut appliance, kind).context("after the cut")?;
    ended_by_bfd(&appliance)?;
    rig.peer.ip("link set eth0 up")?;
    // IPv6 addresses go with the link.
    if kind == Kind::Bird16Ipv6 || hops == Hops::One && kind == Kind::Bird2 {
        let _ = rig
            .peer
            .ip(&format!("addr add {}/64 dev eth0 nodad", crate::rig::PEER_V6));
    }
    routes(&rig, &mut appliance, kind).context("after the cut is mended")?;
    wait_bfd(&appliance, "up")?;

    // A daemon that hangs: the connection stands, and its hold time is far away.
    bird.daemon.signal(Signal::SIGSTOP)?;
    no_routes(&rig, &mut appliance, kind).context("after it hangs")?;
    bird.daemon.signal(Signal::SIGCONT)?;
    routes(&rig, &mut appliance, kind).context("after it goes on")?;
    wait_bfd(&appliance, "up")?;

    // A daemon that is killed, and its BFD with it (no C bit): its routes are kept for a graceful restart (RFC 5882 section 4.3).
    std::thread::sleep(Duration::from_secs(1));
    bird.daemon.signal(Signal::SIGKILL)?;
    wait_bfd(&appliance, "down")?;
    std::thread::sleep(Duration::from_secs(1));
    kept(&rig, kind).context("after it is killed")?;
    drop(bird);
    bird = start_bird(&rig, kind, &configuration)?;
    wait_bfd(&appliance, "up")?;
    wait_for("it to be back", PATIENCE, || {
        kept(&rig, kind)?;
        established(&appliance, "peer")
    })?;

    appliance.stop(PATIENCE)?;
    drop(bird);
    Ok(())
}

fn authenticated(state: &State, algorithm: &str) -> Result<()> {
    let rig = Rig::new(state)?;
    let kind = Kind::Bird2;
    let plain = with_bfd(kind, Hops::One);
    let signed = |key: &str| {
        let begin = "protocol bfd {";
        ensure!(plain.contains(begin), "{plain}");
        let place = plain.find("min rx interval").context("no interval")?;
        let (before, after) = plain.split_at(place);
        Ok(format!(
            "{before}authentication {algorithm}; password \"{key}\" {{ id 3; }}; {after}"
        ))
    };
    let file = state.file("key");
    fs::write(&file, "four words of it\n")?;
    let more = format!(
        "{BFD}auth = \"3 {} {}\"\n",
        algorithm.replace(' ', "-"),
        file.display()
    );
    let bird = start_bird(&rig, kind, &signed("four words of it")?)?;
    let mut appliance = start(&rig, kind, &more)?;
    routes(&rig, &mut appliance, kind)?;
    wait_bfd(&appliance, "up")?;
    // It goes on: numbers follow each other as both sides have it.
    std::thread::sleep(Duration::from_secs(3));
    let shown = bfd_state(&appliance, "up")?;
    ensure!(*field(&shown, "failures") == 0, "{shown}");
    drop(bird);
    wait_bfd(&appliance, "down")?;
    // Whoever has another key is not heard, nor is one without.
    for text in [signed("four other words")?, plain.clone()] {
        let bird = start_bird(&rig, kind, &text)?;
        wait_for("the session", PATIENCE, || established(&appliance, "peer"))?;
        std::thread::sleep(Duration::from_secs(2));
        bfd_state(&appliance, "down")?;
        drop(bird);
    }
    let _bird = start_bird(&rig, kind, &signed("four words of it")?)?;
    wait_bfd(&appliance, "up")
}

fn strict(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let kind = Kind::Bird2;
    let bird = start_bird(&rig, kind, &with_bfd(kind, Hops::One).replace("bfd on; ", ""))?;
    let more = format!("{BFD}strict = true\n");
    let mut appliance = start(&rig, kind, &more)?;
    // BIRD dials all the time and is not let in.
    wait_for("BFD to hold the session back", PATIENCE, || {
        let bfd = bfd_state(&appliance, "down")?;
        ensure!(*field(&bfd, "holds_session") == true, "{bfd}");
        let metrics = appliance.json(&["peers"])?.to_string();
        ensure!(
            metrics.contains("\"idle\"") || metrics.contains("\"Idle\""),
            "{metrics:.400}"
        );
        Ok(())
    })?;
    ensure!(established(&appliance, "peer").is_err(), "it stands without BFD");
    drop(bird);
    let bird = start_bird(&rig, kind, &with_bfd(kind, Hops::One))?;
    routes(&rig, &mut appliance, kind)?;
    wait_bfd(&appliance, "up")?;
    bird.daemon.signal(Signal::SIGSTOP)?;
    no_routes(&rig, &mut appliance, kind)?;
    ended_by_bfd(&appliance)?;
    Ok(())
}

fn frr(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let bgp = configuration::frr(&setup(Kind::Frr)).replace(
        "remote-as 64512\n",
        &format!("remote-as 64512\n neighbor {} bfd 5 100 100\n", BOX.v4),
    );
    let frr = Frr::start(state, &rig.peer, &bgp, true)?;
    let mut appliance = start(&rig, Kind::Frr, BFD)?;
    routes(&rig, &mut appliance, Kind::Frr)?;
    wait_bfd(&appliance, "up").with_context(|| frr.bfdd(&["show bfd peers"]).unwrap_or_default())?;
    let text = frr.bfdd(&["show bfd peers"])?;
    ensure!(text.contains("Status: up"), "{text}");

    // Held down by the operator of FRR: BFD goes, BGP stays (RFC 5882 section 3.2).
    let before = field(&bfd_state(&appliance, "up")?, "failures").clone();
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("peer "))
        .context("no peer")?;
    let peer = line.trim().replace(" vrf default", "");
    frr.bfdd(&["configure terminal", "bfd", &peer, "shutdown"])?;
    wait_for("BFD to be held down", PATIENCE, || {
        let bfd = bfd_state(&appliance, "down")?;
        ensure!(*field(&bfd, "remote_state") == "admin_down", "{bfd}");
        ensure!(*field(&bfd, "failures") == before, "{bfd}");
        Ok(())
    })?;
    established(&appliance, "peer")?;
    match rig.kernel(FIRST)? {
        Some(_) => {}
        None => bail!("an AdminDown took the routes"),
    }
    frr.bfdd(&["configure terminal", "bfd", &peer, "no shutdown"])?;
    wait_bfd(&appliance, "up")?;
    routes(&rig, &mut appliance, Kind::Frr)?;

    rig.peer.ip("link set eth0 down")?;
    no_routes(&rig, &mut appliance, Kind::Frr).context("after the cut")?;
    ended_by_bfd(&appliance)?;
    drop(appliance);
    drop(frr);
    Ok(())
}
