use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Machine, Pod};

/// A directory of Kubernetes YAML, written as a person would write it and changed as `mv` changes a file.
#[derive(Clone, Debug)]
pub struct Manifests(PathBuf);

/// One endpoint of a slice.
#[derive(Clone, Debug)]
pub struct EndpointPod {
    /// Pod name.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub address: Machine,
    /// `conditions.ready`
    pub ready: bool,
}

impl From<&Pod> for EndpointPod {
    fn from(pod: &Pod) -> Self {
        Self {
            pod: pod.name.clone(),
            node: pod.node.name.to_owned(),
            address: pod.address,
            ready: true,
        }
    }
}

impl Manifests {
    /// An empty directory at `path`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_path_buf()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file there, in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, yaml: &str) -> Result<()> {
        let hidden = self.0.join(format!(".{name}.new"));
        fs::write(&hidden, yaml)?;
        fs::rename(&hidden, self.0.join(name)).with_context(|| format!("writing {name}"))
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.0.join(name)).with_context(|| format!("removing {name}"))
    }

    /// The IngressClass `sekisho`.
    pub fn ingress_class() -> String {
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: sekisho}\n\
         spec: {controller: sekisho.io/ingress-controller}\n"
            .to_owned()
    }

    /// Service `name` of namespace `shop` with ports `http` (80) and `echo` (9000), and its slices for both families.
    pub fn service(name: &str, kind: &str, pods: &[EndpointPod]) -> String {
        let class = if kind == "LoadBalancer" {
            "\n  loadBalancerClass: sekisho.io/load-balancer"
        } else {
            ""
        };
        let mut out = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  type: {kind}{class}\n  \
             clusterIP: 10.96.0.17\n  ipFamilyPolicy: PreferDualStack\n  ipFamilies: [IPv4, IPv6]\n  ports:\n  \
             - {{name: http, port: 80, targetPort: http, protocol: TCP}}\n  \
             - {{name: echo, port: 9000, targetPort: echo, protocol: TCP}}\n"
        );
        for family in ["IPv4", "IPv6"] {
            let _ = write!(
                out,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{}\n  \
                 namespace: shop\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nports:\n\
                 - {{name: http, port: {}, protocol: TCP}}\n- {{name: echo, port: {}, protocol: TCP}}\nendpoints:{}\n",
                family.to_lowercase(),
                Pod::HTTP,
                Pod::TCP,
                if pods.is_empty() { " []" } else { "" },
            );
            for pod in pods {
                let address = if family == "IPv4" {
                    pod.address.v4.to_string()
                } else {
                    pod.address.v6.to_string()
                };
                let _ = writeln!(
                    out,
                    "- addresses: [\"{address}\"]\n  conditions: {{ready: {ready}, serving: {ready}, terminating: false}}\n  \
                     nodeName: {node}\n  targetRef: {{kind: Pod, namespace: shop, name: {pod}}}",
                    ready = pod.ready,
                    node = pod.node,
                    pod = pod.pod,
                );
            }
        }
        out
    }

    /// Ingress `name` of namespace `shop`: `host` to port `http` of Service `service`, with TLS from `secret`.
    pub fn ingress(name: &str, host: &str, service: &str, secret: Option<&str>, acme: bool) -> String {
        let annotations = if acme {
            ", annotations: {sekisho.io/acme: \"true\"}"
        } else {
            ""
        };
        let tls = secret
            .map(|secret| format!("\n  tls:\n  - {{hosts: [{host}], secretName: {secret}}}"))
            .unwrap_or_default();
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop{annotations}}}\n\
             spec:\n  ingressClassName: sekisho{tls}\n  rules:\n  - host: {host}\n    http:\n      paths:\n      \
             - path: /\n        pathType: Prefix\n        backend: {{service: {{name: {service}, port: {{name: http}}}}}}\n"
        )
    }

    /// TLS Secret `name` of namespace `shop`.
    pub fn tls_secret(name: &str, certificate_pem: &str, key_pem: &str) -> String {
        let indent = |pem: &str| {
            pem.lines()
                .map(|line| format!("    {line}\n"))
                .collect::<String>()
        };
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\ntype: kubernetes.io/tls\n\
             stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            indent(certificate_pem),
            indent(key_pem)
        )
    }
}
