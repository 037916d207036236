use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, exit};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, getegid, geteuid};

use super::netns::ip;

const STAGE: &str = "SEKISHO_LAB_STAGE";

/// Where a lab keeps its sockets, files and logs: a tmpfs that is gone with it.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

impl State {
    /// A directory of the caller's choice, for tests that need no namespaces.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(path: &Path) -> Result<Self> {
        let state = Self(path.to_path_buf());
        fs::create_dir_all(state.file("log"))?;
        Ok(state)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The ends of all logs, `lines` lines of the appliance's and a few of the others', for a failure's report.
    pub fn tails(&self, lines: usize) -> String {
        let mut names: Vec<_> = fs::read_dir(self.file("log"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        // The appliance last, nearest to what is printed next.
        names.sort_by_key(|name| (name.ends_with("sekisho.log"), name.clone()));
        let mut out = String::new();
        for name in names {
            let text = fs::read_to_string(&name).unwrap_or_default();
            let all: Vec<_> = text.lines().collect();
            let lines = if name.ends_with("sekisho.log") {
                lines
            } else {
                lines.min(4)
            };
            let tail = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
            if !tail.is_empty() {
                out.push_str(&format!("--- {}\n{}\n", name.display(), tail.join("\n")));
            }
        }
        out
    }
}

/// Moves this program into namespaces of its own (user unless root, mount, net, pid, ipc, uts).
///
/// Call it first in `main`, before any thread exists. The program is started again as the first process inside and
/// once more below that; only this last one returns, the other two wait for it and end with its exit code. When the
/// outermost dies, even by SIGKILL, the kernel kills everything inside.
///
/// # Errors
/// When the kernel refuses the namespaces (a plain user on a system that forbids user namespaces).
pub fn enter() -> Result<State> {
    match std::env::var(STAGE).as_deref() {
        Err(_) => outside(),
        Ok("init") => init(),
        Ok(_) => State::at(Path::new("/run/lab")),
    }
}

fn outside() -> Result<State> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).context(
        "the kernel refuses new namespaces; run as root, or allow plain users to make them \
         (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, \
         kernel.apparmor_restrict_unprivileged_userns=0)",
    )?;
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    // Asked before the child mounts its own /proc, which this process then sees too.
    let name = std::env::current_exe()?
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut child = again("init")?;
    // For tests/lab-shell; a lab works without it.
    let note = super::daemon::workspace().join(format!("target/lab.{name}.pid"));
    let _ = fs::write(&note, child.id().to_string());
    let status = child.wait()?;
    let _ = fs::remove_file(&note);
    end_with(status)
}

fn init() -> Result<State> {
    set_pdeathsig(Signal::SIGKILL)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("mounting /proc")?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .context("mounting /run")?;
    ip("link set lo up")?;
    let child = Pid::from_raw(i32::try_from(again("inside")?.id())?);
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == child => exit(code),
            WaitStatus::Signaled(pid, signal, _) if pid == child => exit(128 + signal as i32),
            _ => {}
        }
    }
}

fn again(stage: &str) -> Result<std::process::Child> {
    // Plain users often lack the sbin directories, and iproute2 may be one that tests/install unpacked.
    let path = format!(
        "{}:/usr/sbin:/sbin:{}",
        std::env::var("PATH").unwrap_or_default(),
        super::daemon::package("iproute2").join("path").display()
    );
    Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(STAGE, stage)
        .env("PATH", path)
        .spawn()
        .with_context(|| format!("starting stage {stage}"))
}

fn end_with(status: ExitStatus) -> Result<State> {
    match (status.code(), status.signal()) {
        (Some(code), _) => exit(code),
        (None, signal) => bail!("the lab was ended by signal {}", signal.unwrap_or_default()),
    }
}
