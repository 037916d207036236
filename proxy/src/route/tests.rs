use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use sekisho_config::model::{
    Action, Conditions, FieldCondition, ObjectName, PathMatch, Pattern, Route, RouteId, Unavailable,
    ValueMatch, VirtualHost,
};

use super::*;
use crate::fields::Fields;

fn route(index: u32, path: PathMatch, conditions: Conditions) -> Route {
    Route {
        id: RouteId {
            ingress: ObjectName::new("ns", "web"),
            place: Some((0, index)),
        },
        path,
        conditions,
        filters: None,
        action: Action::Unavailable(Unavailable::UnsupportedBackend),
    }
}

fn host(pattern: &str, rules: &[PathMatch], fallback: bool) -> CompiledHost {
    let routes = rules
        .iter()
        .zip(0..)
        .map(|(rule, index)| route(index, rule.clone(), Conditions::default()))
        .collect();
    let fallback = fallback.then(|| route(999, PathMatch::Prefix("/".into()), Conditions::default()));
    CompiledHost::compile(&Arc::new(VirtualHost {
        host: pattern.parse().unwrap(),
        routes,
        fallback,
    }))
}

fn rule(text: &str) -> PathMatch {
    if let Some(path) = text.strip_prefix('=') {
        PathMatch::Exact(path.into())
    } else if let Some(pattern) = text.strip_prefix('~') {
        PathMatch::Regex(pattern.parse().unwrap())
    } else {
        PathMatch::Prefix(text.into())
    }
}

