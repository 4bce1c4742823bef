//! The admission policy: a RoomRobot is born with its finalizer, and its life costs one write less.

use crate::harness::{KEY, Plane, World, create, manifest, reason_of};
use roomrobot_operator::crd::RoomRobot;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn no_window_without_a_finalizer_and_three_writes_a_life() {
    let plane = Plane::own().await;
    plane.install_admission_policy().await.unwrap();
    let world = World::on(plane).await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.application(&world.app, json!({})).await;

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
    let writes: Vec<String> = world
        .robot_writes()
        .iter()
        .filter(|write| write.object_ref.name == "life")
        .map(|write| format!("{} {}", write.verb, write.object_ref.subresource))
        .collect();
    assert_eq!(writes, ["patch status", "patch status", "patch "]);

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
}
