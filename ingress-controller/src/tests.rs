//! The whole controller, from the API server or a directory to events and statuses, in paused time.

mod directory;
mod status;

use std::time::Duration;

use sekisho_config::model::{Finding, HostPattern, Listen, Routing, Source, SourceKind};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controller::begin;
use crate::source::Connect;
use crate::translate::Context;
use crate::{Event, Handle, Inputs};
use sekisho_config::model::ClusterPart;

pub(crate) fn context() -> Context {
    Context {
        ingress_class: "sekisho".into(),
        class_by_name: true,
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
        nodes: true,
    }
}

pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) registry: prometheus::Registry,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) state: Option<TempDir>,
    /// Whether each translation is told to be in force at once.
    pub(crate) publishing: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn start(kind: SourceKind, connect: Option<Connect>, context: Context) -> Running {
    start_in(tempfile::tempdir().unwrap(), kind, connect, context)
}

pub(crate) fn start_in(
    state: TempDir,
    kind: SourceKind,
    connect: Option<Connect>,
    context: Context,
) -> Running {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let registry = prometheus::Registry::new();
    let inputs = Inputs {
        source: Source {
            kind,
            ingress_class: "sekisho".into(),
            routing: Routing::Off,
            allow_loopback_endpoints: false,
        },
        context,
        state_dir: state.path().to_owned(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let (handle, events) = begin(inputs, connect, &registry).unwrap();
    Running {
        handle,
        events,
        registry,
        stop,
        tasks,
        state: Some(state),
        publishing: true,
    }
}

impl Running {
    /// Ends it; gives what it leaves on disk.
    pub(crate) async fn finish(mut self) -> TempDir {
        self.stop.cancel();
        self.tasks.close();
        timeout(Duration::from_secs(10), self.tasks.wait())
            .await
            .expect("ends");
        self.state.take().unwrap()
    }

    /// Takes translations until one is as `check` wants it.
    pub(crate) async fn until(
        &mut self,
        check: impl Fn(&ClusterPart, &[Finding]) -> bool,
    ) -> (ClusterPart, Vec<String>) {
        let find = async {
            loop {
                let Event::Translated {
                    generation,
                    part,
                    findings,
                } = self.events.recv().await.unwrap();
                if self.publishing {
                    self.handle.published(generation);
                }
                if check(&part, &findings) {
                    return (part, findings.iter().map(ToString::to_string).collect());
                }
            }
        };
        timeout(Duration::from_secs(1800), find).await.expect("in time")
    }

    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        self.registry
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(|family| family.get_metric())
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label))
            .map(|metric| metric.get_gauge().get_value() + metric.get_counter().get_value())
            .sum()
    }
}

pub(crate) fn host(part: &ClusterPart, name: &str) -> bool {
    part.hosts.contains_key(&name.parse::<HostPattern>().unwrap())
}

pub(crate) fn ingress(name: &str, host: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: ns}}
spec: {{ingressClassName: sekisho, rules: [{{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, \
         port: {{number: 80}}}}}}}}]}}}}]}}
"
    )
}
