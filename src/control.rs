//! The control task: the single writer. Folds what the rooms say into one state and publishes what follows from it.
//!
//! [`Control`] is the pure core (a state and a fold); [`run`] is the loop around it.

mod metrics;
mod owners;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;
use sekisho_bgp::announce::{self, Plan};
use sekisho_bgp::rib::Owners;
use sekisho_config::model::{
    Bgp, Certificate, CertificateSource, ClusterPart, Desired, Finding, HostPattern, NameSet, Observed,
    PoolId, Prefix, Revision, Secret, Settings, Vip, VipPurpose, VipServing,
};
use sekisho_ingress_controller::Context;
use sekisho_proxy::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

pub(crate) use self::metrics::Metrics;
use self::owners::NodesOfPods;
use self::tracked::Tracked;

/// Changes folded at most before the result is published.
const BATCH: usize = 1024;

/// Something that control must know.
pub(crate) enum Change {
    /// The file has a new, good version.
    Settings(Box<Settings>),
    /// The source has been translated.
    Translated {
        generation: u64,
        part: ClusterPart,
        findings: Arc<[Finding]>,
    },
    /// The routing table's word on tracked addresses; `None`: no longer tracked.
    Reach(Vec<(IpAddr, Option<sekisho_config::model::Reach>)>),
    /// A certificate was obtained, or found in the store.
    Certificate {
        names: Arc<NameSet>,
        certificate: Arc<sekisho_config::model::Certificate>,
    },
    /// Serve this challenge answer, then say so.
    Answer {
        token: Arc<str>,
        answer: sekisho_config::model::ChallengeAnswer,
        published: oneshot::Sender<Revision>,
    },
    /// The answer is no longer needed.
    AnswerDone { token: Arc<str> },
    /// A listening socket changed its state; `None`: closed.
    Listener {
        address: SocketAddr,
        state: Option<sekisho_config::model::ListenerState>,
    },
    /// The health of an endpoint by a check; `None`: it is not asked for any more.
    Health {
        of: (SocketAddr, Arc<sekisho_config::model::HealthCheck>),
        health: Option<sekisho_config::model::Health>,
    },
    /// The interfaces of the box have these addresses now.
    OwnAddresses(Arc<BTreeSet<IpAddr>>),
    /// Networks of pods that the cluster names, ordered.
    PodNetworks(Vec<Prefix>),
    /// Withdraw the VIPs: the box is about to stop.
    Stopping,
    /// A second has passed.
    Tick,
}

/// What the world outside control can read: one consistent picture a revision.
#[derive(Clone)]
pub(crate) struct Picture {
    pub(crate) revision: Revision,
    pub(crate) published_at: Timestamp,
    pub(crate) settings: Arc<Settings>,
    pub(crate) desired: Arc<Desired>,
    pub(crate) observed: Arc<Observed>,
    pub(crate) findings: Arc<[Finding]>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) stopping: bool,
}

/// Where results go.
pub(crate) struct Outputs {
    pub(crate) proxy: Arc<sekisho_proxy::Handle>,
    pub(crate) bgp: Option<sekisho_bgp::Handle>,
    pub(crate) acme: Option<sekisho_acme::Handle>,
    pub(crate) source: sekisho_ingress_controller::Handle,
    pub(crate) picture: watch::Sender<Picture>,
    pub(crate) metrics: Arc<Metrics>,
}

type Sources = OrdMap<HostPattern, Arc<CertificateSource>>;
type Obtained = OrdMap<Arc<NameSet>, Arc<Certificate>>;

/// The state and its fold. No I/O.
struct Control {
    settings: Arc<Settings>,
    own_addresses: Arc<BTreeSet<IpAddr>>,
    pod_networks: Arc<[Prefix]>,
    /// The key of cookies that counts where the file names none.
    own_sticky_key: Option<Secret>,
    desired: Desired,
    observed: Observed,
    findings: Arc<[Finding]>,
    generation: Option<u64>,
    tracked: Tracked,
    nodes_of_pods: NodesOfPods,
    snapshot: Arc<Snapshot>,
    plan: Arc<Plan>,
    wanted: BTreeSet<Arc<NameSet>>,
    /// What `wanted` and `earliest_expiry` were made from.
    certificates_of: (Sources, Obtained),
    /// When the first certificate that is served expires.
    earliest_expiry: Option<Timestamp>,
    revision: Revision,
    stopping: bool,
}

