//! Routes of peers that are away for longer than their restart time (RFC 9494), with daemons that ask for it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{BOX, Bird, BirdVersion, State, wait_for};

use crate::Case;
use crate::cases::case;
use crate::rig::{OTHER_V4, PATIENCE, PEER_V4, Rig, established};

const BLOCK: &str = "10.244.20.0/26";
/// The other node says this one as well.
const BOTH: &str = "10.244.21.0/26";
/// It must not be kept for long (NO_LLGR).
const SHORT: &str = "10.244.22.0/26";

pub(crate) fn all() -> Vec<Case> {
    vec![case(
        "bird-2: away for longer than its restart time, its routes are the last choice",
        last_choice,
    )]
}

fn node(rig: &Rig, name: &str, address: std::net::IpAddr, blocks: &[&str], more: &str) -> Result<Bird> {
    let routes: String = blocks
        .iter()
        .map(|block| {
            let forbidden = if *block == SHORT {
                " { bgp_community.add((65535,7)); }"
            } else {
                ""
            };
            format!("route {block} blackhole{forbidden}; ")
        })
        .collect();
    let text = format!(
        "log stderr all;\nrouter id {address};\nprotocol device {{ }}\nprotocol static {{ ipv4; {routes} }}\n\
         protocol bgp box {{ local as 64512; neighbor {} as 64512; source address {address}; hold time 9; connect delay time 1; connect retry time 2; error wait time 1,2;\n\
         {more}\n ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n",
        BOX.v4
    );
    let netns = if name == "other" { &rig.other } else { &rig.peer };
    Bird::start(&rig.state, name, netns, BirdVersion::V2, &text)
}

fn last_choice(state: &State) -> Result<()> {
    const RESTART: &str = "graceful restart on; graceful restart time 3; long lived graceful restart on; long lived stale time 40;";
    let rig = Rig::new(state)?;
    let neighbours = format!(
        "[[bgp.peers]]\nname = \"peer\"\naddress = \"{PEER_V4}\"\nasn = 64512\nrole = \"cluster\"\n\
         [[bgp.peers]]\nname = \"other\"\naddress = \"{OTHER_V4}\"\nasn = 64512\nrole = \"cluster\"\n"
    );
    let mut appliance = rig.start_with("required", "9s", &neighbours)?;
    let peer = node(&rig, "peer", PEER_V4, &[BLOCK, BOTH, SHORT], RESTART)?;
    for block in [BLOCK, BOTH, SHORT] {
        rig.wait_route(&mut appliance, block, PEER_V4)?;
    }
    // Behind the other one in every way: its identifier is higher.
    let _other = node(&rig, "other", OTHER_V4, &[BOTH], "")?;
    wait_for("the other node", PATIENCE, || established(&appliance, "other"))?;
    std::thread::sleep(Duration::from_secs(1));
    peer.daemon.signal(Signal::SIGKILL)?;
    drop(peer);
    // After three seconds NO_LLGR counts, and the other node goes first.
    rig.wait_gone(&mut appliance, SHORT, Duration::from_secs(20))?;
    rig.wait_route(&mut appliance, BOTH, OTHER_V4)?;
    rig.wait_route(&mut appliance, BLOCK, PEER_V4)
        .context("nobody else says it")?;
    let routes = appliance.json(&["routes", BLOCK])?.to_string();
    for wanted in ["65535:6", "\"stale\":true"] {
        ensure!(routes.contains(wanted), "no {wanted} in {routes}");
    }
    ensure!(established(&appliance, "peer").is_err(), "it is back already");
    // It comes back: what it says again is as good as before.
    let peer = node(&rig, "peer", PEER_V4, &[BLOCK, BOTH], RESTART)?;
    wait_for("its routes to be fresh", PATIENCE, || {
        ensure!(
            rig.kernel(BLOCK)?.is_some(),
            "{BLOCK} is gone while it comes back"
        );
        let routes = appliance.json(&["routes", BLOCK])?.to_string();
        ensure!(!routes.contains("65535:6"), "{routes}");
        ensure!(routes.contains("\"stale\":false"), "{routes}");
        Ok(())
    })?;
    // Away for good: the long time ends as well.
    peer.daemon.signal(Signal::SIGKILL)?;
    drop(peer);
    rig.wait_gone(&mut appliance, BLOCK, Duration::from_secs(70))?;
    match rig.kernel(BOTH)? {
        Some(_) => Ok(()),
        None => bail!("the other node's route went as well"),
    }
}
