//! The room engine refuses, hangs, lies, slows down, or is not there.

use crate::harness::{KEY, NOWHERE, World, codes_that_stop, eventually, is_true, message_of, reason_of};
use kube::api::ListParams;
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::simulator::{Fault, Kind};

/// Every code that is documented, on a robot of its own, under an application of its own where it stops one.
#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_the_table() {
    use roomrobot_core::codes::{CODES, Class};
    let world = World::new().await;
    let _operator = world.operator().await;
    let robot_codes: Vec<_> = CODES.iter().filter(|row| !row.class.stops_application()).collect();
    for row in &robot_codes {
        let name = format!("code-{}", row.code);
        if row.class != Class::Done {
            world.simulator.fail(Fault::times(Kind::Code(row.code), 1).room(&name));
        }
        world.robot(&name).await;
    }
    world.all_ready(robot_codes.len()).await;
    // Proven first, so that no fault meets an application that has to prove itself.
    world.delete("code-0").await;
    world.gone("code-0").await;
    world.delete_all().await;
    for row in &robot_codes {
        let name = format!("code-{}", row.code);
        match row.class {
            Class::Done => {}
            Class::Gone => {
                let expected = if row.code == 100_004 { "RoomNotFound" } else { "NotInRoom" };
                assert_eq!(world.left_with(&name).await, expected);
            }
            Class::Retry | Class::Throttled => {
                assert_eq!(world.left_with(&name).await, "Deleted", "{}", row.code);
            }
            Class::Invalid | Class::RobotPermission | Class::Later | Class::Unknown => {
                let waiting = world
                    .robot_until(&name, "waits", |robot| reason_of(robot, "RobotDeleted").is_some())
                    .await;
                assert!(message_of(&waiting, "RobotDeleted").contains(&format!("ErrorCode {}", row.code)));
                assert_eq!(is_true(&waiting, "Stalled"), row.class != Class::Later, "{}", row.code);
                world.patch(&name, json!({"spec": {"deletionPolicy": "Retain"}})).await;
                assert_eq!(world.left_with(&name).await, "Retained");
            }
            Class::Credentials | Class::Expired | Class::Permission | Class::Plan => unreachable!("filtered"),
        }
    }
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_that_stops_an_application_stops_it_and_a_change_starts_it_again() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for (n, (row, times)) in codes_that_stop().enumerate() {
        let name = format!("code-{}", row.code);
        world.simulator.fail(Fault::times(Kind::Code(row.code), times).room(&name));
        world.robot(&name).await;
        world.ready(&name).await;
        world.delete(&name).await;
        let waiting =
            world.robot_until(&name, "waits", |robot| reason_of(robot, "RobotDeleted").is_some()).await;
        assert!(is_true(&waiting, "Stalled"), "{}", row.code);
        assert!(message_of(&waiting, "RobotDeleted").contains(&format!("ErrorCode {}", row.code)));
        world.patch_application(json!({"spec": {"requestsPerSecond": 100 + n}})).await;
        assert_eq!(world.left_with(&name).await, "Deleted", "{}", row.code);
    }
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_user_sig_is_signed_anew_once_and_nobody_notices() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("r").await;
    world.ready("r").await;
    world.simulator.fail(Fault::times(Kind::Code(70001), 1));
    world.delete("r").await;
    assert_eq!(world.left_with("r").await, "Deleted");
    assert_eq!(world.simulator.calls().len(), 2);
    world.application_until("Verified").await;
    world.verify(0).await;
}

/// A slow room engine and one that sends half a gigabyte: the memory stays small.
#[tokio::test(flavor = "multi_thread")]
async fn slow_answers_and_huge_ones_cost_little_memory() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 320).await;
    world.delete("r-0").await;
    world.gone("r-0").await;
    world.simulator.fail(Fault::times(Kind::DelayMs(2900), 39));
    world.simulator.fail(Fault::times(Kind::Huge(512 * 1024 * 1024), 256));
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    // What it had of memory is looked at when it ends.
    world.verify(0).await;
}

/// As many calls as may be under way at once, each with half as much of a reply as is read, and no end of it. (A debug
/// build needs twice the memory of the one that ships.)
#[tokio::test(flavor = "multi_thread")]
async fn large_replies_that_do_not_end_cost_little_memory() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 257).await;
    world.delete("r-0").await;
    world.gone("r-0").await;
    world.simulator.fail(Fault::times(Kind::Stall(4 * 1024), 256));
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    // What it had of memory is looked at when it ends.
    world.verify(0).await;
}

