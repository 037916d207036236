//! The cluster source against an API server in memory, in paused time.

use std::time::Duration;

use sekisho_config::model::ObjectName;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Cluster, Connect};
use crate::metrics::Metrics;
use crate::source::Published;
use crate::test_api::{ApiServer, Fault, Gone};
use crate::translate::{Context, References};
use crate::view::Health;
use crate::world::{Kind, World};

struct Source {
    server: ApiServer,
    health: Health,
    views: watch::Receiver<Option<Published>>,
    _stop: DropGuard,
}

fn start(server: &ApiServer) -> Source {
    start_naming(server, crate::translate::references)
}

fn start_naming(server: &ApiServer, references: super::Wished) -> Source {
    let stop = CancellationToken::new();
    let health = Health::new("cluster", "test".to_owned(), &Kind::NEEDED.map(Some));
    let (publish, views) = watch::channel(None);
    let cluster = Cluster {
        connect: Connect::Client(server.client()),
        health: health.clone(),
        metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        publish,
        client: watch::channel(None).0,
        nodes: false,
        context: watch::channel(crate::tests::context()).1,
        references,
        stop: stop.clone(),
    };
    #[expect(clippy::disallowed_methods, reason = "ended by the guard")]
    tokio::spawn(cluster.run());
    Source {
        server: server.clone(),
        health,
        views,
        _stop: stop.drop_guard(),
    }
}

impl Source {
    /// Waits for a view in which `check` holds; half an hour is long enough for every backoff.
    async fn until(&mut self, check: impl Fn(&World) -> bool) -> Published {
        let found = timeout(
            Duration::from_secs(1800),
            self.views
                .wait_for(|view| view.as_ref().is_some_and(|view| check(&view.world))),
        );
        found.await.expect("in time").unwrap().clone().unwrap()
    }

    fn ingresses(&self) -> Vec<String> {
        self.views
            .borrow()
            .iter()
            .flat_map(|view| {
                view.world
                    .ingresses
                    .keys()
                    .map(|name| name.name.to_string())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn error(&self, kind: Kind) -> String {
        let view = self.health.view();
        view.kinds
            .iter()
            .find(|view| view.kind == kind.as_str())
            .and_then(|view| view.last_error.clone())
            .unwrap_or_default()
    }
}

fn ingress(name: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: {name}, namespace: ns}}, spec: {{ingressClassName: sekisho}}}}"
    )
}

fn has(name: &'static str) -> impl Fn(&World) -> bool {
    move |world| world.ingresses.contains_key(&ObjectName::new("ns", name))
}

#[tokio::test(start_paused = true)]
async fn nothing_before_every_first_list_is_complete() {
    let server = ApiServer::new();
    server.apply(&ingress("a"));
    server.fault("list secrets", Fault::Hang);
    let mut source = start(&server);
    sleep(Duration::from_secs(20)).await;
    assert!(source.views.borrow().is_none());
    assert!(!source.health.view().synced);
    // Longer than an answer may take: tried again, and told.
    sleep(Duration::from_secs(60)).await;
    assert!(
        source.error(Kind::Secret).contains("nothing heard for 30 s"),
        "{}",
        source.error(Kind::Secret)
    );
    assert_eq!(source.error(Kind::Ingress), "");
    server.repair();
    source.until(has("a")).await;
    let view = source.health.view();
    assert!(view.synced && view.last_error.is_none(), "{view:?}");
    assert_eq!(view.objects["Ingress"], 1);
}

#[tokio::test(start_paused = true)]
async fn changes_arrive() {
    let server = ApiServer::new();
    let mut source = start(&server);
    source.until(|_| true).await;
    server.apply(&ingress("a"));
    source.until(has("a")).await;
    server.apply(&ingress("a").replace("sekisho", "other"));
    source
        .until(|world| {
            world
                .ingresses
                .values()
                .all(|ingress| ingress.class_name.as_deref() == Some("other"))
        })
        .await;
    server.delete("ingresses", "ns", "a");
    source.until(|world| !has("a")(world)).await;
    assert_eq!(server.requests("list").len(), 5, "one list for each kind");
}

