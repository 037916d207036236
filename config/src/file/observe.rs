//! `[access_log]` and `[tracing]`: what the box tells of exchanges.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fault::{Log, quote_url, unreadable};
use super::table::Table;
use crate::model::{AccessLog, Invalid, LogFormat, Tracing};

/// Octets of a file with root certificates, beyond which it is something else.
const LONGEST: usize = 1024 * 1024;

pub(super) fn access_log(table: &Table<'_>) -> AccessLog {
    let default = AccessLog::default();
    AccessLog {
        format: match table.word("format").map(|at| at.value) {
            Some("combined") => LogFormat::Combined,
            _ => LogFormat::Json,
        },
        file: table.path_of("file").map(|at| Arc::from(at.value)),
        sample_one_in: table
            .number("sample_one_in")
            .map_or(default.sample_one_in, |at| at.value),
    }
}

pub(super) fn tracing(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Tracing> {
    let otlp = table.text("otlp", collector);
    let ca_file = roots(table, log, load);
    Some(Tracing {
        otlp: otlp?.value,
        sample_one_in: table.number("sample_one_in").map_or(100, |at| at.value),
        ca_file,
    })
}

/// The file with roots that `ca_file` names.
pub(super) fn roots(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Arc<str>> {
    let at = table.path_of("ca_file")?;
    match load(&at.value).map(String::from_utf8) {
        Ok(Ok(pem))
            if pem.len() <= LONGEST
                && CertificateDer::pem_slice_iter(pem.as_bytes()).any(|found| found.is_ok()) =>
        {
            Some(Arc::from(pem))
        }
        Ok(_) => {
            log.fault(
                &at.place,
                "no certificate in PEM form in this file",
                "name a file with the root certificate that those of the other side end in",
            );
            None
        }
        Err(error) => {
            log.invalid(&at.place, &unreadable(&error));
            None
        }
    }
}

/// The collector's base URL; `/v1/traces` is added to it.
fn collector(text: &str) -> Result<Arc<str>, Invalid> {
    const HELP: &str =
        "write the base URL of an OTLP collector over HTTP, for example \"http://127.0.0.1:4318\"";
    let uri: Option<http::Uri> = text.parse().ok();
    let fits = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            && uri
                .authority()
                .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
    });
    if fits && text.len() <= 2048 && text.is_ascii() {
        return Ok(text.into());
    }
    Err(Invalid::new(
        format!("{} is not a URL of a collector", quote_url(text)),
        HELP,
    ))
}
