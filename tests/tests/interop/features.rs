//! What the RFCs beyond the basic ones promise, with each daemon that knows them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Appliance, BOX, Bird, BirdVersion, Daemon, Netns, State, program, wait_for};

use crate::Case;
use crate::cases::case;
use crate::peer::{Frr, KINDS, Kind, Peer, Setup, configuration};
use crate::rig::{PATIENCE, PEER_V4, PEER_V6, Rig, established, shown};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let named = |what: &str, run: fn(&State, Kind) -> Result<()>| {
            case(&format!("{}: {what}", kind.name()), move |state| run(state, kind))
        };
        cases.push(named("TCP MD5 and GTSM, both ways, and a wrong key", protected));
        // ExaBGP starts as if it had never been there, and OpenBGPD promises its End-of-RIB and no more.
        if !matches!(kind, Kind::ExaBgp | Kind::OpenBgpd) {
            cases.push(named(
                "killed and back: its routes are kept meanwhile",
                peer_restarts,
            ));
        }
        cases.push(named(
            "the box is killed and back: both learn again",
            box_restarts,
        ));
    }
    for kind in [Kind::Bird16, Kind::Bird2, Kind::GoBgp, Kind::Frr] {
        cases.push(case(
            &format!("{}: rules, refresh, drain, last words", kind.name()),
            move |state| life_of_a_vip(state, kind),
        ));
    }
    cases.push(case(
        "bird-2: IPv4 with IPv6 next hops (RFC 8950), both ways",
        bird_next_hop,
    ));
    cases.push(case(
        "gobgp: IPv4 with IPv6 next hops (RFC 8950), both ways",
        gobgp_next_hop,
    ));
    cases.push(case(
        "frr: IPv4 with IPv6 next hops (RFC 8950), both ways",
        frr_next_hop,
    ));
    cases.push(case("bird-2: limits of prefixes, on either side", prefix_limits));
    cases.push(case(
        "bird-2: a pool announced as a whole, with attributes of its own",
        whole_pool,
    ));
    cases.push(case("bird-2: import rules by path and community", import_rules));
    cases.push(case(
        "bird-2: roles, extended messages, a shutdown with a text",
        agreements,
    ));
    cases.push(case("bird-2: a hundred peers at once", hundred_peers));
    cases
}

/// What a daemon announces over its IPv6 address.
const BEHIND_IPV6: &str = "10.244.20.0/26";

fn neighbour(kind: Kind, asn: u32, role: &str, more: &str) -> String {
    format!(
        "[[bgp.peers]]\nname = \"peer\"\naddress = \"{}\"\nasn = {asn}\nrole = \"{role}\"\n{more}",
        kind.address()
    )
}

fn protected(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let key = rig.state.file("key");
    std::fs::write(&key, "s3cret words\n")?;
    let mut setup = Setup {
        kind,
        password: Some("s3cret words"),
        ttl_security: true,
        ..Setup::default()
    };
    // Its configuration language has no word for a key with a space in it.
    if matches!(kind, Kind::Frr) {
        setup.password = Some("s3cret-words");
        std::fs::write(&key, "s3cret-words\n")?;
    }
    // It knows GTSM towards another AS only.
    if kind == Kind::OpenBgpd {
        setup.asn = 64500;
    }
    let protection = format!("password_file = \"{}\"\nttl_security = 1\n", key.display());
    let neighbours = neighbour(kind, setup.asn, "cluster", &protection);
    let mut appliance = rig.start_with("required", "9s", &neighbours)?;
    for passive in [true, false] {
        // They sign what they dial, not what they accept.
        if passive && matches!(kind, Kind::ExaBgp | Kind::OpenBgpd) {
            continue;
        }
        let peer = Peer::start(
            state,
            &rig.peer,
            &Setup {
                passive,
                ..setup.clone()
            },
        )?;
        let ([first, _], via) = *kind.blocks().first().context("no block")?;
        rig.wait_route(&mut appliance, first, via)
            .with_context(|| format!("passive: {passive}"))?;
        drop(peer);
    }
    // With another key not one segment is let in.
    std::fs::write(&key, "another\n")?;
    appliance.daemon.signal(Signal::SIGHUP)?;
    let _peer = Peer::start(state, &rig.peer, &setup)?;
    wait_for("the session to end", PATIENCE, || {
        match established(&appliance, "peer") {
            Err(_) => Ok(()),
            Ok(()) => bail!("still established"),
        }
    })?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(
        established(&appliance, "peer").is_err(),
        "a session stands with different keys"
    );
    Ok(())
}

