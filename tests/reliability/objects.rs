//! Objects with odd histories: foreign finalizers, propagation policies, names used again, old schemas.

use crate::harness::{World, create, create_namespace, eventually, is_true, manifest, reason_of, unique};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use roomrobot_core::crd::RoomRobot;
use serde_json::json;
use std::time::Duration;
use testbed::simulator::{Fault, Kind};

const OURS: &str = "roomrobot.dev/delete-robot";

#[tokio::test(flavor = "multi_thread")]
async fn foreign_finalizers_before_and_after_ours() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for (name, list) in [
        ("before", vec!["example.com/a", OURS]),
        ("after", vec![OURS, "example.com/b"]),
        ("around", vec!["example.com/a", OURS, "example.com/b"]),
    ] {
        world.robot(name).await;
        world.ready(name).await;
        world.patch(name, json!({"metadata": {"finalizers": list}})).await;
        world.delete(name).await;
        let left: Vec<&str> = list.into_iter().filter(|finalizer| *finalizer != OURS).collect();
        let held = world
            .robot_until(name, "is held by the others only", |robot| {
                robot.metadata.finalizers.as_deref().unwrap_or_default() == left
            })
            .await;
        assert!(is_true(&held, "RobotDeleted"));
        world.patch(name, json!({"metadata": {"finalizers": null}})).await;
        assert_eq!(world.left_with(name).await, "Deleted");
        assert_eq!(world.simulator.calls_about(name, name).len(), 1);
    }
    world.verify(0).await;
}

