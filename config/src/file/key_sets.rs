//! `[key_sets]`: from where key sets for tokens may be fetched.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{Log, quote_url};
use super::observe::roots;
use super::table::Table;
use crate::model::{Invalid, KeySets};

const REFRESH: Duration = Duration::from_mins(10);

pub(super) fn read(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<KeySets> {
    let from = table.list("from", url);
    let ca_file = roots(table, log, load);
    Some(KeySets {
        from: from?.value.into_iter().map(|at| at.value).collect(),
        refresh: table.duration("refresh").map_or(REFRESH, |at| at.value),
        ca_file,
    })
}

/// The beginning of URLs, or one.
fn url(text: &str) -> Result<Arc<str>, Invalid> {
    const HELP: &str = "write https URLs, with a slash at the end for all that begin so, for example \"https://id.example.com/realms/\"";
    if crate::model::is_https_url(text) && !text.contains('?') {
        return Ok(text.into());
    }
    Err(Invalid::new(
        format!("{} is not an https URL", quote_url(text)),
        HELP,
    ))
}
