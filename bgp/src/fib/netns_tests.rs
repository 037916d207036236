//! The kernel itself: each test runs again in a child process, in a user and network namespace of its own.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::rib::{Gateway, KernelTarget};

const INSIDE: &str = "SEKISHO_TEST_INSIDE_NAMESPACE";
/// Nothing in here takes long; a test that waits in vain says for what.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs one test of this file in a namespace. Returns `false` inside, where the test goes on.
fn outside(test: &str, drop_privileges: bool) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let probe = Command::new("unshare").args(["-Urn", "true"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!(
                "skipped: the kernel forbids namespaces: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return true;
        }
        Err(error) => panic!("unshare (package util-linux) is needed: {error}"),
    }
    let setup = "set -e; ip link set lo up; ip link add v0 type veth peer name v1; ip link set v1 up; \
                 ip addr add 10.0.0.10/24 dev v0; ip -6 addr add 2001:db8::10/64 dev v0 nodad; ip link set v0 up; \
                 ip route add 10.8.0.0/16 via 10.0.0.254; ip route add blackhole 10.9.0.0/16";
    let drop = if drop_privileges {
        "setpriv --bounding-set=-all --inh-caps=-all"
    } else {
        ""
    };
    let script =
        format!("{setup}; exec {drop} \"$0\" --exact fib::netns_tests::{test} --nocapture --test-threads=1");
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["-Urn", "sh", "-c", &script])
        .arg(exe)
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    true
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Our routes as `ip` shows them, one a line, multipath on one line, blanks folded, without the router preference.
fn ours() -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        for line in ip(&format!("-o {family} route show table all proto 94")).lines() {
            let words: Vec<_> = line
                .split([' ', '\\', '\t'])
                .filter(|word| !word.is_empty())
                .collect();
            lines.push(words.join(" ").replace(" pref medium", ""));
        }
    }
    lines.sort();
    lines
}

struct Box {
    handle: Handle,
    next_hops: watch::Receiver<NextHops>,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
    /// The ways that were told, with their numbers.
    ways: std::cell::RefCell<Vec<Gateways>>,
}

/// With gateways in each route, as on old kernels.
fn start_with(install_routes: bool) -> Box {
    start_so(install_routes, false)
}

fn start_so(install_routes: bool, nexthop_objects: bool) -> Box {
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let inputs = Inputs {
        settings: Settings {
            install_routes,
            table: 254,
            nexthop_objects,
        },
        tasks: tasks.clone(),
        runtime: tokio::runtime::Handle::current(),
        stop: stop.clone(),
    };
    let (handle, next_hops) = start(inputs, metrics.clone());
    Box {
        handle,
        next_hops,
        tasks,
        stop,
        metrics,
        ways: std::cell::RefCell::default(),
    }
}

fn gateways(via: &[&str]) -> Gateways {
    let interface = ip("-o link show v0").split(':').next().unwrap().parse().unwrap();
    via.iter()
        .map(|via| Gateway {
            via: via.parse().unwrap(),
            interface,
            weight: 1,
        })
        .collect()
}

impl Box {
    fn want(&self, prefix: &str, via: &[&str]) {
        let way = (!via.is_empty()).then(|| self.way(gateways(via)));
        self.handle
            .routes(Vec::new(), vec![(prefix.parse().unwrap(), way)]);
    }

    /// The number of a way; told when it is new.
    fn way(&self, gateways: Gateways) -> ForwardingId {
        let mut ways = self.ways.borrow_mut();
        let known = ways.iter().position(|known| *known == gateways);
        let at = known.unwrap_or_else(|| {
            ways.push(Arc::clone(&gateways));
            ways.len() - 1
        });
        let id = ForwardingId::numbered(u32::try_from(at).unwrap() + 1);
        if known.is_none() {
            self.handle.routes(vec![(id, Some(gateways))], Vec::new());
        }
        id
    }

    /// The way leads elsewhere now.
    fn way_moves(&self, way: ForwardingId, via: &[&str]) {
        self.handle.routes(vec![(way, Some(gateways(via)))], Vec::new());
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        assert!(
            timeout(PATIENCE, self.tasks.wait()).await.is_ok(),
            "the task ends"
        );
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, wait).await.is_err() {
        panic!("never: {what}; ours: {:#?}", ours());
    }
}

