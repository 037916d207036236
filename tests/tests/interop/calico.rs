//! Clusters as Calico builds them, out of BIRD 1.6: what the box makes of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Appliance, BOX, Bird, BirdVersion, Netns, State, switch, wait_for};
use serde_json::Value;

use crate::Case;
use crate::cases::case;
use crate::rig::{PATIENCE, Rig};

pub(crate) fn all() -> Vec<Case> {
    vec![
        case(
            "calico: three nodes in one AS, their life and a hijack",
            full_mesh,
        ),
        case("calico: fifty nodes in one AS", fifty_nodes),
        case(
            "calico: nodes of another AS, next hop self, kept, filtered",
            other_as,
        ),
        case("calico: route reflectors, with and without ADD-PATH", reflectors),
    ]
}

/// What Calico would render for a node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) version: BirdVersion,
    pub(crate) asn: u32,
    /// Sessions inside the cluster: the other node, and what its protocol says beyond the template.
    pub(crate) inside: Vec<(u8, &'static str)>,
    pub(crate) blocks: Vec<String>,
    /// Announced besides, past every filter of Calico's.
    pub(crate) rogue: Vec<String>,
    /// Of the session with the box, beyond the template; `None`: no such session.
    pub(crate) to_box: Option<String>,
    /// BGPFilter: what came over BGP is not passed on to the box.
    pub(crate) filtered: bool,
    /// Several daemons share a namespace: each keeps to its own address, and to itself.
    pub(crate) crowded: bool,
}

impl Node {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            number,
            version: BirdVersion::V16Ipv4,
            asn: 64512,
            inside: Vec::new(),
            blocks: vec![block(number)],
            rogue: Vec::new(),
            to_box: Some(String::new()),
            filtered: false,
            crowded: false,
        }
    }

    fn v6(number: u8) -> Self {
        Self {
            version: BirdVersion::V16Ipv6,
            blocks: vec![format!("fd00:244:0:{number}::/122")],
            ..Self::new(number)
        }
    }

    fn address(&self, number: u8) -> IpAddr {
        if self.version == BirdVersion::V16Ipv6 {
            format!("fd00:10::1{number}")
                .parse()
                .unwrap_or(IpAddr::V6(BOX.v6))
        } else {
            address(number)
        }
    }

    fn text(&self) -> String {
        let v6 = self.version == BirdVersion::V16Ipv6;
        let me = self.address(self.number);
        let (the_box, pool) = if v6 {
            (IpAddr::V6(BOX.v6), "fd00:244::/32")
        } else {
            (IpAddr::V4(BOX.v4), "10.244.0.0/16")
        };
        let mut out = format!("log stderr all;\nrouter id {};\n", address(self.number));
        if self.crowded {
            let _ = writeln!(out, "listen bgp address {me} port 179;");
        }
        out.push_str("function calico_aggr() {\n");
        for block in &self.blocks {
            let _ = writeln!(
                out,
                "  if ( net = {block} ) then accept;\n  if ( net ~ {block} ) then reject;"
            );
        }
        let rogue: Vec<_> = self
            .rogue
            .iter()
            .map(|prefix| format!("net = {prefix}"))
            .collect();
        let rogue = if rogue.is_empty() {
            String::new()
        } else {
            format!("  if ( {} ) then accept;\n", rogue.join(" || "))
        };
        let filtered = if self.filtered {
            "  if ( source ~ [ RTS_BGP ] ) then reject;\n"
        } else {
            ""
        };
        let _ = write!(
            out,
            "}}\n\
             function calico_priority() {{\n  if ( defined( krt_metric ) ) then bgp_local_pref = 2147483647 - krt_metric;\n}}\n\
             filter to_nodes {{\n  calico_priority();\n  if ( defined( krt_metric ) && krt_metric < 1024 && net ~ {pool} ) then accept;\n  \
             calico_aggr();\n  if ( net ~ {pool} ) then accept;\n  reject;\n}}\n\
             filter to_box {{\n  calico_priority();\n{rogue}{filtered}  \
             if ( defined( krt_metric ) && krt_metric < 1024 && net ~ {pool} ) then accept;\n  \
             calico_aggr();\n  if ( net ~ {pool} ) then accept;\n  reject;\n}}\n\
             protocol device {{ scan time 2; }}\n"
        );
        if !self.crowded {
            // What it lies about would take the node itself off its ways.
            let _ = write!(
                out,
                "filter to_kernel {{\n{}  accept;\n}}\n\
                 protocol kernel {{\n  learn; persist; scan time 1;\n  import all; export filter to_kernel;\n  \
                 graceful restart; merge paths on;\n}}\n\
                 protocol direct {{ interface -\"cali*\", \"*\"; }}\n",
                rogue.replace("accept", "reject")
            );
        }
        out.push_str("protocol static {\n");
        for prefix in self.blocks.iter().chain(&self.rogue) {
            let _ = writeln!(out, "  route {prefix} blackhole;");
        }
        let _ = write!(
            out,
            "}}\n\
             template bgp bgp_template {{\n  local as {};\n  multihop;\n  source address {me};\n  gateway recursive;\n  import all;\n  \
             export filter to_nodes;\n  add paths on;\n  graceful restart;\n  connect delay time 2;\n  connect retry time 5;\n  \
             error wait time 5,30;\n}}\n",
            self.asn
        );
        for (other, more) in &self.inside {
            // Of two nodes the one with the higher address is passive.
            let passive = if *other < self.number { "passive on;" } else { "" };
            let neighbor = self.address(*other);
            let _ = writeln!(
                out,
                "protocol bgp Node_{other} from bgp_template {{ neighbor {neighbor} as {}; {passive} {more} }}",
                self.asn
            );
        }
        if let Some(more) = &self.to_box {
            let _ = writeln!(
                out,
                "protocol bgp Sekisho from bgp_template {{ neighbor {the_box} as 64512; export filter to_box; {more} }}"
            );
        }
        out
    }
}

