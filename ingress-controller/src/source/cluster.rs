//! A cluster, through its API server: each kind listed and watched by a task of its own, the world gathered here.

mod fault;
mod references;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use sekisho_config::model::{Finding, FindingKind, ObjectName, SourceKind};
use tokio::sync::{Semaphore, mpsc, watch as latest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Published;
use crate::backoff::{Backoff, dice};
use crate::metrics::Metrics;
use crate::text::printable;
use crate::translate::Context;
use crate::view::Health;
use crate::world::{Kind, Object, Reference, World};
use references::References;
use watch::{Connection, KindWatch, Scope};

/// Changes are published when none has come for so long,
const QUIET: Duration = Duration::from_millis(10);
/// but at the latest after so long.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// A client is made anew (the kubeconfig may have changed) at most so often.
const RECONNECT: Duration = Duration::from_secs(10);
/// A view waits so long at most for an object that an annotation of it has begun to name.
const LONGEST_WAIT_FOR_NAMED: Duration = Duration::from_secs(2);
/// Changes that wait to be gathered.
const QUEUE: usize = 1024;

/// The source.
pub(crate) struct Cluster {
    pub(crate) connect: Connect,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) publish: latest::Sender<Option<Published>>,
    /// The client in use, for whoever writes.
    pub(crate) client: latest::Sender<Option<Client>>,
    /// Whether Nodes are watched: they say which of several routes leads to the node that runs a pod.
    pub(crate) nodes: bool,
    /// Which Ingresses are ours: what their annotations name is watched as well.
    pub(crate) context: latest::Receiver<Context>,
    /// What their annotations name.
    pub(crate) references: Wished,
    pub(crate) stop: CancellationToken,
}

/// Says which Secrets and ConfigMaps our Ingresses name; pure.
pub(crate) type Wished = fn(&World, &Context) -> crate::translate::References;

/// How the API server is reached.
pub(crate) enum Connect {
    /// As the file says.
    Source(SourceKind),
    /// A client that is there already.
    #[cfg(test)]
    Client(Client),
}

/// What a watch says.
#[derive(Debug)]
enum Change {
    /// A complete list of a kind, in the place of everything known of it. Objects that cannot be read come apart.
    List(Kind, Vec<Object>, Vec<Unreadable>),
    /// An object is new or different.
    Apply(Object),
    /// An object is gone.
    Remove(Kind, ObjectName),
    /// An object has changed and cannot be read; what it said before stays.
    Bad(Unreadable),
    /// An object that an annotation names, read for the first time or anew: there, not there, or unreadable.
    Named(Reference, Option<Object>, Option<Unreadable>),
    /// The API server does not say whether it is there, for this reason.
    Unheard(Reference, String),
}

/// An object that cannot be read.
#[derive(Debug)]
struct Unreadable {
    kind: Kind,
    name: ObjectName,
    why: String,
}