/// Which results differ from those published before; the snapshot always does, by its revision.
#[derive(Default)]
struct Outcome {
    plan: bool,
    wanted: bool,
}

impl Control {
    fn new(settings: Settings, own_addresses: Arc<BTreeSet<IpAddr>>) -> Self {
        let mut control = Self {
            own_addresses,
            pod_networks: Arc::from([]),
            own_sticky_key: None,
            desired: Desired::default(),
            observed: Observed::default(),
            findings: Arc::from([]),
            generation: None,
            tracked: Tracked::default(),
            nodes_of_pods: NodesOfPods::default(),
            snapshot: Arc::new(Snapshot::default()),
            plan: Arc::new(Plan::default()),
            wanted: BTreeSet::new(),
            certificates_of: Default::default(),
            earliest_expiry: None,
            revision: Revision::default(),
            stopping: false,
            settings: Arc::new(settings),
        };
        control.wish_from_file();
        control
    }

    fn wish_from_file(&mut self) {
        let settings = &self.settings;
        self.desired.http.clone_from(&settings.listen.http);
        self.desired.https.clone_from(&settings.listen.https);
        self.desired.http3.clone_from(&settings.listen.http3);
        let key = settings.http.sticky_key.as_ref().or(self.own_sticky_key.as_ref());
        self.desired.sticky_key = key.cloned();
    }

    /// Takes one change in. Returns who waits for the revision that carries it.
    fn fold(&mut self, change: Change) -> Option<oneshot::Sender<Revision>> {
        match change {
            Change::Settings(settings) => {
                self.settings = Arc::new(*settings);
                self.wish_from_file();
            }
            Change::Translated {
                generation,
                part,
                findings,
            } => {
                let empty = ClusterPart::default();
                let before = self.desired.cluster.as_ref().unwrap_or(&empty);
                self.tracked.follow(&before.pools, &part.pools);
                self.nodes_of_pods.follow(before, &part, self.tracked.addresses());
                self.desired.cluster = Some(part);
                self.findings = findings;
                self.generation = Some(generation);
            }
            Change::Reach(reach) => {
                for (address, reach) in reach {
                    match reach {
                        Some(reach) => self.observed.reach.insert(address, reach),
                        None => self.observed.reach.remove(&address),
                    };
                }
            }
            Change::Certificate { names, certificate } => {
                self.observed.certificates.insert(names, certificate);
            }
            Change::Answer {
                token,
                answer,
                published,
            } => {
                self.observed.answers.insert(token, answer);
                return Some(published);
            }
            Change::AnswerDone { token } => {
                self.observed.answers.remove(&token);
            }
            Change::Listener {
                address,
                state: Some(state),
            } => {
                self.observed.listeners.insert(address, state);
            }
            Change::Listener { address, state: None } => {
                self.observed.listeners.remove(&address);
            }
            Change::Health {
                of,
                health: Some(health),
            } => {
                self.observed.health.insert(of, health);
            }
            Change::Health { of, health: None } => {
                self.observed.health.remove(&of);
            }
            Change::OwnAddresses(addresses) => self.own_addresses = addresses,
            Change::PodNetworks(networks) => self.pod_networks = networks.into(),
            Change::Stopping => self.stopping = true,
            Change::Tick => {}
        }
        None
    }

    /// Makes everything that follows from the state, under the next revision.
    fn compile(&mut self) -> Outcome {
        self.revision = Revision(self.revision.0 + 1);
        let snapshot = sekisho_proxy::snapshot::compile(
            &self.snapshot,
            &self.desired,
            &self.observed,
            self.settings.source.routing,
            self.revision,
        );
        self.snapshot = Arc::new(snapshot);
        let plan = announce::plan(
            &self.serving(),
            &self.settings.vips,
            self.desired.cluster.is_some(),
            self.stopping,
        );
        let outcome = Outcome {
            plan: plan != *self.plan,
            wanted: self.look_at_certificates(),
        };
        if outcome.plan {
            self.plan = Arc::new(plan);
        }
        outcome
    }

