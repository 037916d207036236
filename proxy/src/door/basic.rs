//! Names and passwords (RFC 7617). To hash a password is dear by intent: it is done on a few threads of their own, of which
//! a queue of bounded length is asked, and what a worker has found to be right it remembers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures::FutureExt;
use futures::future::Shared;
use http::{HeaderName, HeaderValue};
use sekisho_config::model::{Basic, ObjectName, PasswordHash, Scheme, Secret, Users};
use sha_crypt::password_hash::PasswordVerifier;
use sha_crypt::{PasswordHashRef, ShaCrypt};
use tokio::sync::oneshot;

use crate::fields::Fields;
use crate::fields::names::AUTHORIZATION;

/// Octets of what is encoded in base64, at most; SHA-crypt costs more the longer a password is.
const LONGEST: usize = 512;
/// Passwords that wait to be hashed, for each worker; of one Ingress, half of them.
const QUEUE: usize = 32;
/// Credentials that a worker knows to be right.
const MOST_KNOWN: usize = 4096;

/// Browsers pad; others may forget to.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whose passwords are believed.
#[derive(Debug)]
pub(crate) struct Compiled {
    users: Arc<Users>,
    /// What `WWW-Authenticate` says.
    pub(crate) challenge: HeaderValue,
    strip: bool,
    user_header: Option<HeaderName>,
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    /// It carries no name and password.
    Missing,
    /// They are wrong.
    Wrong,
    /// There are too many others to be judged.
    Busy,
}

/// A name and a password that a client has sent.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

/// Stands for credentials together with the hash by which they were judged: another hash is another tag.
type Tag = [u8; 16];

/// What a worker knows of passwords.
#[derive(Clone, Default)]
pub(crate) struct Known(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    good: HashSet<Tag>,
    /// The same in the order in which they came.
    order: VecDeque<Tag>,
    /// What is being hashed. Whoever asks for the same waits for the same.
    running: HashMap<Tag, Shared<oneshot::Receiver<bool>>>,
    of_ingress: HashMap<ObjectName, usize>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

/// How a judgement was reached, for the metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passed {
    /// By the hash.
    Judged,
    /// It was known.
    Known,
}

impl Compiled {
    pub(super) fn compile(basic: &Basic) -> Self {
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm);
        Self {
            users: Arc::clone(&basic.users),
            challenge: HeaderValue::from_str(&challenge)
                .unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"\"")),
            strip: basic.strip,
            user_header: basic
                .user_header
                .as_ref()
                .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
        }
    }

    /// Judges what a request carries. `spawn` runs a future to its end, whatever becomes of the request.
    pub(crate) async fn check(
        &self,
        ingress: &ObjectName,
        headers: &Fields,
        known: &Known,
        hashers: &Hashers,
        spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()>>>),
    ) -> Result<(String, Passed), Refused> {
        let Credentials { user, password } = credentials(headers)?;
        let Some(key) = hashers.key() else {
            return Err(Refused::Busy);
        };
        // Whoever does not exist costs as much as whoever does.
        let (hash, exists) = match self.users.get(&user) {
            Some(hash) => (hash, true),
            None => {
                let sum = hmac::sign(key, user.as_bytes());
                let number = sum
                    .as_ref()
                    .first_chunk()
                    .map_or(0, |octets| u64::from_le_bytes(*octets));
                (self.users.any(number).ok_or(Refused::Wrong)?, false)
            }
        };
        let tag = tag(key, hash, &user, &password);
        let waiting = {
            let mut state = known.0.borrow_mut();
            if exists && state.good.contains(&tag) {
                return Ok((user, Passed::Known));
            }
            match state.running.get(&tag) {
                Some(running) => running.clone(),
                None => {
                    let count = state.of_ingress.get(ingress).copied().unwrap_or(0);
                    if count >= QUEUE / 2 {
                        return Err(Refused::Busy);
                    }
                    let judged = hashers.judge(hash.clone(), password).ok_or(Refused::Busy)?;
                    let (tell, told) = oneshot::channel();
                    let told = told.shared();
                    state.running.insert(tag, told.clone());
                    state.of_ingress.insert(ingress.clone(), count + 1);
                    let (known, ingress) = (known.clone(), ingress.clone());
                    spawn(Box::pin(async move {
                        let good = judged.await.unwrap_or(false) && exists;
                        known.0.borrow_mut().done(&tag, good, &ingress);
                        // Whoever has asked may have gone.
                        let _ = tell.send(good);
                    }));
                    told
                }
            }
        };
        match waiting.await {
            Ok(true) => Ok((user, Passed::Judged)),
            Ok(false) => Err(Refused::Wrong),
            Err(_) => Err(Refused::Busy),
        }
    }

    /// The field that a client must not set by itself.
    pub(super) fn owned(&self) -> Option<&HeaderName> {
        self.user_header.as_ref()
    }

    /// Makes the header section of a request that passes what the pod is to see.
    pub(crate) fn pass(&self, headers: &mut Fields, user: &str) {
        if self.strip {
            headers.remove(AUTHORIZATION);
        }
        if let Some(name) = &self.user_header {
            headers.remove(name);
            if let Ok(value) = HeaderValue::from_bytes(user.as_bytes()) {
                headers.insert(name, value);
            }
        }
    }
}