impl Cluster {
    /// Lists and watches until stopped. A failure is shown and tried again; what is known stays in use meanwhile.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let client = self.first_client().await;
        self.client.send_replace(Some(client));
        let (changes_sender, mut changes) = mpsc::channel(QUEUE);
        let (stale_sender, mut stale) = mpsc::channel(1);
        let connection = Connection {
            client: self.client.subscribe(),
            stale: stale_sender,
            revived: latest::channel(0).0,
        };
        let mut watches = JoinSet::new();
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let shared = || {
            (
                connection.clone(),
                changes_sender.clone(),
                health.clone(),
                metrics.clone(),
            )
        };
        let everything = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let all = || (Scope::All, everything.clone());
        watches.spawn(KindWatch::<networking::Ingress>::new(shared(), all()).run());
        watches.spawn(KindWatch::<networking::IngressClass>::new(shared(), all()).run());
        watches.spawn(KindWatch::<core::Service>::new(shared(), all()).run());
        watches.spawn(KindWatch::<discovery::EndpointSlice>::new(shared(), all()).run());
        watches.spawn(KindWatch::<core::Secret>::new(shared(), all()).run());
        if self.nodes {
            watches.spawn(KindWatch::<core::Node>::new(shared(), all()).run());
        }
        let mut gathered = Gathered::default();
        let mut references = References::default();
        let mut connected = Instant::now();
        loop {
            let waiting = gathered.wait_until;
            tokio::select! {
                Some(change) = changes.recv() => {
                    gathered.apply(change);
                    gathered.settle(&mut changes).await;
                    if gathered.named_differ() {
                        let wished = (self.references)(&gathered.world, &self.context.borrow());
                        references.follow(wished, &mut gathered, &mut watches, shared);
                    }
                    self.publish(&mut gathered);
                }
                Ok(()) = self.context.changed() => {
                    let wished = (self.references)(&gathered.world, &self.context.borrow_and_update());
                    references.follow(wished, &mut gathered, &mut watches, shared);
                    self.publish(&mut gathered);
                }
                () = sleep_until(waiting.unwrap_or_else(Instant::now)), if waiting.is_some() => {
                    gathered.waited();
                    self.publish(&mut gathered);
                }
                Some(()) = stale.recv() => {
                    if connected.elapsed() >= RECONNECT {
                        connected = Instant::now();
                        if let Ok(client) = self.new_client().await {
                            self.client.send_replace(Some(client));
                        }
                    }
                }
                Some(ended) = watches.join_next() => {
                    if ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled) {
                        // Of an object that no annotation names any more.
                        continue;
                    }
                    // They never end; one that does has panicked, and its kind would stand still in silence.
                    let error = format!("a watch has ended ({ended:?}); restart the process and report this");
                    tracing::error!(error);
                    for kind in Kind::NEEDED {
                        self.health.failed(Some(kind), error.clone());
                    }
                }
            }
        }
    }

    fn publish(&self, gathered: &mut Gathered) {
        self.health.counted(&gathered.world);
        let complete = Kind::NEEDED.iter().all(|kind| gathered.listed.contains(kind));
        // An object that has just been named is there in a moment: without it, its Ingress would stand closed until then.
        if !complete || gathered.wait_until.is_some() || !std::mem::take(&mut gathered.changed) {
            return;
        }
        if self.publish.borrow().is_none() {
            tracing::info!(
                ingresses = gathered.world.count(Kind::Ingress),
                "first complete view of the cluster"
            );
        }
        self.publish.send_replace(Some(Published {
            world: gathered.world.clone(),
            findings: gathered.bad.values().cloned().collect(),
        }));
    }

    /// Tries until there is a client: the kubeconfig may come later.
    async fn first_client(&self) -> Client {
        let mut backoff = Backoff::default();
        loop {
            match self.new_client().await {
                Ok(client) => return client,
                Err(error) => {
                    let error = printable_long(&error.to_string());
                    let mut new = false;
                    for kind in Kind::NEEDED {
                        new |= self.health.failed(Some(kind), error.clone());
                        self.metrics.errors.with_label_values(&[kind.as_str()]).inc();
                    }
                    if new {
                        tracing::warn!(error, "no way to the API server; trying again");
                    }
                    sleep(backoff.next(dice())).await;
                }
            }
        }
    }

    #[cfg_attr(
        not(test),
        expect(clippy::infallible_destructuring_match, reason = "tests have a second way")
    )]
    async fn new_client(&self) -> Result<Client, ConnectError> {
        let source = match &self.connect {
            Connect::Source(source) => source,
            #[cfg(test)]
            Connect::Client(client) => return Ok(client.clone()),
        };
        let mut config = match source {
            SourceKind::Kubeconfig(path) => {
                let read = path.clone();
                let kubeconfig = tokio::task::spawn_blocking(move || Kubeconfig::read_from(read))
                    .await
                    .map_err(|error| {
                        ConnectError::Kubeconfig(path.display().to_string(), error.to_string())
                    })?;
                let options = KubeConfigOptions::default();
                match kubeconfig {
                    Ok(kubeconfig) => kube::Config::from_custom_kubeconfig(kubeconfig, &options).await,
                    Err(error) => Err(error),
                }
                .map_err(|error| ConnectError::Kubeconfig(path.display().to_string(), error.to_string()))?
            }
            SourceKind::InCluster => {
                kube::Config::incluster().map_err(|error| ConnectError::InCluster(error.to_string()))?
            }
            SourceKind::Manifests(_) => {
                return Err(ConnectError::Client("the source is a directory".to_owned()));
            }
        };
        // Our own waiting, so that the view says what the server said.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        self.health.located(config.cluster_url.to_string());
        Client::try_from(config).map_err(|error| ConnectError::Client(error.to_string()))
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(
        "kubeconfig {0} cannot be used: {1}; check `kubeconfig` in [source], the file and its current-context"
    )]
    Kubeconfig(String, String),
    #[error("not in a cluster: {0}; give the pod a service account, or name a kubeconfig in [source]")]
    InCluster(String),
    #[error("no client for the API server: {0}; check the addresses and certificates in the kubeconfig")]
    Client(String),
}