    /// Follows the TLS hosts, if they or the certificates obtained changed. Returns whether ACME must hear of it.
    fn look_at_certificates(&mut self) -> bool {
        let sources = match &self.desired.cluster {
            Some(cluster) => cluster.certificates.clone(),
            None => OrdMap::new(),
        };
        let obtained = &self.observed.certificates;
        if sources.ptr_eq(&self.certificates_of.0) && obtained.ptr_eq(&self.certificates_of.1) {
            return false;
        }
        let mut wanted = BTreeSet::new();
        let mut earliest = None::<Timestamp>;
        for source in sources.values() {
            let held = match &**source {
                CertificateSource::Secret { certificate, .. } => Some(certificate),
                CertificateSource::Acme { names, .. } => {
                    wanted.insert(Arc::clone(names));
                    obtained.get(names)
                }
                CertificateSource::Placeholder { .. } => None,
            };
            if let Some(certificate) = held {
                earliest = Some(earliest.map_or(certificate.not_after, |at| at.min(certificate.not_after)));
            }
        }
        self.certificates_of = (sources, obtained.clone());
        self.earliest_expiry = earliest;
        let differs = wanted != self.wanted;
        self.wanted = wanted;
        differs
    }

    /// Facts about each VIP for [`announce::plan`].
    fn serving(&self) -> Vec<(Arc<Vip>, VipServing)> {
        let Some(cluster) = &self.desired.cluster else {
            return Vec::new();
        };
        cluster
            .vips
            .values()
            .map(|vip| (Arc::clone(vip), self.vip_serving(cluster, vip)))
            .collect()
    }

    fn vip_serving(&self, cluster: &ClusterPart, vip: &Vip) -> VipServing {
        let (sockets, can_serve): (Vec<SocketAddr>, bool) = match &vip.purpose {
            VipPurpose::Ingress => (
                self.desired
                    .http
                    .iter()
                    .chain(&self.desired.https)
                    .filter(|listener| accepts(listener.ip(), vip.address))
                    .copied()
                    .collect(),
                self.snapshot.eligible_http() > 0,
            ),
            VipPurpose::Service { pools, .. } => (
                cluster
                    .tcp
                    .keys()
                    .filter(|listener| listener.ip() == vip.address)
                    .copied()
                    .collect(),
                pools.iter().any(|pool| self.eligible(pool)),
            ),
        };
        let state = |socket| (socket, self.observed.listeners.get(&socket).cloned());
        VipServing {
            listeners: sockets.into_iter().map(state).collect(),
            can_serve,
        }
    }

    fn eligible(&self, pool: &PoolId) -> bool {
        self.snapshot.pool(pool).is_some_and(|pool| pool.eligible() > 0)
    }

    fn picture(&self) -> Picture {
        Picture {
            revision: self.revision,
            published_at: Timestamp::now(),
            settings: Arc::clone(&self.settings),
            desired: Arc::new(self.desired.clone()),
            observed: Arc::new(self.observed.clone()),
            findings: Arc::clone(&self.findings),
            snapshot: Arc::clone(&self.snapshot),
            plan: Arc::clone(&self.plan),
            stopping: self.stopping,
        }
    }
}

/// The picture before anything is published.
pub(crate) fn first_picture(settings: &Settings) -> Picture {
    Control::new(settings.clone(), Arc::default()).picture()
}

/// Whether a socket bound to `listener` takes connections to `address`.
fn accepts(listener: IpAddr, address: IpAddr) -> bool {
    listener == address || (listener.is_unspecified() && listener.is_ipv4() == address.is_ipv4())
}

/// Folds changes until the channel closes. `settings` are the first ones, already known to every room.
///
/// Cancel-safe: no (it runs to its end).
pub(crate) async fn run(
    settings: Settings,
    own_addresses: Arc<BTreeSet<IpAddr>>,
    own_sticky_key: Option<Secret>,
    mut changes: mpsc::Receiver<Change>,
    outputs: Outputs,
) {
    let mut control = Control::new(settings, own_addresses);
    control.own_sticky_key = own_sticky_key;
    control.wish_from_file();
    let mut shell = Shell {
        outputs,
        tracked: OrdSet::new(),
        owners: Owners::new(),
        generation: None,
        settings: Arc::clone(&control.settings),
        own_addresses: Arc::clone(&control.own_addresses),
        pod_networks: Arc::clone(&control.pod_networks),
    };
    shell.publish(&mut control, Vec::new());
    while let Some(change) = changes.recv().await {
        let began = tokio::time::Instant::now();
        shell.outputs.metrics.beat();
        let mut dirty = !matches!(change, Change::Tick);
        let mut waiting: Vec<_> = control.fold(change).into_iter().collect();
        // A burst (a first list, a node's routes) becomes one revision.
        for _ in 1..BATCH {
            let Ok(change) = changes.try_recv() else { break };
            dirty |= !matches!(change, Change::Tick);
            waiting.extend(control.fold(change));
        }
        if dirty {
            shell.publish(&mut control, waiting);
            shell.outputs.metrics.published_in(began.elapsed());
        }
    }
    debug!("control ends");
}

