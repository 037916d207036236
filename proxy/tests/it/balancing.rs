//! Endpoints that refuse, hang, break off or answer errors, and what clients notice of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{Balance, HashBy, NodeName, PoolPolicy, RetryOn};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Backend, HELLO, Plane, Then, nowhere, read_all, soon};

const HOST: &str = "a.test";

fn unavailable() -> String {
    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nlate".to_owned()
}

/// A plane with one pool over these endpoints, each on a node of its own, and its policy changed.
async fn plane(endpoints: &[std::net::SocketAddr], change: impl FnOnce(&mut PoolPolicy)) -> Plane {
    let mut plane = Plane::start().await;
    plane.host(HOST, endpoints);
    plane.change_pool(HOST, |pool| {
        for (endpoint, number) in pool.endpoints.iter_mut().zip(0..) {
            endpoint.node = Some(NodeName(format!("node-{number}").as_str().into()));
        }
        change(Arc::make_mut(&mut pool.policy));
    });
    plane.publish();
    plane
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

async fn statuses(plane: &Plane, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(status(&plane.fetch(HOST, "/").await));
    }
    statuses
}

fn service() -> [(&'static str, &'static str); 1] {
    [("service", HOST)]
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_ejected_and_no_client_notices() {
    let (one, two) = (Backend::hello().await, Backend::hello().await);
    let plane = plane(&[one.address, two.address, nowhere().await], |_| {}).await;
    assert!(statuses(&plane, 60).await.iter().all(|status| *status == 200));
    // Five in a row, and not one more.
    assert_eq!(
        plane.metric("sekisho_http_upstream_connects_total", &[("result", "failed")]) as u32,
        5
    );
    assert_eq!(
        plane.metric("sekisho_pool_ejected_endpoints", &service()) as u32,
        1
    );
    assert_eq!(plane.metric("sekisho_pool_ejections_total", &service()) as u32, 1);
    assert_eq!(
        plane.metric("sekisho_http_retried_total", &[("reason", "connect")]) as u32,
        5
    );
    let lines = plane.finish().await;
    let retries: u64 = lines.iter().map(|line| line["retries"].as_u64().unwrap()).sum();
    assert_eq!(retries, 5);
}

#[tokio::test]
async fn errors_of_the_application_eject_nobody_and_503_does() {
    let ill = Backend::start(|_, _| {
        let answer = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
        (answer.to_owned(), Then::Keep)
    })
    .await;
    let well = Backend::hello().await;
    let plane = plane(&[ill.address, well.address], |_| {}).await;
    let got = statuses(&plane, 40).await;
    assert_eq!(got.iter().filter(|status| **status == 500).count(), 20);
    assert_eq!(plane.metric("sekisho_pool_ejections_total", &service()) as u32, 0);
    plane.finish().await;

    let ill = Backend::start(|_, _| (unavailable(), Then::Keep)).await;
    let plane = self::plane(&[ill.address, well.address], |_| {}).await;
    let got = statuses(&plane, 40).await;
    assert_eq!(got.iter().filter(|status| **status == 503).count(), 5, "{got:?}");
    plane.finish().await;
}

#[tokio::test]
async fn the_only_endpoint_is_asked_whatever_it_does() {
    let ill = Backend::start(|number, _| {
        let answer = if number < 20 {
            unavailable()
        } else {
            HELLO.to_owned()
        };
        (answer, Then::Keep)
    })
    .await;
    let plane = plane(&[ill.address], |_| {}).await;
    let got = statuses(&plane, 25).await;
    assert_eq!(got, [vec![503; 20], vec![200; 5]].concat());
    plane.finish().await;
}

#[tokio::test]
async fn what_may_be_sent_twice_is_when_the_pool_says_so() {
    let ill = Backend::start(|_, _| (unavailable(), Then::Keep)).await;
    let well = Backend::hello().await;
    let change = |policy: &mut PoolPolicy| {
        policy.retry.on = RetryOn {
            unavailable: true,
            ..RetryOn::default()
        };
        policy.outlier.consecutive = 0;
    };
    let plane = plane(&[ill.address, well.address], change).await;
    assert!(statuses(&plane, 20).await.iter().all(|status| *status == 200));
    assert_eq!(ill.seen().len(), 10);
    assert_eq!(
        plane.metric("sekisho_http_retried_total", &[("reason", "status")]) as u32,
        10
    );
    // A POST is not, and neither is a GET with a body.
    let mut got = Vec::new();
    for method in ["POST", "GET"] {
        for _ in 0..4 {
            let request = format!(
                "{method} / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
            );
            got.push(status(&plane.raw(request).await));
        }
    }
    assert_eq!(got.iter().filter(|status| **status == 503).count(), 4, "{got:?}");
    plane.finish().await;

    // When nobody is better, the client gets the answer there is.
    let other = Backend::start(|_, _| (unavailable(), Then::Keep)).await;
    let plane = self::plane(&[ill.address, other.address], change).await;
    let answer = plane.fetch(HOST, "/").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("late"),
        "{answer}"
    );
    plane.finish().await;
}

