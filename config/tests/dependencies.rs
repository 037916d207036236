//! Every crate that the workspace names stands in docs/dependencies.md, and no other.

use std::collections::BTreeSet;

const MANIFEST: &str = include_str!("../../Cargo.toml");
const PAGE: &str = include_str!("../../docs/dependencies.md");

#[test]
fn the_page_names_exactly_the_crates_of_the_workspace() {
    let manifest: toml::Table = MANIFEST.parse().unwrap();
    let crates: BTreeSet<&str> = manifest["workspace"]["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|name| !name.starts_with("sekisho-"))
        .collect();
    let rows: Vec<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let listed: BTreeSet<&str> = rows.iter().copied().collect();
    let missing: Vec<_> = crates.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&crates).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/dependencies.md lacks {missing:?} and still names {stale:?}"
    );
    assert_eq!(
        rows.len(),
        listed.len(),
        "a crate stands twice in docs/dependencies.md"
    );
}
