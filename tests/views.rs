//! What the operator knows of the cluster: where it comes from, when it is cut, and that it is told.

use crate::{
    harness::{KEY, World, create, create_namespace, eventually, manifest, message_of, reason_of, unique},
    reliability::{
        Allowed,
        api_server::{spawn_through, through, through_with},
    },
};
use hyper::Method;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::{
    operator::Operator,
    proxy::{Action, Proxy, Rule},
};

/// The API server is killed in a drain, again and again. Replies to the operator's own writes come in while a list is under
/// way that does not show the objects any more: the application waited for them for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_goes_after_a_drain_in_which_the_api_server_was_killed_three_times() {
    let world = World::new().await;
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 300).await;
    world.drain_at(200).await;
    for part in 1..=3 {
        let enough = || async { world.simulator.calls().len() > part * 70 };
        eventually("a part of the drain", enough).await;
        world.plane.restart_api_server().await.unwrap();
    }
    world.all_gone(Duration::from_secs(90)).await;
    world.applications().delete(&world.app, &DeleteParams::default()).await.unwrap();
    eventually("the application is gone", || async {
        world.applications().get_opt(&world.app).await.unwrap().is_none()
    })
    .await;
    assert_eq!(world.simulator.calls().len(), 300);
    assert_eq!(world.simulator.population(), 0);
    // As many writes as the operator has under way at once, each time.
    world.verify_but(Allowed { lost: 96, ..Allowed::default() }).await;
}

/// A namespace whose finalizers are emptied by force leaves an object behind. Writes to that may be answered with a 404 that
/// speaks of the namespace, here by the proxy. The object is not gone, and goes when the namespace is there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_namespace_is_not_a_missing_object() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let operator = through(&world, &proxy).await;
    world.robot("held").await;
    world.ready("held").await;
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.waits_for("held", "Suspended").await;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}, "spec": {"finalizers": []}});
    let request = hyper::Request::put(format!("/api/v1/namespaces/{}/finalize", world.namespace));
    let request = request.header("Content-Type", "application/json").body(body.to_string().into_bytes());
    world.client.request_text(request.unwrap()).await.unwrap();
    eventually("there is no namespace", || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none()
    })
    .await;
    let path: &'static str = format!("/namespaces/{}/", world.namespace).leak();
    proxy.add(Rule { method: Method::PATCH, path, times: u32::MAX, action: Action::Answer(404) });
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    eventually("it is told that a write is refused", || async {
        operator.log().lines().any(|line| line.contains("the cluster refuses") && line.contains("namespaces"))
    })
    .await;
    proxy.heal();
    create_namespace(&world.client, &world.namespace).await;
    assert_eq!(world.left_with("held").await, "Deleted");
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

/// For how many seconds the view of a resource has been cut.
fn cut(operator: &Operator<'_>, resource: &str) -> Option<f64> {
    let text = operator.get("/metrics")?;
    let line = format!("roomrobot_view_cut_seconds{{resource=\"{resource}\"}} ");
    text.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok())
}

/// Of each of the resources that decisions depend on.
const RESOURCES: [(&str, &str); 3] =
    [("roomrobots", "/roomrobots"), ("rtcapplications", "/rtcapplications"), ("namespaces", "/namespaces")];

/// Lists and watches stay open and are never answered: an error in time, told by a metric and by readiness; and all is well
/// again soon after, though nothing in the cluster has changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_requests_hang_is_told_and_recovers() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let operator = through(&world, &proxy).await;
    world.robot("r").await;
    world.ready("r").await;
    for (resource, path) in RESOURCES {
        assert_eq!(cut(&operator, resource), Some(0.0), "{resource}");
        proxy.add(Rule { method: Method::GET, path, times: u32::MAX, action: Action::Hang });
    }
    proxy.cut_watches();
    eventually("the metric tells of each", || async {
        RESOURCES.iter().all(|(resource, _)| cut(&operator, resource).is_some_and(|age| age > 0.0))
    })
    .await;
    eventually("an error in time", || async {
        operator.log().contains("the API server did not answer within 30 s")
    })
    .await;
    eventually("it is not ready", || async {
        operator.get("/readyz").is_some_and(|text| text.contains(" 503 "))
    })
    .await;
    proxy.heal();
    eventually("all views are whole", || async {
        RESOURCES.iter().all(|(resource, _)| cut(&operator, resource) == Some(0.0))
    })
    .await;
    operator.wait_ready().await.unwrap();
    world.delete("r").await;
    world.gone("r").await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

