//! Request lines: method, target, version, and the ends of lines.

use super::{judge, plane};

const PLAIN: &str = "GET / HTTP/1.1|host: a.test||";

#[tokio::test(flavor = "multi_thread")]
async fn request_lines() {
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            // Methods.
            ("GET / HTTP/1.1|Host: a.test||", PLAIN),
            ("get / HTTP/1.1|Host: a.test||", "get / HTTP/1.1|host: a.test||"),
            ("X / HTTP/1.1|Host: a.test||", "X / HTTP/1.1|host: a.test||"),
            (
                "M-SEARCH / HTTP/1.1|Host: a.test||",
                "M-SEARCH / HTTP/1.1|host: a.test||",
            ),
            (
                "!#$%&'*+-.^_`~ / HTTP/1.1|Host: a.test||",
                "!#$%&'*+-.^_`~ / HTTP/1.1|host: a.test||",
            ),
            (
                "DELETE / HTTP/1.1|Host: a.test||",
                "DELETE / HTTP/1.1|host: a.test||",
            ),
            (
                "POST / HTTP/1.1|Host: a.test||",
                "POST / HTTP/1.1|content-length: 0|host: a.test||",
            ),
            (
                "PUT / HTTP/1.1|Host: a.test||",
                "PUT / HTTP/1.1|content-length: 0|host: a.test||",
            ),
            ("GE(T / HTTP/1.1|Host: a.test||", "400"),
            ("GE\"T / HTTP/1.1|Host: a.test||", "400"),
            ("GE@T / HTTP/1.1|Host: a.test||", "400"),
            ("GET: / HTTP/1.1|Host: a.test||", "400"),
            ("GET, / HTTP/1.1|Host: a.test||", "400"),
            ("GE\0T / HTTP/1.1|Host: a.test||", "400"),
            ("GE\x7fT / HTTP/1.1|Host: a.test||", "400"),
            ("GE«c3»«a9» / HTTP/1.1|Host: a.test||", "400"),
            ("«ff»GET / HTTP/1.1|Host: a.test||", "400"),
            ("«ef»«bb»«bf»GET / HTTP/1.1|Host: a.test||", "400"),
            ("/ HTTP/1.1|Host: a.test||", "400"),
            (" / HTTP/1.1|Host: a.test||", "400"),
            (
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1|Host: a.test||",
                "400",
            ),
            // Blanks.
            (" GET / HTTP/1.1|Host: a.test||", "400"),
            ("\tGET / HTTP/1.1|Host: a.test||", "400"),
            ("GET  / HTTP/1.1|Host: a.test||", "400"),
            ("GET /  HTTP/1.1|Host: a.test||", "400"),
            ("GET / HTTP/1.1 |Host: a.test||", "400"),
            ("GET / HTTP/1.1\t|Host: a.test||", "400"),
            ("GET\t/ HTTP/1.1|Host: a.test||", "400"),
            ("GET /\tHTTP/1.1|Host: a.test||", "400"),
            ("GET\x0b/ HTTP/1.1|Host: a.test||", "400"),
            ("GET\x0c/ HTTP/1.1|Host: a.test||", "400"),
            ("GET«a0»/ HTTP/1.1|Host: a.test||", "400"),
            ("GET«85»/ HTTP/1.1|Host: a.test||", "400"),
            ("GET\r/ HTTP/1.1|Host: a.test||", "400"),
            ("GET / \rHTTP/1.1|Host: a.test||", "400"),
            ("GET /a b HTTP/1.1|Host: a.test||", "400"),
            ("GET / HTTP/1.1 HTTP/1.1|Host: a.test||", "400"),
            ("GET / HTTP/1.0 HTTP/1.1|Host: a.test||", "400"),
            ("GET / x HTTP/1.1|Host: a.test||", "400"),
            // Versions.
            ("GET /|Host: a.test||", "400"),
            ("GET|Host: a.test||", "400"),
            ("GET / |Host: a.test||", "400"),
            ("GET / http/1.1|Host: a.test||", "400"),
            ("GET / Http/1.1|Host: a.test||", "400"),
            ("GET / HTTP/1|Host: a.test||", "400"),
            ("GET / HTTP/1.|Host: a.test||", "400"),
            ("GET / HTTP/.1|Host: a.test||", "400"),
            ("GET / HTTP/11|Host: a.test||", "400"),
            ("GET / HTTP/1.10|Host: a.test||", "400"),
            ("GET / HTTP/01.1|Host: a.test||", "400"),
            ("GET / HTTP/1.01|Host: a.test||", "400"),
            ("GET / HTTP/1 .1|Host: a.test||", "400"),
            ("GET / HTTP/1.1a|Host: a.test||", "400"),
            ("GET / HTTP/1.1\0|Host: a.test||", "400"),
            ("GET / HTTP/+1.1|Host: a.test||", "400"),
            ("GET / HTTP/-1.1|Host: a.test||", "400"),
            ("GET / HTTP/1,1|Host: a.test||", "400"),
            ("GET / HTTP /1.1|Host: a.test||", "400"),
            ("GET / HTTPS/1.1|Host: a.test||", "400"),
            ("GET / HTP/1.1|Host: a.test||", "400"),
            ("GET / ICY/1.1|Host: a.test||", "400"),
            ("GET / RTSP/1.0|Host: a.test||", "400"),
            ("GET / HTTP/0.9|Host: a.test||", "505"),
            ("GET / HTTP/1.2|Host: a.test||", "505"),
            ("GET / HTTP/1.9|Host: a.test||", "505"),
            ("GET / HTTP/2.0|Host: a.test||", "505"),
            ("GET / HTTP/3.0|Host: a.test||", "505"),
            ("GET / HTTP/9.9|Host: a.test||", "505"),
            ("PRI * HTTP/2.1||SM||", "505"),
            ("GET / HTTP/1.0|Host: a.test||", "GET / HTTP/1.1|host: a.test||^"),
        ],
    )
    .await;
}