impl State {
    fn done(&mut self, tag: &Tag, good: bool, ingress: &ObjectName) {
        self.running.remove(tag);
        if let Some(count) = self.of_ingress.get_mut(ingress) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_ingress.remove(ingress);
            }
        }
        if good && self.good.insert(*tag) {
            self.order.push_back(*tag);
            if self.order.len() > MOST_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.good.remove(&oldest);
            }
        }
    }
}

fn tag(key: &hmac::Key, hash: &PasswordHash, user: &str, password: &[u8]) -> Tag {
    let mut context = hmac::Context::with_key(key);
    // None of the three holds a NUL, so that no two lists of them are the same octets.
    for part in [hash.text.expose(), user.as_bytes(), password] {
        context.update(part);
        context.update(b"\0");
    }
    let sum = context.sign();
    let mut tag = Tag::default();
    for (to, from) in tag.iter_mut().zip(sum.as_ref()) {
        *to = *from;
    }
    tag
}

/// The credentials of exactly one `Authorization: Basic`.
fn credentials(headers: &Fields) -> Result<Credentials, Refused> {
    let mut fields = headers.get_all(AUTHORIZATION);
    let field = fields.next().ok_or(Refused::Missing)?;
    if fields.next().is_some() {
        return Err(Refused::Wrong);
    }
    let field = field.to_str().map_err(|_| Refused::Wrong)?;
    let (scheme, coded) = field.split_once(' ').ok_or(Refused::Missing)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refused::Missing);
    }
    let coded = coded.trim();
    if coded.len() > LONGEST {
        return Err(Refused::Wrong);
    }
    let plain = BASE64.decode(coded).map_err(|_| Refused::Wrong)?;
    // Control characters are in neither (RFC 7617 section 2).
    if plain.iter().any(u8::is_ascii_control) {
        return Err(Refused::Wrong);
    }
    let colon = plain
        .iter()
        .position(|octet| *octet == b':')
        .ok_or(Refused::Wrong)?;
    let (user, password) = plain.split_at(colon);
    Ok(Credentials {
        user: String::from_utf8(user.to_vec()).map_err(|_| Refused::Wrong)?,
        password: password.get(1..).unwrap_or_default().to_vec(),
    })
}

/// The threads that hash, made when the first password comes.
#[derive(Debug)]
pub(crate) struct Hashers {
    workers: usize,
    key: OnceLock<Option<hmac::Key>>,
    jobs: OnceLock<Option<SyncSender<Job>>>,
}

struct Job {
    hash: PasswordHash,
    password: Secret,
    done: oneshot::Sender<bool>,
}

impl Default for Hashers {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Hashers {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            key: OnceLock::new(),
            jobs: OnceLock::new(),
        }
    }

    /// `None` where the system has no randomness.
    fn key(&self) -> Option<&hmac::Key> {
        let made = || hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok();
        self.key.get_or_init(made).as_ref()
    }

    /// Whether the password is the one of the hash; `None`: too many wait.
    fn judge(&self, hash: PasswordHash, password: Vec<u8>) -> Option<oneshot::Receiver<bool>> {
        let (done, judged) = oneshot::channel();
        let job = Job {
            hash,
            password: Secret::new(password),
            done,
        };
        let jobs = self.jobs.get_or_init(|| self.start()).as_ref()?;
        jobs.try_send(job).ok()?;
        Some(judged)
    }

    /// One thread for two workers: the others keep half of the machine, whatever comes.
    fn start(&self) -> Option<SyncSender<Job>> {
        let (sender, receiver) = sync_channel(QUEUE * self.workers);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = 0;
        for index in 0..self.workers.div_ceil(2) {
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new().name(format!("passwords-{index}"));
            match thread.spawn(move || hash_all(&receiver)) {
                Ok(_) => threads += 1,
                Err(error) => tracing::error!(%error, "no thread for passwords"),
            }
        }
        // Without a thread nobody would ever answer.
        (threads > 0).then_some(sender)
    }
}

/// Until nobody asks any more.
fn hash_all(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let right = is_right(&job.hash, job.password.expose());
        // Whoever asked may have gone.
        let _ = job.done.send(right);
    }
}

