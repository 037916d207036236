//! The key of the cookies by which clients stay with a pod, where the file names none: made once and kept.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sekisho_config::model::Secret;

/// Name of the file in `appliance.state_dir`.
const NAME: &str = "sticky.key";
const OCTETS: usize = 32;

/// The key that is kept in `state_dir`; made when there is none, or none that is whole.
///
/// # Errors
/// When it can be neither read nor written.
pub(crate) fn kept(state_dir: &Path) -> io::Result<Secret> {
    let path = state_dir.join(NAME);
    match std::fs::read(&path) {
        Ok(octets) if octets.len() == OCTETS => return Ok(Secret::new(octets)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut octets = vec![0; OCTETS];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    // Written beside and renamed: a crash leaves the old one or the new one.
    let beside = state_dir.join(format!("{NAME}.new"));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&octets)?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    Ok(Secret::new(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_only_ours_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = kept(folder.path()).unwrap();
        assert_eq!(kept(folder.path()).unwrap(), first);
        let path = folder.path().join(NAME);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // Half a key is none.
        std::fs::write(&path, b"short").unwrap();
        let other = kept(folder.path()).unwrap();
        assert_ne!(other, first);
        assert_eq!(other.expose().len(), OCTETS);
    }
}
