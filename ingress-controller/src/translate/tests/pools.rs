use std::sync::Arc;

use sekisho_config::model::{Balance, Condition, Pool};

use super::super::retain_shared;
use super::{context, ingress, lines, run, service};

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns}
spec: {clusterIP: None, ports: [{name: http, port: 80, targetPort: web}, {name: admin, port: 81}]}
";

fn slice(name: &str, family: &str, port: &str, endpoints: &str) -> String {
    format!(
        "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: ns, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{{name: admin, port: 9000}}, {port}]
endpoints: [{endpoints}]
"
    )
}

fn pool(slices: &str) -> (Arc<Pool>, Vec<String>) {
    let manifests = format!(
        "{SERVICE}{slices}{}",
        ingress("i", &[("a.b", "Prefix", "/", "web")])
    );
    let (part, findings) = run(&manifests, &context());
    assert_eq!(part.pools.len(), 1);
    (part.pools.values().next().unwrap().clone(), lines(&findings))
}

fn show(pool: &Pool) -> String {
    pool.endpoints
        .iter()
        .map(|endpoint| format!("{} {:?}", endpoint.address, endpoint.condition))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn slices_are_merged_by_port_name_with_the_port_that_each_has_resolved() {
    let slices = slice(
        "one",
        "IPv4",
        "{name: http, port: 8080}",
        "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}",
    ) + &slice(
        "two",
        "IPv4",
        "{name: http, port: 8081}",
        "{addresses: [10.0.0.3]}",
    ) + &slice(
        "three",
        "IPv6",
        "{name: http, port: 8080}",
        "{addresses: ['2001:db8::1'], nodeName: n1, targetRef: {kind: Pod, name: p1}}",
    ) + &slice(
        "four",
        "IPv4",
        "{name: other, port: 8080}",
        "{addresses: [10.0.0.4]}",
    );
    let (pool, findings) = pool(&slices);
    assert_eq!(
        show(&pool),
        "10.0.0.1:8080 Ready, 10.0.0.2:8080 Ready, 10.0.0.3:8081 Ready, [2001:db8::1]:8080 Ready"
    );
    let last = pool.endpoints.last().unwrap();
    assert_eq!(
        (
            last.pod.as_ref().unwrap().to_string(),
            last.node.as_ref().unwrap().to_string()
        ),
        ("ns/p1".to_owned(), "n1".to_owned())
    );
    assert_eq!(findings, [""; 0]);
}

#[test]
fn conditions() {
    for (conditions, want) in [
        ("{}", Condition::Ready),
        ("{ready: true}", Condition::Ready),
        ("{ready: false}", Condition::NotReady),
        (
            "{ready: false, serving: true, terminating: true}",
            Condition::ServingTerminating,
        ),
        (
            "{ready: false, serving: true, terminating: false}",
            Condition::NotReady,
        ),
        (
            "{ready: false, serving: false, terminating: true}",
            Condition::NotReady,
        ),
        // publishNotReadyAddresses
        (
            "{ready: true, serving: true, terminating: true}",
            Condition::Ready,
        ),
    ] {
        let slices = slice(
            "one",
            "IPv4",
            "{name: http, port: 8080}",
            &format!("{{addresses: [10.0.0.1], conditions: {conditions}}}"),
        );
        assert_eq!(pool(&slices).0.endpoints[0].condition, want, "{conditions}");
    }
}

#[test]
fn an_address_in_two_slices_counts_once_with_the_better_word() {
    let bad = "{addresses: [10.0.0.1], conditions: {ready: false}}";
    let good = "{addresses: [10.0.0.1]}";
    for (a, b) in [(bad, good), (good, bad)] {
        let slices = slice("one", "IPv4", "{name: http, port: 8080}", a)
            + &slice("two", "IPv4", "{name: http, port: 8080}", b);
        assert_eq!(show(&pool(&slices).0), "10.0.0.1:8080 Ready");
    }
}

#[test]
fn addresses_that_no_endpoint_may_have() {
    let good = "{addresses: [10.0.0.9]}";
    for (family, address, why) in [
        ("IPv4", "127.0.0.1", "loopback"),
        ("IPv4", "127.8.9.1", "loopback"),
        ("IPv6", "::1", "loopback"),
        ("IPv4", "169.254.169.254", "link-local"),
        ("IPv6", "fe80::1", "link-local"),
        ("IPv4", "0.0.0.0", "unspecified"),
        ("IPv4", "0.1.2.3", "reserved"),
        ("IPv4", "192.0.2.10", "on one of its interfaces"),
        ("IPv4", "255.255.255.255", "reserved"),
        ("IPv4", "224.0.0.1", "multicast"),
        ("IPv6", "ff02::1", "multicast"),
        ("IPv6", "::", "unspecified"),
        ("IPv6", "::ffff:127.0.0.1", "clothing"),
        ("IPv6", "::127.0.0.1", "clothing"),
        ("IPv6", "10.0.0.1", "addressType"),
        ("IPv4", "localhost", "no IP address"),
        ("IPv4", "010.0.0.1", "no IP address"),
        ("IPv4", "10.0.0.1/32", "no IP address"),
    ] {
        let slices = slice(
            "bad",
            family,
            "{name: http, port: 8080}",
            &format!("{{addresses: ['{address}']}}"),
        ) + &slice("good", "IPv4", "{name: http, port: 8080}", good);
        let (pool, findings) = pool(&slices);
        assert_eq!(show(&pool), "10.0.0.9:8080 Ready", "{address}");
        assert!(
            matches!(&findings[..], [line] if line.starts_with("invalid_value EndpointSlice ns/bad endpoints[0].addresses: ") && line.contains(why)),
            "{address} {findings:?}"
        );
    }
}

#[test]
fn the_key_of_the_file_lets_loopback_in_and_vips_are_never_endpoints() {
    let manifests = |address: &str| {
        format!(
            "{SERVICE}{}{}",
            slice(
                "one",
                "IPv4",
                "{name: http, port: 8080}",
                &format!("{{addresses: [{address}]}}")
            ),
            ingress("i", &[("a.b", "Prefix", "/", "web")])
        )
    };
    let mut context = context();
    context.allow_loopback_endpoints = true;
    let (part, findings) = run(&manifests("127.0.0.1"), &context);
    assert_eq!(
        (
            part.pools.values().next().unwrap().endpoints.len(),
            findings.len()
        ),
        (1, 0)
    );
    context.allow_loopback_endpoints = false;
    context.vips = super::balancers::pools(&["192.0.2.0/29"]);
    let (part, findings) = run(&manifests("192.0.2.3"), &context);
    assert_eq!(
        (
            part.pools.values().next().unwrap().endpoints.len(),
            findings.len()
        ),
        (0, 2),
        "{findings:?}"
    );
}

#[test]
fn faults_of_a_slice() {
    for (family, port, endpoints, want) in [
        (
            "FQDN",
            "{name: http, port: 8080}",
            "{addresses: [a.b]}",
            "unsupported EndpointSlice ns/one addressType: ",
        ),
        (
            "IPv4",
            "{name: http, port: 0}",
            "{addresses: [10.0.0.1]}",
            "invalid_value EndpointSlice ns/one ports[1].port: ",
        ),
        (
            "IPv4",
            "{name: http, port: 65536}",
            "{addresses: [10.0.0.1]}",
            "invalid_value EndpointSlice ns/one ports[1].port: ",
        ),
        (
            "IPv4",
            "{name: http}",
            "{addresses: [10.0.0.1]}",
            "invalid_value EndpointSlice ns/one ports[1].port: ",
        ),
        (
            "IPv4",
            "{name: http, port: 8080, protocol: UDP}",
            "{addresses: [10.0.0.1]}",
            "backend_missing Service ns/web port 80: no EndpointSlice",
        ),
        (
            "IPv4",
            "{name: http, port: 8080}",
            "{addresses: []}",
            "invalid_value EndpointSlice ns/one endpoints[0].addresses: is empty",
        ),
        (
            "IPv4",
            "{name: http, port: 8080}",
            "{addresses: [10.0.0.1, 10.0.0.2]}",
            "unsupported EndpointSlice ns/one endpoints[0].addresses: only the first",
        ),
        (
            "IPv4",
            "{name: http, port: 8080}",
            "{addresses: [10.0.0.1], conditions: {ready: false}}",
            "backend_missing Service ns/web port 80: none of its endpoints is ready",
        ),
    ] {
        let (_, findings) = pool(&slice("one", family, port, endpoints));
        assert!(
            findings.iter().any(|line| line.starts_with(want)),
            "{family} {port} {endpoints} {findings:?}"
        );
    }
}

#[test]
fn balance() {
    let service = |annotations: &str| {
        SERVICE.replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        )
    };
    let ingress = |name: &str, annotations: &str| {
        ingress(name, &[(&format!("{name}.b"), "Prefix", "/", "web")]).replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        )
    };
    let slices = slice(
        "one",
        "IPv4",
        "{name: http, port: 8080}",
        "{addresses: [10.0.0.1]}",
    );
    for (on_service, on_first, on_second, want, findings) in [
        ("", "", "", Balance::LeastRequest, 0),
        ("sekisho.io/balance: round_robin", "", "", Balance::RoundRobin, 0),
        ("", "", "sekisho.io/balance: round_robin", Balance::RoundRobin, 0),
        (
            "",
            "sekisho.io/balance: round_robin",
            "sekisho.io/balance: least_request",
            Balance::RoundRobin,
            1,
        ),
        (
            "sekisho.io/balance: least_request",
            "sekisho.io/balance: round_robin",
            "",
            Balance::LeastRequest,
            0,
        ),
        ("sekisho.io/balance: fastest", "", "", Balance::LeastRequest, 1),
        ("sekisho.io/acme: 'true'", "", "", Balance::LeastRequest, 1),
    ] {
        let (part, found) = run(
            &format!(
                "{}{slices}{}{}",
                service(on_service),
                ingress("a", on_first),
                ingress("b", on_second)
            ),
            &context(),
        );
        assert_eq!(
            (part.pools.values().next().unwrap().balance, found.len()),
            (want, findings),
            "{on_service} {on_first} {on_second} {found:?}"
        );
    }
}

