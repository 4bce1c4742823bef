//! One call for one robot.

use super::*;

#[test]
fn what_the_watch_says_late_changes_nothing() {
    let mut world = World::led();
    // Each view comes 5 s after it was stored: long after this process has written more.
    world.watch_takes = 5 * SECOND;
    let keys: Vec<String> = (0..50).map(|n| format!("team/r-{n}")).collect();
    for key in &keys {
        world.robot(key, json!({}));
    }
    world.run(30 * SECOND);
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        assert_eq!(world.changes(key), ["hold", "status", "status", "drop"], "{key}");
        assert_eq!(world.calls_about(key), 1, "{key}");
    }
}

#[test]
fn a_view_that_is_older_than_what_is_known_is_not_taken() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    let accepted = read(&world.robots["team/r"]);
    world.delete("team/r");
    world.run(20 * MS);
    let deleting = read(&world.robots["team/r"]);
    // The answer is in and told; the finalizer's removal does not get through.
    world.failing(|_, change, _| match change {
        Change::DropFinalizer { .. } => Some(Fault::Refused(WriteError::Other("down".into()))),
        _ => None,
    });
    world.run(SECOND);
    assert_eq!(world.condition("team/r", "RobotDeleted").unwrap().1, "Deleted");
    let before = world.changes("team/r").iter().filter(|change| **change == "status").count();
    for old in [&accepted, &deleting] {
        world.input(Input::Robot(Box::new(old.clone())));
        world.run(SECOND);
    }
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.changes("team/r").iter().filter(|change| **change == "status").count(), before);
    world.healthy();
    world.run(MINUTE);
    world.assert_gone("team/r", "Deleted");
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn a_final_answer_whose_record_fails_is_not_asked_for_again() {
    for error in [WriteError::Other("down".into()), WriteError::Conflict("changed".into())] {
        for code in [0, 100_004, 100_005] {
            let mut world = World::led();
            world.crowd("team/r", 1, json!({}));
            let (mut failures, refusal) = (0, error.clone());
            world.answering(move |_, _| Says::Code(code));
            world.failing(move |key, _, _| {
                failures += usize::from(key == "team/r-0000");
                (failures <= 20 && key == "team/r-0000").then(|| Fault::Refused(refusal.clone()))
            });
            world.delete("team/r-0000");
            world.run(20 * MINUTE);
            assert_eq!(world.calls.len(), 1);
            assert!(world.robots.is_empty());
            let times: Vec<_> = world.writes.iter().skip(2).map(|write| write.at).collect();
            assert_eq!(times.len(), 20 + 2, "twenty failures, the record, the finalizer");
            let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).take(20).collect();
            for (n, wait) in waits.iter().enumerate() {
                let longest = (100 * MS * (1 << n.min(10))).min(30 * SECOND);
                let fits = *wait >= longest / 2 && *wait <= longest + world.write_takes;
                assert!(fits, "{wait:?} after failure {}", n + 1);
            }
        }
    }
}

#[test]
fn a_change_of_the_spec_tries_a_failed_write_again_at_once() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Other("down".into()))));
    world.delete("team/r-0000");
    world.run(5 * MINUTE);
    world.healthy();
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(100 * MS);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 1, "what is done is not undone by a policy");
}

#[test]
fn a_write_whose_reply_is_lost_costs_no_second_call() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 30, json!({}));
    let mut n = 0;
    world.failing(move |name, _, _| {
        n += usize::from(name != "app");
        (name != "app" && n % 2 == 0).then_some(Fault::ReplyLost)
    });
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        world.assert_gone(key, "Deleted");
        assert_eq!(world.calls_about(key), 1, "{key}");
    }
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn what_was_seen_while_a_write_was_under_way_counts_when_it_is_over() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.edit(&keys[0], json!({"spec": {"suspend": true}}));
    world.reply_takes = 3 * SECOND;
    world.delete(&keys[0]);
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    // The watch shows the change before the reply to that write comes, which is older than the change.
    world.edit(&keys[0], json!({"spec": {"suspend": false}}));
    world.reply_takes = Duration::ZERO;
    world.run(3 * SECOND);
    world.assert_gone(&keys[0], "Deleted");
}

