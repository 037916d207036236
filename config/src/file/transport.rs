//! How connections with peers and ranges are protected.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::fault::{At, Log, Place, quote};
use super::table::{Table, host_address};
use crate::model::{
    AoAlgorithm, AoKey, Bfd, BfdAlgorithm, BfdAuth, Invalid, MaxPrefixes, Peer, PeerRange, Secret, Transport,
};

/// Octets of a key of TCP MD5 signatures (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_PASSWORD: usize = 80;

/// The keys of a peer or range; `None` when one of them has a fault.
pub(super) fn transport(
    table: &Table<'_>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Transport> {
    let password = match table.path_of("password_file") {
        None if table.has("password_file") => None,
        None => Some(None),
        Some(at) => match password(&load(&at.value)) {
            Ok(password) => Some(Some(password)),
            Err(invalid) => {
                log.invalid(&at.place, &invalid);
                None
            }
        },
    };
    let ttl_security = table.number("ttl_security").map(|at| at.value);
    let multihop = table.number("multihop").map(|at| at.value);
    if ttl_security.is_some() && multihop.is_some() {
        log.fault(
            &table.place_of("multihop"),
            "ttl_security is written too, and names the distance already",
            "keep one of them",
        );
    }
    let ao_keys = ao_keys(table, log, load)?;
    if !ao_keys.is_empty() && table.has("password_file") {
        log.fault(
            &table.place_of("ao_keys"),
            "password_file is written too, and a connection is signed in one way",
            "keep one of them",
        );
    }
    Some(Transport {
        password: password?,
        ao_keys,
        ttl_security,
        multihop,
        source_address: None,
    })
}

/// Keys of TCP-AO: `ID ALGORITHM FILE` each, with two ids where they differ by direction.
fn ao_keys(table: &Table<'_>, log: &Log, load: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Option<Vec<AoKey>> {
    let Some(texts) = table.list("ao_keys", |text| Ok(text.to_owned())) else {
        return (!table.has("ao_keys")).then(Vec::new);
    };
    let mut keys: Vec<AoKey> = Vec::new();
    let mut whole = true;
    for at in texts.value {
        match ao_key(&at.value, load) {
            Ok(key) => {
                let twice =
                    |known: &AoKey| known.send_id == key.send_id || known.receive_id == key.receive_id;
                if keys.iter().any(twice) {
                    log.fault(
                        &at.place,
                        "another key has this id",
                        "give each key ids of its own",
                    );
                    whole = false;
                }
                keys.push(key);
            }
            Err(invalid) => {
                log.invalid(&at.place, &invalid);
                whole = false;
            }
        }
    }
    whole.then_some(keys)
}

