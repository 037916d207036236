//! Who is let in: octets in, octets out.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{
    ConcurrentLimit, Door, Filters, ForwardAuth, HeaderChanges, Jwt, LimitBy, RateLimit, VirtualHost,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Backend, HELLO, Plane, Then, read_until, soon};

/// A plane with the host `a.test` behind this door, and the pool `auth`.
async fn plane(backend: &Backend, auth: Option<&Backend>, door: impl FnOnce(&mut Door)) -> Plane {
    let mut plane = Plane::start().await;
    plane.host("a.test", &[backend.address]);
    let pool = auth.map(|auth| plane.pool("auth", &[auth.address]));
    let mut filters = Filters {
        request_headers: HeaderChanges {
            set: vec![("authorization".into(), "for the pod".into())],
            ..HeaderChanges::default()
        },
        ..Filters::default()
    };
    if auth.is_some() {
        filters.door.forward_auth = Some(ForwardAuth {
            pool,
            host: "auth:80".into(),
            path: "/verify?a=1".into(),
            timeout: Duration::from_millis(500),
            copy: vec!["x-user".into()],
        });
    }
    door(&mut filters.door);
    let pattern = "a.test".parse().unwrap();
    let hosts = &mut plane.cluster().hosts;
    let mut wished = VirtualHost::clone(hosts.get(&pattern).unwrap());
    for route in &mut wished.routes {
        route.filters = Some(Arc::new(filters.clone()));
    }
    hosts.insert(pattern, Arc::new(wished));
    plane.publish();
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn networks() {
    let backend = Backend::hello().await;
    for (allow, deny, status) in [
        (&["127.0.0.0/8"][..], &[][..], "200"),
        (&["10.0.0.0/8"], &[], "403"),
        (&[], &["127.0.0.1/32"], "403"),
        (&["127.0.0.1/32"], &["127.0.0.0/8"], "200"),
    ] {
        let plane = plane(&backend, None, |door| {
            door.allow = allow.iter().map(|text| text.parse().unwrap()).collect();
            door.deny = deny.iter().map(|text| text.parse().unwrap()).collect();
        })
        .await;
        // What a client says of itself counts only when it is a trusted proxy.
        let answer = plane
            .raw(
                "GET /%61/../b HTTP/1.1\r\nhost: a.test\r\nx-forwarded-for: 10.0.0.1\r\nx-real-ip: 10.0.0.1\r\n\
                 connection: close\r\n\r\n",
            )
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{allow:?} {deny:?}: {answer}"
        );
        let refused = plane.metric("sekisho_http_refused_total", &[("reason", "forbidden")]);
        assert_eq!(refused > 0.5, status == "403");
    }
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate() {
    let backend = Backend::hello().await;
    let plane = plane(&backend, None, |door| {
        door.rate = Some(RateLimit {
            requests: 1,
            per: Duration::from_hours(1),
            burst: 3,
            by: LimitBy::Address,
        });
    })
    .await;
    for number in 0..5 {
        // Each over a connection of its own, and so over any of the workers.
        let answer = plane.fetch("a.test", "/").await;
        if number < 3 {
            assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 429"), "{number}: {answer}");
            assert!(answer.contains("\r\nretry-after: 3"), "{answer}");
        }
    }
    assert_eq!(backend.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_a_time() {
    let silent = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let plane = plane(&silent, None, |door| {
        door.concurrent = Some(ConcurrentLimit {
            most: 1,
            by: LimitBy::Ingress,
        });
    })
    .await;
    let first = plane.ask(b"GET /1 HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    soon("the first at the pod", async {
        while silent.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let answer = plane.fetch("a.test", "/2").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    // When the first one has gone there is room again.
    first.set_zero_linger().unwrap();
    drop(first);
    soon("room", async {
        while silent.seen().len() < 2 {
            let _again = plane.ask(b"GET /3 HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

const USER: &str = "HTTP/1.1 103 Early Hints\r\nlink: </secret.css>\r\n\r\nHTTP/1.1 200 OK\r\nx-user: ann\r\nx-other: 1\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_yes() {
    let backend = Backend::hello().await;
    let auth = Backend::start(|_, _| (USER.to_owned(), Then::Keep)).await;
    let plane = plane(&backend, Some(&auth), |_| {}).await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    for _ in 0..2 {
        client
            .write_all(
                b"POST /a/../b?c=d HTTP/1.1\r\nhost: a.test\r\nX-User: root\r\nauthorization: mine\r\n\
                  x-original-url: http://evil/\r\ncontent-length: 3\r\n\r\nabc",
            )
            .await
            .unwrap();
        let answer = read_until(&mut client, "hello").await;
        // What the Service says is not for the client, not even its interim answers.
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("x-user"), "{answer}");
    }
    let asked = auth.seen()[0].to_ascii_lowercase();
    assert!(asked.starts_with("get /verify?a=1 http/1.1\r\n"), "{asked}");
    for (text, want) in [
        ("\r\nhost: auth:80\r\n", true),
        ("\r\nx-original-url: http://a.test/b?c=d\r\n", true),
        ("\r\nx-original-method: post\r\n", true),
        ("\r\nx-forwarded-for: 127.0.0.1\r\n", true),
        ("\r\nauthorization: mine\r\n", true),
        ("root", false),
        ("evil", false),
        ("content-length: 3", false),
        ("for the pod", false),
    ] {
        assert_eq!(asked.contains(text), want, "{text}: {asked}");
    }
    let seen = backend.seen()[0].to_ascii_lowercase();
    for (text, want) in [
        ("post /b?c=d http/1.1\r\n", true),
        ("\r\nx-user: ann\r\n", true),
        ("root", false),
        ("x-other", false),
        ("\r\nauthorization: for the pod\r\n", true),
        ("\r\n\r\nabc", true),
    ] {
        assert_eq!(seen.contains(text), want, "{text}: {seen}");
    }
    // The connection to it is kept.
    assert_eq!(auth.seen().len(), 2);
    assert_eq!(auth.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(client);
    let lines = plane.finish().await;
    assert_eq!(lines[0]["endpoint"], backend.address.to_string());
}

/// What the door says of the client does not come in behind the body.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_say_nothing_of_who_is_asking() {
    let backend = Backend::hello().await;
    let auth = Backend::start(|_, _| {
        let answer = "HTTP/1.1 200 OK\r\nx-user: me\r\ncontent-length: 0\r\n\r\n";
        (answer.into(), Then::Keep)
    })
    .await;
    let plane = plane(&backend, Some(&auth), |_| {}).await;
    let answer = plane
        .raw(
            "POST / HTTP/1.1\r\nhost: a.test\r\nx-user: root\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-User: root\r\nAuthorization: x\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    assert!(answer.ends_with("hello"), "{answer}");
    let seen = backend.seen().remove(0);
    assert!(!seen.contains("root"), "{seen}");
    assert!(seen.ends_with("\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_no_or_nothing() {
    let backend = Backend::hello().await;
    for (says, then, want) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 5\r\n\r\nlogin",
            Then::Keep,
            &[
                "HTTP/1.1 401",
                "\r\nwww-authenticate: Basic realm=x\r\n",
                "\r\n\r\nlogin",
            ][..],
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: https://login.test/\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ncontent-length: 0\r\n\r\n",
            Then::Keep,
            &[
                "HTTP/1.1 302",
                "\r\nlocation: https://login.test/\r\n",
                "\r\nset-cookie: a=b\r\n",
                "\r\nset-cookie: c=d\r\n",
            ],
        ),
        (
            "HTTP/1.1 500 Oops\r\ncontent-length: 6\r\n\r\nsecret",
            Then::Keep,
            &["HTTP/1.1 503"],
        ),
        ("nonsense\r\n\r\n", Then::Close, &["HTTP/1.1 503"]),
        ("", Then::Close, &["HTTP/1.1 503"]),
        ("", Then::Hang, &["HTTP/1.1 503"]),
        (
            "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            Then::Hang,
            &["HTTP/1.1 503"],
        ),
    ] {
        let auth = Backend::start(move |_, _| (says.to_owned(), then)).await;
        let plane = plane(&backend, Some(&auth), |_| {}).await;
        let answer = plane.fetch("a.test", "/").await;
        for text in want {
            assert!(answer.contains(text), "{says}: {answer}");
        }
        assert!(!answer.contains("secret"), "{answer}");
        assert_eq!(backend.seen(), [""; 0], "{says}");
    }
    // Nobody to ask: nothing passes.
    let auth = Backend::start(|_, _| (HELLO.to_owned(), Then::Keep)).await;
    let plane = plane(&backend, Some(&auth), |door| {
        door.forward_auth.as_mut().unwrap().pool = None;
    })
    .await;
    let answer = plane.fetch("a.test", "/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(backend.seen(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_no_way_in() {
    let backend = Backend::hello().await;
    let plane = plane(&backend, None, |door| {
        door.jwt = Some(Jwt {
            keys: r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#.into(),
            issuer: None,
            audiences: vec![],
            leeway: Duration::ZERO,
            claims: vec![],
        });
    })
    .await;
    for field in [
        "",
        "authorization: Basic YTpi\r\n",
        "authorization: Bearer a.b.c\r\n",
    ] {
        let answer = plane
            .raw(format!(
                "GET / HTTP/1.1\r\nhost: a.test\r\n{field}connection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{field}: {answer}");
        assert!(answer.contains("\r\nwww-authenticate: Bearer\r\n"), "{answer}");
    }
    assert_eq!(backend.seen(), [""; 0]);
}
