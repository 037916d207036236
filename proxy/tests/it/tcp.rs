use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Plane, nowhere, read_all, soon};

/// An endpoint that takes one connection.
async fn endpoint() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_closes_by_itself() {
    let mut plane = Plane::start().await;
    let endpoint = endpoint().await;
    let address = plane
        .tcp(&[nowhere().await, endpoint.local_addr().unwrap()])
        .await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    let mut got = String::new();
    soon("the question", server.read_to_string(&mut got))
        .await
        .unwrap();
    assert_eq!(got, "question");
    // The other direction is still open.
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(read_all(&mut client).await, "answer");
    drop(client);
    let lines = plane.finish().await;
    assert_eq!(lines[0]["protocol"], "tcp");
    assert_eq!(
        (&lines[0]["bytes_in"], &lines[0]["bytes_out"]),
        (&8.into(), &6.into())
    );
    assert_eq!(lines[0]["service"], "db");
    assert!(lines[0].get("ended_by").is_none(), "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_are_passed_on() {
    let mut plane = Plane::start().await;
    let endpoint = endpoint().await;
    let address = plane.tcp(&[endpoint.local_addr().unwrap()]).await;
    // From the endpoint to the client.
    let mut client = TcpStream::connect(address).await.unwrap();
    let (server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let error = soon("the reset", client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // From the client to the endpoint.
    let client = TcpStream::connect(address).await.unwrap();
    let (mut server, _) = soon("a connection", endpoint.accept()).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let error = soon("the reset", server.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let lines = plane.finish().await;
    assert_eq!(lines[0]["ended_by"], "client");
    assert_eq!(lines[1]["ended_by"], "upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_client_is_reset() {
    let mut plane = Plane::start().await;
    let address = plane.tcp(&[]).await;
    for _ in 0..2 {
        // The reset may come before the connection is seen to be made.
        if let Ok(mut client) = TcpStream::connect(address).await {
            assert!(soon("the reset", client.read(&mut [0; 8])).await.is_err());
        }
    }
    let refused = plane.metric("sekisho_tcp_refused_total", &[("reason", "no_endpoint")]);
    assert!((refused - 2.0).abs() < 0.1, "{refused}");
}
