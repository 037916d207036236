use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::netns::run;
use super::{BOX, Daemon, NODES, Netns, Node, ROUTER, State, program, wait_for};

/// Which BIRD.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BirdVersion {
    /// 1.6, IPv4 daemon.
    V16Ipv4,
    /// 1.6, IPv6 daemon.
    V16Ipv6,
    /// 2.
    V2,
}

impl BirdVersion {
    fn programs(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::V16Ipv4 => ("bird", "usr/sbin/bird", "usr/sbin/birdc"),
            Self::V16Ipv6 => ("bird", "usr/sbin/bird6", "usr/sbin/birdc6"),
            Self::V2 => ("bird2", "usr/sbin/bird", "usr/sbin/birdc"),
        }
    }
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    /// Its process.
    pub daemon: Daemon,
    netns: Netns,
    version: BirdVersion,
    control: PathBuf,
}

impl Bird {
    /// Starts a BIRD named `name` in `netns` and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; its log says why.
    pub fn start(
        state: &State,
        name: &str,
        netns: &Netns,
        version: BirdVersion,
        configuration: &str,
    ) -> Result<Self> {
        let (package, path, _) = version.programs();
        let (file, control) = (
            state.file(&format!("{name}.conf")),
            state.file(&format!("{name}.ctl")),
        );
        fs::write(&file, configuration)?;
        let mut command = program(netns, package, path)?;
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&control)
            .arg("-P")
            .arg(state.file(&format!("{name}.pid")));
        let daemon = Daemon::start(state, name, command)?;
        let mut bird = Self {
            daemon,
            netns: netns.clone(),
            version,
            control,
        };
        wait_for(&format!("{name} to answer"), Duration::from_secs(5), || {
            bird.daemon.check()?;
            bird.birdc("show status")
        })?;
        Ok(bird)
    }

    /// Asks it something.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn birdc(&self, words: &str) -> Result<String> {
        let (package, _, path) = self.version.programs();
        let mut command = program(&self.netns, package, path)?;
        run(command
            .arg("-r")
            .arg("-s")
            .arg(&self.control)
            .args(words.split_whitespace()))
    }

    /// Tells it something (`disable NAME`, `enable NAME`, `restart NAME` …).
    ///
    /// # Errors
    /// When it does not answer.
    pub fn order(&self, words: &str) -> Result<String> {
        let (package, _, path) = self.version.programs();
        let mut command = program(&self.netns, package, path)?;
        run(command
            .arg("-s")
            .arg(&self.control)
            .args(words.split_whitespace()))
    }

    /// Fails unless protocol `name` is established.
    ///
    /// # Errors
    /// What it says of the protocol.
    pub fn established(&self, name: &str) -> Result<()> {
        let text = self.birdc(&format!("show protocols {name}"))?;
        match text.lines().find(|line| line.starts_with(name)) {
            Some(line) if line.contains("Established") => Ok(()),
            Some(line) => bail!("{}", line.split_whitespace().collect::<Vec<_>>().join(" ")),
            None => bail!("no protocol {name}"),
        }
    }

    /// Whether it has a route for exactly `prefix` that `protocol` brought.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn has_route(&self, prefix: &str, protocol: &str) -> Result<bool> {
        let text = self.birdc(&format!("show route {prefix} protocol {protocol}"));
        Ok(text.is_ok_and(|text| text.lines().any(|line| line.starts_with(prefix))))
    }

    /// Fails unless it has a route for exactly `prefix` from `protocol`.
    ///
    /// # Errors
    /// That it has none.
    pub fn need_route(&self, prefix: &str, protocol: &str) -> Result<()> {
        if self.has_route(prefix, protocol)? {
            Ok(())
        } else {
            bail!("no route {prefix} from {protocol}")
        }
    }
}

/// What Calico renders for a node: mesh with the other nodes, the box as one more iBGP peer, one aggregate a block.
pub fn node_configuration(node: Node, version: BirdVersion) -> String {
    let v6 = version == BirdVersion::V16Ipv6;
    let address = |node: Node| {
        if v6 {
            IpAddr::V6(node.v6())
        } else {
            IpAddr::V4(node.v4())
        }
    };
    let me = address(node);
    let the_box = if v6 {
        IpAddr::V6(BOX.v6)
    } else {
        IpAddr::V4(BOX.v4)
    };
    let (block, pool) = if v6 {
        (node.block_v6(), "fd00:244::/32")
    } else {
        (node.block_v4(), "10.244.0.0/16")
    };
    let router_id = node.v4();
    let mut mesh = String::new();
    for other in NODES.into_iter().filter(|other| other.number != node.number) {
        let neighbor = address(other);
        // Of two nodes the one with the higher address is passive.
        let passive = if other.number < node.number {
            "passive on;"
        } else {
            ""
        };
        let _ = writeln!(
            mesh,
            "protocol bgp Mesh_{} from bgp_template {{ neighbor {neighbor} as 64512; {passive} }}",
            other.name
        );
    }
    format!(
        r#"log stderr all;
router id {router_id};

# The block is announced whole; the node's own pods inside it are not.
function calico_aggr() {{
  if ( net = {block} ) then accept;
  if ( net ~ {block} ) then reject;
}}
# A pod whose address is in another node's block goes out as a host route.
filter calico_export_to_bgp_peers {{
  if ( defined( krt_metric ) ) then bgp_local_pref = 2147483647 - krt_metric;
  calico_aggr();
  if ( net ~ {pool} ) then accept;
  reject;
}}
filter calico_kernel_programming {{
  accept;
}}

protocol static {{ route {block} blackhole; }}
protocol kernel {{
  learn; persist; scan time 2;
  import all; export filter calico_kernel_programming;
  graceful restart; merge paths on;
}}
protocol device {{ scan time 2; }}
protocol direct {{ interface -"cali*", "*"; }}

template bgp bgp_template {{
  local as 64512;
  multihop;
  source address {me};
  gateway recursive;
  import all;
  export filter calico_export_to_bgp_peers;
  add paths on;
  graceful restart;
  connect delay time 2;
  connect retry time 5;
  error wait time 5,30;
}}
{mesh}protocol bgp Sekisho from bgp_template {{ neighbor {the_box} as 64512; }}
"#
    )
}

/// The router above: BIRD 2, AS 64500, learns VIPs from the box over each family and puts them into its kernel.
pub fn router_configuration(box_v4: Ipv4Addr, box_v6: std::net::Ipv6Addr) -> String {
    let (me4, me6) = (ROUTER.v4, ROUTER.v6);
    format!(
        r#"log stderr all;
router id {me4};
protocol device {{ }}
protocol kernel {{ merge paths on; ipv4 {{ import none; export all; }}; }}
protocol kernel {{ merge paths on; ipv6 {{ import none; export all; }}; }}
template bgp above {{
  local as 64500;
  connect delay time 1; connect retry time 3; error wait time 1,5;
  hold time 9;
}}
protocol bgp box4 from above {{
  source address {me4}; neighbor {box_v4} as 64512;
  ipv4 {{ import where net ~ [ 203.0.113.0/28{{32,32}} ]; export none; }};
}}
protocol bgp box6 from above {{
  source address {me6}; neighbor {box_v6} as 64512;
  ipv6 {{ import where net ~ [ 2001:db8:1::/112{{128,128}} ]; export none; }};
}}
"#
    )
}

impl Bird {
    /// Disables or enables the session with the box.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn session(&self, protocol: &str, up: bool) -> Result<()> {
        self.order(&format!("{} {protocol}", if up { "enable" } else { "disable" }))
            .map(drop)
            .context("birdc")
    }
}
