use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use sekisho_config::model::{Certificate, CertificateSource, HostName, HostPattern, NameSet};
use serde::Serialize;

/// Certificates that ACME has obtained, as `Observed` holds them.
pub(super) type Obtained = OrdMap<Arc<NameSet>, Arc<Certificate>>;

/// TLS hosts as `Desired` holds them.
type Wished = OrdMap<HostPattern, Arc<CertificateSource>>;

/// What one TLS host gets.
#[derive(Debug)]
pub(super) struct Entry {
    source: Arc<CertificateSource>,
    served: Result<Loaded, PlaceholderReason>,
}

/// A certificate with its key ready to sign.
#[derive(Clone, Debug)]
struct Loaded {
    certificate: Arc<Certificate>,
    key: Arc<CertifiedKey>,
    /// The pattern of the entry itself is covered, so every host that finds the entry is.
    whole: bool,
}

/// Why the placeholder is served instead of a certificate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum PlaceholderReason {
    /// No TLS entry of any Ingress names this host.
    UnknownHost,
    /// The Ingress names no usable Secret; a finding says more.
    NoCertificate,
    /// ACME has not obtained it yet.
    NotObtained,
    /// The certificate's names do not cover this host.
    NotCovered,
    /// Chain or key cannot be used for TLS.
    Unusable {
        /// What the TLS library said.
        why: String,
    },
}

impl std::fmt::Display for PlaceholderReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("no TLS entry names this host"),
            Self::NoCertificate => f.write_str("the Ingress has no usable certificate"),
            Self::NotObtained => f.write_str("ACME has not obtained the certificate yet"),
            Self::NotCovered => f.write_str("the certificate's names do not cover this host"),
            Self::Unusable { why } => write!(f, "chain and key cannot be used: {why}"),
        }
    }
}

/// What a client that sends a host as SNI gets, and why.
#[derive(Clone, Debug)]
pub struct ServedCertificate<'a> {
    /// The TLS host that decides; `None` when none matches.
    pub pattern: Option<HostPattern>,
    /// Where its certificate comes from.
    pub source: Option<&'a CertificateSource>,
    /// The certificate, or why the placeholder stands in.
    pub served: Result<&'a Arc<Certificate>, PlaceholderReason>,
}

/// TLS hosts of a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    exact: imbl::HashMap<HostName, Arc<Entry>>,
    /// By suffix.
    wildcard: imbl::HashMap<HostName, Arc<Entry>>,
}

impl Table {
    /// Follows the change from one wished and obtained state to the next.
    pub(super) fn update(&mut self, (was, now): (&Wished, &Wished), (had, has): (&Obtained, &Obtained)) {
        let mut cache = HashMap::new();
        for item in was.diff(now) {
            match item {
                DiffItem::Add(pattern, source)
                | DiffItem::Update {
                    new: (pattern, source),
                    ..
                } => {
                    self.set(pattern, Some(entry(pattern, source, has, &mut cache)));
                }
                DiffItem::Remove(pattern, _) => self.set(pattern, None),
            }
        }
        let changed: BTreeSet<&Arc<NameSet>> = had
            .diff(has)
            .map(|item| match item {
                DiffItem::Add(names, _)
                | DiffItem::Update { new: (names, _), .. }
                | DiffItem::Remove(names, _) => names,
            })
            .collect();
        // Rare, so that a walk over the TLS hosts is cheaper than an index that is kept for it.
        if changed.is_empty() {
            return;
        }
        for (pattern, source) in now {
            if let CertificateSource::Acme { names, .. } = source.as_ref()
                && changed.contains(names)
            {
                self.set(pattern, Some(entry(pattern, source, has, &mut cache)));
            }
        }
    }

    fn set(&mut self, pattern: &HostPattern, entry: Option<Arc<Entry>>) {
        let (table, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
            HostPattern::Any => return,
        };
        match entry {
            Some(entry) => table.insert(name.clone(), entry),
            None => table.remove(name),
        };
    }

    /// The entry for `host` in lower case.
    fn entry(&self, host: &str) -> Option<(HostPattern, &Entry)> {
        if let Some((name, entry)) = self.exact.get_key_value(host) {
            return Some((HostPattern::Exact(name.clone()), entry));
        }
        let (_, suffix) = host.split_once('.')?;
        let (name, entry) = self.wildcard.get_key_value(suffix)?;
        Some((HostPattern::Wildcard(name.clone()), entry))
    }

    /// The signing key for `host`; `None` means the placeholder.
    pub(super) fn key(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.entry(host)?
            .1
            .loaded_for(host)
            .ok()
            .map(|loaded| &loaded.key)
    }

    /// The certificate for `host`; `None` means the placeholder.
    pub(super) fn certificate(&self, host: &str) -> Option<&Arc<Certificate>> {
        self.entry(host)?
            .1
            .loaded_for(host)
            .ok()
            .map(|loaded| &loaded.certificate)
    }

