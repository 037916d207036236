//! What a TCP connection of BGP is asked for beyond connecting: signatures of its segments, the distance of the peer, our
//! own end.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use sekisho_config::model::{Prefix, Secret, Transport};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use ao::Signature;

/// How the connections of one peer are to be.
#[derive(Clone, Debug)]
pub(crate) struct Protection {
    /// From the file.
    pub(crate) transport: Transport,
    /// The interface of a link-local peer.
    pub(crate) interface: Option<Arc<str>>,
    /// The peer can only be of another AS.
    pub(crate) external: bool,
}

impl Protection {
    /// TTL of what we send; `None`: the system's default. To another AS it is 1 where nothing is said, as routers have it:
    /// such a peer is a neighbour, and packets that get lost on their way to it should not travel.
    fn ttl(&self) -> Option<u8> {
        match (self.transport.ttl_security, self.transport.multihop) {
            (Some(_), _) => Some(u8::MAX),
            (None, Some(hops)) => Some(hops),
            (None, None) => self.external.then_some(1),
        }
    }
}

/// Opens a connection as `protection` has it.
pub(super) async fn dial(peer: SocketAddr, protection: Protection) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(interface) = &protection.interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| io::Error::new(error.kind(), format!("interface {interface}: {error}")))?;
    }
    sign_with(&socket, peer.ip(), &protection.transport)?;
    protect(&socket, peer.ip(), &protection)?;
    if let Some(source) = protection.transport.source_address {
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(|error| io::Error::new(error.kind(), format!("source_address {source}: {error}")))?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

/// Interface and distance of a connection that `peer` opened, or that is going to be opened.
fn protect(socket: &impl AsFd, peer: IpAddr, protection: &Protection) -> io::Result<()> {
    let basic = SockRef::from(socket);
    if let Some(wanted) = &protection.interface
        && basic.device()?.as_deref() != Some(wanted.as_bytes())
    {
        let what = format!("it did not come over interface {wanted}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if let Some(ttl) = protection.ttl() {
        if peer.is_ipv4() {
            basic.set_ttl_v4(ttl.into())?;
        } else {
            basic.set_unicast_hops_v6(ttl.into())?;
        }
    }
    if let Some(hops) = protection.transport.ttl_security {
        let least = 256 - i32::from(hops);
        if peer.is_ipv4() {
            set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &least)?;
        } else {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)?;
        }
    }
    Ok(())
}

/// The keys of a connection that is going to be opened.
fn sign_with(socket: &impl AsFd, peer: IpAddr, transport: &Transport) -> io::Result<()> {
    if let Some(password) = &transport.password {
        sign(socket, Prefix::host(peer), Some(password))?;
    }
    if !transport.ao_keys.is_empty() {
        ao::add(socket, Prefix::host(peer), &transport.ao_keys, true)?;
    }
    Ok(())
}

/// Makes a connection that the peer opened what `protection` has it be. The listening socket has the same keys; this counts
/// where it took the connection just before it got them.
pub(super) fn protect_accepted(socket: &impl AsFd, peer: IpAddr, protection: &Protection) -> io::Result<()> {
    if let Some(password) = &protection.transport.password {
        sign(socket, Prefix::host(peer), Some(password))?;
    }
    // A key comes too late for a connection that stands, so it has to be signed already.
    if !protection.transport.ao_keys.is_empty() {
        ao::is_signed(socket)?;
    }
    protect(socket, peer, protection)
}

/// Sets the key that segments from and to `peers` are signed with (RFC 2385), or takes it away. On a listening socket:
/// connections from there that are not so signed never come to be.
pub(crate) fn sign(socket: &impl AsFd, peers: Prefix, key: Option<&Secret>) -> io::Result<()> {
    let key = key.map_or(&[][..], Secret::expose);
    let mut option = Md5Signature {
        address: SockAddr::from(SocketAddr::new(peers.address(), 0)).as_storage(),
        flags: PREFIX,
        prefix_length: peers.length(),
        key_length: u16::try_from(key.len()).unwrap_or(u16::MAX),
        interface: 0,
        key: [0; libc::TCP_MD5SIG_MAXKEYLEN],
    };
    let Some(place) = option.key.get_mut(..key.len()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is too long"));
    };
    place.copy_from_slice(key);
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option).map_err(|error| {
        let remedy = match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => "this kernel has no TCP MD5 signatures (CONFIG_TCP_MD5SIG)",
            Some(libc::ENOMEM) => "too many keys on one socket: raise net.core.optmem_max",
            _ => "the key of TCP MD5 signatures could not be set",
        };
        io::Error::new(error.kind(), format!("{remedy}: {error}"))
    })
}

