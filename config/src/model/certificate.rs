use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;

use super::{HostName, HostPattern, ObjectName, Roots, Secret};

/// The DNS names that one certificate is to carry, ordered. What ACME calls the identifiers of an order.
pub type NameSet = BTreeSet<HostPattern>;

/// A certificate chain with its private key, read and checked once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, PKCS#1 or SEC1, as PEM.
    pub key_pem: Secret,
    /// DNS names of the leaf (subject alternative names).
    pub names: NameSet,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Issuer's distinguished name.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
}

/// Why a chain and key are not a usable certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// The chain holds no certificate.
    #[error("no certificate in PEM form; put the leaf first, then the intermediates")]
    NoCertificate,
    /// A PEM or X.509 fault.
    #[error("certificate {place} cannot be read: {why}; check that it is X.509 in PEM form")]
    Unreadable {
        /// Position in the chain, from 1.
        place: usize,
        /// What the reader said.
        why: String,
    },
    /// The key holds no private key.
    #[error("no private key in PEM form; PKCS#8, PKCS#1 and SEC1 are understood")]
    NoKey,
}

impl Certificate {
    /// Reads a PEM chain (leaf first) and a PEM private key.
    ///
    /// Whether the key belongs to the leaf is for the TLS library to say, where the key is loaded.
    ///
    /// # Errors
    /// [`CertificateError`] when either cannot be read. The error never holds key material.
    pub fn from_pem(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, CertificateError> {
        let mut chain = Vec::new();
        for (index, certificate) in CertificateDer::pem_slice_iter(chain_pem).enumerate() {
            chain.push(certificate.map_err(|error| CertificateError::Unreadable {
                place: index + 1,
                why: error.to_string(),
            })?);
        }
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| CertificateError::NoKey)?;
        let unreadable = |why: String| CertificateError::Unreadable { place: 1, why };
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|error| unreadable(error.to_string()))?;
        let time = |at: x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|error| unreadable(error.to_string()))
        };
        let mut names = NameSet::new();
        if let Ok(Some(extension)) = parsed.subject_alternative_name() {
            for name in &extension.value.general_names {
                if let GeneralName::DNSName(text) = name
                    && let Ok(pattern) = text.parse::<HostPattern>()
                    && pattern != HostPattern::Any
                {
                    names.insert(pattern);
                }
            }
        }
        Ok(Self {
            names,
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            issuer: parsed.issuer().to_string(),
            serial: parsed
                .raw_serial()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect(),
            key_pem: Secret::new(key_pem),
            chain,
        })
    }

    /// Reads the certificates of CAs from PEM.
    ///
    /// # Errors
    /// [`CertificateError`] when there is none, or one that cannot be read.
    pub fn roots_from_pem(pem: &[u8]) -> Result<Roots, CertificateError> {
        let mut roots = Vec::new();
        for (index, root) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let unreadable = |why: String| CertificateError::Unreadable {
                place: index + 1,
                why,
            };
            let root = root.map_err(|error| unreadable(error.to_string()))?;
            x509_parser::parse_x509_certificate(&root).map_err(|error| unreadable(error.to_string()))?;
            roots.push(root);
        }
        if roots.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        Ok(roots.into())
    }

    /// Whether a client that asks for `host` would accept the names of the leaf (RFC 6125: a wildcard stands for one label).
    pub fn covers(&self, host: &HostName) -> bool {
        self.names.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether the leaf carries `pattern` itself (a wildcard only literally) or, for an exact name, covers it.
    pub fn serves(&self, pattern: &HostPattern) -> bool {
        match pattern {
            HostPattern::Exact(host) => self.covers(host),
            HostPattern::Wildcard(_) => self.names.contains(pattern),
            HostPattern::Any => false,
        }
    }
}

/// Where the certificate of a TLS host comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateSource {
    /// From a Secret of type `kubernetes.io/tls`.
    Secret {
        /// The Secret.
        secret: ObjectName,
        /// What it holds.
        certificate: Arc<Certificate>,
    },
    /// To be ordered by ACME, for this set of names, all in one certificate.
    Acme {
        /// The Ingress that asks.
        ingress: ObjectName,
        /// The identifiers of the order.
        names: Arc<NameSet>,
    },
    /// The placeholder is served; a finding says why.
    Placeholder {
        /// The Ingress that asks.
        ingress: ObjectName,
    },
}
