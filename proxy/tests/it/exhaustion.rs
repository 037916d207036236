//! What runs out and comes back. The plane runs in a process of its own, since a limit of files holds for all of a process.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{Backend, Plane, read_all, read_until, soon};

/// Where the plane's endpoint is; the test is the plane then.
const ENDPOINT: &str = "SEKISHO_TEST_ENDPOINT";
/// Files that the plane may have open; it needs some forty itself.
const FILES: u32 = 90;
const CLIENTS: usize = 120;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        return serve(&endpoint).await;
    }
    let backend = Backend::hello().await;
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -n {FILES} && exec \"$0\" --exact exhaustion::files --nocapture"
        ))
        .arg(std::env::current_exe().unwrap())
        .env(ENDPOINT, backend.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = soon("the address of the plane", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("an address");
            if let Some((_, address)) = line.split_once("address=") {
                return address.to_owned();
            }
        }
    })
    .await;
    let mut kept = TcpStream::connect(&address).await.unwrap();
    kept.write_all(GET).await.unwrap();
    read_until(&mut kept, "hello").await;
    // More than there is room for; what is not accepted waits in the kernel's queue.
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(&address).await.unwrap();
        client.write_all(GET).await.unwrap();
        clients.push(client);
    }
    // Those that were let in have an answer: the endpoint's, or that there is no room for a connection to it.
    let (mut served, mut refused) = (0, 0);
    for client in &mut clients {
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_millis(20), client.read(&mut answer)).await;
        let Ok(Ok(count)) = read else { continue };
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        served += usize::from(answer.starts_with("HTTP/1.1 200"));
        refused += usize::from(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"));
    }
    assert!(
        served + refused > 0 && served + refused < CLIENTS,
        "{served} {refused}"
    );
    // What was open goes on.
    kept.write_all(GET).await.unwrap();
    let answer = read_until(&mut kept, "\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(clients);
    soon("room again", async {
        loop {
            let mut client = TcpStream::connect(&address).await.unwrap();
            client.write_all(LAST).await.unwrap();
            // It may be one more that there is no room for.
            if read_all(&mut client).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    })
    .await;
    drop(child.stdin.take());
    let ended = soon("the end of the plane", child.wait()).await.unwrap();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        said.push_str(&line);
    }
    assert!(ended.success(), "{said}");
}

/// The plane, until standard input ends.
async fn serve(endpoint: &str) {
    let mut plane = Plane::start().await;
    plane.host("a.test", &[endpoint.parse().unwrap()]);
    plane.publish();
    println!("\naddress={}", plane.http());
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.unwrap();
    let kind = [("kind", "out_of_files")];
    assert!(plane.metric("sekisho_listener_accept_errors_total", &kind) > 0.5);
}