    pub(super) fn served(&self, host: &str) -> ServedCertificate<'_> {
        match self.entry(host) {
            None => ServedCertificate {
                pattern: None,
                source: None,
                served: Err(PlaceholderReason::UnknownHost),
            },
            Some((pattern, entry)) => ServedCertificate {
                pattern: Some(pattern),
                source: Some(&entry.source),
                served: entry.loaded_for(host).map(|loaded| &loaded.certificate),
            },
        }
    }

    /// What the entry of `pattern` itself holds.
    pub(super) fn of(&self, pattern: &HostPattern) -> Option<ServedCertificate<'_>> {
        let entry = match pattern {
            HostPattern::Exact(name) => self.exact.get(name)?,
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix)?,
            HostPattern::Any => return None,
        };
        Some(ServedCertificate {
            pattern: Some(pattern.clone()),
            source: Some(&entry.source),
            served: match &entry.served {
                Ok(loaded) => Ok(&loaded.certificate),
                Err(reason) => Err(reason.clone()),
            },
        })
    }
}

impl Entry {
    fn loaded_for(&self, host: &str) -> Result<&Loaded, PlaceholderReason> {
        let loaded = self.served.as_ref().map_err(Clone::clone)?;
        let covered = loaded.whole
            || host
                .parse::<HostName>()
                .is_ok_and(|host| loaded.certificate.covers(&host));
        if covered {
            Ok(loaded)
        } else {
            Err(PlaceholderReason::NotCovered)
        }
    }
}

type Cache = HashMap<*const Certificate, Result<Arc<CertifiedKey>, PlaceholderReason>>;

fn entry(
    pattern: &HostPattern,
    source: &Arc<CertificateSource>,
    obtained: &Obtained,
    cache: &mut Cache,
) -> Arc<Entry> {
    let certificate = match source.as_ref() {
        CertificateSource::Secret { certificate, .. } => Ok(certificate),
        CertificateSource::Acme { names, .. } => obtained.get(names).ok_or(PlaceholderReason::NotObtained),
        CertificateSource::Placeholder { .. } => Err(PlaceholderReason::NoCertificate),
    };
    let served = certificate.and_then(|certificate| {
        let whole = certificate.serves(pattern);
        // An exact host that is not covered gets nothing from this certificate. A wildcard entry may hold a
        // certificate for some of its hosts only; that is decided per handshake.
        if !whole && !matches!(pattern, HostPattern::Wildcard(_)) {
            return Err(PlaceholderReason::NotCovered);
        }
        let key = cache
            .entry(Arc::as_ptr(certificate))
            .or_insert_with(|| load(certificate))
            .clone()?;
        Ok(Loaded {
            certificate: Arc::clone(certificate),
            key,
            whole,
        })
    });
    Arc::new(Entry {
        source: Arc::clone(source),
        served,
    })
}

/// Makes a chain and key ready for TLS; says why not. The reason never holds key material.
fn load(certificate: &Certificate) -> Result<Arc<CertifiedKey>, PlaceholderReason> {
    let unusable = |why: String| PlaceholderReason::Unusable { why };
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose())
        .map_err(|_| unusable("the private key cannot be read".into()))?;
    let key = any_supported_type(&key)
        .map_err(|_| unusable("the private key is not of a supported type (RSA, ECDSA, Ed25519)".into()))?;
    let certified = CertifiedKey::new(certificate.chain.clone(), key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        // The key type cannot tell; the handshake will.
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(unusable(
            "the private key does not belong to the certificate".into(),
        )),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// The self-signed certificate for hosts that have none; made once per process, clearly named.
pub(super) fn placeholder() -> Option<Arc<CertifiedKey>> {
    static PLACEHOLDER: OnceLock<Option<Arc<CertifiedKey>>> = OnceLock::new();
    PLACEHOLDER
        .get_or_init(|| {
            let made = (|| {
                let mut params =
                    rcgen::CertificateParams::new(vec!["placeholder.sekisho.invalid".to_owned()])?;
                params.distinguished_name.push(
                    rcgen::DnType::CommonName,
                    "Sekisho placeholder: no certificate is configured for this host",
                );
                let key = rcgen::KeyPair::generate()?;
                let certificate = params.self_signed(&key)?;
                Ok::<_, rcgen::Error>((certificate.der().clone(), key.serialize_der()))
            })();
            let (chain, key) = made
                .inspect_err(|error| tracing::error!(%error, "the placeholder certificate cannot be made"))
                .ok()?;
            let key = any_supported_type(&PrivateKeyDer::Pkcs8(key.into())).ok()?;
            Some(Arc::new(CertifiedKey::new(vec![chain], key)))
        })
        .clone()
}
