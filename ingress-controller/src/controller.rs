//! The room's own task: takes what the source publishes, translates it and hands it on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use sekisho_config::model::{ClusterPart, Finding, Prefix, Source, SourceKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses;
use crate::key_sets::{Fetcher, Known};
use crate::metrics::{Metrics, register_view};
use crate::pod_networks::PodNetworks;
use crate::source::{Cluster, Connect, Directory, Published};
use crate::status::writer::Writer;
use crate::translate::{Context, Translation, key_set_urls, retain_shared, translate};
use crate::view::{Health, SourceView};
use crate::world::{Kind, World};

/// What the controller needs.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `[source]`
    pub source: Source,
    /// What translation needs of the file.
    pub context: Context,
    /// Where addresses that were given are kept.
    pub state_dir: PathBuf,
    /// Its tasks are tracked here.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric has been registered already.
    #[error("metrics of the ingress controller cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What the controller says.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new translation, whole. The first one comes after the first complete view of the source.
    Translated {
        /// Grows by one each time; for [`Handle::published`].
        generation: u64,
        /// What is wished.
        part: ClusterPart,
        /// What is wrong with objects and files.
        findings: Arc<[Finding]>,
    },
}

/// The running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    context: watch::Sender<Context>,
    published: Arc<watch::Sender<u64>>,
    pod_networks: watch::Receiver<Vec<Prefix>>,
    health: Health,
}

impl Handle {
    /// Translates anew with what the file says now.
    pub fn configure(&self, context: Context) {
        self.context.send_if_modified(|current| {
            let differs = *current != context;
            if differs {
                *current = context;
            }
            differs
        });
    }

    /// The translation of this generation is in force: its addresses may be written into the objects' status.
    pub fn published(&self, generation: u64) {
        self.published.send_if_modified(|current| {
            let newer = generation > *current;
            if newer {
                *current = generation;
            }
            newer
        });
    }

    /// The networks of pods, as Calico's IP pools name them: ordered, empty where none are known.
    pub fn pod_networks(&self) -> watch::Receiver<Vec<Prefix>> {
        self.pod_networks.clone()
    }

    /// The state of the source.
    pub fn view(&self) -> SourceView {
        self.health.view()
    }
}

/// Starts the source and the translation. Fails only on its own metrics; a source that cannot be reached is tried again for
/// ever, and [`Handle::view`] says why.
///
/// # Errors
/// [`StartError`]
pub fn start(
    inputs: Inputs,
    registry: &prometheus::Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let connect = match &inputs.source.kind {
        SourceKind::Manifests(_) => None,
        kind => Some(Connect::Source(kind.clone())),
    };
    begin(inputs, connect, registry)
}

