//! `make bench`: work per CPU second of the proxy's own processes, latency and memory, beside HAProxy, nginx, Envoy and
//! Traefik. `bench/README.md` says how to read it.

mod client;
mod loads;
mod measure;
mod proxies;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{Netns, State, enter, join};

use self::loads::{LOADS, Load};
use self::measure::{cpu_seconds, memory};
use self::proxies::{Proxy, Scene};

/// The host that most loads ask for.
const HOST: &str = "bench.example.com";
/// The load beside those of [`LOADS`].
const IDLE: &str = "idle connections";
/// The host whose backend speaks gRPC.
const GRPC_HOST: &str = "grpc.example.com";

/// What the environment says about the run.
struct Plan {
    rounds: u64,
    requests: u64,
    hosts: usize,
    idle: usize,
    /// How long a run at a fixed rate takes; 0: there is none.
    rate_seconds: u64,
}

fn main() -> ExitCode {
    match enter().and_then(|state| bench(&state).inspect_err(|_| println!("{}", state.tails(10)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| {
        text.parse().with_context(|| format!("{name}={text}"))
    })
}

/// Whether a comma-separated list in the environment names `what`, by a part of it; no list names everything.
fn named(list: &str, what: &str) -> bool {
    std::env::var(list).map_or(true, |list| {
        list.split(',')
            .map(str::trim)
            .any(|part| !part.is_empty() && what.to_lowercase().contains(&part.to_lowercase()))
    })
}

fn bench(state: &State) -> Result<()> {
    let plan = Plan {
        rounds: number("ROUNDS", 3)?,
        requests: number("REQUESTS", 60_000)?,
        hosts: usize::try_from(number("HOSTS", 10_000)?)?,
        idle: usize::try_from(number("IDLE", 8_000)?)?,
        rate_seconds: number("RATE_SECONDS", 5)?,
    };
    let loads: Vec<&Load> = LOADS.iter().filter(|load| named("LOADS", load.name)).collect();
    ensure!(
        !loads.is_empty() || named("LOADS", IDLE),
        "LOADS names no load: it is a list separated by commas of {}, {IDLE}, or parts of these names",
        LOADS.iter().map(|load| load.name).collect::<Vec<_>>().join(", ")
    );
    let (client, the_box, backend) = (
        Netns::create("client")?,
        Netns::create("box")?,
        Netns::create("backend")?,
    );
    join(
        (&client, "eth0", &["10.0.0.2/24"]),
        (&the_box, "front", &["10.0.0.10/24"]),
    )?;
    join(
        (&backend, "eth0", &["10.0.1.2/24"]),
        (&the_box, "back", &["10.0.1.10/24"]),
    )?;
    // A new connection for each request leaves its local port waiting for a minute.
    for netns in [&client, &the_box] {
        netns.sysctl("ipv4/ip_local_port_range", "1024 65535")?;
        netns.sysctl("ipv4/tcp_tw_reuse", "1")?;
    }
    let scene = Scene::new(state, &client, &the_box, &backend, plan.hosts)?;
    let mut proxies = proxies::start(&scene, loads.iter().any(|load| load.many_hosts()))?;
    let cores = std::thread::available_parallelism()?.get();
    println!(
        "{cores} cores, {} rounds of {} requests, {} hosts in the big tables\n",
        plan.rounds, plan.requests, plan.hosts
    );
    run(&plan, &scene, &loads, &mut proxies)?;
    report::work(&loads, &proxies);
    latency(&plan, &scene, &mut proxies)?;
    idle(&plan, &scene, &mut proxies)?;
    report::memory(&proxies)?;
    proxies.into_iter().try_for_each(Proxy::end)
}

/// Every load in turn on every proxy in turn, round after round; round 0 warms caches and pools and is thrown away.
fn run(plan: &Plan, scene: &Scene<'_>, loads: &[&Load], proxies: &mut [Proxy]) -> Result<()> {
    for round in 0..=plan.rounds {
        for load in loads {
            for proxy in &mut *proxies {
                if !load.is_served_by(proxy) {
                    continue;
                }
                let requests = load.requests(if round == 0 {
                    plan.requests / 10
                } else {
                    plan.requests
                });
                let pid = load.pid(proxy);
                let before = cpu_seconds(pid)?;
                let took = load
                    .run(scene, proxy, requests)
                    .with_context(|| format!("{}: {}", proxy.name, load.name))?;
                let used = (cpu_seconds(pid)? - before).max(0.01);
                if round > 0 {
                    let result = proxy.results.entry(load.name).or_default();
                    result.per_cpu_second.push(requests as f64 / used);
                    result.per_second.push(requests as f64 / took.as_secs_f64());
                }
            }
        }
    }
    Ok(())
}

/// HTTP/1.1 keep-alive over TLS and HTTP/2 at one fixed rate for all: 70 % of what the slowest of them reached.
fn latency(plan: &Plan, scene: &Scene<'_>, proxies: &mut [Proxy]) -> Result<()> {
    for load in LOADS
        .iter()
        .filter(|load| plan.rate_seconds > 0 && load.latency && named("LOADS", load.name))
    {
        let reached = proxies
            .iter()
            .filter(|proxy| proxy.name != "traefik")
            .filter_map(|proxy| Some(proxy.results.get(load.name)?.rate()))
            .fold(f64::INFINITY, f64::min);
        if !reached.is_finite() {
            continue;
        }
        let rate = reached * 0.7;
        let mut rows = Vec::new();
        for _ in 0..plan.rounds {
            for (index, proxy) in proxies.iter().enumerate() {
                let times = load
                    .at_rate(scene, proxy, rate, plan.rate_seconds)
                    .with_context(|| format!("{}: {} at a fixed rate", proxy.name, load.name))?;
                match rows.get_mut(index) {
                    None => rows.push(vec![times]),
                    Some(rounds) => rounds.push(times),
                }
            }
        }
        report::latency(load.name, rate, proxies, &rows);
    }
    Ok(())
}

/// What an open connection costs that has had one request and waits for the next.
fn idle(plan: &Plan, scene: &Scene<'_>, proxies: &mut [Proxy]) -> Result<()> {
    if !named("LOADS", IDLE) {
        return Ok(());
    }
    for tls in [false, true] {
        for proxy in &mut *proxies {
            let before = memory(proxy.pid)?;
            let held = client::idle(scene, proxy.port(tls), tls, plan.idle)
                .with_context(|| format!("{}: idle connections", proxy.name))?;
            std::thread::sleep(std::time::Duration::from_secs(1));
            let after = memory(proxy.pid)?;
            drop(held);
            let each = after.saturating_sub(before) as f64 / plan.idle as f64;
            proxy.idle_bytes.push(each);
        }
    }
    Ok(())
}
