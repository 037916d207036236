use std::sync::Arc;

use sekisho_config::model::{AccessLog, LogFormat, Tracing};
use sekisho_proxy::Live;

use crate::support::{Backend, Plane, Then, quick, read_until, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_everything() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    plane
        .raw("POST /a//b?secret=1 HTTP/1.1\r\nhost: a.test\r\nuser-agent: te\"st\r\ncontent-length: 3\r\nx-request-id: id-1\r\nconnection: close\r\n\r\nabc")
        .await;
    plane.fetch("b.test", "/").await;
    let port = backend.address.port();
    let lines = plane.finish().await;
    let line = &lines[0];
    for (key, want) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "a.test"),
        ("path", "/a/b"),
        ("protocol", "http/1.1"),
        ("namespace", "ns"),
        ("ingress", "web"),
        ("service", "a.test"),
        ("pod", "a.test-0"),
        ("node", "node-1"),
        ("endpoint", &format!("127.0.0.1:{port}")),
        ("appliance", "box"),
        ("user_agent", "te\"st"),
        ("request_id", "id-1"),
    ] {
        assert_eq!(line[key], want, "{key} in {line}");
    }
    for (key, want) in [
        ("status", 200),
        ("bytes_in", 3),
        ("bytes_out", 5),
        ("revision", 2),
        ("retries", 0),
        ("service_port", 80),
    ] {
        assert_eq!(line[key], want, "{key} in {line}");
    }
    for key in [
        "wait_seconds",
        "connect_seconds",
        "first_byte_seconds",
        "total_seconds",
    ] {
        assert!(
            line[key].as_f64().is_some_and(|seconds| seconds < 60.0),
            "{key} in {line}"
        );
    }
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert!(line.get("ended_by").is_none(), "{line}");
    assert_eq!(lines[1]["status"], 404);
    assert_eq!(lines[1]["ended_by"], "proxy");
    assert_eq!(lines[1]["ended_in"], "request");
    assert_eq!(lines[1]["request_id"].as_str().unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_named_and_the_endpoint_let_go() {
    let mut plane = Plane::start().await;
    plane.configure(|live| live.http.abort_on_half_close = true);
    let mut backend = Backend::start(|_, request| match request.starts_with("GET /wait") {
        true => (String::new(), Then::Hang),
        false => (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".into(),
            Then::Hang,
        ),
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let client = plane.ask(b"GET /wait HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    soon("the request", async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    soon("the end at the endpoint", backend.closed.recv()).await;
    let mut client = plane.ask(b"GET /half HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    read_until(&mut client, "abc").await;
    drop(client);
    soon("the end at the endpoint", backend.closed.recv()).await;
    let lines = plane.finish().await;
    for (line, status, phase) in [(&lines[0], 0, "wait"), (&lines[1], 200, "response")] {
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["ended_by"], "client", "{line}");
        assert_eq!(line["ended_in"], phase, "{line}");
    }
}

async fn logging(access_log: AccessLog) -> Plane {
    Plane::start_live(Live {
        timeouts: quick(),
        access_log,
        ..Live::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_combined_format_has_the_referer() {
    let mut plane = logging(AccessLog {
        format: LogFormat::Combined,
        ..AccessLog::default()
    })
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    plane
        .raw("GET /x HTTP/1.1\r\nhost: a.test\r\nreferer: http://b.test/\r\nuser-agent: te\"st\r\nconnection: close\r\n\r\n")
        .await;
    let log = plane.finish_with_text().await;
    let (before, after) = (log.split_once(" [").unwrap().0, log.split_once("] ").unwrap().1);
    assert_eq!(before, "127.0.0.1 - -");
    assert_eq!(
        after,
        "\"GET /x HTTP/1.1\" 200 5 \"http://b.test/\" \"te\\x22st\"\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_went_well_some_are_written_and_of_errors_all() {
    let folder = tempfile::tempdir().unwrap();
    let file: Arc<std::path::Path> = folder.path().join("access.log").into();
    let mut plane = logging(AccessLog {
        sample_one_in: 1_000_000,
        file: Some(Arc::clone(&file)),
        ..AccessLog::default()
    })
    .await;
    let backend = Backend::start(|_, request| {
        let status = if request.starts_with("GET /bad") { 500 } else { 200 };
        (
            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
            Then::Keep,
        )
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    for (host, path) in [
        ("a.test", "/"),
        ("a.test", "/bad"),
        ("none.test", "/"),
        ("a.test", "/"),
    ] {
        plane.fetch(host, path).await;
    }
    // What goes to a file does not go to standard output.
    assert_eq!(plane.finish_with_text().await, "");
    let log = std::fs::read_to_string(&file).unwrap();
    let mut statuses: Vec<_> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["status"]
                .as_u64()
                .unwrap()
        })
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [404, 500]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_and_the_endpoint_hears_of_the_trace() {
    let mut collector = Backend::start(|_, _| {
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into(),
            Then::Keep,
        )
    })
    .await;
    let mut plane = Plane::start_live(Live {
        timeouts: quick(),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        tracing: Some(Arc::new(Tracing {
            otlp: format!("http://{}", collector.address).into(),
            sample_one_in: 1,
            ca_file: None,
        })),
        ..Live::default()
    })
    .await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for flags in ["01", "00"] {
        plane
            .raw(format!(
                "GET /x HTTP/1.1\r\nhost: a.test\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-{flags}\r\nconnection: close\r\n\r\n"
            ))
            .await;
    }
    let seen = backend.seen();
    // Recorded: the box is the parent now. Not recorded: what the caller said goes on.
    assert!(
        seen[0].contains(&format!("traceparent: 00-{trace}-")) && !seen[0].contains("00f067aa0ba902b7"),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].contains(&format!("traceparent: 00-{trace}-00f067aa0ba902b7-00")),
        "{}",
        seen[1]
    );
    soon("the span", async {
        while collector.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    plane.finish().await;
    soon("the end of the exporter", collector.closed.recv()).await;
    let sent = collector.seen();
    let (head, body) = sent[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let spans: serde_json::Value = serde_json::from_str(body).unwrap();
    let spans = &spans["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 1);
    assert_eq!(spans[0]["traceId"], trace);
    assert_eq!(spans[0]["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(spans[0]["name"], "GET ns/web");
    assert!(
        seen[0].contains(spans[0]["spanId"].as_str().unwrap()),
        "{}",
        seen[0]
    );
}
