//! Promise 5: the quota is kept, applications do not wait for one another, deletions go before everything.

use crate::harness::{KEY, World, manifest};
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
        crate::harness::create(&world.robots(), manifest::<RoomRobot>(&name, spec)).await;
    }
    world.all_ready(40).await;
    world.drain_at(20).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    // In turn, not one after the other.
    let order: Vec<bool> = world.simulator.calls().iter().map(|call| call.room.starts_with("o-")).collect();
    let switches = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches >= 20, "{order:?}");
}

/// The median of several deletions with another application's API hanging, against the same without.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_api_hangs_does_not_hold_another_up() {
    const TIMES: usize = 15;
    let world = World::new().await;
    let _operator = world.operator().await;
    let other = world.sdk_app_id + 1;
    world.simulator.add_app(other, KEY);
    let name = crate::harness::unique("hanging");
    world.application(&name, json!({"sdkAppId": other})).await;
    world.simulator.fail(Fault::always(Kind::Hang).app(other));
    for n in 0..30 {
        let spec =
            json!({"roomId": format!("h-{n}"), "memberAccount": "m", "applicationRef": {"name": name}});
        crate::harness::create(&world.robots(), manifest::<RoomRobot>(&format!("h-{n}"), spec)).await;
    }
    for n in 0..=2 * TIMES {
        world.robot(&format!("quick-{n}")).await;
    }
    world.all_ready(31 + 2 * TIMES).await;
    world.delete("quick-0").await;
    world.gone("quick-0").await;
    let alone = median_deletion(&world, 1..=TIMES).await;
    for n in 0..30 {
        world.delete(&format!("h-{n}")).await;
    }
    tokio::time::timeout(Duration::from_secs(10), async {
        while world.simulator.calls().iter().all(|call| call.sdk_app_id != other) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let beside = median_deletion(&world, TIMES + 1..=2 * TIMES).await;
    assert!(beside < alone + Duration::from_millis(100), "{beside:?} beside a hanging API, {alone:?} alone");
}

async fn median_deletion(world: &World, numbers: std::ops::RangeInclusive<usize>) -> Duration {
    let mut took = Vec::new();
    for n in numbers {
        let name = format!("quick-{n}");
        let start = Instant::now();
        world.delete(&name).await;
        world.gone(&name).await;
        took.push(start.elapsed());
    }
    took.sort();
    took[took.len() / 2]
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
            let name = format!("{shard}-{n}");
            world.simulator.add_members(world.sdk_app_id, &name, [name.as_str()]);
            let spec =
                json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": application}});
            let mut robot = manifest::<RoomRobot>(&name, spec);
            robot["metadata"]["labels"] = json!({"shard": shard});
            crate::harness::create(&world.robots(), robot).await;
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
}
