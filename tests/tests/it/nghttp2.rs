//! HTTP/2 with programs that are not ours: nghttpd as the endpoint, nghttp and h2load as clients. Needs `nghttp2-client` and
//! `nghttp2-server` of `tests/install`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{Daemon, Manifests, SelfSigned, package, wait_for};

use crate::loopback::{Loopback, PATIENCE, free_ports};

const HOST: &str = "web.example.com";
const TEXT: &str = "hello from nghttpd\n";

/// A program of nghttp2 with the libraries beside it.
fn program(name: &str, path: &str) -> Result<Command> {
    let root = package(name);
    let program = root.join(path);
    ensure!(
        program.exists(),
        "{} is missing; run tests/install lab",
        program.display()
    );
    let mut command = Command::new(program);
    // There are none where the system has them all.
    if let Ok(folder) = fs::read_dir(root.join("usr/lib")) {
        let libraries = folder.flatten().map(|entry| entry.path());
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    }
    Ok(command)
}

/// Runs a client against the HTTPS listener; gives what it printed.
fn client(name: &str, https: SocketAddr, args: &[&str]) -> Result<String> {
    let mut command = program("nghttp2-client", &format!("usr/bin/{name}"))?;
    let url = if name == "h2load" {
        command.arg(format!("--connect-to={https}"));
        format!("https://{HOST}/hello.txt")
    } else {
        command.arg(format!("-H:authority: {HOST}"));
        format!("https://{https}/hello.txt")
    };
    let out = command.args(args).arg(url).output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    ensure!(out.status.success(), "{name}: {text}");
    Ok(text)
}

fn service(port: u16, annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}\n\
         spec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop, \
         labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
         endpoints: [{{addresses: [127.0.0.1]}}]\n"
    )
}

/// nghttpd on a free port, with TLS from these files or in the clear.
fn endpoint(rig: &Loopback, name: &str, htdocs: &Path, tls: Option<(&Path, &Path)>) -> Result<(u16, Daemon)> {
    let [port] = free_ports()?;
    let mut command = program("nghttp2-server", "usr/sbin/nghttpd")?;
    command.arg("--address=127.0.0.1").arg("--trailer=grpc-status: 0");
    command.arg("-d").arg(htdocs);
    match tls {
        None => command.arg("--no-tls").arg(port.to_string()),
        Some((key, certificate)) => command.arg(port.to_string()).arg(key).arg(certificate),
    };
    let mut daemon = Daemon::start(rig.state(), name, command)?;
    wait_for(name, PATIENCE, || {
        daemon.check()?;
        Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?)
    })?;
    Ok((port, daemon))
}

#[test]
fn nghttpd_behind_and_h2load_in_front() -> Result<()> {
    let rig = Loopback::new()?;
    let file = |name: &str, text: &str| -> Result<_> {
        let path = rig.state().file(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let htdocs = rig.state().file("htdocs");
    fs::create_dir_all(&htdocs)?;
    fs::write(htdocs.join("hello.txt"), TEXT)?;
    let (front, behind) = (
        SelfSigned::new(&[HOST], &[])?,
        SelfSigned::new(&["web.shop.svc"], &[])?,
    );
    let (key, certificate) = (
        file("key.pem", &behind.key)?,
        file("cert.pem", &behind.certificate)?,
    );
    let (plain, _plain) = endpoint(&rig, "nghttpd-h2c", &htdocs, None)?;
    let (secure, _secure) = endpoint(&rig, "nghttpd-tls", &htdocs, Some((&key, &certificate)))?;

    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write(
        "secret.yaml",
        &Manifests::tls_secret("web-tls", &front.certificate, &front.key),
    )?;
    let ca = Manifests::tls_secret("ca", &behind.certificate, &behind.key).replace("  tls.crt:", "  ca.crt:");
    rig.manifests.write("ca.yaml", &ca)?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", HOST, "web", Some("web-tls"), false),
    )?;
    let mut appliance = rig.start()?;
    for (port, annotations) in [
        (plain, "sekisho.io/backend-protocol: h2c"),
        (
            secure,
            "sekisho.io/backend-protocol: grpcs, sekisho.io/backend-ca: ca",
        ),
    ] {
        rig.manifests.write("web.yaml", &service(port, annotations))?;
        wait_for(annotations, PATIENCE, || {
            appliance.daemon.check()?;
            let text = client("nghttp", rig.https(), &["-v"])?;
            ensure!(text.contains(TEXT.trim()), "{text}");
            // Behind the body comes the trailer of the endpoint.
            let (_, after) = text.split_once(TEXT.trim()).context("no body")?;
            ensure!(after.contains("grpc-status: 0"), "{text}");
            Ok(())
        })?;
        let text = client("h2load", rig.https(), &["-n2000", "-c4", "-m32"])?;
        let all = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        ensure!(text.contains(all), "{text}");
        ensure!(text.contains("2000 2xx"), "{text}");
    }
    appliance.stop(PATIENCE)?;
    Ok(())
}
