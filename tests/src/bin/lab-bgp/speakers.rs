//! The daemons under test, each with the smallest configuration that does the job.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sekisho_tests::lab::{
    Appliance, Bird, BirdVersion, Daemon, Netns, Settings, State, Target, program, vty, wait_for,
};

use crate::injector::ASN;

/// AS of every daemon under test.
const OUR_ASN: u32 = 65000;
/// Its address.
pub(crate) const BOX: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Sekisho,
    Bird2,
    Bird16,
    Frr,
    GoBgp,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Sekisho, Self::Bird2, Self::Bird16, Self::Frr, Self::GoBgp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sekisho => "sekisho",
            Self::Bird2 => "bird2",
            Self::Bird16 => "bird1",
            Self::Frr => "frr",
            Self::GoBgp => "gobgp",
        }
    }
}

/// How long ours may take to end.
const ENDING: Duration = Duration::from_secs(60);

enum Running {
    Sekisho(Appliance),
    Bird(Bird),
    Frr(Daemon),
    GoBgp(Daemon),
}

/// A daemon that runs in its namespace and waits for the injectors.
pub(crate) struct Speaker {
    running: Running,
    netns: Netns,
    state: State,
}

impl Speaker {
    /// Starts one that takes sessions from `peers`. `install`: best paths go to the kernel.
    pub(crate) fn start(
        state: &State,
        netns: &Netns,
        kind: Kind,
        peers: &[Ipv4Addr],
        install: bool,
    ) -> Result<Self> {
        let running = match kind {
            Kind::Sekisho => Running::Sekisho(sekisho(state, netns, peers, install)?),
            Kind::Bird2 => Running::Bird(Bird::start(
                state,
                "bird2",
                netns,
                BirdVersion::V2,
                &bird(peers, true, install),
            )?),
            Kind::Bird16 => Running::Bird(Bird::start(
                state,
                "bird1",
                netns,
                BirdVersion::V16Ipv4,
                &bird(peers, false, install),
            )?),
            Kind::Frr => Running::Frr(frr(state, netns, peers)?),
            Kind::GoBgp => Running::GoBgp(gobgp(state, netns, peers)?),
        };
        Ok(Self {
            running,
            netns: netns.clone(),
            state: state.clone(),
        })
    }

