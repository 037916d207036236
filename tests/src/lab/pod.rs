use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Daemon, Machine, Netns, Node, State, ip, join, wait_for};

/// A pod: a namespace behind a node with the echo server in it.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The node that runs it.
    pub node: Node,
    /// Its addresses.
    pub address: Machine,
    netns: Netns,
    server: Daemon,
}

impl Pod {
    /// Port of its HTTP and WebSocket server.
    pub const HTTP: u16 = 8080;
    /// Port of its TCP echo server.
    pub const TCP: u16 = 9000;

    /// Starts a pod as Calico attaches one: a cable to the node, a host route there, no subnet, no bridge.
    ///
    /// # Errors
    /// When a command fails or the server does not listen.
    pub fn start(
        state: &State,
        node_netns: &Netns,
        node: Node,
        name: &str,
        address: Machine,
    ) -> Result<Self> {
        let netns = Netns::create(name)?;
        let cable = format!("cali-{name}");
        let (v4, v6) = (address.v4, address.v6);
        join(
            (&netns, "eth0", &[&format!("{v4}/32"), &format!("{v6}/128")]),
            (node_netns, &cable, &["169.254.1.1/32", "fe80::1/64"]),
        )?;
        netns.ip("route add default via 169.254.1.1 dev eth0 onlink")?;
        netns.ip("-6 route add default via fe80::1 dev eth0 onlink")?;
        node_netns.ip(&format!("route add {v4}/32 dev {cable} metric 1024"))?;
        node_netns.ip(&format!("-6 route add {v6}/128 dev {cable} metric 1024"))?;

        let mut command = netns.command(echo_program()?);
        command.args(["--pod", name, "--node", node.name]);
        command.args(["--http", &Self::HTTP.to_string(), "--tcp", &Self::TCP.to_string()]);
        let mut server = Daemon::start(state, name, command)?;
        wait_for(
            &format!("the echo server of {name}"),
            Duration::from_secs(5),
            || {
                server.check()?;
                netns.enter(|| Ok(std::net::TcpStream::connect((address.v4, Self::HTTP)).map(drop)?))
            },
        )?;
        Ok(Self {
            name: name.to_owned(),
            node,
            address,
            netns,
            server,
        })
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its echo server.
    pub fn server(&self) -> &Daemon {
        &self.server
    }

    /// Where its HTTP server is.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address.v4), Self::HTTP)
    }

    /// Ends the server and takes the namespace and the cable away.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn stop(self) -> Result<()> {
        drop(self.server);
        ip(&format!("netns delete {}", self.netns.name()))
    }
}

/// The echo server, which is built beside the program that runs the lab.
///
/// # Errors
/// When it is not there.
pub fn echo_program() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    for directory in here.ancestors().skip(1).take(2) {
        let candidate = directory.join("lab-echo");
        if candidate.exists() {
            return Ok(candidate);
        }
    }
    bail!(
        "lab-echo is not beside {}; cargo build -p sekisho-tests --bins",
        here.display()
    )
}
