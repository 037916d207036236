//! The box passes on what it learnt: as a route reflector, and to a router above.

use anyhow::{Result, bail, ensure};
use sekisho_tests::lab::{BOX, Bird, BirdVersion, State, wait_for};

use crate::Case;
use crate::calico::{Cluster, Node, address, block};
use crate::cases::case;
use crate::peer::{Kind, Peer, Setup};
use crate::rig::{PATIENCE, PEER_V4, Rig, shown};

pub(crate) fn all() -> Vec<Case> {
    vec![
        case(
            "reannounce: the box reflects for nodes, all paths and the best",
            reflects,
        ),
        case(
            "reannounce: a router of another AS hears pods once it is told so",
            to_a_router,
        ),
    ]
}

fn reflects(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut cluster = Cluster::new(state, &[1, 2, 3])?;
    let shared = "10.244.250.0/26".to_owned();
    let node = |number: u8, more: &str| Node {
        blocks: if number < 3 {
            vec![block(number), shared.clone()]
        } else {
            vec![block(number)]
        },
        to_box: Some(more.to_owned()),
        ..Node::new(number)
    };
    for number in 1..=3 {
        cluster.set(&node(number, ""))?;
    }
    let range = "[[bgp.peer_ranges]]\nprefix = \"10.0.0.0/24\"\nasn = 64512\nrole = \"cluster\"\n";
    let clients =
        format!("cluster_id = \"10.9.9.9\"\n{range}reannounce = \"pods\"\nroute_reflector_client = true\n");
    let mut appliance = rig.start_with("required", "9s", &clients)?;
    let told = |cluster: &Cluster, at: u8, prefix: &str| -> Result<String> {
        cluster
            .bird(at)?
            .birdc(&format!("show route {prefix} protocol Sekisho all"))
    };
    for at in 1..=3 {
        for of in (1..=3).filter(|of| *of != at) {
            wait_for(&format!("the block of node {of} at node {at}"), PATIENCE, || {
                appliance.daemon.check()?;
                let told = told(&cluster, at, &block(of))?;
                for wanted in [
                    format!("BGP.next_hop: {}", address(of)),
                    format!("BGP.originator_id: {}", address(of)),
                    "BGP.cluster_list: 10.9.9.9".to_owned(),
                    "BGP.as_path: \n".to_owned(),
                    "BGP.local_pref: 100".to_owned(),
                ] {
                    ensure!(told.contains(&wanted), "no {wanted:?} in {told}");
                }
                Ok(())
            })?;
        }
        let own = told(&cluster, at, &block(at))?;
        ensure!(
            !own.contains("BGP.next_hop"),
            "node {at} hears its own block: {own}"
        );
    }
    // ADD-PATH: node 3 has both ways to what nodes 1 and 2 share.
    wait_for("both paths at node 3", PATIENCE, || {
        let told = told(&cluster, 3, &shared)?;
        for of in [1, 2] {
            ensure!(told.contains(&format!("BGP.next_hop: {}", address(of))), "{told}");
        }
        Ok(())
    })?;
    // One of them ends, and only that path is taken back.
    cluster.set(&Node {
        blocks: vec![block(1)],
        ..node(1, "")
    })?;
    wait_for("one path left at node 3", PATIENCE, || {
        let told = told(&cluster, 3, &shared)?;
        ensure!(told.contains(&format!("BGP.next_hop: {}", address(2))), "{told}");
        ensure!(!told.contains(&format!("BGP.next_hop: {}", address(1))), "{told}");
        Ok(())
    })?;

    // Without ADD-PATH at node 3: one path, replaced when a better one comes.
    cluster.set(&node(3, "add paths off;"))?;
    wait_for("the path of node 2", PATIENCE, || {
        let told = told(&cluster, 3, &shared)?;
        ensure!(told.contains(&format!("BGP.next_hop: {}", address(2))), "{told}");
        Ok(())
    })?;
    cluster.set(&node(1, ""))?;
    wait_for("the path of node 1, the lower router id", PATIENCE, || {
        let told = told(&cluster, 3, &shared)?;
        ensure!(told.contains(&format!("BGP.next_hop: {}", address(1))), "{told}");
        ensure!(!told.contains(&format!("BGP.next_hop: {}", address(2))), "{told}");
        Ok(())
    })?;

    // Nobody is a client any more: inside one AS nothing is passed on, and what was is taken back, sessions untouched.
    let plain = format!("cluster_id = \"10.9.9.9\"\n{range}reannounce = \"pods\"\n");
    rig.reload(&appliance, "required", "9s", &plain)?;
    wait_for("everything to be taken back", PATIENCE, || {
        cluster.heard_nothing()
    })?;
    for number in 1..=3 {
        let name = address(number).to_string();
        let flaps = shown(&appliance, &name)?
            .get("flaps")
            .cloned()
            .unwrap_or_default();
        let had = if number == 3 { 1 } else { 0 };
        ensure!(flaps == had, "the session with {name} was lost {flaps} times");
    }
    Ok(())
}

