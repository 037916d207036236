use sekisho_config::model::CertificateSource;

use super::super::Context;
use super::{context, lines, run};

/// A Secret with a certificate for these names.
pub(in crate::translate) fn secret(name: &str, names: &[&str]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let indented = |pem: String| {
        pem.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: ns}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indented(certificate.pem()),
        indented(key.serialize_pem())
    )
}

fn ingress(name: &str, acme: Option<&str>, tls: &str, hosts: &[&str]) -> String {
    let annotations = acme.map_or_else(String::new, |value| {
        format!(", annotations: {{sekisho.io/acme: \"{value}\"}}")
    });
    let rules: Vec<String> = hosts.iter().map(|host| format!("{{host: \"{host}\"}}")).collect();
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: ns{annotations}}}
spec: {{ingressClassName: sekisho, tls: [{tls}], rules: [{}]}}
",
        rules.join(", ")
    )
}

/// `host=source` of each TLS host, and the findings.
fn show(manifests: &str, acme: bool) -> (String, Vec<String>) {
    let (part, findings) = run(manifests, &Context { acme, ..context() });
    let text = part.certificates.iter().map(|(host, source)| match &**source {
        CertificateSource::Secret { secret, .. } => format!("{host}={}", secret.name),
        CertificateSource::Acme { names, .. } => {
            format!(
                "{host}=acme({})",
                names
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("+")
            )
        }
        CertificateSource::Placeholder { ingress } => format!("{host}=placeholder({})", ingress.name),
    });
    (text.collect::<Vec<_>>().join(" "), lines(&findings))
}

#[test]
fn from_secrets() {
    let a = secret("a", &["a.x"]);
    let wild = secret("wild", &["*.x"]);
    for (what, manifests, want, finding) in [
        (
            "listed",
            a.clone() + &ingress("i", None, "{hosts: [a.x], secretName: a}", &["a.x"]),
            "a.x=a",
            None,
        ),
        (
            "case does not count",
            a.clone() + &ingress("i", None, "{hosts: [A.X], secretName: a}", &[]),
            "a.x=a",
            None,
        ),
        (
            "a TLS host needs no rule",
            a.clone() + &ingress("i", None, "{hosts: [a.x], secretName: a}", &["b.x"]),
            "a.x=a",
            None,
        ),
        (
            "the wildcard of the certificate covers a host",
            wild.clone() + &ingress("i", None, "{hosts: [a.x], secretName: wild}", &[]),
            "a.x=wild",
            None,
        ),
        (
            "a wildcard host",
            wild.clone() + &ingress("i", None, "{hosts: [\"*.x\"], secretName: wild}", &[]),
            "*.x=wild",
            None,
        ),
        (
            "a rule host that an entry's certificate covers",
            wild.clone() + &ingress("i", None, "{hosts: [b.x], secretName: wild}", &["a.x"]),
            "a.x=wild b.x=wild",
            None,
        ),
        (
            "no hosts listed: those of the rules that the certificate covers",
            a.clone() + &ingress("i", None, "{secretName: a}", &["a.x", "b.x"]),
            "a.x=a",
            None,
        ),
        (
            "never for a host that it does not cover",
            a.clone() + &ingress("i", None, "{hosts: [a.x, b.x], secretName: a}", &[]),
            "a.x=a b.x=placeholder(i)",
            Some(
                "certificate_unusable Ingress ns/i spec.tls[0]: the certificate in Secret ns/a is for a.x, not for b.x",
            ),
        ),
        (
            "a missing Secret disturbs nobody else",
            a.clone()
                + &ingress(
                    "i",
                    None,
                    "{hosts: [b.x], secretName: nope}, {hosts: [a.x], secretName: a}",
                    &[],
                ),
            "a.x=a b.x=placeholder(i)",
            Some(
                "certificate_unusable Ingress ns/i spec.tls[0]: there is no Secret ns/nope of type kubernetes.io/tls",
            ),
        ),
        (
            "an unusable Secret",
            a.replace("tls.key", "tls.kee") + &ingress("i", None, "{hosts: [a.x], secretName: a}", &[]),
            "a.x=placeholder(i)",
            Some(
                "certificate_unusable Ingress ns/i spec.tls[0]: Secret ns/a cannot be used, and its hosts get the placeholder certificate: it has no `tls.key`",
            ),
        ),
        (
            "no Secret named: the placeholder is asked for",
            ingress("i", None, "{hosts: [a.x]}", &[]),
            "a.x=placeholder(i)",
            None,
        ),
        (
            "another usable entry steps in",
            a.clone()
                + &ingress("i", None, "{hosts: [a.x], secretName: nope}", &[])
                + &ingress("j", None, "{hosts: [a.x], secretName: a}", &[]),
            "a.x=a",
            Some("certificate_unusable Ingress ns/i spec.tls[0]"),
        ),
        (
            "the older Ingress wins",
            a.clone()
                + &wild
                + &ingress("i", None, "{hosts: [a.x], secretName: wild}", &[])
                + &ingress("j", None, "{hosts: [a.x], secretName: a}", &[]),
            "a.x=wild",
            Some(
                "conflict Ingress ns/j spec.tls[0]: the certificate of host a.x is chosen by ns/i spec.tls[0]",
            ),
        ),
        (
            "listed before covered by chance",
            a.clone()
                + &wild
                + &ingress("i", None, "{hosts: [z.x], secretName: wild}", &["a.x"])
                + &ingress("j", None, "{hosts: [a.x], secretName: a}", &[]),
            "a.x=a z.x=wild",
            Some("conflict Ingress ns/i spec.tls[0]"),
        ),
        (
            "a bad host",
            a.clone() + &ingress("i", None, "{hosts: [\"*\", a.x], secretName: a}", &[]),
            "a.x=a",
            Some("invalid_value Ingress ns/i spec.tls[0].hosts[0]: "),
        ),
    ] {
        let (text, findings) = show(&manifests, false);
        assert_eq!(text, want, "{what} {findings:?}");
        assert_eq!(
            findings.len(),
            usize::from(finding.is_some()),
            "{what} {findings:?}"
        );
        if let Some(finding) = finding {
            assert!(findings[0].starts_with(finding), "{what} {findings:?}");
        }
    }
}