fn peer_restarts(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    let setup = Setup {
        kind,
        ..Setup::default()
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let mut appliance = rig.start_with("required", "9s", &neighbour(kind, 64512, "cluster", ""))?;
    for (blocks, via) in kind.blocks() {
        for block in blocks {
            rig.wait_route(&mut appliance, block, via)?;
        }
    }
    // What has not said End-of-RIB has not told everything yet, and is not kept.
    std::thread::sleep(Duration::from_millis(500));
    peer.kill()?;
    wait_for("the session to break", PATIENCE, || {
        match established(&appliance, "peer") {
            Err(_) => Ok(()),
            Ok(()) => bail!("still established"),
        }
    })?;
    let there = |when: &str| -> Result<()> {
        for block in kind.blocks().iter().flat_map(|(blocks, _)| blocks) {
            ensure!(rig.kernel(block)?.is_some(), "{block} is gone {when}");
        }
        Ok(())
    };
    there("while the peer is away")?;
    ensure!(
        appliance
            .json(&["routes"])?
            .to_string()
            .contains("\"stale\":true"),
        "no route counts as stale"
    );
    std::thread::sleep(Duration::from_secs(1));
    there("a second later")?;
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let ((), _) = wait_for("it to come back and repeat its routes", PATIENCE, || {
        there("while the peer comes back")?;
        established(&appliance, "peer")?;
        let routes = appliance.json(&["routes"])?.to_string();
        ensure!(!routes.contains("\"stale\":true"), "still stale: {routes:.300}");
        Ok(())
    })?;
    peer.established()?;
    there("after the peer is back")
}

fn box_restarts(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let setup = Setup {
        kind,
        asn: 64500,
        ..Setup::default()
    };
    let peer = Peer::start(state, &rig.peer, &setup)?;
    let neighbours = neighbour(kind, 64500, "upstream", "");
    for round in 0..2 {
        let appliance = rig.start_with("off", "9s", &neighbours)?;
        for vip in kind.vips() {
            wait_for(&format!("{vip} to be announced, round {round}"), PATIENCE, || {
                peer.heard(vip)
            })?;
        }
        appliance.daemon.signal(Signal::SIGKILL)?;
        // We promise to keep forwarding for nobody, so nobody may wait for us.
        for vip in kind.vips() {
            wait_for(
                &format!("{vip} to go after a crash"),
                Duration::from_secs(15),
                || match peer.heard(vip) {
                    Err(_) => Ok(()),
                    Ok(()) => bail!("still there"),
                },
            )?;
        }
    }
    Ok(())
}

/// Everything that a peer was told of a VIP, in the words of its own tool.
fn told(peer: &Peer, kind: Kind) -> Result<String> {
    match kind {
        Kind::GoBgp => peer.gobgp("neighbor 10.0.0.10 adj-in -a ipv4"),
        Kind::Frr => peer.vtysh(&["show bgp ipv4 unicast 203.0.113.1/32"]),
        _ => peer.bird()?.birdc("show route 203.0.113.1/32 all"),
    }
}

fn life_of_a_vip(state: &State, kind: Kind) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let peer = Peer::start(
        state,
        &rig.peer,
        &Setup {
            kind,
            asn: 64500,
            ..Setup::default()
        },
    )?;
    let rules = |med: u32| {
        format!(
            "[[bgp.rules]]\nname = \"standby\"\nmed = {med}\nprepend = 2\n\
             add_communities = [\"64512:100\", \"64512:1:2\"]\nthen = \"accept\"\n"
        )
    };
    let text = |med| rules(med) + &neighbour(kind, 64500, "upstream", "export = [\"standby\"]\n");
    let appliance = rig.start_with("off", "9s", &text(70))?;
    let (med, path, standard, large) = match kind {
        Kind::GoBgp => ("{Med: 70}", "64512 64512 64512", "64512:100", "64512:1:2"),
        Kind::Frr => ("metric 70", "64512 64512 64512", "64512:100", "64512:1:2"),
        _ => ("BGP.med: 70", "64512 64512 64512", "(64512,100)", "(64512, 1, 2)"),
    };
    wait_for("the VIP with all its attributes", PATIENCE, || {
        let told = told(&peer, kind)?;
        for wanted in [med, path, standard, large] {
            ensure!(told.contains(wanted), "no {wanted} in {told}");
        }
        Ok(())
    })?;
    let flaps = |appliance: &Appliance| -> Result<serde_json::Value> {
        let shown = shown(appliance, "peer")?;
        Ok(shown.get("flaps").cloned().unwrap_or_default())
    };

    // The peer asks for everything again.
    let asked = |appliance: &Appliance| -> Result<u64> {
        let shown = shown(appliance, "peer")?;
        let count = shown.pointer("/messages_received/route_refresh");
        count.and_then(serde_json::Value::as_u64).context("route_refresh")
    };
    let (before, sent) = (asked(&appliance)?, updates_sent(&appliance)?);
    match kind {
        // GoBGP keeps what it heard and asks nobody.
        Kind::GoBgp => {}
        Kind::Frr => drop(peer.vtysh(&["clear bgp ipv4 unicast 10.0.0.10 soft in"])?),
        _ => drop(peer.bird()?.order("reload in box")?),
    }
    // FRR keeps what it heard and asks nobody where soft-reconfiguration is on; it is not here.
    wait_for(
        "the peer to ask for everything again, and to get it",
        PATIENCE,
        || {
            if kind == Kind::GoBgp {
                return Ok(());
            }
            ensure!(asked(&appliance)? > before, "no ROUTE-REFRESH came");
            ensure!(updates_sent(&appliance)? > sent, "nothing was said again");
            Ok(())
        },
    )?;

    // Changed rules are a new announcement, not a new session.
    rig.reload(&appliance, "off", "9s", &text(71))?;
    let changed = med.replace("70", "71");
    wait_for("the changed MED", PATIENCE, || {
        let told = told(&peer, kind)?;
        ensure!(told.contains(&changed), "{told}");
        Ok(())
    })?;
    ensure!(flaps(&appliance)? == 0, "the session was lost on the way");

    // It shuts down with a text (RFC 9003), which the box shows.
    match kind {
        Kind::GoBgp => drop(peer.gobgp("neighbor 10.0.0.10 shutdown --reason maintenance")?),
        Kind::Frr => drop(peer.vtysh(&[
            "configure terminal",
            "router bgp 64500",
            "neighbor 10.0.0.10 shutdown message maintenance",
        ])?),
        Kind::Bird2 => drop(peer.bird()?.order("disable box \"maintenance\"")?),
        // 1.6 has no text; it says the rest.
        _ => drop(peer.bird()?.order("disable box")?),
    }
    wait_for("the peer's last words", PATIENCE, || {
        let shown = shown(&appliance, "peer")?;
        let text = shown
            .pointer("/last_error/text")
            .and_then(serde_json::Value::as_str);
        let text = text.context("no last error")?;
        ensure!(text.contains("Administrative Shutdown"), "{text}");
        ensure!(kind == Kind::Bird16 || text.contains("maintenance"), "{text}");
        Ok(())
    })?;
    match kind {
        Kind::GoBgp => drop(peer.gobgp("neighbor 10.0.0.10 enable")?),
        Kind::Frr => drop(peer.vtysh(&[
            "configure terminal",
            "router bgp 64500",
            "no neighbor 10.0.0.10 shutdown",
        ])?),
        _ => drop(peer.bird()?.order("enable box")?),
    }
    wait_for("the VIP after it is back", PATIENCE, || {
        peer.heard("203.0.113.1/32")
    })?;

    // On its way out the box says so before it withdraws (RFC 8326).
    appliance.daemon.signal(Signal::SIGTERM)?;
    // Each has its own word for 65535:0.
    let going = ["65535:0", "(65535,0)", "graceful-shutdown", "planned-shut"];
    wait_for("GRACEFUL_SHUTDOWN", Duration::from_secs(15), || {
        let told = told(&peer, kind)?;
        ensure!(going.iter().any(|word| told.contains(word)), "{told}");
        Ok(())
    })?;
    wait_for("the VIP to be withdrawn", PATIENCE, || {
        match peer.heard("203.0.113.1/32") {
            Err(_) => Ok(()),
            Ok(()) => bail!("still there"),
        }
    })?;
    if kind == Kind::Bird2 {
        let log = peer.process()?.log().to_path_buf();
        wait_for("our last words", PATIENCE, || {
            let log = std::fs::read_to_string(&log)?;
            ensure!(log.contains("Sekisho is stopping"), "not in its log");
            Ok(())
        })?;
    }
    Ok(())
}