#[test]
fn what_does_not_change_keeps_its_memory() {
    let manifests = service("a")
        + &service("b")
        + &ingress("i", &[("a.x", "Prefix", "/", "a"), ("b.x", "Prefix", "/", "b")]);
    let (before, _) = run(&manifests, &context());
    let (after, _) = run(&manifests.replace("name: b-1", "name: b-2"), &context());
    let shared = retain_shared(&before, after);
    assert!(before.pools.ptr_eq(&shared.pools) && before.hosts.ptr_eq(&shared.hosts));
    let (after, _) = run(&manifests.replacen("10.0.0.1", "10.0.0.7", 1), &context());
    let shared = retain_shared(&before, after.clone());
    assert_eq!(shared, after);
    let kept = before
        .pools
        .iter()
        .filter(|(id, pool)| Arc::ptr_eq(pool, &shared.pools[*id]))
        .count();
    assert_eq!(kept, 1);
}

#[test]
fn what_endpoints_speak() {
    use sekisho_config::model::{ProxyProtocol, Trust, UpstreamProtocol};
    let ca = rcgen::CertificateParams::new(vec![])
        .unwrap()
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .replace('\n', "\\n");
    let secrets = format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: ns}}
type: kubernetes.io/tls
stringData: {{tls.crt: '', tls.key: '', ca.crt: \"{ca}\"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: empty, namespace: ns}}
type: kubernetes.io/tls
stringData: {{tls.crt: '', tls.key: ''}}
"
    );
    let show = |annotations: &str, on_service: &str, on_slice: &str| {
        let manifests = format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: ns, annotations: {{{annotations}}}}}
