use std::path::Path;
use std::time::Duration;

use super::super::*;
use super::{BGP, PAGE, SOURCE, example, faults, lines, load, read};
use crate::model::{AnnounceTo, Role, Routing, SourceKind, Timeouts};

#[test]
fn the_smallest_file_has_the_defaults() {
    let settings = read(SOURCE).unwrap().settings;
    assert_eq!(&*settings.appliance.name, "box-7");
    assert_eq!(settings.appliance.admin.to_string(), "127.0.0.1:9901");
    assert_eq!(settings.listen.https.len(), 2);
    assert_eq!(settings.source.kind, SourceKind::Manifests("/m".into()));
    assert_eq!(settings.source.routing, Routing::Off);
    assert_eq!((settings.bgp, settings.acme), (None, None));
    assert_eq!(settings.timeouts, Timeouts::default());
}

#[test]
fn the_example_of_the_page_reads_without_a_warning() {
    let reading = super::super::read("/etc/sekisho/sekisho.toml", example(), &load)
        .map_err(|f| lines(&f))
        .unwrap();
    assert_eq!(lines(&reading.warnings), [""; 0]);
    let bgp = reading.settings.bgp.unwrap();
    assert_eq!(bgp.identity.hold_time, Duration::from_secs(9));
    assert!(bgp.peers.iter().any(|peer| peer.role == Role::Upstream));
    assert_eq!(reading.settings.source.routing, Routing::Required);
    assert_eq!(
        reading.settings.vips[0].announce_to,
        [AnnounceTo::Role(Role::Upstream)]
    );
}

const REFERENCE_BEGINS: &str = "<!-- reference -->\n";
const REFERENCE_ENDS: &str = "<!-- end of reference -->";

#[test]
fn the_page_lists_exactly_the_keys() {
    let (_, rest) = PAGE.split_once(REFERENCE_BEGINS).unwrap();
    let (listed, _) = rest.split_once(REFERENCE_ENDS).unwrap();
    assert_eq!(
        listed,
        reference(),
        "run: cargo test -p sekisho-config write_the_reference -- --ignored"
    );
}

#[test]
#[ignore = "writes docs/configuration.md"]
fn write_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(REFERENCE_BEGINS).unwrap();
    let (_, after) = rest.split_once(REFERENCE_ENDS).unwrap();
    let page = [before, REFERENCE_BEGINS, &reference(), REFERENCE_ENDS, after].concat();
    std::fs::write(path, page).unwrap();
}

/// A file in which `key` has the value `value`, with whatever else it needs to be read.
fn file_with(key: &Key, value: &str) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let wanted = section.name == key.section;
        let parent = key.section.starts_with("bgp") || key.section == "vips";
        let needed = section.required || (section.name == "bgp" && parent) || section.name == "bgp.peers";
        let above = key.section == "vips" || key.section == "bgp.peers.bfd";
        if !wanted && !(needed && (section.name != "bgp.peers" || above)) {
            continue;
        }
        text.push_str(&format!("{}\n", section.header()));
        if wanted {
            text.push_str(&format!("{} = {value}\n", key.name));
        }
        for other in KEYS
            .iter()
            .filter(|k| k.section == section.name && !(wanted && k.name == key.name))
        {
            let one_source = other.name == "manifests" && !(wanted && key.name == "kubeconfig");
            let pair = wanted && key.name.starts_with("eab_") && other.name.starts_with("eab_");
            if matches!(other.absent, Absent::Required) || one_source || pair {
                let example = if other.name == "role" {
                    "\"upstream\""
                } else {
                    other.example
                };
                text.push_str(&format!("{} = {example}\n", other.name));
            }
        }
    }
    text
}

#[test]
fn every_example_reads_and_every_default_is_the_default() {
    for key in KEYS
        .iter()
        .filter(|key| !matches!(key.absent, Absent::NotSupportedYet))
    {
        let text = file_with(key, key.example);
        let with = read(&text)
            .unwrap_or_else(|f| panic!("{text}\n{:?}", lines(&f)))
            .settings;
        if matches!(key.absent, Absent::Example) {
            let without: String = text
                .lines()
                .filter(|line| *line != format!("{} = {}", key.name, key.example))
                .map(|l| format!("{l}\n"))
                .collect();
            assert_ne!(text, without);
            let without = read(&without)
                .unwrap_or_else(|f| panic!("{without}\n{:?}", lines(&f)))
                .settings;
            assert_eq!(
                with, without,
                "{}.{} is not {} by default",
                key.section, key.name, key.example
            );
        }
    }
}