/// Both compare in constant time.
fn is_right(hash: &PasswordHash, password: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(hash.text.expose()) else {
        return false;
    };
    match hash.scheme {
        Scheme::Bcrypt => bcrypt::verify(password, text).unwrap_or(false),
        Scheme::ShaCrypt => PasswordHashRef::new(text)
            .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str, password: &str) -> bool {
        let (users, faults) = Users::parse(format!("u:{line}").as_bytes());
        assert_eq!(faults, [], "{line}");
        is_right(users.get("u").unwrap(), password.as_bytes())
    }

    /// Hashes that the system's own `crypt` has made.
    #[test]
    fn passwords() {
        let longest = "x".repeat(72);
        let longer = "x".repeat(73);
        for (hash, password, right) in [
            (
                "$2a$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
                "hunter2",
                true,
            ),
            (
                "$2b$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
                "hunter2",
                true,
            ),
            (
                "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
                "hunter2",
                true,
            ),
            (
                "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
                "hunter3",
                false,
            ),
            (
                "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
                "",
                false,
            ),
            (
                "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                &longest,
                true,
            ),
            // bcrypt looks at 72 octets, and so do all who check such hashes.
            (
                "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                &longer,
                true,
            ),
            (
                "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i",
                "x",
                false,
            ),
            (
                "$5$saltsalt$OIdfjX.u4Y3SJ4I2bX8w5BMf1VAUhHABNUirScDzZi3",
                "hunter2",
                true,
            ),
            (
                "$5$rounds=1000$saltsalt$f25dkPYTm952Io0nI9FgssYnbY.87HWdiFw89b8zOR8",
                "hunter2",
                true,
            ),
            (
                "$5$rounds=1400$anotherlongsalts$UKslfUbr2H0lI3.k9q7KTzWWBZfYpKXj7WFmIpkVXV/",
                "hünter2",
                true,
            ),
            (
                "$5$rounds=1400$anotherlongsalts$UKslfUbr2H0lI3.k9q7KTzWWBZfYpKXj7WFmIpkVXV/",
                "hunter2",
                false,
            ),
            (
                "$6$saltsalt$8iYtNHxjWRl.NF6oNZ5tF.iKFlQREaXBLlSmZKP6dy9l5z3vsooWNW0/GZ6Nej73/TFug6pIPSqbJoCT6dfnj.",
                "hunter2",
                true,
            ),
            (
                "$6$rounds=1000$saltsalt$gqUcWLKt3d1wsoaFq/ZlFXJndu400B3QqT3noJu6R/eEGKKt5.bf/H7jRZdxjThW3JpMB1IX.1Z2f5cgwsF710",
                "hunter2",
                true,
            ),
            (
                "$6$rounds=1000$saltsalt$gqUcWLKt3d1wsoaFq/ZlFXJndu400B3QqT3noJu6R/eEGKKt5.bf/H7jRZdxjThW3JpMB1IX.1Z2f5cgwsF710",
                "Hunter2",
                false,
            ),
        ] {
            assert_eq!(judged(hash, password), right, "{hash} {password}");
        }
    }

    #[test]
    fn what_a_field_holds() {
        let read = |value: &str| {
            let headers = [(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]
                .into_iter()
                .collect();
            credentials(&headers).map(|found| (found.user, String::from_utf8(found.password).unwrap()))
        };
        let text = |plain: &str| BASE64.encode(plain);
        let pair = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
        for (value, want) in [
            (format!("Basic {}", text("ann:a:b")), pair("ann", "a:b")),
            (
                format!("bAsIc  {}", text("ann:x").trim_end_matches('=')),
                pair("ann", "x"),
            ),
            (format!("Basic {}", text("änn:ß")), pair("änn", "ß")),
            (format!("Basic {}", text(":")), pair("", "")),
            (format!("Basic {}", text("ann")), Err(Refused::Wrong)),
            (format!("Basic {}", text("ann:a\0b")), Err(Refused::Wrong)),
            (format!("Basic {}", text(&"a:".repeat(400))), Err(Refused::Wrong)),
            ("Basic !".to_owned(), Err(Refused::Wrong)),
            ("Basic".to_owned(), Err(Refused::Missing)),
            ("Bearer x".to_owned(), Err(Refused::Missing)),
        ] {
            assert_eq!(read(&value), want, "{value}");
        }
        let mut twice = Fields::new();
        assert_eq!(credentials(&twice).err(), Some(Refused::Missing));
        for _ in 0..2 {
            twice.append(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        }
        assert_eq!(credentials(&twice).err(), Some(Refused::Wrong));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut state = State::default();
        let ingress = ObjectName::new("ns", "i");
        for number in 0..MOST_KNOWN as u128 + 10 {
            state.done(&number.to_le_bytes(), true, &ingress);
            state.done(&number.to_le_bytes(), true, &ingress);
        }
        state.done(&u128::MAX.to_le_bytes(), false, &ingress);
        assert_eq!((state.good.len(), state.order.len()), (MOST_KNOWN, MOST_KNOWN));
        assert!(!state.good.contains(&0u128.to_le_bytes()) && state.good.contains(&10u128.to_le_bytes()));
    }

    #[test]
    fn another_hash_is_another_tag() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"k");
        let hash = |text: &str| PasswordHash {
            scheme: Scheme::Bcrypt,
            text: Secret::new(text.as_bytes()),
        };
        let one = tag(&key, &hash("a"), "b", b"c");
        assert_ne!(one, tag(&key, &hash("x"), "b", b"c"));
        assert_ne!(one, tag(&key, &hash("ab"), "", b"c"));
        assert_eq!(one, tag(&key, &hash("a"), "b", b"c"));
    }
}
