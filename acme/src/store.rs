//! What is kept on disk: accounts, certificates and the history of failures.
//!
//! ```text
//! <state_dir>/acme/accounts/<CA>-<hash>.json       account key and URL, one file a directory URL
//! <state_dir>/acme/history/<CA>-<hash>.json        failures, one file a directory URL
//! <state_dir>/acme/certificates/<name>-<hash>.json key, chain and where from, one file a set of names
//! ```
//!
//! A file is replaced whole or not at all (written beside, synced, renamed, directory synced), is readable by its
//! owner only, and one that cannot be read is set aside, never fatal. All of it blocks: call it where that is allowed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use sekisho_config::model::{Certificate, NameSet, Secret};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::due::Validity;
use crate::history::History;

/// No file of ours is larger; a larger one is not read.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Marks a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// Marks a file that could not be read.
const BROKEN: &str = ".broken";

/// A certificate with where it came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// The set as it was wanted.
    pub(crate) names: Arc<NameSet>,
    /// Chain and key.
    pub(crate) certificate: Arc<Certificate>,
    /// Chain as the CA sent it.
    pub(crate) chain_pem: Arc<str>,
    /// Directory URL of the CA.
    pub(crate) directory: Arc<str>,
    /// When it was obtained.
    pub(crate) obtained: Timestamp,
}

impl Held {
    /// What `due` needs to know, with `directory` as the CA of now.
    pub(crate) fn validity(&self, directory: &str, now: Timestamp) -> Validity {
        Validity {
            not_before: self.certificate.not_before,
            not_after: self.certificate.not_after,
            // A clock that was ahead when it was obtained must not put renewal off.
            obtained: self.obtained.min(now),
            of_this_ca: &*self.directory == directory,
        }
    }
}

/// Why a chain and key are not the certificate for a set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error(transparent)]
    Unreadable(#[from] sekisho_config::model::CertificateError),
    #[error("{0} is missing in the certificate")]
    Name(String),
    #[error("key and certificate do not belong together ({0})")]
    Key(String),
}

