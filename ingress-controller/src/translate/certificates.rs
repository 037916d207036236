//! Which certificate a TLS host gets: from a Secret, from ACME, or the placeholder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{Certificate, CertificateSource, FindingKind, HostPattern, NameSet, ObjectName};

use super::findings::Findings;
use super::{Context, annotations};
use crate::text::{is_object_name, printable};
use crate::world::{Ingress, Kind, Tls, World};

/// Most names in one ACME order: what the CAs allow in one certificate.
const LONGEST_ORDER: usize = 100;

/// Most Secrets of one Ingress whose certificates are tried on hosts that no entry lists.
const MOST_SECRETS: usize = 100;

/// What one `tls[]` entry offers for a host.
#[derive(Clone)]
enum Offer {
    Secret(ObjectName, Arc<Certificate>),
    Acme,
    /// Nothing that can be used; a finding says why, or no Secret is named.
    None,
}

/// A `tls[]` entry that wants to say which certificate a host gets.
struct Claim<'a> {
    ingress: &'a Ingress,
    entry: usize,
    offer: Offer,
}

/// The TLS hosts of `ingresses`, which come oldest first.
///
/// For each host the first usable of: entries that list it, oldest Ingress first; then entries of an Ingress that has a rule
/// for it and whose certificate covers it; then the placeholder. A certificate is never given to a host that it does not cover.
pub(super) fn certificates(
    world: &World,
    context: &Context,
    ingresses: &[&Arc<Ingress>],
    findings: &mut Findings,
) -> OrdMap<HostPattern, Arc<CertificateSource>> {
    let mut listed: BTreeMap<HostPattern, Vec<Claim<'_>>> = BTreeMap::new();
    let mut implied: BTreeMap<HostPattern, Vec<Claim<'_>>> = BTreeMap::new();
    for ingress in ingresses {
        let acme = wants_acme(ingress, context, findings);
        let hosts: Vec<BTreeSet<HostPattern>> = ingress
            .tls
            .iter()
            .enumerate()
            .map(|(entry, tls)| listed_hosts(ingress, entry, tls, findings))
            .collect();
        let all_listed: BTreeSet<&HostPattern> = hosts.iter().flatten().collect();
        let unlisted: BTreeSet<HostPattern> = ingress
            .rules
            .iter()
            .filter_map(|rule| rule.host.parse().ok())
            .filter(|host| *host != HostPattern::Any && !all_listed.contains(host))
            .collect();
        let mut tried: BTreeSet<Arc<str>> = BTreeSet::new();
        for ((entry, tls), hosts) in ingress.tls.iter().enumerate().zip(hosts) {
            let place = format!("spec.tls[{entry}]");
            let secret = tls.secret_name.as_ref().map(|name| secret(world, ingress, name));
            let takes_all = tls.hosts.is_empty();
            let mut claimed = hosts;
            if takes_all && acme {
                claimed.clone_from(&unlisted);
            }
            let mut complaint = None;
            for host in claimed {
                let offer = if acme && matches!(host, HostPattern::Exact(_)) {
                    Offer::Acme
                } else {
                    if acme {
                        findings.add(
                            FindingKind::Unsupported,
                            (Kind::Ingress, &ingress.name),
                            &place,
                            format!("ACME over HTTP-01 cannot prove {host}: put a certificate into a Secret and name it in secretName"),
                        );
                    }
                    match &secret {
                        None => Offer::None,
                        Some(Err(why)) => {
                            complaint = Some(why.clone());
                            Offer::None
                        }
                        Some(Ok((name, certificate))) if serves(certificate, &host) => {
                            Offer::Secret(name.clone(), certificate.clone())
                        }
                        Some(Ok((name, certificate))) => {
                            findings.add(
                                FindingKind::CertificateUnusable,
                                (Kind::Ingress, &ingress.name),
                                &place,
                                format!(
                                    "the certificate in Secret {name} is for {}, not for {host}, which is not served with it; \
                                     add the name to the certificate",
                                    name_list(&certificate.names)
                                ),
                            );
                            Offer::None
                        }
                    }
                };
                listed.entry(host).or_default().push(Claim {
                    ingress,
                    entry,
                    offer,
                });
            }
            if !(takes_all && acme) {
                match &secret {
                    // A Secret that several entries name is looked at once: work stays in bounds whatever an Ingress holds.
                    Some(Ok((name, certificate)))
                        if tried.len() < MOST_SECRETS && tried.insert(name.name.clone()) =>
                    {
                        for host in unlisted.iter().filter(|host| serves(certificate, host)) {
                            let offer = Offer::Secret(name.clone(), certificate.clone());
                            implied.entry(host.clone()).or_default().push(Claim {
                                ingress,
                                entry,
                                offer,
                            });
                        }
                    }
                    Some(Err(why)) => complaint = Some(why.clone()),
                    Some(Ok(_)) | None => {}
                }
            }
            if let Some(why) = complaint {
                findings.add(
                    FindingKind::CertificateUnusable,
                    (Kind::Ingress, &ingress.name),
                    &place,
                    why,
                );
            }
        }
    }
    for (host, mut claims) in implied {
        listed.entry(host).or_default().append(&mut claims);
    }
    choose(listed, findings)
}

