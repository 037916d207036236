use std::time::Duration;

use sekisho_config::model::{Action, Door, HostPattern, LimitBy};

use super::{context, ingress, lines, run, service, world};
use crate::translate::translate;

/// An Ingress with these annotations and one path, and what becomes of it.
fn door(annotations: &str) -> (Door, Action, Vec<String>) {
    let manifests = ["web", "auth"].map(service).concat()
        + &ingress("i", &[("a.b", "Prefix", "/", "web")]).replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        );
    let (part, findings) = run(&manifests, &context());
    let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
    let route = &host.routes[0];
    // Whoever is asked has a pool, too.
    if let Some(pool) = route
        .filters
        .as_ref()
        .and_then(|f| f.door.forward_auth.clone()?.pool)
    {
        assert!(part.pools.contains_key(&pool));
    }
    (
        route.filters.as_deref().cloned().unwrap_or_default().door,
        route.action.clone(),
        lines(&findings),
    )
}

#[test]
fn doors() {
    let (networks, _, findings) =
        door("sekisho.io/allow-networks: '10.0.0.0/8, 192.0.2.1', sekisho.io/deny-networks: '2001:db8::/32'");
    assert_eq!(findings, [""; 0]);
    let texts =
        |list: &[sekisho_config::model::Prefix]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&networks.allow), ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(texts(&networks.deny), ["2001:db8::/32"]);

    let (limits, _, findings) = door(
        "sekisho.io/rate-limit: 600/m, sekisho.io/concurrent-requests: '5', sekisho.io/limit-by: header X-Api-Key",
    );
    assert_eq!(findings, [""; 0]);
    let rate = limits.rate.unwrap();
    assert_eq!(
        (rate.requests, rate.per, rate.burst),
        (600, Duration::from_secs(60), 600)
    );
    assert_eq!(rate.by, LimitBy::Header("x-api-key".into()));
    assert_eq!(limits.concurrent.unwrap().most, 5);

    let (asked, action, findings) = door(
        "sekisho.io/auth-url: 'http://auth/verify', sekisho.io/auth-timeout: 2s, sekisho.io/auth-response-headers: 'X-User, X-Groups'",
    );
    assert_eq!(findings, [""; 0]);
    assert!(matches!(action, Action::Forward(_)));
    let auth = asked.forward_auth.unwrap();
    assert_eq!(auth.pool.unwrap().to_string(), "ns/auth:80");
    assert_eq!((&*auth.path, auth.timeout), ("/verify", Duration::from_secs(2)));
}

#[test]
fn what_cannot_be_read_is_closed() {
    for annotation in [
        "allow-networks: ''",
        "allow-networks: everybody",
        "deny-networks: '10.0.0.0/33'",
        "rate-limit: '10'",
        "rate-limit: 0/s",
        "rate-limit-burst: x",
        "concurrent-requests: '0'",
        "limit-by: cookie",
        "auth-url: 'https://auth/verify'",
        "auth-url: 'http://auth.other.svc/verify'",
        "auth-url: 'http://10.0.0.1/verify'",
        "auth-url: 'http://auth:x/'",
        "auth-response-headers: Host",
        "auth-timeout: never",
        "jwt-jwks: '{}'",
        "jwt-jwks: '{\"keys\": []}'",
        "jwt-jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}'",
        "jwt-jwks: '{\"keys\": [{\"kty\": \"RSA\", \"n\": \"AQAB\"}]}'",
        "jwt-leeway: 1h",
        "jwt-claim-headers: sub",
    ] {
        let (_, action, findings) = door(&format!("sekisho.io/{annotation}"));
        assert!(
            matches!(action, Action::Unavailable(_)),
            "{annotation}: {action:?}"
        );
        let place = format!(
            "invalid_value Ingress ns/i metadata.annotations[sekisho.io/{}]: the paths answer 503: ",
            annotation.split(':').next().unwrap()
        );
        assert!(
            matches!(&findings[..], [line] if line.starts_with(&place)),
            "{annotation}: {findings:?}"
        );
    }
}

