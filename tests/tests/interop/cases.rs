//! What is shown with each daemon.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Lab, Manifests, NODE1, NODE2, NODE3, State, wait_for};

use crate::Case;
use crate::peer::{KINDS, Kind, Peer, Setup};
use crate::rig::{Neighbour, OTHER_V4, PATIENCE, PEER_V4, Rig, established};
use crate::speaker::{self, Speaker};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = vec![case("lab: nodes mesh and pods reach each other", lab_stands)];
    for kind in KINDS {
        let named = |what: &str, run: fn(&State, Kind) -> Result<()>| {
            case(&format!("{}: {what}", kind.name()), move |state| run(state, kind))
        };
        cases.push(named(
            "box dials, learns, loses what is withdrawn, survives a restart",
            dials,
        ));
        cases.push(named("box is dialled and learns", is_dialled));
        cases.push(named("both dial and one connection is left", both_dial));
        cases.push(named("silence for the hold time ends the session", falls_silent));
        cases.push(named("hears a VIP while it can serve", hears_vip));
    }
    cases.push(case(
        "raw: malformed UPDATEs are withdrawn, the session stays",
        malformed,
    ));
    cases.push(case(
        "raw: hostile messages end a session, never the process",
        hostile,
    ));
    cases.extend(crate::features::all());
    cases.extend(crate::calico::all());
    cases.extend(crate::reannounce::all());
    cases.extend(crate::restart::all());
    cases.extend(crate::collectors::all());
    cases.extend(crate::long_lived::all());
    cases.extend(crate::bfd::all());
    cases
}

pub(crate) fn case(name: &str, run: impl Fn(&State) -> Result<()> + 'static) -> Case {
    Case {
        name: name.to_owned(),
        run: Box::new(run),
    }
}

/// The lab without the appliance.
fn lab_stands(state: &State) -> Result<()> {
    let mut lab = Lab::raise(state)?;
    lab.start_pod(NODE1, "web-1", NODE1.pod(2))?;
    lab.start_pod(NODE3, "web-3", NODE1.pod(5))?;
    lab.wait_for_mesh(PATIENCE)?;
    let borrowed = NODE1.pod(5).v4;
    let (bird, _) = lab.bird(NODE2)?;
    wait_for("the borrowed address", PATIENCE, || {
        bird.need_route(&format!("{borrowed}/32"), "Mesh_node3")
    })?;
    ensure!(
        bird.birdc("show route all")?.contains("BGP.local_pref"),
        "no LOCAL_PREF in the mesh"
    );
    let from = lab.pods.get("web-1").context("web-1")?.netns();
    wait_for("web-1 to reach web-3 across nodes", PATIENCE, || {
        from.enter(|| {
            let address = (borrowed, sekisho_tests::lab::Pod::HTTP).into();
            Ok(std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)?)
        })
    })?;
    Ok(())
}

fn cluster(kind: Kind, passive: bool) -> Neighbour {
    Neighbour {
        name: "peer",
        address: kind.address(),
        asn: 64512,
        role: "cluster",
        passive,
    }
}

fn setup(kind: Kind, passive: bool, hold: u32) -> Setup {
    Setup {
        kind,
        asn: 64512,
        passive,
        hold,
        ..Setup::default()
    }
}

fn dials(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let setup = setup(kind, true, 9);
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let mut appliance = rig.start("required", "9s", &[cluster(kind, false)])?;
    for (blocks, via) in kind.blocks() {
        for block in blocks {
            rig.wait_route(&mut appliance, block, via)?;
            ensure!(
                appliance.json(&["routes"])?.to_string().contains(block),
                "`sekisho routes` lacks {block}"
            );
        }
    }
    peer.established()?;
    established(&appliance, "peer")?;

    peer.withdraw_first()?;
    for ([first, second], via) in kind.blocks() {
        rig.wait_gone(&mut appliance, first, PATIENCE)?;
        rig.wait_route(&mut appliance, second, via)?;
    }

    drop(peer);
    let peer = Peer::start(state, &rig.peer, &setup)?;
    for (blocks, via) in kind.blocks() {
        for block in blocks {
            rig.wait_route(&mut appliance, block, via)
                .context("after the peer's restart")?;
        }
    }
    wait_for("the session after the peer's restart", PATIENCE, || {
        peer.established()
    })?;
    appliance.stop(PATIENCE)?;
    for (blocks, _) in kind.blocks() {
        for block in blocks {
            ensure!(
                rig.kernel(block)?.is_none(),
                "{block} was left in the kernel after an orderly stop"
            );
        }
    }
    Ok(())
}

fn is_dialled(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut appliance = rig.start("required", "9s", &[cluster(kind, true)])?;
    let peer = Peer::start(state, &rig.peer, &setup(kind, false, 9))?;
    for ([first, _], via) in kind.blocks() {
        rig.wait_route(&mut appliance, first, via)?;
    }
    peer.established()
}

fn both_dial(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let peer = Peer::start(state, &rig.peer, &setup(kind, false, 9))?;
    let mut appliance = rig.start("required", "9s", &[cluster(kind, false)])?;
    for ([first, _], via) in kind.blocks() {
        rig.wait_route(&mut appliance, first, via)?;
    }
    wait_for("both to agree", PATIENCE, || {
        peer.established()?;
        established(&appliance, "peer")
    })?;
    let connections = rig.the_box.connections_to(kind.address(), 179)?.len()
        + rig
            .peer
            .connections_to(
                if kind.address().is_ipv4() {
                    sekisho_tests::lab::BOX.v4.into()
                } else {
                    sekisho_tests::lab::BOX.v6.into()
                },
                179,
            )?
            .len();
    ensure!(connections == 1, "{connections} BGP connections are open");
    Ok(())
}

