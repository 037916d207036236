//! Real daemons as the box's neighbour, behind one set of verbs.

pub(crate) mod configuration;
mod exabgp;
mod frr;

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sekisho_tests::lab::{BOX, Bird, BirdVersion, Daemon, Netns, State, program, vty, wait_for};

use self::configuration::{bird, exabgp as exabgp_text, frr as frr_text, gobgp, openbgpd};
use self::exabgp::ExaBgp;
pub(crate) use self::frr::Frr;

use crate::rig::{PEER_V4, PEER_V6};

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Bird16,
    Bird16Ipv6,
    Bird2,
    GoBgp,
    Frr,
    OpenBgpd,
    ExaBgp,
}

pub(crate) const KINDS: [Kind; 7] = [
    Kind::Bird16,
    Kind::Bird16Ipv6,
    Kind::Bird2,
    Kind::GoBgp,
    Kind::Frr,
    Kind::OpenBgpd,
    Kind::ExaBgp,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bird16 => "bird-1.6",
            Self::Bird16Ipv6 => "bird-1.6-ipv6",
            Self::Bird2 => "bird-2",
            Self::GoBgp => "gobgp",
            Self::Frr => "frr",
            Self::OpenBgpd => "openbgpd",
            Self::ExaBgp => "exabgp",
        }
    }

    /// The address that the session uses; the others carry both families on one IPv4 connection.
    pub(crate) fn address(self) -> IpAddr {
        if self == Self::Bird16Ipv6 {
            PEER_V6
        } else {
            PEER_V4
        }
    }

    /// Two blocks a family that it carries, with the next hop they have.
    pub(crate) fn blocks(self) -> Vec<([&'static str; 2], IpAddr)> {
        let v4 = (["10.244.20.0/26", "10.244.21.0/26"], PEER_V4);
        let v6 = (["fd00:244:0:20::/122", "fd00:244:0:21::/122"], PEER_V6);
        match self {
            Self::Bird16 => vec![v4],
            Self::Bird16Ipv6 => vec![v6],
            _ => vec![v4, v6],
        }
    }

    /// The VIPs of an Ingress that it can be told of.
    pub(crate) fn vips(self) -> Vec<&'static str> {
        match self {
            Self::Bird16 => vec!["203.0.113.1/32"],
            Self::Bird16Ipv6 => vec!["2001:db8:1::1/128"],
            _ => vec!["203.0.113.1/32", "2001:db8:1::1/128"],
        }
    }
}

/// How the daemon is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) asn: u32,
    /// It waits for the box to dial.
    pub(crate) passive: bool,
    /// It announces its blocks.
    pub(crate) blocks: bool,
    pub(crate) hold: u32,
    /// Key of TCP MD5 signatures.
    pub(crate) password: Option<&'static str>,
    /// It sends with TTL 255 and takes nothing else.
    pub(crate) ttl_security: bool,
    /// It keeps the box's routes while the box is away, and asks for the same.
    pub(crate) graceful_restart: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            kind: Kind::Bird2,
            asn: 64512,
            passive: false,
            blocks: true,
            hold: 9,
            password: None,
            ttl_security: false,
            graceful_restart: true,
        }
    }
}

pub(crate) struct Peer {
    setup: Setup,
    netns: Netns,
    state: State,
    bird: Option<Bird>,
    exabgp: Option<ExaBgp>,
    daemon: Option<Daemon>,
}

impl Peer {
    /// Starts it and waits until it answers its own tool.
    pub(crate) fn start(state: &State, netns: &Netns, setup: &Setup) -> Result<Self> {
        let mut peer = Self {
            setup: setup.clone(),
            netns: netns.clone(),
            state: state.clone(),
            bird: None,
            exabgp: None,
            daemon: None,
        };
        let with = |version| Bird::start(state, "peer", netns, version, &bird(setup));
        match setup.kind {
            Kind::Bird16 => peer.bird = Some(with(BirdVersion::V16Ipv4)?),
            Kind::Bird16Ipv6 => peer.bird = Some(with(BirdVersion::V16Ipv6)?),
            Kind::Bird2 => peer.bird = Some(with(BirdVersion::V2)?),
            Kind::GoBgp => peer.start_gobgp()?,
            Kind::Frr => peer.start_frr()?,
            Kind::OpenBgpd => peer.start_openbgpd()?,
            Kind::ExaBgp => peer.exabgp = Some(ExaBgp::start(state, netns, &exabgp_text(setup))?),
        }
        Ok(peer)
    }

