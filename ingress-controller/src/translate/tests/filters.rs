use std::time::Duration;

use sekisho_config::model::{Action, Filters, HostPattern};

use super::{context, ingress, lines, run, service};

/// An Ingress with these annotations and one path, and what becomes of it.
fn filters(annotations: &str) -> (Option<Filters>, Action, Vec<String>) {
    let manifests = ["web", "other"].map(service).concat()
        + &ingress("i", &[("a.b", "Prefix", "/", "web")]).replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        );
    let (part, findings) = run(&manifests, &context());
    let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
    let route = &host.routes[0];
    (
        route.filters.as_deref().cloned(),
        route.action.clone(),
        lines(&findings),
    )
}

#[test]
fn every_annotation_sets_its_filter_alone() {
    for (annotation, name) in [
        ("ssl-redirect: 'true'", "over TLS only"),
        ("maintenance: '503 Back at noon'", "answered by the box"),
        ("redirect-host: new.b", "redirected"),
        ("redirect-path: /x", "redirected"),
        ("redirect-scheme: https", "redirected"),
        ("redirect-port: '8443'", "redirected"),
        (
            "cors-origins: 'https://*.b'",
            "cross-origin requests are answered by the box",
        ),
        ("rewrite-path: /x", "path rewritten"),
        ("rewrite-host: x.b", "host rewritten"),
        ("request-header-set: 'X-A: b: c'", "request headers changed"),
        ("request-header-add: 'X-A: b'", "request headers changed"),
        ("request-header-remove: 'X-A, X-B'", "request headers changed"),
        ("response-header-set: 'X-A: b'", "response headers changed"),
        ("response-header-add: 'X-A: b'", "response headers changed"),
        ("response-header-remove: X-A", "response headers changed"),
        ("connect-timeout: 500ms", "waits of its own"),
        ("response-timeout: 1h", "waits of its own"),
        ("max-body-bytes: 8m", "limit on bodies"),
        ("allow-encoded-slash: 'true'", "%2F may pass"),
        ("compression: 'zstd, br, gzip'", "compression of its own"),
        ("mirror-service: 'other:80'", "mirrored"),
        ("buffer-requests: 1m", "request bodies gathered"),
        ("buffer-responses: 64m", "answers gathered"),
        ("compression: 'off'", "compression of its own"),
        ("compression-min-bytes: 2k", "compression of its own"),
        (
            "compression-types: 'text/*, application/json'",
            "compression of its own",
        ),
    ] {
        let (filters, _, findings) = filters(&format!("sekisho.io/{annotation}"));
        assert_eq!(findings, [""; 0], "{annotation}");
        assert_eq!(filters.unwrap().names(), [name], "{annotation}");
    }
}

#[test]
fn what_cannot_be_done_is_a_finding_and_nothing_else() {
    for annotation in [
        "ssl-redirect: 'yes'",
        "maintenance: '99 x'",
        "maintenance: later",
        "redirect-host: 'a.b/c'",
        "redirect-port: '0'",
        "redirect-status: '200'",
        "redirect-path: '/a?b'",
        "rewrite-path: x",
        "rewrite-path: /$1",
        "rewrite-host: 'a b'",
        "request-header-set: 'Host: evil'",
        "request-header-set: 'Transfer-Encoding: chunked'",
        "request-header-set: \"X-A: b\\u0007\"",
        "request-header-set: 'no colon'",
        "request-header-remove: 'Content-Length'",
        "response-header-add: 'Connection: close'",
        "cors-origins: 'a.b'",
        "cors-methods: PUT",
        "split: 'other=101'",
        "split: 'other=20, other=20'",
        "split: other",
        "response-timeout: '5'",
        "connect-timeout: 0s",
        "max-body-bytes: lots",
        "mirror-service: other",
        "mirror-service: 'other:0'",
        "mirror-service: 'gone:80'",
        "mirror-service: 'other:81'",
        "mirror-service: 'elsewhere/other:80'",
        "mirror-percent: '10'",
        "mirror-percent: '0'",
        "mirror-max-body-bytes: 2m",
        "buffer-requests: '0'",
        "buffer-requests: 65m",
        "buffer-responses: 65m",
        "compression: 'gzip, deflate'",
        "compression: 'gzip, gzip'",
        "compression: 'gzip, off'",
        "compression: ','",
        "compression-min-bytes: small",
        "compression-types: '*/*'",
        "compression-types: ''",
    ] {
        let (filters, action, findings) = filters(&format!("sekisho.io/{annotation}"));
        let place = format!(
            "invalid_value Ingress ns/i metadata.annotations[sekisho.io/{}]",
            annotation.split(':').next().unwrap()
        );
        assert!(
            matches!(&findings[..], [line] if line.starts_with(&place)),
            "{annotation}: {findings:?}"
        );
        assert!(
            filters.is_none_or(|filters| filters.names() == ["path rewritten"]),
            "{annotation}"
        );
        assert!(matches!(action, Action::Forward(_)), "{annotation}");
    }
}

