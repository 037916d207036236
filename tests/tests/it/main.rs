//! The whole appliance on loopback: its file, its manifests, its exit codes. Needs no right and no namespace.
//! With `KUBECONFIG` set, with that cluster too.

mod cluster;
mod health;
mod loopback;
mod nghttp2;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sekisho_tests::lab::{Appliance, Manifests, SelfSigned, Tls, wait_for};

use self::loopback::{Loopback, PATIENCE, service};

/// Runs `sekisho WORD --config` on a file with this text; gives exit code and everything printed.
fn on_file(word: &str, toml: &str) -> Result<(Option<i32>, String)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("box.toml");
    fs::write(&file, toml)?;
    let out = Command::new(Appliance::binary()?)
        .args([word, "--config"])
        .arg(&file)
        .output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok((out.status.code(), text))
}

const FAULTY: &str = r#"[appliance]
nmae = "edge-1"

[listen]
http = ["0.0.0.0:80"]

[source]
manifests = "."
ingress_class = "sekisho"

[bgp]
asn = 0
router_id = "192.0.2.10"
hold_time = "2s"

[[bgp.peers]]
name = "node-1"
address = "10.0.0.300"
asn = 64512
role = "boss"
"#;

#[test]
fn every_fault_of_a_file_is_told_at_once_with_its_line() -> Result<()> {
    for word in ["check", "run"] {
        let (code, text) = on_file(word, FAULTY)?;
        assert_eq!(code, Some(78), "sekisho {word}: {text}");
        for (line, key) in [
            (2, "nmae"),
            (12, "asn"),
            (14, "hold_time"),
            (18, "address"),
            (20, "role"),
        ] {
            let found = text
                .lines()
                .any(|said| said.contains(&format!("box.toml:{line}")) && said.contains(key));
            assert!(
                found,
                "sekisho {word} does not tell of `{key}` in line {line}:\n{text}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() -> Result<()> {
    let (code, text) = on_file("check", "[appliance]\nname = edge\n")?;
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("box.toml:2"), "{text}");
    Ok(())
}

#[test]
fn a_good_file_passes() -> Result<()> {
    let rig = Loopback::new()?;
    let (code, text) = on_file("check", &rig.settings.toml)?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

#[test]
fn manifests_are_served_and_followed() -> Result<()> {
    let rig = Loopback::new()?;
    let (one, two) = (rig.pod("one")?, rig.pod("two")?);
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write("web.yaml", &service("web", &[&one]))?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", "web.example.com", "web", None, false),
    )?;
    let mut appliance = rig.start()?;
    let target = rig.target("web.example.com", None);
    let answers = |wanted: &str| {
        let response = target.get("/")?;
        ensure!(response.pod()? == wanted, "{} answers", response.pod()?);
        Ok(())
    };
    wait_for("pod one", PATIENCE, || {
        appliance.daemon.check()?;
        answers("one")
    })?;

    rig.manifests.write("web.yaml", &service("web", &[&two]))?;
    wait_for("pod two after the slice changed", PATIENCE, || answers("two"))?;

    // A broken file disturbs nothing of what the good ones say.
    rig.manifests.write("broken.yaml", "kind: Ingress\n  spec: [")?;
    rig.manifests.write(
        "missing.yaml",
        &Manifests::ingress("gone", "gone.example.com", "nobody", None, false),
    )?;
    let gone = rig.target("gone.example.com", None);
    wait_for("503 for a Service that does not exist", PATIENCE, || {
        let status = gone.get("/")?.status;
        ensure!(status == 503, "status {status}");
        Ok(())
    })?;
    answers("two")?;

    rig.manifests.remove("ingress.yaml")?;
    wait_for("404 after the Ingress is gone", PATIENCE, || {
        let status = target.get("/")?.status;
        ensure!(status == 404, "status {status}");
        Ok(())
    })?;
    appliance.stop(PATIENCE)?;
    Ok(())
}

#[test]
fn a_secret_is_served_by_name_and_a_new_one_replaces_it() -> Result<()> {
    let rig = Loopback::new()?;
    let pod = rig.pod("one")?;
    let (first, second) = (
        SelfSigned::new(&["web.example.com"], &[])?,
        SelfSigned::new(&["web.example.com"], &[])?,
    );
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write("web.yaml", &service("web", &[&pod]))?;
    rig.manifests.write(
        "secret.yaml",
        &Manifests::tls_secret("web-tls", &first.certificate, &first.key),
    )?;
    let ingress = Manifests::ingress("web", "web.example.com", "web", Some("web-tls"), false);
    rig.manifests.write("ingress.yaml", &ingress)?;
    let appliance = rig.start()?;
    for (which, certificate) in [("first", &first), ("second", &second)] {
        rig.manifests.write(
            "secret.yaml",
            &Manifests::tls_secret("web-tls", &certificate.certificate, &certificate.key),
        )?;
        let target = rig.target(
            "web.example.com",
            Some(Tls::trusting(std::slice::from_ref(&certificate.certificate))?),
        );
        wait_for(which, PATIENCE, || target.get("/")?.pod().map(drop))?;
    }
    appliance.stop(PATIENCE)?;
    Ok(())
}

#[test]
fn a_reload_with_a_fault_keeps_what_runs() -> Result<()> {
    let rig = Loopback::new()?;
    let pod = rig.pod("one")?;
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write("web.yaml", &service("web", &[&pod]))?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", "web.example.com", "web", None, false),
    )?;
    let mut appliance = rig.start()?;
    let target = rig.target("web.example.com", None);
    wait_for("an answer", PATIENCE, || target.get("/")?.pod().map(drop))?;

    fs::write(appliance.file(), "[appliance]\nnmae = 1\n")?;
    appliance.daemon.signal(Signal::SIGHUP)?;
    wait_for("the log to tell of the fault", PATIENCE, || {
        let log = fs::read_to_string(appliance.daemon.log())?;
        ensure!(log.contains("nmae"), "nothing yet");
        Ok(())
    })?;
    appliance.daemon.check()?;
    target.get("/")?.pod()?;
    appliance.daemon.signal(Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn it_tells_what_it_sees() -> Result<()> {
    let rig = Loopback::new()?;
    let pod = rig.pod("one")?;
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write("web.yaml", &service("web", &[&pod]))?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", "web.example.com", "web", None, false),
    )?;
    let appliance = rig.start()?;
    let target = rig.target("web.example.com", None);
    wait_for("an answer", PATIENCE, || target.get("/")?.pod().map(drop))?;
    let admin = rig.admin();
    for path in ["/livez", "/readyz"] {
        assert_eq!(admin.get(path)?.status, 200, "{path}");
    }
    let metrics = String::from_utf8(admin.get("/metrics")?.body)?;
    assert!(metrics.contains("sekisho_"), "{metrics}");
    for words in [
        &["status"][..],
        &["endpoints"],
        &["endpoints", "shop/web"],
        &["certificates"],
        &["vips"],
    ] {
        let text = appliance.ask(words).with_context(|| format!("{words:?}"))?;
        assert!(!text.trim().is_empty(), "{words:?}");
        appliance
            .json(words)
            .with_context(|| format!("{words:?} --json"))?;
    }
    let endpoints = appliance.ask(&["endpoints"])?;
    assert!(
        endpoints.contains(&pod.port.to_string()) && endpoints.contains("one"),
        "{endpoints}"
    );
    let explained = appliance.ask(&["explain", "http://web.example.com/x"])?;
    for word in ["web.example.com", "shop", &pod.port.to_string()] {
        assert!(explained.contains(word), "explain lacks {word}:\n{explained}");
    }
    let took = appliance.stop(PATIENCE)?;
    assert!(
        took < Duration::from_secs(30),
        "an idle box took {took:?} to stop"
    );
    Ok(())
}
