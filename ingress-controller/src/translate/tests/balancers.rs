use sekisho_config::model::{AddressPool, VipPurpose};

use super::super::{Context, translate};
use super::{context, ingress, lines, run, world};

pub(super) fn pools(prefixes: &[&str]) -> Vec<AddressPool> {
    vec![AddressPool {
        name: "public".into(),
        addresses: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        announce_to: Vec::new(),
        announcement: Default::default(),
    }]
}

fn with_pool() -> Context {
    Context {
        vips: pools(&["192.0.2.0/28", "2001:db8::/112"]),
        ..context()
    }
}

fn service(name: &str, spec: &str, ports: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: ns}}
spec: {{type: LoadBalancer, {spec} ports: [{ports}]}}
"
    )
}

const TCP: &str = "{name: db, port: 5432}";

/// Listeners and VIPs as text.
fn show(manifests: &str, context: &Context) -> String {
    let (part, _) = run(manifests, context);
    let listeners = part
        .tcp
        .values()
        .map(|route| format!("{}>{}", route.listen, route.pool));
    let vips = part.vips.values().map(|vip| match &vip.purpose {
        VipPurpose::Ingress => format!("{}=ingress", vip.address),
        VipPurpose::Service { service, .. } => format!("{}={}", vip.address, service.name),
    });
    listeners.chain(vips).collect::<Vec<_>>().join(" ")
}

#[test]
fn addresses_and_listeners() {
    for (what, manifests, want) in [
        (
            "the first free address; the first of all is the Ingresses'",
            service("a", "", TCP),
            "192.0.2.2:5432>ns/a:5432 192.0.2.1=ingress 192.0.2.2=a",
        ),
        (
            "a wish",
            service("a", "loadBalancerIP: 192.0.2.9,", TCP),
            "192.0.2.9:5432>ns/a:5432 192.0.2.1=ingress 192.0.2.9=a",
        ),
        (
            "our class",
            service("a", "loadBalancerClass: sekisho.io/load-balancer,", TCP),
            "192.0.2.2:5432>ns/a:5432 192.0.2.1=ingress 192.0.2.2=a",
        ),
        (
            "another class",
            service("a", "loadBalancerClass: example.com/x,", TCP),
            "192.0.2.1=ingress",
        ),
        (
            "not a balancer",
            service("a", "", TCP).replace("LoadBalancer", "ClusterIP"),
            "192.0.2.1=ingress",
        ),
        (
            "IPv6",
            service("a", "ipFamilies: [IPv6],", TCP),
            "[2001:db8::1]:5432>ns/a:5432 192.0.2.1=ingress 2001:db8::1=a",
        ),
        (
            "both families",
            service("a", "ipFamilyPolicy: RequireDualStack,", TCP),
            "192.0.2.2:5432>ns/a:5432 [2001:db8::1]:5432>ns/a:5432 192.0.2.1=ingress 192.0.2.2=a 2001:db8::1=a",
        ),
        (
            "two ports, and one that is not TCP",
            service(
                "a",
                "",
                "{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3, protocol: UDP}",
            ),
            "192.0.2.2:1>ns/a:1 192.0.2.2:2>ns/a:2 192.0.2.1=ingress 192.0.2.2=a",
        ),
        (
            "only UDP",
            service("a", "", "{name: c, port: 3, protocol: UDP}"),
            "192.0.2.1=ingress",
        ),
        (
            "the address of the Ingresses is not given away",
            service("a", "loadBalancerIP: 192.0.2.1,", TCP),
            "192.0.2.1=ingress",
        ),
        (
            "a wish beyond the pools",
            service("a", "loadBalancerIP: 10.0.0.1,", TCP),
            "192.0.2.1=ingress",
        ),
    ] {
        assert_eq!(show(&manifests, &with_pool()), want, "{what}");
    }
}