/// Reads chain and key and checks that they are what `names` needs.
pub(crate) fn certificate_for(
    names: &NameSet,
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<Certificate, Mismatch> {
    let certificate = Certificate::from_pem(chain_pem, key_pem)?;
    if let Some(name) = names.iter().find(|name| !certificate.serves(name)) {
        return Err(Mismatch::Name(name.to_string()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| sekisho_config::model::CertificateError::NoKey)?;
    CertifiedKey::from_der(certificate.chain.clone(), key, &aws_lc_rs::default_provider())
        .map_err(|error| Mismatch::Key(error.to_string()))?;
    Ok(certificate)
}

/// The directory `acme` in the state directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Makes the directories and checks that they can be written.
    ///
    /// # Errors
    /// The path at fault and what the system said.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let root = state_dir.join("acme");
        for directory in [
            root.clone(),
            root.join("accounts"),
            root.join("history"),
            root.join("certificates"),
        ] {
            private_dir(&directory).map_err(|error| (directory, error))?;
        }
        let probe = root.join("probe");
        write_atomic(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|error| (root.clone(), error))?;
        Ok(Self { root })
    }

    /// Every certificate that can be read; what cannot is set aside and logged.
    pub(crate) fn certificates(&self) -> Vec<Held> {
        let directory = self.root.join("certificates");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                warn!(path = %directory.display(), %error, "certificates cannot be listed; they are ordered anew");
                return Vec::new();
            }
        };
        let mut found: Vec<Held> = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name else { continue };
            if name.ends_with(UNFINISHED) {
                // Left by a crash in the middle of a write: the file it was to replace is whole.
                let _ = fs::remove_file(&path);
            } else if name.ends_with(".json") {
                found.extend(self.read(&path, read_certificate));
            }
        }
        found.sort_by(|a, b| a.names.cmp(&b.names).then(a.obtained.cmp(&b.obtained)));
        found
    }

    /// Writes a certificate; the one for the same names is replaced.
    pub(crate) fn save_certificate(&self, held: &Held) -> io::Result<()> {
        let key_pem = std::str::from_utf8(held.certificate.key_pem.expose())
            .map_err(|_| io::Error::other("the private key is not PEM text"))?;
        let mut file = CertificateFile {
            names: held.names.iter().map(ToString::to_string).collect(),
            directory: held.directory.to_string(),
            obtained: held.obtained,
            issuer: held.certificate.issuer.clone(),
            not_after: held.certificate.not_after,
            certificate: held.chain_pem.to_string(),
            private_key: key_pem.to_owned(),
            sha256: String::new(),
        };
        file.sha256 = file.digest();
        let json = serde_json::to_vec_pretty(&file)?;
        write_atomic(&self.certificate_path(&held.names), &json)
    }

    /// Removes the certificate of a set.
    pub(crate) fn remove_certificate(&self, names: &NameSet) -> io::Result<()> {
        match fs::remove_file(self.certificate_path(names)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The failures with the CA at `directory`; a new history where there is none.
    pub(crate) fn history(&self, directory: &str) -> History {
        let path = self.directory_path("history", directory);
        self.read(&path, |bytes| {
            History::from_json(bytes).map_err(|error| error.to_string())
        })
        .unwrap_or_else(|| History::new(random()))
    }

    /// Writes the failures with the CA at `directory`.
    pub(crate) fn save_history(&self, directory: &str, history: &History) -> io::Result<()> {
        write_atomic(&self.directory_path("history", directory), &history.to_json()?)
    }

    /// The account with the CA at `directory`, if there is one.
    pub(crate) fn account(&self, directory: &str) -> Option<StoredAccount> {
        let path = self.directory_path("accounts", directory);
        self.read(&path, |bytes| {
            let file: AccountFile = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            if file.directory != directory {
                return Err(format!("it is for {}", file.directory.escape_debug()));
            }
            let credentials = serde_json::to_vec(&file.account).map_err(|error| error.to_string())?;
            let _ = serde_json::from_slice::<instant_acme::AccountCredentials>(&credentials)
                .map_err(|_| "it holds no account key".to_owned())?;
            Ok(StoredAccount {
                email: file.email,
                credentials: Secret::new(credentials),
            })
        })
    }

    /// Writes the account with the CA at `directory`.
    pub(crate) fn save_account(&self, directory: &str, account: &StoredAccount) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(&AccountFile {
            directory: directory.to_owned(),
            email: account.email.clone(),
            account: serde_json::from_slice(account.credentials.expose())?,
        })?;
        write_atomic(&self.directory_path("accounts", directory), &json)
    }

    /// Puts the account away that the CA does not know any more.
    pub(crate) fn retire_account(&self, directory: &str) -> io::Result<()> {
        let path = self.directory_path("accounts", directory);
        fs::rename(&path, with_suffix(&path, ".unknown-to-the-ca"))
    }

    /// Reads one file; sets it aside when `parse` refuses it. `None` when there is none to use.
    fn read<T>(&self, path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<T> {
        let why = match read_bounded(path) {
            Ok(Some(bytes)) => match parse(&bytes) {
                Ok(value) => return Some(value),
                Err(why) => why,
            },
            Ok(None) => format!("it is larger than {LARGEST_FILE} octets"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                // Not the content's fault: leave the file where it is, a remedy may bring it back.
                warn!(path = %path.display(), %error, "file cannot be read; check its owner and mode");
                return None;
            }
        };
        let aside = with_suffix(path, BROKEN);
        let moved = fs::rename(path, &aside);
        warn!(
            path = %path.display(), aside = %aside.display(), %why, moved = moved.is_ok(),
            "file is broken and set aside; what it held is obtained anew"
        );
        None
    }

    fn certificate_path(&self, names: &NameSet) -> PathBuf {
        let mut text = String::new();
        for name in names {
            text.push_str(&name.to_string());
            text.push('\n');
        }
        let first = names.iter().next().map(ToString::to_string).unwrap_or_default();
        self.root.join("certificates").join(file_name(&first, &text))
    }

    fn directory_path(&self, kind: &str, directory: &str) -> PathBuf {
        let host = directory
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next())
            .unwrap_or("ca");
        self.root.join(kind).join(file_name(host, directory))
    }
}

/// An account of ours with one CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredAccount {
    /// The contact that the CA was told.
    pub(crate) email: Option<String>,
    /// `instant_acme::AccountCredentials` as JSON.
    pub(crate) credentials: Secret,
}

#[derive(Deserialize, Serialize)]
struct AccountFile {
    directory: String,
    email: Option<String>,
    account: serde_json::Value,
}

#[derive(Deserialize, Serialize)]
struct CertificateFile {
    names: Vec<String>,
    directory: String,
    obtained: Timestamp,
    /// For people who look at the file; the truth is in the certificate.
    #[serde(default)]
    issuer: String,
    /// As `issuer`.
    not_after: Timestamp,
    certificate: String,
    private_key: String,
    /// Of all the rest: a disk that turns bits must not make us serve a chain that no client takes.
    sha256: String,
}