#[test]
fn a_secret_of_another_namespace_or_type_is_not_seen() {
    for change in [
        ("namespace: ns}\ntype", "namespace: other}\ntype"),
        ("type: kubernetes.io/tls", "type: Opaque"),
    ] {
        let manifests = secret("a", &["a.x"]).replace(change.0, change.1)
            + &ingress("i", None, "{hosts: [a.x], secretName: a}", &[]);
        assert_eq!(show(&manifests, false).0, "a.x=placeholder(i)", "{change:?}");
    }
}

#[test]
fn by_acme() {
    let wild = secret("wild", &["*.x"]);
    for (what, acme, manifests, want, finding) in [
        (
            "one order for each entry",
            true,
            ingress("i", Some("true"), "{hosts: [b.x, a.x]}, {hosts: [c.x]}", &[]),
            "a.x=acme(a.x+b.x) b.x=acme(a.x+b.x) c.x=acme(c.x)",
            None,
        ),
        (
            "no hosts listed: those of the rules",
            true,
            ingress("i", Some("true"), "{secretName: s}", &["a.x"]),
            "a.x=acme(a.x)",
            None,
        ),
        (
            "not asked for",
            true,
            ingress("i", Some("false"), "{hosts: [a.x]}", &[]),
            "a.x=placeholder(i)",
            None,
        ),
        (
            "no CA",
            false,
            ingress("i", Some("true"), "{hosts: [a.x]}", &[]),
            "a.x=placeholder(i)",
            Some(
                "certificate_unusable Ingress ns/i metadata.annotations[sekisho.io/acme]: asks for a certificate by ACME, but",
            ),
        ),
        (
            "nonsense",
            true,
            ingress("i", Some("yes"), "{hosts: [a.x]}", &[]),
            "a.x=placeholder(i)",
            Some(
                "invalid_value Ingress ns/i metadata.annotations[sekisho.io/acme]: has no effect: `yes` is not known",
            ),
        ),
        (
            "no wildcard over HTTP-01; the Secret serves it",
            true,
            wild + &ingress(
                "i",
                Some("true"),
                "{hosts: [\"*.x\", a.x], secretName: wild}",
                &[],
            ),
            "a.x=acme(a.x) *.x=wild",
            Some("unsupported Ingress ns/i spec.tls[0]: ACME over HTTP-01 cannot prove *.x"),
        ),
        (
            "a host of an older Ingress is not ordered",
            true,
            ingress("i", Some("true"), "{hosts: [a.x]}", &[])
                + &ingress("j", Some("true"), "{hosts: [a.x, b.x]}", &[]),
            "a.x=acme(a.x) b.x=acme(b.x)",
            Some("conflict Ingress ns/j spec.tls[0]: "),
        ),
        (
            "without tls",
            true,
            ingress("i", Some("true"), "", &["a.x"]),
            "",
            Some("invalid_value Ingress ns/i metadata.annotations[sekisho.io/acme]: has no effect without"),
        ),
    ] {
        let (text, findings) = show(&manifests, acme);
        assert_eq!(text, want, "{what} {findings:?}");
        assert_eq!(
            findings.len(),
            usize::from(finding.is_some()),
            "{what} {findings:?}"
        );
        if let Some(finding) = finding {
            assert!(findings[0].starts_with(finding), "{what} {findings:?}");
        }
    }
}