/// The table of the Ingress documentation. Rules are in order of precedence; `=` is Exact, `~` a regular expression.
#[test]
fn paths() {
    for (rules, path, want) in [
        (&["/"][..], "/any/thing", Some("/")),
        (&["=/foo"], "/foo", Some("=/foo")),
        (&["=/foo"], "/bar", None),
        (&["=/foo"], "/foo/", None),
        (&["=/foo"], "/FOO", None),
        (&["=/foo/"], "/foo", None),
        (&["/foo"], "/foo", Some("/foo")),
        (&["/foo"], "/foo/", Some("/foo")),
        (&["/foo/"], "/foo", Some("/foo/")),
        (&["/foo/"], "/foo/", Some("/foo/")),
        (&["/foo/"], "/foo/bar", Some("/foo/")),
        (&["/aaa/bb"], "/aaa/bbb", None),
        (&["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
        (&["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
        (&["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
        (&["/aaa/bbb"], "/aaa/bbbxyz", None),
        (&["/aaa/bbb", "/aaa", "/"], "/aaa/ccc", Some("/aaa")),
        (&["/aaa/bbb", "/aaa", "/"], "/aaa/bbb", Some("/aaa/bbb")),
        (&["/aaa/bbb", "/aaa", "/"], "/ccc", Some("/")),
        (&["/aaa"], "/ccc", None),
        (&["=/foo", "/foo"], "/foo", Some("=/foo")),
        (&["=/foo", "/foo"], "/foo/x", Some("/foo")),
        (&["/foo/", "/foo"], "/foo/", Some("/foo/")),
        (&["=/"], "/", Some("=/")),
        (&["=/"], "/a", None),
        (&[""], "/a", Some("")),
        (&["/caf%c3%a9"], "/caf%C3%A9/x", Some("/caf%c3%a9")),
        (&["/%7ea"], "/~a", Some("/%7ea")),
        (&["a", "=a"], "/a", None),
        (&["~/api/v[0-9]+", "/"], "/api/v1", Some("~/api/v[0-9]+")),
        (&["~/api/v[0-9]+", "/"], "/api/v1/x", Some("/")),
        (&["/api/v1", "~/api/.*", "/"], "/api/v1/x", Some("/api/v1")),
        (&["/api/v1", "~/api/.*", "/"], "/api/v2", Some("~/api/.*")),
        (&["~/(?i)ADMIN"], "/admin", Some("~/(?i)ADMIN")),
        (&["~/a", "~/a"], "/a", Some("~/a")),
        // Parameters of segments, which some servers do not look at.
        (&["/foo", "/"], "/foo;x", Some("/foo")),
        (&["/foo", "/"], "/;x/foo;y/bar", Some("/foo")),
        (&["=/foo", "/"], "/foo;x=1", Some("=/foo")),
        (&["~/fo+", "/"], "/foo;", Some("~/fo+")),
        (&["/foo", "/"], "/foo%3Bx", Some("/")),
        (&["/foo;x", "/foo", "/"], "/foo;x/y", Some("/foo;x")),
    ] {
        let parsed: Vec<PathMatch> = rules.iter().map(|text| rule(text)).collect();
        let got = host("a.b", &parsed, false);
        let got = got.route(&Asked::get(path)).map(|(route, _)| route.path.clone());
        assert_eq!(got, want.map(rule), "{rules:?} {path}");
    }
}

/// Exact before wildcard before any; who matched keeps the request.
#[test]
fn hosts() {
    let exact = |fallback| host("a.b", &[rule("/x")], fallback);
    let wildcard = host("*.b", &[rule("/")], false);
    let any = host("", &[rule("/")], true);
    for (fallback, path, host, by) in [
        (false, "/x", "a.b", WonBy::Path),
        (true, "/y", "a.b", WonBy::HostFallback),
        (false, "/y", "*", WonBy::DefaultBackend),
    ] {
        let exact = exact(fallback);
        let found = find(Some(&exact), Some(&wildcard), Some(&any), Asked::get(path));
        let winner = found.winner.unwrap();
        assert_eq!(
            (winner.host.to_string().as_str(), winner.by),
            (host, by),
            "{fallback} {path}"
        );
        for loser in found.losers() {
            assert_eq!(
                loser.why == Lost::LessSpecificHost,
                loser.host.to_string() != "a.b" && loser.route.id.place != Some((0, 999)),
                "{loser:?}"
            );
        }
    }
    let exact = exact(false);
    assert!(
        find(Some(&exact), Some(&wildcard), None, Asked::get("/y"))
            .winner
            .is_none()
    );
    let found = find(None, Some(&wildcard), Some(&any), Asked::get("/y"));
    assert_eq!(found.winner.unwrap().host.to_string(), "*.b");
    assert_eq!(find(None, None, None, Asked::get("/")).losers().count(), 0);
}

fn set(list: &[(&str, ValueMatch)]) -> std::collections::BTreeSet<FieldCondition> {
    list.iter()
        .map(|(name, value)| FieldCondition {
            name: (*name).into(),
            value: value.clone(),
        })
        .collect()
}

fn fields(list: &[(&str, &str)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in list {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[test]
fn conditions() {
    let is = |value: &str| ValueMatch::Exact(value.into());
    let like = |value: &str| ValueMatch::Regex(value.parse::<Pattern>().unwrap());
    let methods = |list: &[&str]| Conditions {
        methods: list.iter().map(|method| (*method).into()).collect(),
        ..Conditions::default()
    };
    let header = |name, value| Conditions {
        headers: set(&[(name, value)]),
        ..Conditions::default()
    };
    let query = |name, value| Conditions {
        query: set(&[(name, value)]),
        ..Conditions::default()
    };
    for (conditions, method, headers, asked, want) in [
        (methods(&["GET"]), Method::GET, &[][..], "", Ok(())),
        (methods(&["GET"]), Method::HEAD, &[], "", Err(Lost::MethodDiffers)),
        (methods(&["GET", "HEAD"]), Method::HEAD, &[], "", Ok(())),
        (header("x-a", is("1")), Method::GET, &[("X-A", "1")], "", Ok(())),
        (
            header("x-a", is("1")),
            Method::GET,
            &[("x-a", "11")],
            "",
            Err(Lost::HeaderDiffers),
        ),
        (
            header("x-a", is("1, 2")),
            Method::GET,
            &[("x-a", "1"), ("x-a", "2")],
            "",
            Ok(()),
        ),
        (
            header("x-a", like("[0-9]+")),
            Method::GET,
            &[("x-a", "12")],
            "",
            Ok(()),
        ),
        (
            header("x-a", like("[0-9]+")),
            Method::GET,
            &[("x-a", "12x")],
            "",
            Err(Lost::HeaderDiffers),
        ),
        (
            header("x-a", like(".*")),
            Method::GET,
            &[("x-a", "\u{e9}")],
            "",
            Ok(()),
        ),
        (
            header("x-a", ValueMatch::Present),
            Method::GET,
            &[("x-a", "")],
            "",
            Ok(()),
        ),
        (
            header("x-a", ValueMatch::Present),
            Method::GET,
            &[],
            "",
            Err(Lost::HeaderDiffers),
        ),
        (header("x-a", ValueMatch::Absent), Method::GET, &[], "", Ok(())),
        (
            header("x-a", ValueMatch::Absent),
            Method::GET,
            &[("x-a", "")],
            "",
            Err(Lost::HeaderDiffers),
        ),
        (query("a", is("1")), Method::GET, &[], "b=2&a=1", Ok(())),
        (
            query("a", is("1")),
            Method::GET,
            &[],
            "a=2&a=1",
            Err(Lost::QueryDiffers),
        ),
        (
            query("a", is("1")),
            Method::GET,
            &[],
            "A=1",
            Err(Lost::QueryDiffers),
        ),
        (query("a b", is("c d")), Method::GET, &[], "a%20b=c+d", Ok(())),
        (query("a", is("%zz")), Method::GET, &[], "a=%zz", Ok(())),
        (query("a", ValueMatch::Present), Method::GET, &[], "a", Ok(())),
        (query("a", ValueMatch::Absent), Method::GET, &[], "b=a", Ok(())),
        (query("a", like("[0-9]*")), Method::GET, &[], "a=", Ok(())),
        (
            header("no name", is("1")),
            Method::GET,
            &[],
            "",
            Err(Lost::HeaderDiffers),
        ),
    ] {
        let route = route(0, rule("/"), conditions);
        let headers = fields(headers);
        let asked = Asked {
            path: "/x",
            method: &method,
            headers: Some(&headers),
            query: Some(asked),
        };
        assert_eq!(takes(&route, &asked), want, "{} {asked:?}", route.conditions);
    }
}

/// A host with so many paths that its nodes are hashed still finds each of them, and compiles in no time.
#[test]
fn ten_thousand_paths() {
    let rules: Vec<PathMatch> = (0..10_000)
        .map(|index| rule(&format!("/p{index}/x")))
        .chain((0..20).map(|index| rule(&format!("~/r/{index}-[a-z]+"))))
        .collect();
    let host = host("a.b", &rules, false);
    for index in (0..10_000).step_by(617) {
        let path = format!("/p{index}/x/y");
        let found = host.route(&Asked::get(&path)).unwrap().0;
        assert_eq!(found.id.place, Some((0, index)));
    }
    let found = host.route(&Asked::get("/r/19-abc")).unwrap().0;
    assert_eq!(found.id.place, Some((0, 10_019)));
    assert!(host.route(&Asked::get("/p10000/x")).is_none());
}

fn some_rule() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        "(/[ab;]{0,2}){0,4}/?|[ab%2f~./]{0,4}".prop_map(|path| PathMatch::Exact(path.into())),
        "(/[ab;]{0,2}){0,4}/?|[ab%2f~./]{0,4}".prop_map(|path| PathMatch::Prefix(path.into())),
        "/[ab/]{0,3}(\\.\\*|[ab]\\+|\\[ab\\]|\\(a\\|/b\\)|a\\?)?[ab/]{0,2}"
            .prop_filter_map("no pattern", |text| text.parse().ok().map(PathMatch::Regex)),
    ]
}

fn some_value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        Just(ValueMatch::Absent),
        "[12]".prop_map(|text| ValueMatch::Exact(text.into())),
        Just(ValueMatch::Regex("1.*".parse().unwrap())),
    ]
}

fn some_conditions() -> impl Strategy<Value = Conditions> {
    let list = || proptest::collection::btree_set(("[xy]", some_value()), 0..2);
    let conditions = |list: std::collections::BTreeSet<(String, ValueMatch)>| {
        list.into_iter()
            .map(|(name, value)| FieldCondition {
                name: name.into(),
                value,
            })
            .collect()
    };
    (0..4u32, list(), list()).prop_map(move |(method, headers, query)| Conditions {
        methods: [&[][..], &[], &["GET"], &["POST", "GET"]][method as usize]
            .iter()
            .map(|method| (*method).into())
            .collect(),
        headers: conditions(headers),
        query: conditions(query),
    })
}

proptest! {
    /// The compiled table agrees with trying the list in order, whatever the order and however odd the rules, for a few
    /// rules and for so many that nodes are hashed and patterns become sets.
    #[test]
    fn the_table_is_the_list(
        rules in prop_oneof![
            proptest::collection::vec((some_rule(), some_conditions()), 0..12),
            proptest::collection::vec((some_rule(), some_conditions()), 40..80),
        ],
        raw in "(/[ab;]{0,2}){1,5}/?",
        post: bool,
        field in proptest::option::of("[12]{1,2}"),
        query in proptest::option::of("(x=[12]|y=1|x)(&y=2)?"),
    ) {
        let routes = rules
            .into_iter()
            .zip(0..)
            .map(|((rule, conditions), index)| route(index, rule, conditions))
            .collect();
        let compiled = CompiledHost::compile(&Arc::new(VirtualHost {
            host: "a.b".parse().unwrap(),
            routes,
            fallback: None,
        }));
        let path = crate::path::normalise(&raw).unwrap();
        let headers = fields(&field.as_deref().map(|value| vec![("x", value)]).unwrap_or_default());
        let asked = Asked {
            path: &path,
            method: if post { &Method::POST } else { &Method::GET },
            headers: Some(&headers),
            query: query.as_deref(),
        };
        let naive = compiled.wished().routes.iter().find(|route| takes(route, &asked).is_ok());
        let got = compiled.route(&asked);
        prop_assert_eq!(
            got.map(|(route, _)| &route.id),
            naive.map(|route| &route.id),
            "{:?} {:?}",
            compiled.wished().routes,
            asked
        );
    }
}
