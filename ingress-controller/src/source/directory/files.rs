//! The files of a directory and what each of them said when it was last good.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sekisho_config::model::{Finding, FindingKind, ObjectName};

use super::file_finding;
use crate::source::manifest::{self, Fault, Format, MAX_FILE_BYTES};
use crate::world::{Kind, Object, World};

/// Deepest directory below the one that is named.
const MAX_DEPTH: usize = 8;
/// Most directories: links may lead in circles.
const MAX_DIRECTORIES: usize = 1_000;
/// Most files.
const MAX_FILES: usize = 10_000;
/// A file that was written so lately may be written again without showing another time.
const RACY: Duration = Duration::from_secs(2);

/// Every file, by its path below the directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<PathBuf, FileState>,
}

/// What a scan saw.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whether objects or findings may differ from before.
    pub(super) changed: bool,
    /// Whether a file was being written: look again soon.
    pub(super) unsettled: bool,
    /// Why the directory (or a part of it) could not be looked through. What was in it stays.
    pub(super) error: Option<String>,
    /// Whether the directory itself could not be looked through: then nothing is known, and not only a part.
    pub(super) nothing: bool,
    /// Objects of other kinds, in files that are new or changed.
    pub(super) ignored: Vec<String>,
}

#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    digest: u64,
    /// Of the good documents; while a document is bad, also what the file said before.
    objects: BTreeMap<(Kind, ObjectName), (Object, usize)>,
    /// The same object twice in the file: key, line.
    twice: Vec<(Kind, ObjectName, usize)>,
    faults: Vec<Fault>,
}

/// What tells that a file may have changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Files {
    /// Looks through `directory` and reads what has changed.
    pub(super) fn scan(&mut self, directory: &Path) -> Outcome {
        let mut outcome = Outcome::default();
        let mut walk = Walk::default();
        walk.directory(directory, Path::new(""), 0);
        if walk.found.len() > MAX_FILES {
            walk.failed(
                Path::new(""),
                format!("there are more than {MAX_FILES} files; only the first are read"),
            );
            while walk.found.len() > MAX_FILES {
                walk.found.pop_last();
            }
        }
        let gone: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|path| {
                !walk.found.contains(*path) && !walk.unknown.iter().any(|unknown| path.starts_with(unknown))
            })
            .cloned()
            .collect();
        for path in gone {
            self.files.remove(&path);
            outcome.changed = true;
        }
        for path in &walk.found {
            let state = self.files.entry(path.clone()).or_default();
            state.read(&directory.join(path), &mut outcome);
        }
        outcome.error = walk.error;
        outcome.nothing = walk.nothing;
        outcome
    }

    /// Puts everything into `world`. Where two files have the same object, the first in the order of paths wins.
    pub(super) fn fill(&self, world: &mut World) {
        let mut by_kind: BTreeMap<Kind, BTreeMap<&ObjectName, &Object>> = BTreeMap::new();
        for file in self.files.values() {
            for ((kind, name), (object, _)) in &file.objects {
                by_kind.entry(*kind).or_default().entry(name).or_insert(object);
            }
        }
        for kind in Kind::ALL {
            let objects = by_kind.remove(&kind).unwrap_or_default();
            world.replace(kind, objects.into_values().cloned().collect());
        }
    }

    /// Everything that is wrong with the files.
    pub(super) fn findings(&self, error: Option<&str>, directory: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(error) = error {
            findings.push(file_finding(
                FindingKind::Unreadable,
                &directory.to_string_lossy(),
                None,
                error.to_owned(),
            ));
        }
        let mut first: BTreeMap<&(Kind, ObjectName), (&Path, usize)> = BTreeMap::new();
        for (path, file) in &self.files {
            let name = path.to_string_lossy();
            for fault in &file.faults {
                findings.push(file_finding(
                    fault.kind,
                    &name,
                    Some(fault.line),
                    fault.message.clone(),
                ));
            }
            for (kind, object, line) in &file.twice {
                let message = format!(
                    "{kind} {object} stands in this file twice, the first one is used; remove one of the two"
                );
                findings.push(file_finding(FindingKind::Conflict, &name, Some(*line), message));
            }
            for (key, (_, line)) in &file.objects {
                match first.get(key) {
                    None => {
                        first.insert(key, (path, *line));
                    }
                    Some((winner, winner_line)) => {
                        let message = format!(
                            "{} {} is also in {} line {winner_line}, and that one is used; remove one of the two",
                            key.0,
                            key.1,
                            winner.display()
                        );
                        findings.push(file_finding(FindingKind::Conflict, &name, Some(*line), message));
                    }
                }
            }
        }
        findings
    }
}

