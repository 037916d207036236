//! One kind: list, then watch from there, for ever.
//!
//! The loop is our own and not `kube::runtime::watcher`: that one keeps asking for a version that the server has answered with
//! HTTP 410 (it relists only on the ERROR event), and it swallows bookmarks, by which we know that a quiet watch is alive.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::fault::Fault;
use super::{Change, Debug, Unreadable, core, discovery, networking};
use crate::backoff::{Backoff, dice};
use crate::metrics::Metrics;
use crate::text::{is_object_name, printable};
use crate::view::Health;
use crate::world::{Content, Kind, Object, ParseError, TlsSecret};
use sekisho_config::model::ObjectName;

/// Objects on one page of a list.
const PAGE: u32 = 500;
/// One page of a list, or the head of a watch's answer.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch is ended by the server after so long (and up to a half more, so that the five do not end together),
const WATCH: Duration = Duration::from_secs(60);
/// and by us when nothing has come for so much longer: the connection is dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// After so many refused starts of a watch in a row a new list is tried: a server restored from a backup does not know our version.
const FAILED_STARTS: u32 = 3;

/// The same for a watch of one object: there may be very many of them.
const WATCH_ONE: Duration = Duration::from_secs(300);

/// The way to the API server.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: watch::Receiver<Option<Client>>,
    /// A note that the client may be out of date.
    pub(super) stale: mpsc::Sender<()>,
    /// Counts how often a kind has got through again: then the others need not wait any longer.
    pub(super) revived: watch::Sender<u64>,
}

/// What is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// All objects of a kind.
    All,
    /// One that an annotation names. The API server sends no other, and a rule with `resourceNames` is enough for it.
    One(ObjectName),
}

/// A type of the API that becomes an object of ours.
pub(super) trait Readable: 'static {
    type From: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static;
    const KIND: Kind;
    fn read(from: Self::From) -> Result<Option<Object>, ParseError>;
    fn api(client: Client, _scope: &Scope) -> Api<DeserializeGuard<Self::From>> {
        Api::all(client)
    }
}

impl Readable for networking::Ingress {
    type From = Self;
    const KIND: Kind = Kind::Ingress;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::Ingress(Arc::new(from.try_into()?))))
    }
}

impl Readable for networking::IngressClass {
    type From = Self;
    const KIND: Kind = Kind::IngressClass;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::IngressClass(Arc::new(from.try_into()?))))
    }
}

impl Readable for core::Service {
    type From = Self;
    const KIND: Kind = Kind::Service;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::Service(Arc::new(from.try_into()?))))
    }
}

impl Readable for discovery::EndpointSlice {
    type From = Self;
    const KIND: Kind = Kind::EndpointSlice;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::EndpointSlice(Arc::new(from.try_into()?))))
    }
}

impl Readable for core::Node {
    type From = Self;
    const KIND: Kind = Kind::Node;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::Node(Arc::new(from.try_into()?))))
    }
}

impl Readable for core::Secret {
    type From = Self;
    const KIND: Kind = Kind::Secret;
    fn read(from: Self) -> Result<Option<Object>, ParseError> {
        Ok(TlsSecret::parse(&from)?.map(|secret| Object::Secret(Arc::new(secret))))
    }
}

/// A Secret that an annotation names.
pub(super) struct NamedSecret;

impl Readable for NamedSecret {
    type From = core::Secret;
    const KIND: Kind = Kind::NamedSecret;
    fn read(from: core::Secret) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::Content(Arc::new(Content::of_secret(&from)?))))
    }
    fn api(client: Client, scope: &Scope) -> Api<DeserializeGuard<core::Secret>> {
        match scope {
            Scope::All => Api::all(client),
            Scope::One(name) => Api::namespaced(client, &name.namespace),
        }
    }
}

/// A ConfigMap that an annotation names.
pub(super) struct NamedConfigMap;

impl Readable for NamedConfigMap {
    type From = core::ConfigMap;
    const KIND: Kind = Kind::ConfigMap;
    fn read(from: core::ConfigMap) -> Result<Option<Object>, ParseError> {
        Ok(Some(Object::Content(Arc::new(Content::of_config_map(from)?))))
    }
    fn api(client: Client, scope: &Scope) -> Api<DeserializeGuard<core::ConfigMap>> {
        match scope {
            Scope::All => Api::all(client),
            Scope::One(name) => Api::namespaced(client, &name.namespace),
        }
    }
}

/// Lists and watches one kind, or one object of it.
pub(super) struct KindWatch<K> {
    scope: Scope,
    /// Held while a list is read, so that a thousand objects are not asked for at once.
    turns: Arc<Semaphore>,
    connection: Connection,
    changes: mpsc::Sender<Change>,
    health: Health,
    metrics: Metrics,
    failing: bool,
    kind: PhantomData<fn() -> K>,
}