/// A minute of nothing but throttle answers by the clock: the pace falls to a trickle instead of hammering, every
/// robot says why it waits, and the drain goes on once it is over.
#[tokio::test(flavor = "multi_thread")]
async fn throttled_for_a_minute() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("r", 100).await;
    world.simulator.fail(Fault::always(Kind::Code(60011)));
    let start = Instant::now();
    world.delete_all().await;
    let called = || world.simulator.calls().len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let half = called();
    tokio::time::sleep(Duration::from_mins(1) - start.elapsed()).await;
    let second_half = called() - half;
    assert!((15..=60).contains(&second_half), "{second_half} calls in 30 s of throttling");
    let list = world.robots().list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 100, "a robot left though nobody deleted it");
    let said =
        list.items.iter().filter(|robot| reason_of(robot, "RobotDeleted") == Some("Throttled")).count();
    assert!(said >= 30, "{said} of 100 say that they are throttled");
    world.simulator.heal();
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_unknown_and_name_not_resolved() {
    let world = World::new().await;
    // The API server's certificate is one that nobody signed.
    let (tls, nowhere) = (format!("https://127.0.0.1:{}", world.plane.port()), NOWHERE);
    let args = ["--allow-endpoint", &tls, "--allow-endpoint", nowhere];
    let _operator = world.operator_with(&args).await;
    world.robot("r").await;
    world.ready("r").await;
    for (endpoint, says) in [(tls.as_str(), "certificate is not trusted"), (nowhere, "could not be resolved")]
    {
        world.patch_application(json!({"spec": {"endpoint": endpoint}})).await;
        if endpoint == tls {
            world.delete("r").await;
        }
        world
            .robot_until("r", says, |robot| {
                reason_of(robot, "RobotDeleted") == Some("Unreachable")
                    && message_of(robot, "RobotDeleted").contains(says)
            })
            .await;
    }
    world.patch_application(json!({"spec": {"endpoint": world.simulator.endpoint()}})).await;
    assert_eq!(world.left_with("r").await, "Deleted");
    world.verify(0).await;
}

/// The vendor's clock ten minutes ahead or behind: a UserSig of a day holds. Where it is so far off that the vendor
/// refuses, the condition says what to look at, and the deletion goes on once the clocks agree.
#[tokio::test(flavor = "multi_thread")]
async fn clock_10_minutes_ahead_or_behind() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let (minute, day) = (60, 24 * 3600);
    for (name, skew, ahead, code) in [
        ("ahead", 10 * minute, minute, None),
        ("behind", -10 * minute, i64::MAX, None),
        ("far-ahead", day + 10 * minute, minute, Some(70001)),
        ("strict", -10 * minute, minute, Some(70003)),
    ] {
        world.simulator.set(|settings| settings.ahead = ahead);
        world.robot(name).await;
        world.ready(name).await;
        world.simulator.skew_clock(skew);
        world.delete(name).await;
        if let Some(code) = code {
            let waiting = world.waits_for(name, "CredentialsRejected").await;
            let message = message_of(&waiting, "RobotDeleted");
            assert!(message.contains(&format!("ErrorCode {code}")), "{message}");
            assert!(code != 70001 || message.contains("clock"), "{message}");
            world.simulator.skew_clock(0);
            // A probe would do the same within the minute.
            world.patch_application(json!({"spec": {"requestsPerSecond": code % 100}})).await;
        }
        assert_eq!(world.left_with(name).await, "Deleted");
    }
    world.verify(0).await;
}

/// 70050 asks to wait for a minute: the condition says so, and nothing is called meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_bad_signatures_are_waited_out() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("r").await;
    world.ready("r").await;
    world.simulator.fail(Fault::times(Kind::Code(70050), 1));
    world.delete("r").await;
    let waiting = world.waits_for("r", "CredentialsRejected").await;
    assert!(is_true(&waiting, "Stalled"));
    assert!(message_of(&waiting, "RobotDeleted").contains("ErrorCode 70050, RequestId Id-"));
    // Neither a change of the application nor a new Secret is a reason to ask again before the minute is over.
    world.patch_application(json!({"spec": {"requestsPerSecond": 100}})).await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.simulator.calls().len(), 1);
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    assert_eq!(world.left_with("r").await, "Retained");
    world.verify(0).await;
}

/// At most 3 calls in the first minute; within 3 s of the right key the calls go at the full pace.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_with_500_deletions_waiting() {
    let world = World::bare().await;
    world.secret(&world.app, json!({"secretKey": "wrong"})).await;
    world.application(&world.app, json!({})).await;
    let operator = world.operator().await;
    world.crowd("r", 500).await;
    world.delete_all().await;
    world.application_until("CredentialsRejected").await;
    let first = Instant::now();
    eventually("all of them say so", || async {
        let list = world.robots().list(&ListParams::default()).await.unwrap();
        list.items.iter().all(|robot| reason_of(robot, "RobotDeleted") == Some("CredentialsRejected"))
    })
    .await;
    // Each robot said it once, and keeps silent while nothing changes.
    eventually("their records", || async { world.robot_writes().len() >= 500 * 3 }).await;
    let writes = world.robot_writes().len();
    assert!(writes <= 500 * 3 + world.simulator.calls().len(), "{writes} writes");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.robot_writes().len(), writes);
    tokio::time::sleep(Duration::from_mins(1).saturating_sub(first.elapsed())).await;
    let early = world.simulator.calls().len();
    assert!(early <= 3, "{early} calls with a wrong key");
    let replaced = world.simulator.elapsed();
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.all_gone(Duration::from_secs(90)).await;
    let calls = world.simulator.calls();
    let resumed = &calls[early..];
    // In the second that begins after three, at the latest; a stall of the machine widens few of the gaps.
    let soon: Vec<u64> =
        resumed.iter().map(|call| call.at).take_while(|at| *at < replaced + 4_000_000).collect();
    let mut gaps: Vec<u64> = soon.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    assert!(gaps.len() >= 200, "{} calls in the first four seconds", soon.len());
    let middle = gaps[gaps.len() / 2];
    assert!(middle <= 1_000_000 / 180, "{middle} microseconds from call to call");
    world.verify(0).await;
    drop(operator);
}