/// `TCP_MD5SIG_FLAG_PREFIX`: the prefix length counts.
const PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct Md5Signature {
    address: socket2::SockAddrStorage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

mod ao {
    //! TCP-AO (RFC 5925), as Linux 6.7 has it; the layouts are those of linux/tcp.h.

    use std::io;
    use std::os::fd::AsFd;

    use sekisho_config::model::{AoAlgorithm, AoKey, Prefix, Secret};
    use socket2::{SockAddr, SockAddrStorage};

    use super::{get, set, sign};

    const TCP_AO_ADD_KEY: i32 = 38;
    const TCP_AO_DEL_KEY: i32 = 39;
    const TCP_AO_INFO: i32 = 40;
    const LONGEST_KEY: usize = 80;

    /// How peers sign.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub(crate) enum Signature {
        /// TCP MD5 (RFC 2385).
        Md5(Secret),
        /// TCP-AO.
        Ao(Vec<AoKey>),
    }

    impl Signature {
        /// Asks it of `peers` on a listening socket.
        pub(crate) fn ask(&self, socket: &impl AsFd, peers: Prefix) -> io::Result<()> {
            match self {
                Self::Md5(key) => sign(socket, peers, Some(key)),
                // On a listening socket there is nothing to sign yet, and the kernel refuses to be told.
                Self::Ao(keys) => add(socket, peers, keys, false),
            }
        }

        /// Asks it no more.
        pub(crate) fn waive(&self, socket: &impl AsFd, peers: Prefix) -> io::Result<()> {
            match self {
                Self::Md5(_) => sign(socket, peers, None),
                Self::Ao(keys) => keys.iter().try_for_each(|key| {
                    let value = Delete {
                        address: address(peers),
                        interface: 0,
                        flags: 0,
                        reserved: 0,
                        prefix_length: peers.length(),
                        send_id: key.send_id,
                        receive_id: key.receive_id,
                        current: 0,
                        next: 0,
                        key_flags: 0,
                    };
                    set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &value).map_err(|error| explain(&error))
                }),
            }
        }
    }

    /// `struct tcp_ao_add`.
    #[repr(C, align(8))]
    pub(super) struct Add {
        address: SockAddrStorage,
        pub(super) algorithm: [u8; 64],
        interface: i32,
        pub(super) flags: u32,
        reserved: u16,
        pub(super) prefix_length: u8,
        send_id: u8,
        receive_id: u8,
        mac_length: u8,
        key_flags: u8,
        key_length: u8,
        pub(super) key: [u8; LONGEST_KEY],
    }

    /// `struct tcp_ao_del`.
    #[repr(C, align(8))]
    pub(super) struct Delete {
        address: SockAddrStorage,
        interface: i32,
        flags: u32,
        reserved: u16,
        pub(super) prefix_length: u8,
        send_id: u8,
        receive_id: u8,
        current: u8,
        next: u8,
        key_flags: u8,
    }

    /// `struct tcp_ao_info_opt`.
    #[derive(Default)]
    #[repr(C, align(8))]
    pub(super) struct Info {
        flags: u32,
        reserved: u16,
        current: u8,
        next: u8,
        counters: [u64; 5],
    }

    /// `set_current` and `set_rnext`: sign with this key, and ask the peer to.
    const FIRST: u32 = 0b11;

    /// Sets keys that segments from and to `peers` are signed with, with `dialing` the first one to
    /// begin with.
    pub(super) fn add(socket: &impl AsFd, peers: Prefix, keys: &[AoKey], dialing: bool) -> io::Result<()> {
        for key in keys {
            let name: &[u8] = match key.algorithm {
                AoAlgorithm::HmacSha1 => b"hmac(sha1)",
                AoAlgorithm::Aes128Cmac => b"cmac(aes128)",
                AoAlgorithm::HmacSha256 => b"hmac(sha256)",
            };
            let octets = key.key.expose();
            let mut value = Add {
                address: address(peers),
                algorithm: [0; 64],
                interface: 0,
                flags: 0,
                reserved: 0,
                prefix_length: peers.length(),
                send_id: key.send_id,
                receive_id: key.receive_id,
                mac_length: if key.algorithm == AoAlgorithm::HmacSha256 {
                    16
                } else {
                    12
                },
                key_flags: 0,
                key_length: u8::try_from(octets.len()).unwrap_or(u8::MAX),
                key: [0; LONGEST_KEY],
            };
            let (Some(algorithm), Some(place)) = (
                value.algorithm.get_mut(..name.len()),
                value.key.get_mut(..octets.len()),
            ) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key is too long"));
            };
            algorithm.copy_from_slice(name);
            place.copy_from_slice(octets);
            let first = keys.first().is_some_and(|first| first == key);
            if first && dialing {
                value.flags = FIRST;
            }
            set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &value).map_err(|error| explain(&error))?;
        }
        Ok(())
    }

    /// Whether a connection is signed; an error says why it does not count.
    pub(super) fn is_signed(socket: &impl AsFd) -> io::Result<()> {
        get(socket, libc::IPPROTO_TCP, TCP_AO_INFO, Info::default())
            .map(drop)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOENT) => io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it came before the keys of TCP-AO were set",
                ),
                _ => explain(&error),
            })
    }

    fn address(peers: Prefix) -> SockAddrStorage {
        SockAddr::from(std::net::SocketAddr::new(peers.address(), 0)).as_storage()
    }

    fn explain(error: &io::Error) -> io::Error {
        let remedy = match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => {
                "this kernel has no TCP-AO (Linux 6.7 with CONFIG_TCP_AO); use password_file"
            }
            Some(libc::ENOENT) => "this kernel lacks the algorithm of a TCP-AO key",
            Some(libc::ENOMEM) => "too many keys on one socket: raise net.core.optmem_max",
            _ => "the keys of TCP-AO could not be set",
        };
        io::Error::new(error.kind(), format!("{remedy}: {error}"))
    }
}

