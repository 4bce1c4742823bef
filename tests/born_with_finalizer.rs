//! The admission policy: a RoomRobot is born with its finalizer, and its life costs one write less.

use crate::harness::{KEY, Plane, World, create, eventually, manifest, reason_of};
use crate::reliability::api_server::{refuse, through};
use hyper::Method;
use roomrobot_core::crd::RoomRobot;
use serde_json::json;
use std::time::Duration;
use testbed::proxy::{Action, Proxy, Rule};

/// A world of its own whose API server has the policy.
async fn with_policy() -> World {
    let plane = Plane::own().await;
    plane.install_admission_policy().await.unwrap();
    let world = World::on(plane).await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.application(&world.app, json!({})).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_without_a_finalizer_and_three_writes_a_life() {
    let world = with_policy().await;
    // Created and deleted while no operator runs: it stays, and is deleted by the next one.
    let early = world.robot("early").await;
    assert_eq!(early.metadata.finalizers.unwrap(), ["roomrobot.dev/delete-robot"]);
    world.delete("early").await;
    let operator = world.operator().await;
    assert_eq!(reason_of(&world.gone("early").await, "RobotDeleted"), Some("Deleted"));

    world.robot("life").await;
    world.ready("life").await;
    world.delete("life").await;
    world.gone("life").await;
    let writes = || -> Vec<String> {
        let all = world.robot_writes();
        let of_this = all.iter().filter(|write| write.object_ref.name == "life");
        of_this.map(|write| format!("{} {}", write.verb, write.object_ref.subresource)).collect()
    };
    // The audit log has a write when its answer is out; the watch may be quicker.
    eventually("the last write is in the audit log", || async { writes().len() >= 3 }).await;
    assert_eq!(writes(), ["patch status", "patch status", "patch "]);

    // Foreign finalizers stay in their place, and ours is not put on twice.
    let mut other = manifest::<RoomRobot>(
        "other",
        json!({"roomId": "other", "memberAccount": "other", "applicationRef": {"name": world.app}}),
    );
    other["metadata"]["finalizers"] = json!(["example.com/a"]);
    let stored = create(&world.robots(), other.clone()).await;
    assert_eq!(stored.metadata.finalizers.unwrap(), ["example.com/a", "roomrobot.dev/delete-robot"]);
    other["metadata"]["name"] = json!("third");
    other["metadata"]["finalizers"] = json!(["roomrobot.dev/delete-robot"]);
    let stored = create(&world.robots(), other).await;
    assert_eq!(stored.metadata.finalizers.unwrap(), ["roomrobot.dev/delete-robot"]);

    // Refers to no application, so nothing is owned: gone without a call, as without the policy.
    let stray =
        json!({"roomId": "stray", "memberAccount": "stray", "applicationRef": {"name": "no-such-app"}});
    create(&world.robots(), manifest::<RoomRobot>("stray", stray)).await;
    world
        .robot_until("stray", "is refused", |robot| {
            reason_of(robot, "Accepted") == Some("ApplicationNotFound")
        })
        .await;
    world.delete("stray").await;
    world.gone("stray").await;
    assert_eq!(world.simulator.calls().len(), 2);
    drop(operator);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn robots_born_with_their_finalizer_outlast_faults_and_a_kill() {
    let world = with_policy().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let operator = through(&world, &proxy).await;
    world.crowd("r", 150).await;
    for path in ["/roomrobots", "/roomrobots/status"] {
        refuse(&proxy, 2, &[(Method::PATCH, path)]);
        proxy.add(Rule { method: Method::PATCH, path, times: 10, action: Action::LoseReply });
    }
    world.drain_at(50).await;
    eventually("a part of the drain", || async { world.simulator.calls().len() > 40 }).await;
    operator.kill();
    // Nobody has accepted these.
    for n in 0..10 {
        let name = format!("early-{n}");
        world.robot(&name).await;
        world.delete(&name).await;
    }
    let _operator = through(&world, &proxy).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(proxy.left().len(), 0);
    assert_eq!(world.simulator.population(), 0);
    world.verify(1).await;
}