#[test]
fn anybody_may_not_act_in_the_name_of_a_visitor() {
    let (filters, _, findings) = filters("sekisho.io/cors-origins: '*', sekisho.io/cors-credentials: 'true'");
    assert!(!filters.unwrap().cors.unwrap().credentials);
    assert!(
        findings[0].contains("cors-credentials]: has no effect with the origin `*`"),
        "{findings:?}"
    );
}

#[test]
fn a_share_that_leads_nowhere_is_not_given_to_others() {
    let (_, action, findings) = filters("sekisho.io/split: 'other=20, gone=5'");
    let Action::Split(shares) = action else {
        panic!("{action:?}")
    };
    let weights: Vec<u16> = shares.iter().map(|share| share.weight).collect();
    assert_eq!(weights, [75, 20, 5]);
    assert!(matches!(shares[2].action, Action::Unavailable(_)));
    assert!(findings[0].starts_with("backend_missing Ingress ns/i metadata.annotations[sekisho.io/split]"));
}

#[test]
fn maintenance_has_details() {
    let (filters, _, findings) = filters(
        "sekisho.io/maintenance: '503', sekisho.io/maintenance-retry-after: 10m, sekisho.io/maintenance-except: '10.0.0.0/8, 192.0.2.7'",
    );
    assert_eq!(findings, [""; 0]);
    let answer = filters.unwrap().answer.unwrap();
    assert_eq!((answer.status, &*answer.text), (503, ""));
    assert_eq!(answer.retry_after, Some(Duration::from_mins(10)));
    assert_eq!(
        answer.except,
        ["10.0.0.0/8".parse().unwrap(), "192.0.2.7/32".parse().unwrap()]
    );
    for annotation in ["maintenance-retry-after: 10m", "maintenance-except: 10.0.0.0/8"] {
        let (filters, _, findings) = self::filters(&format!("sekisho.io/{annotation}"));
        assert_eq!(filters, None);
        assert!(
            findings[0].contains("has no effect without sekisho.io/maintenance"),
            "{findings:?}"
        );
    }
}

#[test]
fn error_pages_of_a_config_map() {
    let named = |keys: &str| {
        let map = format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: pages, namespace: ns}}, data: {{{keys}}}}}\n"
        );
        let manifests = service("web")
            + &map
            + &ingress("i", &[("a.b", "Prefix", "/", "web")]).replace(
                "namespace: ns}",
                "namespace: ns, annotations: {sekisho.io/error-pages: pages}}",
            );
        let (part, findings) = run(&manifests, &context());
        let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
        let route = host.routes[0].clone();
        assert!(matches!(route.action, Action::Forward(_)), "{route:?}");
        (route.filters.as_deref().cloned(), lines(&findings))
    };
    let (filters, findings) = named("5xx.html: sorry, 404.json: '{}'");
    assert_eq!(findings, [""; 0]);
    let filters = filters.unwrap();
    assert_eq!(filters.names(), ["error pages"]);
    assert_eq!(&*filters.error_pages.unwrap().of(502).unwrap().body, b"sorry");
    // What is no page is told, and takes nothing from the others.
    let (filters, findings) = named("5xx.html: sorry, logo.png: x");
    assert!(filters.unwrap().error_pages.unwrap().of(502).is_some());
    assert!(
        matches!(&findings[..], [line] if line.contains("error-pages]: ConfigMap ns/pages: logo.png: `logo` is not a status")),
        "{findings:?}"
    );
    let (filters, _, findings) = self::filters("sekisho.io/error-pages: nowhere");
    assert_eq!(filters, None);
    assert!(
        matches!(&findings[..], [line] if line.contains("there are no pages") && line.contains("create it")),
        "{findings:?}"
    );
}