#[tokio::test(start_paused = true)]
async fn pages_make_one_list_and_an_expired_page_starts_over() {
    let server = ApiServer::new();
    server.page(2);
    for name in ["a", "b", "c", "d", "e"] {
        server.apply(&ingress(name));
    }
    let mut source = start(&server);
    source.until(|_| true).await;
    assert_eq!(source.ingresses(), ["a", "b", "c", "d", "e"]);
    assert_eq!(server.requests("list ingresses").len(), 3);

    // The second page is refused once: nothing of the first may show.
    let server = ApiServer::new();
    server.page(2);
    for name in ["a", "b", "c"] {
        server.apply(&ingress(name));
    }
    let expiring = server.clone();
    server.fault("watch", Fault::Status(500));
    let mut source = start(&server);
    source.until(|_| true).await;
    expiring.compact(Gone::Status);
    expiring.delete("ingresses", "ns", "a");
    expiring.repair();
    let view = source.until(|world| !has("a")(world)).await;
    assert_eq!(view.world.ingresses.len(), 2);
}

/// A version that is no longer known is answered in one of two ways; both lead to a new list, and what went away meanwhile goes.
#[tokio::test(start_paused = true)]
async fn gone_in_both_forms() {
    for gone in [Gone::Status, Gone::Event] {
        for broken in [false, true] {
            let server = ApiServer::new();
            server.apply(&ingress("a"));
            server.apply(&ingress("b"));
            let mut source = start(&server);
            source.until(has("a")).await;
            server
                .until(|server| server.requests("watch ingresses").len() == 1)
                .await;
            server.fault("watch", Fault::Break);
            server.drop_watches(broken);
            server.delete("ingresses", "ns", "a");
            server.compact(gone);
            server.apply(&ingress("c"));
            assert_eq!(source.ingresses(), ["a", "b"]);
            server.repair();
            source.until(has("c")).await;
            assert_eq!(source.ingresses(), ["b", "c"], "{gone:?} {broken}");
            assert_eq!(server.requests("list ingresses").len(), 2, "{gone:?} {broken}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_event_in_a_running_watch_starts_over() {
    let server = ApiServer::new();
    let mut source = start(&server);
    source.until(|_| true).await;
    // The history is forgotten while the watches run; they end; the next ones are answered 410 by event.
    server.until(|server| server.requests("watch").len() == 5).await;
    server.compact(Gone::Event);
    server.apply(&ingress("late"));
    server.drop_watches(false);
    source.until(has("late")).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_goes_on_where_it_was() {
    for broken in [false, true] {
        let server = ApiServer::new();
        server.apply(&ingress("a"));
        let mut source = start(&server);
        source.until(has("a")).await;
        server
            .until(|server| server.requests("watch ingresses").len() == 1)
            .await;
        server.bookmark();
        sleep(Duration::from_secs(1)).await;
        server.drop_watches(broken);
        server.apply(&ingress("b"));
        source.until(has("b")).await;
        assert_eq!(
            server.requests("list ingresses").len(),
            1,
            "no new list is needed"
        );
        // 101 is the Ingress, 102 the bookmark.
        assert!(
            server
                .requests("watch ingresses")
                .contains(&"watch ingresses 102".to_owned()),
            "{:?}",
            server.requests("watch ingresses")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_an_hour_changes_nothing() {
    let server = ApiServer::new();
    server.apply(&ingress("a"));
    let mut source = start(&server);
    source.until(has("a")).await;
    server.until(|server| server.requests("watch").len() == 5).await;
    server.fault("", Fault::Break);
    server.drop_watches(true);
    server.apply(&ingress("b"));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(source.ingresses(), ["a"]);
    let view = source.health.view();
    assert!(view.synced && view.age_seconds >= Some(3590), "{view:?}");
    assert!(
        view.last_error.as_ref().unwrap().contains("connection refused"),
        "{view:?}"
    );
    // Patient: one request for each kind in 7.5 to 15 s.
    let tried = server.requests("").len();
    assert!((5 * 3600 / 15..5 * 3600 / 7).contains(&tried), "{tried}");
    assert_eq!(
        server.requests("list").len(),
        5,
        "what it has not forgotten need not be listed anew"
    );
    server.repair();
    source.until(has("b")).await;
    // The first that gets through takes the others along.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(source.health.view().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn quiet_watches_are_renewed_and_dead_ones_noticed() {
    let server = ApiServer::new();
    let mut source = start(&server);
    source.until(|_| true).await;
    sleep(Duration::from_secs(600)).await;
    let view = source.health.view();
    assert!(
        view.last_error.is_none() && view.age_seconds < Some(95),
        "{view:?}"
    );
    assert_eq!(server.requests("list").len(), 5);
    server.deaf();
    sleep(Duration::from_secs(300)).await;
    assert!(server.requests("watch").len() > 5 * 600 / 95);
    let errors = source
        .health
        .view()
        .kinds
        .into_iter()
        .filter_map(|kind| kind.last_error)
        .count();
    // Each silence is noticed within two minutes; a new watch that starts takes the error away again.
    assert!(
        errors <= 5 && server.requests("watch ingresses").len() > 8,
        "{:?}",
        server.requests("watch ingresses")
    );
    assert_eq!(server.requests("list").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_and_waited_for() {
    let server = ApiServer::new();
    server.fault("list secrets", Fault::Status(403));
    let mut source = start(&server);
    sleep(Duration::from_secs(300)).await;
    assert!(source.views.borrow().is_none());
    assert_eq!(
        source.error(Kind::Secret),
        "not permitted to list secrets; add the rule apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"list\", \"watch\"] \
         (deploy/kubernetes/rbac.yaml has them all)"
    );
    server.repair();
    source.until(|_| true).await;
    assert_eq!(source.error(Kind::Secret), "");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_keeps_what_it_said() {
    let server = ApiServer::new();
    server.apply(&ingress("a"));
    server.apply(&ingress("never-good").replace("{ingressClassName: sekisho}", "{rules: 7}"));
    let mut source = start(&server);
    let view = source.until(has("a")).await;
    assert_eq!(view.findings.len(), 1, "{:?}", view.findings);
    server.apply(&ingress("a").replace("{ingressClassName: sekisho}", "{rules: 7}"));
    server.apply(&ingress("b"));
    let view = source.until(has("b")).await;
    assert!(has("a")(&view.world));
    let view = source.until(|_| true).await;
    assert!(
        view.findings
            .iter()
            .any(|finding| finding.to_string().starts_with("Ingress ns/a: cannot be read: ")),
        "{:?}",
        view.findings
    );
    server.apply(&ingress("a"));
    server.apply(&ingress("c"));
    let view = source.until(has("c")).await;
    assert_eq!(view.findings.len(), 1, "{:?}", view.findings);
}

#[tokio::test(start_paused = true)]
async fn only_tls_secrets_are_asked_for() {
    let server = ApiServer::new();
    let mut source = start(&server);
    source.until(|_| true).await;
    source.server.apply("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: ns}, type: kubernetes.io/tls, data: {tls.crt: eA==, tls.key: eA==}}");
    let view = source.until(|world| world.count(Kind::Secret) == 1).await;
    assert!(
        view.world
            .secrets
            .values()
            .all(|secret| secret.certificate.is_err())
    );
}

/// What the class of an Ingress is followed by, as far as these tests go: names of a Secret and of a ConfigMap.
fn names(world: &World, _: &Context) -> References {
    let named = world.ingresses.values().flat_map(|ingress| {
        let named = |kind, annotation| {
            let name = ingress.annotations.get(annotation)?;
            Some((
                kind,
                ObjectName::new(ingress.name.namespace.clone(), name.clone()),
            ))
        };
        [
            named(Kind::NamedSecret, "sekisho.io/test-secret"),
            named(Kind::ConfigMap, "sekisho.io/test-config-map"),
        ]
    });
    References {
        watched: named.flatten().collect(),
        beyond: [].into(),
    }
}

fn naming(name: &str, annotations: &str) -> String {
    ingress(name).replace(
        "namespace: ns",
        &format!("namespace: ns, annotations: {{{annotations}}}"),
    )
}

const SECRET: &str = "sekisho.io/test-secret: users";

fn users(namespace: &str, auth: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: users, namespace: {namespace}}}, type: Opaque, stringData: {{auth: {auth}, token: hunter2}}}}"
    )
}

fn auth(world: &World) -> Result<String, String> {
    let reference = (Kind::NamedSecret, ObjectName::new("ns", "users"));
    let content = world.content(&reference)?;
    Ok(String::from_utf8(content.get("auth").unwrap().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_an_annotation_names_is_there_with_the_ingress_and_nothing_else_is_asked_for() {
    let server = ApiServer::new();
    server.apply(&users("ns", "one"));
    server.apply(&users("other", "no"));
    server.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: pages, namespace: ns}, data: {404: gone}}",
    );
    server.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: private, namespace: ns}, data: {a: b}}");
    server.apply(&naming(
        "a",
        &format!("{SECRET}, sekisho.io/test-config-map: pages"),
    ));
    let mut source = start_naming(&server, names);
    let view = source.until(has("a")).await;
    assert_eq!(auth(&view.world), Ok("one".to_owned()));
    let held: Vec<String> = view
        .world
        .contents
        .keys()
        .map(|(kind, name)| format!("{kind} {name}"))
        .collect();
    assert_eq!(held, ["Secret ns/users", "ConfigMap ns/pages"]);
    assert_eq!(server.requests("list configmaps"), ["list configmaps ns/pages"]);
    // A change of it arrives, its end as well, and that it is there again.
    server.apply(&users("ns", "two"));
    source.until(|world| auth(world) == Ok("two".to_owned())).await;
    server.delete("secrets", "ns", "users");
    let gone = "there is no Secret ns/users; create it";
    source.until(|world| auth(world) == Err(gone.to_owned())).await;
    server.apply(&users("ns", "three"));
    source.until(|world| auth(world) == Ok("three".to_owned())).await;
    // When no annotation names it any more it is forgotten, and not watched.
    server.apply(&ingress("a"));
    source.until(|world| world.contents.is_empty()).await;
    let asked = server.requests("watch secrets ns/users").len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.requests("watch secrets ns/users").len(), asked);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_asked_for_holds_nothing_up() {
    for (fault, why) in [
        (Fault::Hang, "it has not been read yet"),
        (Fault::Status(403), "not permitted to list configmaps"),
    ] {
        let server = ApiServer::new();
        server.apply(&naming("a", "sekisho.io/test-config-map: pages"));
        server.fault("list configmaps", fault);
        let mut source = start_naming(&server, names);
        let begin = tokio::time::Instant::now();
        let view = source.until(has("a")).await;
        assert!(begin.elapsed() < Duration::from_secs(3));
        let pages = (Kind::ConfigMap, ObjectName::new("ns", "pages"));
        let said = view.world.content(&pages).unwrap_err();
        assert!(
            said.starts_with("ConfigMap ns/pages is not known: ") && said.contains(why),
            "{said}"
        );
        server.repair();
        let gone = "there is no ConfigMap ns/pages; create it";
        source
            .until(|world| world.content(&pages) == Err(gone.to_owned()))
            .await;
        assert!(source.health.view().synced);
    }
}

/// What is known stays in use while it cannot be asked for, and a Secret that is broken keeps what it said.
#[tokio::test(start_paused = true)]
async fn a_named_object_outlives_the_api_server() {
    let server = ApiServer::new();
    server.apply(&users("ns", "one"));
    server.apply(&naming("a", SECRET));
    let mut source = start_naming(&server, names);
    source.until(|world| auth(world).is_ok()).await;
    server.fault("", Fault::Status(403));
    server.drop_watches(true);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        auth(&source.views.borrow().clone().unwrap().world),
        Ok("one".to_owned())
    );
    server.repair();
    server.apply("{apiVersion: v1, kind: Secret, metadata: {name: users, namespace: ns}, type: Opaque, data: {auth: '!hunter2!'}}");
    server.apply(&ingress("b"));
    let view = source.until(has("b")).await;
    assert_eq!(auth(&view.world), Ok("one".to_owned()));
    source.until(|_| true).await;
    let view = timeout(
        Duration::from_secs(600),
        source
            .views
            .wait_for(|view| view.as_ref().is_some_and(|view| !view.findings.is_empty())),
    );
    let findings = view.await.expect("in time").unwrap().clone().unwrap().findings;
    assert_eq!(
        findings[0].to_string(),
        "Secret ns/users: cannot be read: a field has the wrong type; what it said before stays in use"
    );
}

/// A name that is new holds the view back for the moment that its object needs, so that its Ingress never stands closed.
#[tokio::test(start_paused = true)]
async fn an_annotation_that_changes_is_seen_together_with_its_object() {
    let server = ApiServer::new();
    server.apply(&users("ns", "one"));
    server.apply(&ingress("a"));
    let mut source = start_naming(&server, names);
    source.until(has("a")).await;
    for round in 0..20 {
        server.apply(&naming(
            "a",
            if round % 2 == 0 {
                SECRET
            } else {
                "sekisho.io/other: x"
            },
        ));
        let named = |world: &World| {
            world
                .ingresses
                .values()
                .any(|ingress| ingress.annotations.contains_key("sekisho.io/test-secret"))
        };
        let view = source.until(|world| named(world) == (round % 2 == 0)).await;
        assert_eq!(auth(&view.world).is_ok(), round % 2 == 0);
    }
}
