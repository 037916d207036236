//! Key sets for tokens (RFC 7517) that annotations name by URL: fetched, fetched again, and kept in the state directory, so that a
//! restart has them at once and an identity provider that is away shuts nobody out.

mod client;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use sekisho_config::model::KeySets;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::client::Client;
use crate::backoff::dice;
use crate::metrics::Metrics;
use crate::translate::Context;
use crate::whole_file;

const FILE: &str = "key-sets.json";
const LARGEST_FILE: u64 = 64 * 1024 * 1024;
/// The wait after a failure, which doubles, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// So many are fetched at a time.
const AT_ONCE: usize = 8;

/// What is known of the key set at a URL.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet {
    /// The keys that were fetched last.
    pub keys: Option<Arc<str>>,
    /// Why they could not be fetched since.
    pub error: Option<Arc<str>>,
}

/// By URL.
pub type Known = OrdMap<Arc<str>, KeySet>;

/// What is being fetched: what came of it, by URL.
type Flying = JoinSet<(Arc<str>, Result<Arc<str>, String>)>;

/// Fetches what is wanted.
pub(crate) struct Fetcher {
    /// URLs; `None` before anybody has looked.
    pub(crate) wanted: watch::Receiver<Option<BTreeSet<Arc<str>>>>,
    pub(crate) context: watch::Receiver<Context>,
    pub(crate) known: watch::Sender<Known>,
    pub(crate) state_dir: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

/// One URL.
#[derive(Clone, Debug)]
struct Entry {
    set: KeySet,
    failures: u32,
    /// When it is fetched next; `None`: it is being fetched.
    due: Option<Instant>,
}

impl Entry {
    fn now(set: KeySet) -> Self {
        Self {
            set,
            failures: 0,
            due: Some(Instant::now()),
        }
    }

    /// Takes in what came of a fetch. Says whether the keys are others.
    fn fetched(&mut self, came: Result<Arc<str>, String>, refresh: Duration) -> bool {
        let now = Instant::now();
        match came {
            Ok(keys) => {
                self.failures = 0;
                // Up to an eighth less, so that not all are asked for together.
                self.due =
                    Some(now + refresh - refresh / 8 * u32::try_from(dice() % 1024).unwrap_or(0) / 1024);
                self.set.error = None;
                let differs = self.set.keys.as_ref() != Some(&keys);
                self.set.keys = Some(keys);
                differs
            }
            Err(error) => {
                let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures));
                self.failures = self.failures.saturating_add(1);
                self.due = Some(now + wait.min(LONGEST_WAIT).min(refresh.max(FIRST_WAIT)));
                self.set.error = Some(error.into());
                false
            }
        }
    }
}

impl Fetcher {
    pub(crate) async fn run(mut self) {
        let mut saved = self.load().await;
        let mut entries: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
        let mut settings: Option<Arc<KeySets>> = None;
        let mut client: Option<Result<Client, String>> = None;
        let mut flying = Flying::new();
        loop {
            let said = self.context.borrow_and_update().key_sets.clone();
            if said != settings {
                settings = said;
                client = None;
                flying.abort_all();
                let now = Instant::now();
                entries.values_mut().for_each(|entry| entry.due = Some(now));
            }
            let wanted = self.wanted.borrow_and_update().clone();
            if let Some(wanted) = &wanted {
                entries.retain(|url, _| wanted.contains(url));
                for url in wanted
                    .iter()
                    .filter(|url| !entries.contains_key(*url))
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    let keys = saved.get(&url).cloned();
                    entries.insert(url, Entry::now(KeySet { keys, error: None }));
                }
            }
            if let Some(settings) = &settings {
                let client = client.get_or_insert_with(|| Client::new(settings.ca_file.as_deref()));
                begin_due(&mut entries, settings, client, &mut flying);
            }
            self.publish(&entries, settings.as_deref());
            let next = entries
                .values()
                .filter_map(|entry| entry.due)
                .min()
                .filter(|_| settings.is_some());
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = self.context.changed() => if changed.is_err() { return },
                Some(done) = flying.join_next() => {
                    // One that was called off is asked for anew.
                    let Ok((url, came)) = done else { continue };
                    let refresh = settings.as_ref().map_or(LONGEST_WAIT, |settings| settings.refresh);
                    if self.took(&url, came, refresh, &mut entries) {
                        saved = entries
                            .iter()
                            .filter_map(|(url, entry)| Some((url.clone(), entry.set.keys.clone()?)))
                            .collect();
                        self.save(saved.clone()).await;
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && flying.len() < AT_ONCE => {}
            }
        }
    }