pub(crate) fn address(number: u8) -> IpAddr {
    IpAddr::V4([10, 0, 0, if number < 10 { 10 + number } else { 100 + number }].into())
}

pub(crate) fn block(number: u8) -> String {
    format!("10.244.{number}.0/26")
}

/// Nodes that run, each in a namespace of its own.
pub(crate) struct Cluster {
    state: State,
    homes: BTreeMap<u8, Netns>,
    birds: BTreeMap<(u8, bool), Bird>,
}

impl Cluster {
    pub(crate) fn new(state: &State, numbers: &[u8]) -> Result<Self> {
        let mut homes = BTreeMap::new();
        for number in numbers {
            let netns = Netns::create(&format!("node{number}"))?;
            let v6 = format!("fd00:10::1{number}/64");
            switch(
                "wire",
                &netns,
                "eth0",
                &[&format!("{}/24", address(*number)), &v6],
            )?;
            homes.insert(*number, netns);
        }
        Ok(Self {
            state: state.clone(),
            homes,
            birds: BTreeMap::new(),
        })
    }

    /// Starts a node's daemon, or gives the running one another configuration.
    pub(crate) fn set(&mut self, node: &Node) -> Result<()> {
        let v6 = node.version == BirdVersion::V16Ipv6;
        let name = format!("node{}{}", node.number, if v6 { "-6" } else { "" });
        if let Some(bird) = self.birds.get(&(node.number, v6)) {
            std::fs::write(self.state.file(&format!("{name}.conf")), node.text())?;
            let said = bird.order("configure")?;
            ensure!(said.contains("Reconfig"), "{said}");
            return Ok(());
        }
        let home = self.home(node.number)?;
        let bird = Bird::start(&self.state, &name, home, node.version, &node.text())?;
        self.birds.insert((node.number, v6), bird);
        Ok(())
    }

    /// The IPv4 daemon of a node.
    pub(crate) fn bird(&self, number: u8) -> Result<&Bird> {
        let bird = self.birds.get(&(number, false));
        bird.with_context(|| format!("no node {number}"))
    }

    fn home(&self, number: u8) -> Result<&Netns> {
        self.homes
            .get(&number)
            .with_context(|| format!("no node {number}"))
    }

    /// Fails if a node has any route from the box.
    pub(crate) fn heard_nothing(&self) -> Result<()> {
        for ((number, _), bird) in &self.birds {
            let told = bird.birdc("show route protocol Sekisho")?;
            ensure!(
                !told.contains("via") && !told.contains("unreachable"),
                "node {number} has routes from the box: {told}"
            );
        }
        Ok(())
    }
}

/// Next hops of the box's kernel for exactly `prefix`, sorted.
fn vias(rig: &Rig, prefix: &str) -> Result<Vec<String>> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let text = rig
        .the_box
        .routes(&format!("{family} route show exact {prefix}"))?;
    let mut vias: Vec<String> = text
        .split_whitespace()
        .zip(text.split_whitespace().skip(1))
        .filter(|(word, _)| *word == "via")
        .map(|(_, via)| via.to_owned())
        .collect();
    vias.sort();
    Ok(vias)
}

