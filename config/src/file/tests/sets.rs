use super::{BGP, SOURCE, faults, read};
use crate::model::PolicyRule;

const SETS: &str = r#"[[bgp.sets]]
name = "transit"
as_numbers = ["64496", "64500-64510"]
communities = ["64496:*", "64500:666"]
prefixes = ["198.51.100.0/24 le 28", "2001:db8::/32"]
next_hops = ["10.0.0.0/28"]
[[bgp.sets]]
name = "empty"
"#;

fn file(rule: &str) -> String {
    format!(
        "{SOURCE}{BGP}[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 65001\nrole = \"upstream\"\nimport = [\"r\"]\n\
         {SETS}[[bgp.rules]]\nname = \"r\"\n{rule}\nthen = \"accept\"\n"
    )
}

fn rule(text: &str) -> PolicyRule {
    let bgp = read(&file(text)).unwrap().settings.bgp.unwrap();
    PolicyRule::clone(bgp.peers.iter().flat_map(|peer| &peer.import).next().unwrap())
}

#[test]
fn a_set_is_what_it_holds() {
    for (by_name, spelled) in [
        (
            "prefixes = [\"@transit\"]",
            "prefixes = [\"198.51.100.0/24 le 28\", \"2001:db8::/32\"]",
        ),
        (
            "prefixes = [\"10.0.0.0/8\", \"@transit\"]",
            "prefixes = [\"10.0.0.0/8\", \"198.51.100.0/24 le 28\", \"2001:db8::/32\"]",
        ),
        (
            "communities = [\"@transit\", \"1:1\"]",
            "communities = [\"64496:*\", \"64500:666\", \"1:1\"]",
        ),
        (
            "all_communities = [\"@transit\"]",
            "all_communities = [\"64496:*\", \"64500:666\"]",
        ),
        ("next_hops = [\"@transit\"]", "next_hops = [\"10.0.0.0/28\"]"),
        (
            "as_path = \"^[@transit 65001] .* @transit$\"",
            "as_path = \"^[64496 64500-64510 65001] .* [64496 64500-64510]$\"",
        ),
    ] {
        assert_eq!(rule(by_name), rule(spelled), "{by_name}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for (bad, want) in [
        (
            "prefixes = [\"@transits\"]",
            "prefixes[0]: no set is named `transits`",
        ),
        ("prefixes = [\"@\"]", "prefixes[0]: no set is named"),
        (
            "prefixes = [\"@empty\"]",
            "prefixes[0]: the set `empty` holds no prefixes",
        ),
        (
            "communities = [\"@empty\"]",
            "communities[0]: the set `empty` holds no communities",
        ),
        (
            "next_hops = [\"@empty\"]",
            "next_hops[0]: the set `empty` holds no next_hops",
        ),
        (
            "as_path = \"@empty\"",
            "as_path: the set `empty` holds no as_numbers",
        ),
        ("as_path = \"^@nobody\"", "as_path: no set is named `nobody`"),
        ("as_path = \"[@transit\"", "as_path: "),
        (
            "add_communities = [\"@transit\"]",
            "add_communities[0]: not a community",
        ),
    ] {
        let found = faults(&file(bad));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].contains(want), "{bad}: {found:?}");
    }
    let with = |more: &str| {
        format!(
            "{SOURCE}{BGP}[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 65001\nrole = \"upstream\"\n[[bgp.sets]]\n{more}"
        )
    };
    for (bad, want) in [
        (
            "name = \"a\"\nas_numbers = [\"x\"]",
            "`x` is neither an AS number nor a range",
        ),
        ("name = \"a\"\nas_numbers = [\"2-1\"]", "`2-1` is neither"),
        (
            "name = \"a\"\nas_numbers = [\"1] .*\"]",
            "is neither an AS number",
        ),
        (
            "name = \"a\"\n[[bgp.sets]]\nname = \"a\"",
            "another set has this name",
        ),
        ("prefixes = [\"10.0.0.0/8\"]", "bgp.sets[0].name: missing"),
    ] {
        let found = faults(&with(bad));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].contains(want), "{bad}: {found:?}");
    }
}