/// Ends of lines are CRLF.
#[tokio::test(flavor = "multi_thread")]
async fn ends_of_lines() {
    let (plane, recorder) = plane().await;
    judge(
        &plane,
        &recorder,
        &[
            ("|GET / HTTP/1.1|Host: a.test||", PLAIN),
            ("||||GET / HTTP/1.1|Host: a.test||", PLAIN),
            ("|||||GET / HTTP/1.1|Host: a.test||", "400"),
            ("\nGET / HTTP/1.1|Host: a.test||", "400"),
            ("\rGET / HTTP/1.1|Host: a.test||", "400"),
            ("\r\r\nGET / HTTP/1.1|Host: a.test||", "400"),
            (" |GET / HTTP/1.1|Host: a.test||", "400"),
            ("\0|GET / HTTP/1.1|Host: a.test||", "400"),
            ("GET / HTTP/1.1\nHost: a.test\n\n", "400"),
            ("GET / HTTP/1.1\nHost: a.test||", "400"),
            ("GET / HTTP/1.1|Host: a.test\n\n", "400"),
            ("GET / HTTP/1.1|Host: a.test\n|", "400"),
            ("GET / HTTP/1.1|Host: a.test|\n", "400"),
            ("GET / HTTP/1.1\rHost: a.test||", "400"),
            ("GET / HTTP/1.1|Host: a.test\r\r", "400"),
            ("GET / HTTP/1.1|Host: a.test\r\rX: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test\rX: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test\r\r\nX: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test|\r\r\n", "400"),
            ("GET / HTTP/1.1|Host: a.test\n\rX: y||", "400"),
            ("GET / HTTP/1.1\r\r\nHost: a.test||", "400"),
            ("GET / HTTP/1.1|Host: a.test«0b»X: y||", "400"),
            ("GET / HTTP/1.1|Host: a.test«0c»||", "400"),
            (
                "GET / HTTP/1.1|Host: a.test|X: a«85»b||",
                "GET / HTTP/1.1|host: a.test|x: a«85»b||",
            ),
            (
                "GET / HTTP/1.1|Host: a.test|X: a«e2»«80»«a8»Y: b||",
                "GET / HTTP/1.1|host: a.test|x: a\u{2028}Y: b||",
            ),
            ("GET / HTTP/1.1|Host: a.test|X: a\nContent-Length: 40||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: a\rContent-Length: 40||", "400"),
            ("GET / HTTP/1.1|Host: a.test|X:\n|", "400"),
            ("GET / HTTP/1.1|Host: a.test|X:\n||", "400"),
            ("GET / HTTP/1.1|Host: a.test|\n\n", "400"),
            ("GET / HTTP/1.1|Host: a.test|X: y|\0||", "400"),
        ],
    )
    .await;
}

/// What is no HTTP at all.
#[tokio::test(flavor = "multi_thread")]
async fn other_protocols() {
    let (plane, recorder) = plane().await;
    judge(&plane, &recorder, &[
        ("«16»«03»«01»«02»«00»«01»«00»«01»«fc»«03»«03»", "400"),
        ("«80»«2e»«01»«00»«02»", "400"),
        ("SSH-2.0-OpenSSH_9.2|", "400"),
        ("EHLO a.test|", "400"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 80|GET / HTTP/1.1|Host: a.test||", "400"),
        ("«0d»«0a»«0d»«0a»«00»«0d»«0a»QUIT«0a»«21»«11»«00»«0c»«7f»«00»«00»«01»«7f»«00»«00»«01»«00»«01»«00»P", "400"),
        ("{\"a\": 1}|", "400"),
        ("<xml/>|", "400"),
        ("OPTIONS sip:a.test SIP/2.0|", "400"),
        ("HTTP/1.1 200 OK|Content-Length: 0||", "400"),
    ]).await;
}
