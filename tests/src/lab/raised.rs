use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    BOX, Bird, BirdVersion, Machine, NODES, Netns, Node, Pod, ROUTER, State, join, node_configuration,
    router_configuration, switch, wait_for,
};

/// The lab, raised: everything but the appliance itself.
#[derive(Debug)]
pub struct Lab {
    /// Its directory.
    pub state: State,
    /// Where clients and the CA live.
    pub client: Netns,
    /// The router above.
    pub router: Netns,
    /// Where the appliance runs.
    pub the_box: Netns,
    /// The nodes by name.
    pub nodes: BTreeMap<&'static str, Netns>,
    /// BIRD 2 on the router.
    pub router_bird: Bird,
    /// BIRD 1.6 on the nodes, by node: IPv4 and IPv6 daemon.
    pub birds: BTreeMap<&'static str, (Bird, Bird)>,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
}

impl Lab {
    /// Raises namespaces, routers and nodes, without pods.
    ///
    /// # Errors
    /// The first thing that fails.
    pub fn raise(state: &State) -> Result<Self> {
        let (client, router, the_box) = (
            Netns::create("client")?,
            Netns::create("router")?,
            Netns::create("box")?,
        );
        join(
            (&client, "eth0", &["198.51.100.10/24", "2001:db8:c::10/64"]),
            (&router, "client", &["198.51.100.1/24", "2001:db8:c::1/64"]),
        )?;
        client.ip("route add default via 198.51.100.1")?;
        client.ip("-6 route add default via 2001:db8:c::1")?;
        join(
            (&the_box, "uplink", &["192.0.2.10/24", "2001:db8:2::10/64"]),
            (
                &router,
                "box",
                &[&format!("{}/24", ROUTER.v4), &format!("{}/64", ROUTER.v6)],
            ),
        )?;
        the_box.ip(&format!("route add default via {}", ROUTER.v4))?;
        the_box.ip(&format!("-6 route add default via {}", ROUTER.v6))?;
        switch(
            "nodes",
            &the_box,
            "nodes",
            &[&format!("{}/24", BOX.v4), &format!("{}/64", BOX.v6)],
        )?;

        let mut nodes = BTreeMap::new();
        let mut birds = BTreeMap::new();
        for node in NODES {
            let netns = Netns::create(node.name)?;
            switch(
                "nodes",
                &netns,
                "eth0",
                &[&format!("{}/24", node.v4()), &format!("{}/64", node.v6())],
            )?;
            let start = |suffix: &str, version| {
                let text = node_configuration(node, version);
                Bird::start(
                    state,
                    &format!("{}-bird{suffix}", node.name),
                    &netns,
                    version,
                    &text,
                )
            };
            birds.insert(
                node.name,
                (
                    start("", BirdVersion::V16Ipv4)?,
                    start("6", BirdVersion::V16Ipv6)?,
                ),
            );
            nodes.insert(node.name, netns);
        }
        let text = router_configuration(
            [192, 0, 2, 10].into(),
            [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10].into(),
        );
        let router_bird = Bird::start(state, "router-bird", &router, BirdVersion::V2, &text)?;
        let state = state.clone();
        Ok(Self {
            state,
            client,
            router,
            the_box,
            nodes,
            router_bird,
            birds,
            pods: BTreeMap::new(),
        })
    }

    /// The namespace of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn node(&self, node: Node) -> Result<&Netns> {
        self.nodes
            .get(node.name)
            .with_context(|| format!("no node {}", node.name))
    }

    /// The two BIRDs of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn bird(&self, node: Node) -> Result<&(Bird, Bird)> {
        self.birds
            .get(node.name)
            .with_context(|| format!("no node {}", node.name))
    }

    /// Starts a pod on `node`.
    ///
    /// # Errors
    /// What [`Pod::start`] says.
    pub fn start_pod(&mut self, node: Node, name: &str, address: Machine) -> Result<&Pod> {
        let pod = Pod::start(&self.state, self.node(node)?, node, name, address)?;
        Ok(self.pods.entry(name.to_owned()).or_insert(pod))
    }

    /// Ends a pod.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn stop_pod(&mut self, name: &str) -> Result<()> {
        self.pods
            .remove(name)
            .with_context(|| format!("no pod {name}"))?
            .stop()
    }

    /// Waits until the nodes have each other's blocks.
    ///
    /// # Errors
    /// When a mesh session stays down.
    pub fn wait_for_mesh(&self, limit: Duration) -> Result<Duration> {
        let ((), took) = wait_for("the mesh of the nodes", limit, || {
            for node in NODES {
                for other in NODES.into_iter().filter(|other| other.number != node.number) {
                    let (v4, v6) = self.bird(node)?;
                    let name = format!("Mesh_{}", other.name);
                    v4.need_route(&other.block_v4(), &name).context(node.name)?;
                    v6.need_route(&other.block_v6(), &name).context(node.name)?;
                }
            }
            Ok(())
        })?;
        Ok(took)
    }
}