/// Picks the winner of each host; the hosts that one entry wins by ACME make one order.
fn choose(
    claims: BTreeMap<HostPattern, Vec<Claim<'_>>>,
    findings: &mut Findings,
) -> OrdMap<HostPattern, Arc<CertificateSource>> {
    let mut chosen = OrdMap::new();
    let mut orders: BTreeMap<(&ObjectName, usize), NameSet> = BTreeMap::new();
    for (host, claims) in &claims {
        let Some(first) = claims.first() else { continue };
        let winner = claims.iter().find(|claim| !matches!(claim.offer, Offer::None));
        match winner.map(|winner| (&winner.offer, winner)) {
            Some((Offer::Secret(secret, certificate), _)) => {
                chosen.insert(
                    host.clone(),
                    Arc::new(CertificateSource::Secret {
                        secret: secret.clone(),
                        certificate: certificate.clone(),
                    }),
                );
            }
            Some((Offer::Acme, winner)) => {
                orders
                    .entry((&winner.ingress.name, winner.entry))
                    .or_default()
                    .insert(host.clone());
            }
            Some((Offer::None, _)) | None => {
                chosen.insert(host.clone(), placeholder(first.ingress));
            }
        }
        let Some(winner) = winner else { continue };
        for loser in claims {
            let same = match (&winner.offer, &loser.offer) {
                (_, Offer::None) => true,
                (Offer::Secret(a, _), Offer::Secret(b, _)) => a == b,
                (Offer::Acme, Offer::Acme) => {
                    winner.ingress.name == loser.ingress.name && winner.entry == loser.entry
                }
                _ => false,
            };
            if !same {
                findings.add(
                    FindingKind::Conflict,
                    (Kind::Ingress, &loser.ingress.name),
                    format!("spec.tls[{}]", loser.entry),
                    format!(
                        "the certificate of host {host} is chosen by {} spec.tls[{}], which comes first; remove one of the two",
                        winner.ingress.name, winner.entry
                    ),
                );
            }
        }
    }
    for ((ingress, entry), names) in orders {
        let names = if names.len() > LONGEST_ORDER {
            findings.add(
                FindingKind::InvalidValue,
                (Kind::Ingress, ingress),
                format!("spec.tls[{entry}].hosts"),
                format!("has {} hosts, and one certificate carries {LONGEST_ORDER}: only the first are ordered; split the entry", names.len()),
            );
            for host in names.iter().skip(LONGEST_ORDER) {
                let source = CertificateSource::Placeholder {
                    ingress: ingress.clone(),
                };
                chosen.insert(host.clone(), Arc::new(source));
            }
            names.into_iter().take(LONGEST_ORDER).collect()
        } else {
            names
        };
        let names = Arc::new(names);
        let source = Arc::new(CertificateSource::Acme {
            ingress: ingress.clone(),
            names: names.clone(),
        });
        for host in names.iter() {
            chosen.insert(host.clone(), source.clone());
        }
    }
    chosen
}

