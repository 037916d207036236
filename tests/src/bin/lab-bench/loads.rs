//! The loads: what is asked, and how often.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{now, program};

use crate::proxies::{Proxy, Scene};
use crate::{GRPC_HOST, HOST, client};

/// One load.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    kind: Kind,
    /// Of how many requests of a plain load it sends one: the dear ones take longer.
    share: u64,
    /// Whether it is also run at a fixed rate.
    pub(crate) latency: bool,
}

enum Kind {
    /// h2load with these words on this path, over TLS or not.
    H2load {
        words: &'static [&'static str],
        path: &'static str,
        tls: bool,
    },
    /// A unary call on HTTP/2 over TLS, h2c behind.
    Grpc,
    /// A connection for each request; over TLS with a full handshake.
    Connections { tls: bool },
    /// Any path of any host, on kept connections; of the big table, or of the small one.
    Hosts { many: bool },
}

/// Every load, in the order of the table.
pub(crate) const LOADS: &[Load] = &[
    h2load("HTTP/1.1 keep-alive", &["--h1", "-c", "32"], "/", false, 1, true),
    h2load(
        "HTTP/1.1 TLS keep-alive",
        &["--h1", "-c", "32"],
        "/",
        true,
        1,
        true,
    ),
    h2load("HTTP/2 TLS", &["-c", "8", "-m", "16"], "/", true, 1, true),
    Load {
        name: "gRPC unary",
        kind: Kind::Grpc,
        share: 1,
        latency: false,
    },
    Load {
        name: "new connection each",
        kind: Kind::Connections { tls: false },
        share: 4,
        latency: false,
    },
    Load {
        name: "new TLS handshake each",
        kind: Kind::Connections { tls: true },
        share: 20,
        latency: false,
    },
    h2load("1 MiB bodies", &["--h1", "-c", "16"], "/big", false, 40, false),
    h2load("1 MiB bodies TLS", &["--h1", "-c", "16"], "/big", true, 40, false),
    Load {
        name: "one host",
        kind: Kind::Hosts { many: false },
        share: 1,
        latency: false,
    },
    Load {
        name: "many hosts x 3 paths",
        kind: Kind::Hosts { many: true },
        share: 1,
        latency: false,
    },
];

const fn h2load(
    name: &'static str,
    words: &'static [&'static str],
    path: &'static str,
    tls: bool,
    share: u64,
    latency: bool,
) -> Load {
    Load {
        name,
        kind: Kind::H2load { words, path, tls },
        share,
        latency,
    }
}

/// Response times in seconds, ascending.
pub(crate) type Times = Vec<f64>;

impl Load {
    pub(crate) fn many_hosts(&self) -> bool {
        matches!(self.kind, Kind::Hosts { many: true })
    }

    pub(crate) fn is_grpc(&self) -> bool {
        matches!(self.kind, Kind::Grpc)
    }

    /// How many requests of this load take about as long as `plain` ones of the first.
    pub(crate) fn requests(&self, plain: u64) -> u64 {
        // h2load shares them out among 32 connections.
        (plain / self.share).max(64) / 32 * 32
    }

    pub(crate) fn is_served_by(&self, proxy: &Proxy) -> bool {
        match self.kind {
            Kind::Grpc => proxy.grpc,
            Kind::Hosts { many: true } => proxy.many.is_some(),
            _ => true,
        }
    }

    /// The process that does the work.
    pub(crate) fn pid(&self, proxy: &Proxy) -> u32 {
        match (&self.kind, &proxy.many) {
            (Kind::Hosts { many: true }, Some(many)) => many.pid,
            _ => proxy.pid,
        }
    }

    /// Sends this many requests; every one has to succeed.
    pub(crate) fn run(&self, scene: &Scene<'_>, proxy: &Proxy, requests: u64) -> Result<Duration> {
        let begun = now();
        match self.kind {
            Kind::H2load { words, path, tls } => {
                let mut command = tool(scene, words, HOST, path, proxy.port(tls), tls)?;
                finish(command.arg("-n").arg(requests.to_string()), requests)?;
            }
            Kind::Grpc => {
                let words = ["-c", "8", "-m", "16"];
                let mut command = tool(
                    scene,
                    &words,
                    GRPC_HOST,
                    "/bench.Echo/Unary",
                    proxy.port(true),
                    true,
                )?;
                command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]);
                command.arg(scene.state.file("grpc-message"));
                finish(command.arg("-n").arg(requests.to_string()), requests)?;
            }
            Kind::Connections { tls } => client::connections(scene, proxy.port(tls), tls, requests)?,
            Kind::Hosts { many } => {
                let port = match (&proxy.many, many) {
                    (Some(big), true) => big.port,
                    _ => proxy.port(false),
                };
                client::hosts(scene, port, if many { scene.hosts } else { 0 }, requests)?;
            }
        }
        Ok(begun.elapsed())
    }

    /// Runs at a fixed rate for some seconds; gives every response time.
    pub(crate) fn at_rate(&self, scene: &Scene<'_>, proxy: &Proxy, rate: f64, seconds: u64) -> Result<Times> {
        let Kind::H2load { words, path, tls } = self.kind else {
            return Ok(Vec::new());
        };
        let clients: f64 = words
            .iter()
            .skip_while(|word| **word != "-c")
            .nth(1)
            .and_then(|count| count.parse().ok())
            .context("a load without -c")?;
        let requests = (rate * seconds as f64 / clients) as u64 * clients as u64;
        let log = scene.state.file("h2load.log");
        let _ = std::fs::remove_file(&log);
        let mut command = tool(scene, words, HOST, path, proxy.port(tls), tls)?;
        command.arg(format!("--rps={:.1}", rate / clients));
        // A client wakes every 10 ms and sends what is due. Those that begin together would always wake together, and
        // the times would say how far apart a proxy's handshakes have set them.
        command.args(["-r", "1", "--rate-period=7ms"]);
        command.arg(format!("--log-file={}", log.display()));
        finish(command.arg("-n").arg(requests.to_string()), requests)?;
        let text = std::fs::read_to_string(&log)?;
        // Start, status, time in microseconds.
        let mut times: Times = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok())
            .map(|micros| micros / 1e6)
            .collect();
        ensure!(!times.is_empty(), "h2load wrote no times");
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn tool(scene: &Scene<'_>, words: &[&str], host: &str, path: &str, port: u16, tls: bool) -> Result<Command> {
    let mut command = program(scene.client, "nghttp2-client", "usr/bin/h2load")?;
    let scheme = if tls { "https" } else { "http" };
    command
        .args(words)
        .args(["-t", "1"])
        .arg(format!("--connect-to=10.0.0.10:{port}"))
        .arg(format!("{scheme}://{host}{path}"));
    Ok(command)
}

fn finish(command: &mut Command, requests: u64) -> Result<()> {
    let out = command.output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let want = format!("{requests} succeeded");
    let good = text.contains(&want) && text.contains(&format!("status codes: {requests} 2xx"));
    ensure!(good, "h2load: {text}{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}
