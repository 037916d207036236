//! The box and one or two neighbours on one wire.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sekisho_tests::lab::{
    Appliance, BOX, EndpointPod, Machine, Manifests, Netns, Settings, State, switch, wait_for,
};

/// Where the neighbour is.
pub(crate) const PEER_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 20));
/// The same, IPv6.
pub(crate) const PEER_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x20));
/// Where a second neighbour is.
pub(crate) const OTHER_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 21));

/// How long anything may take that real daemons with retry timers of seconds do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// One neighbour as the box's file names it.
pub(crate) struct Neighbour {
    pub(crate) name: &'static str,
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) role: &'static str,
    pub(crate) passive: bool,
}

pub(crate) struct Rig {
    pub(crate) state: State,
    pub(crate) the_box: Netns,
    pub(crate) peer: Netns,
    pub(crate) other: Netns,
    pub(crate) manifests: Manifests,
}

impl Rig {
    pub(crate) fn new(state: &State) -> Result<Self> {
        let (the_box, peer, other) = (
            Netns::create("box")?,
            Netns::create("peer")?,
            Netns::create("other")?,
        );
        switch(
            "wire",
            &the_box,
            "nodes",
            &[&format!("{}/24", BOX.v4), &format!("{}/64", BOX.v6)],
        )?;
        switch(
            "wire",
            &peer,
            "eth0",
            &[&format!("{PEER_V4}/24"), &format!("{PEER_V6}/64")],
        )?;
        switch(
            "wire",
            &other,
            "eth0",
            &[&format!("{OTHER_V4}/24"), "fd00:10::21/64"],
        )?;
        let manifests = Manifests::create(&state.file("manifests"))?;
        Ok(Self {
            state: state.clone(),
            the_box,
            peer,
            other,
            manifests,
        })
    }

    /// Starts the appliance with these neighbours.
    pub(crate) fn start(&self, routing: &str, hold: &str, neighbours: &[Neighbour]) -> Result<Appliance> {
        let mut more = String::new();
        for peer in neighbours {
            more.push_str(&format!(
                "[[bgp.peers]]\nname = \"{}\"\naddress = \"{}\"\nasn = {}\nrole = \"{}\"\npassive = {}\n",
                peer.name, peer.address, peer.asn, peer.role, peer.passive
            ));
        }
        // Who else may come: addresses that misbehave, one after the other.
        more.push_str("[[bgp.peer_ranges]]\nprefix = \"10.0.0.128/25\"\nasn = 64512\nrole = \"cluster\"\n");
        self.start_with(routing, hold, &more)
    }

    /// Starts the appliance with this after `[bgp]`.
    pub(crate) fn start_with(&self, routing: &str, hold: &str, more: &str) -> Result<Appliance> {
        let settings = Settings {
            directory: self.state.file("appliance"),
            toml: self.text(routing, hold, more),
        };
        Appliance::start(&self.state, Some(&self.the_box), &settings)
    }

    /// Gives the running appliance another file.
    pub(crate) fn reload(&self, appliance: &Appliance, routing: &str, hold: &str, more: &str) -> Result<()> {
        std::fs::write(appliance.file(), self.text(routing, hold, more))?;
        appliance.daemon.signal(nix::sys::signal::Signal::SIGHUP)
    }

    fn text(&self, routing: &str, hold: &str, more: &str) -> String {
        let directory = self.state.file("appliance");
        let dir = directory.display();
        let pool = "[[vips]]\nname = \"public\"\naddresses = [\"203.0.113.0/28\", \"2001:db8:1::/112\"]\nannounce_to = [\"upstream\"]\n";
        let pool = if more.contains("[[vips]]") { "" } else { pool };
        format!(
            "[appliance]\nname = \"edge-1\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"127.0.0.1:9901\"\nworkers = 1\n\
             [listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\"]\nhttps = [\"0.0.0.0:443\", \"[::]:443\"]\n\
             [source]\nmanifests = \"{}\"\nrouting = \"{routing}\"\n\
             [bgp]\nasn = 64512\nrouter_id = \"10.0.0.10\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nhold_time = \"{hold}\"\n{more}{pool}",
            self.manifests.path().display()
        )
    }

    /// An Ingress with an endpoint, so that the VIPs can serve (with `routing = "off"`); gives the endpoint.
    pub(crate) fn serve(&self) -> Result<EndpointPod> {
        let pod = EndpointPod {
            pod: "web-1".into(),
            node: "node1".into(),
            address: Machine {
                v4: [10, 244, 20, 5].into(),
                v6: "fd00:244:0:20::5".parse()?,
            },
            ready: true,
        };
        self.manifests.write("class.yaml", &Manifests::ingress_class())?;
        self.manifests.write(
            "web.yaml",
            &Manifests::service("web", "ClusterIP", std::slice::from_ref(&pod)),
        )?;
        self.manifests.write(
            "ingress.yaml",
            &Manifests::ingress("web", "web.example.com", "web", None, false),
        )?;
        Ok(pod)
    }

    /// The line of the box's kernel table for exactly `prefix`.
    pub(crate) fn kernel(&self, prefix: &str) -> Result<Option<String>> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let table = self.the_box.routes(&format!("{family} route show"))?;
        Ok(table
            .lines()
            .find(|line| line.starts_with(&format!("{prefix} ")))
            .map(str::to_owned))
    }

    /// Waits until the kernel has `prefix` by way of `via`.
    pub(crate) fn wait_route(
        &self,
        appliance: &mut Appliance,
        prefix: &str,
        via: IpAddr,
    ) -> Result<Duration> {
        let ((), took) = wait_for(&format!("{prefix} in the kernel"), PATIENCE, || {
            appliance.daemon.check()?;
            let line = self.kernel(prefix)?.context("no such route")?;
            ensure!(line.contains(&format!("via {via} ")), "{line}");
            Ok(())
        })?;
        Ok(took)
    }

    /// Waits until the kernel has no `prefix`.
    pub(crate) fn wait_gone(
        &self,
        appliance: &mut Appliance,
        prefix: &str,
        limit: Duration,
    ) -> Result<Duration> {
        let ((), took) = wait_for(&format!("{prefix} to leave the kernel"), limit, || {
            appliance.daemon.check()?;
            match self.kernel(prefix)? {
                None => Ok(()),
                Some(line) => bail!("still {line}"),
            }
        })?;
        Ok(took)
    }
}

/// Fails unless the box says that `name` is established.
pub(crate) fn established(appliance: &Appliance, name: &str) -> Result<()> {
    let text = shown(appliance, name)?.to_string();
    ensure!(text.to_lowercase().contains("\"established\""), "{text:.300}");
    Ok(())
}

/// What `sekisho peers` has of `name`.
pub(crate) fn shown(appliance: &Appliance, name: &str) -> Result<serde_json::Value> {
    let peers = appliance.json(&["peers"])?;
    find(&peers, name)
        .cloned()
        .with_context(|| format!("`sekisho peers` shows no {name}"))
}

/// The object, at any depth, whose `name` is `name`.
pub(crate) fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    if value.get("name").and_then(serde_json::Value::as_str) == Some(name) {
        return Some(value);
    }
    match value {
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        serde_json::Value::Object(fields) => fields.values().find_map(|item| find(item, name)),
        _ => None,
    }
}