fn printable_long(text: &str) -> String {
    text.chars().take(600).flat_map(char::escape_debug).collect()
}

/// What is known so far.
#[derive(Default)]
struct Gathered {
    world: World,
    listed: BTreeSet<Kind>,
    bad: BTreeMap<(Kind, ObjectName), Finding>,
    changed: bool,
    /// Whether Ingresses or their classes have changed, and with them perhaps what they name.
    named_differ: bool,
    /// Named by annotations.
    named: BTreeSet<Reference>,
    /// Those of them that have not been heard of yet.
    pending: BTreeSet<Reference>,
    /// Until when nothing is published for their sake.
    wait_until: Option<Instant>,
}

impl Gathered {
    fn apply(&mut self, change: Change) {
        let kind = match &change {
            Change::List(kind, ..)
            | Change::Remove(kind, _)
            | Change::Named((kind, _), ..)
            | Change::Unheard((kind, _), _) => *kind,
            Change::Apply(object) => object.kind(),
            Change::Bad(bad) => bad.kind,
        };
        self.named_differ |= matches!(kind, Kind::Ingress | Kind::IngressClass);
        if matches!(kind, Kind::NamedSecret | Kind::ConfigMap) {
            return self.apply_named(change);
        }
        self.apply_any(change);
    }

    fn apply_any(&mut self, change: Change) {
        match change {
            Change::List(kind, mut objects, unreadable) => {
                self.bad.retain(|(bad, _), _| *bad != kind);
                for unreadable in unreadable {
                    objects.extend(self.world.get(kind, &unreadable.name));
                    self.bad(unreadable);
                }
                self.world.replace(kind, objects);
                self.listed.insert(kind);
            }
            Change::Apply(object) => {
                let key = (object.kind(), object.name().clone());
                let repaired = self.bad.remove(&key).is_some();
                if self.world.get(key.0, &key.1).as_ref() == Some(&object) {
                    // Nothing that we read is different.
                    self.changed |= repaired;
                    return;
                }
                self.world.insert(object);
            }
            Change::Remove(kind, name) => {
                self.world.remove(kind, &name);
                self.bad.remove(&(kind, name));
            }
            Change::Bad(unreadable) => self.bad(unreadable),
            Change::Named(..) | Change::Unheard(..) => {}
        }
        self.changed = true;
    }

    fn bad(&mut self, bad: Unreadable) {
        let finding = Finding {
            kind: FindingKind::Unreadable,
            object_kind: bad.kind.as_str(),
            object: bad.name.clone(),
            place: String::new(),
            message: format!(
                "cannot be read: {}; what it said before stays in use",
                printable(&bad.why)
            ),
        };
        self.bad.insert((bad.kind, bad.name), finding);
    }

    /// Takes further changes until they stop coming, within limits.
    async fn settle(&mut self, changes: &mut mpsc::Receiver<Change>) {
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            match timeout_at(quiet, changes.recv()).await {
                Ok(Some(change)) => self.apply(change),
                _ => return,
            }
            if Instant::now() >= latest {
                return;
            }
        }
    }
}
