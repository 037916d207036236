//! Pods that die behind a running appliance, and clients that stay with theirs.

use anyhow::{Context, Result, ensure};
use sekisho_tests::lab::{Manifests, wait_for};

use crate::loopback::{Loopback, PATIENCE, service};

/// Service `web` with these annotations, in place of none.
fn annotated(service: &str, annotations: &str) -> String {
    service.replacen(
        "metadata: {name: web, namespace: shop}",
        &format!("metadata: {{name: web, namespace: shop, annotations: {{{annotations}}}}}"),
        1,
    )
}

/// A pod that is gone while the cluster still calls it ready: no client notices, and the box says why it is not used.
#[test]
fn a_pod_that_dies_is_out_and_the_box_says_so() -> Result<()> {
    let rig = Loopback::new()?;
    let (one, two) = (rig.pod("one")?, rig.pod("two")?);
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    let checked = "sekisho.io/health-check: tcp, sekisho.io/health-check-interval: 200ms";
    rig.manifests
        .write("web.yaml", &annotated(&service("web", &[&one, &two]), checked))?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", "web.example.com", "web", None, false),
    )?;
    let appliance = rig.start()?;
    let target = rig.target("web.example.com", None);
    let rows = || -> Result<Vec<(String, bool, String)>> {
        let rows = appliance.json(&["endpoints", "shop/web"])?;
        rows.as_array()
            .context("no list")?
            .iter()
            .map(|row| {
                Ok((
                    row["health"].as_str().context("no health")?.to_owned(),
                    row["in_use"].as_bool().context("no in_use")?,
                    row["why"].as_str().context("no why")?.to_owned(),
                ))
            })
            .collect()
    };
    wait_for("both pods to be well", PATIENCE, || {
        let rows = rows()?;
        ensure!(
            rows.len() == 2 && rows.iter().all(|(health, used, _)| health == "well" && *used),
            "{rows:?}"
        );
        Ok(())
    })?;
    drop(two);
    for number in 0..20 {
        let response = target.get("/")?;
        ensure!(
            response.status == 200 && response.pod()? == "one",
            "request {number}: status {}",
            response.status
        );
    }
    wait_for("the health check to fail", PATIENCE, || {
        let rows = rows()?;
        let out: Vec<_> = rows.iter().filter(|(_, used, _)| !used).collect();
        ensure!(
            matches!(&out[..], [(_, _, why)] if why.contains("health check fails") || why.contains("ejected")),
            "{rows:?}"
        );
        Ok(())
    })?;
    let text = appliance.ask(&["endpoints"])?;
    ensure!(text.contains("HEALTH") && text.contains("NO"), "{text}");
    appliance.stop(PATIENCE)?;
    Ok(())
}

/// The cookie means the same pod after a restart of the box, with the key that it has kept.
#[test]
fn a_client_finds_its_pod_after_a_restart() -> Result<()> {
    let rig = Loopback::new()?;
    let (one, two) = (rig.pod("one")?, rig.pod("two")?);
    rig.manifests.write("class.yaml", &Manifests::ingress_class())?;
    rig.manifests.write(
        "web.yaml",
        &annotated(&service("web", &[&one, &two]), "sekisho.io/affinity: cookie"),
    )?;
    rig.manifests.write(
        "ingress.yaml",
        &Manifests::ingress("web", "web.example.com", "web", None, false),
    )?;
    let target = rig.target("web.example.com", None);
    let appliance = rig.start()?;
    let mut first = None;
    wait_for("an answer with a cookie", PATIENCE, || {
        let response = target.get("/")?;
        let cookie = response.header("set-cookie").context("no cookie")?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        first = Some((cookie, response.pod()?.to_owned()));
        Ok(())
    })?;
    let (cookie, pod) = first.context("no first answer")?;
    appliance.stop(PATIENCE)?;
    let appliance = rig.start()?;
    wait_for("an answer", PATIENCE, || target.get("/")?.pod().map(drop))?;
    for _ in 0..10 {
        let response = target.send("GET", "/", &[("cookie", &cookie)], b"")?;
        ensure!(response.pod()? == pod, "{} answers, not {pod}", response.pod()?);
        ensure!(
            response.header("set-cookie").is_none(),
            "a cookie that it has already"
        );
    }
    appliance.stop(PATIENCE)?;
    Ok(())
}
