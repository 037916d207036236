//! Users and the hashes of their passwords, as `htpasswd` and `mkpasswd` write them: `name:hash`, one a line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Secret;

/// Most users of one file.
const MOST_USERS: usize = 10_000;
/// Octets of a name at most.
const LONGEST_NAME: usize = 128;
/// The dearest bcrypt that is let in: about a second of one core.
const MOST_COST: u32 = 14;
/// The same of SHA-crypt; its default is 5,000.
const ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=500_000;

/// How a password was hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// bcrypt: `$2a$`, `$2b$`, `$2y$`
    Bcrypt,
    /// SHA-crypt: `$5$` (SHA-256) and `$6$` (SHA-512)
    ShaCrypt,
}

/// The hash of a password, of a known kind and of bounded cost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordHash {
    /// How it was made.
    pub scheme: Scheme,
    /// As it stands in the file.
    pub text: Secret,
}

/// Users by name.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Users(BTreeMap<Arc<str>, PasswordHash>);

/// A line that lets nobody in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserFault {
    /// From 1.
    pub line: usize,
    /// What is wrong and what to do; never what stands there.
    pub why: &'static str,
}

impl Users {
    /// Reads a file. A line that cannot be used is left out, so that its user does not come in and the others do.
    pub fn parse(text: &[u8]) -> (Self, Vec<UserFault>) {
        let mut users = Self::default();
        let mut faults = Vec::new();
        for (index, line) in text.split(|octet| *octet == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let added = if users.0.len() < MOST_USERS {
                users.add(line)
            } else {
                Err("there are more than 10000 users; split the file over several hosts")
            };
            if let Err(why) = added {
                faults.push(UserFault { line: index + 1, why });
            }
        }
        (users, faults)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8; write it anew")?;
        let (name, rest) = line
            .split_once(':')
            .ok_or("it has no `:`; write name:hash, as htpasswd does")?;
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(
                "the name is empty, longer than 128 octets or holds control characters; write another",
            );
        }
        // What follows a second colon is a comment.
        let hash = PasswordHash::parse(rest.split(':').next().unwrap_or_default())?;
        if self.0.contains_key(name) {
            return Err("the user stands there already, and that line counts; remove one of the two");
        }
        self.0.insert(name.into(), hash);
        Ok(())
    }

    /// The hash of a user's password.
    pub fn get(&self, name: &str) -> Option<&PasswordHash> {
        self.0.get(name)
    }

    /// The hash at this place among the users, wherever the number leads.
    pub fn any(&self, number: u64) -> Option<&PasswordHash> {
        let count = u64::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        self.0.values().nth(usize::try_from(number % count).unwrap_or(0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.0.len())
    }
}

/// Views show how many there are.
impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} users", self.0.len()))
    }
}

impl PasswordHash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let scheme = if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            bcrypt(text)?;
            Scheme::Bcrypt
        } else if text.starts_with("$5$") || text.starts_with("$6$") {
            sha_crypt(text)?;
            Scheme::ShaCrypt
        } else {
            return Err(unknown(text));
        };
        Ok(Self {
            scheme,
            text: Secret::new(text.as_bytes()),
        })
    }
}

/// The alphabet of all `crypt` hashes.
fn is_crypt(text: &str) -> bool {
    text.bytes()
        .all(|octet| octet.is_ascii_alphanumeric() || octet == b'.' || octet == b'/')
}

/// `$2b$NN$` and 53 characters.
fn bcrypt(text: &str) -> Result<(), &'static str> {
    let mut parts = text.get(4..).unwrap_or_default().splitn(2, '$');
    let digits = |cost: &&str| cost.len() == 2 && cost.bytes().all(|octet| octet.is_ascii_digit());
    let cost = parts.next().filter(digits);
    let cost = cost.and_then(|cost| cost.parse::<u32>().ok());
    let rest = parts.next().unwrap_or_default();
    match cost {
        Some(cost) if rest.len() == 53 && is_crypt(rest) => {
            if cost > MOST_COST {
                Err(
                    "its bcrypt has a cost above 14, and each try would take seconds; make it anew with htpasswd -B -C 10",
                )
            } else if cost < 4 {
                Err("its bcrypt has a cost below 4; make it anew with htpasswd -B -C 10")
            } else {
                Ok(())
            }
        }
        _ => Err("its bcrypt is not whole; make it anew with htpasswd -B"),
    }
}

/// `$6$`, perhaps `rounds=N$`, a salt, `$` and 43 or 86 characters.
fn sha_crypt(text: &str) -> Result<(), &'static str> {
    const NOT_WHOLE: &str = "its SHA-crypt is not whole; make it anew with mkpasswd -m sha-512";
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let mut rest = text.get(3..).unwrap_or_default();
    if let Some(given) = rest.strip_prefix("rounds=") {
        let (number, after) = given.split_once('$').ok_or(NOT_WHOLE)?;
        let plain = number.bytes().all(|octet| octet.is_ascii_digit()) && !number.starts_with('0');
        let number: u64 = number.parse().ok().filter(|_| plain).ok_or(NOT_WHOLE)?;
        if !u32::try_from(number).is_ok_and(|number| ROUNDS.contains(&number)) {
            return Err(
                "its SHA-crypt has fewer than 1000 or more than 500000 rounds; make it anew with mkpasswd -m sha-512 -R 5000",
            );
        }
        rest = after;
    }
    let (salt, sum) = rest.split_once('$').ok_or(NOT_WHOLE)?;
    let whole = (1..=16).contains(&salt.len()) && is_crypt(salt) && sum.len() == length && is_crypt(sum);
    whole.then_some(()).ok_or(NOT_WHOLE)
}