/// How a watch ended.
enum Ended {
    /// By the server, after its time, or while it had said something: go on from where it was.
    Resume,
    /// With a fault.
    Fault(Fault),
}

impl<K: Readable> KindWatch<K> {
    pub(super) fn new(
        (connection, changes, health, metrics): (Connection, mpsc::Sender<Change>, Health, Metrics),
        (scope, turns): (Scope, Arc<Semaphore>),
    ) -> Self {
        Self {
            scope,
            turns,
            connection,
            changes,
            health,
            metrics,
            failing: false,
            kind: PhantomData,
        }
    }

    /// Never returns while somebody takes the changes.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.changes.is_closed() {
            match self.list().await {
                Ok(version) => {
                    let fault = self.follow(version, &mut backoff).await;
                    self.failed(&fault, &mut backoff).await;
                }
                Err(fault) => self.failed(&fault, &mut backoff).await,
            }
        }
    }

    fn api(&mut self) -> Option<Api<DeserializeGuard<K::From>>> {
        let client = self.connection.client.borrow_and_update().clone();
        client.map(|client| K::api(client, &self.scope))
    }

    /// Secrets are asked for by type or by name, so that no other secret ever comes to the box.
    fn field_selector(&self) -> Option<String> {
        match &self.scope {
            Scope::One(name) => Some(format!("metadata.name={}", name.name)),
            Scope::All => (K::KIND == Kind::Secret).then(|| "type=kubernetes.io/tls".to_owned()),
        }
    }

    fn no_client() -> Fault {
        Fault {
            message: "there is no client".to_owned(),
            gone: false,
            stale: true,
            retry_after: Duration::ZERO,
        }
    }

    /// Every page, then one change: a list counts whole or not at all. Gives the version from which to watch.
    async fn list(&mut self) -> Result<String, Fault> {
        let turns = self.turns.clone();
        let _turn = turns.acquire().await;
        let api = self.api().ok_or_else(Self::no_client)?;
        let mut params = ListParams {
            limit: Some(PAGE),
            field_selector: self.field_selector(),
            ..ListParams::default()
        };
        let mut objects = Vec::new();
        let mut unreadable = Vec::new();
        let mut tokens = BTreeSet::new();
        let version = loop {
            let page = timeout(ANSWER, api.list(&params))
                .await
                .map_err(|_| Fault::timed_out("list", ANSWER))?
                .map_err(|error| Fault::of(K::KIND, "list", &error))?;
            for object in page.items {
                match read::<K>(object) {
                    Ok(object) => objects.extend(object),
                    Err(bad) => unreadable.extend(bad),
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if tokens.insert(token.clone()) => params.continue_token = Some(token),
                _ => break page.metadata.resource_version.unwrap_or_default(),
            }
        };
        if version.is_empty() {
            return Err(Fault {
                message: "the list has no resourceVersion; is this a Kubernetes API server?".to_owned(),
                gone: false,
                stale: true,
                retry_after: Duration::ZERO,
            });
        }
        self.metrics.lists.with_label_values(&[K::KIND.as_str()]).inc();
        let change = match &self.scope {
            Scope::All => Change::List(K::KIND, objects, unreadable),
            Scope::One(name) => Change::Named((K::KIND, name.clone()), objects.pop(), unreadable.pop()),
        };
        self.send(change).await;
        self.heard(true);
        Ok(version)
    }

    /// Watches from `version` on; returns when only a new list helps.
    async fn follow(&mut self, mut version: String, backoff: &mut Backoff) -> Fault {
        let mut failed_starts = 0;
        loop {
            let begin = Instant::now();
            let before = version.clone();
            match self.watch(&mut version).await {
                Ok(Ended::Resume) => {
                    failed_starts = 0;
                    if version != before || begin.elapsed() >= WATCH / 4 {
                        backoff.reset();
                    } else {
                        // Ended at once and without a word: not a failure, but not to be repeated at full speed.
                        sleep(backoff.next(dice())).await;
                    }
                }
                Ok(Ended::Fault(fault)) => {
                    failed_starts = 0;
                    if fault.gone {
                        return fault;
                    }
                    if version != before {
                        backoff.reset();
                    }
                    self.failed(&fault, backoff).await;
                }
                Err(fault) => {
                    // A server that cannot be reached has not forgotten our version.
                    failed_starts += u32::from(!fault.stale);
                    if fault.gone || failed_starts >= FAILED_STARTS {
                        return fault;
                    }
                    self.failed(&fault, backoff).await;
                }
            }
        }
    }

    /// One watch, from `version` on, which it moves. `Err`: it did not even start.
    async fn watch(&mut self, version: &mut String) -> Result<Ended, Fault> {
        let api = self.api().ok_or_else(Self::no_client)?;
        let least = match self.scope {
            Scope::All => WATCH,
            Scope::One(_) => WATCH_ONE,
        };
        let length =
            least + (least / 2).mul_f64(f64::from(u32::try_from(dice() % 1024).unwrap_or(0)) / 1024.0);
        let params = WatchParams {
            field_selector: self.field_selector(),
            timeout: u32::try_from(length.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let stream = timeout(ANSWER, api.watch(&params, version))
            .await
            .map_err(|_| Fault::timed_out("watch", ANSWER))?
            .map_err(|error| Fault::of(K::KIND, "watch", &error))?;
        self.heard(false);
        let mut stream = std::pin::pin!(stream);
        let longest = length + WATCH_GRACE;
        loop {
            let event = match timeout(longest, stream.try_next()).await {
                Err(_) => return Ok(Ended::Fault(Fault::timed_out("watch", longest))),
                Ok(Err(error)) => return Ok(Ended::Fault(Fault::of(K::KIND, "watch", &error))),
                Ok(Ok(None)) => return Ok(Ended::Resume),
                Ok(Ok(Some(event))) => event,
            };
            let seen = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let seen = object.resource_version();
                    match read::<K>(object) {
                        Ok(Some(object)) => self.send(Change::Apply(object)).await,
                        Ok(None) => {}
                        Err(Some(bad)) => self.send(Change::Bad(bad)).await,
                        Err(None) => {}
                    }
                    seen
                }
                WatchEvent::Deleted(object) => {
                    if let Some(name) = name(&object) {
                        self.send(Change::Remove(K::KIND, name)).await;
                    }
                    object.resource_version()
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => {
                    return Ok(Ended::Fault(Fault::of_status(K::KIND, "watch", &status)));
                }
            };
            self.heard(false);
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                *version = seen;
            }
        }
    }

    fn heard(&mut self, synced: bool) {
        if K::KIND.is_needed() {
            self.health.heard(Some(K::KIND), synced);
        }
        if std::mem::take(&mut self.failing) {
            self.connection
                .revived
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    async fn send(&self, change: Change) {
        self.metrics.changes.inc();
        // Nobody takes changes only when the source stops, and then this task is stopped as well.
        let _ = self.changes.send(change).await;
    }

    /// Shows the fault and waits.
    async fn failed(&mut self, fault: &Fault, backoff: &mut Backoff) {
        let mut revived = self.connection.revived.subscribe();
        let first = !std::mem::replace(&mut self.failing, true);
        let pause = backoff.next(dice()).max(fault.retry_after);
        if fault.gone {
            tracing::info!(
                kind = K::KIND.as_str(),
                message = fault.message,
                "watch has to start over"
            );
        } else {
            self.metrics.errors.with_label_values(&[K::KIND.as_str()]).inc();
            let new = if K::KIND.is_needed() {
                self.health.failed(Some(K::KIND), fault.message.clone())
            } else {
                first
            };
            if let Scope::One(name) = &self.scope {
                let reference = (K::KIND, name.clone());
                self.send(Change::Unheard(reference, fault.message.clone())).await;
            }
            if new {
                tracing::warn!(
                    kind = K::KIND.as_str(),
                    error = fault.message,
                    "API server; what is known stays in use"
                );
            }
        }
        if fault.stale {
            // One waiting note is enough.
            let _ = self.connection.stale.try_send(());
            // It is the way that failed, not the question: when another kind gets through, so may this one.
            let woken = timeout(pause, revived.changed()).await.is_ok();
            if woken {
                backoff.reset();
                sleep(backoff.next(dice())).await;
            }
        } else {
            sleep(pause).await;
        }
    }
}

fn name<K: Resource>(object: &DeserializeGuard<K>) -> Option<ObjectName> {
    let name = object
        .meta()
        .name
        .as_deref()
        .filter(|name| is_object_name(name, 253))?;
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    Some(ObjectName::new(namespace, name))
}

/// `Err(None)` for an object that does not even have a name.
fn read<K: Readable>(object: DeserializeGuard<K::From>) -> Result<Option<Object>, Option<Unreadable>> {
    let name = name(&object);
    let bad = |why: String| {
        name.clone().map(|name| Unreadable {
            kind: K::KIND,
            name,
            why,
        })
    };
    match object.0 {
        Ok(object) => K::read(object).map_err(|error| bad(error.to_string())),
        // What serde says may quote the value, and the values of a Secret are keys.
        Err(_) if matches!(K::KIND, Kind::Secret | Kind::NamedSecret) => {
            Err(bad("a field has the wrong type".to_owned()))
        }
        Err(error) => Err(bad(printable(&error.error))),
    }
}