impl CertificateFile {
    fn digest(&self) -> String {
        let Self {
            names,
            directory,
            obtained,
            certificate,
            private_key,
            ..
        } = self;
        sha256(&format!(
            "{names:?}\n{directory}\n{obtained}\n{certificate}\n{private_key}"
        ))
    }
}

fn read_certificate(bytes: &[u8]) -> Result<Held, String> {
    let file: CertificateFile = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.sha256 != file.digest() {
        return Err("its checksum is wrong".to_owned());
    }
    let names = file
        .names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<NameSet, _>>();
    let names = names.map_err(|error| error.to_string())?;
    if names.is_empty() {
        return Err("it has no names".to_owned());
    }
    let certificate = certificate_for(&names, file.certificate.as_bytes(), file.private_key.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(Held {
        names: Arc::new(names),
        certificate: Arc::new(certificate),
        chain_pem: file.certificate.into(),
        directory: file.directory.into(),
        obtained: file.obtained,
    })
}

/// `<what a person knows it by>-<hash of the whole>.json`: safe as a file name whatever the text is.
fn file_name(known_by: &str, whole: &str) -> String {
    let known_by: String = known_by
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(80)
        .collect();
    let known_by = known_by.trim_start_matches('.');
    let hash: String = sha256(whole).chars().take(32).collect();
    format!("{known_by}-{hash}.json")
}

fn sha256(text: &str) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= LARGEST_FILE) {
            Some(bytes)
        } else {
            None
        },
    )
}

