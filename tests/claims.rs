//! Several RoomRobots stand for one robot: exactly one of them answers for its removal.

use crate::{
    harness::{
        World, create, create_namespace, eventually, is_empty, is_true, leads, manifest, message_of, unique,
    },
    reliability::api_server::through_with,
};
use hyper::Method;
use kube::{Api, api::DeleteParams};
use roomrobot_core::crd::RoomRobot;
use serde_json::{Value, json};
use std::time::Duration;
use testbed::proxy::{Action, Proxy, Rule};

const SHARED: &str = "shared";

impl World {
    /// RoomRobots of another namespace.
    fn robots_in(&self, namespace: &str) -> Api<RoomRobot> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// One more that stands for the shared robot, once it is accepted.
    async fn claim(&self, namespace: &str, name: &str, more: Value) {
        let mut spec =
            json!({"roomId": SHARED, "memberAccount": SHARED, "applicationRef": {"name": self.app}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let robots = self.robots_in(namespace);
        create(&robots, manifest::<RoomRobot>(name, spec)).await;
        eventually("it is accepted", || async { is_true(&robots.get(name).await.unwrap(), "Accepted") })
            .await;
    }

    async fn other_namespace(&self) -> String {
        let name = unique("other");
        create_namespace(&self.client, &name).await;
        name
    }

    /// The deletion is over, or its condition says for what it waits.
    async fn gone_or_waits(&self, name: &str) {
        eventually("it is gone, or waits", || async {
            let robot = self.robots().get_opt(name).await.unwrap();
            robot.is_none_or(|robot| crate::harness::reason_of(&robot, "RobotDeleted").is_some())
        })
        .await;
    }

    async fn nobody_is_left(&self) {
        eventually("all are gone", || async { is_empty(&Api::all(self.client.clone())).await }).await;
    }
}

/// The second was to be added, and never was: both went without a call.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_never_added_inherits_nothing() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.add_members(world.sdk_app_id, SHARED, [SHARED]);
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    world.application_until("Suspended").await;
    world.claim(&world.namespace, "x", json!({})).await;
    world.claim(&world.namespace, "y", json!({"creationPolicy": "Create"})).await;
    for name in ["x", "y"] {
        world.delete(name).await;
        world.gone_or_waits(name).await;
    }
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    world.nobody_is_left().await;
    assert_eq!(world.simulator.calls().len(), 1, "the robot stays in its room");
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// It would not delete: that it was there made the first go without a call.
#[tokio::test(flavor = "multi_thread")]
async fn who_would_retain_inherits_nothing() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let other = world.other_namespace().await;
    world.simulator.add_members(world.sdk_app_id, SHARED, [SHARED]);
    world.claim(&world.namespace, "x", json!({})).await;
    world.claim(&other, "y", json!({"deletionPolicy": "Retain"})).await;
    world.delete("x").await;
    assert_eq!(world.left_with("x").await, "Deleted");
    world.robots_in(&other).delete("y", &DeleteParams::default()).await.unwrap();
    world.nobody_is_left().await;
    assert_eq!(world.simulator.calls().len(), 1);
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// What another tenant calls its objects is not told.
#[tokio::test(flavor = "multi_thread")]
async fn an_heir_is_named_within_its_namespace_only() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let other = world.other_namespace().await;
    world.simulator.add_members(world.sdk_app_id, SHARED, [SHARED]);
    for name in ["first", "second"] {
        world.claim(&world.namespace, name, json!({})).await;
    }
    world.delete("first").await;
    let near = world.gone("first").await;
    assert!(message_of(&near, "RobotDeleted").contains("second"), "{near:?}");
    world.claim(&other, "hidden", json!({})).await;
    world.delete("second").await;
    let far = world.gone("second").await;
    let message = message_of(&far, "RobotDeleted");
    assert!(message.contains("in another namespace"), "{message}");
    assert!(!message.contains("hidden") && !message.contains(&other), "{message}");
    world.robots_in(&other).delete("hidden", &DeleteParams::default()).await.unwrap();
    world.nobody_is_left().await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

/// A rename in Git while the leader changes: the new object is accepted, the leader ends in good order, and the old object
/// is deleted. The watch by which the next one would have seen the new object is held back.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_acts_on_a_view_as_new_as_its_lease() {
    let world = World::new().await;
    let other = world.other_namespace().await;
    let parts = ["--watch-namespace", &world.namespace, "--watch-namespace", &other];
    world.simulator.add_members(world.sdk_app_id, SHARED, [SHARED]);
    let leader = world.operator_with(&parts).await;
    eventually("the first leads", || async { leads(&leader) }).await;
    world.claim(&world.namespace, "old", json!({})).await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let next = through_with(&world, &proxy, &parts).await;
    let path: &'static str = format!("/namespaces/{other}/roomrobots?watch").leak();
    proxy.add(Rule { method: Method::GET, path, times: 1000, action: Action::Hang });
    proxy.cut_watches();
    eventually("its watch is held back", || async { proxy.left()[0].times < 1000 }).await;
    world.claim(&other, "new", json!({})).await;
    leader.terminate(Duration::from_secs(15)).await.unwrap();
    world.delete("old").await;
    assert_eq!(world.left_with("old").await, "StillClaimed");
    assert!(leads(&next));
    assert!(world.simulator.calls().is_empty(), "the robot of the new one was deleted");
    proxy.heal();
    proxy.cut_watches();
    world.robots_in(&other).delete("new", &DeleteParams::default()).await.unwrap();
    world.nobody_is_left().await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

/// A rename in Git while all is well: one object is created and the other deleted at the same moment, before anybody could
/// take the new one in charge.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_removes_no_robot_from_its_room() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let names = world.crowd("old", 10).await;
    for name in &names {
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": world.app}});
        let robots = world.robots();
        create(&robots, manifest::<RoomRobot>(&format!("new-{name}"), spec)).await;
        robots.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in &names {
        assert_eq!(world.left_with(name).await, "StillClaimed");
        world.ready(&format!("new-{name}")).await;
    }
    assert!(world.simulator.calls().is_empty(), "the robot of a new one was deleted");
    assert_eq!(world.simulator.population(), names.len());
    world.delete_all().await;
    world.nobody_is_left().await;
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}
