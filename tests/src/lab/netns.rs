use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

/// Runs `ip` with these words.
///
/// # Errors
/// What `ip` said.
pub fn ip(words: &str) -> Result<()> {
    run(Command::new("ip").args(words.split_whitespace())).map(drop)
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let error = String::from_utf8_lossy(&out.stderr);
        bail!("{command:?}: {}: {} {}", out.status, error.trim(), text.trim());
    }
    Ok(text)
}

/// A named network namespace of the lab (`ip netns` knows it inside the lab).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Netns(String);

impl Netns {
    /// Makes one, with `lo` up, forwarding on, and no waiting for duplicate address detection.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn create(name: &str) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let netns = Self(name.to_owned());
        netns.ip("link set lo up")?;
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/fib_multipath_hash_policy", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/dad_transmits", "0"),
        ] {
            netns.sysctl(key, value)?;
        }
        Ok(netns)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// A command that will run in it. `nsenter` executes the program, so the process id is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `ip` in it and gives what it printed.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn ip(&self, words: &str) -> Result<String> {
        run(Command::new("ip")
            .arg("-n")
            .arg(&self.0)
            .args(words.split_whitespace()))
        .with_context(|| format!("in namespace {}", self.0))
    }

    /// Runs `ip` to show routes, and writes out the nexthop objects that they name: `PREFIX via ADDRESS dev …` of a single next
    /// hop, `nexthop via …` for each of several.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn routes(&self, words: &str) -> Result<String> {
        let table = self.ip(words)?;
        if !table.contains(" nhid ") {
            return Ok(table);
        }
        let objects = self.ip("nexthop show")?;
        Ok(table
            .lines()
            .map(|line| written_out(line, &objects) + "\n")
            .collect())
    }

    /// Does `work` on a thread that is in this namespace; sockets made there stay in it.
    ///
    /// # Errors
    /// What `work` says, or that the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| self.become_it().and_then(|()| work()))
                .join()
                .map_err(|_| anyhow!("a lab thread panicked"))?
        })
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn become_it(&self) -> Result<()> {
        let file = File::open(self.path()).with_context(|| format!("namespace {}", self.0))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering namespace {}", self.0))
    }

    /// Writes a `net/` sysctl, for example `ipv4/ip_forward`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.enter(|| match fs::write(&path, value) {
            // Not every kernel has every knob (a kernel without multipath, without IPv6 privacy …).
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| path.clone()),
        })
    }

    /// Packet and octet counters of one of its interfaces.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn counters(&self, interface: &str) -> Result<Counters> {
        // thread-self: the namespace is the thread's, not the process's.
        let text = self.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))
            .with_context(|| format!("namespace {} has no interface {interface}", self.0))?;
        let field = |n: usize| {
            line.split_whitespace()
                .nth(n)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        Ok(Counters {
            received: field(0),
            sent: field(8),
        })
    }

    /// Whether anything rewrites or filters packets here: iptables tables in use, or tracked connections.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn translations(&self) -> Result<Vec<String>> {
        self.enter(|| {
            let mut found = Vec::new();
            for file in ["ip_tables_names", "ip6_tables_names", "nf_conntrack"] {
                let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
                found.extend(text.lines().map(|line| format!("{file}: {line}")));
            }
            Ok(found)
        })
    }

    /// Source ports of established TCP connections from here to `address`:`port`.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn connections_to(&self, address: IpAddr, port: u16) -> Result<Vec<u16>> {
        let (file, address) = match address {
            IpAddr::V4(v4) => ("tcp", hex(&v4.octets())),
            IpAddr::V6(v6) => ("tcp6", hex(&v6.octets())),
        };
        let text = self.enter(|| Ok(fs::read_to_string(format!("/proc/thread-self/net/{file}"))?))?;
        let remote = format!("{address}:{port:04X}");
        Ok(text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                let (local, to, state) = (words.next()?, words.next()?, words.next()?);
                (to == remote && state == "01")
                    .then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
            })
            .collect())
    }
}

