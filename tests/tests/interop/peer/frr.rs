//! FRR with zebra, which knows the interfaces: bfdd does not run without it, and bgpd has no IPv6 next hop of its own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use sekisho_tests::lab::{Daemon, Netns, State, program, vty, wait_for};

pub(crate) struct Frr {
    state: State,
    _zebra: Daemon,
    _bfdd: Option<Daemon>,
    _bgpd: Daemon,
}

impl Frr {
    /// With this configuration of bgpd.
    pub(crate) fn start(state: &State, netns: &Netns, bgp: &str, bfd: bool) -> Result<Self> {
        let start = |name: &str, configuration: &str, words: &[&str]| -> Result<Daemon> {
            let file = state.file(&format!("{name}.conf"));
            fs::write(&file, configuration)?;
            let mut command = program(netns, "frr", &format!("usr/lib/frr/{name}"))?;
            command
                .args(["-u", "root", "-g", "root", "--log", "stdout"])
                .args(words);
            command.arg("-f").arg(&file);
            command.arg("-i").arg(state.file(&format!("{name}.pid")));
            command.arg("-z").arg(state.file("zserv.api"));
            command.arg("--vty_socket").arg(state.path());
            let daemon = Daemon::start(state, name, command)?;
            let socket = state.file(&format!("{name}.vty"));
            wait_for(&format!("{name} to answer"), Duration::from_secs(15), || {
                vty(&socket, &["show version"]).map(drop)
            })?;
            Ok(daemon)
        };
        // zebra wants the group that its package makes.
        let group = state.file("group");
        fs::write(
            &group,
            fs::read_to_string("/etc/group")? + "frrvty:x:61234:root\n",
        )?;
        let nothing: Option<&str> = None;
        mount(Some(&group), "/etc/group", nothing, MsFlags::MS_BIND, nothing)?;
        let zebra = start("zebra", "hostname peer\n", &[])?;
        let control = state.file("bfdd.sock");
        let control = control.to_str().context("path")?;
        let bfdd = bfd
            .then(|| start("bfdd", "hostname peer\n", &["--bfdctl", control]))
            .transpose()?;
        Ok(Self {
            state: state.clone(),
            _zebra: zebra,
            _bfdd: bfdd,
            _bgpd: start("bgpd", bgp, &[])?,
        })
    }

    pub(crate) fn bfdd(&self, commands: &[&str]) -> Result<String> {
        vty(&self.state.file("bfdd.vty"), commands)
    }

    pub(crate) fn bgpd(&self, commands: &[&str]) -> Result<String> {
        vty(&self.state.file("bgpd.vty"), commands)
    }
}
