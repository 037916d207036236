//! What a BMP collector hears, read by a library that is not ours.

use bgpkit_parser::parse_bmp_msg;
use bgpkit_parser::parser::bmp::messages::BmpMessageBody;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::*;

/// A collector.
struct Collector {
    listener: TcpListener,
    stream: Option<TcpStream>,
    octets: BytesMut,
}

impl Collector {
    async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            stream: None,
            octets: BytesMut::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Reads until a message that `is` the one, and says which ones came.
    async fn until(&mut self, is: impl Fn(&BmpMessageBody) -> bool) -> Vec<BmpMessageBody> {
        let mut heard = Vec::new();
        let reading = async {
            loop {
                for mut message in crate::bmp::split(&mut self.octets) {
                    heard.push(parse_bmp_msg(&mut message).unwrap().message_body);
                }
                if heard.iter().any(&is) {
                    return;
                }
                let stream = match &mut self.stream {
                    Some(stream) => stream,
                    none => none.insert(self.listener.accept().await.unwrap().0),
                };
                let read = stream.read_buf(&mut self.octets).await.unwrap();
                assert_ne!(read, 0, "the box closed the connection after {heard:?}");
            }
        };
        assert!(timeout(PATIENCE, reading).await.is_ok(), "not heard");
        heard
    }
}

fn announces(body: &BmpMessageBody, prefix: &str) -> bool {
    let text = format!("{body:?}");
    let announced = text.split("announced_prefixes").nth(1);
    matches!(body, BmpMessageBody::RouteMonitoring(_)) && announced.is_some_and(|text| text.contains(prefix))
}

#[tokio::test]
async fn a_collector_hears_everything_and_then_every_change() {
    let mut collector = Collector::start().await;
    let mut bench = Bench::start(bgp()).await;
    let mut hand = bench.peer("127.0.1.5").await;
    hand.send(&hand.announcement(&["10.244.7.0/26", "10.244.8.0/26"], "10.0.0.1"))
        .await;
    while bench.handle.count(RouteQuery::default()).await.paths < 2 {
        tokio::task::yield_now().await;
    }
    bench.handle.configure(Bgp {
        bmp: vec![collector.address()],
        ..bgp()
    });
    let heard = collector.until(|body| announces(body, "10.244.7.0/26")).await;
    assert!(
        matches!(heard[0], BmpMessageBody::InitiationMessage(_)),
        "{heard:?}"
    );
    assert!(
        matches!(heard[1], BmpMessageBody::PeerUpNotification(_)),
        "{heard:?}"
    );
    // Both prefixes share their attributes and so a message.
    assert!(
        heard.iter().any(|body| announces(body, "10.244.8.0/26")),
        "{heard:?}"
    );

    hand.send(&hand.announcement(&["10.244.9.0/26"], "10.0.0.1"))
        .await;
    collector.until(|body| announces(body, "10.244.9.0/26")).await;
    // What is not let in is told as withdrawn, whatever was there before.
    hand.send(&hand.announcement(&["0.0.0.0/0"], "10.0.0.1")).await;
    hand.send(&hand.announcement(&["10.244.10.0/26"], "10.0.0.1"))
        .await;
    let heard = collector.until(|body| announces(body, "10.244.10.0/26")).await;
    assert!(
        !heard.iter().any(|body| announces(body, "0.0.0.0/0")),
        "{heard:?}"
    );
    drop(hand);
    collector
        .until(|body| matches!(body, BmpMessageBody::PeerDownNotification(_)))
        .await;

    // One that comes again hears everything again.
    let _hand = bench.peer("127.0.1.6").await;
    collector
        .until(|body| matches!(body, BmpMessageBody::PeerUpNotification(_)))
        .await;
    collector.stream = None;
    collector.octets.clear();
    let heard = collector
        .until(|body| matches!(body, BmpMessageBody::PeerUpNotification(_)))
        .await;
    assert!(
        matches!(heard[0], BmpMessageBody::InitiationMessage(_)),
        "{heard:?}"
    );
    // At an orderly stop it is told that this is the end.
    bench.handle.finish().await;
    collector
        .until(|body| matches!(body, BmpMessageBody::TerminationMessage(_)))
        .await;
}