fn placeholder(ingress: &Ingress) -> Arc<CertificateSource> {
    Arc::new(CertificateSource::Placeholder {
        ingress: ingress.name.clone(),
    })
}

/// Whether the Ingress asks for ACME, and the file of the box has it.
fn wants_acme(ingress: &Ingress, context: &Context, findings: &mut Findings) -> bool {
    let mut report = |kind, message: &str| {
        findings.add(
            kind,
            (Kind::Ingress, &ingress.name),
            annotations::ACME.place(),
            message,
        );
    };
    if annotations::ACME.of(&ingress.annotations) != Some(true) {
        return false;
    }
    if !context.acme {
        let message =
            "asks for a certificate by ACME, but the file of the box has no [acme] section; add one";
        report(FindingKind::CertificateUnusable, message);
        return false;
    }
    if ingress.tls.is_empty() {
        let message = "has no effect without spec.tls; list the hosts in spec.tls[].hosts";
        report(FindingKind::InvalidValue, message);
    }
    true
}

fn listed_hosts(
    ingress: &Ingress,
    entry: usize,
    tls: &Tls,
    findings: &mut Findings,
) -> BTreeSet<HostPattern> {
    let mut hosts = BTreeSet::new();
    for (index, text) in tls.hosts.iter().enumerate() {
        let why = match text.parse::<HostPattern>() {
            Ok(HostPattern::Any) => "it is empty; write a host name".to_owned(),
            Ok(host) => {
                hosts.insert(host);
                continue;
            }
            Err(error) => printable(&error.to_string()),
        };
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Ingress, &ingress.name),
            format!("spec.tls[{entry}].hosts[{index}]"),
            format!("the host is left out: {why}"),
        );
    }
    hosts
}

/// The Secret of this name, always in the namespace of the Ingress, or what is wrong with it.
fn secret(
    world: &World,
    ingress: &Ingress,
    name: &Arc<str>,
) -> Result<(ObjectName, Arc<Certificate>), String> {
    if !is_object_name(name, 253) {
        return Err(format!(
            "secretName `{}` is not a name; write the name of a Secret in this namespace",
            printable(name)
        ));
    }
    let name = ObjectName::new(ingress.name.namespace.clone(), name.clone());
    match world.secrets.get(&name) {
        None => Err(format!(
            "there is no Secret {name} of type kubernetes.io/tls, and its hosts get the placeholder certificate; create it"
        )),
        Some(secret) => match &secret.certificate {
            Ok(certificate) => Ok((name, certificate.clone())),
            Err(fault) => Err(format!(
                "Secret {name} cannot be used, and its hosts get the placeholder certificate: {}",
                printable(&fault.to_string())
            )),
        },
    }
}

/// The same as [`Certificate::serves`], by looking up instead of looking through.
fn serves(certificate: &Certificate, host: &HostPattern) -> bool {
    certificate.names.contains(host)
        || match host {
            HostPattern::Exact(name) => name
                .parent()
                .and_then(|parent| parent.parse().ok())
                .is_some_and(|parent| certificate.names.contains(&HostPattern::Wildcard(parent))),
            HostPattern::Wildcard(_) | HostPattern::Any => false,
        }
}

fn name_list(names: &NameSet) -> String {
    let mut list: Vec<String> = names.iter().take(5).map(ToString::to_string).collect();
    if names.len() > list.len() {
        list.push("…".to_owned());
    }
    if list.is_empty() {
        "no DNS name".to_owned()
    } else {
        list.join(", ")
    }
}
