//! Promise 3: a deletion that waits says for what, a metric counts it, and `Retain` releases it at once.

use crate::harness::{KEY, World, conditions, is_true, message_of, reason_of};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::simulator::Kind;

/// The codes that hold a robot or its application, what its condition says, and what its application's says.
#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_shows_its_own_reason_and_retain_releases_at_once() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for (code, reason, application) in [
        (100_002, "InvalidParameter", None),
        (100_006, "PermissionDenied", None),
        (70009, "CredentialsRejected", Some("CredentialsRejected")),
        (60010, "PermissionDenied", Some("PermissionDenied")),
        (60020, "ApplicationNotReady", Some("PlanExceeded")),
    ] {
        let name = format!("code-{code}");
        let waiting = world.stuck(&name, Kind::Code(code), reason).await;
        let call = &world.simulator.calls_about(&name, &name)[0];
        let message = message_of(&waiting, "RobotDeleted");
        assert!(message.ends_with(&format!("ErrorCode {code}, RequestId {}", call.request_id)), "{message}");
        assert!(is_true(&waiting, "Stalled"), "{code}: {:?}", conditions(&waiting));
        if let Some(application) = application {
            world.application_until(application).await;
        }
        let start = Instant::now();
        world.patch(&name, json!({"spec": {"deletionPolicy": "Retain"}})).await;
        assert_eq!(reason_of(&world.gone(&name).await, "RobotDeleted"), Some("Retained"));
        assert!(start.elapsed() < Duration::from_secs(2), "released after {:?}", start.elapsed());
        assert_eq!(world.simulator.calls_about(&name, &name).len(), 1, "{code}");
        // A change of the application's spec lets its calls start again at once.
        if application.is_some() {
            world.patch_application(json!({"spec": {"requestsPerSecond": 100 + code % 100}})).await;
            world.application_until("CredentialsLoaded").await;
        }
    }
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_application_a_refused_namespace_and_their_mends_show_on_the_robot() {
    let world = World::bare().await;
    let _operator = world.operator().await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.robot("r").await;
    let refused = |reason: &'static str| move |robot: &_| reason_of(robot, "Accepted") == Some(reason);
    let waiting = world.robot_until("r", "ApplicationNotFound", refused("ApplicationNotFound")).await;
    assert!(is_true(&waiting, "Stalled") && !is_true(&waiting, "Ready"));
    assert!(waiting.metadata.finalizers.is_none(), "nothing is owned yet");
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"robots": "yes"}}}});
    world.application(&world.app, selector).await;
    world.robot_until("r", "NamespaceNotAllowed", refused("NamespaceNotAllowed")).await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"robots": "yes"}}}));
    kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone())
        .patch(&world.namespace, &PatchParams::default(), &label)
        .await
        .unwrap();
    world.ready("r").await;
    // Checked at acceptance only: the label may go again.
    let label = Patch::Merge(json!({"metadata": {"labels": {"robots": null}}}));
    kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone())
        .patch(&world.namespace, &PatchParams::default(), &label)
        .await
        .unwrap();
    let accepted = world.robot_until("r", "stays accepted", |robot| is_true(robot, "Accepted")).await;
    assert!(!is_true(&accepted, "Stalled"));
    // And so may the selector's other side.
    let other = json!({"spec": {"allowedNamespaces": {"selector": {"matchLabels": {"robots": "no"}}}}});
    world.patch_application(other).await;
    world.delete("r").await;
    assert_eq!(reason_of(&world.gone("r").await, "RobotDeleted"), Some("Deleted"));
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_lacks_shows_on_it_and_on_each_deletion_that_waits() {
    let world = World::bare().await;
    let _operator = world.operator().await;
    world.application(&world.app, json!({})).await;
    world.application_until("SecretNotFound").await;
    world.robot("r").await;
    // Taking charge needs no credentials: the robot is owned from now on.
    world.ready("r").await;
    world.delete("r").await;
    let waiting = world.waits_for("r", "ApplicationNotReady").await;
    assert!(message_of(&waiting, "RobotDeleted").contains("does not exist in the operator's namespace"));
    world.secret(&world.app, json!({"key": KEY})).await;
    world.application_until("SecretInvalid").await;
    world.secret(&world.app, json!({"secretKey": "wrong"})).await;
    world.application_until("CredentialsRejected").await;
    let waiting = world.waits_for("r", "CredentialsRejected").await;
    assert!(message_of(&waiting, "RobotDeleted").contains("ErrorCode 70009, RequestId Id-"));
    world.patch_application(json!({"spec": {"endpoint": "https://not-the-vendor.example"}})).await;
    let application = world.application_until("EndpointNotAllowed").await;
    let message = &application.status.unwrap().conditions[0].message;
    assert!(message.contains("--allow-endpoint https://not-the-vendor.example"), "{message}");
    world.waits_for("r", "ApplicationNotReady").await;
    world.patch_application(json!({"spec": {"endpoint": world.simulator.endpoint()}})).await;
    world.application_until("CredentialsRejected").await;
    // The right key is picked up without a restart, and at once.
    let start = Instant::now();
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    assert_eq!(reason_of(&world.gone("r").await, "RobotDeleted"), Some("Deleted"));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    world.application_until("Verified").await;
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_holds_calls_of_a_robot_and_of_an_application_visibly() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.robot("one").await;
    world.robot("two").await;
    world.all_ready(2).await;
    world.patch("one", json!({"spec": {"suspend": true}})).await;
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    world.application_until("Suspended").await;
    world.delete_all().await;
    let one = world.waits_for("one", "Suspended").await;
    let two = world.waits_for("two", "Suspended").await;
    assert!(message_of(&one, "RobotDeleted").starts_with("spec.suspend is true"));
    assert!(message_of(&two, "RobotDeleted").contains(&world.app));
    let metrics = operator.get("/metrics").unwrap();
    let counted =
        format!("roomrobot_deletions_pending{{application=\"{}\",reason=\"Suspended\"}} 2", world.app);
    assert!(metrics.contains(&counted), "{metrics}");
    assert_eq!(world.simulator.calls().len(), 0);
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    world.gone("two").await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.patch("one", json!({"spec": {"suspend": false}})).await;
    world.gone("one").await;
    world.verify(0).await;
}

/// The way out needs neither credentials nor the API, nor an application.
#[tokio::test(flavor = "multi_thread")]
async fn retain_needs_nothing() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("r").await;
    world.ready("r").await;
    world.delete_application_by_force().await;
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    world.delete("r").await;
    let last = world.gone("r").await;
    assert_eq!(reason_of(&last, "RobotDeleted"), Some("Retained"));
    assert_eq!(world.simulator.calls().len(), 0);
    assert_eq!(world.simulator.population(), 1);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_deletion_shows_on_its_application_too() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.stuck("held", Kind::Code(100_006), "PermissionDenied").await;
    // Told within the half minute that coarse news may take.
    let application = world.application_until_within("DeletionsStalled", Duration::from_secs(40)).await;
    let status = application.status.unwrap();
    assert!(status.conditions[0].message.contains(&format!("{}/held", world.namespace)), "{status:?}");
    assert_eq!((status.robots, status.deleting), (Some(1), Some(1)));
    world.verify(0).await;
}