fn updates_sent(appliance: &Appliance) -> Result<u64> {
    let shown = shown(appliance, "peer")?;
    let count = shown.pointer("/messages_sent/update");
    count.and_then(serde_json::Value::as_u64).context("update")
}

/// BIRD 2 on the neighbour, with this configuration below its head.
fn bird2(state: &State, rig: &Rig, text: &str) -> Result<Bird> {
    let text = format!("log stderr all;\nrouter id {PEER_V4};\nprotocol device {{ }}\n{text}");
    Bird::start(state, "peer", &rig.peer, BirdVersion::V2, &text)
}

/// IPv4 with IPv6 next hops, both ways. `start` starts a daemon of an AS that announces [`BEHIND_IPV6`], or nothing; `vip` is what
/// it says of the IPv4 VIP that it was told, its next hop in it.
fn ipv6_next_hops<D>(
    state: &State,
    start: impl Fn(&Rig, u32, bool) -> Result<D>,
    vip: impl Fn(&D) -> Result<String>,
) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let daemon = start(&rig, 64512, true)?;
    let node = neighbour(Kind::Bird16Ipv6, 64512, "cluster", "");
    let mut appliance = rig.start_with("required", "9s", &node)?;
    let line = wait_for("an IPv4 route by way of IPv6", PATIENCE, || {
        appliance.daemon.check()?;
        rig.kernel(BEHIND_IPV6)?.context("no such route")
    })?
    .0;
    ensure!(line.contains(&format!("via inet6 {PEER_V6}")), "{line}");
    drop(daemon);
    appliance.stop(PATIENCE)?;

    // The box without an IPv4 address towards a router: its IPv4 VIP goes with the IPv6 one.
    rig.the_box.ip(&format!("addr del {}/24 dev nodes", BOX.v4))?;
    let daemon = start(&rig, 64500, false)?;
    let router = neighbour(Kind::Bird16Ipv6, 64500, "upstream", "");
    let _appliance = rig.start_with("off", "9s", &router)?;
    wait_for("the IPv4 VIP with an IPv6 next hop", PATIENCE, || {
        let told = vip(&daemon)?;
        ensure!(told.contains(&BOX.v6.to_string()), "{told}");
        Ok(())
    })?;
    Ok(())
}

