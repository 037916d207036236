//! The documents agree with the code.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `.rs` file below the rooms.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = [
        "src",
        "config/src",
        "bgp/src",
        "proxy/src",
        "acme/src",
        "ingress-controller/src",
    ]
    .iter()
    .map(|room| root().join(room))
    .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Whether the text is the name of a metric and nothing else.
fn is_metric(text: &str) -> bool {
    text.starts_with("sekisho_")
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Metric names that stand alone between two `quote`s.
fn names(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|part| is_metric(part))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_page_lists_every_metric_and_no_other() {
    let in_code: BTreeSet<String> = sources()
        .iter()
        .flat_map(|path| names(&std::fs::read_to_string(path).unwrap(), '"'))
        .collect();
    let in_docs = names(&text("docs/metrics.md"), '`');
    assert!(
        in_code.len() > 10,
        "the search for metric names in the code is broken: {in_code:?}"
    );
    assert_eq!(
        in_code.difference(&in_docs).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "in the code, missing in docs/metrics.md"
    );
    assert_eq!(
        in_docs.difference(&in_code).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "in docs/metrics.md, missing in the code"
    );
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut pages: Vec<PathBuf> = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    pages.extend(
        std::fs::read_dir(root().join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
    );
    let mut dead = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target)
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.contains(char::is_whitespace) {
                continue;
            }
            if !page.parent().unwrap().join(file).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}