    /// Its BIRD.
    pub(crate) fn bird(&self) -> Result<&Bird> {
        self.bird.as_ref().context("not a BIRD")
    }

    /// Signals it and the processes that it has started.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process()?;
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        for child in fs::read_to_string(children)
            .unwrap_or_default()
            .split_whitespace()
        {
            // One that has just ended needs no signal.
            let _ = kill(Pid::from_raw(child.parse()?), signal);
        }
        process.signal(signal)
    }

    /// Kills it without a chance to say anything.
    pub(crate) fn kill(self) -> Result<()> {
        // Of several processes none may see the others go.
        self.signal(Signal::SIGSTOP)?;
        self.signal(Signal::SIGKILL)
    }

    pub(crate) fn process(&self) -> Result<&Daemon> {
        self.bird
            .as_ref()
            .map(|bird| &bird.daemon)
            .or_else(|| self.exabgp.as_ref().map(|exabgp| &exabgp.daemon))
            .or(self.daemon.as_ref())
            .context("not running")
    }

    fn start_gobgp(&mut self) -> Result<()> {
        let file = self.state.file("gobgpd.toml");
        fs::write(&file, gobgp(&self.setup))?;
        let mut command = program(&self.netns, "gobgpd", "usr/bin/gobgpd")?;
        command
            .arg("-f")
            .arg(&file)
            .args(["--api-hosts", "127.0.0.1:50051", "-l", "debug"]);
        self.daemon = Some(Daemon::start(&self.state, "peer", command)?);
        wait_for("gobgpd to answer", Duration::from_secs(10), || {
            self.gobgp("global").map(drop)
        })?;
        if self.setup.blocks {
            for (blocks, via) in self.setup.kind.blocks() {
                for block in blocks {
                    self.gobgp(&format!(
                        "global rib add {block} nexthop {via} -a {}",
                        family(block)
                    ))?;
                }
            }
        }
        Ok(())
    }

    fn start_frr(&mut self) -> Result<()> {
        let file = self.state.file("bgpd.conf");
        fs::write(&file, frr_text(&self.setup))?;
        let mut command = program(&self.netns, "frr", "usr/lib/frr/bgpd")?;
        command.args(["-Z", "-S", "-u", "root", "-g", "root", "--log", "stdout"]);
        command
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(self.state.file("bgpd.pid"));
        command.arg("--vty_socket").arg(self.state.path());
        self.daemon = Some(Daemon::start(&self.state, "peer", command)?);
        wait_for("bgpd to answer", Duration::from_secs(10), || {
            self.vtysh(&["show version"]).map(drop)
        })?;
        Ok(())
    }

    fn start_openbgpd(&mut self) -> Result<()> {
        // Its processes become a user of their own, which nobody has made here; the lab has a mount table of its own.
        let (home, passwd) = (self.state.file("openbgpd"), self.state.file("passwd"));
        fs::create_dir_all(&home)?;
        let users = fs::read_to_string("/etc/passwd")?;
        if !users.contains("_openbgpd:") {
            fs::write(
                &passwd,
                format!("{users}_openbgpd:x:0:0::{}:/bin/false\n", home.display()),
            )?;
            mount(
                Some(&passwd),
                "/etc/passwd",
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
        }
        let file = self.state.file("openbgpd.conf");
        let socket = self.state.file("openbgpd.sock");
        fs::write(&file, openbgpd(&self.setup, &socket))?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let mut command = program(&self.netns, "openbgpd", "usr/sbin/bgpd")?;
        command.arg("-d").arg("-v").arg("-f").arg(&file);
        self.daemon = Some(Daemon::start(&self.state, "peer", command)?);
        wait_for("openbgpd to answer", Duration::from_secs(10), || {
            if let Some(daemon) = &mut self.daemon {
                daemon.check()?;
            }
            self.bgpctl("show summary").map(drop)
        })?;
        if self.setup.blocks {
            for block in self.setup.kind.blocks().iter().flat_map(|(blocks, _)| blocks) {
                self.bgpctl(&format!("network add {block}"))?;
            }
        }
        Ok(())
    }

    fn bgpctl(&self, words: &str) -> Result<String> {
        let mut command = program(&self.netns, "openbgpd", "usr/sbin/bgpctl")?;
        command.arg("-s").arg(self.state.file("openbgpd.sock"));
        run(command.args(words.split_whitespace()))
    }

    pub(crate) fn gobgp(&self, words: &str) -> Result<String> {
        let mut command = program(&self.netns, "gobgpd", "usr/bin/gobgp")?;
        run(command.args(["-p", "50051"]).args(words.split_whitespace()))
    }

    pub(crate) fn vtysh(&self, commands: &[&str]) -> Result<String> {
        vty(&self.state.file("bgpd.vty"), commands)
    }

    /// Fails unless it says that the session is up.
    pub(crate) fn established(&self) -> Result<()> {
        let text = match (self.setup.kind, &self.bird) {
            (_, Some(bird)) => return bird.established("box"),
            (Kind::GoBgp, _) => self.gobgp(&format!("neighbor {}", BOX.v4))?,
            (Kind::OpenBgpd, _) => self.bgpctl(&format!("show neighbor {}", BOX.v4))?,
            (Kind::ExaBgp, _) => return self.exabgp.as_ref().context("not running")?.established(),
            _ => self.vtysh(&["show bgp neighbors"])?,
        };
        let state = text
            .lines()
            .find(|line| line.to_lowercase().contains("bgp state"))
            .unwrap_or(&text);
        ensure!(state.to_lowercase().contains("established"), "{}", state.trim());
        Ok(())
    }

    /// Takes its first block back; the second stays.
    pub(crate) fn withdraw_first(&self) -> Result<()> {
        for (blocks, via) in self.setup.kind.blocks() {
            let [block, _] = blocks;
            match (self.setup.kind, &self.bird) {
                (_, Some(bird)) => drop(bird.order(&format!("disable first{}", digit(block)))?),
                (Kind::GoBgp, _) => {
                    drop(self.gobgp(&format!(
                        "global rib del {block} nexthop {via} -a {}",
                        family(block)
                    ))?);
                }
                (Kind::OpenBgpd, _) => drop(self.bgpctl(&format!("network delete {block}"))?),
                (Kind::ExaBgp, _) => {
                    let exabgp = self.exabgp.as_ref().context("not running")?;
                    exabgp.order(&format!("withdraw route {block} next-hop {via}"))?;
                }
                _ => {
                    let asn = format!("router bgp {}", self.setup.asn);
                    let family = format!("address-family {} unicast", family(block));
                    self.vtysh(&[
                        "configure terminal",
                        &asn,
                        &family,
                        &format!("no network {block}"),
                    ])?;
                }
            }
        }
        Ok(())
    }

    /// Fails unless it has heard `prefix` from the box.
    pub(crate) fn heard(&self, prefix: &str) -> Result<()> {
        let text = match (self.setup.kind, &self.bird) {
            (_, Some(bird)) => return bird.need_route(prefix, "box"),
            (Kind::GoBgp, _) => self.gobgp(&format!("neighbor {} adj-in -a {}", BOX.v4, family(prefix)))?,
            (Kind::OpenBgpd, _) => self.bgpctl(&format!("show rib neighbor {}", BOX.v4))?,
            (Kind::ExaBgp, _) => return self.exabgp.as_ref().context("not running")?.heard(prefix),
            _ => self.vtysh(&[&format!("show bgp {} unicast", family(prefix))])?,
        };
        if text.contains(prefix) {
            Ok(())
        } else {
            bail!("it has not heard {prefix}: {}", text.trim())
        }
    }
}

impl Drop for Peer {
    /// Of several processes none may outlive the others: the next one wants their port.
    fn drop(&mut self) {
        if self.setup.kind == Kind::OpenBgpd {
            let _ = self.signal(Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn family(prefix: &str) -> &'static str {
    if prefix.contains(':') { "ipv6" } else { "ipv4" }
}

fn digit(prefix: &str) -> char {
    if prefix.contains(':') { '6' } else { '4' }
}

fn run(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(
        out.status.success(),
        "{command:?}: {} {}",
        text.trim(),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(text)
}
