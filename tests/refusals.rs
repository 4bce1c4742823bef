//! Refusals that concern more than one robot stop no more than they are about.

use crate::{
    harness::{
        KEY, PATIENCE, World, create, create_namespace, eventually, is_empty, manifest, message_of,
        reason_of, unique,
    },
    reliability::api_server::through,
};
use futures::{StreamExt as _, stream};
use hyper::Method;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use roomrobot_core::crd::{ROBOT_FINALIZER, RoomRobot};
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::{
    proxy::{Action, Proxy, Rule},
    simulator::{Fault, Kind},
};

/// Deletes `count` robots of an application beside one that is to be added and is refused with `code`. None of them went.
async fn drain_beside_a_refused_addition(world: &World, code: i64, count: usize) {
    let (namespace, app) = (unique("n"), unique("app"));
    let sdk_app_id = world.sdk_app_id + u32::try_from(code).unwrap();
    create_namespace(&world.client, &namespace).await;
    world.simulator.add_app(sdk_app_id, KEY);
    world.application(&app, json!({"sdkAppId": sdk_app_id})).await;
    world.simulator.fail(Fault::always(Kind::Code(code)).command("add_robot").app(sdk_app_id));
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), &namespace);
    let robot = |name: &str, policy: &str| {
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": app}, "creationPolicy": policy});
        create(&robots, manifest::<RoomRobot>(name, spec))
    };
    let names: Vec<String> = (0..count).map(|n| format!("r-{n}")).collect();
    stream::iter(&names)
        .for_each_concurrent(16, |name| async {
            world.simulator.add_members(sdk_app_id, name, [name.as_str()]);
            robot(name, "Adopt").await;
        })
        .await;
    robot("new", "Create").await;
    eventually("all are accepted, and one is refused", || async {
        let list = robots.list(&ListParams::default()).await.unwrap().items;
        list.iter().all(|robot| match reason_of(robot, "Ready") {
            Some("Adopted") => true,
            Some(reason) => robot.metadata.name.as_deref() == Some("new") && reason != "Adding",
            None => false,
        })
    })
    .await;
    let refused = Instant::now();
    stream::iter(&names)
        .for_each_concurrent(16, |name| async {
            robots.delete(name, &DeleteParams::default()).await.unwrap();
        })
        .await;
    testbed::control_plane::wait_for(PATIENCE, &format!("the drain beside {code}"), || async {
        robots.list_metadata(&ListParams::default().limit(2)).await.unwrap().items.len() == 1
    })
    .await
    .unwrap();
    let calls: Vec<_> =
        world.simulator.calls().into_iter().filter(|call| call.sdk_app_id == sdk_app_id).collect();
    let (additions, deletions): (Vec<_>, Vec<_>) =
        calls.into_iter().partition(|call| call.command == "add_robot");
    assert_eq!(deletions.len(), count, "{code}");
    let minutes = usize::try_from(refused.elapsed().as_secs() / 60).unwrap();
    assert!((1..=2 + minutes).contains(&additions.len()), "{code}: {} additions", additions.len());
    let last = robots.get("new").await.unwrap();
    assert!(message_of(&last, "Ready").contains(&format!("ErrorCode {code}")), "{last:?}");
    robots.delete("new", &DeleteParams::default()).await.unwrap();
    eventually("nobody is left", || async { is_empty(&robots).await }).await;
}

/// The package of the application has room for no more, or a permission is missing: that is about the command. A thousand for
/// one code, and forty for each of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_deletions_go_on_beside_an_addition_that_is_refused() {
    let world = World::new().await;
    let _operator = world.operator().await;
    drain_beside_a_refused_addition(&world, 70398, 1000).await;
    for code in [60017, 72000, 100_007, 100_013] {
        drain_beside_a_refused_addition(&world, code, 40).await;
    }
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

