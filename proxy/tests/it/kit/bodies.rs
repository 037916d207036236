//! Where the body of a request ends: for the box and for the endpoint at the same octet.

use super::{judge, plane, plane_with};
use sekisho_config::model::Http;

#[tokio::test(flavor = "multi_thread")]
async fn lengths() {
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("GET / HTTP/1.1|Host: a.test|Content-Length: 3||abc", "GET / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("HEAD / HTTP/1.1|Host: a.test|Content-Length: 3||abc", "HEAD / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("DELETE / HTTP/1.1|Host: a.test|Content-Length: 3||abc", "DELETE / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("OPTIONS / HTTP/1.1|Host: a.test|Content-Length: 3||abc", "OPTIONS / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("GET / HTTP/1.1|Host: a.test|Content-Length: 0||", "GET / HTTP/1.1|content-length: 0|host: a.test||"),
        // Digits that some read in octal.
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 003||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 010||abcdefghij", "POST / HTTP/1.1|content-length: 10|host: a.test||abcdefghij"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 0000||", "POST / HTTP/1.1|content-length: 0|host: a.test||"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length:\t3 ||abc", "POST / HTTP/1.1|content-length: 3|host: a.test||abc"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 46||GET /smuggled HTTP/1.1|Host: a.test|X: «0d»«0a»«0d»«0a»x", "POST / HTTP/1.1|content-length: 46|host: a.test||GET /smuggled HTTP/1.1|Host: a.test|X: ||x"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length:||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: x||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: +3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: -3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: -0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3.0||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3e0||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 0x3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3h||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3;||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3,||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: ,3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3,3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3, 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3, 4||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: \"3\"||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: '3'||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: «ef»«bc»«93»||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: «d9»«a3»||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3«00»||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: «0b»3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Content-Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Content-Length: 4||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 0|Content-Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|content-length: 0||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Content-Length:||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length : 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length«0b»: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length| : 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test| Content-Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|X: y| Content-Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3| ||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length:| 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content Length: 3||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 9223372036854775808||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 18446744073709551615||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 18446744073709551616||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 18446744073709551619||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 4294967299999999999999||abc", "400"),
        ("GET / HTTP/1.0|Host: a.test|Content-Length: 3||abc", "GET / HTTP/1.1|content-length: 3|host: a.test||abc^"),
    ]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codings() {
    const GOT: &str = "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc";
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||3|abc|0||", GOT),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: CHUNKED||3|abc|0||", GOT),
        ("POST / HTTP/1.1|Host: a.test|transfer-ENCODING:\tchunked ||3|abc|0||", GOT),
        ("GET / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||3|abc|0||", "GET / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc"),
        ("HEAD / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||3|abc|0||", "HEAD / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked|Content-Length: 3||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 13|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 0|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length:|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Transfer-Encoding: identity||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Transfer-Encoding:||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Content-Length: 3|Transfer-Encoding: x||abc", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked|Transfer-Encoding: identity||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: identity|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: x|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding:|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked, identity||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: identity, chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked, chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked,||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: ,chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked;||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked;q=1||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: gzip, chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked, gzip||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: xchunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunkedx||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunk||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: \"chunked\"||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: 'chunked'||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: x chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked x||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: «0b»chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked«0c»||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked«00»||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: «ff»chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chun«e2»«84»«aa»ed||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunKed«a0»||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding:| chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked| ,x||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding : chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding\t: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding| : chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test| Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|X: y| Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|X: y\nTransfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|X: y\rTransfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|«00»Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding«00»: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer«ad»-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.1|Host: a.test|Transfer-Encoding; chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.0|Host: a.test|Transfer-Encoding: chunked||3|abc|0||", "400"),
        ("POST / HTTP/1.0|Host: a.test|Connection: keep-alive|Transfer-Encoding: chunked||3|abc|0||", "400"),
    ]).await;
}

/// Chunks that are right; they are framed anew.
#[tokio::test(flavor = "multi_thread")]
async fn chunks() {
    const GOT: &str = "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc";
    let (plane, recorder) = plane().await;
    let cases: Vec<(String, &str)> = [
        ("1|a|1|b|1|c|0||", GOT),
        ("003|abc|000||", GOT),
        ("0000000000000003|abc|0000000000000000||", GOT),
        ("3;x|abc|0;y||", GOT),
        ("3;x=y;z=\"a;b\"|abc|0||", GOT),
        ("3;|abc|0||", GOT),
        ("3; x|abc|0||", GOT),
        ("3;x=\t\"\"|abc|0||", GOT),
        ("3;«ff»|abc|0||", GOT),
        ("A|abcdefghij|0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abcdefghij"),
        ("a|abcdefghij|0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abcdefghij"),
        ("5|0|||0||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||0||"),
        // Trailers, and those that decide.
        ("3|abc|0|X-Sum: 1||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc|x-sum: 1"),
        ("3|abc|0|X-Sum: 1|X-Sum: 2||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc|x-sum: 1|x-sum: 2"),
        ("3|abc|0|Content-Length: 9||", GOT),
        ("3|abc|0|Transfer-Encoding: chunked||", GOT),
        ("3|abc|0|Host: b.test||", GOT),
        ("3|abc|0|Connection: x-sum|X-Sum: 1||", "POST / HTTP/1.1|host: a.test|transfer-encoding: chunked||abc|x-sum: 1"),
        ("3|abc|0|Connection: close|Keep-Alive: x|TE: trailers|Trailer: x|Upgrade: x|Expect: x||", GOT),
        ("3|abc|0|Authorization: Basic eA==|Cookie: a=b|Set-Cookie: a=b|Proxy-Authorization: x||", GOT),
        ("3|abc|0|X-Forwarded-For: 6.6.6.6|X-Real-IP: 6.6.6.6|Forwarded: for=6.6.6.6|X_Forwarded_For: x|X-Request-ID: y||", GOT),
        ("3|abc|0|X-Original-URL: /admin|X-Rewrite-URL: /admin|Proxy: x||", GOT),
        ("3|abc|0|Content-Type: x|Content-Encoding: x|Content-Range: x|Range: x|Cache-Control: x||", GOT),
    ]
    .map(|(body, want)| (format!("POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||{body}"), want))
    .into();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(sent, want)| (&**sent, *want)).collect();
    judge(&plane, &recorder, &cases).await;
}