#[test]
fn tokens() {
    let keys = r#"sekisho.io/jwt-jwks: '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}]}'"#;
    let (door, action, findings) = door_of(
        keys,
        "sekisho.io/jwt-issuer: x, sekisho.io/jwt-claim-headers: 'sub=X-User'",
    );
    assert_eq!(findings, [""; 0]);
    assert!(matches!(action, Action::Forward(_)));
    let jwt = door.jwt.unwrap();
    assert_eq!(jwt.claims, [("sub".into(), "x-user".into())]);
    // Whoever writes an issuer means that tokens are asked for.
    let (_, action, findings) = door_of("sekisho.io/jwt-issuer: x", "sekisho.io/jwt-leeway: 5s");
    assert!(matches!(action, Action::Unavailable(_)));
    assert!(findings[0].contains("jwt-jwks]: is missing"), "{findings:?}");
}

fn door_of(one: &str, other: &str) -> (Door, Action, Vec<String>) {
    door(&format!("{one}, {other}"))
}

#[test]
fn who_cannot_be_asked_says_no() {
    let (asked, _, findings) = door("sekisho.io/auth-url: 'http://gone:8080/'");
    assert_eq!(asked.forward_auth.unwrap().pool, None);
    assert!(
        findings[0].starts_with("backend_missing Ingress ns/i metadata.annotations[sekisho.io/auth-url]"),
        "{findings:?}"
    );
}

const HASH: &str = "$2y$05$./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmno";

/// A Secret of the namespace `ns` with this file `auth`.
fn users(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: ns}}\ntype: Opaque\nstringData:\n  auth: |\n{lines}"
    )
}

fn door_with(objects: &str, annotations: &str) -> (Door, Action, Vec<String>) {
    let manifests = service("web")
        + objects
        + &ingress("i", &[("a.b", "Prefix", "/", "web")]).replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        );
    let (part, findings) = run(&manifests, &context());
    let route = &part
        .hosts
        .get(&"a.b".parse::<HostPattern>().unwrap())
        .unwrap()
        .routes[0];
    (
        route.filters.as_deref().cloned().unwrap_or_default().door,
        route.action.clone(),
        lines(&findings),
    )
}

#[test]
fn names_and_passwords() {
    let (ann, bob) = (format!("ann:{HASH}"), format!("bob:{HASH}:comment"));
    let (door, action, findings) = door_with(
        &users(&["# comment", &ann, &bob]),
        "sekisho.io/auth-basic-secret: users, sekisho.io/auth-basic-realm: Back office, sekisho.io/auth-basic-strip: 'true', \
         sekisho.io/auth-basic-user-header: X-User",
    );
    assert_eq!(findings, [""; 0]);
    assert!(matches!(action, Action::Forward(_)));
    let basic = door.basic.unwrap();
    assert_eq!(
        (basic.users.len(), &*basic.realm, basic.strip),
        (2, "Back office", true)
    );
    assert_eq!(basic.user_header.as_deref(), Some("x-user"));
    // One line that cannot be used keeps one user out.
    let (door, action, findings) = door_with(
        &users(&[&ann, "bob:$apr1$salt$0123456789012345678901"]),
        "sekisho.io/auth-basic-secret: users",
    );
    assert!(matches!(action, Action::Forward(_)));
    assert_eq!(door.basic.unwrap().users.len(), 1);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0].starts_with(
            "reference_unusable Ingress ns/i metadata.annotations[sekisho.io/auth-basic-secret]: line 2 of `auth` in Secret \
             ns/users lets nobody in: its hash is made with MD5"
        ),
        "{findings:?}"
    );
}

#[test]
fn without_its_users_a_path_is_closed() {
    let ann = format!("ann:{HASH}");
    let elsewhere = users(&[&ann]).replace("namespace: ns", "namespace: other");
    let named = "sekisho.io/auth-basic-secret: users";
    for (objects, annotations, want) in [
        (
            String::new(),
            named,
            "the paths answer 503: there is no Secret ns/users; create it",
        ),
        (
            elsewhere.clone(),
            named,
            "the paths answer 503: there is no Secret ns/users; create it",
        ),
        (
            elsewhere,
            "sekisho.io/auth-basic-secret: other/users",
            "those of other namespaces are never read",
        ),
        (
            users(&[&ann]).replace("auth:", "other:"),
            named,
            "has no key `auth`",
        ),
        (users(&["# nobody"]), named, "has no user who may come in"),
        (
            users(&["ann:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="]),
            named,
            "has no user who may come in",
        ),
        (
            users(&[&ann]),
            "sekisho.io/auth-basic-realm: x",
            "is missing beside others about passwords",
        ),
        (
            users(&[&ann]),
            "sekisho.io/auth-basic-secret: users, sekisho.io/auth-basic-realm: 'a\"b'",
            "printable ASCII",
        ),
        (
            users(&[&ann]),
            "sekisho.io/auth-basic-secret: users, sekisho.io/jwt-jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"AQAB\"}]}'",
            "one Authorization for both",
        ),
    ] {
        let (_, action, findings) = door_with(&objects, annotations);
        assert!(
            matches!(action, Action::Unavailable(_)),
            "{annotations}: {action:?}"
        );
        assert!(
            findings.iter().any(|line| line.contains(want)),
            "{want}: {findings:?}"
        );
        assert!(!findings.concat().contains("0DPiKuNIrr"), "{findings:?}");
    }
}