impl FileState {
    /// Reads the file if it may have changed. What cannot be read now keeps what it said before.
    fn read(&mut self, path: &Path, outcome: &mut Outcome) {
        let (stamp, bytes) = match self.fetch(path) {
            Ok(None) => return,
            Ok(Some(read)) => read,
            Err(fault) => {
                self.stamp = None;
                self.set_faults(vec![fault], outcome);
                return;
            }
        };
        let now = SystemTime::now();
        let settled = stamp.and_then(|stamp| {
            let seconds = u64::try_from(stamp.modified.0.max(stamp.changed.0)).ok()?;
            let age = now
                .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
                .ok()?;
            (age > RACY).then_some(stamp)
        });
        if settled.is_none() {
            outcome.unsettled = true;
        }
        // An empty file that was not empty is a file that somebody is writing, until it stays so.
        if settled.is_none() && bytes.is_empty() && !self.objects.is_empty() {
            return;
        }
        self.stamp = settled;
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let digest = hasher.finish().max(1);
        if digest == self.digest {
            return;
        }
        self.digest = digest;
        outcome.changed = true;
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Format::Json,
            _ => Format::Yaml,
        };
        let parsed = manifest::parse(&bytes, format);
        outcome.ignored.extend(parsed.ignored);
        let before = std::mem::take(&mut self.objects);
        self.twice.clear();
        for (object, line) in parsed.objects {
            let key = (object.kind(), object.name().clone());
            match self.objects.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert((object, line));
                }
                Entry::Occupied(entry) => self.twice.push((entry.key().0, entry.key().1.clone(), line)),
            }
        }
        if !parsed.faults.is_empty() {
            // What a bad document was meant to say is not known: nothing that the file said before is taken away.
            for (key, object) in before {
                self.objects.entry(key).or_insert(object);
            }
        }
        self.faults = parsed.faults;
    }

    fn set_faults(&mut self, faults: Vec<Fault>, outcome: &mut Outcome) {
        self.digest = 0;
        if self.faults != faults {
            self.faults = faults;
            outcome.changed = true;
        }
    }

    /// The bytes, with the stamp if it is the same before and after; `None` when nothing has changed.
    #[expect(
        clippy::type_complexity,
        reason = "the three outcomes are told apart where it is called, once"
    )]
    fn fetch(&self, path: &Path) -> Result<Option<(Option<Stamp>, Vec<u8>)>, Fault> {
        let fault = |message: String| Fault {
            kind: FindingKind::Unreadable,
            line: 1,
            message,
        };
        let unreadable = |error: io::Error| {
            fault(format!(
                "cannot be read: {error}; what it said before stays in use"
            ))
        };
        let stamp = Stamp::of(&fs::metadata(path).map_err(unreadable)?);
        if self.stamp == Some(stamp) {
            return Ok(None);
        }
        if stamp.size > MAX_FILE_BYTES {
            return Err(fault(format!("is larger than {MAX_FILE_BYTES} octets; split it")));
        }
        let file = fs::File::open(path).map_err(unreadable)?;
        let opened = Stamp::of(&file.metadata().map_err(unreadable)?);
        let mut bytes = Vec::new();
        let mut limited = (&file).take(MAX_FILE_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_FILE_BYTES) {
            return Err(fault(format!("is larger than {MAX_FILE_BYTES} octets; split it")));
        }
        let after = Stamp::of(&file.metadata().map_err(unreadable)?);
        Ok(Some(((opened == after).then_some(after), bytes)))
    }
}

/// The files below a directory. Symbolic links are followed; hidden entries are left out, and with them the `..data` of a
/// mounted ConfigMap, whose files are linked from beside it.
#[derive(Default)]
struct Walk {
    found: BTreeSet<PathBuf>,
    /// Paths below which nothing is known, because they could not be looked through.
    unknown: Vec<PathBuf>,
    error: Option<String>,
    nothing: bool,
    directories: usize,
}

impl Walk {
    fn failed(&mut self, relative: &Path, message: String) {
        self.unknown.push(relative.to_owned());
        self.error.get_or_insert(message);
    }

    fn directory(&mut self, root: &Path, relative: &Path, depth: usize) {
        if self.found.len() > MAX_FILES {
            return;
        }
        self.directories += 1;
        if self.directories > MAX_DIRECTORIES {
            let message = format!(
                "there are more than {MAX_DIRECTORIES} directories (do links lead in a circle?); only the first are read"
            );
            return self.failed(Path::new(""), message);
        }
        let path = root.join(relative);
        let cannot = |error: &io::Error| {
            format!(
                "{} cannot be read: {error}; check that it exists and its permissions",
                path.display()
            )
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                self.nothing |= depth == 0;
                return self.failed(relative, cannot(&error));
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.failed(relative, cannot(&error));
                    continue;
                }
            };
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let relative = relative.join(&name);
            // A link that leads nowhere is a file that is gone.
            let Ok(metadata) = fs::metadata(root.join(&relative)) else {
                continue;
            };
            if metadata.is_dir() {
                if depth < MAX_DEPTH {
                    self.directory(root, &relative, depth + 1);
                }
            } else if metadata.is_file()
                && matches!(
                    relative.extension().and_then(|extension| extension.to_str()),
                    Some("yaml" | "yml" | "json")
                )
            {
                self.found.insert(relative);
            }
        }
    }
}
