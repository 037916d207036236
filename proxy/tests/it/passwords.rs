//! Names and passwords at the door: octets in, octets out.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sekisho_config::model::{Basic, Filters, LogFormat, Users, VirtualHost};
use tokio::task::JoinSet;

use crate::support::{Backend, Plane, soon};

/// ann has a hash that is quick to judge, bob one that is slow, dan one by SHA-crypt.
const USERS: &str = "ann:$2y$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm
bob:$2b$08$abcdefghijklmnopqrstuuDhTyj/ncqnLTTRGGvUpBz0U8HJJSJ8u
dan:$5$rounds=1000$saltsalt$f25dkPYTm952Io0nI9FgssYnbY.87HWdiFw89b8zOR8
";

async fn plane(backend: &Backend, change: impl FnOnce(&mut Basic)) -> Plane {
    let mut plane = Plane::start().await;
    plane.host("a.test", &[backend.address]);
    let (users, faults) = Users::parse(USERS.as_bytes());
    assert_eq!(faults, []);
    let mut basic = Basic {
        users: Arc::new(users),
        realm: "Back office".into(),
        strip: true,
        user_header: Some("x-user".into()),
    };
    change(&mut basic);
    let mut filters = Filters::default();
    filters.door.basic = Some(basic);
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

async fn ask(plane: &Plane, credentials: &str) -> String {
    let field = match credentials {
        "" => String::new(),
        pair => format!("authorization: Basic {}\r\n", STANDARD.encode(pair)),
    };
    plane
        .raw(format!(
            "GET / HTTP/1.1\r\nhost: a.test\r\nx-user: root\r\n{field}connection: close\r\n\r\n"
        ))
        .await
}

fn passwords(plane: &Plane, result: &str) -> f64 {
    plane.metric("sekisho_http_passwords_total", &[("result", result)])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_come_in() {
    let backend = Backend::hello().await;
    let plane = plane(&backend, |_| {}).await;
    for (credentials, passes) in [
        ("ann:hunter2", true),
        ("dan:hunter2", true),
        ("bob:slow", true),
        ("", false),
        ("ann:hunter3", false),
        ("ann:", false),
        ("Ann:hunter2", false),
        ("nobody:hunter2", false),
        (":hunter2", false),
        ("ann", false),
    ] {
        let before = backend.seen().len();
        let answer = ask(&plane, credentials).await;
        let status = if passes { "200" } else { "401" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{credentials}: {answer}"
        );
        let challenge = "\r\nwww-authenticate: Basic realm=\"Back office\", charset=\"UTF-8\"\r\n";
        assert_eq!(answer.contains(challenge), !passes, "{answer}");
        assert_eq!(backend.seen().len() - before, usize::from(passes));
        if passes {
            let seen = backend.seen().pop().unwrap().to_lowercase();
            let user = credentials.split(':').next().unwrap();
            assert!(seen.contains(&format!("\r\nx-user: {user}\r\n")), "{seen}");
            assert!(
                !seen.contains("root") && !seen.contains("authorization"),
                "{seen}"
            );
        }
    }
    // Whoever is known is not judged again.
    let known = passwords(&plane, "known");
    for _ in 0..20 {
        assert!(ask(&plane, "bob:slow").await.starts_with("HTTP/1.1 200"));
    }
    assert!(
        passwords(&plane, "known") - known > 15.5,
        "one judgement for each worker"
    );
    assert!(passwords(&plane, "rejected") > 5.5);
    let lines = plane.finish().await;
    let user = |line: &serde_json::Value| line.get("user").and_then(|user| user.as_str().map(str::to_owned));
    // Each worker writes its lines together, so that they need not come in the order of the requests.
    assert!(lines.iter().any(|line| user(line).as_deref() == Some("ann")));
    assert!(
        lines
            .iter()
            .filter(|line| line["status"] == 401)
            .all(|line| user(line).is_none())
    );
    assert!(lines.iter().filter(|line| line["status"] == 401).count() > 5);
    assert!(!format!("{lines:?}").contains("hunter2"));
}

/// A server may join the trailers of a request with its header section.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_is_nobody_else_behind_the_body() {
    let backend = Backend::hello().await;
    let plane = plane(&backend, |_| {}).await;
    let answer = plane
        .raw(format!(
            "POST / HTTP/1.1\r\nhost: a.test\r\nauthorization: Basic {}\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-user: root\r\nx-sum: 1\r\n\r\n",
            STANDARD.encode("ann:hunter2")
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = backend.seen().remove(0);
    assert!(seen.contains("\r\nx-user: ann\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_combined_log_names_the_user_and_the_field_may_go_on() {
    let backend = Backend::hello().await;
    let plane = plane(&backend, |basic| {
        basic.strip = false;
        basic.user_header = None;
    })
    .await;
    plane.configure(|live| live.access_log.format = LogFormat::Combined);
    assert!(ask(&plane, "ann:hunter2").await.starts_with("HTTP/1.1 200"));
    let seen = backend.seen().pop().unwrap();
    assert!(
        seen.contains(&STANDARD.encode("ann:hunter2")) && seen.contains("x-user: root"),
        "{seen}"
    );
    let text = plane.finish_with_text().await;
    assert!(text.starts_with("127.0.0.1 - ann ["), "{text}");
}

/// Passwords that are tried by the hundred: most of them are turned away at once, the box goes on, and who is known comes in.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_passwords() {
    let backend = Backend::hello().await;
    let plane = Arc::new(plane(&backend, |_| {}).await);
    for _ in 0..8 {
        assert!(ask(&plane, "ann:hunter2").await.starts_with("HTTP/1.1 200"));
    }
    let mut flood = JoinSet::new();
    for number in 0..200 {
        let plane = Arc::clone(&plane);
        flood.spawn(async move { ask(&plane, &format!("bob:{number}")).await });
    }
    soon("the first that is turned away", async {
        while passwords(&plane, "shed") < 0.5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut known = 0;
    for _ in 0..10 {
        known += usize::from(ask(&plane, "ann:hunter2").await.starts_with("HTTP/1.1 200"));
    }
    assert!(known >= 5, "{known}: those that come to a worker that knows ann");
    let (mut wrong, mut shed) = (0, 0);
    while let Some(answer) = flood.join_next().await {
        let answer = answer.unwrap();
        match answer.get(9..12) {
            Some("401") => wrong += 1,
            Some("503") => shed += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!(wrong > 0 && shed > 100, "{wrong} {shed}");
    // The same many times over is judged once: whoever asks for it waits for it.
    let before = passwords(&plane, "shed");
    let mut same = JoinSet::new();
    for _ in 0..100 {
        let plane = Arc::clone(&plane);
        same.spawn(async move { ask(&plane, "bob:slow").await });
    }
    while let Some(answer) = same.join_next().await {
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert!(passwords(&plane, "shed") - before < 0.5);
}