#[test]
fn what_is_in_the_status_or_was_given_before_is_kept() {
    let status = service("a", "", TCP) + "status: {loadBalancer: {ingress: [{ip: 192.0.2.7}]}}\n";
    assert_eq!(
        show(&status, &with_pool()),
        "192.0.2.7:5432>ns/a:5432 192.0.2.1=ingress 192.0.2.7=a"
    );
    let mut world = world(&(service("a", "", TCP) + &service("b", "", TCP)));
    let (first, _) = translate(&world, &with_pool());
    world.allocations = first.allocations.clone();
    world.remove(
        crate::world::Kind::Service,
        &sekisho_config::model::ObjectName::new("ns", "a"),
    );
    let (second, _) = translate(&world, &with_pool());
    let b = sekisho_config::model::ObjectName::new("ns", "b");
    assert_eq!(first.allocations[&b], second.allocations[&b]);
    assert_eq!(second.allocations.len(), 1);
}

#[test]
fn findings() {
    for (manifests, want) in [
        (
            service("a", "", "{name: c, port: 3, protocol: UDP}"),
            "unsupported Service ns/a spec.ports[0].protocol: ",
        ),
        (
            service("a", "loadBalancerIP: nonsense,", TCP),
            "invalid_value Service ns/a spec.loadBalancerIP: `nonsense` is no IP address",
        ),
        (
            service("a", "loadBalancerIP: 10.0.0.1,", TCP),
            "address_unavailable Service ns/a spec.loadBalancerIP: 10.0.0.1 is in no [[vips]] pool",
        ),
        (
            service("a", "loadBalancerIP: 192.0.2.1,", TCP),
            "conflict Service ns/a spec.loadBalancerIP: 192.0.2.1 is the address of the Ingresses",
        ),
        (
            service("a", "loadBalancerIP: 192.0.2.5,", TCP)
                + &service("b", "loadBalancerIP: 192.0.2.5,", TCP),
            "conflict Service ns/b spec.loadBalancerIP: 192.0.2.5 is in use by Service ns/a",
        ),
        (
            service("a", "loadBalancerSourceRanges: [10.0.0.0/8],", TCP),
            "unsupported Service ns/a spec.loadBalancerSourceRanges: ",
        ),
        (
            service("a", "ipFamilies: [IPv5],", TCP),
            "invalid_value Service ns/a spec.ipFamilies: `IPv5`",
        ),
        (
            service("a", "", "{port: 99999}"),
            "invalid_value Service ns/a spec.ports[0].port: 99999",
        ),
    ] {
        let (_, findings) = run(&manifests, &with_pool());
        assert!(
            lines(&findings).iter().any(|line| line.starts_with(want)),
            "{manifests} {findings:?}"
        );
    }
    // Without pools, only a Service that names our class is told that there is no address.
    assert_eq!(run(&service("a", "", TCP), &context()).1, []);
    let classed = service("a", "loadBalancerClass: sekisho.io/load-balancer,", TCP);
    let (_, findings) = run(&classed, &context());
    assert!(
        lines(&findings)[0].starts_with(
            "address_unavailable Service ns/a spec.loadBalancerIP: the box has no [[vips]] pool"
        ),
        "{findings:?}"
    );
}

#[test]
fn status_of_our_objects_and_of_no_others() {
    let manifests =
        super::service("web") + &ingress("i", &[("a.b", "Prefix", "/", "web")]) + &service("a", "", TCP);
    let foreign = ingress("j", &[("b.b", "Prefix", "/", "web")])
        .replace("ingressClassName: sekisho", "ingressClassName: other");
    let (translation, _) = translate(&world(&(manifests + &foreign)), &with_pool());
    assert_eq!(
        format!("{:?}", translation.status.ingresses.values().collect::<Vec<_>>()),
        "[[192.0.2.1]]"
    );
    assert_eq!(
        format!("{:?}", translation.status.services.values().collect::<Vec<_>>()),
        "[[192.0.2.2]]"
    );
}
