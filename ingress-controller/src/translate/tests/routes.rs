use sekisho_config::model::{Action, HostPattern, PoolId};

use super::{context, find, ingress, lines, run, service};

/// The Service that takes the request, or the reason why none does, or nothing.
fn taken_by(manifests: &str, host: &str, path: &str) -> String {
    let (part, _) = run(manifests, &context());
    match find(&part, host, path).map(|route| route.action.clone()) {
        None => "404".to_owned(),
        Some(Action::Forward(PoolId { service, port })) => format!("{}:{port}", service.name),
        Some(Action::Split(shares)) => format!("{shares:?}"),
        Some(Action::Unavailable(why)) => format!("503 {why}"),
    }
}

/// Every row of the table of path types in the Ingress documentation.
#[test]
fn path_types() {
    for (rules, request, want) in [
        (&[("Prefix", "/")][..], "/any/thing", "s0:80"),
        (&[("Exact", "/foo")], "/foo", "s0:80"),
        (&[("Exact", "/foo")], "/bar", "404"),
        (&[("Exact", "/foo")], "/foo/", "404"),
        (&[("Exact", "/foo")], "/FOO", "404"),
        (&[("Exact", "/foo/")], "/foo", "404"),
        (&[("Prefix", "/foo")], "/foo", "s0:80"),
        (&[("Prefix", "/foo")], "/foo/", "s0:80"),
        (&[("Prefix", "/foo/")], "/foo", "s0:80"),
        (&[("Prefix", "/foo/")], "/foo/", "s0:80"),
        (&[("Prefix", "/foo/")], "/foo/bar", "s0:80"),
        (&[("Prefix", "/aaa/bb")], "/aaa/bbb", "404"),
        (&[("Prefix", "/aaa/bbb/")], "/aaa/bbb", "s0:80"),
        (&[("Prefix", "/aaa/bbb")], "/aaa/bbb/", "s0:80"),
        (&[("Prefix", "/aaa/bbb")], "/aaa/bbb/ccc", "s0:80"),
        (&[("Prefix", "/aaa/bbb")], "/aaa/bbbxyz", "404"),
        (
            &[("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")],
            "/aaa/ccc",
            "s1:80",
        ),
        (
            &[("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")],
            "/aaa/bbb",
            "s2:80",
        ),
        (
            &[("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")],
            "/ccc",
            "s0:80",
        ),
        (&[("Prefix", "/aaa")], "/ccc", "404"),
        (&[("Prefix", "/foo"), ("Exact", "/foo")], "/foo", "s1:80"),
        (&[("Prefix", "/foo"), ("Exact", "/foo")], "/foo/", "s0:80"),
        (&[("Prefix", "/foo"), ("Prefix", "/foo/")], "/foo/", "s1:80"),
        (&[("Prefix", "/foo/"), ("Exact", "/foo")], "/foo", "s1:80"),
        (&[("Exact", "/foo/"), ("Prefix", "/foo/")], "/foo/", "s0:80"),
        (&[("ImplementationSpecific", "/foo")], "/foo/bar", "s0:80"),
        (&[("ImplementationSpecific", "")], "/foo/bar", "s0:80"),
    ] {
        let mut manifests = String::new();
        let services: Vec<String> = (0..rules.len()).map(|index| format!("s{index}")).collect();
        let rules: Vec<_> = rules
            .iter()
            .zip(&services)
            .map(|((kind, path), name)| ("a.b", *kind, *path, name.as_str()))
            .collect();
        services
            .iter()
            .for_each(|name| manifests.push_str(&service(name)));
        manifests.push_str(&ingress("i", &rules));
        assert_eq!(taken_by(&manifests, "a.b", request), want, "{rules:?} {request}");
        // The order in which the rules stand does not matter.
        let reversed: Vec<_> = rules.iter().rev().copied().collect();
        let mut manifests: String = services.iter().map(|name| service(name)).collect();
        manifests.push_str(&ingress("i", &reversed));
        assert_eq!(
            taken_by(&manifests, "a.b", request),
            want,
            "reversed {rules:?} {request}"
        );
    }
}

