use std::time::Duration;

use proptest::prelude::*;

use super::*;

const PAGE: &str = include_str!("../../../../docs/ingress.md");
const BEGINS: &str = "<!-- annotations -->\n";
const ENDS: &str = "<!-- end of annotations -->";

/// With `SEKISHO_WRITE_DOCS=1` in the environment the page is written anew.
#[test]
fn the_page_lists_exactly_the_reference() {
    let (before, rest) = PAGE.split_once(BEGINS).unwrap();
    let (listed, after) = rest.split_once(ENDS).unwrap();
    if listed == reference() {
        return;
    }
    if std::env::var_os("SEKISHO_WRITE_DOCS").is_some() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ingress.md");
        std::fs::write(path, [before, BEGINS, &reference(), ENDS, after].concat()).unwrap();
        return;
    }
    assert_eq!(
        listed,
        reference(),
        "run: SEKISHO_WRITE_DOCS=1 cargo test -p sekisho-ingress-controller the_page_lists"
    );
}

#[test]
fn names_are_unique_and_ours() {
    let mut names: Vec<&str> = rows().map(|row| row.name()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for row in rows() {
        assert!(row.name().starts_with(ANNOTATION_PREFIX) || row.name() == crate::CLASS_ANNOTATION);
        assert!(!row.on().is_empty() && !row.values().contains('\n') && !row.does().contains('\n'));
    }
}

#[test]
fn what_is_wrong_is_said_once() {
    let name = ObjectName::new("ns", "web");
    for (kind, key, value, want) in [
        (Kind::Ingress, "sekisho.io/acme", "true", None),
        (
            Kind::Ingress,
            "sekisho.io/acme",
            "yes",
            Some("has no effect: `yes` is not known; write true or false"),
        ),
        (
            Kind::Service,
            "sekisho.io/acme",
            "true",
            Some("has no effect on a Service; write it on the Ingress"),
        ),
        (
            Kind::Service,
            "sekisho.io/Balance",
            "x",
            Some("is not known and has no effect; did you mean sekisho.io/balance?"),
        ),
        (
            Kind::Ingress,
            "sekisho.io/mystery",
            "x",
            Some("is not known and has no effect; take it out, or look into docs/ingress.md for its name"),
        ),
        (Kind::Ingress, "other.io/acme", "x", None),
    ] {
        let mut findings = Findings::default();
        let annotations = [(key.into(), value.into())].into();
        check(kind, &name, &annotations, &mut findings);
        let findings = findings.into_vec();
        assert!(findings.len() <= 1);
        let got = findings.first().map(|finding| finding.message.as_str());
        assert_eq!(got, want, "{key}: {value}");
    }
}

#[test]
fn values() {
    let (least, most) = (Duration::from_millis(1), Duration::from_hours(1));
    for (text, want) in [
        ("5s", Some(5000)),
        ("500ms", Some(500)),
        ("1h", Some(3_600_000)),
        ("0s", None),
        ("2h", None),
        ("5", None),
        ("s", None),
        ("-1s", None),
        ("99999999999999999999h", None),
    ] {
        let got = read::duration(text, least, most)
            .ok()
            .map(|time| time.as_millis());
        assert_eq!(got, want, "{text}");
    }
    for (text, want) in [
        ("0", Some(0)),
        ("8m", Some(8 << 20)),
        ("64k", Some(65536)),
        ("1g", Some(1 << 30)),
        ("8 m", None),
        ("m", None),
        ("18446744073709551615g", None),
    ] {
        assert_eq!(read::size(text).ok(), want, "{text}");
    }
}

proptest! {
    /// Whatever stands in an annotation, reading it panics nowhere and its error is one printable line.
    #[test]
    fn any_value_is_safe(value in "\\PC{0,64}|[a-z0-9=,;/. :~*%$()\n\"-]{0,48}") {
        for row in rows() {
            if let Err(message) = row.check(&value) {
                prop_assert!(!message.contains(['\n', '\r', '\u{1b}']), "{}: {message:?}", row.name());
            }
        }
    }
}
