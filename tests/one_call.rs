//! Promise 1: deleting a robot costs one `delete_robot`, repeated only after an answer that was not final.

use crate::harness::{World, condition, is_true, reason_of};
use std::{collections::BTreeMap, time::Duration};
use testbed::simulator::{Fault, Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_one_call_and_two_writes_and_a_whole_life_four() {
    let world = World::new().await;
    let operator = world.operator().await;
    let names = world.crowd("r", 20).await;
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.simulator.population(), 0);
    let mut writes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for write in world.robot_writes() {
        let what = format!("{} {}", write.verb, write.object_ref.subresource);
        writes.entry(write.object_ref.name).or_default().push(what);
    }
    for name in &names {
        assert_eq!(world.simulator.calls_about(name, name).len(), 1, "{name}");
        assert_eq!(writes[name], ["patch ", "patch status", "patch status", "patch "], "{name}");
    }
    assert_eq!(world.simulator.repeated_randoms(), 0);
    operator.terminate(Duration::from_secs(10)).await.unwrap();
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn final_answers_end_in_different_true_reasons() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.add_members(world.sdk_app_id, "not-in-room", ["somebody-else"]);
    for (name, reason, code) in [
        ("deleted", "Deleted", 0),
        ("no-room", "RoomNotFound", 100_004),
        ("not-in-room", "NotInRoom", 100_005),
    ] {
        if code == 0 {
            world.robot(name).await;
        } else {
            world.robot_with(name, serde_json::json!({})).await;
        }
        world.ready(name).await;
        world.delete(name).await;
        let last = world.gone(name).await;
        assert!(is_true(&last, "RobotDeleted"));
        assert_eq!(reason_of(&last, "RobotDeleted"), Some(reason));
        let calls = world.simulator.calls_about(name, name);
        assert_eq!(calls.len(), 1);
        let message = &condition(&last, "RobotDeleted").unwrap().message;
        assert!(
            message.ends_with(&format!("ErrorCode {code}, RequestId {}", calls[0].request_id)),
            "{message}"
        );
    }
    world.verify(0).await;
}

/// Every fault that the room engine can have ends in deletion once it is over, by attempts that follow the back-off.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_final_is_tried_again_until_it_is() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let mut faults = vec![
        ("internal".to_owned(), Kind::Code(100_001), "InternalError"),
        ("timeout-code".to_owned(), Kind::Code(60008), "InternalError"),
        ("reset-before".to_owned(), Kind::ResetBefore, "Unreachable"),
        ("reset-after".to_owned(), Kind::ResetAfter, "Unreachable"),
        ("truncated".to_owned(), Kind::Truncated, "Unreachable"),
        ("malformed".to_owned(), Kind::Body("{\"ErrorCode\": ".into()), "UnexpectedReply"),
        ("text-code".to_owned(), Kind::Body("{\"ErrorCode\": \"0\"}".into()), "UnexpectedReply"),
        ("html".to_owned(), Kind::Html, "UnexpectedReply"),
        ("huge".to_owned(), Kind::Huge(8 * 1024 * 1024), "UnexpectedReply"),
        ("hang".to_owned(), Kind::Hang, "Unreachable"),
    ];
    for status in [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504] {
        let reason = if status == 429 { "Throttled" } else { "UnexpectedReply" };
        faults.push((format!("http-{status}"), Kind::Http(status), reason));
    }
    // One good answer first, so that faults do not meet an application that has to prove itself.
    world.robot("first").await;
    world.ready("first").await;
    world.delete("first").await;
    world.gone("first").await;
    for (name, kind, _) in &faults {
        let times = if name == "hang" { 1 } else { 2 };
        world.simulator.fail(Fault::times(kind.clone(), times).room(name));
        world.robot(name).await;
    }
    world.all_ready(faults.len()).await;
    world.delete_all().await;
    for (name, _, reason) in &faults {
        let last = world.gone(name).await;
        assert!(is_true(&last, "RobotDeleted"), "{name}");
        let calls = world.simulator.calls_about(name, name);
        let expected = if name == "hang" { 2 } else { 3 };
        assert_eq!(calls.len(), expected, "{name}");
        // 0.2 s at least; 1 s at most before the second attempt, 2 s before the third, and time for the record of the
        // answer before on a slow machine; the hang takes 8 s itself.
        for (n, pair) in calls.windows(2).enumerate() {
            let gap = pair[1].at - pair[0].at;
            let own = if name == "hang" { 8_000_000 } else { 0 };
            let longest = own + 1_000_000 * (1 << n) + 5_000_000;
            // A throttled application slows down as a whole instead.
            let shortest = if *reason == "Throttled" { 0 } else { own + 190_000 };
            assert!(gap >= shortest && gap <= longest, "{name}: {gap} us before attempt {}", n + 2);
        }
        let seen: Vec<String> = world
            .views(name)
            .iter()
            .filter_map(|view| reason_of(view, "RobotDeleted").map(str::to_owned))
            .collect();
        assert!(seen.iter().any(|seen| seen == reason), "{name}: {seen:?}");
        let writes = world.robot_writes();
        let status = writes
            .iter()
            .filter(|write| write.object_ref.name == *name && write.object_ref.subresource == "status");
        assert!(
            status.count() <= 1 + calls.len(),
            "{name}: more status writes than calls and the acceptance"
        );
    }
    // A lost reply to a deletion that took effect is answered 100005 the second time.
    assert_eq!(reason_of(&world.gone("reset-after").await, "RobotDeleted"), Some("NotInRoom"));
    assert_eq!(world.simulator.population(), 0);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_without_request_id_is_a_reply() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.fail(Fault::always(Kind::NoRequestId));
    world.robot("bare").await;
    world.ready("bare").await;
    world.delete("bare").await;
    let last = world.gone("bare").await;
    assert!(condition(&last, "RobotDeleted").unwrap().message.ends_with("ErrorCode 0, no RequestId"));
    let request = last.status.unwrap().last_request.unwrap();
    assert_eq!((request.error_code, request.request_id), (Some(0), None));
    assert_eq!(world.simulator.calls_about("bare", "bare").len(), 1);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_robot_of_two_resources_is_deleted_with_the_last() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("shared").await;
    let other = serde_json::json!({"roomId": "shared", "memberAccount": "shared"});
    world.robot_with("twin", other).await;
    world.all_ready(2).await;
    world.delete("shared").await;
    let last = world.gone("shared").await;
    assert_eq!(reason_of(&last, "RobotDeleted"), Some("StillClaimed"));
    assert!(condition(&last, "RobotDeleted").unwrap().message.contains(&format!("{}/twin", world.namespace)));
    assert_eq!(world.simulator.calls().len(), 0);
    world.delete("twin").await;
    assert_eq!(reason_of(&world.gone("twin").await, "RobotDeleted"), Some("Deleted"));
    assert_eq!(world.simulator.calls().len(), 1);
    world.verify(0).await;
}
