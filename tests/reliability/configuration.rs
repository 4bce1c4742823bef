//! Secrets, applications, endpoints and policies change while deletions wait.

use super::{Allowed, api_server::through};
use crate::harness::{KEY, World, eventually, reason_of};
use hyper::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;
use testbed::{
    control_plane::OPERATOR_NAMESPACE,
    proxy::{Action, Proxy, Rule},
    simulator::{Fault, Kind, Simulator},
};

/// Deleted, emptied, replaced by a wrong and by the right one, all in one drain.
#[tokio::test(flavor = "multi_thread")]
async fn secret_deleted_emptied_and_replaced_in_a_drain() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 120).await;
    world.drain_at(20).await;
    let secrets = Api::<Secret>::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    eventually("the drain begins", || async { world.simulator.calls().len() > 10 }).await;
    secrets.delete(&world.app, &DeleteParams::default()).await.unwrap();
    world.application_until("SecretNotFound").await;
    let stopped = world.simulator.calls().len();
    world.secret(&world.app, json!({"other": "x"})).await;
    world.application_until("SecretInvalid").await;
    for (emptied, says) in [
        (json!({"stringData": {"secretKey": ""}, "data": {"other": null}}), "its secretKey is empty"),
        (json!({"data": null}), "it has neither secretKey nor userSig"),
    ] {
        secrets.patch(&world.app, &PatchParams::default(), &Patch::Merge(emptied)).await.unwrap();
        eventually(says, || async {
            let status = world.applications().get(&world.app).await.unwrap().status.unwrap();
            status
                .conditions
                .iter()
                .any(|ready| ready.reason == "SecretInvalid" && ready.message.contains(says))
        })
        .await;
    }
    assert!(world.simulator.calls().len() <= stopped + 1, "calls without a key");
    world.secret(&world.app, json!({"secretKey": "wrong"})).await;
    world.application_until("CredentialsRejected").await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
    assert_eq!(world.simulator.population(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_changed_in_a_drain() {
    let world = World::new().await;
    let other = Simulator::local().await.unwrap();
    other.add_app(world.sdk_app_id, KEY);
    let _operator = world.operator_with(&["--allow-endpoint", &other.endpoint()]).await;
    let names = world.crowd("r", 100).await;
    for name in &names {
        other.add_members(world.sdk_app_id, name, [name.as_str()]);
    }
    world.drain_at(25).await;
    eventually("the drain begins", || async { world.simulator.calls().len() > 20 }).await;
    world.patch_application(json!({"spec": {"endpoint": other.endpoint()}})).await;
    world.all_gone(Duration::from_secs(90)).await;
    let (before, after) = (world.simulator.calls().len(), other.calls().len());
    assert!(after > 0 && before + after == 100, "{before} and {after}");
    world.verify_but(Allowed { others: &[&other], ..Allowed::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_created_again_after_a_forced_removal_in_a_drain() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 60).await;
    // Slowly: some are left however late this test is.
    world.drain_at(5).await;
    eventually("the drain begins", || async { world.simulator.calls().len() > 10 }).await;
    // By force: the operator puts its finalizer back on what it still sees alive, so delete first.
    world.applications().delete(&world.app, &DeleteParams::default()).await.unwrap();
    world.patch_application(json!({"metadata": {"finalizers": null}})).await;
    eventually("all that are left wait for their application", || async {
        let left = world.robots().list(&ListParams::default()).await.unwrap().items;
        !left.is_empty()
            && left.iter().all(|robot| reason_of(robot, "RobotDeleted") == Some("ApplicationNotReady"))
    })
    .await;
    world.application(&world.app, json!({})).await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
    assert_eq!(world.simulator.calls().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_and_suspend_set_and_unset_while_deleting() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.fail(Fault::always(Kind::Code(100_001)));
    for name in ["a", "b"] {
        world.robot(name).await;
    }
    world.all_ready(2).await;
    world.delete_all().await;
    world.waits_for("a", "InternalError").await;
    world.patch("a", json!({"spec": {"suspend": true}})).await;
    world.waits_for("a", "Suspended").await;
    let calls = world.simulator.calls_about("a", "a").len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.simulator.calls_about("a", "a").len(), calls, "called while suspended");
    // Retain wins over suspend.
    world.patch("b", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    assert_eq!(world.left_with("b").await, "Retained");
    world.simulator.heal();
    world.patch("a", json!({"spec": {"suspend": false}})).await;
    assert_eq!(world.left_with("a").await, "Deleted");
    world.verify(0).await;
}

/// Chosen, and taken back before anything of it could be written.
#[tokio::test(flavor = "multi_thread")]
async fn retain_taken_back_in_time_does_not_count() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.robot("r").await;
    world.ready("r").await;
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    for path in ["/roomrobots", "/roomrobots/status"] {
        proxy.add(Rule { method: Method::PATCH, path, times: u32::MAX, action: Action::Answer(500) });
    }
    world.delete("r").await;
    eventually("a write is refused", || async { proxy.left().iter().any(|rule| rule.times < u32::MAX) })
        .await;
    world.patch("r", json!({"spec": {"deletionPolicy": "Delete"}})).await;
    eventually("it is called for", || async { !world.simulator.calls().is_empty() }).await;
    proxy.heal();
    assert_eq!(world.left_with("r").await, "Deleted");
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}
