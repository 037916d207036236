use std::fs;
use std::path::Path;

use sekisho_config::model::{AddressPool, SourceKind};
use tempfile::TempDir;

use super::{Running, context, host, ingress, start, start_in};
use crate::translate::Context;
use crate::{SourceView, check_directory};

fn directory(path: &Path) -> Running {
    start(SourceKind::Manifests(path.to_owned()), None, context())
}

fn write(directory: &TempDir, file: &str, text: &str) {
    fs::write(directory.path().join(file), text).unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_come_change_and_go() {
    let manifests = tempfile::tempdir().unwrap();
    write(&manifests, "a.yaml", &ingress("a", "a.b"));
    fs::create_dir(manifests.path().join("team")).unwrap();
    write(&manifests, "team/b.yml", &ingress("b", "b.b"));
    write(&manifests, "notes.txt", "not: [yaml");
    write(&manifests, ".hidden.yaml", "not: [yaml");
    let mut running = directory(manifests.path());
    running
        .until(|part, _| host(part, "a.b") && host(part, "b.b"))
        .await;
    write(&manifests, "c.yaml", &ingress("c", "c.b"));
    running.until(|part, _| host(part, "c.b")).await;
    write(&manifests, "c.yaml", &ingress("c", "changed.b"));
    running
        .until(|part, _| host(part, "changed.b") && !host(part, "c.b"))
        .await;
    fs::remove_file(manifests.path().join("a.yaml")).unwrap();
    fs::remove_dir_all(manifests.path().join("team")).unwrap();
    running
        .until(|part, _| !host(part, "a.b") && !host(part, "b.b"))
        .await;
    let SourceView {
        kind,
        synced,
        objects,
        ..
    } = running.handle.view();
    assert_eq!((kind, synced, objects["Ingress"]), ("manifests", true, 1));
    for (name, label, want) in [
        ("sekisho_source_synced", "", 1.0),
        ("sekisho_source_objects", "Ingress", 1.0),
        ("sekisho_source_objects", "Secret", 0.0),
    ] {
        assert!((running.metric(name, label) - want).abs() < 0.1, "{name} {label}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_disturbs_nothing_and_a_repaired_one_counts() {
    let manifests = tempfile::tempdir().unwrap();
    write(
        &manifests,
        "a.yaml",
        &(ingress("a", "a.b") + &ingress("a2", "a2.b")),
    );
    write(&manifests, "b.yaml", &ingress("b", "b.b"));
    let mut running = directory(manifests.path());
    running
        .until(|part, _| host(part, "a.b") && host(part, "b.b"))
        .await;
    // One document is broken, the other changed: the change counts, and nothing is taken away.
    write(
        &manifests,
        "a.yaml",
        &(ingress("a", "new.b") + "---\napiVersion: v1\nkind: [broken"),
    );
    let (part, findings) = running.until(|part, _| host(part, "new.b")).await;
    assert!(host(&part, "a2.b") && host(&part, "b.b"));
    assert!(
        findings
            .iter()
            .any(|line| line.starts_with("File a.yaml line ") && line.contains("is not YAML")),
        "{findings:?}"
    );
    assert!((running.metric("sekisho_findings", "unreadable") - 1.0).abs() < 0.1);
    write(&manifests, "a.yaml", &ingress("a", "new.b"));
    let (_, findings) = running.until(|part, _| !host(part, "a2.b")).await;
    assert!(
        !findings.iter().any(|line| line.starts_with("File")),
        "{findings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_comes_late_or_goes_away() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("manifests");
    let mut running = directory(&path);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let view = running.handle.view();
    assert!(!view.synced && view.last_error.unwrap().contains("cannot be read"));
    assert!(running.events.try_recv().is_err());
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), ingress("a", "a.b")).unwrap();
    running.until(|part, _| host(part, "a.b")).await;
    fs::rename(&path, parent.path().join("away")).unwrap();
    let (part, findings) = running
        .until(|_, findings| findings.iter().any(|finding| finding.object_kind == "File"))
        .await;
    assert!(host(&part, "a.b"), "what was read stays: {findings:?}");
    fs::rename(parent.path().join("away"), &path).unwrap();
    running
        .until(|part, findings| {
            host(part, "a.b") && !findings.iter().any(|finding| finding.object_kind == "File")
        })
        .await;
}

/// A part that cannot be looked through holds nothing else up: here links that lead in a circle, eight times over.
#[tokio::test(start_paused = true)]
async fn a_circle_of_links_is_a_finding() {
    let manifests = tempfile::tempdir().unwrap();
    write(&manifests, "a.yaml", &ingress("a", "a.b"));
    for name in ["1", "2", "3", "4"] {
        std::os::unix::fs::symlink(".", manifests.path().join(name)).unwrap();
    }
    let mut running = directory(manifests.path());
    let (_, findings) = running.until(|part, _| host(part, "a.b")).await;
    assert!(findings[0].contains("do links lead in a circle?"), "{findings:?}");
    assert!(running.handle.view().synced);
}

/// A ConfigMap in a pod: files are links into `..data`, which is itself a link that is swapped.
#[tokio::test(start_paused = true)]
async fn swapped_links_are_followed() {
    let mount = tempfile::tempdir().unwrap();
    let version = |name: &str, host: &str| {
        fs::create_dir(mount.path().join(name)).unwrap();
        fs::write(mount.path().join(name).join("a.yaml"), ingress("a", host)).unwrap();
    };
    let link = |to: &str| {
        std::os::unix::fs::symlink(to, mount.path().join("..tmp")).unwrap();
        fs::rename(mount.path().join("..tmp"), mount.path().join("..data")).unwrap();
    };
    version("..1", "one.b");
    link("..1");
    std::os::unix::fs::symlink("..data/a.yaml", mount.path().join("a.yaml")).unwrap();
    let mut running = directory(mount.path());
    running.until(|part, _| host(part, "one.b")).await;
    version("..2", "two.b");
    link("..2");
    running
        .until(|part, _| host(part, "two.b") && !host(part, "one.b"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_object_in_two_files() {
    let manifests = tempfile::tempdir().unwrap();
    write(&manifests, "2.yaml", &ingress("a", "two.b"));
    write(&manifests, "1.yaml", &ingress("a", "one.b"));
    let mut running = directory(manifests.path());
    let (part, findings) = running.until(|part, _| host(part, "one.b")).await;
    assert!(!host(&part, "two.b"));
    assert!(findings.contains(&"File 2.yaml line 2: Ingress ns/a is also in 1.yaml line 2, and that one is used; remove one of the two".to_owned()), "{findings:?}");
}

#[tokio::test(start_paused = true)]
async fn addresses_survive_a_restart_and_no_status_is_written() {
    let manifests = tempfile::tempdir().unwrap();
    let service = |name: &str| {
        format!(
            "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, ports: [{{port: 1}}]}}\n"
        )
    };
    let pool = AddressPool {
        name: "public".into(),
        addresses: vec!["192.0.2.0/29".parse().unwrap()],
        announce_to: Vec::new(),
        announcement: Default::default(),
    };
    let context = Context {
        vips: vec![pool],
        ..context()
    };
    let kind = SourceKind::Manifests(manifests.path().to_owned());
    write(&manifests, "b.yaml", &service("b"));
    let mut running = start(kind.clone(), None, context.clone());
    let (first, _) = running.until(|part, _| part.tcp.len() == 1).await;
    let b = *first.tcp.keys().next().unwrap();
    // Alone, `a` would get the first address.
    write(&manifests, "a.yaml", &service("a"));
    let state = running.finish().await;
    let mut running = start_in(state, kind, None, context);
    let (second, _) = running.until(|part, _| part.tcp.len() == 2).await;
    assert_eq!(&*second.tcp[&b].service.name, "b");
}

#[test]
fn check_tells_everything_at_once() {
    let manifests = tempfile::tempdir().unwrap();
    write(&manifests, "a.yaml", &(ingress("a", "'*'") + "---\n{"));
    let lines: Vec<String> = check_directory(manifests.path(), &context())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("File a.yaml line ")
            && lines[1].starts_with("Ingress ns/a spec.rules[0].host: "),
        "{lines:?}"
    );
    assert_eq!(
        check_directory(&manifests.path().join("nope"), &context()).len(),
        1
    );
}