fn wait_vias(rig: &Rig, appliance: &mut Appliance, prefix: &str, numbers: &[u8]) -> Result<()> {
    let mut want: Vec<_> = numbers
        .iter()
        .map(|number| address(*number).to_string())
        .collect();
    want.sort();
    wait_for(&format!("{prefix} by way of {want:?}"), PATIENCE, || {
        appliance.daemon.check()?;
        let have = vias(rig, prefix)?;
        ensure!(have == want, "it is by way of {have:?}");
        Ok(())
    })?;
    Ok(())
}

/// The paths that `sekisho routes` has for exactly `prefix`.
fn paths(appliance: &Appliance, prefix: &str) -> Result<Vec<Value>> {
    let routes = appliance.json(&["routes"])?;
    let mut found = Vec::new();
    collect(&routes, prefix, &mut found);
    Ok(found)
}

fn collect(value: &Value, prefix: &str, found: &mut Vec<Value>) {
    if value.get("prefix").and_then(Value::as_str) == Some(prefix) {
        found.push(value.clone());
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, prefix, found)),
        Value::Object(fields) => fields.values().for_each(|item| collect(item, prefix, found)),
        _ => {}
    }
}

fn next_hops(paths: &[Value]) -> Vec<String> {
    let mut hops: Vec<_> = paths
        .iter()
        .filter_map(|path| Some(path.get("next_hop")?.as_str()?.to_owned()))
        .collect();
    hops.sort();
    hops
}

fn full_mesh(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let key = state.file("key");
    std::fs::write(&key, "calico\n")?;
    let mut cluster = Cluster::new(state, &[1, 2, 3])?;
    let others = |number: u8| {
        (1..=3)
            .filter(|other| *other != number)
            .map(|other| (other, ""))
            .collect()
    };
    let mut nodes: Vec<Node> = (1..=3)
        .map(|number| Node {
            inside: others(number),
            to_box: Some("password \"calico\";".into()),
            ..Node::new(number)
        })
        .collect();
    for node in &nodes {
        cluster.set(node)?;
        cluster.set(&Node {
            inside: others(node.number),
            ..Node::v6(node.number)
        })?;
    }
    let ranges = format!(
        "[[bgp.peer_ranges]]\nprefix = \"10.0.0.0/24\"\nasn = 64512\nrole = \"cluster\"\npassword_file = \"{}\"\n\
         [[bgp.peer_ranges]]\nprefix = \"fd00:10::/64\"\nasn = 64512\nrole = \"cluster\"\n",
        key.display()
    );
    let mut appliance = rig.start_with("required", "9s", &ranges)?;
    for number in 1..=3 {
        wait_vias(&rig, &mut appliance, &block(number), &[number])?;
        let paths = paths(&appliance, &block(number))?;
        ensure!(paths.len() == 1, "a mesh passes nothing on, yet: {paths:?}");
        let v6 = format!("fd00:244:0:{number}::/122");
        wait_for(&v6, PATIENCE, || {
            let have = vias(&rig, &v6)?;
            ensure!(have == [format!("fd00:10::1{number}")], "{have:?}");
            Ok(())
        })?;
    }
    cluster.heard_nothing()?;

    // A node gets a second block, which later moves to another one.
    let grown = "10.244.101.0/26".to_owned();
    let [one, two, three] = &mut nodes[..] else {
        bail!("three nodes");
    };
    one.blocks.push(grown.clone());
    cluster.set(one)?;
    wait_vias(&rig, &mut appliance, &grown, &[1])?;
    one.blocks.pop();
    two.blocks.push(grown.clone());
    cluster.set(two)?;
    cluster.set(one)?;
    wait_vias(&rig, &mut appliance, &grown, &[2])?;

    // A pod of node 3 has an address out of node 1's block.
    let borrowed = "10.244.1.5/32";
    let pod =
        |verb: &str, prefix: &str, metric: u32| format!("route {verb} {prefix} dev eth0 metric {metric}");
    cluster.home(3)?.ip(&pod("add", borrowed, 1024))?;
    wait_for("the borrowed address", PATIENCE, || {
        let have = vias(&rig, "10.244.1.5")?;
        ensure!(have == [address(3).to_string()], "{have:?}");
        Ok(())
    })?;
    let preference = |prefix: &str| -> Result<Vec<(String, u64, bool)>> {
        Ok(paths(&appliance, prefix)?
            .iter()
            .filter_map(|path| {
                Some((
                    path.get("next_hop")?.as_str()?.to_owned(),
                    path.get("local_preference")?.as_u64()?,
                    path.get("used")?.as_bool()?,
                ))
            })
            .collect())
    };
    ensure!(
        preference(borrowed)? == [(address(3).to_string(), 2_147_482_623, true)],
        "{:?}",
        preference(borrowed)?
    );
    // It moves to node 2 while it lives: the new place is announced with elevated priority before the old one ends.
    cluster.home(2)?.ip(&pod("add", borrowed, 512))?;
    wait_for("the elevated path to win", PATIENCE, || {
        let have = vias(&rig, "10.244.1.5")?;
        ensure!(have == [address(2).to_string()], "{have:?}");
        Ok(())
    })?;
    let mut both = preference(borrowed)?;
    both.sort();
    ensure!(
        both == [
            (address(2).to_string(), 2_147_483_135, true),
            (address(3).to_string(), 2_147_482_623, false)
        ],
        "{both:?}"
    );
    cluster.home(3)?.ip(&pod("del", borrowed, 1024))?;
    cluster.home(2)?.ip(&pod("del", borrowed, 512))?;
    wait_for("the block to carry the address again", PATIENCE, || {
        let have = vias(&rig, "10.244.1.5")?;
        ensure!(have.is_empty(), "{have:?}");
        Ok(())
    })?;

    // A node that lies.
    let lies = [
        ("203.0.113.1/32", "own_vip"),
        ("0.0.0.0/0", "default_route"),
        ("128.0.0.0/1", "too_wide"),
        ("10.0.0.12/32", "connected"),
        ("10.0.0.10/32", "connected"),
    ];
    three.rogue = lies.iter().map(|(prefix, _)| (*prefix).to_owned()).collect();
    cluster.set(three)?;
    wait_for("every lie to be listed as rejected", PATIENCE, || {
        let rejected = appliance.json(&["routes", "--rejected"])?;
        for (prefix, why) in lies {
            let mut found = Vec::new();
            collect(&rejected, prefix, &mut found);
            let text = found
                .first()
                .with_context(|| format!("{prefix} is not listed"))?
                .to_string();
            ensure!(text.contains(why), "{prefix}: {text}");
        }
        Ok(())
    })?;
    for (prefix, _) in lies {
        let proto = rig
            .the_box
            .ip(&format!("-4 route show exact {prefix} proto 94"))?;
        ensure!(proto.trim().is_empty(), "a lie went to the kernel: {proto}");
    }
    for number in 1..=3 {
        wait_vias(&rig, &mut appliance, &block(number), &[number]).context("after the hijack")?;
    }
    cluster.heard_nothing()
}

