use std::sync::Arc;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use serde::{Serialize, Serializer};

use super::{Certificate, CertificateError, Roots};

/// Whose certificates clients of a host may show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCas {
    /// Certificates of CAs.
    pub roots: Roots,
    /// What they have revoked.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// Certificates of clients, and what becomes of requests without one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ClientAuth {
    /// By whom they have to be issued.
    pub cas: Arc<ClientCas>,
    /// Whether every client has to show one; otherwise those that do not come in as well, and the pod is told.
    pub required: bool,
    /// How many CAs may stand above a certificate, the one that is believed included; from 1.
    pub depth: u8,
    /// Whether the certificate itself goes on (RFC 9440).
    pub forward: bool,
}

impl ClientCas {
    /// Reads CAs and, where there are any, their revocation lists from PEM.
    ///
    /// # Errors
    /// When there is no CA, or when one of them or of the lists cannot be read; in words that name what to do.
    pub fn from_pem(ca: &[u8], crl: Option<&[u8]>) -> Result<Self, String> {
        let roots = Certificate::roots_from_pem(ca).map_err(|error| match error {
            CertificateError::NoCertificate => {
                "`ca.crt` holds no certificate in PEM form; put the CA there".to_owned()
            }
            other => format!("`ca.crt`: {other}"),
        })?;
        let mut revoked = Vec::new();
        for (index, list) in CertificateRevocationListDer::pem_slice_iter(crl.unwrap_or_default()).enumerate()
        {
            let bad = || {
                format!(
                    "list {} of `ca.crl` cannot be read; check that it is an X.509 revocation list in PEM form",
                    index + 1
                )
            };
            let list = list.map_err(|_| bad())?;
            x509_parser::parse_x509_crl(&list).map_err(|_| bad())?;
            revoked.push(list);
        }
        if crl.is_some() && revoked.is_empty() {
            return Err(
                "`ca.crl` holds no revocation list in PEM form; put one there or take the key out".to_owned(),
            );
        }
        Ok(Self { roots, revoked })
    }
}

impl Serialize for ClientCas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!(
            "{} CAs, {} revocation lists",
            self.roots.len(),
            self.revoked.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        for (ca, crl, want) in [
            ("", None, "`ca.crt` holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                None,
                "certificate 1 cannot be read",
            ),
        ] {
            let error = ClientCas::from_pem(ca.as_bytes(), crl).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_safe(ca: Vec<u8>, crl: Option<Vec<u8>>) {
            let _ = ClientCas::from_pem(&ca, crl.as_deref());
        }
    }
}
