use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ended, State, wait_for};

/// Root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where `tests/install` unpacked a Debian package.
pub fn package(name: &str) -> PathBuf {
    std::env::var_os("SEKISHO_DAEMONS")
        .map_or_else(|| workspace().join("target/daemons"), PathBuf::from)
        .join(name)
}

/// A program of an unpacked package, run in network namespace `netns` with the libraries beside it.
///
/// # Errors
/// When the package is not there.
pub fn program(netns: &super::Netns, name: &str, path: &str) -> Result<Command> {
    let root = package(name);
    let program = root.join(path);
    if !program.exists() {
        bail!("{} is missing; run tests/install", program.display());
    }
    let mut libraries = Vec::new();
    // Packages differ in where they put libraries; what the system has anyway is not unpacked.
    let folders = ["usr/lib", "lib"].map(|folder| fs::read_dir(root.join(folder)));
    for entry in folders.into_iter().flatten().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
            libraries.push(entry.path());
            libraries.push(entry.path().join(name));
        }
    }
    let mut command = netns.command(&program);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    Ok(command)
}

/// A process of the lab. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it prints goes to `log/NAME.log` of the lab.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(state: &State, name: &str, mut command: Command) -> Result<Self> {
        let log = state.file("log").join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id inside the lab.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Fails with how it ended and the end of its log unless it runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let text = fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(5).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                Err(Ended(format!(
                    "{} has ended ({status}): {}",
                    self.name,
                    tail.join(" | ")
                ))
                .into())
            }
        }
    }

    /// Asks it to end and waits at most `limit`; gives its exit code, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(mut self, limit: Duration) -> Result<(i32, Duration)> {
        self.signal(Signal::SIGTERM)?;
        let name = self.name.clone();
        let child = &mut self.child;
        let (status, took) = wait_for(&format!("{name} to end after SIGTERM"), limit, || {
            child.try_wait()?.context("still running")
        })?;
        Ok((
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            took,
        ))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
