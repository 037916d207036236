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
            differs("bgp.install_routes", a.install_routes != b.install_routes);
            differs("bgp.table", a.table != b.table);
        }
        (None, None) => {}
        (None, Some(_)) | (Some(_), None) => differs("bgp", true),
    }
    keys
}