fn bird_next_hop(state: &State) -> Result<()> {
    let start = |rig: &Rig, asn: u32, announces: bool| {
        let export = if announces {
            "where source = RTS_STATIC"
        } else {
            "none"
        };
        let text = format!(
            "protocol static {{ ipv4; route {BEHIND_IPV6} blackhole; }}\n\
             protocol bgp box {{ local as {asn}; neighbor {} as 64512; source address {PEER_V6}; hold time 9; connect delay time 1; connect retry time 2;\n\
             ipv4 {{ import all; export {export}; extended next hop on; }}; ipv6 {{ import all; export none; }}; }}\n",
            BOX.v6
        );
        bird2(state, rig, &text)
    };
    ipv6_next_hops(state, start, |bird| {
        let told = bird.birdc("show route 203.0.113.1/32 all")?;
        let next_hop = told.lines().find(|line| line.contains("BGP.next_hop:"));
        Ok(next_hop.with_context(|| told.clone())?.to_owned())
    })
}

fn gobgp_next_hop(state: &State) -> Result<()> {
    let gobgp = |peer: &Netns, words: &str| -> Result<String> {
        let mut command = program(peer, "gobgpd", "usr/bin/gobgp")?;
        let out = command
            .args(["-p", "50051"])
            .args(words.split_whitespace())
            .output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let start = |rig: &Rig, asn: u32, announces: bool| -> Result<(Daemon, Netns)> {
        let setup = Setup {
            kind: Kind::GoBgp,
            asn,
            ..Setup::default()
        };
        let text = configuration::gobgp(&setup)
            .replace(&format!("\"{}\"", BOX.v4), &format!("\"{}\"", BOX.v6))
            .replace(
                &format!("local-address = \"{PEER_V4}\""),
                &format!("local-address = \"{PEER_V6}\""),
            )
            .replace(&format!("[\"{PEER_V4}\"]"), &format!("[\"{PEER_V6}\"]"));
        let file = state.file("gobgpd.toml");
        std::fs::write(&file, text)?;
        let mut command = program(&rig.peer, "gobgpd", "usr/bin/gobgpd")?;
        command
            .arg("-f")
            .arg(&file)
            .args(["--api-hosts", "127.0.0.1:50051", "-l", "debug"]);
        let daemon = Daemon::start(state, "peer", command)?;
        if announces {
            let order = format!("global rib add {BEHIND_IPV6} nexthop {PEER_V6} -a ipv4");
            wait_for("gobgpd to take a route", PATIENCE, || gobgp(&rig.peer, &order))?;
        }
        Ok((daemon, rig.peer.clone()))
    };
    ipv6_next_hops(state, start, |(_, peer)| {
        let told = gobgp(peer, "global rib -a ipv4")?;
        let line = told.lines().find(|line| line.contains("203.0.113.1/32"));
        Ok(line.with_context(|| told.clone())?.to_owned())
    })
}

fn frr_next_hop(state: &State) -> Result<()> {
    let start = |rig: &Rig, asn: u32, announces: bool| {
        let network = if announces {
            format!("  network {BEHIND_IPV6}\n")
        } else {
            String::new()
        };
        let the_box = BOX.v6;
        let text = format!(
            "hostname peer\nrouter bgp {asn}\n bgp router-id {PEER_V4}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor {the_box} remote-as 64512\n neighbor {the_box} timers 3 9\n neighbor {the_box} timers connect 2\n \
             neighbor {the_box} update-source {PEER_V6}\n neighbor {the_box} capability extended-nexthop\n \
             address-family ipv4 unicast\n  neighbor {the_box} activate\n{network} exit-address-family\n"
        );
        Frr::start(state, &rig.peer, &text, false)
    };
    ipv6_next_hops(state, start, |frr| {
        let told = frr.bgpd(&["show bgp ipv4 unicast 203.0.113.1/32"])?;
        // NEXT-HOP from PEER (ROUTER-ID)
        let next_hop = told.lines().find_map(|line| line.split_once(" from "));
        Ok(next_hop.with_context(|| told.clone())?.0.to_owned())
    })
}

/// RFC 9234, RFC 8654, RFC 9003 with BIRD as a provider.
fn agreements(state: &State) -> Result<()> {
    const ROUTES: u64 = 2000;
    let rig = Rig::new(state)?;
    rig.serve()?;
    let routes: String = (0..ROUTES)
        .map(|n| format!("route 10.{}.{}.7/32 blackhole; ", 128 + n / 256, n % 256))
        .collect();
    let text = format!(
        "protocol static {{ ipv4; {routes} }}\n\
         protocol bgp box {{ local as 64500; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2; error wait time 1,2;\n\
         local role provider; require roles; enable extended messages on;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n",
        BOX.v4
    );
    let bird = bird2(state, &rig, &text)?;
    let as_role = |role: &str, more: &str| {
        neighbour(
            Kind::Bird2,
            64500,
            "upstream",
            &format!("bgp_role = \"{role}\"\n{more}"),
        )
    };
    let appliance = rig.start_with("off", "9s", &as_role("customer", "bgp_role_strict = true\n"))?;
    wait_for("every route", PATIENCE, || {
        let shown = shown(&appliance, "peer")?;
        let held = shown
            .pointer("/received/ipv4")
            .and_then(serde_json::Value::as_u64);
        ensure!(held == Some(ROUTES), "{held:?} routes");
        Ok(())
    })?;
    let told = bird.birdc("show protocols all box")?;
    for wanted in ["Role: customer", "Extended message"] {
        ensure!(told.contains(wanted), "no {wanted} in {told}");
    }
    wait_for("the VIP", PATIENCE, || bird.need_route("203.0.113.1/32", "box"))?;

    // Two providers of each other there cannot be.
    rig.reload(&appliance, "off", "9s", &as_role("provider", ""))?;
    wait_for("the roles not to fit", PATIENCE, || {
        let text = shown(&appliance, "peer")?.to_string();
        ensure!(text.contains("Role Mismatch"), "{text:.900}");
        Ok(())
    })?;
    rig.reload(&appliance, "off", "9s", &as_role("customer", ""))?;
    wait_for("the session with the right role", PATIENCE, || {
        established(&appliance, "peer")
    })?;

    rig.reload(
        &appliance,
        "off",
        "9s",
        &as_role("customer", "shutdown = \"works on the line\"\n"),
    )?;
    wait_for("the text at the peer", PATIENCE, || {
        let told = bird.birdc("show protocols all box")?;
        ensure!(told.contains("works on the line"), "{told}");
        Ok(())
    })?;
    rig.reload(&appliance, "off", "9s", &as_role("customer", ""))?;
    wait_for("the session once more", PATIENCE, || {
        established(&appliance, "peer")
    })?;
    Ok(())
}

fn prefix_limits(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    rig.serve()?;
    let routes: String = (0..12)
        .map(|n| format!("route 10.244.{n}.0/26 blackhole; "))
        .collect();
    let text = format!(
        "protocol static {{ ipv4; {routes} }}\n\
         protocol bgp box {{ local as 64512; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2; error wait time 1,2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n",
        BOX.v4
    );
    let bird = bird2(state, &rig, &text)?;
    let more = "max_prefixes = 10\nmax_prefixes_restart = \"10m\"\n";
    let mut appliance = rig.start_with("required", "9s", &neighbour(Kind::Bird2, 64512, "cluster", more))?;
    wait_for("the peer to hear that it says too much", PATIENCE, || {
        let told = bird.birdc("show protocols all box")?;
        ensure!(told.contains("Maximum number of prefixes reached"), "{told}");
        Ok(())
    })?;
    rig.wait_gone(&mut appliance, "10.244.3.0/26", PATIENCE)?;
    // A higher limit lets it come back at once.
    rig.reload(
        &appliance,
        "required",
        "9s",
        &neighbour(Kind::Bird2, 64512, "cluster", "max_prefixes = 20\n"),
    )?;
    rig.wait_route(&mut appliance, "10.244.3.0/26", PEER_V4)?;
    drop(bird);
    appliance.stop(PATIENCE)?;

    // The peer has a limit, and says so.
    let text = format!(
        "protocol bgp box {{ local as 64500; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2;\n\
         ipv4 {{ import all; import limit 1 action disable; export none; }}; }}\n",
        BOX.v4
    );
    let bird = bird2(state, &rig, &text)?;
    let listen = "[[bgp.rules]]\nname = \"all\"\nthen = \"accept\"\n";
    let text = format!("{listen}{}", neighbour(Kind::Bird2, 64500, "upstream", ""));
    let appliance = rig.start_with("off", "9s", &text)?;
    wait_for("the VIP", PATIENCE, || bird.need_route("203.0.113.1/32", "box"))?;
    rig.manifests.write(
        "more.yaml",
        &sekisho_tests::lab::Manifests::service(
            "more",
            "LoadBalancer",
            &[sekisho_tests::lab::EndpointPod {
                pod: "more-1".into(),
                node: "node1".into(),
                address: sekisho_tests::lab::NODE1.pod(9),
                ready: true,
            }],
        ),
    )?;
    wait_for("the peer's limit", PATIENCE, || {
        let shown = shown(&appliance, "peer")?;
        let text = shown
            .pointer("/last_error/text")
            .and_then(serde_json::Value::as_str);
        let text = text.context("no last error")?;
        ensure!(text.contains("Maximum Number of Prefixes"), "{text}");
        Ok(())
    })?;
    Ok(())
}

fn hundred_peers(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let mut text = String::new();
    for n in 0..100u8 {
        let address = format!("10.0.0.{}", 130 + n);
        // One BIRD speaks once with one address, so the box has as many.
        let the_box = format!("10.0.0.{}", 30 + n);
        rig.peer.ip(&format!("addr add {address}/24 dev eth0"))?;
        rig.the_box.ip(&format!("addr add {the_box}/24 dev nodes"))?;
        text.push_str(&format!(
            "protocol static s{n} {{ ipv4; route 10.244.{n}.0/26 blackhole; }}\n\
             protocol bgp b{n} {{ local {address} as 64512; neighbor {the_box} as 64512; hold time 30; connect delay time 1; connect retry time 2; error wait time 1,3;\n\
             graceful restart; ipv4 {{ import all; export where proto = \"s{n}\"; add paths on; }}; }}\n",
        ));
    }
    let bird = bird2(state, &rig, &text)?;
    let mut appliance = rig.start_with(
        "required",
        "9s",
        "[[bgp.peer_ranges]]\nprefix = \"10.0.0.128/25\"\nasn = 64512\nrole = \"cluster\"\n",
    )?;
    let count = |wanted: usize| {
        let table = rig.the_box.routes("-4 route show")?;
        let have = (0..100u8)
            .filter(|n| table.contains(&format!("10.244.{n}.0/26 via 10.0.0.{} ", 130 + n)))
            .count();
        ensure!(have == wanted, "{have} of {wanted} routes: {table:.400}");
        Ok(())
    };
    wait_for("a hundred nodes", PATIENCE, || count(100))?;
    appliance.daemon.check()?;
    // They are killed together, stay in use, and come back.
    bird.daemon.signal(Signal::SIGKILL)?;
    drop(bird);
    std::thread::sleep(Duration::from_secs(1));
    count(100).context("while all are away")?;
    let _bird = bird2(state, &rig, &text)?;
    wait_for("all to be back", PATIENCE, || {
        count(100)?;
        let peers = appliance.json(&["peers"])?.to_string().to_lowercase();
        let up = peers.matches("\"state\":\"established\"").count();
        ensure!(up == 100, "{up} sessions");
        Ok(())
    })?;
    Ok(())
}

fn whole_pool(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let pod = rig.serve()?;
    let router = format!(
        "protocol bgp box {{ local as 64500; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2;\n\
         ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}\n",
        BOX.v4
    );
    let bird = bird2(state, &rig, &router)?;
    let text = |more: &str| {
        format!(
            "{}[[vips]]\nname = \"public\"\naddresses = [\"203.0.113.0/28\", \"2001:db8:1::/112\"]\nannounce_to = [\"upstream\"]\n{more}",
            neighbour(Kind::Bird2, 64500, "upstream", "")
        )
    };
    let whole = text(
        "announce = \"aggregate\"\nmed = 30\nprepend = 1\ncommunities = [\"64512:5\", \"64512:1:5\", \"rt:64512:5\"]\nnext_hop = \"10.0.0.99\"\n",
    );
    let appliance = rig.start_with("off", "9s", &whole)?;
    wait_for("the whole pool with its attributes", PATIENCE, || {
        let told = bird.birdc("show route 203.0.113.0/28 all")?;
        for wanted in [
            "BGP.med: 30",
            "BGP.as_path: 64512 64512\n",
            "BGP.next_hop: 10.0.0.99",
            "(64512,5)",
            "(64512, 1, 5)",
            "(rt, 64512, 5)",
        ] {
            ensure!(told.contains(wanted), "no {wanted:?} in {told}");
        }
        bird.need_route("2001:db8:1::/112", "box")
    })?;
    ensure!(
        bird.need_route("203.0.113.1/32", "box").is_err(),
        "the address is announced as well"
    );
    // What is not in use of it leads nowhere, and never back to the router.
    let table = rig.the_box.ip("-4 route show table local")?;
    ensure!(table.contains("unreachable 203.0.113.0/28"), "{table}");
    ensure!(table.contains("local 203.0.113.1"), "{table}");
    ensure!(
        rig.the_box.ip("route get 203.0.113.9").is_err(),
        "an unused address of the pool leads somewhere"
    );
    ensure!(
        rig.the_box
            .ip("-6 route show table local")?
            .contains("unreachable 2001:db8:1::/112"),
        "IPv6 lacks it"
    );
    rig.manifests.write(
        "web.yaml",
        &sekisho_tests::lab::Manifests::service("web", "ClusterIP", &[]),
    )?;
    wait_for("it to be withdrawn", PATIENCE, || {
        match bird.need_route("203.0.113.0/28", "box") {
            Err(_) => Ok(()),
            Ok(()) => bail!("still there"),
        }
    })?;
    rig.manifests.write(
        "web.yaml",
        &sekisho_tests::lab::Manifests::service("web", "ClusterIP", &[pod]),
    )?;
    wait_for("it to be back", PATIENCE, || {
        bird.need_route("203.0.113.0/28", "box")
    })?;
    // By address again, without a new session.
    rig.reload(&appliance, "off", "9s", &text(""))?;
    wait_for("the address alone", PATIENCE, || {
        bird.need_route("203.0.113.1/32", "box")?;
        ensure!(
            bird.need_route("203.0.113.0/28", "box").is_err(),
            "the pool is still there"
        );
        let table = rig.the_box.ip("-4 route show table local")?;
        ensure!(!table.contains("unreachable"), "{table}");
        Ok(())
    })?;
    let flaps = shown(&appliance, "peer")?
        .get("flaps")
        .cloned()
        .unwrap_or_default();
    ensure!(flaps == 0, "the session was lost on the way");
    appliance.stop(PATIENCE)?;
    Ok(())
}

fn import_rules(state: &State) -> Result<()> {
    let rig = Rig::new(state)?;
    let routes = [
        (
            "10.244.1.0/26",
            "bgp_path.prepend(65010); bgp_path.prepend(65001);",
        ),
        (
            "10.244.2.0/26",
            "bgp_path.prepend(65020); bgp_path.prepend(65002);",
        ),
        (
            "10.244.3.0/26",
            "bgp_community.add((65000,7)); bgp_large_community.add((1,2,3));",
        ),
        ("10.244.4.0/26", "bgp_ext_community.add((rt,65000,9));"),
        ("10.244.5.0/26", "bgp_next_hop = 10.0.0.21;"),
    ];
    let mut text = String::from("protocol static { ipv4;\n");
    for (prefix, set) in routes {
        text.push_str(&format!("route {prefix} blackhole {{ {set} }};\n"));
    }
    text.push_str(&format!(
        "}}\nprotocol bgp box {{ local as 64512; neighbor {} as 64512; source address {PEER_V4}; hold time 9; connect delay time 1; connect retry time 2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n",
        BOX.v4
    ));
    let bird = bird2(state, &rig, &text)?;
    let rules = |last: &str| {
        format!(
            "cluster_import = [\"no-65020\", \"no-targets\", \"marked\", \"rest\"]\n\
             [[bgp.rules]]\nname = \"no-65020\"\nas_path = \"^65002 .* 65020$\"\nthen = \"reject\"\nreason = \"another zone\"\n\
             [[bgp.rules]]\nname = \"no-targets\"\ncommunities = [\"rt:65000:*\"]\nthen = \"reject\"\n\
             [[bgp.rules]]\nname = \"marked\"\nall_communities = [\"65000:1-9\", \"1:*:3\"]\nremove_communities = [\"*:*:*\"]\nadd_communities = [\"65000:99\"]\nlocal_preference = 300\nthen = \"accept\"\n\
             [[bgp.rules]]\nname = \"rest\"\n{last}\n{}",
            neighbour(Kind::Bird2, 64512, "cluster", "")
        )
    };
    let mut appliance = rig.start_with("required", "9s", &rules("then = \"accept\""))?;
    for prefix in ["10.244.1.0/26", "10.244.3.0/26"] {
        rig.wait_route(&mut appliance, prefix, PEER_V4)?;
    }
    rig.wait_route(&mut appliance, "10.244.5.0/26", crate::rig::OTHER_V4)?;
    let rejected = appliance.json(&["routes", "--rejected"])?.to_string();
    for wanted in ["10.244.2.0/26", "another zone", "10.244.4.0/26", "no-targets"] {
        ensure!(rejected.contains(wanted), "no {wanted} in {rejected}");
    }
    let routes = appliance.json(&["routes"])?.to_string();
    for (wanted, there) in [
        ("65000:99", true),
        ("\"local_preference\":300", true),
        ("1:2:3", false),
    ] {
        ensure!(
            routes.contains(wanted) == there,
            "{wanted} in {routes}: {}",
            !there
        );
    }
    // Other rules under the same session: a next hop of their own.
    rig.reload(
        &appliance,
        "required",
        "9s",
        &rules("next_hop = \"10.0.0.21\"\nthen = \"accept\""),
    )?;
    rig.wait_route(&mut appliance, "10.244.1.0/26", crate::rig::OTHER_V4)?;
    let flaps = shown(&appliance, "peer")?
        .get("flaps")
        .cloned()
        .unwrap_or_default();
    ensure!(flaps == 0, "the session was lost on the way");
    drop(bird);
    Ok(())
}
