//! What a TCP connection of BGP is asked for beyond connecting: signatures of its segments.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use sekisho_config::model::{Prefix, Secret, Transport};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Opens a connection as `transport` has it.
pub(super) async fn dial(peer: SocketAddr, transport: Transport) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    protect(&socket, peer.ip(), &transport)?;
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

/// Makes a connection that `peer` opened, or that is going to be opened, what `transport` has it be.
pub(super) fn protect(socket: &impl AsFd, peer: IpAddr, transport: &Transport) -> io::Result<()> {
    if let Some(password) = &transport.password {
        sign(socket, Prefix::host(peer), Some(password))?;
    }
    Ok(())
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
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Md5Signature>(), 216);
        assert_eq!(std::mem::offset_of!(Md5Signature, flags), 128);
        assert_eq!(std::mem::offset_of!(Md5Signature, key), 136);
    }

    /// A listening socket of 127.0.0.1 that wants `key` of `from`, and a connection to it with `dialed`.
    async fn connects(from: &str, key: &[u8], dialed: Option<&[u8]>) -> bool {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        sign(&listener, from.parse().unwrap(), Some(&Secret::new(key))).unwrap();
        let transport = Transport {
            password: dialed.map(Secret::new),
        };
        let connecting = dial(listener.local_addr().unwrap(), transport);
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
        dial(listener.local_addr().unwrap(), Transport::default())
            .await
            .unwrap();
        let error = sign(&listener, from, Some(&Secret::new([1; 81]))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
