//! Whatever stands in an object: no panic, nothing lost of the good ones, nothing unprintable in a finding.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Context, translate};
use super::{balancers, context, find, ingress, service, world};
use crate::source::manifest::{Format, parse};
use crate::world::World;

/// Text that is likely to hurt: anything, and pieces of what is meant.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z*./:%-]{0,12}",
        prop::sample::select(vec![
            "good.b",
            "web",
            "http",
            "/",
            "sekisho",
            "*.b",
            "",
            "true",
            "10.0.0.1",
            "::1",
            "127.0.0.1",
            "IPv4",
            "IPv6",
            "TCP",
            "UDP",
            "Prefix",
            "Exact",
            "ImplementationSpecific",
            "LoadBalancer",
            "ExternalName",
            "kubernetes.io/tls",
            "192.0.2.3",
            "sekisho.io/balance",
            "sekisho.io/acme",
        ])
        .prop_map(str::to_owned),
    ]
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), 0..70_000]
}

fn metadata() -> impl Strategy<Value = Value> {
    (text(), prop_oneof![Just("ns".to_owned()), text()], vec((text(), text()), 0..3), prop_oneof![Just("web".to_owned()), text()]).prop_map(
        |(name, namespace, annotations, service)| {
            let annotations: serde_json::Map<String, Value> = annotations.into_iter().map(|(key, value)| (key, value.into())).collect();
            let name = if name.is_empty() { "a".to_owned() } else { name };
            json!({"name": name, "namespace": namespace, "annotations": annotations, "labels": {"kubernetes.io/service-name": service}})
        },
    )
}

fn backend() -> impl Strategy<Value = Value> {
    prop_oneof![
        (text(), text(), number()).prop_map(|(name, port, number)| json!({"service": {"name": name, "port": {"name": port, "number": number}}})),
        (text(), text()).prop_map(|(name, port)| json!({"service": {"name": name, "port": {"name": port}}})),
        (text(), number()).prop_map(|(name, number)| json!({"service": {"name": name, "port": {"number": number}}})),
        (text(), text()).prop_map(|(kind, name)| json!({"resource": {"kind": kind, "name": name}})),
        Just(json!({})),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let path = (text(), text(), backend())
        .prop_map(|(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}));
    let rule =
        (text(), vec(path, 0..3)).prop_map(|(host, paths)| json!({"host": host, "http": {"paths": paths}}));
    let tls =
        (vec(text(), 0..3), text()).prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let class = prop_oneof![3 => Just("sekisho".to_owned()), 1 => text()];
    let ingress = (
        metadata(),
        class,
        vec(rule, 0..3),
        vec(tls, 0..3),
        proptest::option::of(backend()),
        text(),
    )
        .prop_map(|(metadata, class, rules, tls, backend, ip)| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": {"ingressClassName": class, "rules": rules, "tls": tls, "defaultBackend": backend},
            "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
        });
    let port = (text(), number(), text())
        .prop_map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol}))
        .boxed();
    let service = (metadata(), text(), vec(port.clone(), 0..4), text(), vec(text(), 0..3), text()).prop_map(|(metadata, kind, ports, ip, families, class)| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": kind, "ports": ports, "loadBalancerIP": ip, "ipFamilies": families, "loadBalancerClass": class}})
    });
    let endpoint = (vec(text(), 0..3), any::<Option<bool>>(), any::<Option<bool>>(), text()).prop_map(|(addresses, ready, serving, node)| {
        json!({"addresses": addresses, "conditions": {"ready": ready, "serving": serving}, "nodeName": node, "targetRef": {"kind": "Pod", "name": node}})
    });
    let slice = (metadata(), text(), vec(port, 0..3), vec(endpoint, 0..4)).prop_map(
        |(metadata, family, ports, endpoints)| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": family, "ports": ports, "endpoints": endpoints})
        },
    );
    let secret = (metadata(), text(), text(), text()).prop_map(|(metadata, kind, certificate, key)| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": {"tls.crt": certificate, "tls.key": key}})
    });
    let class = (metadata(), text()).prop_map(|(metadata, controller)| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata, "spec": {"controller": controller}})
    });
    prop_oneof![4 => ingress, 2 => service, 2 => slice, 1 => secret, 1 => class]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_and_never_disturbs(objects in vec(object(), 0..12)) {
        // An old Ingress of another namespace, whose host no other namespace's objects may take.
        let good = (service("web") + &ingress("good", &[("good.b", "Prefix", "/", "web")]))
            .replace("namespace: ns", "namespace: zz-safe")
            .replace("metadata: {name: good,", "metadata: {name: good, creationTimestamp: \"2000-01-01T00:00:00Z\",");
        let mut world: World = world(&good);
        for object in objects {
            for (object, _) in parse(object.to_string().as_bytes(), Format::Json).objects {
                if &*object.name().namespace != "zz-safe" {
                    world.insert(object);
                }
            }
        }
        let context = Context { vips: balancers::pools(&["192.0.2.0/29"]), acme: true, ..context() };
        // The class of the good one must stay ours.
        world.ingress_classes.clear();
        let (translation, findings) = translate(&world, &context);
        let route = find(&translation.part, "good.b", "/");
        prop_assert_eq!(route.map(|route| route.id.to_string()), Some("zz-safe/good[0.0]".to_owned()));
        for finding in &findings {
            let line = finding.to_string();
            prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            prop_assert!(line.len() < 2000, "{}", line.len());
        }
        // Deterministic.
        let (again, found_again) = translate(&world, &context);
        prop_assert_eq!((again, found_again), (translation.clone(), findings));
        // No route or pool points beside what exists.
        for host in translation.part.hosts.values() {
            for route in host.routes.iter().chain(&host.fallback) {
                if let sekisho_config::model::Action::Forward(pool) = &route.action {
                    prop_assert!(translation.part.pools.contains_key(pool));
                }
            }
        }
        for route in translation.part.tcp.values() {
            prop_assert!(translation.part.pools.contains_key(&route.pool));
            prop_assert!(translation.part.vips.contains_key(&route.listen.ip()));
        }
    }
}

/// As large as the API server lets one object be: work grows with the size, not with its square.
#[test]
fn the_largest_objects_are_no_trouble() {
    let hosts: Vec<String> = (0..50_000).map(|n| format!("h{n}.b")).collect();
    let tls = json!([{"hosts": hosts}, {"hosts": hosts, "secretName": "s"}]);
    let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
    let ports: Vec<Value> = (0..50_000)
        .map(|n| json!({"name": format!("p{n}"), "port": n + 1}))
        .collect();
    let metadata = json!({"name": "a", "namespace": "ns"});
    let objects = [
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": {"ingressClassName": "sekisho", "tls": tls, "rules": rules, "defaultBackend": {"service": {"name": "a", "port": {"name": "p49999"}}}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer", "ports": ports}}),
    ];
    let mut world = World::default();
    for object in objects {
        let parsed = parse(object.to_string().as_bytes(), Format::Json);
        parsed
            .objects
            .into_iter()
            .for_each(|(object, _)| world.insert(object));
    }
    let (translation, findings) = translate(
        &world,
        &Context {
            vips: balancers::pools(&["192.0.2.0/29"]),
            ..context()
        },
    );
    assert_eq!(translation.part.hosts.len(), 50_000);
    assert_eq!(translation.part.certificates.len(), 50_000);
    assert_eq!(translation.part.tcp.len(), 250);
    assert!(findings.len() <= super::super::MAX_FINDINGS);
}
