//! Whether BFD at 50 ms × 3 stands while the machine has more to do than it can: two boxes hold a session, every core is
//! kept busy several times over, one of the boxes answers HTTP as fast as it can.
//!
//! `SECONDS=60 INTERVAL=50 lab-bfd`. Prints how often the sessions failed; it judges nothing, since that is a matter of the
//! machine and of its scheduler.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{Appliance, Manifests, Netns, Settings, State, enter, join, wait_for};

fn main() -> ExitCode {
    match enter().and_then(|state| measure(&state).inspect_err(|_| println!("{}", state.tails(15)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-bfd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| {
        text.parse().with_context(|| format!("{name}={text}"))
    })
}

fn start(state: &State, netns: &Netns, name: &str, last: u8, other: u8, interval: u64) -> Result<Appliance> {
    let directory = state.file(name);
    let manifests = Manifests::create(&state.file(&format!("{name}-manifests")))?;
    let (dir, manifests) = (directory.display(), manifests.path().display());
    let toml = format!(
        "[appliance]\nname = \"{name}\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"127.0.0.1:9901\"\n\
         [source]\nmanifests = \"{manifests}\"\n[http]\naccess_log = false\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.{last}\"\nhold_time = \"90s\"\n\
         [[bgp.peers]]\nname = \"peer\"\naddress = \"10.0.0.{other}\"\nasn = 64512\nrole = \"cluster\"\n\
         bfd = {{ interval = \"{interval}ms\", multiplier = 3 }}\n"
    );
    Appliance::start(state, Some(netns), &Settings { directory, toml })
}

/// Failures so far, and whether the session is up.
fn bfd(appliance: &Appliance) -> Result<(u64, bool)> {
    let peers = appliance.json(&["peers"])?;
    let bfd = peers.pointer("/0/bfd").context("no BFD session")?;
    let number = |key| bfd.get(key).and_then(serde_json::Value::as_u64);
    let failures = number("failures").context("no count of failures")?;
    let state = bfd.get("state").and_then(serde_json::Value::as_str);
    Ok((failures, state == Some("up")))
}

fn measure(state: &State) -> Result<()> {
    let (seconds, interval) = (number("SECONDS", 60)?, number("INTERVAL", 50)?);
    let (a, b) = (Netns::create("a")?, Netns::create("b")?);
    join((&a, "eth0", &["10.0.0.1/24"]), (&b, "eth0", &["10.0.0.2/24"]))?;
    let one = start(state, &a, "one", 1, 2, interval)?;
    let other = start(state, &b, "other", 2, 1, interval)?;
    for appliance in [&one, &other] {
        wait_for("BFD to be up", Duration::from_secs(60), || {
            ensure!(bfd(appliance)?.1, "not up");
            Ok(())
        })?;
    }
    let before = [bfd(&one)?.0, bfd(&other)?.0];
    let cores = std::thread::available_parallelism()?.get();
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..cores * 4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    std::hint::black_box((0..100_000_u64).fold(0, u64::wrapping_add));
                }
            });
        }
        for _ in 0..cores * 8 {
            scope.spawn(|| {
                let _ = b.become_it();
                while !stop.load(Relaxed) {
                    let _ = hammer(&stop, &requests);
                }
            });
        }
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Relaxed);
    });
    let after = [bfd(&one)?.0, bfd(&other)?.0];
    println!(
        "bfd: {interval} ms x 3 for {seconds} s, {} busy threads and {} HTTP clients on {cores} cores: {} requests, failures {} and {}",
        cores * 4,
        cores * 8,
        requests.load(Relaxed),
        after[0] - before[0],
        after[1] - before[1],
    );
    for (name, appliance) in [("one", &one), ("other", &other)] {
        let peers = appliance.json(&["peers"])?;
        println!(
            "{name}: {}",
            peers.pointer("/0/bfd").unwrap_or(&serde_json::Value::Null)
        );
    }
    Ok(())
}

/// Requests on one connection until it ends; what is answered does not matter.
fn hammer(stop: &AtomicBool, requests: &AtomicU64) -> Result<()> {
    let address: SocketAddr = ([10, 0, 0, 1], 80).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut space = [0; 4096];
    while !stop.load(Relaxed) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
        ensure!(stream.read(&mut space)? > 0, "closed");
        requests.fetch_add(1, Relaxed);
    }
    Ok(())
}
