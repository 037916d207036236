use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::model::{AnnounceTo, Role, Routing, SourceKind, Timeouts};

/// The page that operators read; its example and its reference are tested here.
const PAGE: &str = include_str!("../../../docs/configuration.md");

fn load(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/proc/sys/kernel/hostname") => Ok(b"box-7\n".to_vec()),
        Some("/etc/sekisho/acme-ca.pem") => Ok(CA.as_bytes().to_vec()),
        Some("/etc/sekisho/eab.key") => Ok(b"aGVsbG8\n".to_vec()),
        Some("/etc/sekisho/text") => Ok(b"hunter2 is no base64".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Any PEM block of this label is a certificate to the reader of the file; the TLS library judges it later.
const CA: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

fn read(text: &str) -> Result<Reading, Vec<Fault>> {
    super::read("box.toml", text, &load)
}

fn lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(Fault::to_string).collect()
}

fn faults(text: &str) -> Vec<String> {
    read(text).err().map(|faults| lines(&faults)).unwrap_or_default()
}

const SOURCE: &str = "[source]\nmanifests = \"/m\"\n";
const BGP: &str = "[bgp]\nasn = 64512\nrouter_id = \"192.0.2.10\"\n";

fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let settings = read(SOURCE).unwrap().settings;
    assert_eq!(&*settings.appliance.name, "box-7");
    assert_eq!(settings.appliance.admin.to_string(), "127.0.0.1:9901");
    assert_eq!(settings.listen.https.len(), 2);
    assert_eq!(settings.source.kind, SourceKind::Manifests("/m".into()));
    assert_eq!(settings.source.routing, Routing::Off);
    assert_eq!((settings.bgp, settings.acme), (None, None));
    assert_eq!(settings.timeouts, Timeouts::default());
}

#[test]
fn the_example_of_the_page_reads_without_a_warning() {
    let reading = super::read("/etc/sekisho/sekisho.toml", example(), &load)
        .map_err(|f| lines(&f))
        .unwrap();
    assert_eq!(lines(&reading.warnings), [""; 0]);
    let bgp = reading.settings.bgp.unwrap();
    assert_eq!(bgp.identity.hold_time, Duration::from_secs(9));
    assert!(bgp.peers.iter().any(|peer| peer.role == Role::Upstream));
    assert_eq!(reading.settings.source.routing, Routing::Required);
    assert_eq!(
        reading.settings.vips[0].announce_to,
        [AnnounceTo::Role(Role::Upstream)]
    );
}