fn unknown(text: &str) -> &'static str {
    if text.starts_with("$apr1$") || text.starts_with("$1$") {
        "its hash is made with MD5, which is tried by the thousand million a second; make it anew with htpasswd -B"
    } else if text.starts_with("{SHA}") || text.starts_with("{SSHA}") {
        "its hash is a plain SHA-1, which is tried by the thousand million a second; make it anew with htpasswd -B"
    } else {
        "its password stands there as it is, or its hash is of no known kind; make it anew with htpasswd -B"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str =
        "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOP";

    #[test]
    fn hashes() {
        let b = SUM.get(..53).unwrap();
        let s5 = SUM.get(..43).unwrap();
        let s6 = SUM.get(..86).unwrap();
        for (hash, want) in [
            (format!("$2y$05${b}"), Ok(Scheme::Bcrypt)),
            (format!("$2a$14${b}"), Ok(Scheme::Bcrypt)),
            (format!("$2b$15${b}"), Err("cost above 14")),
            (format!("$2b$31${b}"), Err("cost above 14")),
            (format!("$2b$03${b}"), Err("cost below 4")),
            (format!("$2b$5${b}"), Err("not whole")),
            (format!("$2b$+5${b}"), Err("not whole")),
            (format!("$2b$10${b}x"), Err("not whole")),
            (format!("$2x$10${b}"), Err("no known kind")),
            (format!("$5$salt${s5}"), Ok(Scheme::ShaCrypt)),
            (format!("$6$rounds=5000$salt${s6}"), Ok(Scheme::ShaCrypt)),
            (format!("$6$rounds=999999999$salt${s6}"), Err("500000 rounds")),
            (
                format!("$6$rounds=99999999999999$salt${s6}"),
                Err("500000 rounds"),
            ),
            (format!("$6$rounds=10$salt${s6}"), Err("fewer than 1000")),
            (format!("$6$rounds=05000$salt${s6}"), Err("not whole")),
            (format!("$6$rounds=5000salt${s6}"), Err("not whole")),
            (format!("$6$$ {s6}"), Err("not whole")),
            (format!("$6$saltsaltsaltsaltsalt${s6}"), Err("not whole")),
            (format!("$6$salt${s5}"), Err("not whole")),
            ("$apr1$salt$0123456789012345678901".to_owned(), Err("MD5")),
            ("{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=".to_owned(), Err("SHA-1")),
            ("hunter2".to_owned(), Err("as it is")),
            (String::new(), Err("as it is")),
        ] {
            let got = PasswordHash::parse(&hash).map(|hash| hash.scheme);
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{hash}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{hash}: {got}"),
                (got, want) => panic!("{hash}: {got:?} {want:?}"),
            }
        }
    }

    #[test]
    fn files() {
        let good = format!("$2y$05${}", SUM.get(..53).unwrap());
        let text = format!(
            "# users\r\n\nann:{good}\r\nbob:{good}:a comment\nann:{good}\nplain:hunter2\nnothing\n:{good}\n"
        );
        let (users, faults) = Users::parse(text.as_bytes());
        assert_eq!(users.len(), 2);
        assert_eq!(users.get("bob").unwrap().text.expose(), good.as_bytes());
        let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [5, 6, 7, 8], "{faults:?}");
        let shown = format!("{users:?} {faults:?} {}", serde_json::to_string(&users).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("$2y$"), "{shown}");
        assert_eq!(users.any(7), users.get("bob"));
        assert_eq!(Users::default().any(7), None);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_safe(text: Vec<u8>) {
            Users::parse(&text);
        }

        /// A hash that passes is never dear, whatever surrounds the number.
        #[test]
        fn what_passes_is_bounded(hash in "\\$(2[aby]|5|6)\\$(rounds=)?[0-9+ -]{0,12}\\$[./A-Za-z]{0,20}\\$?[./A-Z]{43,86}") {
            if let Ok(hash) = PasswordHash::parse(&hash) {
                let text = String::from_utf8(hash.text.expose().to_vec()).unwrap();
                if let Some((_, rest)) = text.split_once("rounds=") {
                    let number: u32 = rest.split('$').next().unwrap().parse().unwrap();
                    proptest::prop_assert!(ROUNDS.contains(&number));
                }
                if hash.scheme == Scheme::Bcrypt {
                    let cost: u32 = text.split('$').nth(2).unwrap().parse().unwrap();
                    proptest::prop_assert!(cost <= MOST_COST);
                }
            }
        }
    }
}
