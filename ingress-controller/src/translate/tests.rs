//! Rules of `docs/ingress.md`, one test each, written as manifests.

mod any_object;
mod balancers;
mod certificates;
mod classes;
mod door;
mod filters;
mod pools;
mod routes;

use std::sync::Arc;

use sekisho_config::model::{ClusterPart, Finding, HostName, HostPattern, Listen, PathMatch, Route};

use super::{Context, translate};
use crate::source::manifest::{Format, parse};
use crate::world::World;

pub(super) fn context() -> Context {
    Context {
        ingress_class: "sekisho".into(),
        class_by_name: true,
        allow_loopback_endpoints: false,
        own_addresses: Arc::new(["192.0.2.10".parse().unwrap()].into()),
        vips: Vec::new(),
        listen: Listen {
            http: vec!["0.0.0.0:80".parse().unwrap()],
            https: vec!["0.0.0.0:443".parse().unwrap()],
            http3: Vec::new(),
            ingress_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
        },
        acme: false,
        key_sets: None,
        nodes: true,
    }
}

/// The world that these manifests describe; every document must be good.
pub(super) fn world(manifests: &str) -> World {
    let parsed = parse(manifests.as_bytes(), Format::Yaml);
    assert_eq!(parsed.faults, [], "{manifests}");
    let mut world = World::default();
    for (object, _) in parsed.objects {
        world.insert(object);
    }
    world
}

pub(super) fn run(manifests: &str, context: &Context) -> (ClusterPart, Vec<Finding>) {
    let (translation, findings) = translate(&world(manifests), context);
    (translation.part, findings)
}

/// Findings as `kind Object ns/name place: beginning of the message`.
pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{} {finding}", finding.kind.as_str()))
        .collect()
}

/// A Service `name` with port 80 named `http` and one ready endpoint, the target port 8080.
pub(super) fn service(name: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: ns}}
spec:
  ports: [{{name: http, port: 80, targetPort: web}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: ns, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [10.0.0.1], conditions: {{ready: true}}}}]
"
    )
}

/// An Ingress of our class with these rules; each is host, path type, path, service.
pub(super) fn ingress(name: &str, rules: &[(&str, &str, &str, &str)]) -> String {
    let mut text = format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: ns}}
spec:
  ingressClassName: sekisho
  rules:
"
    );
    for (host, path_type, path, service) in rules {
        text.push_str(&format!(
            "  - {{host: \"{host}\", http: {{paths: [{{pathType: {path_type}, path: '{path}', backend: {{service: {{name: {service}, \
             port: {{name: http}}}}}}}}]}}}}\n"
        ));
    }
    text
}

/// What takes this request, by the rules of the model: the best host, then the first route that matches, then its fallback.
pub(super) fn find<'a>(part: &'a ClusterPart, host: &str, path: &str) -> Option<&'a Route> {
    let name: HostName = host.parse().unwrap();
    let host = part
        .hosts
        .get(&HostPattern::Exact(name.clone()))
        .or_else(|| {
            part.hosts
                .get(&HostPattern::Wildcard(name.parent()?.parse().ok()?))
        })
        .or_else(|| part.hosts.get(&HostPattern::Any))?;
    let takes = |route: &&Route| match &route.path {
        PathMatch::Regex(pattern) => pattern.regex().unwrap().is_match(path),
        PathMatch::Exact(wanted) => **wanted == *path,
        PathMatch::Prefix(wanted) => {
            let wanted = wanted.trim_end_matches('/');
            path.strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    host.routes.iter().find(takes).or(host.fallback.as_ref())
}