/// A CA in PEM form.
fn ca(name: &str) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name.to_owned());
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

fn object(kind: &str, name: &str, key: &str, text: &str) -> String {
    let data = if kind == "Secret" { "stringData" } else { "data" };
    let text = text.replace('\n', "\n    ");
    format!(
        "\n---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns}}\n{data}:\n  {key}: |\n    {text}\n"
    )
}

#[test]
fn certificates_of_clients() {
    let (one, other) = (
        object("Secret", "one", "ca.crt", &ca("one")),
        object("Secret", "other", "ca.crt", &ca("other")),
    );
    let (door, action, findings) = door_with(
        &one,
        "sekisho.io/client-ca-secret: one, sekisho.io/client-verify: optional, sekisho.io/client-verify-depth: '1', \
         sekisho.io/client-cert-forward: 'true'",
    );
    assert_eq!(findings, [""; 0]);
    assert!(matches!(action, Action::Forward(_)));
    let auth = door.client_auth.unwrap();
    assert_eq!(
        (auth.cas.roots.len(), auth.required, auth.depth, auth.forward),
        (1, false, 1, true)
    );
    let (door, ..) = door_with(&one, "sekisho.io/client-ca-secret: one");
    let auth = door.client_auth.unwrap();
    assert_eq!((auth.required, auth.depth, auth.forward), (true, 3, false));
    for (objects, annotations, want) in [
        (
            String::new(),
            "sekisho.io/client-ca-secret: one",
            "there is no Secret ns/one",
        ),
        (
            object("Secret", "one", "auth", "x"),
            "sekisho.io/client-ca-secret: one",
            "it has no key `ca.crt`",
        ),
        (
            object("Secret", "one", "ca.crt", "x"),
            "sekisho.io/client-ca-secret: one",
            "holds no certificate",
        ),
        (
            format!("{}\n  ca.crl: x\n", one.trim_end()),
            "sekisho.io/client-ca-secret: one",
            "`ca.crl` holds no revocation list",
        ),
        (
            one.clone(),
            "sekisho.io/client-verify: optional",
            "is missing beside others",
        ),
        (
            one.clone(),
            "sekisho.io/client-ca-secret: one, sekisho.io/client-verify: maybe",
            "is not known",
        ),
        (
            one.clone(),
            "sekisho.io/client-ca-secret: one, sekisho.io/client-verify-depth: '9'",
            "from 1 to 8",
        ),
    ] {
        let (_, action, findings) = door_with(&objects, annotations);
        assert!(
            matches!(action, Action::Unavailable(_)),
            "{annotations}: {action:?}"
        );
        assert!(
            findings.iter().any(|line| line.contains(want)),
            "{want}: {findings:?}"
        );
    }
    // A handshake asks for certificates of one kind: the older Ingress says which.
    let annotated = |name: &str, path: &str, secret: &str| {
        ingress(name, &[("a.b", "Prefix", path, "web")]).replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{sekisho.io/client-ca-secret: {secret}}}}}"),
        )
    };
    let manifests = service("web")
        + &one
        + &other
        + &annotated("a", "/a", "one")
        + &annotated("b", "/b/longer", "other")
        + &annotated("c", "/c", "one")
        + &ingress("d", &[("a.b", "Prefix", "/d", "web")]);
    let (part, findings) = run(&manifests, &context());
    let host = part.hosts.get(&"a.b".parse::<HostPattern>().unwrap()).unwrap();
    for route in &host.routes {
        let closed = matches!(route.action, Action::Unavailable(_));
        assert_eq!(closed, &*route.id.ingress.name == "b", "{route:?}");
    }
    assert!(
        findings.len() == 1 && lines(&findings)[0].starts_with("conflict Ingress ns/b metadata.annotations[sekisho.io/client-ca-secret]: for host a.b the older Ingress ns/a"),
        "{findings:?}"
    );
}

