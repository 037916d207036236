use super::{context, lines, run, service};

fn class(name: &str, controller: &str, default: bool) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}, annotations: {{ingressclass.kubernetes.io/is-default-class: \"{default}\"}}}}
spec: {{controller: {controller}}}
"
    )
}

fn ingress(metadata: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: i, namespace: ns{metadata}}}
spec: {{{spec} rules: [{{host: a.b, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]}}
"
    )
}

#[test]
fn whose_ingress_it_is() {
    let ours = class("sekisho", "sekisho.io/ingress-controller", false);
    let default = class("sekisho", "sekisho.io/ingress-controller", true);
    let foreign = class("sekisho", "example.com/other", true);
    let named = ingress("", "ingressClassName: sekisho,");
    let annotated = ingress(", annotations: {kubernetes.io/ingress.class: sekisho}", "");
    let classless = ingress("", "");
    let other = ingress("", "ingressClassName: other,");
    let both = ingress(
        ", annotations: {kubernetes.io/ingress.class: sekisho}",
        "ingressClassName: other,",
    );
    for (what, class, ingress, in_cluster, in_directory) in [
        ("class of ours", &*ours, &named, true, true),
        ("class that does not exist", "", &named, false, true),
        (
            "class of our name and another controller",
            &*foreign,
            &named,
            false,
            false,
        ),
        ("another class", &*ours, &other, false, false),
        ("old annotation", &*ours, &annotated, true, true),
        ("old annotation, no class object", "", &annotated, true, true),
        (
            "the field counts, not the annotation",
            &*ours,
            &both,
            false,
            false,
        ),
        ("no class at all", &*ours, &classless, false, false),
        (
            "no class at all, and ours is the default",
            &*default,
            &classless,
            true,
            true,
        ),
        (
            "no class at all, and another is the default",
            &*foreign,
            &classless,
            false,
            false,
        ),
    ] {
        for (by_name, want) in [(false, in_cluster), (true, in_directory)] {
            let mut context = context();
            context.class_by_name = by_name;
            let (part, _) = run(&format!("{}{class}{ingress}", service("web")), &context);
            assert_eq!(!part.hosts.is_empty(), want, "{what}, class_by_name {by_name}");
        }
    }
}

#[test]
fn a_class_of_ours_that_no_box_serves_is_told() {
    let (_, findings) = run(&class("edge", "sekisho.io/ingress-controller", false), &context());
    assert_eq!(lines(&findings).len(), 1);
    assert!(
        lines(&findings)[0].starts_with("unsupported IngressClass edge spec.controller: "),
        "{findings:?}"
    );
}

#[test]
fn ingresses_that_wait_for_their_class_are_told() {
    let mut context = context();
    context.class_by_name = false;
    let named = ingress("", "ingressClassName: sekisho,");
    for (class, want) in [
        (
            String::new(),
            "invalid_value IngressClass sekisho: does not exist, and 1 Ingresses",
        ),
        (
            class("sekisho", "example.com/x", false),
            "invalid_value IngressClass sekisho: has spec.controller `example.com/x`, and 1 Ingresses",
        ),
    ] {
        let (_, findings) = run(&format!("{class}{named}"), &context);
        assert!(
            matches!(&lines(&findings)[..], [line] if line.starts_with(want)),
            "{findings:?}"
        );
    }
}

#[test]
fn unknown_annotations_are_told() {
    let manifests = service("web")
        + &ingress(
            ", annotations: {sekisho.io/acne: \"true\", example.com/x: y}",
            "ingressClassName: sekisho,",
        );
    let (_, findings) = run(&manifests, &context());
    assert_eq!(
        lines(&findings),
        [
            "unsupported Ingress ns/i metadata.annotations[sekisho.io/acne]: is not known and has no effect; take it out, or look into docs/ingress.md for its name"
        ]
    );
}
