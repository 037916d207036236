//! The controller against a real API server, if `KUBECONFIG` names one: what `src/source/cluster/tests.rs` and
//! `src/tests/status.rs` say of the one in memory. Makes a namespace and a class of its own and takes them away again.
//!
//! Where the server can be told to disturb itself, `DISTURB_PATH` is the path of its orders (`drop-watches`, `fault?…`), and they
//! are given as well.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this file is a test"
)]

use std::path::PathBuf;
use std::time::Duration;

use http::Request;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use sekisho_config::model::{
    Action, ClusterPart, Condition, HostPattern, Listen, Routing, Source, SourceKind,
};
use sekisho_ingress_controller::{Context, Event, Handle, Inputs, start};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Lab {
    client: Client,
    handle: Handle,
    events: mpsc::Receiver<Event>,
    namespace: String,
    stop: CancellationToken,
    _state: tempfile::TempDir,
}

/// Also the name of the namespace and the class, so that several runs can share a server.
fn unique() -> String {
    format!("sekisho-test-{}", std::process::id())
}

async fn lab() -> Option<Lab> {
    let Some(path) = std::env::var_os("KUBECONFIG").map(PathBuf::from) else {
        eprintln!("KUBECONFIG is not set: nothing to test against");
        return None;
    };
    let kubeconfig = kube::config::Kubeconfig::read_from(&path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    let namespace = unique();
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": namespace}, "spec": {"controller": "sekisho.io/ingress-controller"}});
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    for object in [space, class] {
        apply(&client, "", object).await;
    }
    let stop = CancellationToken::new();
    let state = tempfile::tempdir().unwrap();
    let context = Context {
        nodes: false,
        ingress_class: namespace.as_str().into(),
        class_by_name: false,
        allow_loopback_endpoints: false,
        own_addresses: std::sync::Arc::default(),
        vips: Vec::new(),
        listen: Listen {
            http: vec!["0.0.0.0:80".parse().unwrap()],
            https: Vec::new(),
            http3: Vec::new(),
            ingress_addresses: vec!["198.51.100.1".parse().unwrap()],
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
        },
        acme: false,
        key_sets: None,
    };
    let inputs = Inputs {
        source: Source {
            kind: SourceKind::Kubeconfig(path),
            ingress_class: context.ingress_class.clone(),
            routing: Routing::Off,
            allow_loopback_endpoints: false,
        },
        context,
        state_dir: state.path().to_owned(),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
    };
    let (handle, events) = start(inputs, &prometheus::Registry::new()).unwrap();
    Some(Lab {
        client,
        handle,
        events,
        namespace,
        stop,
        _state: state,
    })
}

fn api(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        group,
        version,
        object["kind"].as_str().unwrap(),
    ));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

async fn apply(client: &Client, namespace: &str, object: Value) -> DynamicObject {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    api(client, namespace, &object)
        .patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object))
        .await
        .unwrap()
}

impl Lab {
    async fn apply(&self, object: Value) {
        apply(&self.client, &self.namespace, object).await;
    }

    async fn delete(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        api(&self.client, &self.namespace, object)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    async fn until(&mut self, what: &str, check: impl Fn(&ClusterPart) -> bool) -> ClusterPart {
        let find = async {
            loop {
                let Event::Translated { generation, part, .. } = self.events.recv().await.unwrap();
                self.handle.published(generation);
                if check(&part) {
                    return part;
                }
            }
        };
        timeout(Duration::from_secs(90), find)
            .await
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.handle.view()))
    }

    /// The address in the status of the object, as soon as it is `wanted`.
    async fn status(&self, object: &Value, wanted: Option<&str>) {
        let api = api(&self.client, &self.namespace, object);
        let name = object["metadata"]["name"].as_str().unwrap();
        let find = async {
            loop {
                let now = api.get_status(name).await.unwrap();
                let ip = &now.data["status"]["loadBalancer"]["ingress"][0]["ip"];
                if ip.as_str() == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), find)
            .await
            .unwrap_or_else(|_| panic!("status of {name} is not {wanted:?}"));
    }

    /// Whether the server took the order to disturb itself.
    async fn disturb(&self, order: &str) -> bool {
        let Ok(path) = std::env::var("DISTURB_PATH") else {
            return false;
        };
        let request = Request::post(format!("{path}/{order}")).body(Vec::new()).unwrap();
        self.client.request_text(request).await.is_ok()
    }

    fn ingress(&self, name: &str, host: &str) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
            "spec": {"ingressClassName": self.namespace, "rules": [{"host": host, "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]}})
    }
}

fn host(part: &ClusterPart, name: &str) -> bool {
    part.hosts.contains_key(&name.parse::<HostPattern>().unwrap())
}

fn slice(name: &str, address: &str, ready: bool) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}]})
}