/// Chunks that are none: what the endpoint has got does not look whole, and nothing behind it is a request.
#[tokio::test(flavor = "multi_thread")]
async fn broken_chunks() {
    let (plane, recorder) = plane_with(Http::default()).await;
    let mut wrong = Vec::new();
    for body in [
        "|3|abc|0||",
        " 3|abc|0||",
        "3 |abc|0||",
        "3\t|abc|0||",
        "\t3|abc|0||",
        "3 ;x|abc|0||",
        "3\0|abc|0||",
        "0x3|abc|0||",
        "0X3|abc|0||",
        "x3|abc|0||",
        "+3|abc|0||",
        "-3|abc|0||",
        "3h|abc|0||",
        "3.0|abc|0||",
        "3_0|abc|0||",
        "g|abc|0||",
        "«ef»«bc»«93»|abc|0||",
        "\"3\"|abc|0||",
        "3,3|abc|0||",
        ";x|abc|0||",
        "3:|abc|0||",
        "3#|abc|0||",
        "00000000000000003|abc|0||",
        "10000000000000003|abc|0||",
        "8000000000000000|abc|0||",
        "ffffffffffffffff|abc|0||",
        "fffffffffffffffff|abc|0||",
        "100000000000000000000003|abc|0||",
        "3\nabc|0||",
        "3\rabc|0||",
        "3\r\r\nabc|0||",
        "3\n\r\nabc|0||",
        "3|abc\n0||",
        "3|abc\r0||",
        "3|abc0||",
        "3|abc |0||",
        "3|abc||0||",
        "2|abc|0||",
        "3|abcd|0||",
        "4|abc|0||",
        "3|abc|0\n\n",
        "3|abc|0\n|",
        "3|abc|0|\n",
        "3|abc|0\r\r",
        "3|abc|\n0||",
        "3;\n|abc|0||",
        "3;x\nabc|0||",
        "3;x\n|abc|0||",
        "3;\"\n\"|abc|0||",
        "3;x\rabc|0||",
        "3;x\r\r\nabc|0||",
        "3;\0|abc|0||",
        "3;\x7f|abc|0||",
        "3;\x0b|abc|0||",
        "2;\nxx|4c|0||",
        "3|abc|0;x\n||",
        "3|abc|0;\nX: y||",
        "3|abc|0|x||",
        "3|abc|0| x: y||",
        "3|abc|0|x : y||",
        "3|abc|0|x: y\n||",
        "3|abc|0|x: y| z||",
        "3|abc|0|: y||",
        "3|abc|0|x: \0||",
        "3|abc|0|x: y\rz: 1||",
        "3|abc|0|x(: y||",
        "3|abc|0|GET /smuggled HTTP/1.1||",
        "3|abc|0|\nGET /smuggled HTTP/1.1||",
        "3|abc|00 ||",
        "3|abc|-0||",
        "3|abc|0 |x: y||",
    ] {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(plane.http()).await.unwrap();
        let sent = format!(
            "POST / HTTP/1.1|Host: a.test|Transfer-Encoding: chunked||{body}GET /smuggled HTTP/1.1|Host: a.test||"
        );
        stream.write_all(&super::octets(&sent)).await.unwrap();
        let statuses = super::statuses(&super::drain(&mut stream).await);
        // The endpoint sees the end of its connection later than the client the end of the other.
        let got = crate::support::soon("the end at the endpoint", async {
            loop {
                let got = recorder.take();
                if !got.is_empty() || plane.metric("sekisho_http_upstream_connects_total", &[]) < 0.5 {
                    return got;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        });
        let got = tokio::time::timeout(std::time::Duration::from_millis(50), got)
            .await
            .unwrap_or_default();
        let cut = got.iter().all(|got| {
            got.starts_with("cut: POST / HTTP/1.1|") && !got.contains("|0||") && !got.contains("smuggled")
        });
        if statuses != ["400"] || !cut {
            wrong.push(format!("{body:?}: {statuses:?} {got:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
