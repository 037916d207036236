//! What the admin API shows, each page a pure function of one [`Picture`](crate::control::Picture).

pub(crate) mod certificates;
pub(crate) mod endpoints;
pub(crate) mod explain;
pub(crate) mod status;
pub(crate) mod vips;

use sekisho_config::model::NameSet;
use serde::Serialize;

/// Names with spaces between.
fn names(names: &NameSet) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// The word that an enum's JSON form is.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