spec: {{ports: [{{name: http, port: 80, appProtocol: {on_service}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: ns, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, appProtocol: {on_slice}}}]
endpoints: [{{addresses: [10.0.0.1]}}]
{secrets}{}",
            ingress("i", &[("a.b", "Prefix", "/", "web")])
        );
        let (part, findings) = run(&manifests, &context());
        let upstream = &part.pools.values().next().unwrap().upstream;
        let mut shown = match upstream.protocol {
            UpstreamProtocol::Http1 => "1".to_owned(),
            UpstreamProtocol::Http2 => "2".to_owned(),
        };
        if let Some(tls) = &upstream.tls {
            shown += &match &tls.trust {
                Trust::System => format!(" {} system", tls.server_name),
                Trust::Anybody => format!(" {} anybody", tls.server_name),
                Trust::Roots(roots) => format!(" {} {} roots", tls.server_name, roots.len()),
            };
        }
        match upstream.proxy_protocol {
            Some(ProxyProtocol::V1) => shown += " v1",
            Some(ProxyProtocol::V2) => shown += " v2",
            None => {}
        }
        (shown, findings.len())
    };
    for (annotations, on_service, on_slice, want) in [
        ("", "", "", ("1", 0)),
        ("", "http", "", ("1", 0)),
        ("", "kubernetes.io/ws", "", ("1", 0)),
        ("", "kubernetes.io/wss", "", ("1 web.ns.svc system", 0)),
        ("", "https", "", ("1 web.ns.svc system", 0)),
        ("", "kubernetes.io/h2c", "", ("2", 0)),
        ("", "grpc", "", ("2", 0)),
        ("", "", "kubernetes.io/h2c", ("2", 0)),
        ("", "http", "kubernetes.io/h2c", ("1", 0)),
        (
            "sekisho.io/backend-protocol: grpcs",
            "http",
            "",
            ("2 web.ns.svc system", 0),
        ),
        ("", "mysql", "", ("1", 0)),
        ("", "", "https", ("1 web.ns.svc system", 0)),
        ("", "http", "https", ("1", 0)),
        (
            "sekisho.io/backend-protocol: https",
            "http",
            "",
            ("1 web.ns.svc system", 0),
        ),
        ("sekisho.io/backend-protocol: http", "https", "", ("1", 0)),
        ("sekisho.io/backend-protocol: HTTPS", "", "", ("1", 1)),
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-ca: ca, sekisho.io/backend-server-name: in.example",
            "",
            "",
            ("1 in.example 1 roots", 0),
        ),
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-ca: missing",
            "",
            "",
            ("1 web.ns.svc 0 roots", 1),
        ),
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-ca: empty",
            "",
            "",
            ("1 web.ns.svc 0 roots", 1),
        ),
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-ca: 'No Name'",
            "",
            "",
            ("1 web.ns.svc 0 roots", 1),
        ),
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-verify: 'off'",
            "",
            "",
            ("1 web.ns.svc anybody", 0),
        ),
        // A word that is not known lets verification on.
        (
            "sekisho.io/backend-protocol: https, sekisho.io/backend-verify: 'no'",
            "",
            "",
            ("1 web.ns.svc system", 1),
        ),
        ("sekisho.io/backend-verify: 'off'", "", "", ("1", 1)),
        ("sekisho.io/proxy-protocol: v2", "", "", ("1 v2", 0)),
        ("sekisho.io/proxy-protocol: v3", "", "", ("1", 1)),
    ] {
        let (shown, findings) = show(annotations, on_service, on_slice);
        assert_eq!(
            (shown.as_str(), findings),
            want,
            "{annotations} {on_service} {on_slice}"
        );
    }
}

