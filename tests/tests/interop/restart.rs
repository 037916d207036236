//! The box as the speaker that restarts (RFC 4724): daemons keep its VIPs meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Appliance, EndpointPod, Manifests, NODE1, State, wait_for};

use crate::Case;
use crate::cases::case;
use crate::peer::{Kind, Peer, Setup};
use crate::rig::{PATIENCE, Rig, established};

/// The VIP of a Service that goes while the box is away.
const GONE: &str = "203.0.113.2/32";

pub(crate) fn all() -> Vec<Case> {
    let kinds = [
        Kind::Bird16,
        Kind::Bird16Ipv6,
        Kind::Bird2,
        Kind::Frr,
        Kind::GoBgp,
    ];
    let restarts = kinds.map(|kind| {
        case(
            &format!("{}: the box restarts, its VIPs stay", kind.name()),
            move |state| restarts(state, kind),
        )
    });
    let mut cases: Vec<_> = restarts.into();
    cases.push(case(
        "bird-2: the box is asked to restart and not to be waited for",
        not_asked,
    ));
    cases
}

fn neighbour(kind: Kind) -> String {
    format!(
        "[[bgp.peers]]\nname = \"peer\"\naddress = \"{}\"\nasn = 64500\nrole = \"upstream\"\n",
        kind.address()
    )
}

/// Whether it has `prefix` in use, stale or not.
fn uses(peer: &Peer, kind: Kind, prefix: &str) -> Result<()> {
    if kind != Kind::GoBgp {
        return peer.heard(prefix);
    }
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let table = peer.gobgp(&format!("global rib -a {family}"))?;
    ensure!(table.contains(prefix), "{}", table.trim());
    Ok(())
}

fn has_ended(appliance: &mut Appliance) -> Result<()> {
    wait_for(
        "the process to end",
        Duration::from_secs(10),
        || match appliance.daemon.check() {
            Err(_) => Ok(()),
            Ok(()) => bail!("still running"),
        },
    )?;
    Ok(())
}

fn restarts(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let more = EndpointPod {
        pod: "more-1".into(),
        node: "node1".into(),
        address: NODE1.pod(9),
        ready: true,
    };
    let setup = Setup {
        kind,
        asn: 64500,
        ..Setup::default()
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let text = format!(
        "graceful_restart = true\nrestart_time = \"40s\"\n{}",
        neighbour(kind)
    );
    let stay = |when: &str| -> Result<()> {
        for vip in kind.vips() {
            uses(&peer, kind, vip).with_context(|| format!("{vip} is gone {when}"))?;
            let address = vip.split('/').next().unwrap_or(vip);
            let family = if address.contains(':') { "-6" } else { "-4" };
            let local = rig
                .the_box
                .ip(&format!("{family} route show table local proto 94"))?;
            ensure!(local.contains(address), "{vip} is not local {when}: {local}");
        }
        Ok(())
    };
    for how in [Signal::SIGUSR2, Signal::SIGKILL] {
        rig.manifests.write(
            "more.yaml",
            &Manifests::service("more", "LoadBalancer", std::slice::from_ref(&more)),
        )?;
        let mut appliance = rig.start_with("off", "9s", &text)?;
        let vips = kind.vips();
        let second = (kind != Kind::Bird16Ipv6).then_some(GONE);
        for vip in vips.iter().copied().chain(second) {
            wait_for(&format!("{vip} before {how}"), PATIENCE, || {
                uses(&peer, kind, vip)
            })?;
        }
        wait_for("the session", PATIENCE, || established(&appliance, "peer"))?;
        // Until it has said its End-of-RIB a peer need not keep anything.
        std::thread::sleep(Duration::from_secs(1));
        appliance.daemon.signal(how)?;
        has_ended(&mut appliance)?;
        drop(appliance);
        wait_for("the peer to see it", PATIENCE, || match peer.established() {
            Err(_) => Ok(()),
            Ok(()) => bail!("still established"),
        })?;
        stay("while the box is away")?;
        rig.manifests
            .write("more.yaml", &Manifests::service("more", "LoadBalancer", &[]))?;
        std::thread::sleep(Duration::from_secs(2));
        stay("two seconds later")?;
        let mut appliance = rig.start_with("off", "9s", &text)?;
        wait_for("the session again", PATIENCE, || {
            appliance.daemon.check()?;
            stay("while the box comes back")?;
            peer.established()
        })?;
        // What cannot serve any more is withheld, and the peer lets go of it when the box has told everything.
        if let Some(gone) = second {
            wait_for(
                "the VIP that is not there any more to go",
                Duration::from_secs(60),
                || {
                    stay("while the box tells")?;
                    match uses(&peer, kind, gone) {
                        Err(_) => Ok(()),
                        Ok(()) => bail!("{gone} is still there"),
                    }
                },
            )?;
        }
        stay("after it is back")?;
        appliance.stop(PATIENCE)?;
        // An orderly stop leaves nothing.
        for vip in kind.vips() {
            wait_for("the VIPs to be withdrawn at a stop", PATIENCE, || {
                match uses(&peer, kind, vip) {
                    Err(_) => Ok(()),
                    Ok(()) => bail!("{vip} is still there"),
                }
            })?;
        }
    }
    Ok(())
}

fn not_asked(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let setup = Setup {
        asn: 64500,
        ..Setup::default()
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let mut appliance = rig.start_with("off", "9s", &neighbour(Kind::Bird2))?;
    let vip = "203.0.113.1/32";
    wait_for("the VIP", PATIENCE, || peer.heard(vip))?;
    appliance.daemon.signal(Signal::SIGUSR2)?;
    wait_for("it to be withdrawn", PATIENCE, || match peer.heard(vip) {
        Err(_) => Ok(()),
        Ok(()) => bail!("still there"),
    })?;
    has_ended(&mut appliance)?;
    let local = rig.the_box.ip("-4 route show table local proto 94")?;
    ensure!(local.trim().is_empty(), "{local}");
    Ok(())
}
