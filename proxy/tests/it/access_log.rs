use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Backend, Plane, Then, read_until, soon};

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
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    client
        .write_all(b"GET /wait HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    soon("the request", async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    soon("the end at the endpoint", backend.closed.recv()).await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    client
        .write_all(b"GET /half HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
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
