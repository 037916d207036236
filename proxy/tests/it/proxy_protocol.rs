use std::net::SocketAddr;
use std::time::Duration;

use sekisho_config::model::{Http, ProxyProtocol, Timeouts, Upstream};
use sekisho_proxy::proxy_protocol::{Said, parse, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, Plane, quick, read_all, read_until, soon};
use crate::tls::connect_over;

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.9 198.51.100.7 56324 8080\r\n";

fn version_2() -> Vec<u8> {
    let client = "[2001:db8::9]:56324".parse().unwrap();
    write(ProxyProtocol::V2, client, "[2001:db8::7]:8443".parse().unwrap())
}

/// A plane that wants a header from everybody on loopback, with a backend.
async fn plane() -> (Plane, Backend) {
    let mut plane = Plane::start().await;
    let backend = Backend::hello().await;
    plane.host("a.test", &[backend.address]);
    plane.publish();
    plane.configure(|live| live.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()]);
    (plane, backend)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_who_the_header_says() {
    let (plane, backend) = plane().await;
    for header in [VERSION_1.to_vec(), version_2()] {
        let answer = plane.raw([&header, GET].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // A health check of the load balancer in front.
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], GET].concat();
    assert!(plane.raw(local).await.starts_with("HTTP/1.1 200"));
    let seen = backend.seen();
    for (request, address, port) in [
        (&seen[0], "192.0.2.9", "8080"),
        (&seen[1], "2001:db8::9", "8443"),
        (&seen[2], "127.0.0.1", &plane.http().port().to_string()),
    ] {
        for line in [
            format!("\r\nx-forwarded-for: {address}\r\n"),
            format!("\r\nx-real-ip: {address}\r\n"),
            format!("\r\nx-forwarded-port: {port}\r\n"),
        ] {
            assert!(request.contains(&line), "{line} in {request}");
        }
    }
    let count = |result| plane.metric("sekisho_listener_proxy_protocol_total", &[("result", result)]);
    assert_eq!((count("ok"), count("local")), (2.0, 1.0));
    let mut clients: Vec<String> = plane
        .finish()
        .await
        .iter()
        .map(|line| line["client"].as_str().unwrap().to_owned())
        .collect();
    clients.sort();
    assert_eq!(clients, ["127.0.0.1", "192.0.2.9", "2001:db8::9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_the_connection_is_closed() {
    let (plane, backend) = plane().await;
    for octets in [
        GET,
        b"PROXY TCP4 192.0.2.9 198.51.100.7 56324 99999\r\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\0\0\0GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
    ] {
        assert_eq!(plane.raw(octets).await, "", "{octets:?}");
    }
    assert!(backend.seen().is_empty());
    let count = plane.metric(
        "sekisho_listener_proxy_protocol_total",
        &[("result", "malformed")],
    );
    assert!((count - 4.0).abs() < 0.1, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_other_networks_a_header_is_a_bad_request() {
    let (plane, backend) = plane().await;
    plane.configure(|live| live.proxy_protocol_from = vec!["10.0.0.0/8".parse().unwrap()]);
    let answer = plane.raw([VERSION_1, GET].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(backend.seen().is_empty());
    assert!(plane.fetch("a.test", "/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_may_come_in_pieces() {
    let (plane, backend) = plane().await;
    // A TLV makes it longer than what is looked at first.
    let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x0f\xc0\0\x02\x09\xc6\x33\x64\x07\0\x01\0\x02".to_vec();
    long.extend_from_slice(&[0x04, 0x02, 0x00]);
    long.extend_from_slice(&[0; 512]);
    for (header, size) in [(VERSION_1, 1), (&long, 100), (&version_2(), 5)] {
        let mut client = TcpStream::connect(plane.http()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let octets = [header, GET].concat();
        for piece in octets.chunks(size) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(backend.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_end() {
    let timeouts = Timeouts {
        proxy_protocol: Duration::from_millis(50),
        ..quick()
    };
    let plane = Plane::start_with(timeouts.clone(), Http::default()).await;
    plane.configure(|live| {
        live.timeouts = timeouts;
        live.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
    });
    assert_eq!(plane.raw("PROXY TCP4 192.0.2.9").await, "");
    let count = plane.metric("sekisho_listener_proxy_protocol_total", &[("result", "timeout")]);
    assert!((count - 1.0).abs() < 0.1, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_tls() {
    let (plane, backend) = plane().await;
    let mut stream = TcpStream::connect(plane.https()).await.unwrap();
    stream.write_all(VERSION_1).await.unwrap();
    let (mut tls, _) = connect_over(stream, Some("a.test"), &["http/1.1"], &rustls::version::TLS13).await;
    tls.write_all(GET).await.unwrap();
    let answer = read_until(&mut tls, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(backend.seen()[0].contains("\r\nx-forwarded-for: 192.0.2.9\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_in_and_out() {
    let mut plane = Plane::start().await;
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plane.tcp(&[endpoint.local_addr().unwrap()]).await;
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        plane.upstream(
            "db",
            Upstream {
                proxy_protocol: Some(version),
                ..Upstream::default()
            },
        );
        plane.publish();
        for from in [vec![], vec!["127.0.0.0/8".parse().unwrap()]] {
            plane.configure(|live| live.proxy_protocol_from = from.clone());
            let mut client = TcpStream::connect(address).await.unwrap();
            let mut want = Said::Proxied {
                client: client.local_addr().unwrap(),
                server: address,
            };
            if !from.is_empty() {
                let ends: [SocketAddr; 2] =
                    ["192.0.2.9:56324", "198.51.100.7:8080"].map(|a| a.parse().unwrap());
                client.write_all(VERSION_1).await.unwrap();
                want = Said::Proxied {
                    client: ends[0],
                    server: ends[1],
                };
            }
            let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
            // The header comes although the client says nothing.
            let mut octets = Vec::new();
            let length = loop {
                octets.push(soon("the header", server.read_u8()).await.unwrap());
                if let Some((said, length)) = parse(&octets).unwrap() {
                    assert_eq!(said, want, "{version:?}");
                    break length;
                }
            };
            assert_eq!(length, octets.len());
            server.write_all(b"greeting").await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            drop(server.shutdown().await);
            let mut got = String::new();
            soon("the question", server.read_to_string(&mut got))
                .await
                .unwrap();
            assert_eq!(
                (got.as_str(), read_all(&mut client).await.as_str()),
                ("question", "greeting")
            );
        }
    }
    for line in plane.finish().await {
        // The header is the box's own.
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&8.into(), &8.into()));
    }
}
