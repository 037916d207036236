//! The box and one or two neighbours on one wire.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sekisho_tests::lab::{Appliance, BOX, Manifests, Netns, Settings, State, switch, wait_for};

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
        let directory = self.state.file("appliance");
        let dir = directory.display();
        let mut toml = format!(
            "[appliance]\nname = \"edge-1\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\nadmin = \"127.0.0.1:9901\"\nworkers = 1\n\
             [listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\"]\nhttps = [\"0.0.0.0:443\", \"[::]:443\"]\n\
             [source]\nmanifests = \"{}\"\nrouting = \"{routing}\"\n\
             [bgp]\nasn = 64512\nrouter_id = \"10.0.0.10\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nhold_time = \"{hold}\"\n\
             [[vips]]\nname = \"public\"\naddresses = [\"203.0.113.0/28\", \"2001:db8:1::/112\"]\nannounce_to = [\"upstream\"]\n",
            self.manifests.path().display()
        );
        for peer in neighbours {
            toml.push_str(&format!(
                "[[bgp.peers]]\nname = \"{}\"\naddress = \"{}\"\nasn = {}\nrole = \"{}\"\npassive = {}\n",
                peer.name, peer.address, peer.asn, peer.role, peer.passive
            ));
        }
        // Who else may come: addresses that misbehave, one after the other.
        toml.push_str("[[bgp.peer_ranges]]\nprefix = \"10.0.0.128/25\"\nasn = 64512\nrole = \"cluster\"\n");
        Appliance::start(&self.state, Some(&self.the_box), &Settings { directory, toml })
    }

    /// The line of the box's kernel table for exactly `prefix`.
    pub(crate) fn kernel(&self, prefix: &str) -> Result<Option<String>> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let table = self.the_box.ip(&format!("{family} route show"))?;
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
    let peers = appliance.json(&["peers"])?;
    let text = find(&peers, name)
        .with_context(|| format!("`sekisho peers` shows no {name}"))?
        .to_string();
    ensure!(text.to_lowercase().contains("\"established\""), "{text:.300}");
    Ok(())
}

/// The object, at any depth, whose `name` is `name`.
fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    if value.get("name").and_then(serde_json::Value::as_str) == Some(name) {
        return Some(value);
    }
    match value {
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        serde_json::Value::Object(fields) => fields.values().find_map(|item| find(item, name)),
        _ => None,
    }
}
