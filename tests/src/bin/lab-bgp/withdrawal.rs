//! How long the data workers send requests to an endpoint whose route was withdrawn: from the UPDATE to the first request that
//! is answered without it, through table, control and snapshot, over a real connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use sekisho_tests::lab::{Connection, Daemon, Manifests, State, Target, echo_program, now, wait_for};

use crate::injector::{Injector, Shape, network, updates, withdrawals};
use crate::speakers::{BOX, Kind, Speaker};
use crate::{Bench, address};

/// Routes in the table, as 5,000 nodes with four blocks each have them.
const ROUTES: u32 = 20_000;
/// How often the route goes and comes.
const ROUNDS: usize = 300;
/// Of the echo server.
const PORT: u16 = 8080;

impl Bench {
    /// A route goes, with others around it, while requests come in one after the other.
    pub(crate) fn withdrawal(&mut self, kind: Kind) -> Result<()> {
        if kind != Kind::Sekisho {
            return Ok(());
        }
        let pod = Ipv4Addr::from_bits(network(0).to_bits() | 10);
        self.peers.ip(&format!("addr replace {pod}/32 dev lo"))?;
        let _backend = backend(&self.state, &self.peers)?;
        services(&self.state, pod)?;
        let speaker = Speaker::start(&self.state, &self.the_box, kind, &[address(0)], true)?;
        let mut injector = Injector::connect(&self.peers, address(0), BOX)?;
        injector.send(&updates(Shape::Packed, 0, ROUTES, address(0), 0))?;
        wait_for("all routes", Duration::from_secs(10), || {
            let count = speaker.count()?;
            ensure!(count == u64::from(ROUTES), "{count} routes");
            Ok(())
        })?;
        let http = SocketAddr::from(([127, 0, 0, 1], 80));
        let target = Target::new(None, http, "shop.example.com");
        let mut client = self.the_box.enter(|| Connection::open(&target))?;
        let mut until = |status: u16| -> Result<()> {
            let start = now();
            loop {
                let got = client.send("GET", "/", &[], &[])?.status;
                if got == status {
                    return Ok(());
                }
                ensure!(
                    start.elapsed() < Duration::from_secs(10),
                    "{got} after ten seconds, not {status}"
                );
            }
        };
        until(200)?;
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let start = now();
            injector.send(&withdrawals(0, 1))?;
            until(503)?;
            times.push(start.elapsed());
            injector.send(&updates(Shape::Packed, 0, 1, address(0), 0))?;
            until(200)?;
        }
        times.sort_unstable();
        let at = |part: usize| {
            times
                .get((times.len() * part / 1000).min(times.len() - 1))
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{:<8} a route of {ROUTES} withdrawn, until no request goes there any more ({ROUNDS} times): p50 {:.2} ms, p99 \
             {:.2} ms, most {:.2} ms",
            kind.name(),
            at(500).as_secs_f64() * 1e3,
            at(990).as_secs_f64() * 1e3,
            at(1000).as_secs_f64() * 1e3,
        );
        speaker.end()?;
        self.the_box.ip("route flush table main proto 94")?;
        std::fs::remove_dir_all(self.state.file("manifests"))?;
        Ok(())
    }
}

fn backend(state: &State, netns: &sekisho_tests::lab::Netns) -> Result<Daemon> {
    let mut command = netns.command(echo_program()?);
    command.args(["--pod", "pod", "--node", "node", "--http", &PORT.to_string()]);
    let mut server = Daemon::start(state, "echo", command)?;
    wait_for("the echo server", Duration::from_secs(5), || {
        server.check()?;
        netns.enter(|| Ok(std::net::TcpStream::connect(("127.0.0.1", PORT)).map(drop)?))
    })?;
    Ok(server)
}

fn services(state: &State, pod: Ipv4Addr) -> Result<()> {
    let manifests = Manifests::create(&state.file("manifests"))?;
    manifests.write("class.yaml", &Manifests::ingress_class())?;
    manifests.write(
        "shop.yaml",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  ports: [{{name: http, port: 80}}]\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  \
             labels: {{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{{name: http, port: {PORT}}}]\n\
             endpoints: [{{addresses: [{pod}], conditions: {{ready: true}}}}]\n---\n{}",
            Manifests::ingress("shop", "shop.example.com", "web", None, false)
        ),
    )
}