/// A route's line with the ways of the object that it names; `objects` is what `ip nexthop show` prints.
fn written_out(line: &str, objects: &str) -> String {
    let Some((before, after)) = line.split_once(" nhid ") else {
        return line.to_owned();
    };
    let (id, rest) = after.split_once(' ').unwrap_or((after, ""));
    // A kernel that writes them out by itself.
    if rest.contains("via ") {
        return format!("{before} {rest}");
    }
    let of = |id: &str| {
        objects
            .lines()
            .find_map(|object| object.strip_prefix(&format!("id {id} ")))
    };
    let way = |object: &str| {
        let mut words = object.split_whitespace();
        let mut way = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "via" | "dev") {
                way.push(word);
                let value = words.next().unwrap_or_default();
                if word == "via" && value.contains(':') && !before.contains(':') {
                    way.push("inet6");
                }
                way.push(value);
            }
        }
        way.join(" ")
    };
    let group = of(id).and_then(|object| object.strip_prefix("group "));
    let ways = match (group, of(id)) {
        (Some(group), _) => {
            let members = group.split_whitespace().next().unwrap_or_default();
            let members = members
                .split('/')
                .map(|member| member.split(',').next().unwrap_or(member));
            let ways: Vec<_> = members.filter_map(|member| Some(way(of(member)?))).collect();
            match &ways[..] {
                [only] => only.clone(),
                several => several
                    .iter()
                    .map(|way| format!("nexthop {way}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            }
        }
        (None, Some(object)) => way(object),
        (None, None) => format!("nhid {id}"),
    };
    format!("{before} {ways} {rest}")
}

/// The kernel prints addresses as host-order 32-bit words.
fn hex(octets: &[u8]) -> String {
    octets
        .chunks(4)
        .map(|word| {
            let mut word = word.to_vec();
            if cfg!(target_endian = "little") {
                word.reverse();
            }
            word.iter()
                .map(|octet| format!("{octet:02X}"))
                .collect::<String>()
        })
        .collect()
}

/// What an interface has carried, in octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Octets in.
    pub received: u64,
    /// Octets out.
    pub sent: u64,
}

impl std::ops::Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
        }
    }
}

/// Joins two namespaces by a cable; each end is named and gets its addresses.
///
/// # Errors
/// What `ip` said.
pub fn join(a: (&Netns, &str, &[&str]), b: (&Netns, &str, &[&str])) -> Result<()> {
    ip(&format!(
        "link add {} netns {} type veth peer name {} netns {}",
        a.1,
        a.0.name(),
        b.1,
        b.0.name()
    ))?;
    for (netns, interface, addresses) in [a, b] {
        for address in addresses {
            netns.ip(&format!("addr add {address} dev {interface}{}", nodad(address)))?;
        }
        netns.ip(&format!("link set {interface} up"))?;
    }
    Ok(())
}

/// Plugs a namespace into the bridge `bridge` of the lab's own namespace, which is made when it is not there.
///
/// # Errors
/// What `ip` said.
pub fn switch(bridge: &str, netns: &Netns, interface: &str, addresses: &[&str]) -> Result<()> {
    if ip(&format!("link show {bridge}")).is_err() {
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("link set {bridge} up"))?;
    }
    let port = format!("sw-{}", netns.name());
    ip(&format!(
        "link add {port} type veth peer name {interface} netns {}",
        netns.name()
    ))?;
    ip(&format!("link set {port} master {bridge} up"))?;
    for address in addresses {
        netns.ip(&format!("addr add {address} dev {interface}{}", nodad(address)))?;
    }
    netns.ip(&format!("link set {interface} up"))?;
    Ok(())
}

fn nodad(address: &str) -> &'static str {
    if address.contains(':') { " nodad" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::written_out;

    #[test]
    fn routes_name_their_ways() {
        let objects = "id 7 via 10.0.0.11 dev nodes scope link proto 94 \nid 8 via 10.0.0.12 dev nodes scope link proto 94 \n\
                       id 9 group 7/8,2 proto 94 \nid 11 group 7 proto 94 \nid 10 via fd00::1 dev nodes scope link proto 94 \n";
        for (line, want) in [
            (
                "10.244.1.0/26 nhid 7 proto 94 metric 2048 ",
                "10.244.1.0/26 via 10.0.0.11 dev nodes proto 94 metric 2048 ",
            ),
            (
                "10.244.1.0/26 nhid 9 proto 94 metric 2048 ",
                "10.244.1.0/26 nexthop via 10.0.0.11 dev nodes nexthop via 10.0.0.12 dev nodes proto 94 metric 2048 ",
            ),
            (
                "10.244.1.0/26 nhid 11 proto 94",
                "10.244.1.0/26 via 10.0.0.11 dev nodes proto 94",
            ),
            (
                "10.244.1.0/26 nhid 10 proto 94",
                "10.244.1.0/26 via inet6 fd00::1 dev nodes proto 94",
            ),
            (
                "fd00:244::/64 nhid 10 proto 94",
                "fd00:244::/64 via fd00::1 dev nodes proto 94",
            ),
            (
                "10.244.1.0/26 nhid 7 via 10.0.0.11 dev nodes proto 94",
                "10.244.1.0/26 via 10.0.0.11 dev nodes proto 94",
            ),
            ("10.0.0.0/24 dev nodes", "10.0.0.0/24 dev nodes"),
        ] {
            assert_eq!(written_out(line, objects), want, "{line}");
        }
    }
}
