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
}

fn start_with(install_routes: bool) -> Box {
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let inputs = Inputs {
        settings: Settings {
            install_routes,
            table: 254,
        },
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let (handle, next_hops) = start(inputs, metrics.clone());
    Box {
        handle,
        next_hops,
        tasks,
        stop,
        metrics,
    }
}

impl Box {
    fn want(&self, prefix: &str, via: &[&str]) {
        let interface = ip("-o link show v0").split(':').next().unwrap().parse().unwrap();
        let gateways: Vec<_> = via
            .iter()
            .map(|via| Gateway {
                via: via.parse().unwrap(),
                interface,
            })
            .collect();
        let gateways = (!gateways.is_empty()).then(|| Arc::from(gateways));
        self.handle.routes(vec![(prefix.parse().unwrap(), gateways)]);
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
    let via: Gateways = Arc::from([Gateway {
        via: "10.0.0.2".parse().unwrap(),
        interface: ip("-o link show v0").split(':').next().unwrap().parse().unwrap(),
    }]);
    let changes = |via: Option<Gateways>| -> Vec<_> {
        (0..20_000u32)
            .map(|block| {
                let address = std::net::Ipv4Addr::from_bits(0x6440_0000 + (block << 6));
                (Prefix::new(IpAddr::V4(address), 26).unwrap(), via.clone())
            })
            .collect()
    };
    let begun = tokio::time::Instant::now();
    fib.handle.routes(changes(Some(via)));
    eventually("all there", || fib.handle.state().ipv4 == 20_001).await;
    println!("20,000 routes written in {:?}", begun.elapsed());
    assert_eq!(ip("-4 route show proto 94").lines().count(), 20_001);
    fib.handle.routes(changes(None));
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