#[test]
fn hosts() {
    let manifests = ["none", "wild", "exact"].map(service).concat()
        + &ingress(
            "i",
            &[
                ("", "Prefix", "/", "none"),
                ("*.foo.com", "Prefix", "/", "wild"),
                ("bar.foo.com", "Prefix", "/x", "exact"),
            ],
        );
    for (host, path, want) in [
        ("bar.foo.com", "/x", "exact:80"),
        ("BAR.foo.com", "/x", "exact:80"),
        // A host that is named does not fall back to the wildcard.
        ("bar.foo.com", "/y", "404"),
        ("other.foo.com", "/x", "wild:80"),
        ("a.b.foo.com", "/x", "none:80"),
        ("foo.com", "/x", "none:80"),
    ] {
        assert_eq!(taken_by(&manifests, host, path), want, "{host} {path}");
    }
}

#[test]
fn a_bad_host_or_path_is_left_out_and_never_becomes_every_host() {
    for (rule, place) in [
        (("*", "Prefix", "/", "web"), "spec.rules[0].host"),
        (("10.0.0.1", "Prefix", "/", "web"), "spec.rules[0].host"),
        (("a.b:80", "Prefix", "/", "web"), "spec.rules[0].host"),
        (("x.*.b", "Prefix", "/", "web"), "spec.rules[0].host"),
        (
            ("bad.b", "Prefix", "foo", "web"),
            "spec.rules[0].http.paths[0].path",
        ),
        (("bad.b", "Exact", "", "web"), "spec.rules[0].http.paths[0].path"),
        (
            ("bad.b", "Exact", "/a//b", "web"),
            "spec.rules[0].http.paths[0].path",
        ),
        (
            ("bad.b", "Exact", "/a/../b", "web"),
            "spec.rules[0].http.paths[0].path",
        ),
        (
            ("bad.b", "Exact", "/a?b=c", "web"),
            "spec.rules[0].http.paths[0].path",
        ),
        (
            ("bad.b", "Sometimes", "/", "web"),
            "spec.rules[0].http.paths[0].pathType",
        ),
    ] {
        let manifests = service("web") + &ingress("i", &[rule, ("good.b", "Prefix", "/", "web")]);
        assert_eq!(taken_by(&manifests, "good.b", "/"), "web:80", "{rule:?}");
        assert_eq!(taken_by(&manifests, "bad.b", "/"), "404", "{rule:?}");
        let (_, findings) = run(&manifests, &context());
        assert!(
            lines(&findings)
                .iter()
                .any(|line| line.starts_with(&format!("invalid_value Ingress ns/i {place}"))),
            "{rule:?} {findings:?}"
        );
    }
}

#[test]
fn the_older_ingress_wins_a_path_and_the_loser_is_told() {
    let dated = |name: &str, date: &str, service: &str| {
        ingress(name, &[("a.b", "Prefix", "/", service)]).replace(
            "namespace: ns}",
            &format!("namespace: ns, creationTimestamp: {date}}}"),
        )
    };
    let services = service("old") + &service("new");
    let manifests = format!(
        "{services}{}{}",
        dated("a-new", "\"2026-02-01T00:00:00Z\"", "new"),
        dated("z-old", "\"2026-01-01T00:00:00Z\"", "old")
    );
    assert_eq!(taken_by(&manifests, "a.b", "/"), "old:80");
    let (_, findings) = run(&manifests, &context());
    assert_eq!(
        lines(&findings),
        [
            "conflict Ingress ns/a-new spec.rules[0].http.paths[0]: host a.b path Prefix / belongs to the older Ingress ns/z-old[0.0]; remove one of the two"
        ]
    );
    // Without dates the name decides, and an Ingress with a date is older than one without.
    let undated = format!(
        "{services}{}{}",
        ingress("b", &[("a.b", "Prefix", "/", "new")]),
        ingress("a", &[("a.b", "Prefix", "/", "old")])
    );
    assert_eq!(taken_by(&undated, "a.b", "/"), "old:80");
    let mixed = format!(
        "{services}{}{}",
        ingress("a", &[("a.b", "Prefix", "/", "new")]),
        dated("b", "\"2026-01-01T00:00:00Z\"", "old")
    );
    assert_eq!(taken_by(&mixed, "a.b", "/"), "old:80");
}

