use std::time::Duration;

use sekisho_config::model::{AddressPool, SourceKind};
use tokio::time::{sleep, timeout};

use super::{Running, context, host, ingress, start};
use crate::source::Connect;
use crate::test_api::{ApiServer, Fault};
use crate::translate::Context;

const CLASS: &str = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: sekisho}, spec: {controller: sekisho.io/ingress-controller}}";

fn cluster(server: &ApiServer, context: Context) -> Running {
    start(
        SourceKind::InCluster,
        Some(Connect::Client(server.client())),
        Context {
            class_by_name: false,
            ..context
        },
    )
}

/// Patches so far, as `path addresses`.
fn patches(server: &ApiServer) -> Vec<String> {
    server
        .patches()
        .into_iter()
        .map(|(path, patch)| {
            let entries = patch["status"]["loadBalancer"]["ingress"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let addresses: Vec<&str> = entries.iter().filter_map(|entry| entry["ip"].as_str()).collect();
            format!("{} {}", path.split_once('?').unwrap().0, addresses.join(" "))
                .trim_end()
                .to_owned()
        })
        .collect()
}

const WRITTEN: &str = "/apis/networking.k8s.io/v1/namespaces/ns/ingresses/a/status 198.51.100.1";
const CLEARED: &str = "/apis/networking.k8s.io/v1/namespaces/ns/ingresses/a/status";

/// Waits until so many patches have come, and looks whether more come.
async fn settled(server: &ApiServer, count: usize) -> Vec<String> {
    timeout(
        Duration::from_secs(1800),
        server.until(|server| server.patches().len() >= count),
    )
    .await
    .expect("in time");
    sleep(Duration::from_secs(60)).await;
    patches(server)
}

#[tokio::test(start_paused = true)]
async fn written_once_it_is_in_force_and_only_when_different() {
    let server = ApiServer::new();
    server.apply(&(CLASS.to_owned() + &ingress("a", "a.b")));
    let mut running = cluster(&server, context());
    running.publishing = false;
    running.until(|part, _| host(part, "a.b")).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(patches(&server), [""; 0], "not in force yet");
    running.handle.published(1);
    assert_eq!(settled(&server, 1).await, [WRITTEN]);
    let (path, patch) = server.patches().remove(0);
    assert!(
        path.contains("fieldManager=sekisho") && path.contains("force=true"),
        "{path}"
    );
    assert_eq!(patch["kind"], "Ingress");
    assert!((running.metric("sekisho_source_status_writes_total", "ok") - 1.0).abs() < 0.1);
    // It said the same before: nothing to write after a restart.
    drop(running);
    let mut again = cluster(&server, context());
    again.until(|part, _| host(part, "a.b")).await;
    assert_eq!(settled(&server, 1).await, [WRITTEN]);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_our_class_loses_our_entries_and_stopping_takes_nothing_away() {
    let server = ApiServer::new();
    server.apply(&(CLASS.to_owned() + &ingress("a", "a.b")));
    // Never ours: what stands in its status is none of our business.
    let foreign = ingress("foreign", "f.b").replace("ingressClassName: sekisho", "ingressClassName: other")
        + "status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}";
    server.apply(&foreign);
    let mut running = cluster(&server, context());
    running.until(|part, _| host(part, "a.b")).await;
    assert_eq!(settled(&server, 1).await, [WRITTEN]);
    let ours = server.object("ingresses", "ns", "a");
    let mut left = ours.clone();
    left["spec"]["ingressClassName"] = "other".into();
    server.apply(&left.to_string());
    running.until(|part, _| !host(part, "a.b")).await;
    assert_eq!(settled(&server, 2).await, [WRITTEN, CLEARED]);
    assert!(
        !server.patches()[1].0.contains("force"),
        "{:?}",
        server.patches()[1]
    );
    server.apply(&ours.to_string().replace("198.51.100.1", "198.51.100.7"));
    running.until(|part, _| host(part, "a.b")).await;
    assert_eq!(settled(&server, 3).await, [WRITTEN, CLEARED, WRITTEN]);
    running.stop.cancel();
    running.tasks.close();
    timeout(Duration::from_secs(10), running.tasks.wait())
        .await
        .expect("ends");
    assert_eq!(patches(&server).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_object_made_anew_does_not_wait_for_the_echo_of_its_forerunner() {
    let server = ApiServer::new();
    server.apply(&(CLASS.to_owned() + &ingress("a", "a.b")));
    let mut running = cluster(&server, context());
    running.until(|part, _| host(part, "a.b")).await;
    server.until(|server| server.patches().len() == 1).await;
    server.delete("ingresses", "ns", "a");
    running.until(|part, _| !host(part, "a.b")).await;
    server.apply(&ingress("a", "a.b"));
    running.until(|part, _| host(part, "a.b")).await;
    timeout(
        Duration::from_secs(2),
        server.until(|server| server.patches().len() == 2),
    )
    .await
    .expect("written at once");
    assert_eq!(patches(&server), [WRITTEN, WRITTEN]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again() {
    let server = ApiServer::new();
    server.apply(&(CLASS.to_owned() + &ingress("a", "a.b")));
    server.fault("patch", Fault::Status(403));
    let mut running = cluster(&server, context());
    running.until(|part, _| host(part, "a.b")).await;
    sleep(Duration::from_secs(600)).await;
    let tried = server.requests("patch").len();
    assert!((40..90).contains(&tried), "{tried}");
    server.repair();
    assert_eq!(settled(&server, 1).await, [WRITTEN]);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_writes_against_us_is_answered_slowly() {
    let server = ApiServer::new();
    server.apply(&(CLASS.to_owned() + &ingress("a", "a.b")));
    let mut running = cluster(&server, context());
    running.until(|part, _| host(part, "a.b")).await;
    for _ in 0..600 {
        server.apply(
            &server
                .object("ingresses", "ns", "a")
                .to_string()
                .replace("198.51.100.1", "203.0.113.9"),
        );
        sleep(Duration::from_millis(100)).await;
    }
    let count = patches(&server).len();
    assert!((5..9).contains(&count), "{count} writes in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_its_address() {
    let server = ApiServer::new();
    server.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: ns}, spec: {type: LoadBalancer, ports: [{port: 5432}]}}",
    );
    let pool = AddressPool {
        name: "public".into(),
        addresses: vec!["192.0.2.0/29".parse().unwrap()],
        announce_to: Vec::new(),
        announcement: Default::default(),
    };
    let mut running = cluster(
        &server,
        Context {
            vips: vec![pool],
            ..context()
        },
    );
    running.until(|part, _| part.tcp.len() == 1).await;
    assert_eq!(
        settled(&server, 1).await,
        ["/api/v1/namespaces/ns/services/db/status 192.0.2.1"]
    );
}
