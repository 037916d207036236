use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Plane, Then, read_all, read_until, soon};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
const ASK: &str = "GET /ws HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: y\r\n\r\n";

async fn echo() -> (Plane, Backend) {
    let mut plane = Plane::start().await;
    let backend = Backend::start(|_, request| match request.contains("upgrade: websocket") {
        true => (format!("{SWITCH}first"), Then::Echo),
        false => (crate::support::HELLO.into(), Then::Keep),
    })
    .await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    (plane, backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_pass_both_ways_until_both_sides_close() {
    let (plane, backend) = echo().await;
    let mut client = TcpStream::connect(plane.http()).await.unwrap();
    // Octets that come with the request belong to the tunnel.
    client.write_all(format!("{ASK}early").as_bytes()).await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
        "{head}"
    );
    assert!(head.contains("sec-websocket-accept: x\r\n"), "{head}");
    read_until(&mut client, "firstearly").await;
    client.write_all(b"ping").await.unwrap();
    assert_eq!(read_until(&mut client, "ping").await, "ping");
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "");
    assert!(
        backend.seen()[0].contains("connection: upgrade\r\n"),
        "{:?}",
        backend.seen()
    );
    let lines = plane.finish().await;
    assert_eq!(lines[0]["status"], 101);
    assert_eq!(lines[0]["bytes_in"], 9);
    assert_eq!(lines[0]["bytes_out"], 14);
    assert!(lines[0].get("ended_by").is_none(), "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_passed_on() {
    let (plane, mut backend) = echo().await;
    let mut client = plane.ask(ASK.as_bytes()).await;
    read_until(&mut client, "first").await;
    client.set_zero_linger().unwrap();
    drop(client);
    soon("the end at the endpoint", backend.closed.recv()).await;
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "client");
    assert_eq!(lines[0]["ended_in"], "tunnel");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_tls_are_nothing_to_upgrade_to() {
    let (plane, backend) = echo().await;
    for protocol in ["h2c", "websocket, h2c", "TLS/1.2"] {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade, http2-settings, close\r\nhttp2-settings: x\r\nupgrade: {protocol}\r\n\r\n"
        );
        let mut client = plane.ask(request.as_bytes()).await;
        assert!(
            read_until(&mut client, "hello").await.starts_with("HTTP/1.1 200"),
            "{protocol}"
        );
    }
    assert!(
        backend
            .seen()
            .iter()
            .all(|request| !request.contains("upgrade") && !request.contains("settings"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_declined_is_an_answer() {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    let mut client = plane.ask(ASK.as_bytes()).await;
    let answer = read_until(&mut client, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // And the connection goes on.
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut client).await.ends_with("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_every_change() {
    let (mut plane, _backend) = echo().await;
    let mut client = plane.ask(ASK.as_bytes()).await;
    read_until(&mut client, "first").await;
    for _ in 0..20 {
        plane.cluster().hosts.clear();
        plane.cluster().pools.clear();
        plane.publish();
    }
    client.write_all(b"still").await.unwrap();
    let mut got = [0; 5];
    soon("the echo", client.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"still");
}
