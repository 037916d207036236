//! What a Secret or ConfigMap holds that an annotation names.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use sekisho_config::model::{ClientCas, ErrorPages, ObjectName, Secret, UserFault, Users};

use super::parse::object_name;
use super::{Kind, ParseError};

/// The keys of Secrets that annotations read. Whatever else a Secret holds is dropped where it is parsed.
pub const SECRET_KEYS: [&str; 4] = ["auth", "ca.crt", "ca.crl", "jwks"];

/// The entries of a Secret or ConfigMap. Prints their names only.
#[derive(Clone, Debug)]
pub struct Content {
    /// [`Kind::NamedSecret`] or [`Kind::ConfigMap`]
    pub kind: Kind,
    /// Its name.
    pub name: ObjectName,
    entries: BTreeMap<Arc<str>, Secret>,
    /// The users of `auth`, judged once for all translations.
    users: OnceLock<(Arc<Users>, Vec<UserFault>)>,
    /// The same of `ca.crt` and `ca.crl`.
    client_cas: OnceLock<Result<Arc<ClientCas>, String>>,
    /// The same of all entries as pages.
    error_pages: OnceLock<(Arc<ErrorPages>, Vec<String>)>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.entries) == (other.kind, &other.name, &other.entries)
    }
}

impl Eq for Content {}

impl Content {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(Secret::expose)
    }

    /// The users of the file `auth`, and the lines of it that let nobody in; `None` without the file.
    pub fn users(&self) -> Option<&(Arc<Users>, Vec<UserFault>)> {
        let file = self.get("auth")?;
        Some(self.users.get_or_init(|| {
            let (users, faults) = Users::parse(file);
            (Arc::new(users), faults)
        }))
    }

    /// The CAs of `ca.crt` with what `ca.crl` says; `None` without the first.
    pub fn client_cas(&self) -> Option<&Result<Arc<ClientCas>, String>> {
        let ca = self.get("ca.crt")?;
        Some(
            self.client_cas
                .get_or_init(|| ClientCas::from_pem(ca, self.get("ca.crl")).map(Arc::new)),
        )
    }

    /// Every entry as an error page, and what is wrong with those that are none.
    pub fn error_pages(&self) -> &(Arc<ErrorPages>, Vec<String>) {
        self.error_pages.get_or_init(|| {
            let (pages, faults) = ErrorPages::read(self.entries().map(|(key, value)| (&**key, value)));
            (Arc::new(pages), faults)
        })
    }

    /// Every key with its value, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        self.entries.iter().map(|(key, value)| (key, value.expose()))
    }

    /// Of a Secret of any type, those of [`SECRET_KEYS`].
    pub(crate) fn of_secret(object: &core::Secret) -> Result<Self, ParseError> {
        let read = |key: &str| SECRET_KEYS.contains(&key);
        let secret = |key: &String, value: &[u8]| (Arc::from(key.as_str()), Secret::new(value));
        // `stringData` is written over `data` by the API server; a file has both as they are.
        let coded = object.data.iter().flatten();
        let plain = object.string_data.iter().flatten();
        Ok(Self {
            kind: Kind::NamedSecret,
            name: object_name(&object.metadata)?,
            entries: coded
                .map(|(key, ByteString(value))| (key, value.as_slice()))
                .chain(plain.map(|(key, value)| (key, value.as_bytes())))
                .filter(|(key, _)| read(key))
                .map(|(key, value)| secret(key, value))
                .collect(),
            users: OnceLock::new(),
            client_cas: OnceLock::new(),
            error_pages: OnceLock::new(),
        })
    }

    /// All of a ConfigMap.
    pub(crate) fn of_config_map(object: core::ConfigMap) -> Result<Self, ParseError> {
        let binary = object.binary_data.into_iter().flatten();
        Ok(Self {
            kind: Kind::ConfigMap,
            name: object_name(&object.metadata)?,
            entries: binary
                .map(|(key, ByteString(value))| (key.into(), Secret::new(value)))
                .chain(object.data.into_iter().flatten().map(text))
                .collect(),
            users: OnceLock::new(),
            client_cas: OnceLock::new(),
            error_pages: OnceLock::new(),
        })
    }
}

fn text((key, value): (String, String)) -> (Arc<str>, Secret) {
    (key.into(), Secret::new(value.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_only_what_annotations_read_is_kept() {
        let secret: core::Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "ns"},
            "data": {"auth": "b2xk", "tls.key": "aHVudGVyMg==", "release": "aHVudGVyMg=="},
            "stringData": {"auth": "new", "token": "hunter2"},
        }))
        .unwrap();
        let content = Content::of_secret(&secret).unwrap();
        assert_eq!(content.get("auth"), Some(&b"new"[..]));
        assert_eq!(content.entries().count(), 1);
        assert!(!format!("{content:?}").contains("new"), "{content:?}");
    }

    #[test]
    fn of_a_config_map_everything_is() {
        let map: core::ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "m"},
            "data": {"404.html": "gone"},
            "binaryData": {"logo.png": "AAE="},
        }))
        .unwrap();
        let content = Content::of_config_map(map).unwrap();
        assert_eq!(content.name, ObjectName::new("default", "m"));
        assert_eq!(content.get("logo.png"), Some(&[0, 1][..]));
        assert_eq!(content.get("404.html"), Some(&b"gone"[..]));
    }
}