#[test]
fn different_paths_of_one_host_merge() {
    let manifests = service("a")
        + &service("b")
        + &ingress("one", &[("h.x", "Prefix", "/a", "a")])
        + &ingress("two", &[("h.x", "Prefix", "/b", "b")]);
    assert_eq!(taken_by(&manifests, "h.x", "/a"), "a:80");
    assert_eq!(taken_by(&manifests, "h.x", "/b"), "b:80");
    assert_eq!(run(&manifests, &context()).1, []);
}

#[test]
fn default_backends() {
    let only = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: all, namespace: ns}
spec: {ingressClassName: sekisho, defaultBackend: {service: {name: all, port: {number: 80}}}}
";
    let with_rules = ingress("some", &[("a.b", "Prefix", "/x", "web")]).replace(
        "spec:\n",
        "spec:\n  defaultBackend: {service: {name: some, port: {number: 80}}}\n",
    );
    let manifests = ["all", "some", "web"].map(service).concat() + only + &with_rules;
    for (host, path, want) in [
        ("a.b", "/x", "web:80"),
        ("a.b", "/y", "some:80"),
        ("other.b", "/", "all:80"),
    ] {
        assert_eq!(taken_by(&manifests, host, path), want, "{host} {path}");
    }
    // A rule without paths sends its host to the default backend.
    let host_only = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: host-only, namespace: ns}
spec: {ingressClassName: sekisho, defaultBackend: {service: {name: all, port: {number: 80}}}, rules: [{host: h.x}]}
";
    assert_eq!(taken_by(&(service("all") + host_only), "h.x", "/y"), "all:80");
    assert_eq!(taken_by(&(service("all") + host_only), "other.x", "/y"), "404");
}