fn to_a_router(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut cluster = Cluster::new(state, &[1, 2])?;
    for number in [1, 2] {
        cluster.set(&Node::new(number))?;
    }
    let text = format!(
        "log stderr all;\nrouter id {PEER_V4};\nprotocol device {{ }}\n\
         protocol bgp box {{ local as 64500; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2;\n\
         ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}\n",
        BOX.v4
    );
    let bird = Bird::start(state, "router", &rig.peer, BirdVersion::V2, &text)?;
    let neighbours = |more: &str| {
        format!(
            "[[bgp.rules]]\nname = \"no-node-2\"\nprefixes = [\"{}\"]\nthen = \"reject\"\n\
             [[bgp.rules]]\nname = \"mark\"\nadd_communities = [\"64512:7\", \"64512:1:7\"]\nprepend = 1\nthen = \"accept\"\n\
             [[bgp.peer_ranges]]\nprefix = \"10.0.0.0/28\"\nasn = 64512\nrole = \"cluster\"\n\
             [[bgp.peers]]\nname = \"router\"\naddress = \"{PEER_V4}\"\nasn = 64500\nrole = \"upstream\"\n{more}",
            block(2)
        )
    };
    let mut appliance = rig.start_with("required", "9s", &neighbours(""))?;
    rig.wait_route(&mut appliance, &block(1), address(1))?;
    wait_for("the router's session", PATIENCE, || bird.established("box"))?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    ensure!(
        bird.need_route(&block(1), "box").is_err(),
        "a router hears pods without being told so"
    );

    // Which paths it takes is agreed in the OPEN, so this is a new session.
    let told = |wanted: &[&str], not: &str| -> Result<()> {
        let ((), _) = wait_for("the block as told", PATIENCE, || {
            let told = bird.birdc(&format!("show route {} all", block(1)))?;
            for wanted in wanted {
                ensure!(told.contains(wanted), "no {wanted:?} in {told}");
            }
            ensure!(not.is_empty() || !told.contains(not), "{not:?} in {told}");
            Ok(())
        })?;
        Ok(())
    };
    rig.reload(
        &appliance,
        "required",
        "9s",
        &neighbours("reannounce = \"pods\"\nexport = [\"no-node-2\", \"mark\"]\n"),
    )?;
    told(
        &[
            "BGP.next_hop: 10.0.0.10",
            "BGP.as_path: 64512 64512\n",
            "(64512,7)",
            "(64512, 1, 7)",
        ],
        "local_pref: 2",
    )?;
    match bird.need_route(&block(2), "box") {
        Err(_) => {}
        Ok(()) => bail!("a rule keeps {} back, yet it came", block(2)),
    }
    let unchanged = "reannounce = \"pods\"\nnext_hop = \"unchanged\"\n";
    rig.reload(&appliance, "required", "9s", &neighbours(unchanged))?;
    told(&["BGP.next_hop: 10.0.0.11", "BGP.as_path: 64512\n"], "(64512,7)")?;
    wait_for("what the rule kept back", PATIENCE, || {
        bird.need_route(&block(2), "box")
    })?;
    let flaps = shown(&appliance, "router")?
        .get("flaps")
        .cloned()
        .unwrap_or_default();
    ensure!(
        flaps == 0,
        "rules and next hop change nothing of the session, yet it was lost {flaps} times"
    );

    // A node takes its block back; the router hears it.
    cluster.set(&Node {
        blocks: vec!["10.244.9.0/26".to_owned()],
        ..Node::new(1)
    })?;
    wait_for("the change at the router", PATIENCE, || {
        bird.need_route("10.244.9.0/26", "box")?;
        match bird.need_route(&block(1), "box") {
            Err(_) => Ok(()),
            Ok(()) => bail!("{} is still there", block(1)),
        }
    })?;
    cluster.heard_nothing()?;

    // FRR reads the same announcements.
    drop(bird);
    let frr = Peer::start(
        state,
        &rig.peer,
        &Setup {
            kind: Kind::Frr,
            asn: 64500,
            blocks: false,
            ..Setup::default()
        },
    )?;
    wait_for("FRR to hear pods", PATIENCE, || frr.heard("10.244.9.0/26"))?;
    Ok(())
}