fn falls_silent(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    // The lower hold time wins, so the box's 3 s do.
    let setup = Setup {
        // It has the N bit: silence would be a restart for it (RFC 8538).
        graceful_restart: kind != Kind::Frr,
        ..setup(kind, false, 90)
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let mut appliance = rig.start("required", "3s", &[cluster(kind, false)])?;
    for ([first, _], via) in kind.blocks() {
        rig.wait_route(&mut appliance, first, via)?;
    }
    peer.signal(Signal::SIGSTOP)?;
    for ([first, _], _) in kind.blocks() {
        rig.wait_gone(&mut appliance, first, Duration::from_secs(15))
            .context("after the hold time")?;
    }
    ensure!(
        established(&appliance, "peer").is_err(),
        "a silent peer counts as established"
    );
    peer.signal(Signal::SIGCONT)?;
    for ([first, _], via) in kind.blocks() {
        rig.wait_route(&mut appliance, first, via)
            .context("after it spoke again")?;
    }
    Ok(())
}

fn hears_vip(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let setup = Setup {
        kind,
        asn: 64500,
        ..Setup::default()
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let upstream = Neighbour {
        name: "peer",
        address: kind.address(),
        asn: 64500,
        role: "upstream",
        passive: false,
    };
    let appliance = rig.start("off", "9s", &[upstream])?;
    wait_for("the session", PATIENCE, || peer.established())?;
    for vip in kind.vips() {
        ensure!(
            peer.heard(vip).is_err(),
            "{vip} is announced before anything can serve"
        );
    }
    let pod = rig.serve()?;
    for vip in kind.vips() {
        wait_for(&format!("{vip} to be announced"), PATIENCE, || peer.heard(vip))?;
    }
    // An upstream's routes are not for reaching pods.
    for ([first, _], _) in kind.blocks() {
        if let Some(line) = rig.kernel(first)? {
            bail!("a route of an upstream peer was installed: {line}");
        }
    }
    rig.manifests
        .write("web.yaml", &Manifests::service("web", "ClusterIP", &[]))?;
    for vip in kind.vips() {
        wait_for(&format!("{vip} to be withdrawn"), PATIENCE, || {
            match peer.heard(vip) {
                Err(_) => Ok(()),
                Ok(()) => bail!("still there"),
            }
        })?;
    }
    rig.manifests
        .write("web.yaml", &Manifests::service("web", "ClusterIP", &[pod]))?;
    for vip in kind.vips() {
        wait_for(&format!("{vip} to be announced again"), PATIENCE, || {
            peer.heard(vip)
        })?;
    }
    appliance.stop(PATIENCE)?;
    for vip in kind.vips() {
        ensure!(
            peer.heard(vip).is_err(),
            "{vip} is still there after an orderly stop"
        );
    }
    Ok(())
}

/// A bystander's route, which nothing that the raw speaker does may disturb.
const BYSTANDER: &str = "10.244.20.0/26";

fn with_bystander(state: &State) -> Result<(Rig, Peer, sekisho_tests::lab::Appliance)> {
    let rig = Rig::new(state)?;
    let peer = Peer::start(state, &rig.peer, &setup(Kind::Bird16, false, 9))?;
    let raw = Neighbour {
        name: "raw",
        address: OTHER_V4,
        asn: 64512,
        role: "cluster",
        passive: true,
    };
    let mut appliance = rig.start("required", "9s", &[cluster(Kind::Bird16, false), raw])?;
    rig.wait_route(&mut appliance, BYSTANDER, PEER_V4)?;
    Ok((rig, peer, appliance))
}

fn malformed(state: &State) -> Result<()> {
    let (rig, peer, mut appliance) = with_bystander(state)?;
    let mut speaker = Speaker::open(&rig.other, 21)?;
    for (what, attributes) in speaker::malformed() {
        // First well-formed, so that it is there; then malformed, which must take it away and keep the session.
        speaker.announce(&speaker::good())?;
        rig.wait_route(&mut appliance, speaker::PREFIX, OTHER_V4)
            .context(what)?;
        speaker.announce(&attributes)?;
        rig.wait_gone(&mut appliance, speaker::PREFIX, PATIENCE)
            .context(what)?;
        speaker.alive().context(what)?;
    }
    speaker.announce(&speaker::good())?;
    rig.wait_route(&mut appliance, speaker::PREFIX, OTHER_V4)?;
    ensure!(rig.kernel(BYSTANDER)?.is_some(), "the bystander lost its route");
    peer.established()
}

fn hostile(state: &State) -> Result<()> {
    let (rig, peer, mut appliance) = with_bystander(state)?;
    // Each from an address of its own: a peer that misbehaves again and again is kept waiting longer and longer.
    for (number, (what, message)) in (128..).zip(speaker::hostile()) {
        rig.other.ip(&format!("addr add 10.0.0.{number}/32 dev eth0"))?;
        let mut speaker = Speaker::open(&rig.other, number).context(what)?;
        speaker.send(&message)?;
        // Whether it is answered with a NOTIFICATION is its affair; that it lives is ours.
        speaker.read_to_notification_or_quiet();
        drop(speaker);
        appliance.daemon.check().context(what)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    appliance.daemon.check()?;
    ensure!(rig.kernel(BYSTANDER)?.is_some(), "the bystander lost its route");
    peer.established()?;
    let mut speaker = Speaker::open(&rig.other, 21)?;
    speaker.announce(&speaker::good())?;
    rig.wait_route(&mut appliance, speaker::PREFIX, OTHER_V4)?;
    Ok(())
}
