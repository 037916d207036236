use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;

use super::{Daemon, Netns, State, Target, Tls, VIP_V4, program, wait_for};

/// A certificate that vouches for itself, for Secrets and for the CA's own web server.
#[derive(Debug)]
pub struct SelfSigned {
    /// Certificate, PEM.
    pub certificate: String,
    /// Key, PEM.
    pub key: String,
}

impl SelfSigned {
    /// For these names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn new(names: &[&str], addresses: &[IpAddr]) -> Result<Self> {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

/// Pebble, an ACME CA, and a DNS server that sends every name to the VIP.
#[derive(Debug)]
pub struct Authority {
    _pebble: Daemon,
    _dns: Daemon,
    /// Directory URL.
    pub directory: String,
    /// PEM file with the root of the CA's own web server.
    pub web_root: PathBuf,
    management: Target,
}

impl Authority {
    /// Starts both in `netns`, which has `address`.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn start(state: &State, netns: &Netns, address: IpAddr) -> Result<Self> {
        let web = SelfSigned::new(&["ca.example"], &[address])?;
        let web_root = state.file("ca.pem");
        fs::write(&web_root, &web.certificate)?;
        fs::write(state.file("ca.key"), &web.key)?;
        fs::write(
            state.file("pebble.json"),
            json!({"pebble": {
                "listenAddress": format!("{address}:14000"), "managementListenAddress": format!("{address}:15000"),
                "certificate": web_root, "privateKey": state.file("ca.key"),
                "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
            }})
            .to_string(),
        )?;
        let mut command = program(netns, "pebble", "usr/bin/pebble-challtestsrv")?;
        command.args([
            "-dns01",
            "127.0.0.1:8053",
            "-management",
            "127.0.0.1:8055",
            "-defaultIPv4",
            &VIP_V4.to_string(),
        ]);
        command.args([
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]);
        let mut dns = Daemon::start(state, "ca-dns", command)?;
        let mut command = program(netns, "pebble", "usr/bin/pebble")?;
        command
            .arg("-config")
            .arg(state.file("pebble.json"))
            .args(["-dnsserver", "127.0.0.1:8053"]);
        command.env("PEBBLE_VA_NOSLEEP", "1");
        let mut pebble = Daemon::start(state, "ca-pebble", command)?;
        let target = |port| -> Result<_> {
            let tls = Tls::trusting_file(&web_root)?;
            Ok(Target::new(Some(netns.clone()), (address, port).into(), &address.to_string()).tls(Some(tls)))
        };
        let directory = target(14000)?;
        wait_for("the CA", Duration::from_secs(10), || {
            pebble.check()?;
            dns.check()?;
            directory.get("/dir").map(drop)
        })?;
        let management = target(15000)?;
        let directory = format!("https://{address}:14000/dir");
        Ok(Self {
            _pebble: pebble,
            _dns: dns,
            directory,
            web_root,
            management,
        })
    }

    /// The root that its certificates end in, PEM.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn root(&self) -> Result<String> {
        let answer = self.management.get("/roots/0")?;
        String::from_utf8(answer.body).context("the CA's root")
    }
}
