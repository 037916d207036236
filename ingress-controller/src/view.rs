//! What an operator sees of the source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use crate::world::{Kind, World};

/// State of the source, for the API and `sekisho status`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SourceView {
    /// `manifests` or `cluster`
    pub kind: &'static str,
    /// The directory, or where the cluster is.
    pub location: String,
    /// Whether the first complete view is there.
    pub synced: bool,
    /// Seconds since the view was last known to be complete and true: the last read of the directory, the last answer of the
    /// API server for the kind that has waited longest. `None` before the first.
    pub age_seconds: Option<u64>,
    /// What keeps the view from being renewed now, with the remedy.
    pub last_error: Option<String>,
    /// Number of objects.
    pub objects: BTreeMap<&'static str, usize>,
    /// Each kind of a cluster; empty for a directory.
    pub kinds: Vec<KindView>,
    /// Number of the last translation; 0 before the first.
    pub generation: u64,
}

/// State of one kind of a cluster source.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct KindView {
    /// `Ingress`, `Service`, …
    pub kind: &'static str,
    /// Whether its first complete list is there.
    pub synced: bool,
    /// Number of objects.
    pub objects: usize,
    /// Seconds since the API server was last heard about it.
    pub age_seconds: Option<u64>,
    /// What is wrong now, with the remedy.
    pub last_error: Option<String>,
}

/// The same, while it is written. Locked for a moment at a time, never across an await.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    kind: &'static str,
    location: String,
    generation: u64,
    parts: BTreeMap<Option<Kind>, Part>,
    objects: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    synced: bool,
    heard: Option<Instant>,
    error: Option<String>,
}

impl Health {
    /// `parts`: what must be complete; `None` for a source that is complete as a whole.
    pub(crate) fn new(kind: &'static str, location: String, parts: &[Option<Kind>]) -> Self {
        Self(Arc::new(Mutex::new(State {
            kind,
            location,
            generation: 0,
            parts: parts.iter().map(|part| (*part, Part::default())).collect(),
            objects: BTreeMap::new(),
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned state is still a state: it is only shown.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The part is complete and true as of now.
    pub(crate) fn heard(&self, part: Option<Kind>, synced: bool) {
        self.with(|state| {
            let part = state.parts.entry(part).or_default();
            part.synced |= synced;
            part.heard = Some(Instant::now());
            part.error = None;
        });
    }

    /// The part cannot be renewed. Says whether the message is new.
    pub(crate) fn failed(&self, part: Option<Kind>, error: String) -> bool {
        self.with(|state| {
            let part = state.parts.entry(part).or_default();
            let new = part.error.as_ref() != Some(&error);
            part.error = Some(error);
            new
        })
    }

    pub(crate) fn counted(&self, world: &World) {
        self.with(|state| {
            state.objects.clear();
            for kind in Kind::ALL {
                // Secrets are of two kinds.
                *state.objects.entry(kind.as_str()).or_default() += world.count(kind);
            }
        });
    }

    pub(crate) fn translated(&self, generation: u64) {
        self.with(|state| state.generation = generation);
    }

    pub(crate) fn located(&self, location: String) {
        self.with(|state| state.location = location);
    }

    pub(crate) fn view(&self) -> SourceView {
        let now = Instant::now();
        let age = |heard: Option<Instant>| heard.map(|heard| now.saturating_duration_since(heard).as_secs());
        self.with(|state| {
            let error = |(kind, part): (&Option<Kind>, &Part)| {
                let error = part.error.as_ref()?;
                Some(kind.map_or_else(|| error.clone(), |kind| format!("{kind}: {error}")))
            };
            let kinds = state.parts.iter().filter_map(|(kind, part)| {
                let kind = (*kind)?.as_str();
                Some(KindView {
                    kind,
                    synced: part.synced,
                    objects: state.objects.get(kind).copied().unwrap_or(0),
                    age_seconds: age(part.heard),
                    last_error: part.error.clone(),
                })
            });
            let ages: Vec<Option<u64>> = state.parts.values().map(|part| age(part.heard)).collect();
            SourceView {
                kind: state.kind,
                location: state.location.clone(),
                synced: state.parts.values().all(|part| part.synced),
                age_seconds: if ages.contains(&None) {
                    None
                } else {
                    ages.into_iter().flatten().max()
                },
                last_error: state.parts.iter().find_map(error),
                objects: state.objects.clone(),
                kinds: kinds.collect(),
                generation: state.generation,
            }
        })
    }
}
