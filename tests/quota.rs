//! Promise 5: the quota is kept, applications do not wait for one another, deletions go before everything.

use crate::harness::{KEY, World, create, eventually, manifest};
use futures::{StreamExt as _, stream};
use roomrobot_operator::crd::RoomRobot;
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::simulator::{Fault, Kind, most_in};

#[tokio::test(flavor = "multi_thread")]
async fn no_second_has_more_calls_than_the_application_may_make() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 60).await;
    world.drain_at(20).await;
    world.all_gone(Duration::from_secs(90)).await;
    let most = world.simulator.most_in_a_second();
    assert!((18..=20).contains(&most), "{most} in the fullest second of 20");
    assert_eq!(world.simulator.calls().len(), 60);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_of_one_sdkappid_share_its_quota_at_the_lower_rate() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 20}})).await;
    let other = crate::harness::unique("other");
    world.application(&other, json!({"requestsPerSecond": 100})).await;
    world.crowd("r", 20).await;
    for n in 0..20 {
        let name = format!("o-{n}");
        world.simulator.add_members(world.sdk_app_id, &name, [name.as_str()]);
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": other}});
        create(&world.robots(), manifest::<RoomRobot>(&name, spec)).await;
    }
    world.all_ready(40).await;
    world.drain_at(20).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    // In turn, not one after the other.
    let order: Vec<bool> = world.simulator.calls().iter().map(|call| call.room.starts_with("o-")).collect();
    let switches = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches >= 20, "{order:?}");
    world.verify(0).await;
}

/// Two operators at the same time: one whose other application has as many calls hanging as may hang, and one without.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_api_hangs_does_not_hold_another_up() {
    const TIMES: usize = 15;
    const HANGING: usize = 300;
    let world = World::new().await;
    let _beside = world.operator_with(&["--selector", "shard=beside"]).await;
    let _alone = world.operator_with(&["--selector", "shard=alone"]).await;
    let (other, name) = (world.sdk_app_id + 1, crate::harness::unique("hanging"));
    world.simulator.add_app(other, KEY);
    world.application(&name, json!({"sdkAppId": other})).await;
    let shards = ["beside", "alone"];
    for n in 0..=TIMES {
        for shard in shards {
            world.robot_of(shard, &format!("{shard}-{n}"), &world.app, world.sdk_app_id).await;
        }
    }
    let hanging: Vec<String> = (0..=HANGING).map(|n| format!("h-{n}")).collect();
    stream::iter(&hanging)
        .for_each_concurrent(16, |robot| world.robot_of("beside", robot, &name, other))
        .await;
    world.all_ready(hanging.len() + shards.len() * (TIMES + 1)).await;
    // Proven first: before that, one call at a time could hang.
    for robot in ["beside-0", "alone-0", "h-0"] {
        world.delete(robot).await;
        world.gone(robot).await;
    }
    world.simulator.fail(Fault::always(Kind::Hang).app(other));
    stream::iter(&hanging[1..]).for_each_concurrent(16, |robot| world.delete(robot)).await;
    eventually("as many calls hang as may", || async {
        world.simulator.calls().iter().filter(|call| call.sdk_app_id == other).count() > 185
    })
    .await;
    // In turn, so that whatever else the machine does slows both.
    let mut took = [Vec::new(), Vec::new()];
    for n in 1..=TIMES {
        for (shard, took) in shards.iter().zip(&mut took) {
            let (robot, start) = (format!("{shard}-{n}"), Instant::now());
            world.delete(&robot).await;
            world.gone(&robot).await;
            took.push(start.elapsed());
        }
    }
    let [beside, alone] = took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    });
    println!("{beside:?} beside a hanging API, {alone:?} alone");
    assert!(beside < alone + Duration::from_millis(100), "{beside:?} beside a hanging API, {alone:?} alone");
    world.verify(0).await;
}

impl World {
    /// A robot with the label of a shard, in a room of the same name.
    async fn robot_of(&self, shard: &str, name: &str, application: &str, sdk_app_id: u32) {
        self.simulator.add_members(sdk_app_id, name, [name]);
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": application}});
        let mut robot = manifest::<RoomRobot>(name, spec);
        robot["metadata"]["labels"] = json!({"shard": shard});
        create(&self.robots(), robot).await;
    }
}

/// Two shards, each with an RtcApplication of its own and its share of the quota of one SDKAppID.
#[tokio::test(flavor = "multi_thread")]
async fn two_shards_share_the_quota_and_leave_each_others_applications_alone() {
    let world = World::new().await;
    let other = crate::harness::unique("other");
    world.application(&other, json!({"requestsPerSecond": 10})).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 10}})).await;
    let _a = world.operator_with(&["--selector", "shard=a"]).await;
    let _b = world.operator_with(&["--selector", "shard=b"]).await;
    for (shard, application) in [("a", &world.app), ("b", &other)] {
        for n in 0..20 {
            world.robot_of(shard, &format!("{shard}-{n}"), application, world.sdk_app_id).await;
        }
    }
    world.all_ready(40).await;
    let about = |name: &str| world.writes().iter().filter(|write| write.object_ref.name == name).count();
    let before = about(&world.app) + about(&other);
    // A fight over finalizers or counts would be hundreds of writes in this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(about(&world.app) + about(&other) <= before + 2, "the shards write against each other");
    for application in [&world.app, &other] {
        let held = world.applications().get(application).await.unwrap().metadata.finalizers.unwrap();
        assert!(held.len() == 1 && held[0].starts_with("roomrobot.dev/in-use-"), "{held:?}");
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    let calls = world.simulator.calls();
    assert_eq!(calls.len(), 40);
    // Each keeps to its own share, so that both together keep to the quota without knowing of each other.
    for shard in ["a-", "b-"] {
        let of = calls.iter().filter(|call| call.room.starts_with(shard));
        let times: Vec<u64> = of.map(|call| call.at).collect();
        assert_eq!(times.len(), 20, "shard {shard}");
        assert!(
            most_in(&times, 1_000_000) <= 10,
            "shard {shard}: {} in a second",
            most_in(&times, 1_000_000)
        );
    }
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    world.verify(0).await;
}

/// Throttled for a while: the pace halves, robots do not each back off, and it recovers.
#[tokio::test(flavor = "multi_thread")]
async fn throttle_answers_slow_the_application_down_and_it_recovers() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 80).await;
    world.simulator.set(|settings| settings.quota = 20);
    world.delete_all().await;
    world.all_gone(Duration::from_secs(40)).await;
    let calls = world.simulator.calls();
    let throttled = calls.iter().filter(|call| call.code == Some(60011)).count();
    assert!(throttled > 0, "the simulator never throttled");
    assert!(throttled < 80, "{throttled} throttle answers for 80 deletions: the pace did not slow down");
    assert_eq!(calls.iter().filter(|call| call.code == Some(0)).count(), 80);
    world.verify(0).await;
}