#[test]
fn a_write_that_gets_through_ends_the_growing_of_the_waits() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    let (mut statuses, mut drops) = (0, 0);
    world.failing(move |_, change, _| {
        let tries = if matches!(change, Change::DropFinalizer { .. }) { &mut drops } else { &mut statuses };
        *tries += 1;
        let failures = if matches!(change, Change::DropFinalizer { .. }) { 1 } else { 8 };
        (*tries <= failures).then(|| Fault::Refused(WriteError::Other("down".into())))
    });
    world.delete_all();
    world.run(5 * MINUTE);
    assert!(world.robots.is_empty());
    let drops: Vec<_> =
        world.writes.iter().filter(|write| word(&write.change) == "drop").map(|write| write.at).collect();
    assert_eq!(drops.len(), 2);
    assert!(drops[1] - drops[0] <= 110 * MS, "{:?}", drops[1] - drops[0]);
}

#[test]
fn an_object_that_is_not_found_is_left_alone() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.delete("team/r-0000");
    world.run(20 * MS);
    // Gone by force, and the watch does not say so.
    world.force("team/r-0000", true);
    world.run(10 * MINUTE);
    assert_eq!(world.changes("team/r-0000"), ["hold", "status", "status"], "one write that did not find it");
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.engine.robots().len(), 2);
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(world.engine.robots().len(), 1);
    // A new object of the same name is another one.
    world.robot("team/r-0000", json!({}));
    world.run(SECOND);
    world.delete("team/r-0000");
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn an_object_that_was_not_found_and_shows_again_is_served_again() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    // An API server behind another one that has not heard of the object yet.
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::NotFound)));
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.changes(&keys[0]), ["hold", "status", "status"]);
    world.failing(|_, _, _| None);
    world.edit(&keys[0], json!({"metadata": {"labels": {"seen": "again"}}}));
    world.run(SECOND);
    world.assert_gone(&keys[0], "Deleted");
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_name_that_is_used_again_is_another_robot() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.call_takes = 5 * SECOND;
    world.delete("team/r-0000");
    world.run(SECOND);
    // Gone by force while its call is under way, and there again; of all that the watch tells only the end.
    world.force("team/r-0000", true);
    world.robot("team/r-0000", json!({}));
    world.run(10 * SECOND);
    assert!(read(&world.robots["team/r-0000"]).accepted());
    assert_eq!(world.condition("team/r-0000", "RobotDeleted"), None, "the answer was not about this one");
    world.delete("team/r-0000");
    world.run(10 * SECOND);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn the_end_of_an_object_is_not_the_end_of_another_of_its_name() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    let before = read(&world.robots["team/r"]);
    world.force("team/r", true);
    world.robot("team/r", json!({}));
    world.run(SECOND);
    world.input(Input::RobotGone(before.key, before.uid));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 1);
    let now = read(&world.robots["team/r"]);
    world.input(Input::RobotGone(now.key, now.uid));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn answers_that_are_not_final_wait_longer_each_time_and_a_changed_spec_does_not_wait() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(Duration::from_secs(3600));
    world.assert_waits(&keys[0], "InternalError");
    let times = world.called_by("app");
    for (n, pair) in times.windows(2).enumerate() {
        let longest = (SECOND * (1 << n.min(16))).min(5 * MINUTE);
        let wait = pair[1] - pair[0] - world.call_takes;
        assert!(
            wait >= 200 * MS && wait <= longest.max(200 * MS) + 20 * MS,
            "{wait:?} before attempt {}",
            n + 2
        );
    }
    assert!((15..60).contains(&times.len()), "{} attempts in an hour", times.len());
    let statuses = world.changes(&keys[0]).iter().filter(|change| **change == "status").count();
    assert_eq!(statuses, 1 + times.len(), "one for the acceptance and one for each answer");
    world.healthy();
    world.edit(&keys[0], json!({"spec": {"suspend": true}}));
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    world.edit(&keys[0], json!({"spec": {"suspend": false}}));
    world.run(200 * MS);
    world.assert_gone(&keys[0], "Deleted");
}