/// getsockopt(2) into a value of plain integers.
#[expect(unsafe_code, reason = "socket options that no safe interface offers")]
fn get<T>(socket: &impl AsFd, level: i32, name: i32, mut value: T) -> io::Result<T> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; `value` is `length` writable octets for the whole call, any of
    // which may hold any bits, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// setsockopt(2) with a value of plain integers, for what socket2 does not have.
#[expect(unsafe_code, reason = "socket options that no safe interface offers")]
fn set<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; `value` is `length` readable octets for the whole call,
    // and the kernel copies them and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::{AoAlgorithm, AoKey};

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Md5Signature>(), 216);
        assert_eq!(std::mem::offset_of!(Md5Signature, flags), 128);
        assert_eq!(std::mem::offset_of!(Md5Signature, key), 136);
        assert_eq!(size_of::<ao::Add>(), 288);
        assert_eq!(std::mem::offset_of!(ao::Add, algorithm), 128);
        assert_eq!(std::mem::offset_of!(ao::Add, flags), 196);
        assert_eq!(std::mem::offset_of!(ao::Add, prefix_length), 202);
        assert_eq!(std::mem::offset_of!(ao::Add, key), 208);
        assert_eq!(size_of::<ao::Delete>(), 144);
        assert_eq!(std::mem::offset_of!(ao::Delete, prefix_length), 138);
        assert_eq!(size_of::<ao::Info>(), 48);
    }

    /// Where the kernel has TCP-AO, two ends with one key connect and one without does not; elsewhere the error says what is
    /// missing.
    #[tokio::test]
    async fn signed_with_tcp_ao_or_told_why_not() {
        let key = |octets: &[u8]| AoKey {
            send_id: 1,
            receive_id: 1,
            algorithm: AoAlgorithm::HmacSha1,
            key: Secret::new(octets),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let from: Prefix = "127.0.0.0/8".parse().unwrap();
        let asked = Signature::Ao(vec![key(b"s3cret")]).ask(&listener, from);
        let dial_with = |keys| {
            let transport = Transport {
                ao_keys: keys,
                ..Transport::default()
            };
            dial(listener.local_addr().unwrap(), unprotected(transport))
        };
        match asked {
            Ok(()) => {
                assert!(dial_with(vec![key(b"s3cret")]).await.is_ok());
                let other = dial_with(vec![key(b"other")]);
                let patience = std::time::Duration::from_millis(500);
                assert!(!matches!(tokio::time::timeout(patience, other).await, Ok(Ok(_))));
            }
            Err(error) => {
                assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
                let error = dial_with(vec![key(b"s3cret")]).await.unwrap_err();
                assert!(error.to_string().contains("use password_file"), "{error}");
                let error = ao::is_signed(&listener).unwrap_err();
                assert!(error.to_string().contains("CONFIG_TCP_AO"), "{error}");
            }
        }
    }

    fn unprotected(transport: Transport) -> Protection {
        Protection {
            transport,
            interface: None,
            external: false,
        }
    }

    #[test]
    fn how_far_our_packets_go() {
        for (ttl_security, multihop, external, want) in [
            (None, None, false, None),
            (None, None, true, Some(1)),
            (None, Some(5), true, Some(5)),
            (None, Some(5), false, Some(5)),
            (Some(1), None, true, Some(255)),
            (Some(3), None, false, Some(255)),
        ] {
            let transport = Transport {
                ttl_security,
                multihop,
                ..Transport::default()
            };
            let protection = Protection {
                external,
                ..unprotected(transport)
            };
            assert_eq!(protection.ttl(), want, "{protection:?}");
        }
    }

    #[tokio::test]
    async fn both_ends_ask_for_their_distance() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let transport = Transport {
                ttl_security: Some(1),
                source_address: Some(listener.local_addr().unwrap().ip()),
                ..Transport::default()
            };
            // The listener answers with the system's TTL, 64, unless it is told as ours are.
            let peer = listener.local_addr().unwrap();
            if peer.is_ipv4() {
                SockRef::from(&listener).set_ttl_v4(255).unwrap();
            } else {
                SockRef::from(&listener).set_unicast_hops_v6(255).unwrap();
            }
            let near = dial(peer, unprotected(transport.clone())).await.unwrap();
            let (far, from) = listener.accept().await.unwrap();
            protect_accepted(&far, from.ip(), &unprotected(transport)).unwrap();
            assert_eq!(near.local_addr().unwrap(), from);
            let sent = if peer.is_ipv4() {
                SockRef::from(&far).ttl_v4()
            } else {
                SockRef::from(&far).unicast_hops_v6()
            };
            assert_eq!(sent.unwrap(), 255, "{address}");
        }
    }

    #[tokio::test]
    async fn what_the_box_has_not_is_named() {
        let peer = "[fe80::1]:179".parse().unwrap();
        let nowhere = Protection {
            interface: Some("no-such-link".into()),
            ..unprotected(Transport::default())
        };
        let error = dial(peer, nowhere).await.unwrap_err();
        assert!(error.to_string().contains("no-such-link"), "{error}");
        let foreign = Transport {
            source_address: Some("192.0.2.77".parse().unwrap()),
            ..Transport::default()
        };
        let error = dial("127.0.0.1:9".parse().unwrap(), unprotected(foreign))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("source_address 192.0.2.77"), "{error}");
    }

    /// A listening socket of 127.0.0.1 that wants `key` of `from`, and a connection to it with `dialed`.
    async fn connects(from: &str, key: &[u8], dialed: Option<&[u8]>) -> bool {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        sign(&listener, from.parse().unwrap(), Some(&Secret::new(key))).unwrap();
        let transport = Transport {
            password: dialed.map(Secret::new),
            ..Transport::default()
        };
        let connecting = dial(listener.local_addr().unwrap(), unprotected(transport));
        tokio::select! {
            connected = connecting => connected.is_ok(),
            // The first SYN is dropped; it is repeated after a second.
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => false,
        }
    }

    #[tokio::test]
    async fn only_who_has_the_key_connects() {
        for (from, key, dialed, want) in [
            ("127.0.0.1/32", &b"s3cret"[..], Some(&b"s3cret"[..]), true),
            ("127.0.0.0/8", b"s3cret", Some(b"s3cret"), true),
            ("127.0.0.1/32", &[7; 80], Some(&[7; 80]), true),
            ("127.0.0.1/32", b"s3cret", Some(b"other"), false),
            ("127.0.0.1/32", b"s3cret", None, false),
            ("127.0.0.0/8", b"s3cret", None, false),
            ("192.0.2.0/24", b"s3cret", None, true),
        ] {
            assert_eq!(
                connects(from, key, dialed).await,
                want,
                "{from} {key:?} {dialed:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_key_can_be_taken_away_and_a_long_one_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let from: Prefix = "127.0.0.0/8".parse().unwrap();
        sign(&listener, from, Some(&Secret::new(*b"s3cret"))).unwrap();
        sign(&listener, from, None).unwrap();
        dial(listener.local_addr().unwrap(), unprotected(Transport::default()))
            .await
            .unwrap();
        let error = sign(&listener, from, Some(&Secret::new([1; 81]))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