fn ao_key(text: &str, load: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<AoKey, Invalid> {
    let malformed = || {
        Invalid::new(
            format!("{} is not a key of TCP-AO", quote(text)),
            "write id, algorithm and file, for example \"1 hmac-sha-1-96 /etc/sekisho/tor-1.ao\"; ids are 0 to 255, \"1/2\" where ours and the peer's differ; algorithms are hmac-sha-1-96, aes-128-cmac-96, hmac-sha-256-128",
        )
    };
    let mut words = text.splitn(3, ' ');
    let (Some(ids), Some(algorithm), Some(file)) = (words.next(), words.next(), words.next()) else {
        return Err(malformed());
    };
    let (send, receive) = ids.split_once('/').unwrap_or((ids, ids));
    let (Ok(send_id), Ok(receive_id)) = (send.parse(), receive.parse()) else {
        return Err(malformed());
    };
    let algorithm = AoAlgorithm::ALL
        .into_iter()
        .find(|known| known.to_string() == algorithm)
        .ok_or_else(malformed)?;
    let file = Path::new(file);
    if !file.is_absolute() {
        return Err(Invalid::new(
            format!("{} is no path from the root", quote(&file.to_string_lossy())),
            "write it from the root, for example /etc/sekisho/tor-1.ao",
        ));
    }
    Ok(AoKey {
        send_id,
        receive_id,
        algorithm,
        key: password(&load(file))?,
    })
}

/// How much a peer or range may announce.
pub(super) fn max_prefixes(table: &Table<'_>, log: &Log) -> MaxPrefixes {
    let default = MaxPrefixes::default();
    let restart = table.duration("max_prefixes_restart");
    let idle = table
        .word("max_prefixes_action")
        .is_some_and(|at| at.value == "idle");
    if let (true, Some(at)) = (idle, &restart) {
        log.warn(
            &at.place,
            "max_prefixes_action = \"idle\" knows no time",
            "remove it, or write \"restart\"",
        );
    }
    MaxPrefixes {
        limit: table.number("max_prefixes").map_or(default.limit, |at| at.value),
        warning_percent: table
            .number("max_prefixes_warning")
            .map_or(default.warning_percent, |at| at.value),
        restart: (!idle)
            .then(|| restart.map(|at| at.value).or(default.restart))
            .flatten(),
    }
}

/// The BFD session with a peer or range; `None`: the key has a fault.
pub(super) fn bfd(
    table: &Table<'_>,
    transport: Option<&Transport>,
    log: &Log,
    load: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Option<Option<Bfd>> {
    let empty = DeTable::new();
    let bfd = match table.switch("bfd", &empty) {
        Some(Some(bfd)) => bfd,
        Some(None) => return Some(None),
        None => return (!table.has("bfd")).then_some(None),
    };
    let default = Bfd::default();
    let far = transport.is_some_and(|t| t.multihop.is_some() || t.ttl_security.is_some_and(|hops| hops > 1));
    let multihop = bfd.bool("multihop").unwrap_or(far);
    let min_ttl = bfd.number("min_ttl");
    if let (false, Some(at)) = (multihop, &min_ttl) {
        log.warn(
            &at.place,
            "of a peer on the same link 255 is demanded anyway",
            "remove it, or write multihop = true",
        );
    }
    let auth = bfd.text("auth", |text| bfd_auth(text, load));
    if bfd.has("auth") && auth.is_none() {
        return None;
    }
    Some(Some(Bfd {
        interval: bfd.duration("interval").map_or(default.interval, |at| at.value),
        multiplier: bfd.number("multiplier").map_or(default.multiplier, |at| at.value),
        multihop,
        min_ttl: min_ttl.map_or(default.min_ttl, |at| at.value),
        strict: bfd.bool("strict").unwrap_or(default.strict),
        auth: auth.map(|at| at.value),
    }))
}

/// `ID ALGORITHM FILE`.
fn bfd_auth(text: &str, load: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<BfdAuth, Invalid> {
    let malformed = || {
        Invalid::new(
            format!("{} is not a key of BFD", quote(text)),
            "write id, algorithm and file, for example \"1 meticulous-keyed-sha1 /etc/sekisho/tor-1.bfd\"; the id is 0 to 255; algorithms are keyed-md5, meticulous-keyed-md5, keyed-sha1, meticulous-keyed-sha1",
        )
    };
    let mut words = text.splitn(3, ' ');
    let (Some(id), Some(algorithm), Some(file)) = (words.next(), words.next(), words.next()) else {
        return Err(malformed());
    };
    let id = id.parse().map_err(|_| malformed())?;
    let algorithm = BfdAlgorithm::ALL
        .into_iter()
        .find(|known| known.to_string() == algorithm)
        .ok_or_else(malformed)?;
    let file = Path::new(file);
    if !file.is_absolute() {
        return Err(Invalid::new(
            format!("{} is no path from the root", quote(&file.to_string_lossy())),
            "write it from the root, for example /etc/sekisho/tor-1.bfd",
        ));
    }
    BfdAuth::new(id, algorithm, password(&load(file))?.expose())
}

/// `source_address`, of the peer's family; `None`: it has a fault.
pub(super) fn source_address(table: &Table<'_>, peer: Option<IpAddr>, log: &Log) -> Option<Option<IpAddr>> {
    let Some(at) = table.text("source_address", host_address) else {
        return (!table.has("source_address")).then_some(None);
    };
    if peer.is_some_and(|peer| peer.is_ipv4() != at.value.is_ipv4()) {
        log.fault(
            &at.place,
            format!("{} is not of the family of the peer's address", at.value),
            "write an address of the box of the same family",
        );
        return None;
    }
    Some(Some(at.value))
}

/// The address of a peer, and its interface where the address is link-local.
pub(super) fn peer_address(text: &str) -> Result<(IpAddr, Option<Arc<str>>), Invalid> {
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (text, None),
    };
    let address = host_address(address)?;
    let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    match interface {
        None if link_local => Err(Invalid::new(
            format!(
                "{} is link-local: it says nothing without an interface",
                quote(text)
            ),
            "write the interface after it, for example \"fe80::1%eth1\"",
        )),
        Some(_) if !link_local => Err(Invalid::new(
            format!("{} is not link-local and has no interface", quote(text)),
            "leave out the % and what follows it",
        )),
        // IFNAMSIZ less the closing NUL; dev_valid_name() of the kernel.
        Some(name)
            if name.is_empty()
                || name.len() > 15
                || matches!(name, "." | "..")
                || name
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%')) =>
        {
            Err(Invalid::new(
                format!("{} is not the name of an interface", quote(name)),
                "write it as `ip link` shows it, without what follows an @",
            ))
        }
        interface => Ok((address, interface.map(Arc::from))),
    }
}

/// The key as it stands in the file, without the line end; no message ever holds any of it.
fn password(read: &io::Result<Vec<u8>>) -> Result<Secret, Invalid> {
    let octets = read.as_ref().map_err(|error| {
        Invalid::new(
            format!("the file cannot be read: {}", error.kind()),
            "correct the path, or let the user of the service read it and nobody else (chown, chmod 0400)",
        )
    })?;
    let octets = octets.strip_suffix(b"\n").unwrap_or(octets);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    if octets.is_empty() || octets.len() > LONGEST_PASSWORD {
        return Err(Invalid::new(
            "the file is empty, or longer than the 80 octets that a key may have",
            "put the password into it, on one line",
        ));
    }
    if octets.iter().any(|octet| matches!(octet, b'\n' | b'\r' | 0)) {
        return Err(Invalid::new(
            "the file holds more than one line, or a NUL",
            "put the password into it, on one line",
        ));
    }
    Ok(Secret::new(octets))
}

/// The kernel picks a key by the peer's address alone: a range's key would be asked of every peer inside it.
pub(super) fn check_signed(peers: &[At<Peer>], ranges: &[At<PeerRange>], log: &Log) {
    type Signs = (&'static str, fn(&Transport) -> bool);
    let ways: [Signs; 2] = [
        ("password_file", |transport| transport.password.is_some()),
        ("ao_keys", |transport| !transport.ao_keys.is_empty()),
    ];
    for (key, signs) in ways {
        for at in peers.iter().filter(|at| !signs(&at.value.transport)) {
            let around = ranges
                .iter()
                .filter(|range| range.value.prefix.contains(at.value.address))
                .find(|range| signs(&range.value.transport));
            if let Some(range) = around {
                let place = Place {
                    line: at.place.line,
                    key: format!("{}.{key}", at.place.key),
                };
                let what = format!(
                    "missing, and {} is inside {} of {} (line {}), which has one: the kernel asks for it from every address of the range",
                    at.value.address, range.value.prefix, range.place.key, range.place.line
                );
                log.fault(&place, what, format!("write the {key} of this peer"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_peers() {
        for (input, want) in [
            ("10.0.0.1", Some("10.0.0.1 None")),
            ("fe80::1%eth1", Some("fe80::1 Some(\"eth1\")")),
            ("fe80::1%enp0s31f6np0.100", None),
            ("fe80::1%br-lan.12", Some("fe80::1 Some(\"br-lan.12\")")),
            ("fe80::1", None),
            ("fe80::1%", None),
            ("fe80::1%a b", None),
            ("fe80::1%..", None),
            ("fe80::1%eth1%eth2", None),
            ("2001:db8::1%eth1", None),
            ("10.0.0.1%eth1", None),
            ("%eth1", None),
        ] {
            let got = peer_address(input).ok();
            let got = got.map(|(address, interface)| format!("{address} {interface:?}"));
            assert_eq!(got.as_deref(), want, "{input:?}");
        }
    }

    #[test]
    fn keys_of_tcp_ao() {
        let load = |path: &Path| match path.to_str() {
            Some("/k y") => Ok(b"s3cret\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        for (input, want) in [
            ("1 hmac-sha-1-96 /k y", Some((1, 1, AoAlgorithm::HmacSha1))),
            ("1/2 aes-128-cmac-96 /k y", Some((1, 2, AoAlgorithm::Aes128Cmac))),
            (
                "0/255 hmac-sha-256-128 /k y",
                Some((0, 255, AoAlgorithm::HmacSha256)),
            ),
            ("256 hmac-sha-1-96 /k y", None),
            ("-1 hmac-sha-1-96 /k y", None),
            ("1/ hmac-sha-1-96 /k y", None),
            ("1 md5 /k y", None),
            ("1 hmac-sha-1-96 k", None),
            ("1 hmac-sha-1-96 /other", None),
            ("1 hmac-sha-1-96", None),
            ("", None),
        ] {
            let got = ao_key(input, &load);
            let ids = got
                .as_ref()
                .ok()
                .map(|key| (key.send_id, key.receive_id, key.algorithm));
            assert_eq!(ids, want, "{input:?}");
            assert!(!format!("{got:?}").contains("s3cret"), "{input:?}");
        }
    }

    #[test]
    fn passwords_as_they_stand_and_never_in_a_message() {
        let long = "x".repeat(80);
        for (input, want) in [
            ("s3cret", Some("s3cret")),
            ("s3cret\n", Some("s3cret")),
            ("s3cret\r\n", Some("s3cret")),
            (" s3cret ", Some(" s3cret ")),
            (&*long, Some(&*long)),
            (&*format!("{long}s3cret"), None),
            ("s3cret\n\n", None),
            ("s3cret\nother", None),
            ("s3cret\0", None),
            ("", None),
            ("\n", None),
        ] {
            let got = password(&Ok(input.as_bytes().to_vec()));
            let text = got.as_ref().ok().map(|key| String::from_utf8_lossy(key.expose()));
            assert_eq!(text.as_deref(), want, "{input:?}");
            assert!(!format!("{got:?}").contains("s3cret"), "{input:?}");
        }
        let denied = password(&Err(io::ErrorKind::PermissionDenied.into()));
        assert!(format!("{denied:?}").contains("chmod"), "{denied:?}");
    }
}