#[test]
fn every_key_is_read_and_has_a_type() {
    for key in KEYS {
        let text = file_with(key, "1979-05-27");
        let got = faults(&text);
        let line = text.lines().position(|l| l.ends_with("1979-05-27")).unwrap() + 1;
        let section = SECTIONS.iter().find(|s| s.name == key.section).unwrap();
        let at = if section.repeated {
            format!("{}[0]", section.name)
        } else if section.name == "bgp.peers.bfd" {
            "bgp.peers[0].bfd".to_owned()
        } else {
            section.name.to_owned()
        };
        let want = format!("box.toml:{line}: {at}.{}: ", key.name);
        let of_this: Vec<_> = got.iter().filter(|fault| fault.starts_with(&want)).collect();
        assert_eq!(of_this.len(), 1, "{text}\n{got:?}");
        assert!(
            of_this[0].contains("a date where") || of_this[0].contains("not supported yet"),
            "{of_this:?}"
        );
    }
}

/// For each key a value that differs from its example and can stand where the example does.
fn another(key: &Key) -> String {
    match key.kind {
        // One of the HTTPS listeners.
        _ if key.name == "http3" => "[\"0.0.0.0:443\"]".to_owned(),
        Kind::PeerAs => "[64512, 65001]".to_owned(),
        Kind::Switch(_) => "{ interval = \"50ms\" }".to_owned(),
        Kind::Bool => if key.example == "true" { "false" } else { "true" }.to_owned(),
        Kind::Integer { min, .. } if key.example == min.to_string() => (min + 1).to_string(),
        Kind::Integer { max, .. } => max.saturating_sub(1).min(77).to_string(),
        Kind::Size { min, .. } if key.example == min.to_string() => (min + 1).to_string(),
        Kind::Size { min, .. } => min.to_string(),
        Kind::Duration { .. } => "\"59s\"".to_owned(),
        Kind::List("communities") => "[\"65000:7\"]".to_owned(),
        Kind::OneOf(words) => words
            .iter()
            .map(|word| format!("\"{word}\""))
            .find(|word| word != key.example)
            .expect("a choice of two at least"),
        Kind::TextOrInteger(_) => "100".to_owned(),
        Kind::List("roles or peer names") => "[\"upstream\"]".to_owned(),
        Kind::List("socket addresses") | Kind::List("IP addresses") if key.name == "ingress_addresses" => {
            "[]".to_owned()
        }
        Kind::List("socket addresses") => "[\"127.0.0.9:99\"]".to_owned(),
        Kind::List("`ID ALGORITHM FILE`") => "[\"7 hmac-sha-1-96 /etc/sekisho/tor-1.ao\"]".to_owned(),
        Kind::List(_) if key.name == "compression" => "[\"gzip\"]".to_owned(),
        Kind::List(_) if key.name == "compression_types" => "[\"text/css\"]".to_owned(),
        Kind::List("https URLs") => "[\"https://other.example/\"]".to_owned(),
        Kind::List("paths") => "[\"/etc/sekisho/404.html\"]".to_owned(),
        Kind::List(_) => "[\"198.51.100.0/24\"]".to_owned(),
        Kind::Text("socket address") => "\"127.0.0.9:99\"".to_owned(),
        Kind::Text("prefix") => "\"198.51.100.0/24\"".to_owned(),
        Kind::Text("IPv4 address" | "IP address") => "\"198.51.100.1\"".to_owned(),
        Kind::Text("https URL" | "http or https URL") => "\"https://other.example/\"".to_owned(),
        Kind::Text("email address") => "\"other@example.com\"".to_owned(),
        Kind::Text("`ID ALGORITHM FILE`") => "\"2 keyed-md5 /etc/sekisho/tor-1.ao\"".to_owned(),
        Kind::Text("path") if key.name == "kubeconfig" => "\"in-cluster\"".to_owned(),
        Kind::Text("path") => "\"/etc/other\"".to_owned(),
        Kind::Text(_) if key.name == "next_hop" => "\"self\"".to_owned(),
        Kind::Text(_) => "\"other\"".to_owned(),
    }
}

