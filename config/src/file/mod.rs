//! The box's file: TOML text to [`Settings`], every fault reported at once.
//!
//! Data in: the text and its name, and a way to read the few files it names. Data out: [`Reading`], or every
//! [`Fault`] of the text, each as `file:line: key: what; instead`. [`KEYS`] is the one table of what may stand in the
//! file; the reference in `docs/configuration.md` is printed from it.
//!
//! It opens nothing by itself, and says nothing of whether a directory, cluster or CA can be reached.

mod acme;
mod bgp;
mod fault;
mod key_sets;
mod keys;
mod observe;
mod pass_on;
mod process;
mod restart;
mod rules;
mod scalar;
mod session;
mod sets;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod transport;
mod vips;

use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};

pub use fault::Fault;
pub use keys::{Absent, Change, KEYS, Key, Kind, SECTIONS, Section, reference};
pub use restart::{applied, restart_needed};

use crate::model::Settings;
use fault::{Log, Place};
use scalar::nearest;
use table::{Table, type_name};

/// Octets of text beyond which the file is refused unread.
const LONGEST_FILE: usize = 1024 * 1024;

/// A file that can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// What it says, with the defaults filled in.
    pub settings: Settings,
    /// What is allowed and still looks like a mistake, in the order of the file.
    pub warnings: Vec<Fault>,
}

