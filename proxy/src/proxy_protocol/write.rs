//! Headers for endpoints.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sekisho_config::model::ProxyProtocol;

use super::SIGNATURE;

/// The header that says that `client` is connected with `server`, where the two are of one family; otherwise both are
/// written as IPv6.
pub fn write(version: ProxyProtocol, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let (client_ip, server_ip) = match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => (IpAddr::V4(client), IpAddr::V4(server)),
        (client, server) => (IpAddr::V6(mapped(client)), IpAddr::V6(mapped(server))),
    };
    let mut header = Vec::with_capacity(108);
    match version {
        ProxyProtocol::V1 => {
            let family = if client_ip.is_ipv4() { 4 } else { 6 };
            // Writing to a vector does not fail.
            let _ = write!(
                header,
                "PROXY TCP{family} {client_ip} {server_ip} {} {}\r\n",
                client.port(),
                server.port()
            );
        }
        ProxyProtocol::V2 => {
            header.extend_from_slice(SIGNATURE);
            header.push(0x21);
            header.extend_from_slice(if client_ip.is_ipv4() {
                &[0x11, 0, 12]
            } else {
                &[0x21, 0, 36]
            });
            for ip in [client_ip, server_ip] {
                match ip {
                    IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
                }
            }
            header.extend_from_slice(&client.port().to_be_bytes());
            header.extend_from_slice(&server.port().to_be_bytes());
        }
    }
    header
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