    /// Ends it; ours in order: an instrumented build writes down what it has counted then.
    pub(crate) fn end(self) -> Result<()> {
        match self.running {
            Running::Sekisho(appliance) => appliance.daemon.stop(ENDING).map(drop),
            Running::Bird(_) | Running::Frr(_) | Running::GoBgp(_) => Ok(()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            Running::Sekisho(appliance) => appliance.daemon.pid(),
            Running::Bird(bird) => bird.daemon.pid(),
            Running::Frr(daemon) | Running::GoBgp(daemon) => daemon.pid(),
        }
    }

    /// How many prefixes it holds, by its own counter.
    pub(crate) fn count(&self) -> Result<u64> {
        match &self.running {
            Running::Sekisho(_) => self.metric("sekisho_bgp_peer_prefixes{family=\"ipv4\""),
            Running::Bird(bird) => {
                // "1000000 of 1000000 routes for 1000000 networks …", once a table and once in all.
                let text = bird.birdc("show route count")?;
                let routes = text.lines().filter_map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let at = words.iter().position(|word| *word == "routes")?;
                    words.get(at.checked_sub(1)?)?.parse().ok()
                });
                Ok(routes.max().unwrap_or(0))
            }
            Running::Frr(_) => {
                let text = vty(
                    &self.state.file("bgpd.vty"),
                    &["show bgp ipv4 unicast summary json"],
                )?;
                let counts = text
                    .match_indices("\"pfxRcd\":")
                    .filter_map(|(at, key)| number(text.get(at + key.len()..)?));
                Ok(counts.sum())
            }
            Running::GoBgp(_) => {
                let text = self.gobgp("neighbor")?;
                let counts = text
                    .lines()
                    .filter_map(|line| number(line.rsplit_once('|')?.1.split_whitespace().next()?));
                Ok(counts.sum())
            }
        }
    }

    /// The sum of a series, by the beginning of its lines. Sekisho only.
    pub(crate) fn metric(&self, start: &str) -> Result<u64> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9901));
        let response = Target::new(Some(self.netns.clone()), address, "localhost").get("/metrics")?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let values = text
            .lines()
            .filter(|line| line.starts_with(start))
            .filter_map(|line| number(line.rsplit_once(' ')?.1));
        Ok(values.sum())
    }

    fn gobgp(&self, words: &str) -> Result<String> {
        let mut command = program(&self.netns, "gobgpd", "usr/bin/gobgp")?;
        let out = command
            .args(["-p", "50051"])
            .args(words.split_whitespace())
            .output()?;
        if !out.status.success() {
            bail!("gobgp {words}: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn sekisho(state: &State, netns: &Netns, peers: &[Ipv4Addr], install: bool) -> Result<Appliance> {
    let directory = state.file("appliance");
    let manifests = state.file("manifests");
    fs::create_dir_all(&manifests)?;
    let mut toml = format!(
        "[appliance]\nname = \"bench\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"127.0.0.1:9901\"\n\
         [source]\nmanifests = \"{}\"\n\
         [http]\naccess_log = false\nmax_requests_per_connection = 1000000\n\
         [bgp]\nasn = {OUR_ASN}\nrouter_id = \"{BOX}\"\nlisten = [\"0.0.0.0:179\"]\nhold_time = \"240s\"\ninstall_routes = {install}\n",
        manifests.display(),
        dir = directory.display(),
    );
    if let [one, two, ..] = peers
        && peers.len() > 200
    {
        // Thousands: whoever comes from their network.
        let _ = (one, two);
        toml.push_str(&format!(
            "[[bgp.peer_ranges]]\nprefix = \"10.0.0.0/8\"\nasn = {ASN}\nrole = \"cluster\"\n"
        ));
    } else {
        for (index, peer) in peers.iter().enumerate() {
            let _ = write!(
                toml,
                "[[bgp.peers]]\nname = \"p{index}\"\naddress = \"{peer}\"\nasn = {ASN}\nrole = \"cluster\"\npassive = true\nmax_prefixes = 4000000\n"
            );
        }
    }
    let appliance = Appliance::start(state, Some(netns), &Settings { directory, toml })?;
    let address = SocketAddr::from(([127, 0, 0, 1], 9901));
    let target = Target::new(Some(netns.clone()), address, "localhost");
    wait_for("sekisho to answer", Duration::from_secs(10), || {
        target.get("/livez")
    })?;
    Ok(appliance)
}

fn bird(peers: &[Ipv4Addr], v2: bool, install: bool) -> String {
    let mut text = format!("log stderr all;\nrouter id {BOX};\nprotocol device {{ }}\n");
    if install {
        text.push_str(if v2 {
            "protocol kernel { ipv4 { export all; }; }\n"
        } else {
            "protocol kernel { export all; }\n"
        });
    }
    let channel = if v2 {
        "ipv4 { import all; export none; };"
    } else {
        "import all; export none;"
    };
    for (index, peer) in peers.iter().enumerate() {
        let _ = writeln!(
            text,
            "protocol bgp p{index} {{ local as {OUR_ASN}; neighbor {peer} as {ASN}; passive on; {channel} }}"
        );
    }
    text
}

fn frr(state: &State, netns: &Netns, peers: &[Ipv4Addr]) -> Result<Daemon> {
    let file = state.file("bgpd.conf");
    let mut text =
        format!("hostname bench\nrouter bgp {OUR_ASN}\n bgp router-id {BOX}\n no bgp ebgp-requires-policy\n");
    for peer in peers {
        let _ = writeln!(text, " neighbor {peer} remote-as {ASN}\n neighbor {peer} passive");
    }
    fs::write(&file, text)?;
    let mut command = program(netns, "frr", "usr/lib/frr/bgpd")?;
    command.args([
        "-Z",
        "-S",
        "-u",
        "root",
        "-g",
        "root",
        "--log",
        "stdout",
        "--log-level",
        "warning",
    ]);
    command.arg("-f").arg(&file).arg("-i").arg(state.file("bgpd.pid"));
    command.arg("--vty_socket").arg(state.path());
    let daemon = Daemon::start(state, "frr", command)?;
    let socket = state.file("bgpd.vty");
    wait_for("bgpd to answer", Duration::from_secs(10), || {
        vty(&socket, &["show version"])
    })?;
    Ok(daemon)
}

fn gobgp(state: &State, netns: &Netns, peers: &[Ipv4Addr]) -> Result<Daemon> {
    let file = state.file("gobgpd.toml");
    let mut text = format!(
        "[global.config]\n  as = {OUR_ASN}\n  router-id = \"{BOX}\"\n  local-address-list = [\"{BOX}\"]\n"
    );
    for peer in peers {
        let _ = write!(
            text,
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{peer}\"\n    peer-as = {ASN}\n  \
             [neighbors.transport.config]\n    passive-mode = true\n"
        );
    }
    fs::write(&file, text)?;
    let mut command = program(netns, "gobgpd", "usr/bin/gobgpd")?;
    command
        .arg("-f")
        .arg(&file)
        .args(["--api-hosts", "127.0.0.1:50051"]);
    let daemon = Daemon::start(state, "gobgp", command)?;
    let speaker = Speaker {
        running: Running::GoBgp(daemon),
        netns: netns.clone(),
        state: state.clone(),
    };
    wait_for("gobgpd to answer", Duration::from_secs(10), || {
        speaker.gobgp("global")
    })?;
    match speaker.running {
        Running::GoBgp(daemon) => Ok(daemon),
        _ => None.context("another daemon"),
    }
}