#[test]
fn what_only_a_person_can_mend_is_asked_again_after_an_hour() {
    for (code, reason, wait) in [
        (100_002, "InvalidParameter", 60 * MINUTE),
        (100_006, "PermissionDenied", 60 * MINUTE),
        (424_242, "UnknownErrorCode", MINUTE),
    ] {
        let mut world = World::led();
        let keys = world.crowd("team/r", 1, json!({}));
        world.answering(move |_, _| Says::Code(code));
        world.delete_all();
        world.run(wait.mul_f64(0.85));
        world.assert_waits(&keys[0], reason);
        assert_eq!(world.condition(&keys[0], "Stalled").unwrap().1, reason);
        assert_eq!(world.calls.len(), 1);
        world.run(wait.mul_f64(0.3));
        assert_eq!(world.calls.len(), 2);
    }
}

#[test]
fn retain_releases_a_waiting_deletion_at_once() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 2, json!({}));
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(5 * MINUTE);
    let calls = world.calls.len();
    world.secret("app-secret", Credentials::Missing);
    world.edit(&keys[0], json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(100 * MS);
    world.assert_gone(&keys[0], "Retained");
    world.assert_waits(&keys[1], "ApplicationNotReady");
    assert_eq!(world.calls.len(), calls);
}

#[test]
fn two_resources_of_one_robot_cost_one_call() {
    let same = |application: &str| json!({"roomId": "room", "memberAccount": "m", "applicationRef": {"name": application}});
    for (application, sdk_app_id, claimed) in
        [("app", 0, true), ("twin", 1_400_000_000, true), ("twin", 2, false)]
    {
        let mut world = World::led();
        if application == "twin" {
            world.application("twin", json!({"sdkAppId": sdk_app_id}));
        }
        world.robot("a/r", same("app"));
        world.robot("b/r", same(application));
        world.run(SECOND);
        world.delete("a/r");
        world.run(SECOND);
        world.assert_gone("a/r", if claimed { "StillClaimed" } else { "Deleted" });
        world.delete("b/r");
        world.run(SECOND);
        world.assert_gone("b/r", "Deleted");
        assert_eq!(world.calls.len(), if claimed { 1 } else { 2 }, "{application} of {sdk_app_id}");
    }
}

#[test]
fn a_resource_that_was_never_accepted_claims_nothing() {
    let mut world = World::led();
    world.configure("app", json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}}));
    world.namespace("yes", &[("rtc", "yes")], false);
    world.run(SECOND);
    let same = json!({"roomId": "room", "memberAccount": "m"});
    world.robot("yes/r", same.clone());
    world.robot_of("no/r", json!({"finalizers": [ROBOT_FINALIZER]}), same);
    world.run(SECOND);
    world.delete("yes/r");
    world.run(SECOND);
    world.assert_gone("yes/r", "Deleted");
}

#[test]
fn a_robot_that_is_claimed_again_releases_a_deletion_that_waits() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({"suspend": true}));
    world.delete_all();
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    world.robot("other/again", json!({"roomId": "room-r-0000", "memberAccount": "r-0000"}));
    world.run(SECOND);
    world.assert_gone(&keys[0], "StillClaimed");
    assert_eq!(world.calls.len(), 0);
}

