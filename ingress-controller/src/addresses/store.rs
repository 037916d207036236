//! The addresses given before, kept in the state directory so that a restart gives the same ones.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use imbl::OrdMap;
use sekisho_config::model::ObjectName;

use crate::whole_file;

const FILE: &str = "addresses.json";
const LARGEST_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// What was saved last; nothing where nothing was.
///
/// # Errors
/// When the file exists and cannot be read or is not ours.
pub(crate) fn load(state_dir: &Path) -> io::Result<OrdMap<ObjectName, Vec<IpAddr>>> {
    let Some(text) = whole_file::read(state_dir, FILE, LARGEST_FILE_BYTES)? else {
        return Ok(OrdMap::new());
    };
    let saved: BTreeMap<String, Vec<IpAddr>> = serde_json::from_slice(&text).map_err(io::Error::other)?;
    Ok(saved
        .into_iter()
        .filter_map(|(name, addresses)| {
            let (namespace, name) = name.split_once('/')?;
            Some((ObjectName::new(namespace, name), addresses))
        })
        .collect())
}

/// Saves `allocations`, whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn save(state_dir: &Path, allocations: &OrdMap<ObjectName, Vec<IpAddr>>) -> io::Result<()> {
    let saved: BTreeMap<String, &Vec<IpAddr>> = allocations
        .iter()
        .map(|(name, addresses)| (name.to_string(), addresses))
        .collect();
    let text = serde_json::to_vec_pretty(&saved).map_err(io::Error::other)?;
    whole_file::write(state_dir, FILE, &text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_saved_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).unwrap().is_empty());
        let given: OrdMap<ObjectName, Vec<IpAddr>> = [(
            ObjectName::new("ns", "a"),
            vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        )]
        .into_iter()
        .collect();
        save(directory.path(), &given).unwrap();
        assert_eq!(load(directory.path()).unwrap(), given);
        fs::write(directory.path().join(FILE), "nonsense").unwrap();
        assert!(load(directory.path()).is_err());
    }
}