fn fifty_nodes(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let numbers: Vec<u8> = (10..60).collect();
    let mut cluster = Cluster {
        state: state.clone(),
        homes: numbers.iter().map(|number| (*number, rig.peer.clone())).collect(),
        birds: BTreeMap::new(),
    };
    for number in &numbers {
        rig.peer
            .ip(&format!("addr add {}/24 dev eth0", address(*number)))?;
        cluster.set(&Node {
            inside: numbers
                .iter()
                .filter(|other| *other != number)
                .map(|other| (*other, ""))
                .collect(),
            crowded: true,
            ..Node::new(*number)
        })?;
    }
    let mut appliance = rig.start_with(
        "required",
        "9s",
        "pod_prefixes = [\"10.244.0.0/16\"]\n[[bgp.peer_ranges]]\nprefix = \"10.0.0.0/24\"\nasn = 64512\nrole = \"cluster\"\n",
    )?;
    let settled = |wanted: usize| {
        let table = rig.the_box.routes("-4 route show")?;
        let have = numbers
            .iter()
            .filter(|number| table.contains(&format!("{} via {} ", block(**number), address(**number))))
            .count();
        ensure!(have == wanted, "{have} of {wanted} blocks: {table:.400}");
        Ok(())
    };
    wait_for("fifty nodes", PATIENCE, || settled(50))?;
    appliance.daemon.check()?;
    let routes = appliance.json(&["routes"])?.to_string();
    let paths = routes.matches("\"next_hop\"").count();
    ensure!(paths == 50, "fifty blocks, {paths} paths");
    // Ten daemons crash; nothing of theirs is lost, and nothing is lost when they are back.
    for number in numbers.iter().take(10) {
        if let Some(bird) = cluster.birds.remove(&(*number, false)) {
            bird.daemon.signal(Signal::SIGKILL)?;
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    settled(50).context("while ten are away")?;
    ensure!(
        appliance
            .json(&["routes"])?
            .to_string()
            .matches("\"stale\":true")
            .count()
            == 10,
        "ten routes are stale"
    );
    Ok(())
}

fn other_as(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut cluster = Cluster::new(state, &[1, 2, 3])?;
    let node = |number: u8| Node {
        asn: 65001,
        inside: (1..=3)
            .filter(|other| *other != number)
            .map(|other| (other, ""))
            .collect(),
        ..Node::new(number)
    };
    for number in 1..=3 {
        cluster.set(&node(number))?;
    }
    let mut appliance = rig.start_with(
        "required",
        "9s",
        "[[bgp.peer_ranges]]\nprefix = \"10.0.0.0/24\"\nasn = 65001\nrole = \"cluster\"\nmultihop = 64\n",
    )?;
    // Every node passes on every block: three paths each, and each says that it is the way.
    let all: Vec<String> = (1..=3).map(|number| address(number).to_string()).collect();
    for number in 1..=3 {
        wait_for("three paths with three next hops", PATIENCE, || {
            appliance.daemon.check()?;
            let hops = next_hops(&paths(&appliance, &block(number))?);
            ensure!(hops == all, "{hops:?}");
            Ok(())
        })?;
        let have = vias(&rig, &block(number))?;
        ensure!(
            have.contains(&address(number).to_string()),
            "the node itself is not among the ways to its block: {have:?}"
        );
    }
    // Next hop kept: three paths, one way.
    for number in 1..=3 {
        cluster.set(&Node {
            to_box: Some("next hop keep;".into()),
            ..node(number)
        })?;
    }
    for number in 1..=3 {
        let own = address(number).to_string();
        wait_for("three paths with one next hop", PATIENCE, || {
            let hops = next_hops(&paths(&appliance, &block(number))?);
            ensure!(hops == [own.as_str(); 3], "{hops:?}");
            Ok(())
        })?;
        wait_vias(&rig, &mut appliance, &block(number), &[number])?;
    }
    // BGPFilter: each its own only.
    for number in 1..=3 {
        cluster.set(&Node {
            filtered: true,
            ..node(number)
        })?;
    }
    for number in 1..=3 {
        let own = address(number).to_string();
        wait_for("one path", PATIENCE, || {
            let hops = next_hops(&paths(&appliance, &block(number))?);
            ensure!(hops == [own.as_str()], "{hops:?}");
            Ok(())
        })?;
        wait_vias(&rig, &mut appliance, &block(number), &[number])?;
    }
    cluster.heard_nothing()
}

fn reflectors(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut cluster = Cluster::new(state, &[1, 2, 3, 4])?;
    const CLIENT: &str = "rr client; rr cluster id 224.0.0.1;";
    // Nodes 1 and 2 reflect for 3 and 4; a service address is announced by both of these.
    let service = "10.244.250.0/26".to_owned();
    let reflector = |number: u8, more: &str| Node {
        inside: vec![(3 - number, ""), (3, CLIENT), (4, CLIENT)],
        to_box: Some(format!("{CLIENT} {more}")),
        ..Node::new(number)
    };
    for number in [1, 2] {
        cluster.set(&reflector(number, ""))?;
    }
    for number in [3, 4] {
        cluster.set(&Node {
            inside: vec![(1, ""), (2, "")],
            to_box: None,
            blocks: vec![block(number), service.clone()],
            ..Node::new(number)
        })?;
    }
    let mut appliance = rig.start_with(
        "required",
        "9s",
        "[[bgp.peers]]\nname = \"rr-1\"\naddress = \"10.0.0.11\"\nasn = 64512\nrole = \"cluster\"\n\
         [[bgp.peers]]\nname = \"rr-2\"\naddress = \"10.0.0.12\"\nasn = 64512\nrole = \"cluster\"\n",
    )?;
    for number in 1..=4 {
        wait_vias(&rig, &mut appliance, &block(number), &[number])?;
    }
    wait_vias(&rig, &mut appliance, &service, &[3, 4])?;
    // A block of a client comes from both reflectors, and stays when one of them goes.
    let (one, two) = (address(3).to_string(), address(4).to_string());
    let all = [one.clone(), one, two.clone(), two];
    wait_for("both paths from both reflectors", PATIENCE, || {
        let hops = next_hops(&paths(&appliance, &service)?);
        ensure!(hops == all, "{hops:?}");
        Ok(())
    })?;

    // Without ADD-PATH each reflector says its best one only.
    for number in [1, 2] {
        cluster.set(&reflector(number, "add paths off;"))?;
    }
    wait_for("two paths for the service address", PATIENCE, || {
        let paths = paths(&appliance, &service)?;
        ensure!(
            paths.len() == 2
                && paths
                    .iter()
                    .all(|path| path.get("path_id").is_none_or(Value::is_null)),
            "{paths:?}"
        );
        Ok(())
    })?;
    for number in 1..=4 {
        wait_vias(&rig, &mut appliance, &block(number), &[number])?;
    }
    cluster.heard_nothing()
}