#[tokio::test]
async fn a_real_api_server() {
    let Some(mut lab) = lab().await else { return };
    lab.until("the first view", |part| part.hosts.is_empty()).await;
    lab.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}})).await;
    lab.apply(slice("web-1", "10.9.0.1", true)).await;
    let a = lab.ingress("a", "a.test");
    lab.apply(a.clone()).await;
    let part = lab
        .until("an Ingress with its endpoint", |part| {
            host(part, "a.test") && part.pools.values().any(|pool| pool.endpoints.len() == 1)
        })
        .await;
    let routes = &part.hosts[&"a.test".parse::<HostPattern>().unwrap()].routes;
    assert!(matches!(&routes[0].action, Action::Forward(pool) if pool.port == 80));
    lab.status(&a, Some("198.51.100.1")).await;

    lab.apply(slice("web-1", "10.9.0.1", false)).await;
    lab.until("an endpoint that is not ready", |part| {
        part.pools.values().any(|pool| {
            pool.endpoints
                .iter()
                .all(|endpoint| endpoint.condition == Condition::NotReady)
        })
    })
    .await;

    // Our entries go when it leaves the class, and only then.
    let mut left = a.clone();
    left["spec"]["ingressClassName"] = "nobody".into();
    lab.apply(left).await;
    lab.until("an Ingress that has left", |part| !host(part, "a.test"))
        .await;
    lab.status(&a, None).await;
    lab.apply(a.clone()).await;
    lab.until("an Ingress that is back", |part| host(part, "a.test"))
        .await;
    lab.status(&a, Some("198.51.100.1")).await;

    for (number, order) in [
        "drop-watches",
        "drop-watches?hard=1",
        "drop-watches?gone=1",
        "fault?code=410&count=5&watch=only",
        "fault?code=503&count=10&retryAfter=1",
        "fault?abort=1&count=10",
        "fault?delay=2s&count=5",
    ]
    .into_iter()
    .enumerate()
    {
        if !lab.disturb(order).await {
            eprintln!("no disturbances: the rest is left out");
            break;
        }
        if order.starts_with("fault") {
            lab.disturb("drop-watches?hard=1").await;
        }
        let name = format!("after-{number}");
        let ingress = lab.ingress(&name, &format!("{name}.test"));
        let mut created = false;
        // The fault may hit us as well.
        for _ in 0..20 {
            let patched = api(&lab.client, &lab.namespace, &ingress)
                .patch(
                    &name,
                    &PatchParams::apply("test").force(),
                    &Patch::Apply(&ingress),
                )
                .await;
            created = patched.is_ok();
            if created {
                break;
            }
        }
        assert!(created, "{order}");
        lab.until(order, |part| {
            host(part, &format!("{name}.test")) && host(part, "a.test")
        })
        .await;
        lab.status(&ingress, Some("198.51.100.1")).await;
        lab.delete(&ingress).await;
        lab.until(order, |part| !host(part, &format!("{name}.test")))
            .await;
        let view = lab.handle.view();
        assert!(view.synced, "{order} {view:?}");
        lab.disturb("fault?clear=1").await;
    }
    lab.stop.cancel();
    lab.status(&a, Some("198.51.100.1")).await;
    let space = json!({"apiVersion": "v1", "kind": "Namespace"});
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass"});
    for object in [space, class] {
        let deleted = api(&lab.client, "", &object)
            .delete(&lab.namespace, &DeleteParams::default())
            .await
            .unwrap();
        assert!(
            deleted
                .left()
                .is_none_or(|object| object.name_any() == lab.namespace)
        );
    }
}
