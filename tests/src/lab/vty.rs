use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Speaks to a daemon of FRR as vtysh does: each command ends with NUL, each answer with three and a result code. (vtysh
/// itself wants PAM, which needs an installed package.)
///
/// # Errors
/// When it does not answer, or refuses a command.
pub fn vty(socket: &Path, commands: &[&str]) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut said = String::new();
    for words in ["enable"].iter().chain(commands) {
        stream.write_all(words.as_bytes())?;
        stream.write_all(&[0])?;
        let mut answer = Vec::new();
        let code = loop {
            let mut octet = [0; 1];
            stream.read_exact(&mut octet)?;
            answer.extend_from_slice(&octet);
            if let [.., 0, 0, 0, code] = answer[..] {
                break code;
            }
        };
        answer.truncate(answer.len() - 4);
        said.push_str(&String::from_utf8_lossy(&answer));
        // CMD_SUCCESS, or CMD_WARNING of a command that changes nothing.
        ensure!(code <= 1, "the daemon answers {code} to {words:?}: {said}");
    }
    Ok(said)
}
