//! How connections with peers and ranges are protected.

use std::io;
use std::path::Path;

use super::fault::{At, Log, Place};
use super::table::Table;
use crate::model::{Invalid, Peer, PeerRange, Secret, Transport};

/// Octets of a key of TCP MD5 signatures (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_PASSWORD: usize = 80;

/// The keys of a peer or range; `None` when one of them has a fault.
pub(super) fn transport(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Transport> {
    let password = match table.path_of("password_file") {
        None if table.has("password_file") => return None,
        None => None,
        Some(at) => match password(&load(&at.value)) {
            Ok(password) => Some(password),
            Err(invalid) => {
                log.invalid(&at.place, &invalid);
                return None;
            }
        },
    };
    Some(Transport { password })
}

/// The key as it stands in the file, without the line end; no message ever holds any of it.
fn password(read: &io::Result<Vec<u8>>) -> Result<Secret, Invalid> {
    let octets = read.as_ref().map_err(|error| {
        Invalid::new(
            format!("the file cannot be read: {}", error.kind()),
            "correct the path, or let the user of the service read it and nobody else (chown, chmod 0400)",
        )
    })?;
    let octets = octets.strip_suffix(b"\n").unwrap_or(octets);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    if octets.is_empty() || octets.len() > LONGEST_PASSWORD {
        return Err(Invalid::new(
            "the file is empty, or longer than the 80 octets that a key may have",
            "put the password into it, on one line",
        ));
    }
    if octets.iter().any(|octet| matches!(octet, b'\n' | b'\r' | 0)) {
        return Err(Invalid::new(
            "the file holds more than one line, or a NUL",
            "put the password into it, on one line",
        ));
    }
    Ok(Secret::new(octets))
}

/// The kernel picks a key by the peer's address alone: a range's key would be asked of every peer inside it.
pub(super) fn check_signed(peers: &[At<Peer>], ranges: &[At<PeerRange>], log: &Log) {
    for at in peers.iter().filter(|at| at.value.transport.password.is_none()) {
        let around = ranges
            .iter()
            .filter(|range| range.value.prefix.contains(at.value.address))
            .find(|range| range.value.transport.password.is_some());
        if let Some(range) = around {
            let place = Place {
                line: at.place.line,
                key: format!("{}.password_file", at.place.key),
            };
            let what = format!(
                "missing, and {} is inside {} of {} (line {}), which has one: the kernel asks for it from every address of the range",
                at.value.address, range.value.prefix, range.place.key, range.place.line
            );
            log.fault(&place, what, "write the password_file of this peer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_as_they_stand_and_never_in_a_message() {
        let long = "x".repeat(80);
        for (input, want) in [
            ("s3cret", Some("s3cret")),
            ("s3cret\n", Some("s3cret")),
            ("s3cret\r\n", Some("s3cret")),
            (" s3cret ", Some(" s3cret ")),
            (&*long, Some(&*long)),
            (&*format!("{long}s3cret"), None),
            ("s3cret\n\n", None),
            ("s3cret\nother", None),
            ("s3cret\0", None),
            ("", None),
            ("\n", None),
        ] {
            let got = password(&Ok(input.as_bytes().to_vec()));
            let text = got.as_ref().ok().map(|key| String::from_utf8_lossy(key.expose()));
            assert_eq!(text.as_deref(), want, "{input:?}");
            assert!(!format!("{got:?}").contains("s3cret"), "{input:?}");
        }
        let denied = password(&Err(io::ErrorKind::PermissionDenied.into()));
        assert!(format!("{denied:?}").contains("chmod"), "{denied:?}");
    }
}
