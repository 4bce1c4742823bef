//! What one tenant deletes or names costs another neither its turn nor the operator's memory.

use crate::harness::{
    World, create, create_namespace, eventually, is_empty, manifest, message_of, reason_of, unique,
};
use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use roomrobot_core::crd::{ROBOT_FINALIZER, RoomRobot};
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::control_plane::OPERATOR_NAMESPACE;

/// The robots of a tenant who means harm, in each of the rounds.
const EVIL: usize = 800;

/// Rounds alone, and beside them.
const ROUNDS: usize = 3;

/// The robots of the drain.
const DRAIN: usize = 200;

/// Deletes these robots of a namespace.
async fn delete(robots: &Api<RoomRobot>, names: Vec<String>) {
    stream::iter(names)
        .for_each_concurrent(32, |name| async move {
            robots.delete(&name, &DeleteParams::default()).await.unwrap();
        })
        .await;
}

/// How long a drain takes, with `evil` robots beside it that are to be let go at the same moment, each under an application
/// of its own that there is none of. All are being deleted before the operator sees it, so that it does not share the machine
/// with whoever deletes them.
async fn drain(world: &World, round: usize, evil: usize) -> Duration {
    let beside = unique("evil");
    create_namespace(&world.client, &beside).await;
    let others = Api::<RoomRobot>::namespaced(world.client.clone(), &beside);
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    let names = world.crowd(&format!("r{round}-{evil}"), DRAIN).await;
    stream::iter(0..evil)
        .for_each_concurrent(32, |n| {
            let others = others.clone();
            async move {
                let spec = json!({"roomId": "r", "memberAccount": format!("m-{n}"), "deletionPolicy": "Retain",
                    "applicationRef": {"name": format!("invented-{n}")}});
                let mut robot = manifest::<RoomRobot>(&format!("e-{n}"), spec);
                robot["metadata"]["finalizers"] = json!([ROBOT_FINALIZER]);
                create(&others, robot).await;
            }
        })
        .await;
    eventually("each is told that there is no such application", || async {
        let list = others.list(&ListParams::default()).await.unwrap().items;
        list.iter().all(|robot| reason_of(robot, "Accepted") == Some("ApplicationNotFound"))
    })
    .await;
    let stopped = operator.pause().unwrap();
    delete(&others, (0..evil).map(|n| format!("e-{n}")).collect()).await;
    delete(&world.robots(), names).await;
    let start = Instant::now();
    drop(stopped);
    testbed::control_plane::wait_for(Duration::from_secs(90), "the drain", || async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_empty(&world.robots()).await
    })
    .await
    .unwrap();
    let took = start.elapsed();
    testbed::control_plane::wait_for(Duration::from_secs(90), "the others to go", || async {
        is_empty(&others).await
    })
    .await
    .unwrap();
    operator.terminate(Duration::from_secs(15)).await.unwrap();
    took
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

/// Eight hundred beside each of three drains of 200. The size is not the point: what matters is that four times as many wait
/// beside a drain; they kept one of 400 waiting for ten times as long.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_released_under_invented_applications_keep_no_drain_waiting() {
    let world = World::new().await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        alone.push(drain(&world, round, 0).await);
        beside.push(drain(&world, round, EVIL).await);
    }
    println!("{beside:?} beside them, {alone:?} alone");
    let (alone, beside) = (median(alone), median(beside));
    // A second for a machine that other tests use, too.
    assert!(beside <= alone.mul_f64(1.5) + Duration::from_secs(1), "{beside:?} beside them, {alone:?} alone");
    assert_eq!(world.simulator.calls().len(), 2 * ROUNDS * DRAIN);
    world.verify(0).await;
}

/// A robot that the application refused, because of its namespace, is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_not_held_by_a_robot_that_it_refused() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let good = unique("good");
    create_namespace(&world.client, &good).await;
    let labels = Patch::Merge(json!({"metadata": {"labels": {"rtc": "yes"}}}));
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.patch(&good, &PatchParams::default(), &labels).await.unwrap();
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}});
    let app = unique("strict");
    world.application(&app, selector).await;
    let spec = |name: &str| json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": app}});
    create(&world.robots(), manifest::<RoomRobot>("refused", spec("refused"))).await;
    let allowed = Api::<RoomRobot>::namespaced(world.client.clone(), &good);
    world.simulator.add_members(world.sdk_app_id, "allowed", ["allowed"]);
    create(&allowed, manifest::<RoomRobot>("allowed", spec("allowed"))).await;
    eventually("one is accepted and one is refused", || async {
        let refused = world.robots().get("refused").await.unwrap();
        reason_of(&refused, "Accepted") == Some("NamespaceNotAllowed")
            && crate::harness::is_true(&allowed.get("allowed").await.unwrap(), "Ready")
    })
    .await;
    world.applications().delete(&app, &DeleteParams::default()).await.unwrap();
    eventually("it waits for the one that it took", || async {
        let status = world.applications().get(&app).await.unwrap().status.unwrap();
        status
            .conditions
            .iter()
            .any(|ready| ready.message.contains(&format!("waits for RoomRobot {good}/allowed")))
    })
    .await;
    allowed.delete("allowed", &DeleteParams::default()).await.unwrap();
    eventually("the application is gone", || async {
        world.applications().get_opt(&app).await.unwrap().is_none()
    })
    .await;
    let refused = world.robots().get("refused").await.unwrap();
    assert!(!message_of(&refused, "Accepted").is_empty());
    world.delete("refused").await;
    world.gone("refused").await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}

/// Creates and deletes robots, each under an application of its own with a name as long as names may be.
async fn invent(world: &World, numbers: std::ops::Range<usize>) {
    let long = ["x".repeat(60), "y".repeat(60), "z".repeat(60)].join(".");
    stream::iter(numbers)
        .for_each_concurrent(16, |n| {
            let (robots, name) = (world.robots(), format!("invented-{n}.{long}"));
            async move {
                let spec = json!({"roomId": "r", "memberAccount": "m", "applicationRef": {"name": name}});
                create(&robots, manifest::<RoomRobot>(&format!("r-{n}"), spec)).await;
                robots.delete(&format!("r-{n}"), &DeleteParams::default()).await.unwrap();
            }
        })
        .await;
}

/// A standby sees them all and writes nothing, so that nothing is measured but what it keeps of them. Names of 6 000 robots
/// are about two megabytes; a unit test has the exact number that is kept.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_let_go_with_their_last_holder() {
    let world = World::new().await;
    world.look_away();
    let leases = Api::<Lease>::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let now = MicroTime(Timestamp::now());
    let spec = json!({"holderIdentity": "another-1", "leaseDurationSeconds": 3600, "leaseTransitions": 0,
        "acquireTime": now, "renewTime": now});
    create(&leases, json!({"metadata": {"name": "roomrobot-operator"}, "spec": spec})).await;
    let operator = world.operator().await;
    let kept = async |numbers: std::ops::Range<usize>| {
        invent(&world, numbers).await;
        eventually("it has seen all of them go", || async {
            operator.get("/metrics").is_some_and(|text| {
                text.lines().any(|line| line.starts_with("roomrobot_robots") && line.ends_with(" 0"))
                    || !text.contains("invented-")
            })
        })
        .await;
        operator.memory().unwrap().0
    };
    let before = kept(0..3000).await;
    let after = kept(3000..9000).await;
    println!("{} KiB before, {} KiB after", before / 1024, after / 1024);
    assert!(after < before + 1024 * 1024, "{} KiB before, {} KiB after", before / 1024, after / 1024);
    world.verify(0).await;
}
