//! What filters make of requests and answers, octet for octet.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{
    Action, Cors, ErrorPages, Filters, FixedAnswer, HeaderChanges, Http, PathMatch, Redirect, Share,
    Timeouts, VirtualHost, Waits,
};

use crate::support::{Backend, HELLO, Plane, Then};

/// Gives every route of `host` these filters, and its first route this path.
fn filter(plane: &mut Plane, host: &str, path: Option<PathMatch>, filters: Filters) {
    let pattern = host.parse().unwrap();
    let hosts = &mut plane.cluster().hosts;
    let mut wished = VirtualHost::clone(hosts.get(&pattern).unwrap());
    for route in &mut wished.routes {
        route.filters = Some(Arc::new(filters.clone()));
    }
    if let (Some(path), Some(first)) = (path, wished.routes.first_mut()) {
        first.path = path;
    }
    hosts.insert(pattern, Arc::new(wished));
}

async fn plane(backend: &Backend, path: Option<PathMatch>, filters: Filters) -> Plane {
    let mut plane = Plane::start().await;
    plane.host("a.test", &[backend.address]);
    filter(&mut plane, "a.test", path, filters);
    plane.publish();
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_sees_and_what_the_client_gets() {
    let backend = Backend::start(|_, _| {
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-powered-by: php\r\nserver: apache\r\n\r\nhello";
        (answer.to_owned(), Then::Keep)
    })
    .await;
    let filters = Filters {
        rewrite_path: "/v2/$1".parse().ok(),
        rewrite_host: Some("inner.test".into()),
        request_headers: HeaderChanges {
            remove: vec!["authorization".into()],
            set: vec![("x-env".into(), "prod".into())],
            add: vec![],
        },
        response_headers: HeaderChanges {
            remove: vec!["x-powered-by".into()],
            set: vec![("server".into(), "box".into())],
            add: vec![("strict-transport-security".into(), "max-age=60".into())],
        },
        ..Filters::default()
    };
    let path = PathMatch::Regex("/api/(.*)".parse().unwrap());
    let plane = plane(&backend, Some(path), filters).await;
    let answer = plane
        .raw(
            "GET /x/../api//a%7eb?q=/../1 HTTP/1.1\r\nhost: a.test\r\nAuthorization: secret\r\nX-Env: evil\r\n\
             connection: close\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for (text, want) in [
        ("\r\nserver: box\r\n", true),
        ("\r\nstrict-transport-security: max-age=60\r\n", true),
        ("x-powered-by", false),
        ("apache", false),
    ] {
        assert_eq!(answer.contains(text), want, "{text}: {answer}");
    }
    let seen = backend.seen().concat().to_ascii_lowercase();
    assert!(seen.starts_with("get /v2/a~b?q=/../1 http/1.1\r\n"), "{seen}");
    for (text, want) in [
        ("\r\nhost: inner.test\r\n", true),
        ("\r\nx-forwarded-host: a.test\r\n", true),
        ("\r\nx-env: prod\r\n", true),
        ("evil", false),
        ("secret", false),
    ] {
        assert_eq!(seen.contains(text), want, "{text}: {seen}");
    }
    // Also the box's own answers.
    let answer = plane.fetch("a.test", "/elsewhere").await;
    assert!(
        answer.starts_with("HTTP/1.1 404") && !answer.contains("strict-transport"),
        "{answer}"
    );
    let lines = plane.finish().await;
    assert_eq!(lines[0]["path"], "/api/a~b");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_filters_reach_no_service() {
    let backend = Backend::hello().await;
    for (filters, request, want) in [
        (
            Filters {
                https_only: true,
                ..Filters::default()
            },
            "GET /a//b?c=d HTTP/1.1\r\nhost: a.test:8080\r\nx-forwarded-host: evil.test\r\nx-forwarded-proto: https\r\n",
            &["HTTP/1.1 308", "\r\nlocation: https://a.test/a/b?c=d\r\n"][..],
        ),
        (
            Filters {
                redirect: Some(Redirect {
                    status: 301,
                    scheme: None,
                    host: Some("new.test".into()),
                    port: Some(8443),
                    path: "/new".parse().ok(),
                }),
                ..Filters::default()
            },
            "GET /x HTTP/1.1\r\nhost: a.test\r\n",
            &["HTTP/1.1 301", "\r\nlocation: http://new.test:8443/new/x\r\n"],
        ),
        (
            Filters {
                answer: Some(FixedAnswer {
                    status: 503,
                    text: "Back at noon".into(),
                    retry_after: Some(Duration::from_secs(600)),
                    except: vec!["10.0.0.0/8".parse().unwrap()],
                }),
                ..Filters::default()
            },
            "GET /x HTTP/1.1\r\nhost: a.test\r\n",
            &[
                "HTTP/1.1 503",
                "\r\nretry-after: 600\r\n",
                "\r\ncontent-length: 13\r\n",
                "\r\n\r\nBack at noon\n",
            ],
        ),
        (
            Filters {
                cors: Some(Cors {
                    origins: vec!["https://*.test".parse().unwrap()],
                    methods: vec!["PUT".into()],
                    ..Cors::default()
                }),
                ..Filters::default()
            },
            "OPTIONS /x HTTP/1.1\r\nhost: a.test\r\norigin: https://b.test\r\naccess-control-request-method: PUT\r\n",
            &[
                "HTTP/1.1 204",
                "\r\naccess-control-allow-origin: https://b.test\r\n",
                "\r\naccess-control-allow-methods: PUT\r\n",
            ],
        ),
        (
            Filters::default(),
            "GET /a%2fb HTTP/1.1\r\nhost: a.test\r\n",
            &["HTTP/1.1 400"],
        ),
        (
            Filters {
                encoded_slash: true,
                ..Filters::default()
            },
            "GET /a%2f..%2fb HTTP/1.1\r\nhost: a.test\r\n",
            &["HTTP/1.1 400"],
        ),
    ] {
        let plane = plane(&backend, None, filters.clone()).await;
        let answer = plane.raw(format!("{request}connection: close\r\n\r\n")).await;
        for text in want {
            assert!(answer.contains(text), "{filters:?}: {answer}");
        }
        assert_eq!(backend.seen(), [""; 0], "{filters:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_slash_where_it_is_allowed() {
    let backend = Backend::hello().await;
    let filters = Filters {
        encoded_slash: true,
        ..Filters::default()
    };
    let plane = plane(&backend, None, filters).await;
    let answer = plane.fetch("a.test", "/@scope%2fname").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        backend
            .seen()
            .concat()
            .starts_with("GET /@scope%2Fname HTTP/1.1\r\n")
    );
}

/// Pages stand for what the box says of its own accord, never for what a pod says.
#[tokio::test(flavor = "multi_thread")]
async fn error_pages() {
    let (pages, _) = ErrorPages::read([
        ("413.json", &br#"{"error": "large"}"#[..]),
        ("5xx.html", b"<p>sorry</p>"),
    ]);
    let filters = Filters {
        error_pages: Some(Arc::new(pages)),
        max_body_bytes: Some(4),
        ..Filters::default()
    };
    let backend = Backend::start(|_, request| {
        let status = if request.starts_with("GET /own") {
            "503 x"
        } else {
            "nonsense"
        };
        (
            format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\npod"),
            Then::Close,
        )
    })
    .await;
    let plane = plane(&backend, None, filters).await;
    for (request, status, content_type, body) in [
        (
            "GET / HTTP/1.1\r\n\r\n",
            "502",
            "text/html; charset=utf-8",
            "<p>sorry</p>",
        ),
        ("HEAD / HTTP/1.1\r\n\r\n", "502", "text/html; charset=utf-8", ""),
        (
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabcde",
            "413",
            "application/json",
            r#"{"error": "large"}"#,
        ),
        (
            "GET /a%2fb HTTP/1.1\r\n\r\n",
            "400",
            "text/plain",
            "The path is malformed or ambiguous.\n",
        ),
    ] {
        let request = request.replacen("\r\n", "\r\nhost: a.test\r\nconnection: close\r\n", 1);
        let answer = plane.raw(&request).await;
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(
            head.contains(&format!("\r\ncontent-type: {content_type}\r\n")),
            "{request}: {answer}"
        );
        assert_eq!(got, body, "{request}");
        let length = if body.is_empty() { 12 } else { body.len() };
        assert!(
            head.contains(&format!("\r\ncontent-length: {length}\r\n")),
            "{request}: {answer}"
        );
    }
    let answer = plane.fetch("a.test", "/own").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("pod"),
        "{answer}"
    );
}

/// Where a route has no page for a status, and where there is no route, those of the box count.
#[tokio::test(flavor = "multi_thread")]
async fn error_pages_of_the_box() {
    let pages = |files: &[(&str, &'static [u8])]| {
        let (pages, faults) = ErrorPages::read(files.iter().copied());
        assert_eq!(faults, [""; 0]);
        Some(Arc::new(pages))
    };
    let http = Http {
        error_pages: pages(&[("4xx.txt", b"of the box"), ("5xx.html", b"<p>of the box</p>")]),
        ..Http::default()
    };
    let closed = |text: &str| {
        Some(FixedAnswer {
            status: 503,
            text: text.into(),
            retry_after: None,
            except: Vec::new(),
        })
    };
    let mut plane = Plane::start_with(Timeouts::default(), http).await;
    for (host, error_pages, answer) in [
        ("a.test", None, None),
        ("b.test", pages(&[("503.html", b"<p>of the route</p>")]), None),
        ("c.test", None, closed("")),
        ("d.test", None, closed("Back at noon")),
        (
            "e.test",
            pages(&[("5xx.html", b"<p>of the route</p>")]),
            closed(""),
        ),
    ] {
        plane.host(host, &[]);
        let filters = Filters {
            error_pages,
            answer,
            ..Filters::default()
        };
        filter(&mut plane, host, None, filters);
    }
    plane.publish();
    let html = "text/html; charset=utf-8";
    for (host, path, status, content_type, body) in [
        ("a.test", "/", 503, html, "<p>of the box</p>"),
        ("b.test", "/", 503, html, "<p>of the route</p>"),
        ("b.test", "/a%2fb", 400, "text/plain; charset=utf-8", "of the box"),
        ("c.test", "/", 503, html, "<p>of the box</p>"),
        ("d.test", "/", 503, "text/plain; charset=utf-8", "Back at noon\n"),
        ("e.test", "/", 503, html, "<p>of the route</p>"),
        (
            "nowhere.test",
            "/",
            404,
            "text/plain; charset=utf-8",
            "of the box",
        ),
    ] {
        let answer = plane.fetch(host, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                && answer.contains(&format!("\r\ncontent-type: {content_type}\r\n"))
                && answer.ends_with(&format!("\r\n\r\n{body}")),
            "{host}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_waits_of_its_own() {
    let silent = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    for waits in [Waits {
        response_read: Some(Duration::from_millis(100)),
        ..Waits::default()
    }] {
        let filters = Filters {
            waits,
            ..Filters::default()
        };
        let plane = plane(&silent, None, filters).await;
        // Those of the plane are longer than the patience of the test.
        plane.configure(|live| live.timeouts.response_read = Duration::from_secs(600));
        let answer = plane.fetch("a.test", "/").await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_bounds_bodies() {
    let backend = Backend::hello().await;
    let filters = Filters {
        max_body_bytes: Some(4),
        ..Filters::default()
    };
    let plane = plane(&backend, None, filters).await;
    for (body, status) in [
        ("content-length: 4\r\n\r\nabcd", "200"),
        ("content-length: 5\r\n\r\nabcde", "413"),
        ("transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", "413"),
    ] {
        let answer = plane
            .raw(format!(
                "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{body}"
            ))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{body}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_split() {
    let (old, new) = (
        Backend::hello().await,
        Backend::start(|_, _| (HELLO.replace("hello", "fresh"), Then::Keep)).await,
    );
    let mut plane = Plane::start().await;
    let (to_old, to_new) = (
        plane.pool("old", &[old.address]),
        plane.pool("new", &[new.address]),
    );
    let share = |weight, action| Share { weight, action };
    let split = Action::Split(
        [
            share(70, Action::Forward(to_old)),
            share(30, Action::Forward(to_new)),
        ]
        .into(),
    );
    plane.route("a.test", &[("/", split)]);
    plane.publish();
    let mut fresh = 0;
    for _ in 0..200 {
        fresh += usize::from(plane.fetch("a.test", "/").await.ends_with("fresh"));
    }
    // Of 200 with a share of 30 %: beyond these bounds once in some ten million runs.
    assert!((25..=98).contains(&fresh), "{fresh}");
}