#[test]
fn a_restart_is_asked_for_exactly_where_the_page_says_so() {
    for key in KEYS
        .iter()
        .filter(|key| !matches!(key.absent, Absent::NotSupportedYet))
    {
        // Files that hold keys and certificates.
        // Rules show through the peers that name them, and sets through rules.
        if matches!(key.section, "bgp.rules" | "bgp.sets")
            || key.name.ends_with("_file")
            || key.name.ends_with("import")
            // Nothing without announce = "aggregate".
            || key.name == "aggregate_while"
            || key.name.ends_with("export")
        {
            continue;
        }
        let with_bgp = |text: String| {
            if key.name == "routing" {
                format!("{text}{BGP}")
            } else {
                text
            }
        };
        let old = with_bgp(file_with(key, key.example));
        let new = with_bgp(file_with(key, &another(key)));
        let settings = |text: &str| {
            read(text)
                .unwrap_or_else(|f| panic!("{text}\n{:?}", lines(&f)))
                .settings
        };
        let (old, new) = (settings(&old), settings(&new));
        assert_ne!(old, new, "{}.{}", key.section, key.name);
        let want = match key.change {
            Change::Restart => vec![format!("{}.{}", key.section, key.name)],
            Change::Live => Vec::new(),
        };
        assert_eq!(restart_needed(&old, &new), want);
        assert_eq!(restart_needed(&old, &old), [""; 0]);
        let runs = applied(&old, &new);
        let kept = if key.change == Change::Restart { &old } else { &new };
        assert_eq!(&runs, kept, "{}.{}", key.section, key.name);
    }
}

#[test]
fn a_section_that_comes_or_goes() {
    let settings = |text: &str| read(text).unwrap().settings;
    let (without, with) = (
        settings(SOURCE),
        settings(&format!("{SOURCE}routing = \"off\"\n{BGP}")),
    );
    assert_eq!(restart_needed(&without, &with), ["bgp"]);
    assert_eq!(restart_needed(&with, &without), ["bgp"]);
    assert_eq!(applied(&without, &with), without);
    assert_eq!(applied(&with, &without).bgp, with.bgp);
    let acme = settings(&format!(
        "{SOURCE}[acme]\ndirectory = \"https://ca.example/directory\"\n"
    ));
    assert_eq!(restart_needed(&without, &acme), ["acme"]);
    assert_eq!(applied(&without, &acme), without);
    assert_eq!(restart_needed(&acme, &without), [""; 0]);
    assert_eq!(applied(&acme, &without), without);
    let cluster = settings("[source]\nkubeconfig = \"in-cluster\"\n");
    assert_eq!(
        restart_needed(&without, &cluster),
        ["source.manifests", "source.kubeconfig"]
    );
}

#[test]
fn the_files_of_the_readme_read_without_a_warning() {
    let readme = include_str!("../../../../README.md");
    let mut found = 0;
    for part in readme.split("```toml\n").skip(1) {
        let (text, _) = part.split_once("```").unwrap();
        let reading = read(text).map_err(|f| lines(&f)).unwrap();
        assert_eq!(lines(&reading.warnings), [""; 0]);
        found += 1;
    }
    assert_ne!(found, 0, "README.md shows no box file");
}

#[test]
fn text_of_other_systems_reads_the_same() {
    let want = read(SOURCE).unwrap();
    assert_eq!(read(&SOURCE.replace('\n', "\r\n")), Ok(want.clone()));
    assert_eq!(read(&format!("\u{feff}{SOURCE}")), Ok(want));
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    for (file, want) in [
        ("/etc/sekisho/sekisho.toml", "/etc/sekisho/m"),
        ("lab/box.toml", "lab/m"),
        ("box.toml", "m"),
        ("", "m"),
        ("/", "m"),
    ] {
        let reading = super::super::read(file, "[source]\nmanifests = \"m\"\n", &load).unwrap();
        assert_eq!(
            reading.settings.source.kind,
            SourceKind::Manifests(want.into()),
            "{file:?}"
        );
    }
}

#[test]
fn the_host_name_is_the_name_only_if_it_can_be_one() {
    for (host, want) in [
        (&b"edge-9\n"[..], "edge-9"),
        (b"", "sekisho"),
        (b"a b", "sekisho"),
        (b"\xff", "sekisho"),
    ] {
        let reading = super::super::read("f", SOURCE, &|_| Ok(host.to_vec())).unwrap();
        assert_eq!(&*reading.settings.appliance.name, want, "{host:?}");
    }
}