#[tokio::test]
async fn a_pool_over_its_budget_is_not_asked_twice() {
    let well = Backend::hello().await;
    let plane = plane(&[nowhere().await, well.address], |policy| {
        policy.retry.budget_percent = 0;
        policy.retry.budget_floor = 0;
        policy.outlier.consecutive = 0;
    })
    .await;
    let got = statuses(&plane, 10).await;
    assert_eq!(got.iter().filter(|status| **status == 502).count(), 5, "{got:?}");
    assert_eq!(
        plane.metric("sekisho_http_retry_denied_total", &[("reason", "budget")]) as u32,
        5
    );
    plane.finish().await;
}

#[tokio::test]
async fn a_try_has_its_time_and_so_have_all_of_them() {
    let hangs = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let well = Backend::hello().await;
    let plane = plane(&[hangs.address, well.address], |policy| {
        policy.per_try_timeout = Some(Duration::from_millis(50));
        policy.retry.on.timeout = true;
        policy.outlier.consecutive = 0;
    })
    .await;
    assert!(statuses(&plane, 10).await.iter().all(|status| *status == 200));
    assert_eq!(hangs.seen().len(), 5);
    assert_eq!(
        plane.metric("sekisho_http_retried_total", &[("reason", "timeout")]) as u32,
        5
    );
    plane.finish().await;

    let plane = self::plane(&[hangs.address], |policy| {
        policy.total_timeout = Some(Duration::from_millis(80));
    })
    .await;
    assert_eq!(statuses(&plane, 1).await, [504]);
    plane.finish().await;
}

#[tokio::test]
async fn five_answers_that_do_not_come_eject() {
    let hangs = Backend::start(|_, _| (String::new(), Then::Hang)).await;
    let well = Backend::hello().await;
    let plane = plane(&[hangs.address, well.address], |policy| {
        policy.per_try_timeout = Some(Duration::from_millis(200));
    })
    .await;
    let got = statuses(&plane, 30).await;
    assert_eq!(got.iter().filter(|status| **status == 504).count(), 5, "{got:?}");
    plane.finish().await;
}

