//! A directory of Kubernetes YAML, watched for changes.

mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use sekisho_config::model::{Finding, FindingKind, ObjectName};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Published;
use crate::key_sets::as_if_fetched;
use crate::metrics::Metrics;
use crate::text::printable;
use crate::translate::{Context, key_set_urls, translate};
use crate::view::Health;
use files::Files;

/// A change is looked at when nothing has changed for so long,
const QUIET: Duration = Duration::from_millis(100);
/// but at the latest after so long.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The directory is looked through so often even when nothing is reported: a network file system reports nothing, and a
/// symbolic link may lead where nobody watches.
const RESCAN: Duration = Duration::from_secs(5);
/// The same while there is no watcher.
const RESCAN_WITHOUT_WATCHER: Duration = Duration::from_secs(1);

/// The source.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) publish: watch::Sender<Option<Published>>,
    pub(crate) stop: CancellationToken,
    /// The error that was logged last.
    pub(crate) said: Option<String>,
}

impl Directory {
    /// Reads, publishes, waits for a change, until stopped. A failure is shown and tried again.
    pub(crate) async fn run(mut self) {
        let (changed, mut changes) = mpsc::channel::<()>(1);
        let mut files = Files::default();
        let mut watcher = None;
        loop {
            if watcher.is_none() {
                watcher = watch_directory(&self.path, changed.clone());
            }
            let path = self.path.clone();
            let scan = tokio::task::spawn_blocking(move || {
                let outcome = files.scan(&path);
                (files, outcome)
            });
            let again = match scan.await {
                Ok((scanned, outcome)) => {
                    files = scanned;
                    self.publish(&files, &outcome);
                    if outcome.error.is_some() {
                        // The directory itself may have been replaced; a watcher would look at the old one.
                        watcher = None;
                    }
                    outcome.unsettled
                }
                Err(error) => {
                    tracing::error!(error = %error, "reading the manifests failed; starting over");
                    files = Files::default();
                    true
                }
            };
            let pause = match (&watcher, again) {
                (_, true) | (None, false) => RESCAN_WITHOUT_WATCHER,
                (Some(_), false) => RESCAN,
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep_until(Instant::now() + pause) => {}
                _ = changes.recv() => settle(&mut changes).await,
            }
        }
    }

    fn publish(&mut self, files: &Files, outcome: &files::Outcome) {
        if !outcome.nothing {
            self.health.heard(None, true);
            self.metrics.lists.with_label_values(&["all"]).inc();
        }
        match &outcome.error {
            None => self.said = None,
            Some(error) => {
                self.metrics.errors.with_label_values(&["all"]).inc();
                self.health.failed(None, error.clone());
                if self.said.as_ref() != Some(error) {
                    self.said = Some(error.clone());
                    tracing::warn!(
                        directory = %self.path.display(),
                        error,
                        "manifests cannot be read; what was read before stays in use"
                    );
                }
            }
        }
        for ignored in &outcome.ignored {
            tracing::info!(object = ignored, "ignored: not of a kind that is read");
        }
        // Before the first complete read there is nothing true to say.
        if self.publish.borrow().is_none() && outcome.nothing {
            return;
        }
        let findings = files.findings(outcome.error.as_deref(), &self.path);
        self.publish.send_if_modified(|published| {
            let mut next = published.clone().unwrap_or_default();
            let changed = published.is_none() || outcome.changed || *next.findings != *findings;
            if changed {
                self.metrics.changes.inc();
                files.fill(&mut next.world);
                next.findings = findings.into();
                self.health.counted(&next.world);
                *published = Some(next);
            }
            changed
        });
    }
}

/// Waits until changes stop coming, within limits.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + LONGEST_WAIT;
    loop {
        let quiet = (Instant::now() + QUIET).min(latest);
        match timeout_at(quiet, changes.recv()).await {
            Ok(Some(())) if Instant::now() < latest => {}
            _ => return,
        }
    }
}

/// `None` when the system does not let us: then the directory is looked through often.
fn watch_directory(path: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Reading a file is an event as well, and none that matters: our own reading would wake us for ever.
        if event.is_ok_and(|event| {
            matches!(event.kind, notify::EventKind::Access(kind)
            if kind != notify::event::AccessKind::Close(notify::event::AccessMode::Write))
        }) {
            return;
        }
        // One waiting note is enough: it says "look again".
        let _ = changed.try_send(());
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        watcher.watch(path, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .map_err(|error| tracing::debug!(directory = %path.display(), %error, "no watcher; looking through the directory instead"))
        .ok()
}

/// Reads the directory once and translates it: what `sekisho check` prints.
pub fn check_directory(path: &Path, context: &Context) -> Vec<Finding> {
    let mut files = Files::default();
    let outcome = files.scan(path);
    let mut world = crate::world::World::default();
    files.fill(&mut world);
    world.key_sets = as_if_fetched(key_set_urls(&world, context), context.key_sets.as_deref());
    let mut findings = files.findings(outcome.error.as_deref(), path);
    findings.extend(translate(&world, context).1);
    findings
}

/// A finding about a file.
fn file_finding(kind: FindingKind, file: &str, line: Option<usize>, message: String) -> Finding {
    Finding {
        kind,
        object_kind: "File",
        object: ObjectName::new("", Arc::<str>::from(printable(file))),
        place: line.map_or_else(String::new, |line| format!("line {line}")),
        message,
    }
}
