use crate::model::{Settings, SourceKind};

/// The keys whose change between `old` and `new` needs a restart: they name a socket or a file of the process, or are
/// fixed when it starts. Everything else is applied by a reload.
///
/// A running box keeps the old values of these keys, and should say so.
pub fn restart_needed(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut differs = |key, differs: bool| {
        if differs {
            keys.push(key);
        }
    };
    let (a, b) = (&old.appliance, &new.appliance);
    differs("appliance.name", a.name != b.name);
    differs("appliance.state_dir", a.state_dir != b.state_dir);
    differs("appliance.run_dir", a.run_dir != b.run_dir);
    differs("appliance.admin", a.admin != b.admin);
    differs("appliance.workers", a.workers != b.workers);
    let (a, b) = (&old.source, &new.source);
    let manifests = |kind: &SourceKind| matches!(kind, SourceKind::Manifests(_));
    if a.kind != b.kind {
        differs("source.manifests", manifests(&a.kind) || manifests(&b.kind));
        differs("source.kubeconfig", !manifests(&a.kind) || !manifests(&b.kind));
    }
    differs("source.routing", a.routing != b.routing);
    match (&old.bgp, &new.bgp) {
        (Some(a), Some(b)) => {
            differs("bgp.listen", a.listen != b.listen);
        }
        (None, None) => {}
        (None, Some(_)) | (Some(_), None) => differs("bgp", true),
    }
    // Its worker starts with the process; without the section it is only idle.
    differs("acme", old.acme.is_none() && new.acme.is_some());
    keys
}

/// What a running box takes of `next`: everything but the keys of [`restart_needed`], which stay as they run.
///
/// Compare the next reload with this, not with the file: what still waits for a restart is then said again.
pub fn applied(running: &Settings, next: &Settings) -> Settings {
    let mut settings = next.clone();
    settings.appliance = running.appliance.clone();
    settings.source.kind = running.source.kind.clone();
    settings.source.routing = running.source.routing;
    match (&running.bgp, &mut settings.bgp) {
        (Some(running), Some(bgp)) => {
            bgp.listen.clone_from(&running.listen);
        }
        (running, bgp) => bgp.clone_from(running),
    }
    if running.acme.is_none() {
        settings.acme = None;
    }
    settings
}