#[test]
fn an_expired_signature_costs_one_more_call_and_no_word() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    let mut first = None;
    world.answering(move |call, _| {
        if call.signature == *first.get_or_insert(call.signature) { Says::Code(70001) } else { Says::Code(0) }
    });
    world.delete_all();
    world.run(5 * SECOND);
    for key in &keys {
        world.assert_gone(key, "Deleted");
        assert_eq!(world.changes(key).len(), 4, "{key}");
    }
    assert_eq!(world.calls.len(), 21, "only the first was signed with the old one");
    assert_eq!(world.calls[0].robot, world.calls[1].robot, "it goes before the others");
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

/// An identity should be immutable, but where it changes all the same an answer about another robot is none about this one.
#[test]
fn an_identity_that_changes_under_the_same_uid_is_another_robot() {
    for change in [json!({"roomId": "another"}), json!({"applicationRef": {"name": "other"}})] {
        let mut world = World::led();
        world.application("other", json!({"sdkAppId": 2}));
        world.crowd("team/r", 1, json!({}));
        world.failing(|name, _, _| {
            name.starts_with("team/").then(|| Fault::Refused(WriteError::Other("down".into())))
        });
        world.delete_all();
        world.run(10 * SECOND);
        assert_eq!(world.calls.len(), 1);
        world.edit("team/r-0000", json!({"spec": change}));
        world.healthy();
        world.run(MINUTE);
        world.assert_gone("team/r-0000", "Deleted");
        assert_eq!(world.calls.len(), 2, "{change}");
    }
}

/// A call a second finds out whether answers are recorded again; more would be repeated after a kill.
#[test]
fn while_no_record_is_stored_a_call_a_second_goes_out() {
    for (error, expected) in [
        // Then the writes themselves find out.
        (WriteError::Unreachable("no route".into()), 0..=25),
        (WriteError::Refused("a policy".into()), 15..=25),
        (WriteError::Late, 15..=25),
    ] {
        let mut world = World::led_with(4);
        let mut keys = Vec::new();
        for n in 0..4 {
            keys.extend(world.crowd(&format!("team-{n}/r"), 25, json!({})));
        }
        let refusal = error.clone();
        world.failing(move |_, _, _| Some(Fault::Refused(refusal.clone())));
        world.delete_all();
        world.run(10 * SECOND);
        let before = world.calls.len();
        world.run(20 * SECOND);
        let calls = world.calls.len() - before;
        assert!(expected.contains(&calls), "{calls} calls in 20 s: {error:?}");
        world.healthy();
        world.run(5 * MINUTE);
        assert!(keys.iter().all(|key| world.calls_about(key) == 1), "{error:?}");
        assert!(world.robots.is_empty(), "{error:?}");
    }
}

#[test]
fn where_one_namespace_refuses_its_records_the_others_have_theirs() {
    let mut world = World::led_with(4);
    world.crowd("shut/r", 100, json!({}));
    let others = world.crowd("open/r", 100, json!({}));
    world.failing(|key, _, _| {
        key.starts_with("shut/").then(|| Fault::Refused(WriteError::Refused("a policy".into())))
    });
    world.delete_all();
    world.run(10 * SECOND);
    assert!(others.iter().all(|key| !world.robots.contains_key(key)), "{} left", world.robots.len());
}

#[test]
fn where_one_namespace_refuses_its_records_a_deletion_in_another_waits_for_none_of_its_calls() {
    let mut world = World::led_with(4);
    let shut = world.crowd("shut/r", 100, json!({}));
    world.crowd("open/r", 1, json!({}));
    world.failing(|key, _, _| {
        key.starts_with("shut/").then(|| Fault::Refused(WriteError::Refused("a policy".into())))
    });
    world.delete_these(&shut);
    world.run(10 * SECOND);
    let before = world.calls.len();
    while world.calls.len() == before {
        world.run(10 * MS);
    }
    world.delete("open/r-0000");
    world.run(300 * MS);
    world.assert_gone("open/r-0000", "Deleted");
}

