//! Promise 2: an accepted robot leaves Kubernetes only after a final answer, or after a person chose `Retain`.

use crate::harness::{World, create, eventually, is_true, manifest, message_of, reason_of};
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use roomrobot_core::{crd::RoomRobot, engine::Announcement, status::Reason};
use roomrobot_operator::kubernetes::publish;
use serde_json::json;
use std::time::Duration;
use testbed::simulator::{Fault, Kind};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_code_is_never_success() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.fail(Fault::always(Kind::Code(424_242)));
    world.robot("odd").await;
    world.ready("odd").await;
    world.delete("odd").await;
    let waiting = world.waits_for("odd", "UnknownErrorCode").await;
    assert!(is_true(&waiting, "Stalled") && !is_true(&waiting, "RobotDeleted"));
    assert!(message_of(&waiting, "RobotDeleted").contains("ErrorCode 424242, RequestId Id-"));
    // The slow retry takes a minute; a change of the spec starts at once.
    world.simulator.heal();
    world.patch("odd", json!({"spec": {"suspend": true}})).await;
    world.waits_for("odd", "Suspended").await;
    world.patch("odd", json!({"spec": {"suspend": false}})).await;
    assert_eq!(reason_of(&world.gone("odd").await, "RobotDeleted"), Some("Deleted"));
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_deleted_while_no_operator_runs_is_deleted_later() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.crowd("r", 5).await;
    operator.kill();
    world.delete_all().await;
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.calls().len(), 5);
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// Born with its finalizer, deleted before anybody could accept it.
#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_was_stored_with_the_finalizer_is_accepted_on_its_way_out() {
    let world = World::new().await;
    world.simulator.add_members(world.sdk_app_id, "early", ["early"]);
    let mut early = manifest::<RoomRobot>(
        "early",
        json!({"roomId": "early", "memberAccount": "early", "applicationRef": {"name": world.app}}),
    );
    early["metadata"]["finalizers"] = json!(["roomrobot.dev/delete-robot"]);
    create(&world.robots(), early.clone()).await;
    world.delete("early").await;
    let stray = {
        early["metadata"]["name"] = json!("stray");
        early["spec"]["applicationRef"]["name"] = json!("no-such-app");
        early
    };
    create(&world.robots(), stray).await;
    world.delete("stray").await;
    let _operator = world.operator().await;
    let last = world.gone("early").await;
    assert!(is_true(&last, "Accepted"));
    assert_eq!(reason_of(&last, "RobotDeleted"), Some("Deleted"));
    // Nothing was ever owned of the other: it goes without a call.
    world.gone("stray").await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_was_dropped_is_put_back() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("kept").await;
    world.ready("kept").await;
    // What a person wrote, which has no finalizer.
    let spec = json!({"roomId": "kept", "memberAccount": "kept", "applicationRef": {"name": world.app}});
    let file = manifest::<RoomRobot>("kept", spec).to_string();
    world.plane.run_kubectl(&["-n", &world.namespace, "replace", "-f", "-"], Some(&file)).unwrap();
    world
        .robot_until("kept", "has its finalizer again", |robot| {
            robot.metadata.finalizers.as_ref().is_some_and(|list| list == &["roomrobot.dev/delete-robot"])
        })
        .await;
    world.delete("kept").await;
    world.gone("kept").await;
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_takes_its_robots_with_it() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.simulator.fail(Fault::always(Kind::Http(503)));
    world.crowd("r", 10).await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.waits_for("r-0", "UnexpectedReply").await;
    // Events of a dying namespace are stored with the operator.
    eventually("an Event in the operator's namespace", || async {
        let events = world.events_about("r-0").await;
        events.iter().any(|event| event.metadata.namespace.as_deref() == Some("roomrobot-system"))
    })
    .await;
    drop(operator);
    world.simulator.heal();
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    eventually("the namespace is gone", || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none()
    })
    .await;
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
    // The robots may be seen to go a moment before their namespace is.
    assert!(world.refused_creations() <= 10, "{}", world.refused_creations());
}

/// The watch of robots may be ahead of that of namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_a_namespace_that_has_just_begun_to_go_is_stored_with_the_operator() {
    let world = World::new().await;
    let robot = world.robot("held").await;
    world.patch("held", json!({"metadata": {"finalizers": ["example.com/held"]}})).await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let announcement = Announcement {
        namespace: world.namespace.as_str().into(),
        kind: "RoomRobot",
        regarding_namespace: Some(world.namespace.as_str().into()),
        name: "held".into(),
        uid: robot.metadata.uid.unwrap().into(),
        warning: true,
        reason: Reason::Unreachable,
        action: "DeleteRobot",
        note: "nobody is there".to_owned(),
        at: Timestamp::now(),
    };
    publish(&world.client, &announcement, "pod", "roomrobot-system").await.unwrap();
    let events = world.events_about("held").await;
    let places: Vec<_> = events.iter().map(|event| event.metadata.namespace.as_deref().unwrap()).collect();
    assert_eq!(places, ["roomrobot-system"]);
    world.patch("held", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_in_use_stays_until_its_robots_are_gone() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 3).await;
    let application = world.applications().get(&world.app).await.unwrap();
    assert_eq!(application.metadata.finalizers.unwrap(), ["roomrobot.dev/in-use"]);
    world.applications().delete(&world.app, &DeleteParams::default()).await.unwrap();
    // It takes no new robot in charge, not even one that has the finalizer already.
    let spec = json!({"roomId": "late", "memberAccount": "late", "applicationRef": {"name": world.app}});
    let mut late = manifest::<RoomRobot>("late", spec);
    late["metadata"]["finalizers"] = json!(["roomrobot.dev/delete-robot"]);
    create(&world.robots(), late).await;
    world
        .robot_until("late", "is refused", |robot| {
            reason_of(robot, "Accepted") == Some("ApplicationNotFound")
        })
        .await;
    world.delete("late").await;
    world.gone("late").await;
    assert_eq!(world.simulator.calls().len(), 0);
    // It still serves deletions, and goes with the last of them.
    world.delete_all().await;
    eventually("the application is gone", || async {
        world.applications().get_opt(&world.app).await.unwrap().is_none()
    })
    .await;
    assert!(world.robots().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_removed_by_force_is_waited_for() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("left").await;
    world.ready("left").await;
    world.delete_application_by_force().await;
    world.delete("left").await;
    let waiting = world.waits_for("left", "ApplicationNotReady").await;
    assert!(message_of(&waiting, "RobotDeleted").contains(&world.app));
    world.application(&world.app, json!({})).await;
    assert_eq!(reason_of(&world.gone("left").await, "RobotDeleted"), Some("Deleted"));
    world.verify(0).await;
}

/// Adopted, so it is in the room; that its policy was changed to `Create` later does not make it never added.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_robot_whose_policy_becomes_create_is_removed_all_the_same() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("adopted").await;
    world.ready("adopted").await;
    world.patch("adopted", json!({"spec": {"suspend": true}})).await;
    world.patch("adopted", json!({"spec": {"creationPolicy": "Create"}})).await;
    world.delete("adopted").await;
    world.waits_for("adopted", "Suspended").await;
    world.patch("adopted", json!({"spec": {"suspend": false}})).await;
    assert_eq!(reason_of(&world.gone("adopted").await, "RobotDeleted"), Some("Deleted"));
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}
