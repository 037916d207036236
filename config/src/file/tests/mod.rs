//! Whole files: the page that operators read, every refusal word by word, and hostile text.

mod hostile;
mod page;
mod refusals;
mod sets;

use std::io;
use std::path::Path;

use super::{Fault, Reading};

/// The page; its example and its reference are tested here.
const PAGE: &str = include_str!("../../../../docs/configuration.md");

const SOURCE: &str = "[source]\nmanifests = \"/m\"\n";
const BGP: &str = "[bgp]\nasn = 64512\nrouter_id = \"192.0.2.10\"\n";

/// Any PEM block of this label is a certificate to the reader of the file; the TLS library judges it later.
const CA: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

/// The files that a text can name.
fn load(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/proc/sys/kernel/hostname") => Ok(b"box-7\n".to_vec()),
        Some("/etc/sekisho/acme-ca.pem" | "/etc/sekisho/collector-ca.pem" | "/etc/sekisho/id-ca.pem") => {
            Ok(CA.as_bytes().to_vec())
        }
        Some("/etc/sekisho/eab.key") => Ok(b"aGVsbG8\n".to_vec()),
        Some("/etc/sekisho/bgp.password") => Ok(b"hunter2\n".to_vec()),
        Some("/etc/sekisho/tor-1.ao") => Ok(b"hunter2\n".to_vec()),
        Some("/etc/sekisho/sticky.key") => Ok(b"0123456789abcdef\n".to_vec()),
        Some("/etc/sekisho/5xx.html" | "/etc/sekisho/404.html" | "/etc/sekisho/5xx.txt") => {
            Ok(b"<p>sorry</p>".to_vec())
        }
        Some("/etc/sekisho/text") => Ok(b"hunter2 is no base64".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn read(text: &str) -> Result<Reading, Vec<Fault>> {
    super::read("box.toml", text, &load)
}

fn lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(Fault::to_string).collect()
}

fn faults(text: &str) -> Vec<String> {
    read(text).err().map(|faults| lines(&faults)).unwrap_or_default()
}

/// The complete file of the page.
fn example() -> &'static str {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}