/// Another controller takes its finalizer off, so that ours stands elsewhere than it was thought to.
#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_moves_is_found() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("moves").await;
    world.ready("moves").await;
    world.patch("moves", json!({"metadata": {"finalizers": ["example.com/a", "example.com/b", OURS]}})).await;
    // Long enough for both patches on a slow machine, too.
    world.simulator.fail(Fault::times(Kind::DelayMs(3000), 1));
    world.delete("moves").await;
    eventually("it is called for", || async { !world.simulator.calls().is_empty() }).await;
    for list in [json!(["example.com/b", OURS]), json!([OURS])] {
        world.patch("moves", json!({"metadata": {"finalizers": list}})).await;
    }
    assert_eq!(world.left_with("moves").await, "Deleted");
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_background_and_orphan_deletion() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for policy in [PropagationPolicy::Foreground, PropagationPolicy::Background, PropagationPolicy::Orphan] {
        let name = format!("{policy:?}").to_lowercase();
        world.robot(&name).await;
        world.ready(&name).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        world.robots().delete(&name, &params).await.unwrap();
        assert_eq!(world.left_with(&name).await, "Deleted");
        assert_eq!(world.simulator.calls_about(&name, &name).len(), 1);
    }
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_name_created_again_at_once() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for round in 1..=10 {
        world.simulator.add_members(world.sdk_app_id, "again", ["again"]);
        // Refused while the one before still holds the name.
        eventually("the name is free", || async {
            let spec =
                json!({"roomId": "again", "memberAccount": "again", "applicationRef": {"name": world.app}});
            let robot = serde_json::from_value(manifest::<RoomRobot>("again", spec)).unwrap();
            world.robots().create(&kube::api::PostParams::default(), &robot).await.is_ok()
        })
        .await;
        world.ready("again").await;
        world.delete("again").await;
        eventually("it was called for", || async { world.simulator.calls().len() == round }).await;
    }
    eventually("the last is gone", || async { world.robots().get_opt("again").await.unwrap().is_none() })
        .await;
    assert_eq!(world.simulator.calls().len(), 10);
    assert!(world.simulator.calls().iter().all(|call| call.code == Some(0)));
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_robot_in_two_namespaces() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let other = unique("other");
    create_namespace(&world.client, &other).await;
    world.robot("shared").await;
    let elsewhere = Api::<RoomRobot>::namespaced(world.client.clone(), &other);
    let spec = json!({"roomId": "shared", "memberAccount": "shared", "applicationRef": {"name": world.app}});
    create(&elsewhere, manifest::<RoomRobot>("shared", spec)).await;
    eventually("both are accepted", || async {
        let both = Api::<RoomRobot>::all(world.client.clone()).list(&ListParams::default()).await.unwrap();
        both.items.iter().filter(|robot| is_true(robot, "Ready")).count() == 2
    })
    .await;
    world.delete("shared").await;
    assert_eq!(world.left_with("shared").await, "StillClaimed");
    Api::<Namespace>::all(world.client.clone()).delete(&other, &DeleteParams::default()).await.unwrap();
    eventually("the other namespace is gone", || async {
        Api::<Namespace>::all(world.client.clone()).get_opt(&other).await.unwrap().is_none()
    })
    .await;
    assert_eq!(world.simulator.calls().len(), 1);
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// Stored when the schema knew less and allowed more, deleted under today's.
#[tokio::test(flavor = "multi_thread")]
async fn stored_under_the_first_crd_and_deleted_under_todays() {
    let world = World::new().await;
    let first = include_str!("../data/first-crd.yaml");
    world.plane.kubectl_apply(first).unwrap();
    world.simulator.add_members(world.sdk_app_id, "lobby", ["old"]);
    // No default was written, and a field that today's schema does not have.
    let spec = json!({"roomId": "lobby", "memberAccount": "old", "applicationRef": {"name": world.app}, "note": "x"});
    let mut old = manifest::<RoomRobot>("old", spec);
    old["metadata"]["namespace"] = json!(world.namespace);
    eventually("the first schema takes it", || async { world.plane.kubectl_apply(&old.to_string()).is_ok() })
        .await;
    world.plane.install_crds().await.unwrap();
    let _operator = world.operator().await;
    world.ready("old").await;
    world.delete("old").await;
    // A schema that changes ends every watch of its objects, so this looks without one.
    eventually("it is gone", || async { world.robots().get_opt("old").await.unwrap().is_none() }).await;
    assert_eq!(world.simulator.calls_about("lobby", "old").len(), 1);
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// Texts that today's schema refuses: what was stored with them is accepted, steered and let go all the same.
#[tokio::test(flavor = "multi_thread")]
async fn stored_with_texts_that_todays_schema_refuses() {
    let world = World::new().await;
    world.plane.kubectl_apply(include_str!("../data/first-crd.yaml")).unwrap();
    let evil = "\u{1b}]0;title\u{7}\n\u{202e}live";
    let long = "a".repeat(300);
    for (name, spec) in [
        (
            "blanks",
            json!({"roomId": " lobby ", "memberAccount": "old ", "applicationRef": {"name": world.app}}),
        ),
        (
            "letters",
            json!({"roomId": "räum", "memberAccount": "old\n", "applicationRef": {"name": world.app}}),
        ),
        ("evil", json!({"roomId": "lobby", "memberAccount": "old", "applicationRef": {"name": evil}})),
        ("long", json!({"roomId": "lobby", "memberAccount": "old", "applicationRef": {"name": long}})),
    ] {
        let (room, member) = (spec["roomId"].as_str().unwrap(), spec["memberAccount"].as_str().unwrap());
        world.simulator.add_members(world.sdk_app_id, room, [member]);
        let mut old = manifest::<RoomRobot>(name, spec.clone());
        old["metadata"]["namespace"] = json!(world.namespace);
        old["metadata"]["finalizers"] = json!([OURS]);
        eventually("the first schema takes it", || async {
            world.plane.kubectl_apply(&old.to_string()).is_ok()
        })
        .await;
    }
    world.plane.install_crds().await.unwrap();
    eventually("today's schema is in force", || async {
        let spec = json!({"roomId": " r", "memberAccount": "m"});
        let robot = serde_json::from_value(manifest::<RoomRobot>("new", spec)).unwrap();
        let dry_run = kube::api::PostParams { dry_run: true, ..kube::api::PostParams::default() };
        let refused = world.robots().create(&dry_run, &robot).await.map_err(|error| error.to_string());
        refused.is_err_and(|error| error.contains("with no blank at either end"))
    })
    .await;
    let _operator = world.operator().await;
    for (name, ready) in [("blanks", true), ("letters", true), ("evil", false), ("long", false)] {
        world
            .robot_until(name, "is told how it stands", |robot| {
                reason_of(robot, "Accepted").is_some() && is_true(robot, "Accepted") == ready
            })
            .await;
        world.delete(name).await;
        if name == "letters" {
            // Nor does the room engine take it, so that a person has to let it go: the rest of its spec, which could not
            // be stored again, must not be in the way.
            world.waits_for(name, "InvalidParameter").await;
            world.patch(name, json!({"spec": {"deletionPolicy": "Retain"}})).await;
        }
        eventually("it is gone", || async { world.robots().get_opt(name).await.unwrap().is_none() }).await;
    }
    assert_eq!(world.simulator.calls_about(" lobby ", "old ").len(), 1);
    assert_eq!(world.simulator.calls_about("räum", "old\n").len(), 1);
    assert!(world.simulator.calls_about("lobby", "old").is_empty(), "it was never accepted");
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_foreign_annotations_in_many_scripts() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("decorated").await;
    world.ready("decorated").await;
    let text = "größe 大きさ размер ".repeat(2000);
    assert!(text.len() > 50_000);
    let metadata =
        json!({"annotations": {"example.com/note": text}, "labels": {"example.com/team": "A-1.x_y"}});
    world.patch("decorated", json!({"metadata": metadata})).await;
    world.delete("decorated").await;
    let last = world.gone("decorated").await;
    assert_eq!(reason_of(&last, "RobotDeleted"), Some("Deleted"));
    assert!(last.metadata.annotations.unwrap()["example.com/note"].len() > 50_000, "it is not ours to drop");
    world.verify(0).await;
}

/// The room engine is down, the operator is restarted meanwhile, and the namespace goes all the same in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_200_deleted_while_the_room_engine_is_down() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.crowd("r", 200).await;
    world.simulator.fail(Fault::always(Kind::Http(503)));
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    world.waits_for("r-0", "UnexpectedReply").await;
    operator.kill();
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    eventually("it goes on trying", || async { world.simulator.calls().len() > 250 }).await;
    world.simulator.heal();
    testbed::control_plane::wait_for(Duration::from_secs(90), "the namespace to go", || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none()
    })
    .await
    .unwrap();
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
    assert_eq!(world.refused_creations(), 0);
}
