//! `make demo`: raises the lab, runs the appliance in it and walks through the main job, printing what it measured.
//!
//! At a terminal it stays up afterwards; without one it ends by itself, with exit code 0 only if every step passed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, stdin, stdout};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sekisho_tests::lab::{
    Appliance, Authority, BOX, EndpointPod, Lab, Load, Manifests, NODE1, NODE2, NODE3, NODES, Netns,
    SelfSigned, Settings, State, Target, Tls, VIP_V4, VIP_V6, enter, now, wait_for,
};
use sekisho_tests::walk::{Measured, Walk};
use serde_json::Value;

const SHOP: &str = "shop.example.com";
const ACME: &str = "acme.example.com";
const LB: &str = "203.0.113.9";

fn main() -> ExitCode {
    let outcome = enter().and_then(|state| {
        println!("Sekisho demo: one box, three nodes with BIRD as Calico configures it, a router, a client, an ACME CA\n");
        let mut walk = Walk::new("demo", &state);
        demo(&state, &mut walk)?;
        Ok(walk.finish())
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            println!("demo: 0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// What the steps share.
struct Stage {
    lab: Lab,
    authority: Authority,
    manifests: Manifests,
    web: SelfSigned,
    appliance: Option<Appliance>,
}

fn demo(state: &State, walk: &mut Walk) -> Result<()> {
    let mut stage = None;
    walk.step("the lab is up: nodes, mesh, router, pods, CA", |m| {
        let raised = raise(state, m)?;
        stage = Some(raised);
        Ok("3 nodes (BIRD 1.6, IPv4 and IPv6 daemons), router (BIRD 2), 3 pods, CA (pebble)".into())
    });
    let Some(mut stage) = stage else { return Ok(()) };
    if !walk.step("the appliance starts and its sessions come up", |m| {
        start(state, &mut stage, m)
    }) {
        return Ok(());
    }
    walk.step("routes learned from the nodes, best ones in the kernel", |_| {
        routes(&stage)
    });
    walk.step(
        "an Ingress is applied: first answer over the announced VIP",
        |m| ingress(&stage, m),
    );
    walk.step("HTTP and HTTPS, IPv4 and IPv6: every pod answers", |_| {
        every_pod(&stage)
    });
    walk.step("a WebSocket through the box", |_| web_socket(&stage));
    walk.step(
        "the packets go box, owner node, pod: no NAT, no other node",
        |_| path(&stage),
    );
    walk.step("a certificate from the ACME CA by HTTP-01", |m| {
        certificate(&stage, m)
    });
    walk.step("a Service of type LoadBalancer: TCP through its own VIP", |m| {
        load_balancer(&stage, m)
    });
    walk.step("a pod is added and removed while traffic runs", |m| {
        pod_comes_and_goes(&mut stage, m)
    });
    walk.step("a node's BGP goes away while traffic runs", |m| {
        node_withdrawn(&stage, m)
    });
    walk.step("`sekisho explain` tells the whole chain", |_| explain(&stage));
    if stdout().is_terminal() && stdin().is_terminal() {
        walk.tell();
        stay(&stage)?;
    }
    walk.step(
        "the appliance stops: VIPs withdrawn, kernel routes removed, exit 0",
        |m| stop(&mut stage, m),
    );
    Ok(())
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

fn raise(state: &State, m: &mut Measured) -> Result<Stage> {
    let mut lab = Lab::raise(state)?;
    lab.start_pod(NODE1, "web-1", NODE1.pod(2))?;
    lab.start_pod(NODE2, "web-2", NODE2.pod(2))?;
    // Its address is borrowed from the block of node 1.
    lab.start_pod(NODE3, "web-3", NODE1.pod(5))?;
    let took = lab.wait_for_mesh(Duration::from_secs(40))?;
    m.note(
        "mesh of the nodes complete (BIRD waits 2 s before it dials)",
        seconds(took),
    );
    let authority = Authority::start(state, &lab.client, [198, 51, 100, 10].into())?;
    let manifests = Manifests::create(&state.file("manifests"))?;
    manifests.write("class.yaml", &Manifests::ingress_class())?;
    Ok(Stage {
        lab,
        authority,
        manifests,
        web: SelfSigned::new(&[SHOP], &[])?,
        appliance: None,
    })
}

impl Stage {
    fn appliance(&self) -> Result<&Appliance> {
        self.appliance.as_ref().context("the appliance is not running")
    }

    fn pods(&self) -> Vec<EndpointPod> {
        self.lab.pods.values().map(EndpointPod::from).collect()
    }

    fn target(&self, vip: IpAddr, host: &str, roots: Option<&[String]>) -> Result<Target> {
        let tls = roots.map(Tls::trusting).transpose()?;
        let port = if tls.is_some() { 443 } else { 80 };
        Ok(Target::new(Some(self.lab.client.clone()), SocketAddr::new(vip, port), host).tls(tls))
    }
}

fn start(state: &State, stage: &mut Stage, m: &mut Measured) -> Result<String> {
    let settings = Settings::lab(state, stage.manifests.path(), Some(&stage.authority));
    let began = now();
    let mut appliance = Appliance::start(state, Some(&stage.lab.the_box), &settings)?;
    let outcome = wait_for("every session to be established", Duration::from_secs(40), || {
        appliance.daemon.check()?;
        for node in NODES {
            let (v4, v6) = stage.lab.bird(node)?;
            v4.established("Sekisho").context(node.name)?;
            v6.established("Sekisho")
                .with_context(|| format!("{} IPv6", node.name))?;
        }
        stage.lab.router_bird.established("box4").context("router")?;
        stage.lab.router_bird.established("box6").context("router")
    });
    let said = appliance.ask(&["peers"]);
    stage.appliance = Some(appliance);
    outcome?;
    m.note(
        "all 8 BGP sessions up after the start of the appliance",
        seconds(began.elapsed()),
    );
    said
}

fn routes(stage: &Stage) -> Result<String> {
    let box_ns = &stage.lab.the_box;
    let (borrowed4, borrowed6) = (NODE1.pod(5).v4, NODE1.pod(5).v6);
    let mut wanted: Vec<(String, IpAddr)> = Vec::new();
    for node in NODES {
        wanted.push((node.block_v4(), node.v4().into()));
        wanted.push((node.block_v6(), node.v6().into()));
    }
    wanted.push((borrowed4.to_string(), NODE3.v4().into()));
    wanted.push((borrowed6.to_string(), NODE3.v6().into()));
    let mut said = String::new();
    wait_for("the routes in the kernel", Duration::from_secs(10), || {
        let table = format!(
            "{}{}",
            box_ns.routes("-4 route show")?,
            box_ns.routes("-6 route show")?
        );
        said = String::new();
        for (prefix, via) in &wanted {
            let line = table
                .lines()
                .find(|line| line.starts_with(&format!("{prefix} via {via} ")))
                .with_context(|| format!("the box's kernel has no `{prefix} via {via}`:\n{table}"))?;
            said.push_str(line.trim());
            said.push('\n');
        }
        Ok(())
    })?;
    for (address, via) in [
        (IpAddr::from(borrowed4), IpAddr::from(NODE3.v4())),
        (borrowed6.into(), NODE3.v6().into()),
    ] {
        let got = box_ns.ip(&format!("route get {address}"))?;
        ensure!(
            got.contains(&format!("via {via} ")),
            "longest match: {address} goes {got}"
        );
    }
    let rib = stage.appliance()?.json(&["routes"])?.to_string();
    for (prefix, _) in &wanted {
        ensure!(
            rib.contains(prefix.as_str()),
            "`sekisho routes` does not show {prefix}"
        );
    }
    said.push_str("the borrowed address wins over the block of its neighbour, both families");
    Ok(said)
}

fn ingress(stage: &Stage, m: &mut Measured) -> Result<String> {
    let service = Manifests::service("web", "ClusterIP", &stage.pods());
    let secret = Manifests::tls_secret("shop-tls", &stage.web.certificate, &stage.web.key);
    stage.manifests.write("web.yaml", &service)?;
    stage.manifests.write("secret.yaml", &secret)?;
    let began = now();
    stage.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("shop", SHOP, "web", Some("shop-tls"), false),
    )?;
    let target = stage.target(VIP_V4, SHOP, None)?.impatient();
    let (pod, _) = wait_for("a 200 from the VIP", Duration::from_secs(15), || {
        Ok(target.get("/")?.pod()?.to_owned())
    })?;
    let took = began.elapsed();
    m.note(
        "Ingress written until the first 200 through the announced VIP",
        seconds(took),
    );
    let learned = stage.lab.router.ip(&format!("route show {VIP_V4}"))?;
    ensure!(
        learned.contains("via 192.0.2.10"),
        "the router's kernel has no route to {VIP_V4}: {learned}"
    );
    Ok(format!(
        "first 200 after {}, from {pod}; the router has {}",
        seconds(took),
        learned.trim()
    ))
}

fn every_pod(stage: &Stage) -> Result<String> {
    let roots = [stage.web.certificate.clone()];
    let all: BTreeSet<String> = stage.lab.pods.keys().cloned().collect();
    let mut said = String::new();
    for (vip, family) in [(VIP_V4, "IPv4"), (VIP_V6, "IPv6")] {
        for (scheme, roots) in [("HTTP", None), ("HTTPS", Some(&roots[..]))] {
            let target = stage.target(vip, SHOP, roots)?;
            let mut seen: BTreeMap<String, u32> = BTreeMap::new();
            wait_for(
                &format!("every pod over {family} {scheme}"),
                Duration::from_secs(10),
                || {
                    *seen.entry(target.get("/")?.pod()?.to_owned()).or_default() += 1;
                    ensure!(seen.len() == all.len(), "only {seen:?} answered");
                    Ok(())
                },
            )?;
            let counts: Vec<_> = seen.iter().map(|(pod, count)| format!("{pod} {count}")).collect();
            said.push_str(&format!("{family} {scheme:<5}  {}\n", counts.join(", ")));
        }
    }
    let target = stage.target(VIP_V4, SHOP, None)?;
    let posted = target
        .send("POST", "/upload", &[("X-Demo", "1")], &vec![b'x'; 300_000])?
        .json()?;
    let got = posted.get("body_bytes").and_then(Value::as_u64).unwrap_or(0);
    ensure!(got == 300_000, "a pod got {got} of 300000 octets of a body");
    let nobody = stage.target(VIP_V4, "nobody.example.com", None)?.get("/")?;
    ensure!(
        nobody.status == 404,
        "an unknown host got {} instead of 404",
        nobody.status
    );
    said.push_str("a body of 300000 octets arrived whole; an unknown host gets 404");
    Ok(said)
}

fn web_socket(stage: &Stage) -> Result<String> {
    let target = stage.target(VIP_V4, SHOP, None)?;
    stage.lab.client.enter(|| {
        let mut socket = sekisho_tests::lab::Connection::open(&target)?.web_socket("/ws")?;
        let hello = socket.read()?.into_text()?.to_string();
        for n in 0..100 {
            let text = format!("message {n}");
            socket.send(tungstenite::Message::text(text.clone()))?;
            let back = socket.read()?.into_text()?.to_string();
            ensure!(back == text, "sent {text:?}, got {back:?}");
        }
        Ok(format!("{hello}: 100 messages there and back"))
    })
}

fn path(stage: &Stage) -> Result<String> {
    const BYTES: u64 = 200_000;
    let target = stage.target(VIP_V4, SHOP, None)?;
    let count = |interface: &str| -> Result<Vec<_>> {
        NODES
            .into_iter()
            .map(|node| stage.lab.node(node)?.counters(interface))
            .collect()
    };
    let before = count("eth0")?;
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..30 {
        *answers
            .entry(target.get(&format!("/?bytes={BYTES}"))?.pod()?.to_owned())
            .or_default() += 1;
    }
    let after = count("eth0")?;
    let mut said = String::new();
    for ((node, before), after) in NODES.into_iter().zip(before).zip(after) {
        let pods = stage
            .lab
            .pods
            .values()
            .filter(|pod| pod.node.number == node.number);
        let expected = BYTES
            * pods
                .map(|pod| answers.get(&pod.name).copied().unwrap_or(0))
                .sum::<u64>();
        let sent = (after - before).sent;
        ensure!(
            sent >= expected && sent <= expected + expected / 10 + 100_000,
            "{} sent {sent} octets, its own pods answered {expected}: the packets took another way",
            node.name
        );
        said.push_str(&format!(
            "{}: its pods answered {expected} octets, it sent {sent}\n",
            node.name
        ));
    }
    let mut told = BTreeMap::new();
    wait_for(
        "every pod to tell who called, over both families",
        Duration::from_secs(10),
        || {
            let answer = target.get("/")?.json()?;
            let text = |key: &str| {
                answer
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let (peer, local): (SocketAddr, SocketAddr) = (text("peer").parse()?, text("local").parse()?);
            ensure!(
                [IpAddr::from(BOX.v4), BOX.v6.into()].contains(&peer.ip()),
                "a pod was called by {peer}, not by the box"
            );
            let pod = stage
                .lab
                .pods
                .get(&text("pod"))
                .context("an unknown pod answered")?;
            ensure!(
                [IpAddr::from(pod.address.v4), pod.address.v6.into()].contains(&local.ip()),
                "{} was called as {local}",
                pod.name
            );
            let ports = stage.lab.the_box.connections_to(local.ip(), local.port())?;
            ensure!(
                ports.contains(&peer.port()),
                "the pod sees port {}, the box has {ports:?}: rewritten on the way",
                peer.port()
            );
            let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
            let line = format!(
                "{} ({}): called by {peer} as {local}, as the box has it",
                pod.name, pod.node.name
            );
            told.insert((pod.name.clone(), family), line);
            ensure!(
                told.len() == 2 * stage.lab.pods.len(),
                "so far only {:?}",
                told.keys()
            );
            Ok(())
        },
    )?;
    for netns in [&stage.lab.the_box].into_iter().chain(stage.lab.nodes.values()) {
        let found = netns.translations()?;
        ensure!(found.is_empty(), "{} translates: {found:?}", netns.name());
    }
    for line in told.values() {
        said.push_str(line);
        said.push('\n');
    }
    said.push_str("no NAT table and no tracked connection in the box or on a node");
    Ok(said)
}

fn certificate(stage: &Stage, m: &mut Measured) -> Result<String> {
    let roots = [stage.authority.root()?];
    let began = now();
    stage.manifests.write(
        "acme.yaml",
        &Manifests::ingress("acme", ACME, "web", Some("acme-tls"), true),
    )?;
    let target = stage.target(VIP_V4, ACME, Some(&roots))?.impatient();
    let (response, _) = wait_for(
        "a certificate that the CA's root vouches for",
        Duration::from_secs(60),
        || {
            let response = target.get("/")?;
            response.pod()?;
            Ok(response)
        },
    )?;
    let took = began.elapsed();
    m.note(
        "Ingress written until HTTPS with the CA's certificate",
        seconds(took),
    );
    let der = response.certificate.context("no certificate")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der)?;
    Ok(format!(
        "{} after {}: issuer {}, until {}",
        ACME,
        seconds(took),
        certificate.issuer(),
        certificate.validity().not_after
    ))
}

fn load_balancer(stage: &Stage, m: &mut Measured) -> Result<String> {
    let yaml = Manifests::service("echo", "LoadBalancer", &stage.pods()).replace(
        "  type: LoadBalancer",
        &format!("  type: LoadBalancer\n  loadBalancerIP: {LB}"),
    );
    let began = now();
    stage.manifests.write("echo.yaml", &yaml)?;
    let address: SocketAddr = format!("{LB}:9000").parse()?;
    let (first, _) = wait_for("the TCP service", Duration::from_secs(15), || {
        tcp_talk(&stage.lab.client, address, "hello")
    })?;
    let took = began.elapsed();
    m.note(
        "LoadBalancer Service written until TCP answers on its VIP",
        seconds(took),
    );
    let learned = stage.lab.router.ip(&format!("route show {LB}"))?;
    ensure!(
        learned.contains("via 192.0.2.10"),
        "the router's kernel has no route to {LB}: {learned}"
    );
    let mut seen = BTreeSet::from([first]);
    wait_for("every pod over TCP", Duration::from_secs(10), || {
        seen.insert(tcp_talk(&stage.lab.client, address, &"x".repeat(100_000))?);
        ensure!(seen.len() == stage.lab.pods.len(), "only {seen:?}");
        Ok(())
    })?;
    Ok(format!(
        "{} answered; half-close is passed on; the router has {}",
        Vec::from_iter(seen).join(", "),
        learned.trim()
    ))
}

/// Sends `text`, closes its half, reads to the end; gives the greeting (pod and node).
fn tcp_talk(from: &Netns, address: SocketAddr, text: &str) -> Result<String> {
    use std::io::{Read, Write};
    from.enter(|| {
        let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut writer = stream.try_clone()?;
        let mut all = String::new();
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || {
                writer.write_all(text.as_bytes())?;
                writer.shutdown(std::net::Shutdown::Write)
            });
            stream.read_to_string(&mut all)?;
            sending.join().map_err(|_| std::io::Error::other("sender"))?
        })?;
        let (greeting, rest) = all.split_once('\n').context("no greeting")?;
        ensure!(
            rest == text,
            "sent {} octets, got {} back",
            text.len(),
            rest.len()
        );
        Ok(greeting.to_owned())
    })
}

fn start_load(stage: &Stage) -> Result<Load> {
    let load = Load::start(
        &stage.target(VIP_V4, SHOP, None)?,
        "/",
        8,
        Duration::from_millis(4),
    );
    wait_for("the load to run", Duration::from_secs(5), || {
        ensure!(load.count() > 200, "{} requests", load.count());
        Ok(())
    })?;
    Ok(load)
}

fn pod_comes_and_goes(stage: &mut Stage, m: &mut Measured) -> Result<String> {
    let load = start_load(stage)?;
    stage.lab.start_pod(NODE2, "web-4", NODE2.pod(3))?;
    let added = now();
    stage
        .manifests
        .write("web.yaml", &Manifests::service("web", "ClusterIP", &stage.pods()))?;
    wait_for("the new pod to answer", Duration::from_secs(10), || {
        ensure!(load.tally().saw("web-4"), "it has not answered");
        Ok(())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    // As a cluster does it: first the slice says so, then the pod gets its grace period, then it is gone.
    let mut pods = stage.pods();
    pods.retain(|pod| pod.pod != "web-4");
    let removed = now();
    stage
        .manifests
        .write("web.yaml", &Manifests::service("web", "ClusterIP", &pods))?;
    std::thread::sleep(Duration::from_secs(1));
    stage.lab.stop_pod("web-4")?;
    std::thread::sleep(Duration::from_millis(500));
    let tally = load.end();
    let first = tally
        .first_of("web-4")
        .context("never answered")?
        .saturating_duration_since(added);
    let last = tally
        .last_of("web-4")
        .context("never answered")?
        .saturating_duration_since(removed);
    let (median, longest) = tally.latency();
    m.note("pod added: until its first request", seconds(first));
    m.note("pod removed: until its last request", seconds(last));
    m.note(
        "pod added and removed: failed of all requests",
        format!("{} of {}", tally.failed(), tally.total()),
    );
    m.note(
        "request through the box under that load, median / longest",
        format!("{median:.1?} / {longest:.1?}"),
    );
    ensure!(
        tally.failed() == 0,
        "{} of {} requests failed: {:?}",
        tally.failed(),
        tally.total(),
        tally.failures()
    );
    Ok(format!(
        "{} requests, none failed: {:?}",
        tally.total(),
        tally.by_pod()
    ))
}

fn node_withdrawn(stage: &Stage, m: &mut Measured) -> Result<String> {
    let load = start_load(stage)?;
    let (v4, v6) = stage.lab.bird(NODE2)?;
    let at = now();
    v4.session("Sekisho", false)?;
    v6.session("Sekisho", false)?;
    std::thread::sleep(Duration::from_secs(2));
    let tally = load.end();
    let last = tally
        .last_of("web-2")
        .context("web-2 had no traffic before")?
        .saturating_duration_since(at);
    m.note(
        "node's BGP withdrawn: until the last request to its pod",
        seconds(last),
    );
    m.note(
        "node's BGP withdrawn: failed of all requests",
        format!("{} of {}", tally.failed(), tally.total()),
    );
    let why = stage.appliance()?.ask(&["endpoints", "shop/web"])?;
    v4.session("Sekisho", true)?;
    v6.session("Sekisho", true)?;
    ensure!(
        last < Duration::from_secs(1),
        "requests went to web-2 for {}",
        seconds(last)
    );
    ensure!(
        tally.failed() * 1000 <= tally.total(),
        "{} of {} requests failed: {:?}",
        tally.failed(),
        tally.total(),
        tally.failures()
    );
    let target = stage.target(VIP_V4, SHOP, None)?;
    let ((), back) = wait_for("web-2 to answer again", Duration::from_secs(20), || {
        if target.get("/")?.pod()? == "web-2" {
            Ok(())
        } else {
            bail!("others answer")
        }
    })?;
    wait_for("both sessions of node2", Duration::from_secs(20), || {
        v4.established("Sekisho")?;
        v6.established("Sekisho")
    })?;
    Ok(format!(
        "last request {} after the withdrawal; {} of {} failed{}; back in use {} after it was enabled again\n{}",
        seconds(last),
        tally.failed(),
        tally.total(),
        if tally.failed() == 0 {
            String::new()
        } else {
            format!(" {:?}", tally.failures())
        },
        seconds(back),
        why.trim_end()
    ))
}

fn explain(stage: &Stage) -> Result<String> {
    let text = stage
        .appliance()?
        .ask(&["explain", &format!("https://{SHOP}/cart")])?;
    for word in [SHOP, "web-1", "web-2", "web-3", "shop", "10.0.0.1"] {
        ensure!(text.contains(word), "it does not mention {word}:\n{text}");
    }
    Ok(text.trim_end().to_owned())
}

fn stay(stage: &Stage) -> Result<()> {
    println!(
        "\nThe lab stays up. From another terminal: `make lab-shell`, a shell inside; there for example"
    );
    println!("  ip netns exec client curl -H 'Host: {SHOP}' http://{VIP_V4}/");
    println!("  ip netns exec client curl -k --resolve {ACME}:443:{VIP_V4} https://{ACME}/");
    println!(
        "  ip netns exec box sekisho status --config {}",
        stage.appliance()?.file().display()
    );
    println!(
        "Manifests: {} (edit them; they are watched)",
        stage.manifests.path().display()
    );
    println!("Enter ends it; so does Ctrl-C, at once.");
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    Ok(())
}

fn stop(stage: &mut Stage, m: &mut Measured) -> Result<String> {
    let appliance = stage.appliance.take().context("the appliance is not running")?;
    let took = appliance.stop(Duration::from_secs(45))?;
    m.note("orderly stop of the appliance", seconds(took));
    wait_for("the router to forget the VIP", Duration::from_secs(2), || {
        let left = stage.lab.router.ip(&format!("route show {VIP_V4}"))?;
        ensure!(left.trim().is_empty(), "still there: {left}");
        Ok(())
    })?;
    let table = stage.lab.the_box.ip("-4 route show")? + &stage.lab.the_box.ip("-6 route show")?;
    let left: Vec<_> = table
        .lines()
        .filter(|line| line.contains("10.244.") || line.contains("fd00:244:"))
        .collect();
    ensure!(left.is_empty(), "left in the box's kernel: {left:?}");
    Ok(format!("exit 0 after {}, nothing left behind", seconds(took)))
}
