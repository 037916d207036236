//! The box's file: read at start, again on SIGHUP and when it changes. A fault keeps the running configuration.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use notify::Watcher;
use sekisho_config::file::{self, Fault, Reading};
use sekisho_config::model::{Finding, Settings, SourceKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::control::Change;

/// An editor's write arrives in pieces; this long nothing must happen before the file is read.
const SETTLE: Duration = Duration::from_millis(200);

/// Octets that are read at most: one more than the reader takes, so that it can say what is wrong.
const LONGEST_FILE: u64 = 1024 * 1024 + 1;

/// Reads and checks the file.
///
/// # Errors
/// Every fault; a file that cannot be read is one.
pub(crate) fn read(path: &Path) -> Result<Reading, Vec<Fault>> {
    let name = path.display().to_string();
    let fault = |line, what: String, instead: &str| {
        vec![Fault {
            file: name.as_str().into(),
            line,
            key: "file".into(),
            what,
            instead: instead.into(),
        }]
    };
    let octets = load(path).map_err(|error| {
        fault(
            1,
            format!("cannot be read: {error}"),
            "name the box's file with --config FILE",
        )
    })?;
    match std::str::from_utf8(&octets) {
        Ok(text) => file::read(&name, text, &load),
        Err(error) => {
            let before = octets.get(..error.valid_up_to()).unwrap_or_default();
            let line = before
                .iter()
                .filter(|octet| **octet == b'\n')
                .count()
                .saturating_add(1);
            Err(fault(line, "is not UTF-8".into(), "save it as UTF-8"))
        }
    }
}

/// The beginning of a file: a device would never end.
fn load(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut octets = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut octets)?;
    Ok(octets)
}

/// What is wrong in the manifests that the settings name; nothing for a cluster.
pub(crate) fn check_source(settings: &Settings) -> Vec<Finding> {
    match &settings.source.kind {
        SourceKind::Manifests(path) => {
            let context = sekisho_ingress_controller::Context {
                own_addresses: crate::own_addresses::now().unwrap_or_default(),
                ..settings.into()
            };
            sekisho_ingress_controller::check_directory(path, &context)
        }
        SourceKind::Kubeconfig(_) | SourceKind::InCluster => Vec::new(),
    }
}

/// Logs what is allowed in the file and still looks like a mistake.
pub(crate) fn warn_of(reading: &Reading) {
    for warning in &reading.warnings {
        warn!(%warning, "allowed, but look at it");
    }
}

/// Watches the file until `stop`, sends every good new version to control.
///
/// Cancel-safe: no (it runs to its end).
pub(crate) async fn watch(
    path: &Path,
    first: Settings,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) {
    let (touched, mut touches) = mpsc::channel::<()>(1);
    let _watcher = observe(path, touched);
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            warn!(%error, "SIGHUP cannot be received; the file is only read when it changes");
            return;
        }
    };
    let mut running = first;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = touches.recv() => false,
            Some(()) = hangup.recv() => true,
        };
        if !asked {
            tokio::time::sleep(SETTLE).await;
            while touches.try_recv().is_ok() {}
        }
        let Some(next) = accept(path, &running, asked) else {
            continue;
        };
        if changes
            .send(Change::Settings(Box::new(next.clone())))
            .await
            .is_err()
        {
            return;
        }
        running = next;
    }
}

/// The new version, if there is one and it is good.
fn accept(path: &Path, running: &Settings, asked: bool) -> Option<Settings> {
    let next = match read(path) {
        Ok(next) => next,
        Err(faults) => {
            for fault in &faults {
                warn!(%fault, "reload refused; the running configuration stays");
            }
            return None;
        }
    };
    warn_of(&next);
    let next = next.settings;
    if next == *running {
        if asked {
            info!("reload: nothing differs");
        }
        return None;
    }
    for key in file::restart_needed(running, &next) {
        warn!(
            key,
            "differs in the file from what runs, and takes effect at the next start"
        );
    }
    // What waits for a restart stays as it runs, so that it is said again at the next reload, until it agrees.
    let next = file::applied(running, &next);
    if next == *running {
        return None;
    }
    info!(path = %path.display(), "reload: new configuration taken");
    Some(next)
}

/// Watches the directory, since editors and configuration tools replace the file.
fn observe(path: &Path, touched: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let name = path.file_name()?.to_owned();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => std::path::PathBuf::from("."),
    };
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = match &event {
            // `..data`: a mounted ConfigMap swaps a link beside the file.
            Ok(event) => {
                !event.kind.is_access()
                    && event
                        .paths
                        .iter()
                        .any(|p| p.file_name().is_some_and(|n| n == name || n == "..data"))
            }
            Err(_) => true,
        };
        if ours {
            let _ = touched.try_send(()); // full: a look is already due
        }
    })
    .and_then(|mut watcher| {
        watcher
            .watch(&directory, notify::RecursiveMode::NonRecursive)
            .map(|()| watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!(%error, path = %path.display(), "the file cannot be watched; send SIGHUP after a change");
            None
        }
    }
}