async fn eventually_ours(want: &[&str]) {
    eventually(&format!("{want:#?}"), || ours() == want).await;
}

/// What `ip monitor route` saw while `body` ran.
async fn watched(body: impl AsyncFn()) -> String {
    let mut monitor = Command::new("ip")
        .args(["-o", "monitor", "route"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It listens once it shows a route of no other meaning.
    let mut output = monitor.stdout.take().unwrap();
    let (lines, mut seen) = tokio::sync::mpsc::channel(10_000);
    let reader = std::thread::spawn(move || {
        use std::io::BufRead as _;
        for line in std::io::BufReader::new(&mut output).lines() {
            if lines.blocking_send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    let mut text = String::new();
    let mut mtu = 1280;
    for marker in ["198.51.100.1", "198.51.100.2"] {
        if marker.ends_with('2') {
            body().await;
        }
        let begun = tokio::time::Instant::now();
        loop {
            assert!(
                begun.elapsed() < PATIENCE,
                "the monitor never shows {marker}: {text}"
            );
            // Replaced by the same, the kernel says nothing.
            mtu += 1;
            ip(&format!("route replace {marker} dev v0 mtu {mtu}"));
            let line = timeout(Duration::from_millis(100), seen.recv()).await;
            if let Ok(Some(line)) = line {
                let found = line.contains(marker);
                text.push_str(&line);
                text.push('\n');
                if found {
                    break;
                }
            }
        }
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    drop(seen);
    reader.join().unwrap();
    text
}

#[tokio::test]
async fn routes_are_written_replaced_and_removed() {
    if outside("routes_are_written_replaced_and_removed", false) {
        return;
    }
    let fib = start_with(true);
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    fib.want("10.244.1.0/26", &["10.0.0.1", "10.0.0.2"]);
    fib.want("10.244.2.0/26", &["2001:db8::1"]);
    fib.want("fd00::/122", &["2001:db8::1"]);
    fib.want("fd00:1::/122", &["2001:db8::1", "2001:db8::2"]);
    fib.want("fd00:2::/122", &["fe80::1"]);
    fib.handle.vips(
        ["203.0.113.1", "2001:db8:1::1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
    );
    let first = [
        "10.244.0.0/26 via 10.0.0.1 dev v0 metric 2048",
        "10.244.1.0/26 metric 2048 nexthop via 10.0.0.1 dev v0 weight 1 nexthop via 10.0.0.2 dev v0 weight 1",
        "10.244.2.0/26 via inet6 2001:db8::1 dev v0 metric 2048",
        "fd00:1::/122 metric 2048 nexthop via 2001:db8::1 dev v0 weight 1 nexthop via 2001:db8::2 dev v0 weight 1",
        "fd00:2::/122 via fe80::1 dev v0 metric 2048",
        "fd00::/122 via 2001:db8::1 dev v0 metric 2048",
        "local 2001:db8:1::1 dev lo table local metric 2048",
        "local 203.0.113.1 dev lo table local scope host metric 2048",
    ];
    eventually_ours(&first).await;
    eventually("counted", || {
        let state = fib.handle.state();
        (state.ipv4, state.ipv6, state.vips, state.pending, state.error) == (3, 3, 2, 0, None)
    })
    .await;
    // The box takes packets for a service address now.
    std::net::TcpListener::bind("203.0.113.1:0").unwrap();

    let second = [
        "10.244.0.0/26 metric 2048 nexthop via 10.0.0.2 dev v0 weight 1 nexthop via 10.0.0.3 dev v0 weight 1",
        "10.244.1.0/26 via 10.0.0.2 dev v0 metric 2048",
        "10.244.2.0/26 via inet6 2001:db8::1 dev v0 metric 2048",
        "fd00:1::/122 via 2001:db8::2 dev v0 metric 2048",
        "fd00:2::/122 metric 2048 nexthop via fe80::2 dev v0 weight 1 nexthop via fe80::3 dev v0 weight 1",
        "fd00::/122 via 2001:db8::3 dev v0 metric 2048",
        "local 203.0.113.1 dev lo table local scope host metric 2048",
    ];
    let seen = watched(async || {
        fib.want("10.244.0.0/26", &["10.0.0.2", "10.0.0.3"]);
        fib.want("10.244.1.0/26", &["10.0.0.2"]);
        fib.want("fd00::/122", &["2001:db8::3"]);
        fib.want("fd00:1::/122", &["2001:db8::2"]);
        fib.want("fd00:2::/122", &["fe80::2", "fe80::3"]);
        fib.handle.vips(["203.0.113.1".parse().unwrap()].into());
        eventually_ours(&second).await;
    })
    .await;
    let deleted: Vec<_> = seen.lines().filter(|line| line.contains("Deleted")).collect();
    assert_eq!(
        deleted.len(),
        1,
        "only the service address that nobody wants: {seen}"
    );
    assert!(deleted[0].contains("2001:db8:1::1"), "{seen}");

    fib.handle.finish().await;
    assert!(ours().is_empty(), "{:?}", ours());
    assert!(ip("route show").contains("10.8.0.0/16"), "others' routes stay");
    fib.end().await;
}

#[tokio::test]
async fn a_withdrawn_route_lingers_unless_another_leads_on() {
    if outside("a_withdrawn_route_lingers_unless_another_leads_on", false) {
        return;
    }
    let fib = start_with(true);
    for (prefix, via) in [
        ("10.244.0.0/26", "10.0.0.1"),
        ("10.244.1.0/26", "10.0.0.2"),
        ("10.244.1.9/32", "10.0.0.1"),
        ("10.244.2.0/26", "10.0.0.1"),
    ] {
        fib.want(prefix, &[via]);
    }
    eventually("written", || ours().len() == 4).await;
    let seen = watched(async || {
        // Together: a block that comes back at once, a block, an address of a block that stays.
        fib.want("10.244.2.0/26", &[]);
        fib.want("10.244.0.0/26", &[]);
        fib.want("10.244.1.9/32", &[]);
        fib.want("10.244.2.0/26", &["10.0.0.1"]);
        eventually("gone", || ours().len() == 2).await;
    })
    .await;
    let deleted: Vec<_> = seen.lines().filter(|line| line.contains("Deleted")).collect();
    assert_eq!(deleted.len(), 2, "{seen}");
    assert!(deleted[0].contains("10.244.1.9"), "at once: {seen}");
    assert!(deleted[1].contains("10.244.0.0/26"), "later: {seen}");
    fib.handle.finish().await;
    assert!(ours().is_empty(), "{:?}", ours());
    fib.end().await;
}

#[tokio::test]
async fn left_overs_are_kept_while_wanted_and_swept_after_convergence() {
    if outside(
        "left_overs_are_kept_while_wanted_and_swept_after_convergence",
        false,
    ) {
        return;
    }
    ip("route add 10.244.0.0/26 via 10.0.0.1 proto 94 metric 2048");
    ip("route add 10.244.1.0/26 via 10.0.0.1 proto 94 metric 2048");
    ip("-6 route add fd00::/122 via 2001:db8::1 proto 94 metric 2048");
    ip("route add 10.244.2.0/26 via 10.0.0.1 proto 94 metric 2048 table 77");
    ip("route add local 203.0.113.9 dev lo table local proto 94 metric 2048");
    let fib = start_with(true);
    let seen = watched(async || {
        eventually("read", || fib.handle.state().ipv4 == 3).await;
        fib.want("10.244.0.0/26", &["10.0.0.1"]);
        fib.want("10.244.3.0/26", &["10.0.0.3"]);
        eventually("written", || fib.handle.state().ipv4 == 4).await;
        assert_eq!(ours().len(), 6, "nothing is swept before the first convergence");
        fib.handle.converged();
        eventually_ours(&[
            "10.244.0.0/26 via 10.0.0.1 dev v0 metric 2048",
            "10.244.3.0/26 via 10.0.0.3 dev v0 metric 2048",
        ])
        .await;
    })
    .await;
    assert!(
        !seen.contains("10.244.0.0/26"),
        "what is wanted is not touched: {seen}"
    );
    // A process that is killed leaves its routes.
    fib.end().await;
    assert_eq!(ours().len(), 2);
}

#[tokio::test]
async fn a_foreign_hand_is_put_right() {
    if outside("a_foreign_hand_is_put_right", false) {
        return;
    }
    let fib = start_with(true);
    fib.handle.converged();
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    fib.want("fd00::/122", &["2001:db8::1", "2001:db8::2"]);
    let want = [
        "10.244.0.0/26 via 10.0.0.1 dev v0 metric 2048",
        "fd00::/122 metric 2048 nexthop via 2001:db8::1 dev v0 weight 1 nexthop via 2001:db8::2 dev v0 weight 1",
    ];
    eventually_ours(&want).await;
    let reasserted = |count| {
        let metrics = fib.metrics.clone();
        move || metrics.reasserted.get() >= count
    };
    ip("route del 10.244.0.0/26 proto 94");
    eventually("heard", reasserted(1)).await;
    eventually_ours(&want).await;
    ip("route replace 10.244.0.0/26 via 10.0.0.7 proto 94 metric 2048");
    eventually("heard", reasserted(2)).await;
    eventually_ours(&want).await;
    ip("-6 route del fd00::/122 via 2001:db8::1 proto 94");
    eventually("heard", reasserted(3)).await;
    eventually_ours(&want).await;
    ip("route add 10.244.9.0/26 via 10.0.0.7 proto 94 metric 2048");
    eventually_ours(&want).await;
    // The link goes away and comes back: the kernel drops IPv4 routes without a word.
    ip("link set v0 down");
    eventually("pending", || fib.handle.state().pending > 0).await;
    ip("link set v0 up");
    ip("-6 addr replace 2001:db8::10/64 dev v0 nodad");
    eventually_ours(&want).await;
    eventually("no error any more", || fib.handle.state().error.is_none()).await;
    fib.handle.finish().await;
    fib.end().await;
}

#[tokio::test]
async fn next_hops_follow_links_and_routes() {
    if outside("next_hops_follow_links_and_routes", false) {
        return;
    }
    let mut fib = start_with(false);
    let target = |view: &NextHops, address: &str| {
        view.longest(address.parse().unwrap())
            .map(|(_, route)| route.target)
    };
    let wait = async |fib: &mut Box, holds: &dyn Fn(&NextHops) -> bool| {
        let found = timeout(PATIENCE, fib.next_hops.wait_for(|view| holds(view)))
            .await
            .is_ok();
        assert!(found, "{:?}", fib.next_hops.borrow());
    };
    let connected = |view: &NextHops, address: &str| {
        matches!(target(view, address), Some(KernelTarget::Connected { .. }))
    };
    wait(&mut fib, &|view| {
        connected(view, "10.0.0.1")
            && connected(view, "2001:db8::1")
            && matches!(target(view, "10.8.1.1"), Some(KernelTarget::Via { .. }))
            && target(view, "10.9.1.1") == Some(KernelTarget::Reject)
            && view.is_local("10.0.0.10".parse().unwrap())
            && view.is_local("2001:db8::10".parse().unwrap())
            && view.links.values().any(|name| &**name == "v0")
    })
    .await;
    ip("link set v1 down");
    wait(&mut fib, &|view| {
        !connected(view, "10.0.0.1") && target(view, "10.8.1.1").is_none()
    })
    .await;
    ip("link set v1 up");
    wait(&mut fib, &|view| connected(view, "10.0.0.1")).await;
    ip("link set v0 down");
    wait(&mut fib, &|view| {
        !connected(view, "10.0.0.1") && !connected(view, "2001:db8::1")
    })
    .await;
    ip("link set v0 up");
    wait(&mut fib, &|view| connected(view, "10.0.0.1")).await;
    ip("addr del 10.0.0.10/24 dev v0");
    wait(&mut fib, &|view| target(view, "10.0.0.1").is_none()).await;
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    fib.handle.finish().await;
    assert!(ours().is_empty(), "install_routes = false");
    fib.end().await;
}

#[tokio::test]
async fn settings_change_while_running() {
    if outside("settings_change_while_running", false) {
        return;
    }
    let fib = start_with(false);
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    eventually("nothing to do", || fib.handle.state() == State::default()).await;
    let settings = |install_routes, table| Settings {
        install_routes,
        table,
        nexthop_objects: false,
    };
    fib.handle.configure(settings(true, 254));
    eventually_ours(&["10.244.0.0/26 via 10.0.0.1 dev v0 metric 2048"]).await;
    fib.handle.configure(settings(true, 1000));
    eventually_ours(&["10.244.0.0/26 via 10.0.0.1 dev v0 table 1000 metric 2048"]).await;
    fib.handle.configure(settings(false, 1000));
    eventually_ours(&[]).await;
    fib.end().await;
}

#[tokio::test]
async fn a_refused_route_is_named_and_tried_again() {
    if outside("a_refused_route_is_named_and_tried_again", false) {
        return;
    }
    let fib = start_with(true);
    fib.want("10.244.0.0/26", &["192.0.2.1"]);
    fib.want("10.244.1.0/26", &["10.0.0.1"]);
    eventually("refused", || {
        fib.handle
            .state()
            .error
            .is_some_and(|error| error.contains("10.244.0.0/26"))
    })
    .await;
    eventually_ours(&["10.244.1.0/26 via 10.0.0.1 dev v0 metric 2048"]).await;
    assert!(fib.metrics.errors.get() >= 1);
    ip("addr add 192.0.2.10/24 dev v0");
    eventually("written after all", || ours().len() == 2).await;
    eventually("no error any more", || fib.handle.state().error.is_none()).await;
    fib.handle.finish().await;
    fib.end().await;
}

#[tokio::test]
async fn without_permission_it_says_so_and_still_reads() {
    if outside("without_permission_it_says_so_and_still_reads", true) {
        return;
    }
    let mut fib = start_with(true);
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    eventually("told", || {
        fib.handle
            .state()
            .error
            .is_some_and(|error| error.contains("CAP_NET_ADMIN"))
    })
    .await;
    let known = fib
        .next_hops
        .wait_for(|view| view.longest("10.0.0.1".parse().unwrap()).is_some());
    assert!(timeout(PATIENCE, known).await.is_ok());
    assert_eq!(fib.metrics.errors.get(), 1, "once, not once a route");
    fib.handle.finish().await;
    fib.end().await;
}

#[tokio::test]
async fn many_routes_at_once_do_not_drown_the_events() {
    if outside("many_routes_at_once_do_not_drown_the_events", false) {
        return;
    }
    let fib = start_with(true);
    fib.handle.converged();
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    eventually("first", || fib.handle.state().ipv4 == 1).await;
    fib.metrics.last_resync.set(0);
    let way = fib.way(gateways(&["10.0.0.2"]));
    let changes = |way: Option<ForwardingId>| -> Vec<_> {
        (0..20_000u32)
            .map(|block| {
                let address = std::net::Ipv4Addr::from_bits(0x6440_0000 + (block << 6));
                (Prefix::new(IpAddr::V4(address), 26).unwrap(), way)
            })
            .collect()
    };
    let begun = tokio::time::Instant::now();
    fib.handle.routes(Vec::new(), changes(Some(way)));
    eventually("all there", || fib.handle.state().ipv4 == 20_001).await;
    println!("20,000 routes written in {:?}", begun.elapsed());
    assert_eq!(ip("-4 route show proto 94").lines().count(), 20_001);
    fib.handle.routes(Vec::new(), changes(None));
    eventually("all gone", || fib.handle.state().ipv4 == 1).await;
    assert_eq!(
        fib.metrics.last_resync.get(),
        0,
        "no event was lost, so nothing was read again"
    );
    assert_eq!(fib.metrics.reasserted.get(), 0);
    fib.handle.finish().await;
    fib.end().await;
}

/// Nexthop objects of ours as `ip` shows them, without their numbers.
fn objects() -> Vec<String> {
    let mut lines: Vec<String> = ip("-o nexthop show proto 94")
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().skip(2).collect();
            if words.first() == Some(&"group") {
                let members = words.get(1).map_or(0, |list| list.split('/').count());
                format!("group of {members}")
            } else {
                words
                    .join(" ")
                    .replace(" proto 94", "")
                    .replace(" scope link", "")
            }
        })
        .collect();
    lines.sort();
    lines
}

/// Where the kernel sends a packet.
fn way_of(address: &str) -> String {
    let text = ip(&format!("-o route get {address}"));
    let words: Vec<_> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "via").unwrap();
    words.get(at + 1).unwrap().to_string()
}

#[tokio::test]
async fn routes_share_objects() {
    if outside("routes_share_objects", false) {
        return;
    }
    let fib = start_so(true, true);
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    fib.want("10.244.1.0/26", &["10.0.0.1"]);
    fib.want("10.244.2.0/26", &["2001:db8::1"]);
    fib.want("10.244.3.0/26", &["10.0.0.1", "10.0.0.2"]);
    fib.want("fd00::/122", &["2001:db8::1"]);
    fib.want("fd00:1::/122", &["2001:db8::1", "2001:db8::2"]);
    eventually("written", || ours().len() == 6 && fib.handle.state().pending == 0).await;
    assert_eq!(
        objects(),
        [
            "group of 1",
            "group of 1",
            "group of 2",
            "group of 2",
            "via 10.0.0.1 dev v0",
            "via 10.0.0.2 dev v0",
            "via 2001:db8::1 dev v0",
            "via 2001:db8::2 dev v0",
        ]
    );
    assert_eq!(fib.handle.state().nexthop_groups, 4);
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/nexthop_compat_mode")
            .unwrap()
            .trim(),
        "0"
    );
    let (before, way) = (ours(), fib.way(gateways(&["10.0.0.1"])));
    fib.way_moves(way, &["10.0.0.9"]);
    eventually("both go elsewhere", || {
        way_of("10.244.0.1") == "10.0.0.9" && way_of("10.244.1.1") == "10.0.0.9"
    })
    .await;
    assert_eq!(ours(), before, "no route was touched");
    fib.want("10.244.3.0/26", &[]);
    let both = fib.way(gateways(&["10.0.0.1", "10.0.0.2"]));
    fib.handle.routes(vec![(both, None)], Vec::new());
    eventually("what nobody needs is gone", || {
        let objects = objects();
        ours().len() == 5 && objects.len() == 6 && !objects.contains(&"via 10.0.0.1 dev v0".to_owned())
    })
    .await;
    fib.handle.finish().await;
    assert!(
        ours().is_empty() && objects().is_empty(),
        "{:?} {:?}",
        ours(),
        objects()
    );
    fib.end().await;
}

#[tokio::test]
async fn very_many_routes_move_and_go_with_their_object() {
    if outside("very_many_routes_move_and_go_with_their_object", false) {
        return;
    }
    let fib = start_so(true, true);
    fib.handle.converged();
    let all = |way: Option<ForwardingId>| -> Vec<_> {
        (0..20_000u32)
            .map(|block| {
                let address = std::net::Ipv4Addr::from_bits(0x6440_0000 + (block << 6));
                (Prefix::new(IpAddr::V4(address), 26).unwrap(), way)
            })
            .collect()
    };
    let (one, two) = (ForwardingId::numbered(1001), ForwardingId::numbered(1002));
    fib.handle
        .routes(vec![(one, Some(gateways(&["10.0.0.1"])))], all(Some(one)));
    eventually("all there", || fib.handle.state().ipv4 == 20_000).await;
    fib.metrics.last_resync.set(0);
    let seen = watched(async || {
        // The table decides anew: another way for every one of them, and nobody goes the old one any more.
        fib.handle.routes(
            vec![(one, None), (two, Some(gateways(&["10.0.0.2"])))],
            all(Some(two)),
        );
        eventually("all go there", || way_of("100.64.0.1") == "10.0.0.2").await;
        eventually("nothing to do", || fib.handle.state().pending == 0).await;
    })
    .await;
    assert!(!seen.contains("100.64."), "no route was written: {seen}");
    assert_eq!(way_of("100.68.226.1"), "10.0.0.2");
    assert_eq!(ip("-4 route show proto 94").lines().count(), 20_000);
    fib.handle.routes(vec![(two, None)], all(None));
    eventually("all gone", || ours().is_empty() && objects().is_empty()).await;
    eventually("counted", || fib.handle.state() == State::default()).await;
    assert_eq!(fib.metrics.last_resync.get(), 0, "nothing was read again");
    fib.handle.finish().await;
    fib.end().await;
}

#[tokio::test]
async fn objects_of_an_earlier_process_are_taken_over_or_swept() {
    if outside("objects_of_an_earlier_process_are_taken_over_or_swept", false) {
        return;
    }
    let first = start_so(true, true);
    first.want("10.244.0.0/26", &["10.0.0.1"]);
    first.want("10.244.1.0/26", &["10.0.0.2"]);
    eventually("written", || ours().len() == 2).await;
    // Killed: everything stays.
    first.end().await;
    let before = ours();
    assert_eq!((before.len(), objects().len()), (2, 4));
    // Somebody else's number is left alone.
    ip("nexthop add id 7 via 10.0.0.7 dev v0 proto 94");
    let second = start_so(true, true);
    let seen = watched(async || {
        eventually("read", || second.handle.state().ipv4 == 2).await;
        second.want("10.244.0.0/26", &["10.0.0.1"]);
        eventually("nothing to do", || second.handle.state().pending == 0).await;
        assert_eq!(ours(), before, "nothing is swept before the first convergence");
        second.handle.converged();
        eventually("the other one is gone", || {
            ours().len() == 1 && objects().len() == 3
        })
        .await;
    })
    .await;
    assert!(
        !seen.contains("10.244.0.0/26"),
        "what is wanted is not touched: {seen}"
    );
    second.handle.finish().await;
    assert_eq!(objects(), ["via 10.0.0.7 dev v0"]);
    second.end().await;
}

#[tokio::test]
async fn objects_that_the_kernel_or_others_remove_come_back() {
    if outside("objects_that_the_kernel_or_others_remove_come_back", false) {
        return;
    }
    let fib = start_so(true, true);
    fib.handle.converged();
    fib.want("10.244.0.0/26", &["10.0.0.1"]);
    fib.want("fd00::/122", &["2001:db8::1", "2001:db8::2"]);
    eventually("written", || ours().len() == 2).await;
    let there = || {
        let objects = objects();
        ours().len() == 2 && objects.len() == 5 && fib.handle.state().pending == 0
    };
    eventually("counted", there).await;
    let id = |text: &str| text.split_whitespace().nth(1).unwrap().to_owned();
    for object in ip("-o nexthop show proto 94").lines() {
        ip(&format!("nexthop del id {}", id(object)));
        eventually("there again", there).await;
    }
    // A link that loses its carrier takes them all.
    ip("link set v1 down");
    eventually("pending", || fib.handle.state().pending > 0 || ours().is_empty()).await;
    ip("link set v1 up");
    eventually("there again", there).await;
    eventually("no error any more", || fib.handle.state().error.is_none()).await;
    fib.handle.finish().await;
    assert!(ours().is_empty() && objects().is_empty());
    fib.end().await;
}

#[tokio::test]
async fn shares_have_their_weights() {
    if outside("shares_have_their_weights", false) {
        return;
    }
    for objects in [true, false] {
        let fib = start_so(true, objects);
        let mut shares = gateways(&["10.0.0.1", "10.0.0.2"]).to_vec();
        shares[0].weight = 64;
        shares[1].weight = 256;
        let way = fib.way(shares.into());
        fib.handle
            .routes(Vec::new(), vec![("10.244.0.0/26".parse().unwrap(), Some(way))]);
        eventually("weighted", || {
            let text = ip("-o route show 10.244.0.0/26") + &ip("-o nexthop show proto 94");
            text.contains(",64/") && text.contains(",256")
                || text.contains("10.0.0.1 dev v0 weight 64") && text.contains("10.0.0.2 dev v0 weight 256")
        })
        .await;
        eventually("settled", || fib.handle.state().pending == 0).await;
        fib.handle.finish().await;
        fib.end().await;
    }
}