/// Replaces `path` as a whole: after a crash it holds the old bytes or the new ones.
fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = with_suffix(path, UNFINISHED);
    let written = (|| {
        let _ = fs::remove_file(&unfinished);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn random() -> u64 {
    let mut octets = [0; 8];
    // Without randomness renewals are not spread between boxes; nothing else depends on it.
    let _ = ::aws_lc_rs::rand::fill(&mut octets);
    u64::from_ne_bytes(octets)
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::failure::{Failure, FailureKind};

    /// A self-signed certificate for `names`, valid from `from` to `to`.
    pub(crate) fn issue(names: &NameSet, from: Timestamp, to: Timestamp) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let time = |at: Timestamp| std::time::SystemTime::from(at).into();
        (params.not_before, params.not_after) = (time(from), time(to));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn held(names: &str, from: Timestamp, to: Timestamp, directory: &str) -> Held {
        let names: NameSet = names.split(' ').map(|name| name.parse().unwrap()).collect();
        let (chain, key) = issue(&names, from, to);
        Held {
            certificate: Arc::new(certificate_for(&names, chain.as_bytes(), key.as_bytes()).unwrap()),
            names: Arc::new(names),
            chain_pem: chain.into(),
            directory: directory.into(),
            obtained: from,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut found: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn what_is_saved_is_found_and_private() {
        let (dir, store) = open();
        let first = held("a.example b.example", at(0), at(86_400), "https://ca.test/dir");
        let second = held("a.example", at(0), at(86_400), "https://ca.test/dir");
        store.save_certificate(&first).unwrap();
        store.save_certificate(&second).unwrap();
        let again = held("a.example b.example", at(10), at(90_000), "https://ca.test/dir");
        store.save_certificate(&again).unwrap();
        assert_eq!(
            Store::open(dir.path()).unwrap().certificates(),
            [second.clone(), again]
        );
        let certificates = dir.path().join("acme/certificates");
        for path in [dir.path().join("acme"), certificates.clone()] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o700,
                "{path:?}"
            );
        }
        for name in files(&certificates) {
            let mode = fs::metadata(certificates.join(&name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            assert!(name.starts_with("a.example-"), "{name}");
        }
        store.remove_certificate(&second.names).unwrap();
        store.remove_certificate(&second.names).unwrap();
        assert_eq!(store.certificates().len(), 1);
    }

    #[test]
    fn a_directory_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("acme");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        Store::open(dir.path()).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_state_directory_that_is_a_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("acme"), "").unwrap();
        assert!(Store::open(dir.path()).unwrap_err().0.ends_with("acme"));
    }

    #[test]
    fn broken_files_are_set_aside_and_the_good_ones_stay() {
        let (dir, store) = open();
        let good = held("a.example", at(0), at(86_400), "https://ca.test/dir");
        let other = held("b.example", at(0), at(86_400), "https://ca.test/dir");
        store.save_certificate(&good).unwrap();
        let certificates = dir.path().join("acme/certificates");
        let good_json = fs::read_to_string(store.certificate_path(&good.names)).unwrap();
        let other_key = std::str::from_utf8(other.certificate.key_pem.expose()).unwrap();
        let mut stolen: CertificateFile = serde_json::from_str(&good_json).unwrap();
        stolen.private_key = other_key.to_owned();
        stolen.sha256 = stolen.digest();
        let mut renamed: CertificateFile = serde_json::from_str(&good_json).unwrap();
        renamed.names = vec!["z.example".to_owned()];
        renamed.sha256 = renamed.digest();
        for (name, content) in [
            ("empty.json", String::new()),
            ("half.json", good_json[..good_json.len() / 2].to_owned()),
            ("keys-of-another.json", serde_json::to_string(&stolen).unwrap()),
            ("other-names.json", serde_json::to_string(&renamed).unwrap()),
            ("large.json", " ".repeat(2 * 1024 * 1024)),
        ] {
            fs::write(certificates.join(name), content).unwrap();
        }
        fs::write(certificates.join("x.json.unfinished"), "half").unwrap();
        assert_eq!(store.certificates(), [good]);
        let left = files(&certificates);
        assert_eq!(
            left.iter().filter(|name| name.ends_with(".broken")).count(),
            5,
            "{left:?}"
        );
        assert_eq!(left.len(), 6, "{left:?}");
    }

    #[test]
    fn account_and_history_are_kept_by_directory() {
        let (dir, store) = open();
        let directory = "https://ca.test:14000/dir";
        assert_eq!(store.account(directory), None);
        // A P-256 key made for this test.
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let account = StoredAccount {
            email: Some("ops@example.com".to_owned()),
            credentials: Secret::new(credentials(&key)),
        };
        store.save_account(directory, &account).unwrap();
        let read = store.account(directory).unwrap();
        assert_eq!(read.email, account.email);
        assert!(!format!("{read:?}").contains("key_pkcs8"));
        assert_eq!(store.account("https://ca.test:14000/other"), None);
        store.retire_account(directory).unwrap();
        assert_eq!(store.account(directory), None);
        assert!(files(&dir.path().join("acme/accounts"))[0].ends_with(".unknown-to-the-ca"));

        let mut history = store.history(directory);
        let names = Arc::new(NameSet::from(["a.example".parse().unwrap()]));
        history.failed(&names, &Failure::new(FailureKind::Refused, "no"), at(0), at(0));
        store.save_history(directory, &history).unwrap();
        assert_eq!(store.history(directory), history);
        assert!(store.history("https://other.test/").of(&names).is_none());
    }

    fn credentials(key: &[u8]) -> Vec<u8> {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in key.chunks(3) {
            let bits = (u32::from(chunk[0]) << 16)
                | (u32::from(*chunk.get(1).unwrap_or(&0)) << 8)
                | u32::from(*chunk.get(2).unwrap_or(&0));
            for place in 0..=chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
            }
        }
        format!(
            r#"{{"id":"https://ca.test/a/1","key_pkcs8":"{text}","directory":"https://ca.test:14000/dir"}}"#
        )
        .into_bytes()
    }

    #[test]
    fn validity_of_another_ca_or_a_clock_that_was_ahead() {
        let held = held("a.example", at(1000), at(86_400), "https://ca.test/dir");
        assert!(held.validity("https://ca.test/dir", at(2000)).of_this_ca);
        assert!(!held.validity("https://other.test/dir", at(2000)).of_this_ca);
        assert_eq!(held.validity("", at(0)).obtained, at(0));
        assert_eq!(
            held.validity("", at(0)).not_after,
            at(0) + SignedDuration::from_secs(86_400)
        );
    }

    proptest! {
        #[test]
        fn file_names_are_safe_and_tell_texts_apart(a: String, b: String) {
            let name = file_name(&a, &a);
            prop_assert!(name.len() < 130);
            prop_assert!(!name.starts_with('.') && name.ends_with(".json"));
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)), "{name}");
            prop_assert_eq!(a == b, file_name("x", &a) == file_name("x", &b));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read_certificate(&bytes).is_err());
        }

        #[test]
        fn a_damaged_file_is_refused_or_the_same(place in 0_usize..2000, octet: u8) {
            let whole = held("a.example", at(0), at(86_400), "https://ca.test/dir");
            let (_dir, store) = open();
            store.save_certificate(&whole).unwrap();
            let path = store.certificate_path(&whole.names);
            let mut bytes = fs::read(&path).unwrap();
            let place = place % bytes.len();
            bytes[place] = octet;
            fs::write(&path, bytes).unwrap();
            for found in store.certificates() {
                prop_assert_eq!(&found.certificate.chain, &whole.certificate.chain);
            }
        }
    }
}