/// The same, with the way to the cluster apart: tests have one of their own.
pub(crate) fn begin(
    inputs: Inputs,
    connect: Option<Connect>,
    registry: &prometheus::Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let metrics = Metrics::register(registry)?;
    let Inputs {
        source,
        context,
        state_dir,
        tasks,
        stop,
    } = inputs;
    let nodes = context.nodes;
    let (context_sender, context) = watch::channel(context);
    let (publish, views) = watch::channel(None);
    let (published_sender, published) = watch::channel(0);
    let (translated_sender, translated) = watch::channel(Arc::new(Translated::default()));
    let (pod_networks_sender, pod_networks) = watch::channel(Vec::new());
    let (key_sets_wanted, wanted) = watch::channel(None);
    let (known_sender, key_sets) = watch::channel(Known::default());
    let fetcher = Fetcher {
        wanted,
        context: context.clone(),
        known: known_sender,
        state_dir: state_dir.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    tasks.spawn(fetcher.run());
    let location = match &source.kind {
        SourceKind::Manifests(path) | SourceKind::Kubeconfig(path) => path.display().to_string(),
        SourceKind::InCluster => "in-cluster".to_owned(),
    };
    let health = match (connect, source.kind) {
        (None, SourceKind::Manifests(path)) => {
            let health = Health::new("manifests", location, &[None]);
            let directory = Directory {
                path,
                health: health.clone(),
                metrics: metrics.clone(),
                publish,
                stop: stop.clone(),
                said: None,
            };
            tasks.spawn(directory.run());
            health
        }
        (connect, kind) => {
            let health = Health::new("cluster", location, &Kind::NEEDED.map(Some));
            let (client_sender, client) = watch::channel(None);
            let cluster = Cluster {
                connect: connect.unwrap_or(Connect::Source(kind)),
                health: health.clone(),
                metrics: metrics.clone(),
                publish,
                client: client_sender,
                nodes,
                context: context.clone(),
                references: crate::translate::references,
                stop: stop.clone(),
            };
            tasks.spawn(cluster.run());
            let networks = PodNetworks {
                client: client.clone(),
                known: pod_networks_sender,
                stop: stop.clone(),
            };
            tasks.spawn(networks.run());
            let writer = Writer {
                client,
                translated,
                published,
                metrics: metrics.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(writer.run());
            health
        }
    };
    register_view(registry, health.clone())?;
    let (events, receiver) = mpsc::channel(1);
    let controller = Controller {
        views,
        context,
        key_sets,
        key_sets_wanted,
        state_dir,
        events,
        translated: translated_sender,
        health: health.clone(),
        metrics,
        stop,
    };
    tasks.spawn(controller.run());
    let handle = Handle {
        context: context_sender,
        published: Arc::new(published_sender),
        pod_networks,
        health,
    };
    Ok((handle, receiver))
}

/// The last translation with the world it was made of: what the status writer compares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translated {
    pub(crate) generation: u64,
    pub(crate) world: World,
    pub(crate) translation: Translation,
}

struct Controller {
    views: watch::Receiver<Option<Published>>,
    context: watch::Receiver<Context>,
    key_sets: watch::Receiver<Known>,
    key_sets_wanted: watch::Sender<Option<BTreeSet<Arc<str>>>>,
    state_dir: PathBuf,
    events: mpsc::Sender<Event>,
    translated: watch::Sender<Arc<Translated>>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Controller {
    async fn run(mut self) {
        let mut allocations = self.load().await;
        let mut last: Option<(Arc<Translated>, Arc<[Finding]>)> = None;
        let mut generation_count = 0;
        let mut earliest = Instant::now();
        loop {
            let stop = self.stop.clone();
            let Some(Some(())) = stop.run_until_cancelled(self.changed()).await else {
                return;
            };
            if stop.run_until_cancelled(sleep_until(earliest)).await.is_none() {
                return;
            }
            let Some(published) = self.views.borrow_and_update().clone() else {
                continue;
            };
            let context = self.context.borrow_and_update().clone();
            let previous = last.as_ref().map(|(translated, _)| translated.clone());
            let mut world = published.world;
            world.allocations = allocations.clone();
            world.key_sets = self.key_sets.borrow_and_update().clone();
            let begin = Instant::now();
            let work = tokio::task::spawn_blocking(move || {
                let (mut translation, findings) = translate(&world, &context);
                let urls = key_set_urls(&world, &context);
                if let Some(previous) = previous {
                    translation.part = retain_shared(&previous.translation.part, translation.part);
                }
                (world, translation, findings, urls)
            });
            let (world, translation, mut findings, urls) = match work.await {
                Ok(done) => done,
                Err(error) => {
                    // A panic is a bug, and the last good translation outlives it.
                    tracing::error!(error = %error, "translation failed; what was in force stays");
                    continue;
                }
            };
            self.key_sets_wanted.send_if_modified(|wanted| {
                let differs = wanted.as_ref() != Some(&urls);
                *wanted = Some(urls);
                differs
            });
            // Under steady change translation takes half of one core at most, however large the world is.
            earliest = Instant::now() + begin.elapsed();
            self.metrics
                .translate_seconds
                .observe(begin.elapsed().as_secs_f64());
            findings.splice(0..0, published.findings.iter().cloned());
            let findings: Arc<[Finding]> = findings.into();
            if translation.allocations != allocations {
                allocations = self.save(translation.allocations.clone()).await;
            }
            let same = last.as_ref().is_some_and(|(before, found)| {
                before.translation.part == translation.part && *found == findings
            });
            let generation = match &last {
                Some((before, _)) if same => before.generation,
                _ => {
                    generation_count += 1;
                    generation_count
                }
            };
            let translated = Arc::new(Translated {
                generation,
                world,
                translation,
            });
            self.translated.send_replace(translated.clone());
            if !same {
                self.metrics
                    .generation
                    .set(i64::try_from(generation).unwrap_or(i64::MAX));
                self.metrics
                    .translated_at
                    .set(jiff::Timestamp::now().as_duration().as_secs_f64());
                self.metrics.found(&findings);
                self.health.translated(generation);
                report(
                    last.as_ref().map(|(_, findings)| &**findings).unwrap_or_default(),
                    &findings,
                );
                let event = Event::Translated {
                    generation,
                    part: translated.translation.part.clone(),
                    findings: findings.clone(),
                };
                let Some(Ok(())) = stop.run_until_cancelled(self.events.send(event)).await else {
                    return;
                };
            }
            last = Some((translated, findings));
        }
    }

    /// Waits for something new to translate; `None` when nothing can come any more.
    async fn changed(&mut self) -> Option<()> {
        tokio::select! {
            view = self.views.changed() => view.ok(),
            context = self.context.changed() => context.ok(),
            known = self.key_sets.changed() => known.ok(),
        }
    }

    async fn load(&self) -> Allocations {
        let directory = self.state_dir.clone();
        let loaded = tokio::task::spawn_blocking(move || addresses::load(&directory)).await;
        match loaded.map_err(std::io::Error::other).flatten() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(error = %error, "addresses given before cannot be read; Services may get others");
                Allocations::new()
            }
        }
    }

    async fn save(&self, given: Allocations) -> Allocations {
        let directory = self.state_dir.clone();
        let saved = given.clone();
        let done = tokio::task::spawn_blocking(move || addresses::save(&directory, &saved)).await;
        if let Err(error) = done.map_err(std::io::Error::other).flatten() {
            tracing::warn!(error = %error, "addresses cannot be saved; after a restart Services may get others");
        }
        given
    }
}

type Allocations = imbl::OrdMap<sekisho_config::model::ObjectName, Vec<std::net::IpAddr>>;

/// Logs what is new and what is gone, each once.
fn report(before: &[Finding], now: &[Finding]) {
    const MOST: usize = 100;
    let old: std::collections::BTreeSet<&Finding> = before.iter().collect();
    let new: std::collections::BTreeSet<&Finding> = now.iter().collect();
    for finding in new.difference(&old).take(MOST) {
        tracing::warn!(kind = finding.kind.as_str(), finding = %finding, "finding");
    }
    let more = new.difference(&old).count().saturating_sub(MOST);
    if more > 0 {
        tracing::warn!(more, "further findings");
    }
    let gone = old.difference(&new).count();
    if gone > 0 {
        tracing::info!(gone, left = new.len(), "findings resolved");
    }
}
