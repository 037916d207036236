//! The whole appliance with a real Kubernetes API, when `KUBECONFIG` names one.
//!
//! Everything is made in a namespace and under an IngressClass of its own, and removed again.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use sekisho_tests::lab::wait_for;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::loopback::{Loopback, LoopbackPod, PATIENCE};

const STATUS: &str = "203.0.113.1";

struct Cluster {
    runtime: Runtime,
    client: kube::Client,
    name: String,
}

impl Cluster {
    /// `None` where there is no cluster.
    fn new() -> Result<Option<Self>> {
        if std::env::var_os("KUBECONFIG").is_none() {
            eprintln!("not run: KUBECONFIG names no cluster");
            return Ok(None);
        }
        let runtime = Runtime::new()?;
        let client = runtime.block_on(kube::Client::try_default())?;
        let cluster = Self {
            runtime,
            client,
            name: format!("sekisho-it-{}", std::process::id()),
        };
        cluster
            .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.name}}))?;
        cluster.apply(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": cluster.name},
            "spec": {"controller": "sekisho.io/ingress-controller"},
        }))?;
        Ok(Some(cluster))
    }

    fn api(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if ["Namespace", "IngressClass"].contains(&kind) {
            return Api::all_with(self.client.clone(), &resource);
        }
        Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .context("incomplete object")
        };
        let api = self.api(text("/apiVersion")?, text("/kind")?);
        let params = PatchParams::apply("sekisho-it").force();
        self.runtime
            .block_on(api.patch(text("/metadata/name")?, &params, &Patch::Apply(object)))?;
        Ok(())
    }

    fn delete(&self, version: &str, kind: &str, name: &str) -> Result<()> {
        self.runtime
            .block_on(self.api(version, kind).delete(name, &DeleteParams::default()))?;
        Ok(())
    }

    fn ingress(&self) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {"ingressClassName": self.name, "rules": [{"host": "web.example.com", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}},
            ]}}]},
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        })
    }

    /// A cluster refuses loopback addresses in slices, so the pod is named by this machine's own address.
    fn slice(&self, address: IpAddr, pod: &LoopbackPod) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": pod.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.delete("networking.k8s.io/v1", "IngressClass", &self.name);
        let _ = self.delete("v1", "Namespace", &self.name);
    }
}

/// The address this machine would use towards others; nothing is sent.
fn own_address() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket
        .connect("192.0.2.1:9")
        .context("this machine has no address besides loopback")?;
    Ok(socket.local_addr()?.ip())
}

#[test]
fn objects_of_a_cluster_are_served_followed_and_get_a_status() -> Result<()> {
    let Some(cluster) = Cluster::new()? else {
        return Ok(());
    };
    let address = own_address()?;
    let mut rig = Loopback::new()?;
    let kubeconfig = std::env::var("KUBECONFIG")?;
    let toml = rig.settings.toml.replace(
        "\n[source]",
        &format!("\ningress_addresses = [\"{STATUS}\"]\n[source]"),
    );
    let (before, _) = toml
        .split_once("manifests =")
        .context("the file has no manifests")?;
    rig.settings.toml = format!(
        "{before}kubeconfig = \"{kubeconfig}\"\ningress_class = \"{}\"\nallow_loopback_endpoints = true\n",
        cluster.name
    );
    let (one, two) = (rig.pod("one")?, rig.pod("two")?);
    let mut appliance = rig.start()?;
    let target = rig.target("web.example.com", None);
    let answers = |wanted: &str| {
        let response = target.get("/")?;
        ensure!(response.pod()? == wanted, "{} answers", response.pod()?);
        Ok(())
    };
    let status = |wanted: u16| {
        let status = target.get("/")?.status;
        ensure!(status == wanted, "status {status}");
        Ok(())
    };

    wait_for("the first complete view", PATIENCE, || {
        appliance.daemon.check()?;
        status(404)
    })?;
    for object in [cluster.ingress(), cluster.service(), cluster.slice(address, &one)] {
        cluster.apply(&object)?;
    }
    wait_for("pod one", PATIENCE, || answers("one"))?;

    let api = cluster.api("networking.k8s.io/v1", "Ingress");
    wait_for("the Ingress's status", PATIENCE, || {
        let ingress = cluster.runtime.block_on(api.get("web"))?;
        match ingress
            .data
            .pointer("/status/loadBalancer/ingress/0/ip")
            .and_then(Value::as_str)
        {
            Some(STATUS) => Ok(()),
            other => bail!("it says {other:?}"),
        }
    })?;

    cluster.apply(&cluster.slice(address, &two))?;
    wait_for("pod two", PATIENCE, || answers("two"))?;
    cluster.delete("v1", "Service", "web")?;
    wait_for("503 without the Service", PATIENCE, || status(503))?;
    cluster.apply(&cluster.service())?;
    wait_for("pod two again", PATIENCE, || {
        // Some clusters take the slices away with the Service.
        cluster.apply(&cluster.slice(address, &two))?;
        answers("two")
    })?;
    cluster.delete("networking.k8s.io/v1", "Ingress", "web")?;
    wait_for("404 without the Ingress", PATIENCE, || status(404))?;
    appliance.stop(PATIENCE)?;
    Ok(())
}
