//! Files of the state directory that are there whole or as they were before.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// What was written last; `None` where nothing was.
///
/// # Errors
/// When the file exists and cannot be read.
pub(crate) fn read(state_dir: &Path, name: &str, largest: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(state_dir.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(largest).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// # Errors
/// When the directory cannot be written.
pub(crate) fn write(state_dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let partial = state_dir.join(format!("{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&partial, state_dir.join(name))?;
    File::open(state_dir)?.sync_all()
}