/// A POST whose last octet is still to come.
async fn unfinished(plane: &Plane, backend: &Backend) -> TcpStream {
    let mut stream = TcpStream::connect(plane.http()).await.unwrap();
    let request =
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nh");
    let before = backend.connections.load(std::sync::atomic::Ordering::SeqCst);
    stream.write_all(request.as_bytes()).await.unwrap();
    soon("the request at the backend", async {
        while backend.connections.load(std::sync::atomic::Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    stream
}

#[tokio::test]
async fn a_full_pool_answers_503_at_once_or_lets_wait() {
    let backend = Backend::start(|_, _| (HELLO.to_owned(), Then::Close)).await;
    for per_endpoint in [true, false] {
        let mut plane = plane(&[backend.address], |policy| {
            let most = NonZeroU32::new(1);
            if per_endpoint {
                policy.limits.per_endpoint = most;
            } else {
                policy.limits.in_flight = most;
            }
        })
        .await;
        let mut slow = unfinished(&plane, &backend).await;
        let answer = plane.fetch(HOST, "/").await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "),
            "{answer}"
        );
        assert_eq!(
            plane.metric("sekisho_http_refused_total", &[("reason", "pool_full")]) as u32,
            1
        );
        // One may wait now: it is served when the first one ends; a second one is not let in.
        plane.change_pool(HOST, |pool| {
            let policy = Arc::make_mut(&mut pool.policy);
            policy.limits.waiting = 1;
            policy.limits.wait = Duration::from_secs(10);
        });
        plane.publish();
        let mut waits = TcpStream::connect(plane.http()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        waits.write_all(request.as_bytes()).await.unwrap();
        soon("a request that waits", async {
            while plane.metric("sekisho_pool_requests_waiting", &service()) < 1.0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(statuses(&plane, 1).await, [503]);
        slow.write_all(b"i").await.unwrap();
        assert!(read_all(&mut slow).await.starts_with("HTTP/1.1 200 "));
        let answer = read_all(&mut waits).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(
            plane.metric("sekisho_pool_requests_waiting", &service()) as u32,
            0
        );
        assert_eq!(statuses(&plane, 3).await, [200; 3]);
        plane.finish().await;
    }
}

#[tokio::test]
async fn a_client_keeps_its_endpoint_by_what_is_hashed() {
    let backends = [
        Backend::hello().await,
        Backend::hello().await,
        Backend::hello().await,
    ];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let mut plane = plane(&addresses, |policy| {
        policy.hash_by = HashBy::Header("x-user".into())
    })
    .await;
    plane.change_pool(HOST, |pool| pool.balance = Balance::ConsistentHash);
    plane.publish();
    let mut homes = std::collections::BTreeSet::new();
    for user in 0..20 {
        for _ in 0..3 {
            let request = format!(
                "GET /{user} HTTP/1.1\r\nhost: {HOST}\r\nx-user: user-{user}\r\nconnection: close\r\n\r\n"
            );
            assert_eq!(status(&plane.raw(request).await), 200);
        }
        let asked: Vec<usize> = backends
            .iter()
            .map(|backend| {
                let mine = format!("GET /{user} ");
                backend
                    .seen()
                    .iter()
                    .filter(|request| request.starts_with(&mine))
                    .count()
            })
            .collect();
        assert!(asked.contains(&3), "user {user}: {asked:?}");
        homes.insert(asked);
    }
    assert_eq!(homes.len(), 3, "twenty users have three homes");
    plane.finish().await;
}

#[tokio::test]
async fn a_tcp_service_goes_around_an_endpoint_that_refuses() {
    let echo = Backend::start(|_, _| (HELLO.to_owned(), Then::Close)).await;
    let mut plane = Plane::start().await;
    let listener = plane.tcp(&[nowhere().await, echo.address]).await;
    for _ in 0..20 {
        let mut client = TcpStream::connect(listener).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(read_all(&mut client).await.ends_with("hello"));
    }
    assert_eq!(
        plane.metric("sekisho_pool_ejections_total", &[("service", "db")]) as u32,
        1
    );
    assert_eq!(echo.seen().len(), 20);
    plane.finish().await;
}

/// The answer to a GET with this cookie.
async fn with_cookie(plane: &Plane, cookie: Option<&str>) -> String {
    let field = cookie.map_or_else(String::new, |cookie| format!("cookie: a=b; {cookie}\r\n"));
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{field}connection: close\r\n\r\n");
    plane.raw(request).await
}

fn named(name: &'static str) -> impl Fn(usize, &str) -> (String, Then) + Clone {
    move |_, _| {
        let length = name.len();
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nset-cookie: own=1\r\n\r\n{name}"),
            Then::Keep,
        )
    }
}

#[tokio::test]
async fn a_client_stays_with_its_pod_by_a_cookie() {
    let one = Backend::start(named("one")).await;
    let two = Backend::start(named("two")).await;
    let affinity =
        |policy: &mut PoolPolicy| policy.affinity = Some(sekisho_config::model::Affinity::default());
    let mut plane = plane(&[one.address, two.address], affinity).await;
    let answer = with_cookie(&plane, None).await;
    // What the pod sets is left alone.
    assert_eq!(answer.matches("set-cookie: ").count(), 2, "{answer}");
    assert!(answer.contains("set-cookie: own=1\r\n"));
    assert!(answer.contains("; Path=/; HttpOnly\r\n"), "{answer}");
    assert!(!answer.contains(&one.address.port().to_string()));
    let cookie = answer
        .split("\r\n")
        .find_map(|line| line.strip_prefix("set-cookie: sekisho="))
        .map(|rest| format!("sekisho={}", rest.split(';').next().unwrap()))
        .unwrap();
    let (home, other) = if answer.ends_with("one") {
        ("one", "two")
    } else {
        ("two", "one")
    };
    for _ in 0..10 {
        let answer = with_cookie(&plane, Some(&cookie)).await;
        assert!(
            answer.ends_with(home) && !answer.contains("set-cookie: sekisho="),
            "{answer}"
        );
    }
    // One that nobody made is as none.
    let answer = with_cookie(&plane, Some("sekisho=AAAAAAAAAAAAAAAAAAAAAA")).await;
    assert!(answer.contains("set-cookie: sekisho="), "{answer}");

    // Its pod is replaced by one of the same name at another address: the client follows.
    let moved = Backend::start(named("moved")).await;
    let home_address = if home == "one" { one.address } else { two.address };
    let move_to = |plane: &mut Plane, from: std::net::SocketAddr, to: std::net::SocketAddr| {
        plane.change_pool(HOST, |pool| {
            let endpoint = pool
                .endpoints
                .iter_mut()
                .find(|endpoint| endpoint.address == from);
            endpoint.unwrap().address = to;
            pool.endpoints.sort_by_key(|endpoint| endpoint.address);
        });
        plane.publish();
    };
    move_to(&mut plane, home_address, moved.address);
    let answer = with_cookie(&plane, Some(&cookie)).await;
    assert!(
        answer.ends_with("moved") && !answer.contains("set-cookie: sekisho="),
        "{answer}"
    );

    // It refuses: the other one helps out, and the client may come back.
    let gone = nowhere().await;
    move_to(&mut plane, moved.address, gone);
    for change in [false, true] {
        plane.change_pool(HOST, |pool| {
            let policy = Arc::make_mut(&mut pool.policy);
            policy.affinity.as_mut().unwrap().change_on_failure = change;
        });
        plane.publish();
        let answer = with_cookie(&plane, Some(&cookie)).await;
        assert!(answer.ends_with(other), "{answer}");
        assert_eq!(answer.contains("set-cookie: sekisho="), change, "{answer}");
    }

    // It is gone for good: a new cookie.
    plane.change_pool(HOST, |pool| {
        pool.endpoints.retain(|endpoint| endpoint.address != gone);
        Arc::make_mut(&mut pool.policy).affinity = Some(sekisho_config::model::Affinity::default());
    });
    plane.publish();
    let answer = with_cookie(&plane, Some(&cookie)).await;
    assert!(
        answer.ends_with(other) && answer.contains("set-cookie: sekisho="),
        "{answer}"
    );
    plane.finish().await;
}