/// More would be asked for again after a kill, wherever they are.
#[test]
fn answers_of_many_namespaces_that_wait_for_their_records_hold_the_calls_back() {
    let mut world = World::led();
    world.configure("app", json!({"requestsPerSecond": 200}));
    for n in 0..10 {
        world.crowd(&format!("team-{n}/r"), 20, json!({}));
    }
    world.write_takes = 1900 * MS;
    world.delete_all();
    world.run(SECOND);
    assert!((40..=51).contains(&world.calls.len()), "{} calls", world.calls.len());
    world.run(2 * MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 200);
}

#[test]
fn namespaces_whose_writes_hang_leave_the_others_their_calls() {
    let mut world = World::led();
    world.configure("app", json!({"requestsPerSecond": 100}));
    for n in 0..3 {
        world.crowd(&format!("shut-{n}/r"), 20, json!({}));
    }
    world.failing(|key, _, _| key.starts_with("shut-").then_some(Fault::Hangs));
    world.delete_all();
    world.run(3 * SECOND);
    let others = world.crowd("open/r", 30, json!({}));
    world.delete_these(&others);
    world.run(2 * SECOND);
    assert!(others.iter().all(|key| !world.robots.contains_key(key)), "{} left", world.robots.len());
}

#[test]
fn writes_that_hang_leave_room_for_those_of_others() {
    let mut world = World::new();
    let shut: Vec<String> = (0..16).map(|n| format!("shut-{n}/r")).collect();
    for key in &shut {
        world.robot(key, json!({}));
    }
    world.lead();
    world.run(SECOND);
    world.crowd("open/r", 1, json!({}));
    assert!(world.engine.writes.limit() < shut.len());
    world.failing(|key, _, _| key.starts_with("shut-").then_some(Fault::Hangs));
    world.delete_these(&shut);
    world.run(SECOND);
    world.delete("open/r-0000");
    world.run(6 * SECOND);
    world.assert_gone("open/r-0000", "Deleted");
}

#[test]
fn one_namespace_whose_writes_hang_never_has_all_that_may_be_under_way() {
    let mut world = World::led_with(8);
    let shut = world.crowd("shut/r", 40, json!({}));
    world.crowd("open/r", 1, json!({}));
    assert_eq!(world.engine.writes.limit(), 8);
    world.failing(|key, _, _| key.starts_with("shut/").then_some(Fault::Hangs));
    world.delete_these(&shut);
    world.run(300 * MS);
    world.delete("open/r-0000");
    world.run(SECOND);
    world.assert_gone("open/r-0000", "Deleted");
}

/// One answer without a record for each of so many would be too many to ask for again.
#[test]
fn where_many_namespaces_refuse_their_records_a_call_a_second_goes_out_for_all_of_them() {
    let mut world = World::led_with(4);
    for n in 0..60 {
        world.crowd(&format!("team-{n}/r"), 2, json!({}));
    }
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Refused("a policy".into()))));
    world.delete_all();
    world.run(10 * SECOND);
    let calls = world.calls.len();
    assert!((15..=40).contains(&calls), "{calls} calls in 10 s");
    world.healthy();
    world.run(5 * MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 120);
}

#[test]
fn a_namespace_whose_writes_hang_has_one_at_a_time_until_one_is_answered() {
    let mut world = World::led();
    let shut = world.crowd("shut/r", 100, json!({}));
    world.failing(|_, _, _| Some(Fault::Hangs));
    world.delete_these(&shut);
    world.run(20 * SECOND);
    let before = world.writes.len();
    world.run(40 * SECOND);
    let begun = world.writes.len() - before;
    assert!((1..=6).contains(&begun), "{begun} writes in 40 s");
    world.healthy();
    world.write_takes = 100 * MS;
    // One at a time, 200 writes and more take 20 s.
    world.run(35 * SECOND);
    assert!(world.robots.is_empty(), "{} left", world.robots.len());
}
