//! Real daemons as the box's neighbour, behind one set of verbs.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sekisho_tests::lab::{BOX, Bird, BirdVersion, Daemon, Netns, State, program, wait_for};

use crate::rig::{PEER_V4, PEER_V6};

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Bird16,
    Bird16Ipv6,
    Bird2,
    GoBgp,
    Frr,
}

pub(crate) const KINDS: [Kind; 5] = [
    Kind::Bird16,
    Kind::Bird16Ipv6,
    Kind::Bird2,
    Kind::GoBgp,
    Kind::Frr,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bird16 => "bird-1.6",
            Self::Bird16Ipv6 => "bird-1.6-ipv6",
            Self::Bird2 => "bird-2",
            Self::GoBgp => "gobgp",
            Self::Frr => "frr",
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
}

pub(crate) struct Peer {
    setup: Setup,
    netns: Netns,
    state: State,
    bird: Option<Bird>,
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
            daemon: None,
        };
        let bird = |version| Bird::start(state, "peer", netns, version, &bird_configuration(setup));
        match setup.kind {
            Kind::Bird16 => peer.bird = Some(bird(BirdVersion::V16Ipv4)?),
            Kind::Bird16Ipv6 => peer.bird = Some(bird(BirdVersion::V16Ipv6)?),
            Kind::Bird2 => peer.bird = Some(bird(BirdVersion::V2)?),
            Kind::GoBgp => peer.start_gobgp()?,
            Kind::Frr => peer.start_frr()?,
        }
        Ok(peer)
    }

    pub(crate) fn process(&self) -> Result<&Daemon> {
        self.bird
            .as_ref()
            .map(|bird| &bird.daemon)
            .or(self.daemon.as_ref())
            .context("not running")
    }

    fn start_gobgp(&mut self) -> Result<()> {
        let file = self.state.file("gobgpd.toml");
        fs::write(&file, gobgp_configuration(&self.setup))?;
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
        fs::write(&file, frr_configuration(&self.setup))?;
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

    fn gobgp(&self, words: &str) -> Result<String> {
        let mut command = program(&self.netns, "gobgpd", "usr/bin/gobgp")?;
        run(command.args(["-p", "50051"]).args(words.split_whitespace()))
    }

    /// Speaks to bgpd as vtysh does: each command ends with NUL, each answer with three and a result code. (vtysh itself
    /// wants PAM, which needs an installed package.)
    fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut stream = UnixStream::connect(self.state.file("bgpd.vty"))?;
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
            ensure!(code <= 1, "bgpd answers {code} to {words:?}: {said}");
        }
        Ok(said)
    }

    /// Fails unless it says that the session is up.
    pub(crate) fn established(&self) -> Result<()> {
        let text = match (self.setup.kind, &self.bird) {
            (_, Some(bird)) => return bird.established("box"),
            (Kind::GoBgp, _) => self.gobgp(&format!("neighbor {}", BOX.v4))?,
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
            _ => self.vtysh(&[&format!("show bgp {} unicast", family(prefix))])?,
        };
        if text.contains(prefix) {
            Ok(())
        } else {
            bail!("it has not heard {prefix}: {}", text.trim())
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

fn bird_configuration(setup: &Setup) -> String {
    let v2 = setup.kind == Kind::Bird2;
    let the_box = if setup.kind == Kind::Bird16Ipv6 {
        IpAddr::V6(BOX.v6)
    } else {
        IpAddr::V4(BOX.v4)
    };
    let mut out = format!("log stderr all;\nrouter id {PEER_V4};\nprotocol device {{ }}\n");
    if setup.blocks {
        for ([first, second], _) in setup.kind.blocks() {
            let digit = digit(first);
            let channel = if v2 { format!("ipv{digit};") } else { String::new() };
            out.push_str(&format!(
                "protocol static first{digit} {{ {channel} route {first} blackhole; }}\n"
            ));
            out.push_str(&format!(
                "protocol static second{digit} {{ {channel} route {second} blackhole; }}\n"
            ));
        }
    }
    let passive = if setup.passive { "passive on;" } else { "" };
    let channels = if v2 {
        format!(
            "ipv4 {{ import all; export where source = RTS_STATIC; }};\n  \
             ipv6 {{ import all; export where source = RTS_STATIC; next hop address {PEER_V6}; }};"
        )
    } else {
        "import all; export where source = RTS_STATIC; add paths on;".to_owned()
    };
    out.push_str(&format!(
        "protocol bgp box {{\n  local as {}; neighbor {the_box} as 64512; source address {};\n  {passive} hold time {};\n  \
         connect delay time 1; connect retry time 2; error wait time 1,3; graceful restart;\n  {channels}\n}}\n",
        setup.asn,
        setup.kind.address(),
        setup.hold,
    ));
    out
}

fn gobgp_configuration(setup: &Setup) -> String {
    let afi = |name: &str| {
        format!(
            "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{name}\"\n"
        )
    };
    format!(
        "[global.config]\n  as = {}\n  router-id = \"{PEER_V4}\"\n  local-address-list = [\"{PEER_V4}\"]\n\
         [[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = 64512\n  \
         [neighbors.transport.config]\n    local-address = \"{PEER_V4}\"\n    passive-mode = {}\n  \
         [neighbors.timers.config]\n    hold-time = {}\n    keepalive-interval = {}\n    connect-retry = 5\n{}{}",
        setup.asn,
        BOX.v4,
        setup.passive,
        setup.hold,
        setup.hold / 3,
        afi("ipv4-unicast"),
        afi("ipv6-unicast"),
    )
}

fn frr_configuration(setup: &Setup) -> String {
    let the_box = BOX.v4;
    let passive = if setup.passive {
        format!(" neighbor {the_box} passive\n")
    } else {
        String::new()
    };
    let networks = |wanted: &str| -> String {
        let all = setup.kind.blocks();
        let blocks = all
            .iter()
            .flat_map(|(blocks, _)| blocks)
            .filter(|block| setup.blocks && family(block) == wanted);
        blocks.map(|block| format!("  network {block}\n")).collect()
    };
    format!(
        "hostname peer\nrouter bgp {}\n bgp router-id {PEER_V4}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor {the_box} remote-as 64512\n neighbor {the_box} timers {} {}\n neighbor {the_box} timers connect 2\n \
         neighbor {the_box} update-source {PEER_V4}\n{passive} \
         address-family ipv4 unicast\n{} exit-address-family\n \
         address-family ipv6 unicast\n  neighbor {the_box} activate\n  neighbor {the_box} route-map V6 out\n{} exit-address-family\n\
         route-map V6 permit 10\n set ipv6 next-hop global {PEER_V6}\n",
        setup.asn,
        setup.hold / 3,
        setup.hold,
        networks("ipv4"),
        networks("ipv6"),
    )
}