#[test]
fn a_backend_that_cannot_be_resolved_answers_503_and_disturbs_nobody() {
    let other = service("web") + &ingress("good", &[("good.b", "Prefix", "/", "web")]);
    let bad = |backend: &str| {
        format!(
            "{other}
---
apiVersion: v1
kind: Service
metadata: {{name: external, namespace: ns}}
spec: {{type: ExternalName, externalName: localhost}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: bad, namespace: ns}}
spec: {{ingressClassName: sekisho, rules: [{{host: a.b, http: {{paths: [{{path: /x, pathType: Prefix, backend: {backend}}}, {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}
"
        )
    };
    for (backend, want, kind) in [
        (
            "{service: {name: nope, port: {number: 80}}}",
            "503 Service ns/nope does not exist",
            "backend_missing",
        ),
        (
            "{service: {name: web, port: {number: 81}}}",
            "503 Service ns/web has no port 81",
            "backend_missing",
        ),
        (
            "{service: {name: web, port: {name: nope}}}",
            "503 Service ns/web has no port nope",
            "backend_missing",
        ),
        (
            "{service: {name: web, port: {}}}",
            "503 Service ns/web has no port (neither a number nor a name)",
            "backend_missing",
        ),
        (
            "{service: {name: web}}",
            "503 Service ns/web has no port (neither a number nor a name)",
            "backend_missing",
        ),
        (
            "{service: {name: external, port: {number: 80}}}",
            "503 Service ns/external is of type ExternalName",
            "unsupported",
        ),
        (
            "{resource: {apiGroup: k8s.example.com, kind: Bucket, name: icons}}",
            "503 the backend is a resource, not a Service",
            "unsupported",
        ),
        (
            "{}",
            "503 the backend is a resource, not a Service",
            "invalid_value",
        ),
    ] {
        let manifests = bad(backend);
        // It does not fall through to `/`.
        assert_eq!(taken_by(&manifests, "a.b", "/x"), want, "{backend}");
        assert_eq!(taken_by(&manifests, "a.b", "/y"), "web:80", "{backend}");
        assert_eq!(taken_by(&manifests, "good.b", "/"), "web:80", "{backend}");
        let (_, findings) = run(&manifests, &context());
        let lines = lines(&findings);
        assert!(
            matches!(&lines[..], [line] if line.starts_with(&format!("{kind} Ingress ns/bad spec.rules[0].http.paths[0].backend: "))),
            "{backend} {lines:?}"
        );
    }
}

/// The Ingress `name` with these annotations.
fn annotated(name: &str, annotations: &str, rules: &[(&str, &str, &str, &str)]) -> String {
    ingress(name, rules).replace(
        "namespace: ns}",
        &format!("namespace: ns, annotations: {{{annotations}}}}}"),
    )
}

#[test]
fn regular_expressions_where_they_are_asked_for() {
    let manifests = ["web", "re", "long"].map(service).concat()
        + &ingress(
            "a",
            &[
                ("a.b", "Prefix", "/", "web"),
                ("a.b", "Prefix", "/api/v1/x", "long"),
            ],
        )
        + &annotated(
            "b",
            "sekisho.io/use-regex: 'true'",
            &[
                ("a.b", "ImplementationSpecific", "/api/v[0-9]+(/.*)?", "re"),
                ("a.b", "ImplementationSpecific", "/broken(", "re"),
                ("a.b", "Prefix", "/plain[0-9]", "re"),
            ],
        );
    for (path, want) in [
        ("/api/v1", "re:80"),
        ("/api/v22/users", "re:80"),
        ("/api/v1/x", "long:80"),
        ("/api/v", "web:80"),
        ("/broken(", "web:80"),
        ("/plain[0-9]", "re:80"),
    ] {
        assert_eq!(taken_by(&manifests, "a.b", path), want, "{path}");
    }
    let (_, findings) = run(&manifests, &context());
    let lines = lines(&findings);
    assert!(
        matches!(&lines[..], [line] if line.starts_with(
            "invalid_value Ingress ns/b spec.rules[1].http.paths[0].path: the path is left out: `/broken(` is not a regular expression"
        )),
        "{lines:?}"
    );
}

#[test]
fn the_same_path_with_other_conditions() {
    let rules = |service: &'static str| [("a.b", "Prefix", "/", service)];
    let manifests = ["plain", "post", "canary", "both", "late"].map(service).concat()
        + &ingress("a", &rules("plain"))
        + &annotated("b", "sekisho.io/match-method: POST", &rules("post"))
        + &annotated("c", "sekisho.io/match-header: 'X-Canary=yes'", &rules("canary"))
        + &annotated(
            "d",
            "sekisho.io/match-header: \"x-canary=yes\\nx-user~[a-z]+\", sekisho.io/match-query: '!debug'",
            &rules("both"),
        )
        + &annotated("e", "sekisho.io/match-header: 'x-canary=yes'", &rules("late"));
    let (part, findings) = run(&manifests, &context());
    let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
    let routes: Vec<String> = host
        .routes
        .iter()
        .map(|route| format!("{} {}", route.id.ingress.name, route.conditions))
        .collect();
    assert_eq!(
        routes,
        [
            "b method POST",
            "d header x-canary=yes, header x-user~[a-z]+, query !debug",
            "c header x-canary=yes",
            "a "
        ]
    );
    let lines = lines(&findings);
    assert!(
        matches!(&lines[..], [line] if line.starts_with(
            "conflict Ingress ns/e spec.rules[0].http.paths[0]: host a.b path Prefix / with the same conditions belongs to"
        )),
        "{lines:?}"
    );
}

#[test]
fn a_condition_that_cannot_be_read_takes_nothing_away() {
    for (annotation, value) in [
        ("match-method", "get"),
        ("match-method", ""),
        ("match-header", "under_score=1"),
        ("match-header", "x-a~("),
        ("match-query", "=1"),
    ] {
        let manifests = service("web")
            + &annotated(
                "i",
                &format!("sekisho.io/{annotation}: '{value}'"),
                &[("a.b", "Prefix", "/", "web")],
            );
        let (part, findings) = run(&manifests, &context());
        let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
        assert!(host.routes.is_empty(), "{annotation} {value}");
        let place = format!("invalid_value Ingress ns/i metadata.annotations[sekisho.io/{annotation}]");
        assert!(
            lines(&findings).iter().any(|line| line.starts_with(&place)),
            "{findings:?}"
        );
    }
}

#[test]
fn a_regular_expression_is_told_and_read_as_it_stands() {
    let manifests =
        service("web") + &ingress("i", &[("a.b", "ImplementationSpecific", "/foo(/|$)(.*)", "web")]);
    let (_, findings) = run(&manifests, &context());
    assert!(
        lines(&findings)[0].starts_with(
            "unsupported Ingress ns/i spec.rules[0].http.paths[0].path: `/foo(/|$)(.*)` looks like a regular"
        ),
        "{findings:?}"
    );
}