/// Reads `text`, the content of the file called `name`.
///
/// Relative paths in it start at the folder of `name`. `load` reads the small files whose content belongs to the
/// settings (`acme.ca_file`, `acme.eab_hmac_key_file`, `password_file` of BGP peers) and the kernel's host name, `/proc/sys/kernel/hostname`.
///
/// # Errors
/// Every fault of the text, in the order of its lines; never an empty list.
pub fn read(
    name: &str,
    text: &str,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Reading, Vec<Fault>> {
    let log = Log::new(name, text);
    let top = Place {
        line: 1,
        key: "syntax".to_owned(),
    };
    if text.len() > LONGEST_FILE {
        log.fault(
            &top,
            "longer than 1 MiB",
            "keep Kubernetes objects out of this file",
        );
        return Err(log.finish().0);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    syntax::report(&log, text, document.get_ref(), &errors);
    let base = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
    let settings = settings(&Document::new(document.get_ref(), &log, base), &log, load);
    let (mut faults, warnings) = log.finish();
    match settings {
        Some(settings) if faults.is_empty() => Ok(Reading { settings, warnings }),
        _ => {
            if faults.is_empty() {
                // Not reachable while every `None` comes with a fault; said rather than served.
                faults.push(Fault {
                    file: name.into(),
                    line: 1,
                    key: top.key,
                    what: "cannot be read, and no reason was recorded".to_owned(),
                    instead: "report this file as a bug".to_owned(),
                });
            }
            Err(faults)
        }
    }
}

fn settings(
    document: &Document<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Settings> {
    let empty = DeTable::new();
    let or_empty = |name| document.section(name).or_else(|| document.absent(name, &empty));

    let bgp_table = document.section("bgp");
    let bgp = bgp_table.as_ref().map(|table| {
        let peers = document.repeated("bgp.peers");
        let ranges = document.repeated("bgp.peer_ranges");
        let sets = sets::read(&document.repeated("bgp.sets"), log);
        let rules = rules::read(&document.repeated("bgp.rules"), &sets, Some(table), log);
        bgp::read(table, &peers, &ranges, &rules, log, load)
    });
    let appliance = process::appliance(&or_empty("appliance")?, log, load);
    let listen = process::listen(&or_empty("listen")?, log);
    let source = document
        .section("source")
        .map(|table| process::source(&table, bgp.as_ref(), log));
    let vips = vips::read(&document.repeated("vips"), bgp.as_ref(), log);
    let acme = document
        .section("acme")
        .map(|table| acme::read(&table, log, load));
    let http = process::http(&or_empty("http")?, log, load);
    let timeouts = process::timeouts(&or_empty("timeouts")?);
    let access_log = observe::access_log(&or_empty("access_log")?);
    let tracing = document
        .section("tracing")
        .map(|table| observe::tracing(&table, log, load));
    let key_sets = document
        .section("key_sets")
        .map(|table| key_sets::read(&table, log, load));

    if !log.has_syntax_faults() {
        process::check_sockets(&appliance, &listen, bgp.as_ref(), log);
        vips::check_ingress_addresses(&listen, &vips, bgp.is_some(), log);
        if let Some(place) = document
            .section_place("acme")
            .filter(|_| listen.settings.http.is_empty())
        {
            let what = "listen.http is empty, and HTTP-01 validation comes to port 80";
            log.warn(
                &place,
                what,
                "add an HTTP listener, or take certificates from Secrets only",
            );
        }
    }
    Some(Settings {
        appliance: appliance.settings?,
        listen: listen.settings,
        source: source??,
        // An absent section is `None`; one with a fault ends here.
        bgp: bgp
            .map(bgp::Read::finish)
            .map_or(Some(None), |bgp| bgp.map(Some))?,
        vips: vips.into_iter().map(vips::Pool::finish).collect(),
        acme: acme.map_or(Some(None), |acme| acme.map(Some))?,
        http,
        timeouts,
        access_log,
        tracing: tracing.map_or(Some(None), |tracing| tracing.map(|tracing| Some(tracing.into())))?,
        key_sets: key_sets.map_or(Some(None), |sets| sets.map(|sets| Some(sets.into())))?,
    })
}

/// The tables of the file, by section.
struct Document<'a> {
    root: &'a DeTable<'a>,
    log: &'a Log,
    base: &'a Path,
}

impl<'a> Document<'a> {
    /// Judges the names at the top of the file.
    fn new(root: &'a DeTable<'a>, log: &'a Log, base: &'a Path) -> Self {
        let top = || SECTIONS.iter().filter(|section| !section.name.contains('.'));
        for (name, value) in root {
            let known = name.get_ref().as_ref();
            if top().any(|section| section.name == known) {
                continue;
            }
            let place = Place {
                line: log.line(&name.span()),
                key: known.to_owned(),
            };
            let home = KEYS.iter().find(|key| key.name == known).map(|key| key.section);
            let section = |name: &str| SECTIONS.iter().find(|s| s.name == name).map(Section::header);
            let instead = match (
                home.and_then(section),
                nearest(known, top().map(|s| s.name)).and_then(section),
            ) {
                (Some(header), _) => format!("`{known}` belongs in {header}"),
                (None, Some(header)) => format!("did you mean {header}?"),
                (None, None) => {
                    let all: Vec<String> = top().map(Section::header).collect();
                    format!("the sections are {}", all.join(", "))
                }
            };
            let what = match value.get_ref() {
                DeValue::Table(_) => "unknown section",
                _ => "unknown key outside of any section",
            };
            log.fault(&place, what, instead);
        }
        for section in top().filter(|section| section.required) {
            let written = root
                .iter()
                .any(|(name, _)| name.get_ref().as_ref() == section.name);
            if !written && !log.has_syntax_faults() {
                let place = Place {
                    line: 1,
                    key: section.name.to_owned(),
                };
                let instead = format!(
                    "write {} with manifests = \"/etc/sekisho/manifests\" or kubeconfig = \"/etc/sekisho/kubeconfig\"",
                    section.header()
                );
                log.fault(&place, "missing section", instead);
            }
        }
        Self { root, log, base }
    }

    fn find(&self, section: &Section) -> Option<(&'a DeValue<'a>, Place)> {
        let (mut table, mut found) = (self.root, None);
        for part in section.name.split('.') {
            let (_, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part)?;
            found = Some(value);
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => continue,
            }
        }
        let value = found?;
        let place = Place {
            line: self.log.line(&value.span()),
            key: section.name.to_owned(),
        };
        Some((value.get_ref(), place))
    }

    /// The section `name`, if it is written (and is a table).
    fn section(&self, name: &str) -> Option<Table<'a>> {
        let section = SECTIONS.iter().find(|section| section.name == name)?;
        let (value, place) = self.find(section)?;
        let DeValue::Table(entries) = value else {
            let instead = format!("write {} on a line of its own, once", section.header());
            self.log.fault(
                &place,
                format!("{} where a section is expected", type_name(value)),
                instead,
            );
            return None;
        };
        Some(Table::new(section, place, entries, self.log, self.base))
    }

    /// Where the section `name` is written.
    fn section_place(&self, name: &str) -> Option<Place> {
        let section = SECTIONS.iter().find(|section| section.name == name)?;
        self.find(section).map(|(_, place)| place)
    }

    /// A section that is not written: every key at its default.
    fn absent(&self, name: &str, empty: &'a DeTable<'a>) -> Option<Table<'a>> {
        let section = SECTIONS.iter().find(|section| section.name == name)?;
        let place = Place {
            line: 1,
            key: name.to_owned(),
        };
        Some(Table::new(section, place, empty, self.log, self.base))
    }

    /// Every `[[name]]`.
    fn repeated(&self, name: &str) -> Vec<Table<'a>> {
        let Some(section) = SECTIONS.iter().find(|section| section.name == name) else {
            return Vec::new();
        };
        let Some((value, place)) = self.find(section) else {
            return Vec::new();
        };
        let instead = format!("write {} for each", section.header());
        let DeValue::Array(elements) = value else {
            self.log.fault(
                &place,
                format!("{} where a list of tables is expected", type_name(value)),
                &instead,
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let place = Place {
                line: self.log.line(&element.span()),
                key: format!("{name}[{index}]"),
            };
            match element.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table::new(section, place, entries, self.log, self.base))
                }
                other => self.log.fault(
                    &place,
                    format!("{} where a table is expected", type_name(other)),
                    &instead,
                ),
            }
        }
        tables
    }
}