#[test]
fn keys_from_an_object() {
    let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}]}"#;
    for (kind, annotation) in [
        ("Secret", "jwt-jwks-secret"),
        ("ConfigMap", "jwt-jwks-config-map"),
    ] {
        let named = format!("sekisho.io/{annotation}: keys");
        let (door, action, findings) = door_with(&object(kind, "keys", "jwks", keys), &named);
        assert_eq!(findings, [""; 0]);
        assert!(matches!(action, Action::Forward(_)));
        assert!(door.jwt.unwrap().keys.contains("AQAB"));
        let both = format!("{named}, sekisho.io/jwt-jwks: '{keys}'");
        for (objects, annotations, want) in [
            (String::new(), &named, "; create it"),
            (object(kind, "keys", "auth", keys), &named, "it has no key `jwks`"),
            (object(kind, "keys", "jwks", "hunter2"), &named, "it is not JSON"),
            (
                object(kind, "keys", "jwks", r#"{"keys": [{"kty": "oct", "k": "AQAB"}]}"#),
                &named,
                "a private key or a secret",
            ),
            (
                object(kind, "keys", "jwks", keys),
                &both,
                "in another annotation as well",
            ),
        ] {
            let (_, action, findings) = door_with(&objects, annotations);
            assert!(
                matches!(action, Action::Unavailable(_)),
                "{annotations}: {action:?}"
            );
            assert!(
                findings.iter().any(|line| line.contains(want)),
                "{want}: {findings:?}"
            );
            assert!(!findings.concat().contains("hunter2"), "{findings:?}");
        }
    }
}

#[test]
fn keys_from_a_url() {
    let url = "https://id.example.com/keys";
    let keys = r#"{"keys":[{"crv":"Ed25519","kty":"OKP","x":"AQAB"}]}"#;
    let set = |keys: Option<&str>, error: Option<&str>| crate::KeySet {
        keys: keys.map(Into::into),
        error: error.map(Into::into),
    };
    let named = format!("sekisho.io/jwt-jwks-url: '{url}'");
    let both = format!("{named}, sekisho.io/jwt-jwks: '{keys}'");
    let bad = "sekisho.io/jwt-jwks-url: http://id.example.com/keys".to_owned();
    for (known, annotations, open, want) in [
        (Some(set(Some(keys), None)), &named, true, ""),
        (
            Some(set(Some(keys), Some("it is away"))),
            &named,
            true,
            "the keys of before stay in use: https://id.example.com/keys: it is away",
        ),
        (
            Some(set(None, Some("it is away"))),
            &named,
            false,
            "the paths answer 503: https://id.example.com/keys: it is away",
        ),
        (None, &named, false, "it has not been fetched yet"),
        (
            Some(set(Some(keys), None)),
            &both,
            false,
            "in another annotation as well",
        ),
        (None, &bad, false, "is not an https URL"),
    ] {
        let manifests = service("web")
            + &ingress("i", &[("a.b", "Prefix", "/", "web")]).replace(
                "namespace: ns}",
                &format!("namespace: ns, annotations: {{{annotations}}}}}"),
            );
        let mut world = world(&manifests);
        let wanted = crate::translate::key_set_urls(&world, &context());
        assert_eq!(wanted.contains(url), *annotations != bad, "{annotations}");
        if let Some(known) = known {
            world.key_sets.insert(url.into(), known);
        }
        let (translation, findings) = translate(&world, &context());
        let host = &translation.part.hosts[&"a.b".parse::<HostPattern>().unwrap()];
        let route = &host.routes[0];
        assert_eq!(matches!(route.action, Action::Forward(_)), open, "{annotations}");
        let door = route.filters.as_deref().cloned().unwrap_or_default().door;
        assert_eq!(
            door.jwt.map(|jwt| jwt.keys.contains("AQAB")),
            open.then_some(true),
            "{annotations}"
        );
        let findings = lines(&findings);
        assert_eq!(findings.is_empty(), want.is_empty(), "{findings:?}");
        assert!(findings.concat().contains(want), "{want}: {findings:?}");
    }
}