/// The file's networks of pods and the cluster's together, unless the file says not to look.
fn with_pod_networks(bgp: &Bgp, networks: &[Prefix]) -> Bgp {
    let mut bgp = bgp.clone();
    if bgp.discover_pod_prefixes {
        let more = networks
            .iter()
            .filter(|prefix| !bgp.pod_prefixes.contains(prefix));
        let more: Vec<_> = more.copied().collect();
        bgp.pod_prefixes.extend(more);
    }
    bgp
}

/// The hands of the loop: remembers what each room was told last.
struct Shell {
    outputs: Outputs,
    tracked: OrdSet<IpAddr>,
    owners: Owners,
    generation: Option<u64>,
    settings: Arc<Settings>,
    own_addresses: Arc<BTreeSet<IpAddr>>,
    pod_networks: Arc<[Prefix]>,
}

impl Shell {
    fn publish(&mut self, control: &mut Control, waiting: Vec<oneshot::Sender<Revision>>) {
        let networks_differ = self.pod_networks != control.pod_networks;
        self.pod_networks = Arc::clone(&control.pod_networks);
        if !Arc::ptr_eq(&self.settings, &control.settings) {
            self.settings = Arc::clone(&control.settings);
            self.configure();
        } else if networks_differ {
            self.configure_bgp();
        }
        if !Arc::ptr_eq(&self.own_addresses, &control.own_addresses) {
            self.own_addresses = Arc::clone(&control.own_addresses);
            self.outputs.source.configure(self.context());
        }
        let outcome = control.compile();
        // Order: what answers requests first, then whoever may send some.
        self.outputs.proxy.publish(Arc::clone(&control.snapshot));
        for waiter in waiting {
            let _ = waiter.send(control.revision); // gone: the order was given up
        }
        if let Some(bgp) = &self.outputs.bgp {
            if !self.tracked.ptr_eq(control.tracked.addresses()) {
                self.tracked = control.tracked.addresses().clone();
                bgp.track(self.tracked.clone());
            }
            if !self.owners.ptr_eq(control.nodes_of_pods.owners()) {
                self.owners = control.nodes_of_pods.owners().clone();
                bgp.owners(self.owners.clone());
            }
            if outcome.plan {
                bgp.announce(Arc::clone(&control.plan));
            }
        }
        if outcome.wanted
            && let Some(acme) = &self.outputs.acme
        {
            acme.want(control.wanted.clone());
        }
        if self.generation != control.generation {
            self.generation = control.generation;
            if let Some(generation) = control.generation {
                self.outputs.source.published(generation);
            }
        }
        self.outputs.metrics.record(control);
        self.outputs.picture.send_replace(control.picture());
        debug!(revision = %control.revision, "published");
    }

    fn context(&self) -> Context {
        Context {
            own_addresses: Arc::clone(&self.own_addresses),
            ..Context::from(&*self.settings)
        }
    }

    /// What the file says, with the networks of pods that the cluster names.
    fn configure_bgp(&self) {
        if let (Some(handle), Some(bgp)) = (&self.outputs.bgp, &self.settings.bgp) {
            handle.configure(with_pod_networks(bgp, &self.pod_networks));
        }
    }

    /// Hands a new file to the rooms.
    fn configure(&self) {
        let settings = &self.settings;
        self.outputs.proxy.configure(crate::appliance::live(settings));
        self.outputs.source.configure(self.context());
        self.configure_bgp();
        if let (Some(handle), Some(acme)) = (&self.outputs.acme, &settings.acme) {
            handle.configure(acme.clone());
        }
    }
}