/// A watch that fails once and goes on is no view that is cut, though nothing in the cluster changes that it could tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_what_never_changes_is_whole_again_after_its_watch_failed() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let operator = through(&world, &proxy).await;
    world.robot("r").await;
    world.ready("r").await;
    let views = ["roomrobots", "rtcapplications", "namespaces", "secrets"];
    for resource in views {
        let path: &'static str = format!("/{resource}?watch").leak();
        proxy.add(Rule { method: Method::GET, path, times: 1, action: Action::Answer(500) });
    }
    proxy.cut_watches();
    eventually("each watch has failed once", || async { proxy.left().is_empty() }).await;
    let start = Instant::now();
    eventually("all views are whole", || async {
        views.iter().all(|resource| cut(&operator, resource) == Some(0.0))
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(20), "after {:?}", start.elapsed());
    world.verify(0).await;
}

/// A shard of its own, with applications and robots named after it.
struct Shard<'a> {
    world: &'a World,
    name: String,
    proxy: Proxy,
}

impl Shard<'_> {
    fn args(&self) -> [String; 3] {
        ["--leader-elect=false".into(), "--selector".into(), format!("shard={}", self.name)]
    }

    async fn application(&self, name: &str, secret: &str) {
        self.world.application(name, json!({"credentials": {"secretRef": {"name": secret}}})).await;
    }

    async fn robot(&self, application: &str) {
        self.world.simulator.add_members(self.world.sdk_app_id, application, [application]);
        let spec = json!({"roomId": application, "memberAccount": application, "applicationRef": {"name": application}});
        let mut robot = manifest::<RoomRobot>(application, spec);
        robot["metadata"]["labels"] = json!({"shard": self.name});
        create(&self.world.robots(), robot).await;
    }

    async fn application_says(&self, name: &str) -> Option<String> {
        let application: RtcApplication = self.world.applications().get(name).await.unwrap();
        let conditions = application.status?.conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        Some(format!("{} {}", ready.reason, ready.message))
    }

    /// The Secrets cannot be read: told on the applications and on who waits, and over when they can be read again.
    async fn cannot_read(self, action: Action) {
        let world = self.world;
        let [old, moved, new] = ["old", "moved", "new"].map(|kind| format!("{}-{kind}", self.name));
        let fails =
            || self.proxy.add(Rule { method: Method::GET, path: "/secrets", times: u32::MAX, action });
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let before = through_with(world, &self.proxy, &args).await;
        for name in [&old, &moved] {
            self.application(name, &world.app).await;
            self.robot(name).await;
            world.ready(name).await;
        }
        world.secret(&format!("{moved}-2"), json!({"secretKey": KEY})).await;
        before.kill();
        fails();
        // At a restart, with a deletion that waits.
        world.delete(&old).await;
        let start = Instant::now();
        let operator = spawn_through(world, &self.proxy, &args).await;
        self.told(&old, start, action).await;
        self.proxy.heal();
        assert_eq!(world.left_with(&old).await, "Deleted", "{action:?}");
        fails();
        // A new application, and one that names another Secret.
        let secret = format!("{moved}-2");
        let start = Instant::now();
        self.application(&new, &format!("{new}-secret")).await;
        self.robot(&new).await;
        let patch = json!({"spec": {"credentials": {"secretRef": {"name": secret}}}});
        let patch = Patch::Merge(patch);
        world.applications().patch(&moved, &PatchParams::default(), &patch).await.unwrap();
        world.ready(&new).await;
        for name in [&moved, &new] {
            world.delete(name).await;
        }
        for name in [&moved, &new] {
            self.told(name, start, action).await;
        }
        world.secret(&format!("{new}-secret"), json!({"secretKey": KEY})).await;
        self.proxy.heal();
        for name in [&moved, &new] {
            assert_eq!(world.left_with(name).await, "Deleted", "{action:?}");
        }
        drop(operator);
    }

    async fn told(&self, name: &str, start: Instant, action: Action) {
        eventually("it is told on the application", || async {
            let says = self.application_says(name).await.unwrap_or_default();
            says.starts_with("SecretInvalid ") && says.contains("cannot be read")
        })
        .await;
        let waiting = self.world.waits_for(name, "ApplicationNotReady").await;
        assert!(message_of(&waiting, "RobotDeleted").contains("cannot be read"), "{waiting:?}");
        assert!(reason_of(&waiting, "RobotDeleted").is_some());
        let took = start.elapsed();
        println!("{action:?}: {name} is told after {took:?}");
        assert!(took < Duration::from_secs(15), "{action:?}: {name} is told after {took:?}");
    }
}

/// The Secret cannot be listed: decryption is down, the token or the right is gone, or no answer comes. At a restart, for a
/// new application, and after a changed `secretRef`; each way in a shard of its own, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_is_told_and_is_over_when_it_can() {
    let world = World::new().await;
    let actions = [Action::Answer(500), Action::Answer(401), Action::Answer(403), Action::Hang];
    let shards = actions.into_iter().map(async |action| {
        let shard =
            Shard { world: &world, name: unique("s"), proxy: Proxy::start(&world.plane).await.unwrap() };
        shard.cannot_read(action).await;
    });
    futures::future::join_all(shards).await;
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}
