//! Calico's IP pools: where the pods of the cluster are.
//!
//! They are read and nothing else. A cluster without Calico, or one where we may not look, has none that we know; what was known
//! stays while the API server is away.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchParams};
use kube::{Client, core::GroupVersionKind};
use sekisho_config::model::Prefix;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Where IPPool objects are: the API of newer installs, and the storage of older ones.
const APIS: [(&str, &str); 2] = [("projectcalico.org", "v3"), ("crd.projectcalico.org", "v1")];
/// Until it is looked for again where there was none.
const AGAIN: Duration = Duration::from_secs(60);
/// One list.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch ends by itself after so long.
const WATCH: u32 = 120;
/// Pools on one page; a cluster has a handful.
const MOST: u32 = 1000;

/// The task that follows them.
pub(crate) struct PodNetworks {
    pub(crate) client: watch::Receiver<Option<Client>>,
    /// Ordered, each once; empty: none known.
    pub(crate) known: watch::Sender<Vec<Prefix>>,
    pub(crate) stop: CancellationToken,
}

impl PodNetworks {
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let mut told = false;
        loop {
            let Some(client) = self.client.borrow_and_update().clone() else {
                if self.client.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.look(&client).await {
                Ok(()) => told = false,
                Err(why) => {
                    if !std::mem::replace(&mut told, true) {
                        debug!(why, "no IP pools of Calico to be read");
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Lists once, then watches until something changes or the watch ends.
    async fn look(&self, client: &Client) -> Result<(), String> {
        let mut why = String::new();
        for (group, version) in APIS {
            let resource = ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk(group, version, "IPPool"),
                "ippools",
            );
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = timeout(ANSWER, api.list(&ListParams::default().limit(MOST))).await;
            let list = match listed {
                Ok(Ok(list)) => list,
                Ok(Err(error)) => {
                    why = format!("{group}/{version}: {error}");
                    continue;
                }
                Err(_) => {
                    why = format!("{group}/{version}: no answer");
                    continue;
                }
            };
            self.tell(networks(&list.items));
            let from = list.metadata.resource_version.unwrap_or_default();
            let params = WatchParams::default().timeout(WATCH);
            let events = timeout(ANSWER, api.watch(&params, &from))
                .await
                .map_err(|_| format!("{group}/{version}: no answer to a watch"))?
                .map_err(|error| format!("{group}/{version}: {error}"))?;
            // Whatever is said: the list is short, and read again it is right.
            let mut events = pin!(events);
            let grace = Duration::from_secs(u64::from(WATCH) + 15);
            return match timeout(grace, events.try_next()).await {
                Ok(Ok(_)) | Err(_) => {
                    sleep(Duration::from_millis(200)).await;
                    Ok(())
                }
                Ok(Err(error)) => Err(format!("{group}/{version}: {error}")),
            };
        }
        Err(why)
    }

    fn tell(&self, networks: Vec<Prefix>) {
        self.known.send_if_modified(|known| {
            let differs = *known != networks;
            if differs {
                let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
                info!(networks = shown.join(" "), "IP pools of Calico");
                *known = networks;
            }
            differs
        });
    }
}

/// Networks of the pools that pods get addresses from. A disabled one gives out none any more, and still has pods.
fn networks(pools: &[DynamicObject]) -> Vec<Prefix> {
    let mut networks = Vec::new();
    for pool in pools {
        let uses = pool
            .data
            .pointer("/spec/allowedUses")
            .and_then(|uses| uses.as_array());
        let for_pods = uses.is_none_or(|uses| uses.is_empty() || uses.iter().any(|word| word == "Workload"));
        let cidr = pool.data.pointer("/spec/cidr").and_then(|cidr| cidr.as_str());
        match cidr.map(str::parse::<Prefix>) {
            Some(Ok(prefix)) if for_pods => networks.push(prefix),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                let name = pool.metadata.name.as_deref().unwrap_or_default();
                warn!(
                    pool = name,
                    "an IP pool of Calico has no network that can be read"
                );
            }
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(spec: serde_json::Value) -> DynamicObject {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn pools_of_pods() {
        use serde_json::json;
        for (spec, want) in [
            (json!({"cidr": "10.244.0.0/16"}), "10.244.0.0/16"),
            (
                json!({"cidr": "fd00:10:244::/56", "disabled": true}),
                "fd00:10:244::/56",
            ),
            (
                json!({"cidr": "10.244.0.0/16", "allowedUses": []}),
                "10.244.0.0/16",
            ),
            (
                json!({"cidr": "10.244.0.0/16", "allowedUses": ["Workload", "Tunnel"]}),
                "10.244.0.0/16",
            ),
            (json!({"cidr": "10.244.0.0/16", "allowedUses": ["Tunnel"]}), ""),
            (
                json!({"cidr": "10.96.100.0/24", "allowedUses": ["LoadBalancer"]}),
                "",
            ),
            (json!({"cidr": "10.244.0.1/16"}), ""),
            (json!({"cidr": 7}), ""),
            (json!({}), ""),
        ] {
            let got: Vec<_> = networks(&[pool(spec.clone())])
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(got.join(" "), want, "{spec}");
        }
        let twice = [
            pool(json!({"cidr": "10.245.0.0/16"})),
            pool(json!({"cidr": "10.244.0.0/16"})),
            pool(json!({"cidr": "10.245.0.0/16"})),
        ];
        assert_eq!(networks(&twice).len(), 2);
        assert!(networks(&twice).is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_says_is_known_and_stays_known() {
        let server = crate::test_api::ApiServer::new();
        let (client, seen) = watch::channel(None);
        let (sender, mut known) = watch::channel(Vec::new());
        let task = PodNetworks {
            client: seen,
            known: sender,
            stop: CancellationToken::new(),
        };
        let stop = task.stop.clone();
        let tasks = tokio_util::task::TaskTracker::new();
        let task = tasks.spawn(task.run());
        // No client, then nobody who answers: nothing is known, and it is asked for again.
        server.fault("list ippools", crate::test_api::Fault::Status(404));
        client.send_replace(Some(server.client()));
        sleep(Duration::from_secs(10)).await;
        assert_eq!(
            server.requests("list ippools").len(),
            2,
            "both APIs were asked, once"
        );
        server.repair();
        let pool = |name: &str, cidr: &str| {
            format!(
                "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}}}\n"
            )
        };
        server.apply(&pool("default", "10.244.0.0/16"));
        let shown = |known: &watch::Receiver<Vec<Prefix>>| {
            known
                .borrow()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        known.changed().await.unwrap();
        assert_eq!(shown(&known), "10.244.0.0/16");
        server.apply(&pool("second", "fd00:10:244::/56"));
        known.changed().await.unwrap();
        assert_eq!(shown(&known), "10.244.0.0/16 fd00:10:244::/56");
        server.fault("list ippools", crate::test_api::Fault::Break);
        server.delete("ippools", "", "default");
        sleep(Duration::from_secs(600)).await;
        assert_eq!(
            shown(&known),
            "10.244.0.0/16 fd00:10:244::/56",
            "kept while nobody answers"
        );
        server.repair();
        sleep(Duration::from_secs(120)).await;
        assert_eq!(shown(&known), "fd00:10:244::/56");
        stop.cancel();
        task.await.unwrap();
    }
}
