use proptest::prelude::*;
use sekisho_config::model::{
    Action, Conditions, Cors, FixedAnswer, HeaderChanges, ObjectName, PathMatch, Redirect, RouteId,
    Unavailable,
};

use super::*;
use crate::fields::Fields;

fn rule(text: &str) -> PathMatch {
    if let Some(path) = text.strip_prefix('=') {
        PathMatch::Exact(path.into())
    } else if let Some(pattern) = text.strip_prefix('~') {
        PathMatch::Regex(pattern.parse().unwrap())
    } else {
        PathMatch::Prefix(text.into())
    }
}

fn compiled(path: &str, filters: Filters) -> Arc<Compiled> {
    let route = Route {
        id: RouteId {
            ingress: ObjectName::new("ns", "web"),
            place: Some((0, 0)),
        },
        path: rule(path),
        conditions: Conditions::default(),
        filters: Some(Arc::new(filters)),
        action: Action::Unavailable(Unavailable::UnsupportedBackend),
    };
    Compiled::compile(&route).unwrap()
}

fn fields(list: &[(&str, &str)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in list {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn lines(headers: &Fields) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

fn seen<'a>(scheme: &'a str, host: &'a str, path: &'a str, headers: &'a Fields) -> Seen<'a> {
    Seen {
        method: &Method::GET,
        client: "192.0.2.7".parse().unwrap(),
        scheme,
        host: Some(host),
        path,
        query: None,
        headers,
    }
}

#[test]
fn rewrites() {
    for (path, template, asked, want) in [
        ("/api", "/", "/api", "/"),
        ("/api", "/", "/api/", "/"),
        ("/api", "/", "/api/v1/x", "/v1/x"),
        ("/api/", "/v2", "/api/x", "/v2/x"),
        ("/api", "/v2/", "/api/x", "/v2/x"),
        ("/api", "/v2/", "/api", "/v2/"),
        ("/", "/base", "/x", "/base/x"),
        ("/", "/base", "/", "/base/"),
        ("=/old", "/new", "/old", "/new"),
        ("~/a/([0-9]+)/(.*)", "/b/$2/$1", "/a/12/x/y", "/b/x/y/12"),
        ("~/a(/.*)?", "$1", "/a", "/"),
        ("~/a(/.*)?", "$1", "/a/b", "/b"),
        ("~/a/(.*)", "/$9", "/a/b", "/"),
        ("/a", "/$1", "/a/b", "/b"),
        ("/api", "/v2", "/api/x;y=1", "/v2/x;y=1"),
        ("/api", "/v2", "/api;y=1/x", "/v2/x"),
        ("/api", "/v2", "/;y/api", "/v2"),
        ("~/a/([0-9]+)", "/b/$1", "/a;x/12;y", "/b/12"),
    ] {
        let filters = compiled(
            path,
            Filters {
                rewrite_path: Some(template.parse().unwrap()),
                ..Filters::default()
            },
        );
        assert_eq!(
            filters.path(asked).as_deref(),
            Some(want),
            "{path} {template} {asked}"
        );
    }
}

#[test]
fn redirects() {
    let empty = Redirect {
        status: 302,
        scheme: None,
        host: None,
        port: None,
        path: None,
    };
    let with = |change: fn(&mut Redirect)| {
        let mut redirect = empty.clone();
        change(&mut redirect);
        redirect
    };
    for (redirect, scheme, host, want) in [
        (
            with(|r| r.host = Some("new.b".into())),
            "http",
            "a.b:8080",
            "http://new.b/x?q=1",
        ),
        (
            with(|r| r.scheme = Some("https".into())),
            "http",
            "a.b:8080",
            "https://a.b/x?q=1",
        ),
        (
            with(|r| r.port = Some(8443)),
            "https",
            "a.b",
            "https://a.b:8443/x?q=1",
        ),
        (
            with(|r| r.port = Some(443)),
            "https",
            "a.b:1",
            "https://a.b/x?q=1",
        ),
        (
            with(|r| r.path = "/y".parse().ok()),
            "http",
            "a.b:8080",
            "http://a.b:8080/y?q=1",
        ),
        (
            with(|r| r.path = "/y".parse().ok()),
            "http",
            "[2001:db8::1]",
            "http://[2001:db8::1]/y?q=1",
        ),
        (
            with(|r| r.port = Some(81)),
            "http",
            "[2001:db8::1]:8080",
            "http://[2001:db8::1]:81/x?q=1",
        ),
    ] {
        let filters = compiled(
            "=/x",
            Filters {
                redirect: Some(redirect.clone()),
                ..Filters::default()
            },
        );
        // What the client claims of itself never comes into a redirect.
        let headers = fields(&[
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "gopher"),
        ]);
        let seen = Seen {
            query: Some("q=1"),
            ..seen(scheme, host, "/x", &headers)
        };
        let answer = filters.redirect(&seen).unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(
            answer.headers,
            [(LOCATION, HeaderValue::from_static(want))].into_iter().collect(),
            "{redirect:?}"
        );
    }
}

#[test]
fn over_tls_only() {
    let filters = compiled(
        "/",
        Filters {
            https_only: true,
            ..Filters::default()
        },
    );
    let headers = Fields::new();
    let answer = filters
        .first_answer(&seen("http", "a.b:8080", "/x", &headers))
        .unwrap();
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.headers,
        [(LOCATION, HeaderValue::from_static("https://a.b/x"))]
            .into_iter()
            .collect()
    );
    assert_eq!(filters.first_answer(&seen("https", "a.b", "/x", &headers)), None);
    let nameless = Seen {
        host: None,
        ..seen("http", "", "/x", &headers)
    };
    assert_eq!(filters.first_answer(&nameless).unwrap().status, 400);
}

#[test]
fn maintenance() {
    let answers = |text: &str, retry_after: Option<u64>, except: &str| {
        let filters = compiled(
            "/",
            Filters {
                answer: Some(FixedAnswer {
                    status: 503,
                    text: text.into(),
                    retry_after: retry_after.map(Duration::from_secs),
                    except: except
                        .split_whitespace()
                        .map(|network| network.parse().unwrap())
                        .collect(),
                }),
                ..Filters::default()
            },
        );
        let headers = Fields::new();
        let answer = filters.first_answer(&seen("http", "a.b", "/x", &headers))?;
        let fields: Vec<String> = answer
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        Some(format!(
            "{} {} {}",
            answer.status.as_u16(),
            fields.join(" "),
            str::from_utf8(&answer.text).unwrap()
        ))
    };
    let plain = "content-type: text/plain; charset=utf-8";
    for (text, retry_after, except, want) in [
        (
            "Back at noon",
            None,
            "",
            Some(format!("503 {plain} Back at noon\n")),
        ),
        (
            "Back at noon",
            Some(600),
            "10.0.0.0/8",
            Some(format!("503 {plain} retry-after: 600 Back at noon\n")),
        ),
        ("", None, "", Some("503  ".to_owned())),
        ("", None, "10.0.0.0/8 192.0.2.0/24", None),
    ] {
        assert_eq!(answers(text, retry_after, except), want, "{text} {except}");
    }
}

#[test]
fn header_changes() {
    let filters = compiled(
        "/",
        Filters {
            rewrite_host: Some("inner.b".into()),
            request_headers: HeaderChanges {
                remove: vec!["x-a".into()],
                set: vec![("x-b".into(), "set".into())],
                add: vec![("x-c".into(), "2".into())],
            },
            response_headers: HeaderChanges {
                remove: vec!["server".into()],
                ..HeaderChanges::default()
            },
            ..Filters::default()
        },
    );
    let mut headers = fields(&[
        ("host", "a.b"),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-b", "2"),
        ("x-c", "1"),
    ]);
    filters.request(&mut headers);
    assert_eq!(lines(&headers), ["host: inner.b", "x-b: set", "x-c: 1", "x-c: 2"]);
    let mut headers = fields(&[("server", "x"), ("x-b", "1")]);
    filters.response(&mut headers, None);
    assert_eq!(lines(&headers), ["x-b: 1"]);
}

#[test]
fn cross_origin() {
    let cors = |origins: &[&str]| {
        compiled(
            "/",
            Filters {
                cors: Some(Cors {
                    origins: origins.iter().map(|origin| origin.parse().unwrap()).collect(),
                    methods: vec!["PUT".into()],
                    headers: vec!["x-a".into()],
                    expose: vec!["x-b".into()],
                    credentials: true,
                    max_age: Some(Duration::from_secs(60)),
                }),
                ..Filters::default()
            },
        )
    };
    let named = cors(&["https://*.b"]);
    let preflight = |filters: &Compiled, origin: &str| {
        let headers = fields(&[("origin", origin), ("access-control-request-method", "PUT")]);
        let seen = Seen {
            method: &Method::OPTIONS,
            ..seen("https", "api.b", "/", &headers)
        };
        let answer = filters.first_answer(&seen).unwrap();
        assert_eq!(answer.status, 204);
        let mut all = answer.headers;
        filters.response(&mut all, headers.get("origin"));
        lines(&all)
    };
    assert_eq!(
        preflight(&named, "https://a.b"),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: x-a",
            "access-control-allow-methods: PUT",
            "access-control-allow-origin: https://a.b",
            "access-control-expose-headers: x-b",
            "access-control-max-age: 60",
            "vary: Access-Control-Request-Method, Access-Control-Request-Headers",
            "vary: Origin",
        ]
    );
    assert_eq!(preflight(&named, "https://evil.example"), ["vary: Origin"]);
    // Everybody may read, but not with somebody's cookies.
    assert!(
        !preflight(&cors(&["*"]), "https://x.y")
            .join("\n")
            .contains("credentials")
    );
    // What the Service says of it does not count.
    let mut headers = fields(&[
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
    ]);
    named.response(
        &mut headers,
        Some(Value::from(&HeaderValue::from_static("https://evil.example"))),
    );
    assert_eq!(lines(&headers), ["vary: Origin"]);
    // An OPTIONS that is no preflight goes on.
    let headers = fields(&[("origin", "https://a.b")]);
    let seen = Seen {
        method: &Method::OPTIONS,
        ..seen("https", "api.b", "/", &headers)
    };
    assert_eq!(named.first_answer(&seen), None);
}

proptest! {
    /// Whatever a path and a template are, what comes out is a path again, and its normal form stays.
    #[test]
    fn a_rewritten_path_is_a_path(
        path in "(/[ab%2E.]{0,3}){1,4}/?",
        template in "[/$](1|2|[ab./]{0,6})",
        prefix in "(/[ab]{0,2}){0,2}",
    ) {
        let Ok(path) = crate::path::normalise(&path) else { return Ok(()) };
        let Ok(template) = template.parse() else { return Ok(()) };
        for base in [rule(&prefix), rule(&format!("={path}")), rule("~/(.*)/(.*)")] {
            let out = Base::compile(&base).replace(&path, &template);
            prop_assert!(out.starts_with('/'));
            let normal = crate::path::normalise(&out).unwrap();
            let again = crate::path::normalise(&normal).unwrap();
            prop_assert_eq!(&again, &normal);
        }
    }
}
