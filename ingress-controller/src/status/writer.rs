//! Writes what differs, by server-side apply on the `status` subresource.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use sekisho_config::model::ObjectName;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Write, plan};
use crate::FIELD_MANAGER;
use crate::backoff::{Backoff, dice};
use crate::controller::Translated;
use crate::metrics::Metrics;
use crate::world::{Kind, World};

/// Writes at a time.
const AT_ONCE: usize = 8;
/// One write.
const ANSWER: Duration = Duration::from_secs(15);
/// The same is not written again for so long: first its echo has to come back by the watch, and whoever writes something else
/// into the same place shall not be answered blow by blow.
const ECHO: Duration = Duration::from_secs(10);

/// The task.
pub(crate) struct Writer {
    pub(crate) client: watch::Receiver<Option<Client>>,
    pub(crate) translated: watch::Receiver<Arc<Translated>>,
    pub(crate) published: watch::Receiver<u64>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

/// What was tried last for one object.
struct Tried {
    created: Option<Timestamp>,
    addresses: Vec<IpAddr>,
    again_at: Instant,
    backoff: Backoff,
    /// What was said when it failed, so that it is logged once.
    error: Option<String>,
}

type Attempts = BTreeMap<(Kind, ObjectName), Tried>;

fn holds(world: &World, (kind, name): &(Kind, ObjectName)) -> bool {
    match kind {
        Kind::Service => world.services.contains_key(name),
        _ => world.ingresses.contains_key(name),
    }
}

impl Writer {
    /// Until stopped. Never takes an address away because it stops.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let mut tried = Attempts::new();
        loop {
            let translated = self.translated.borrow_and_update().clone();
            let published = *self.published.borrow_and_update();
            let client = self.client.borrow_and_update().clone();
            let mut again_at = None;
            // What is not in force yet is not told to anybody.
            if let Some(client) = client
                && translated.generation > 0
                && translated.generation <= published
            {
                let planned = plan(&translated.world, &translated.translation.status);
                self.metrics
                    .status_pending
                    .set(i64::try_from(planned.len()).unwrap_or(i64::MAX));
                let now = Instant::now();
                let planned_keys: BTreeSet<(Kind, &ObjectName)> =
                    planned.iter().map(|write| (write.kind, &write.name)).collect();
                // What was written lately is remembered even when it has come back: it may be undone the next moment.
                // An object that is gone is forgotten: one that comes after it knows nothing of what was written.
                tried.retain(|key, attempt| {
                    holds(&translated.world, key)
                        && (attempt.again_at > now || planned_keys.contains(&(key.0, &key.1)))
                });
                let due: Vec<Write> = planned
                    .into_iter()
                    .filter(|write| match tried.get(&(write.kind, write.name.clone())) {
                        Some(before)
                            if before.addresses == write.addresses
                                && before.created == write.created
                                && before.again_at > now =>
                        {
                            again_at =
                                Some(again_at.map_or(before.again_at, |at: Instant| at.min(before.again_at)));
                            false
                        }
                        _ => true,
                    })
                    .collect();
                if !due.is_empty() {
                    self.write_all(&client, due, &mut tried).await;
                    continue;
                }
            }
            let wake = again_at.unwrap_or_else(|| Instant::now() + ECHO);
            let alive = tokio::select! {
                changed = self.translated.changed() => changed.is_ok(),
                changed = self.published.changed() => changed.is_ok(),
                changed = self.client.changed() => changed.is_ok(),
                () = sleep_until(wake) => true,
            };
            if !alive {
                return;
            }
        }
    }

    async fn write_all(&self, client: &Client, due: Vec<Write>, tried: &mut Attempts) {
        let mut results = futures::stream::iter(due)
            .map(|write| async move {
                let result = timeout(ANSWER, apply(client, &write)).await;
                (write, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((write, result)) = results.next().await {
            let error = match result {
                Ok(Ok(())) => None,
                // Deleted meanwhile: the watch will say so.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => None,
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => Some(format!(
                    "not permitted; add the rule apiGroups: [\"{}\"], resources: [\"{}/status\"], verbs: [\"patch\"] \
                     (deploy/kubernetes/rbac.yaml)",
                    write.kind.resource().0,
                    write.kind.resource().1
                )),
                Ok(Err(error)) => Some(
                    error
                        .to_string()
                        .chars()
                        .take(400)
                        .flat_map(char::escape_debug)
                        .collect(),
                ),
                Err(_) => Some(format!("no answer within {} s", ANSWER.as_secs())),
            };
            let outcome = if error.is_none() { "ok" } else { "failed" };
            self.metrics
                .status_writes
                .with_label_values(&[write.kind.as_str(), outcome])
                .inc();
            let before = tried.remove(&(write.kind, write.name.clone()));
            let (mut backoff, said) =
                before.map_or_else(Default::default, |tried| (tried.backoff, tried.error));
            let pause = match &error {
                None => {
                    tracing::info!(kind = write.kind.as_str(), object = %write.name, addresses = ?write.addresses, "status written");
                    backoff.reset();
                    ECHO
                }
                Some(error) => {
                    if said.as_ref() != Some(error) {
                        tracing::warn!(kind = write.kind.as_str(), object = %write.name, error, "status cannot be written; trying again");
                    }
                    backoff.next(dice())
                }
            };
            let attempt = Tried {
                created: write.created,
                addresses: write.addresses,
                again_at: Instant::now() + pause,
                backoff,
                error,
            };
            tried.insert((write.kind, write.name), attempt);
        }
    }
}

/// One write. What we owned and do not name any more is taken away by the server, and nothing else is.
async fn apply(client: &Client, write: &Write) -> kube::Result<()> {
    let entries: Vec<_> = write
        .addresses
        .iter()
        .map(|address| json!({ "ip": address }))
        .collect();
    let balancer = if entries.is_empty() {
        json!({})
    } else {
        json!({ "ingress": entries })
    };
    let patch = Patch::Apply(json!({
        "apiVersion": write.kind.api_version(),
        "kind": write.kind.as_str(),
        "metadata": { "namespace": &*write.name.namespace, "name": &*write.name.name },
        "status": { "loadBalancer": balancer },
    }));
    // Forced: who serves the object says its address. Taking away is not forced, so that it never meets another's entry.
    let params = PatchParams::apply(FIELD_MANAGER);
    let params = if write.addresses.is_empty() {
        params
    } else {
        params.force()
    };
    let (namespace, name) = (&*write.name.namespace, &*write.name.name);
    match write.kind {
        Kind::Ingress => {
            Api::<Ingress>::namespaced(client.clone(), namespace)
                .patch_status(name, &params, &patch)
                .await?;
        }
        _ => {
            Api::<Service>::namespaced(client.clone(), namespace)
                .patch_status(name, &params, &patch)
                .await?;
        }
    }
    Ok(())
}
