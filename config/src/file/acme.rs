use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fault::{Log, quote, unreadable};
use super::table::Table;
use crate::model::{Acme, Invalid, Secret};

/// Octets of a file that holds a certificate or a key, beyond which it is something else.
const LONGEST: usize = 256 * 1024;

pub(super) fn read(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Acme> {
    let directory = table.text("directory", directory);
    let email = table.text("email", email);
    let ca_file = table.path_of("ca_file");
    if let Some(at) = &ca_file {
        match load(&at.value) {
            Ok(pem)
                if CertificateDer::pem_slice_iter(pem.get(..LONGEST).unwrap_or(&pem))
                    .any(|found| found.is_ok()) => {}
            Ok(_) => log.fault(
                &at.place,
                "no certificate in PEM form in this file",
                "name a file with the root certificate of the CA",
            ),
            Err(error) => log.invalid(&at.place, &unreadable(&error)),
        }
    }
    let key_id = table.text("eab_key_id", |text| {
        if text.is_empty() || text.len() > 1024 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid::new(
                "not a key identifier",
                "copy it from the CA, without spaces",
            ));
        }
        Ok(Arc::<str>::from(text))
    });
    let key = table
        .path_of("eab_hmac_key_file")
        .and_then(|at| match hmac_key(&load(&at.value)) {
            Ok(key) => Some(key),
            Err(invalid) => {
                log.invalid(&at.place, &invalid);
                None
            }
        });
    for (name, other) in [
        ("eab_key_id", "eab_hmac_key_file"),
        ("eab_hmac_key_file", "eab_key_id"),
    ] {
        if table.has(name) && !table.has(other) && !log.has_syntax_faults() {
            log.fault(
                &table.place_of(name),
                format!("{other} is missing"),
                format!("an external account binding needs both: write {other}, or remove {name}"),
            );
        }
    }
    Some(Acme {
        directory: directory?.value,
        email: email.map(|at| at.value),
        ca_file: ca_file.map(|at| at.value),
        eab: key_id.map(|at| at.value).zip(key),
    })
}

/// RFC 8555 section 6.1: ACME runs over HTTPS.
fn directory(text: &str) -> Result<Arc<str>, Invalid> {
    const HELP: &str =
        "write the https URL of the CA's directory, for example \"https://acme.example/directory\"";
    let uri: Option<http::Uri> = text.parse().ok();
    let fits = uri.is_some_and(|uri| {
        uri.scheme() == Some(&http::uri::Scheme::HTTPS)
            && uri
                .authority()
                .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
    });
    if fits && text.len() <= 2048 && text.is_ascii() {
        Ok(text.into())
    } else {
        // A user part may be a password.
        let shown = if text.contains('@') {
            "the value".to_owned()
        } else {
            quote(text)
        };
        Err(Invalid::new(format!("{shown} is not an https URL"), HELP))
    }
}

fn email(text: &str) -> Result<Arc<str>, Invalid> {
    let parts = text
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    let plain = text.len() <= 254
        && text
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, ':' | ',' | '<' | '>' | '?'));
    if parts && plain {
        Ok(text.into())
    } else {
        Err(Invalid::new(
            format!("{} is not one email address", quote(text)),
            "write it plain, for example \"ops@example.com\"",
        ))
    }
}

/// The key that a CA hands out as base64url; no message ever holds the file's name or content, either may be the key.
fn hmac_key(read: &io::Result<Vec<u8>>) -> Result<Secret, Invalid> {
    const HELP: &str = "put the HMAC key into the file as the CA prints it, in base64url";
    let octets = match read {
        Ok(octets) => octets,
        Err(error) => return Err(unreadable(error)),
    };
    let text = octets.trim_ascii();
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    if text.is_empty() || text.len() > 4096 {
        return Err(Invalid::new("the file is empty or far too long for a key", HELP));
    }
    URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .map(Secret::new)
        .map_err(|_| Invalid::new("the file does not hold base64url", HELP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        for (input, want) in [
            ("https://acme.example/directory", true),
            ("https://127.0.0.1:14000/dir", true),
            ("https://[::1]:14000/dir", true),
            ("http://acme.example/directory", false),
            ("acme.example/directory", false),
            ("https:///directory", false),
            ("https://user:secret@acme.example/", false),
            ("https://acme.example/a b", false),
            ("", false),
        ] {
            assert_eq!(directory(input).is_ok(), want, "{input:?}");
            assert!(!format!("{:?}", directory(input)).contains("secret"), "{input:?}");
        }
    }

    #[test]
    fn emails() {
        for (input, want) in [
            ("ops@example.com", true),
            ("mailto:ops@example.com", false),
            ("a@b,c@d", false),
            ("a@b@c", false),
            ("@b", false),
            ("ops", false),
            ("a b@c", false),
        ] {
            assert_eq!(email(input).is_ok(), want, "{input:?}");
        }
    }

    #[test]
    fn keys_in_either_alphabet_and_never_in_a_message() {
        for (input, want) in [
            ("aGVsbG8", Some("hello")),
            (" aGVsbG8=\n", Some("hello")),
            ("_-8", Some("\u{fffd}\u{fffd}")),
            ("/+8=", Some("\u{fffd}\u{fffd}")),
            ("", None),
            ("s3cret key", None),
        ] {
            let got = hmac_key(&Ok(input.as_bytes().to_vec()));
            let text = got
                .as_ref()
                .ok()
                .map(|key| String::from_utf8_lossy(key.expose()).into_owned());
            assert_eq!(text.as_deref(), want, "{input:?}");
            assert!(!format!("{got:?}").contains("s3cret"), "{input:?}");
        }
    }
}