/// What a Service or its Ingresses say of one thing, whoever says it first, is what the pool has; the rest is as it is.
#[test]
fn policy() {
    use std::time::Duration;

    use sekisho_config::model::{HashBy, PoolPolicy, RetryOn};
    let annotated = |text: String, annotations: &str| {
        text.replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        )
    };
    let slices = slice(
        "one",
        "IPv4",
        "{name: http, port: 8080}",
        "{addresses: [10.0.0.1]}",
    );
    let run = |on_service: &str, on_ingress: &str, on_slice: &str| {
        let text = annotated(SERVICE.to_owned(), on_service)
            + &annotated(ingress("a", &[("a.b", "Prefix", "/", "web")]), on_ingress)
            + &slices.replacen(
                "namespace: ns,",
                &format!("namespace: ns, annotations: {{{on_slice}}},"),
                1,
            );
        run(&text, &context())
    };
    let (part, findings) = run(
        "sekisho.io/balance: consistent_hash, sekisho.io/hash-by: 'header:X-User', sekisho.io/retries: '0', sekisho.io/slow-start: nonsense",
        "sekisho.io/retries: '5', sekisho.io/slow-start: 10s, sekisho.io/retry-on: 'connect, 503', sekisho.io/max-requests: '7'",
        "sekisho.io/weight: '9'",
    );
    let pool = part.pools.values().next().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let want = PoolPolicy {
        hash_by: HashBy::Header("x-user".into()),
        slow_start: Duration::from_secs(10),
        ..PoolPolicy::default()
    };
    assert_eq!(
        (&pool.policy.hash_by, pool.policy.slow_start),
        (&want.hash_by, want.slow_start)
    );
    assert_eq!(
        (pool.balance, pool.policy.retry.tries),
        (Balance::ConsistentHash, 0)
    );
    let on = RetryOn {
        connect: true,
        unavailable: true,
        ..RetryOn::NEVER
    };
    assert_eq!(pool.policy.retry.on, on);
    assert_eq!(
        pool.policy.limits.in_flight.map(std::num::NonZeroU32::get),
        Some(7)
    );
    assert_eq!(pool.endpoints[0].weight.get(), 9);

    let (part, findings) = run(
        "sekisho.io/health-check: http, sekisho.io/health-check-path: /healthz, sekisho.io/health-check-status: '204'",
        "sekisho.io/affinity: cookie, sekisho.io/affinity-same-site: lax, sekisho.io/affinity-max-age: 1h, sekisho.io/health-check-interval: 1s, sekisho.io/health-check-strict: 'true'",
        "",
    );
    assert!(findings.is_empty(), "{findings:?}");
    let check = part
        .pools
        .values()
        .next()
        .unwrap()
        .policy
        .health_check
        .clone()
        .unwrap();
    let want = sekisho_config::model::HealthCheck {
        probe: sekisho_config::model::Probe::Http {
            path: "/healthz".into(),
            host: None,
            expect: vec![(204, 204)],
        },
        interval: Duration::from_secs(1),
        strict: true,
        ..Default::default()
    };
    assert_eq!(*check, want);
    let affinity = sekisho_config::model::Affinity {
        max_age: Some(Duration::from_hours(1)),
        same_site: Some(sekisho_config::model::SameSite::Lax),
        ..Default::default()
    };
    assert_eq!(
        part.pools.values().next().unwrap().policy.affinity,
        Some(affinity)
    );

    let (part, findings) = run("", "", "");
    assert_eq!(*part.pools.values().next().unwrap().policy, PoolPolicy::default());
    assert!(findings.is_empty());

    for (value, known) in [
        ("hash-by: 'query:'", false),
        ("hash-by: 'query:id'", true),
        ("hash-by: 'header:a b'", false),
        ("hash-by: 'cookie:sid'", true),
        ("hash-by: address", true),
        ("hash-by: addresses", false),
        ("retry-on: ','", false),
        ("retry-on: never", true),
        ("retry-on: 'connect,500'", false),
        ("retry-on: 5xx", true),
        ("max-requests: '0'", false),
        ("max-requests-per-endpoint: '1'", true),
        ("outlier-max-percent: '101'", false),
        ("outlier-errors: '0'", true),
        ("per-try-timeout: 0ms", false),
        ("total-timeout: 90s", true),
        ("weight: '3'", false),
        ("affinity: client-ip", false),
        ("affinity: cookie", true),
        ("affinity-cookie: 'a=b'", false),
        ("affinity-cookie: to_pod", true),
        ("affinity-max-age: '30'", false),
        ("affinity-same-site: Lax", false),
        ("health-check: https", false),
        ("health-check: grpc", true),
        ("health-check-path: healthz", false),
        ("health-check-path: '/a b'", false),
        ("health-check-path: '/healthz?full=1'", true),
        ("health-check-host: 'a/b'", false),
        ("health-check-status: '200-299,401'", true),
        ("health-check-status: '299-200'", false),
        ("health-check-status: ''", false),
        ("health-check-port: '0'", false),
        ("health-check-interval: 10ms", false),
        ("health-check-strict: 'yes'", false),
    ] {
        let (_, findings) = run(&format!("sekisho.io/{value}"), "", "");
        assert_eq!(findings.is_empty(), known, "{value} {findings:?}");
    }
}
