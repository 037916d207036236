//! `make bench`: requests per CPU second of the proxy's own processes, beside HAProxy and nginx. `bench/README.md`
//! says how to read it.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{
    Appliance, Daemon, Manifests, Netns, SelfSigned, Settings, State, Target, enter, join, program, wait_for,
};

const HOST: &str = "bench.example.com";

/// What is measured: name, arguments for h2load, over TLS.
const LOADS: [(&str, &[&str], bool); 3] = [
    ("HTTP/1.1 keep-alive", &["--h1", "-c", "32", "-t", "1"], false),
    ("HTTP/1.1 TLS keep-alive", &["--h1", "-c", "32", "-t", "1"], true),
    ("HTTP/2 TLS", &["-c", "8", "-m", "16", "-t", "1"], true),
];

struct Proxy {
    name: &'static str,
    pid: u32,
    plain: u16,
    tls: u16,
    /// Requests per CPU second, by load, by round.
    results: Vec<Vec<f64>>,
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

fn bench(state: &State) -> Result<()> {
    let (rounds, requests) = (number("ROUNDS", 3)?, number("REQUESTS", 60_000)?);
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
    let workers = std::thread::available_parallelism()?.get();

    let web = SelfSigned::new(&[HOST], &[])?;
    fs::write(state.file("cert.pem"), &web.certificate)?;
    fs::write(state.file("key.pem"), &web.key)?;
    fs::write(state.file("both.pem"), format!("{}{}", web.certificate, web.key))?;
    let fill = |name: &str, text: &str| -> Result<_> {
        let path = state.file(name);
        let dir = state.path().display().to_string();
        let text = text
            .replace("{workers}", &workers.to_string())
            .replace("{dir}", &dir);
        fs::write(&path, text.replace("{body}", &"x".repeat(1024)))?;
        Ok(path)
    };
    let nginx = |netns: &Netns, name: &str, text: &str| -> Result<Daemon> {
        let mut command = program(netns, "nginx", "usr/sbin/nginx")?;
        command
            .args(["-e", "stderr", "-p"])
            .arg(state.path())
            .arg("-c")
            .arg(fill(&format!("{name}.conf"), text)?);
        Daemon::start(state, name, command)
    };
    let _backend = nginx(&backend, "backend", include_str!("../../../bench/backend.conf"))?;
    let nginx_proxy = nginx(&the_box, "nginx", include_str!("../../../bench/nginx.conf"))?;
    let mut command = program(&the_box, "haproxy", "usr/sbin/haproxy")?;
    command
        .arg("-db")
        .arg("-f")
        .arg(fill("haproxy.cfg", include_str!("../../../bench/haproxy.cfg"))?);
    let haproxy = Daemon::start(state, "haproxy", command)?;
    let sekisho = sekisho(state, &the_box, &web)?;

    let mut proxies = [
        ("sekisho", sekisho.daemon.pid(), 80, 443),
        ("haproxy", haproxy.pid(), 8101, 8102),
        ("nginx", nginx_proxy.pid(), 8201, 8202),
    ]
    .map(|(name, pid, plain, tls)| Proxy {
        name,
        pid,
        plain,
        tls,
        results: vec![Vec::new(); LOADS.len()],
    });
    // For a profile: `ONLY=sekisho` runs the first one alone.
    let count = if std::env::var("ONLY").is_ok_and(|only| only == "sekisho") {
        1
    } else {
        proxies.len()
    };
    let proxies = proxies.get_mut(..count).context("proxies")?;
    for proxy in &*proxies {
        let address = SocketAddr::from(([10, 0, 0, 10], proxy.plain));
        let target = Target::new(Some(client.clone()), address, HOST);
        wait_for(proxy.name, Duration::from_secs(15), || {
            let response = target.get("/")?;
            ensure!(
                response.status == 200 && response.body.len() == 1024,
                "status {}",
                response.status
            );
            Ok(())
        })?;
    }

    println!(
        "{workers} cores, {rounds} rounds of {requests} requests; requests per CPU second of the proxy's processes\n"
    );
    for round in 0..=rounds {
        for (load, (_, words, tls)) in LOADS.iter().enumerate() {
            for proxy in &mut *proxies {
                // Round 0 warms caches and pools and is thrown away.
                let requests = if round == 0 { requests / 10 } else { requests };
                let before = cpu_seconds(proxy.pid)?;
                h2load(
                    &client,
                    words,
                    requests,
                    *tls,
                    if *tls { proxy.tls } else { proxy.plain },
                )
                .with_context(|| proxy.name)?;
                let used = cpu_seconds(proxy.pid)? - before;
                if let Some(results) = proxy.results.get_mut(load).filter(|_| round > 0) {
                    results.push(requests as f64 / used.max(0.01));
                }
            }
        }
    }
    report(proxies)
}

fn sekisho(state: &State, the_box: &Netns, web: &SelfSigned) -> Result<Appliance> {
    let manifests = Manifests::create(&state.file("manifests"))?;
    manifests.write("class.yaml", &Manifests::ingress_class())?;
    manifests.write(
        "secret.yaml",
        &Manifests::tls_secret("web-tls", &web.certificate, &web.key),
    )?;
    manifests.write(
        "ingress.yaml",
        &Manifests::ingress("bench", HOST, "web", Some("web-tls"), false),
    )?;
    manifests.write(
        "web.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  ports: [{name: http, port: 80}]\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  \
         labels: {kubernetes.io/service-name: web}\naddressType: IPv4\nports: [{name: http, port: 8080}]\n\
         endpoints: [{addresses: [10.0.1.2], conditions: {ready: true}}]\n",
    )?;
    let directory = state.file("appliance");
    let toml = format!(
        "[appliance]\nname = \"bench\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"127.0.0.1:9901\"\n\
         [listen]\nhttp = [\"10.0.0.10:80\"]\nhttps = [\"10.0.0.10:443\"]\n\
         [source]\nmanifests = \"{}\"\n[http]\naccess_log = false\nmax_requests_per_connection = 1000000\nmax_idle_per_endpoint = 256\n",
        manifests.path().display(),
        dir = directory.display(),
    );
    Appliance::start(state, Some(the_box), &Settings { directory, toml })
}

fn h2load(client: &Netns, words: &[&str], requests: u64, tls: bool, port: u16) -> Result<()> {
    let mut command: Command = program(client, "nghttp2-client", "usr/bin/h2load")?;
    let scheme = if tls { "https" } else { "http" };
    command.args(words).arg("-n").arg(requests.to_string());
    command
        .arg(format!("--connect-to=10.0.0.10:{port}"))
        .arg(format!("{scheme}://{HOST}/"));
    let out = command.output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let want = format!("{requests} succeeded");
    let good = text.contains(&want) && text.contains(&format!("status codes: {requests} 2xx"));
    ensure!(good, "h2load: {text}{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// User and system time of a process with all its threads, and of its children.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name in brackets may hold anything; what follows it may not.
        let Some((head, rest)) = text.rsplit_once(')') else {
            continue;
        };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |n: usize| {
            fields
                .get(n)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let own = head.split(' ').next().and_then(|text| text.parse().ok());
        if own == Some(pid) || field(1) == u64::from(pid) {
            ticks += field(11) + field(12);
        }
    }
    Ok(ticks as f64 / ticks_per_second as f64)
}

fn report(proxies: &mut [Proxy]) -> Result<()> {
    print!("{:<26}", "");
    for proxy in &*proxies {
        print!("{:>24}", proxy.name);
    }
    println!("{:>22}", "sekisho : best other");
    for (load, (name, _, _)) in LOADS.iter().enumerate() {
        print!("{name:<26}");
        let mut medians = Vec::new();
        for proxy in &mut *proxies {
            let results = proxy.results.get_mut(load).context("results")?;
            results.sort_by(f64::total_cmp);
            let median = results
                .get(results.len() / 2)
                .copied()
                .context("no round was run")?;
            let spread =
                results.last().copied().unwrap_or(median) - results.first().copied().unwrap_or(median);
            print!(
                "{:>24}",
                format!("{median:.0} (±{:.0} %)", 50.0 * spread / median)
            );
            medians.push(median);
        }
        let best = medians.iter().skip(1).copied().fold(0.0, f64::max);
        println!(
            "{:>22}",
            format!("{:.2}", medians.first().copied().unwrap_or(0.0) / best)
        );
    }
    println!();
    for proxy in &*proxies {
        let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap_or("?")
            .trim();
        println!(
            "{:<10} peak resident memory of its first process {peak}",
            proxy.name
        );
    }
    Ok(())
}