/// The process that made the call is gone, and a person lets the robot stay: the last call and its RequestId are named.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_deletion_that_is_released_after_a_restart_names_its_last_call() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.stuck("r", Kind::Code(60010), "PermissionDenied").await;
    let asked = world.simulator.calls();
    operator.terminate(Duration::from_secs(15)).await.unwrap();
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    let last = world.gone("r").await;
    assert_eq!(reason_of(&last, "RobotDeleted"), Some("Retained"));
    let message = message_of(&last, "RobotDeleted");
    let reference = format!("ErrorCode 60010, RequestId {}", asked.last().unwrap().request_id);
    assert!(message.ends_with(&reference), "{message}");
    assert_eq!(world.simulator.calls().len(), asked.len(), "Retain needs no call");
    world.verify(0).await;
}

/// Stored with their finalizer, so that each takes one write to accept.
async fn crowd_in(world: &World, namespace: &str, prefix: &str, count: usize) {
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), namespace);
    stream::iter(0..count)
        .for_each_concurrent(16, |n| {
            let (robots, name) = (robots.clone(), format!("{prefix}-{n}"));
            async move {
                world.simulator.add_members(world.sdk_app_id, &name, [name.as_str()]);
                let spec =
                    json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": world.app}});
                let mut robot = manifest::<RoomRobot>(&name, spec);
                robot["metadata"]["finalizers"] = json!([ROBOT_FINALIZER]);
                create(&robots, robot).await;
            }
        })
        .await;
    eventually("all are accepted", || async {
        let list = robots.list(&ListParams::default()).await.unwrap().items;
        list.iter().filter(|robot| crate::harness::is_true(robot, "Ready")).count() >= count
    })
    .await;
}

/// Deletes the robots of a namespace whose names begin so, and waits until they are gone; how long their calls took from the
/// first to the last, and how long until all were gone.
async fn drain(world: &World, namespace: &str, prefix: &str, count: usize) -> [Duration; 2] {
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), namespace);
    let names: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    let start = Instant::now();
    stream::iter(&names)
        .for_each_concurrent(16, |name| async {
            robots.delete(name, &DeleteParams::default()).await.unwrap();
        })
        .await;
    testbed::control_plane::wait_for(PATIENCE, "the drain", || async { is_empty(&robots).await })
        .await
        .unwrap();
    let gone = start.elapsed();
    let of_these = world.simulator.calls().into_iter().filter(|call| call.room.starts_with(prefix));
    let times: Vec<u64> = of_these.map(|call| call.at).collect();
    assert_eq!(times.len(), count);
    [Duration::from_micros(times[count - 1] - times[0]), gone]
}

/// Behind an admission webhook that does not answer, for one namespace of 400 robots. At 50 calls a second, so that the
/// pace decides how long a drain of 200 takes, as far as this machine, that other tests use, keeps up. How close the two are
/// in simulated time is in `crates/core/src/engine/tests/neighbours.rs`; here they are far less apart than one write that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_writes_hang_costs_another_of_its_application_nothing() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 50}})).await;
    let hung = unique("hung");
    create_namespace(&world.client, &hung).await;
    crowd_in(&world, &world.namespace, "alone", 200).await;
    crowd_in(&world, &hung, "hung", 400).await;
    let alone = drain(&world, &world.namespace, "alone", 200).await;
    crowd_in(&world, &world.namespace, "beside", 200).await;
    let path: &'static str = format!("/namespaces/{hung}/").leak();
    proxy.add(Rule { method: Method::PATCH, path, times: u32::MAX, action: Action::Hang });
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), &hung);
    stream::iter(0..400)
        .for_each_concurrent(16, |n| {
            let robots = robots.clone();
            async move { drop(robots.delete(&format!("hung-{n}"), &DeleteParams::default()).await.unwrap()) }
        })
        .await;
    eventually("its writes hang", || async { u32::MAX - proxy.left()[0].times >= 8 }).await;
    let beside = drain(&world, &world.namespace, "beside", 200).await;
    println!("calls and drain: {beside:?} beside it, {alone:?} alone");
    for (beside, alone) in beside.into_iter().zip(alone) {
        assert!(
            beside <= alone.mul_f64(1.5) + Duration::from_secs(5),
            "{beside:?} beside it, {alone:?} alone"
        );
    }
    proxy.heal();
    testbed::control_plane::wait_for(PATIENCE, "the others", || async { is_empty(&robots).await })
        .await
        .unwrap();
    assert_eq!(world.simulator.calls().len(), 800, "no answer is asked for again");
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}