    /// Takes in what came of a fetch. Says whether there is something new to save.
    fn took(
        &self,
        url: &Arc<str>,
        came: Result<Arc<str>, String>,
        refresh: Duration,
        entries: &mut BTreeMap<Arc<str>, Entry>,
    ) -> bool {
        self.metrics.key_set_fetched(came.is_ok());
        let Some(entry) = entries.get_mut(url) else {
            return false;
        };
        let failed_before = entry.set.error.is_some();
        let differs = entry.fetched(came, refresh);
        match &entry.set.error {
            Some(error) if !failed_before => {
                tracing::warn!(url = &**url, %error, "a key set for tokens cannot be fetched; tried again, and keys of before stay in use");
            }
            None if failed_before || differs => {
                tracing::info!(
                    url = &**url,
                    changed = differs,
                    "a key set for tokens was fetched"
                );
            }
            _ => {}
        }
        differs
    }

    fn publish(&self, entries: &BTreeMap<Arc<str>, Entry>, settings: Option<&KeySets>) {
        let state = |(url, entry): (&Arc<str>, &Entry)| {
            let state = refusal(settings, url).unwrap_or_else(|| entry.set.clone());
            (url.clone(), state)
        };
        let known: Known = entries.iter().map(state).collect();
        self.known.send_if_modified(|before| {
            let differs = *before != known;
            *before = known;
            differs
        });
    }

    async fn load(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let directory = self.state_dir.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&directory)).await;
        loaded
            .map_err(std::io::Error::other)
            .flatten()
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "key sets of before cannot be read; until they are fetched tokens are refused");
                BTreeMap::new()
            })
    }

    async fn save(&self, sets: BTreeMap<Arc<str>, Arc<str>>) {
        let directory = self.state_dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec_pretty(&sets).map_err(std::io::Error::other)?;
            whole_file::write(&directory, FILE, &text)
        });
        if let Err(error) = saved.await.map_err(std::io::Error::other).flatten() {
            tracing::warn!(%error, "key sets cannot be saved; after a restart tokens are refused until they are fetched");
        }
    }
}

/// What is said of a URL that may not be fetched.
fn refusal(settings: Option<&KeySets>, url: &str) -> Option<KeySet> {
    let why = match settings {
        Some(settings) if settings.allows(url) => return None,
        Some(_) => "nothing in key_sets.from of the box's file allows it; write its beginning there",
        None => "the box's file has no [key_sets]; write one whose `from` allows it",
    };
    Some(KeySet {
        keys: None,
        error: Some(why.into()),
    })
}

/// What would be known if all that may be fetched had been: for looking at objects without asking anybody.
pub(crate) fn as_if_fetched(urls: BTreeSet<Arc<str>>, settings: Option<&KeySets>) -> Known {
    let state = |url: Arc<str>| {
        let fetched = || KeySet {
            keys: Some(r#"{"keys":[]}"#.into()),
            error: None,
        };
        let state = refusal(settings, &url).unwrap_or_else(fetched);
        (url, state)
    };
    urls.into_iter().map(state).collect()
}

fn load(state_dir: &Path) -> std::io::Result<BTreeMap<Arc<str>, Arc<str>>> {
    match whole_file::read(state_dir, FILE, LARGEST_FILE)? {
        None => Ok(BTreeMap::new()),
        Some(text) => serde_json::from_slice(&text).map_err(std::io::Error::other),
    }
}

/// Begins to fetch what is due and allowed.
fn begin_due(
    entries: &mut BTreeMap<Arc<str>, Entry>,
    settings: &KeySets,
    client: &Result<Client, String>,
    flying: &mut Flying,
) {
    let now = Instant::now();
    for (url, entry) in entries {
        if !settings.allows(url) {
            entry.due = None;
            continue;
        }
        if flying.len() >= AT_ONCE || entry.due.is_none_or(|due| due > now) {
            continue;
        }
        entry.due = None;
        let (url, client) = (url.clone(), client.clone());
        flying.spawn(async move {
            let came = match client {
                Ok(client) => client.fetch(&url).await,
                Err(error) => Err(error),
            };
            (url, came)
        });
    }
}
