use proptest::prelude::*;

use super::{example, faults, lines, load};

/// Reads `text`; what comes back must be sound whatever the text is.
fn judge(text: &str) {
    let Err(faults) = super::super::read("a\nb.toml", text, &load) else {
        return;
    };
    assert!(!faults.is_empty());
    for (fault, line) in faults.iter().zip(lines(&faults)) {
        assert!(
            fault.line >= 1 && fault.line <= text.split('\n').count(),
            "{line}"
        );
        assert!(
            !fault.key.is_empty() && !fault.what.is_empty() && !fault.instead.is_empty(),
            "{line}"
        );
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.chars().count() < 2000, "{line}");
    }
}

/// Words that make faults of every kind more likely than letters at random.
const WORDS: &[&str] = &[
    "[bgp]\n",
    "[[bgp.peers]]\n",
    "[bgp.peers]\n",
    "[[bgp]]\n",
    "[source]\n",
    "[[vips]]\n",
    "[acme]\n",
    "[listen]\n",
    "bgp = 1\n",
    "asn = ",
    "asn = 0\n",
    "hold_time = \"1s\"\n",
    "hold_time = 9s\n",
    "name = \"\\u0007\"\n",
    "http = [[\"a\"], {b = 1}]\n",
    "addresses = [\"0.0.0.0/0\", 1, []]\n",
    "announce_to = [\"x\", \"cluster\"]\n",
    "\"\"\"",
    "'''",
    "{",
    "}",
    "]",
    "\u{0}",
    "\u{202e}",
    "= ",
    "\n",
    "\"",
    "1979-05-27",
    "99999999999999999999999",
    "-1",
    "0x",
    "nan",
    "peers.name.x = 1\n",
    "\r",
    "\u{feff}",
];

proptest! {
    #[test]
    fn any_text_is_safe(text: String) {
        judge(&text);
    }

    #[test]
    fn any_mixture_of_likely_words_is_safe(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..24)) {
        judge(&words.concat());
    }

    #[test]
    fn any_mutation_of_the_example_is_safe(at: prop::sample::Index, len in 0usize..40, word in proptest::sample::select(WORDS), insert: bool) {
        let text = example();
        let start = text.floor_char_boundary(at.index(text.len()));
        let end = if insert { start } else { text.ceil_char_boundary((start + len).min(text.len())) };
        judge(&[&text[..start], word, &text[end..]].concat());
    }

    #[test]
    fn a_line_taken_out_of_the_example_is_safe(at: prop::sample::Index) {
        let lines: Vec<&str> = example().lines().collect();
        let gone = at.index(lines.len());
        let rest: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, l)| *l).collect();
        judge(&rest.join("\n"));
    }
}

#[test]
fn depth_and_length_are_bounded() {
    judge(&"[".repeat(100_000));
    judge(&format!("x = {}", "[".repeat(100_000)));
    judge(&format!("x = {}1{}", "{a=".repeat(50_000), "}".repeat(50_000)));
    judge(&format!("{} = 1", "a.".repeat(50_000)));
    let long = "#".repeat(super::super::LONGEST_FILE + 1);
    assert_eq!(
        faults(&long),
        ["box.toml:1: syntax: longer than 1 MiB; keep Kubernetes objects out of this file"]
    );
}

#[test]
fn thousands_of_peers_and_pools_are_compared_quickly() {
    let mut text = format!("{}{}", super::SOURCE, super::BGP);
    for i in 0..5_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + i);
        text.push_str(&format!(
            "[[bgp.peers]]\naddress = \"{address}\"\nasn = 64512\nrole = \"cluster\"\n"
        ));
    }
    for i in 0..5_000u32 {
        let address = std::net::Ipv4Addr::from(0xc000_0000 + i);
        text.push_str(&format!(
            "[[vips]]\nname = \"v{i}\"\naddresses = [\"{address}\"]\nannounce_to = []\n"
        ));
    }
    assert_eq!(faults(&text), [""; 0]);
}
