//! Additions.

use super::*;

#[test]
fn a_robot_that_is_created_is_added_and_later_deleted() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 3, json!({"creationPolicy": "Create"}));
    for key in &keys {
        assert_eq!(world.condition(key, "Ready"), Some(("True".into(), "Added".into())));
        assert_eq!(world.changes(key), ["hold", "status", "status"]);
        assert_eq!(world.robots[key]["status"]["lastRequest"]["operation"], "add_robot");
    }
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.calls.len(), 3, "not added again");
    world.delete_all();
    world.run(SECOND);
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [[Operation::AddRobot; 3], [Operation::DeleteRobot; 3]].concat());
    assert!(world.robots.is_empty());
}

#[test]
fn a_robot_that_was_never_added_is_not_deleted() {
    let mut world = World::led();
    world.configure("app", json!({"suspend": true}));
    let keys = world.crowd("team/r", 1, json!({"creationPolicy": "Create"}));
    world.delete_all();
    world.run(SECOND);
    world.assert_gone(&keys[0], "NotInRoom");
    assert_eq!(world.calls.len(), 0);
}

/// What one policy knows does not hold under the other: the robot may have come by other means.
#[test]
fn a_robot_whose_creation_policy_was_changed_is_deleted_in_any_case() {
    for policies in
        [["Adopt", "Create", "Create"], ["Create", "Adopt", "Create"], ["Create", "Adopt", "Adopt"]]
    {
        let mut world = World::led();
        world.configure("app", json!({"suspend": true}));
        let keys = world.crowd("team/r", 1, json!({"creationPolicy": policies[0]}));
        for policy in &policies[1..] {
            world.edit(&keys[0], json!({"spec": {"creationPolicy": policy}}));
            world.run(SECOND);
        }
        world.delete_all();
        world.run(SECOND);
        world.assert_waits(&keys[0], "Suspended");
        world.configure("app", json!({"suspend": false}));
        world.run(SECOND);
        world.assert_gone(&keys[0], "Deleted");
        assert_eq!(world.calls.len(), 1, "{policies:?}");
    }
}

/// A robot that is deleted while `add_robot` is under way, which is answered `code` then.
fn deleted_while_added(code: i64) -> World {
    let mut world = World::led();
    world.call_takes = 2 * SECOND;
    world.answering(move |call, _| match call.operation {
        Operation::AddRobot => Says::Code(code),
        Operation::DeleteRobot => Says::Code(0),
    });
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    world.delete("team/r");
    world.run(10 * SECOND);
    world
}

#[test]
fn a_deletion_that_comes_while_the_addition_is_under_way_follows_it() {
    for code in [0, 60011, 100_001] {
        let world = deleted_while_added(code);
        world.assert_gone("team/r", "Deleted");
        let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
        assert_eq!(operations, [Operation::AddRobot, Operation::DeleteRobot], "{code}");
    }
}

/// The change of the spec was seen before the answer came: the answer's own wait, an hour after 100002, must not hold
/// the deletion.
#[test]
fn a_deletion_does_not_wait_for_what_the_addition_would_have_waited_for() {
    for code in [100_002, 100_004, 100_700, 424_242] {
        deleted_while_added(code).assert_gone("team/r", "Deleted");
    }
}

/// A lost reply: the room engine may still carry the addition out, for 3 s by its own account, and a deletion that
/// overtook it would find nobody there.
#[test]
fn a_deletion_follows_a_lost_addition_when_that_can_do_nothing_more() {
    for (says, waits) in [
        (TroubleKind::Broken, true),
        (TroubleKind::Timeout, true),
        (TroubleKind::Http, true),
        (TroubleKind::Refused, false),
        (TroubleKind::Name, false),
    ] {
        for deleted_meanwhile in [true, false] {
            let mut world = World::led();
            // What the process before may have sent is over.
            world.run(5 * SECOND);
            world.call_takes = 500 * MS;
            world.answering(move |call, _| match call.operation {
                Operation::AddRobot => Says::Fails(says),
                Operation::DeleteRobot => Says::Code(0),
            });
            world.robot("team/r", json!({"creationPolicy": "Create"}));
            world.run(if deleted_meanwhile { 300 * MS } else { 600 * MS });
            assert_eq!(world.calls.len(), 1);
            world.delete("team/r");
            world.run(20 * SECOND);
            world.assert_gone("team/r", "Deleted");
            assert_eq!(world.calls.len(), 2);
            let gap = world.calls[1].at - world.calls[0].at - world.call_takes;
            let expected = if waits { 5 * SECOND..6 * SECOND } else { Duration::ZERO..SECOND };
            assert!(expected.contains(&gap), "{says:?}: {gap:?}");
        }
    }
}

/// The same with a second addition that was answered meanwhile: the first one may still come.
#[test]
fn a_lost_addition_is_waited_for_though_a_later_one_was_answered() {
    let mut world = World::led();
    let mut first = true;
    world.answering(move |_, _| {
        if std::mem::take(&mut first) { Says::Fails(TroubleKind::Broken) } else { Says::Code(0) }
    });
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(2 * SECOND);
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Added".into())));
    world.delete("team/r");
    world.run(20 * SECOND);
    world.assert_gone("team/r", "Deleted");
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [Operation::AddRobot, Operation::AddRobot, Operation::DeleteRobot]);
    assert!(world.calls[2].at >= world.calls[0].at + 5 * SECOND);
}

/// Killed with an addition under way: the next process gives it the same time, and no other robot waits for that.
#[test]
fn after_a_restart_a_deletion_follows_an_addition_that_may_be_under_way() {
    let mut world = World::led();
    let added = world.crowd("team/added", 1, json!({"creationPolicy": "Create"}));
    let adopted = world.crowd("team/adopted", 1, json!({}));
    world.call_takes = 2 * SECOND;
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    assert_eq!(world.calls_about("team/r"), 1);
    world.delete_all();
    world.restart();
    let began = world.now;
    world.run(20 * SECOND);
    for key in [&added[0], &adopted[0], "team/r"] {
        world.assert_gone(key, "Deleted");
        let last = world.calls.iter().rfind(|call| call.robot == *key).unwrap();
        assert_eq!(last.operation, Operation::DeleteRobot);
        assert_eq!(last.at >= began + 5 * SECOND, key == "team/r", "{key} after {:?}", last.at - began);
    }
    assert_eq!(world.calls.len(), 5);
}

/// What is stored tells the next process that nobody can have called.
#[test]
fn a_robot_that_was_never_added_is_not_deleted_by_another_process_either() {
    let mut world = World::led();
    world.configure("app", json!({"suspend": true}));
    let keys = world.crowd("team/r", 1, json!({"creationPolicy": "Create"}));
    world.delete_all();
    world.restart();
    world.run(10 * SECOND);
    world.assert_gone(&keys[0], "NotInRoom");
    // Stored with its finalizer, and deleted while nobody was there to accept it.
    let finalizer = json!({"finalizers": [ROBOT_FINALIZER]});
    world.configure("app", json!({"suspend": false}));
    world.engine = fresh(64, 1);
    world.robot_of("team/early", finalizer, json!({"creationPolicy": "Create"}));
    world.delete("team/early");
    world.restart();
    world.run(10 * SECOND);
    world.assert_gone("team/early", "NotInRoom");
    assert_eq!(world.calls.len(), 0);
}

/// A robot whose addition is in line again, at a pace that has become slow: its deletion has another pace.
#[test]
fn a_deletion_does_not_wait_in_the_line_of_additions() {
    let mut world = World::led();
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Code(60011),
        Operation::DeleteRobot => Says::Code(0),
    });
    let keys = world.crowd("team/r", 100, json!({"creationPolicy": "Create"}));
    world.run(MINUTE);
    world.delete_all();
    world.run(5 * SECOND);
    assert!(world.robots.is_empty(), "{} of {} left", world.robots.len(), keys.len());
}

/// Additions that nobody answers fill their own places only, of calls and of writes.
#[test]
fn additions_that_hang_take_no_place_of_a_deletion() {
    let mut world = World::led();
    let old = world.crowd("team/old", 20, json!({}));
    world.delete(&old[0]);
    world.run(SECOND);
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Hangs,
        Operation::DeleteRobot => Says::Code(0),
    });
    for n in 0..1000 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(20 * SECOND);
    let additions = world.calls.iter().filter(|call| call.operation == Operation::AddRobot).count();
    assert!(
        (185..=200).contains(&additions),
        "{additions} may still arrive: no more than the quota of a second"
    );
    for key in &old[1..] {
        world.delete(key);
    }
    world.run(SECOND);
    for key in &old {
        world.assert_gone(key, "Deleted");
    }
    // And with an application that has to prove itself first.
    world.restart();
    world.robot("team/late", json!({}));
    world.run(SECOND);
    world.delete("team/late");
    world.run(SECOND);
    world.assert_gone("team/late", "Deleted");
}

#[test]
fn records_of_additions_leave_places_for_what_ends_a_deletion() {
    let mut world = World::led_with(8);
    let old = world.crowd("team/old", 1, json!({}));
    world.answering(|_, _| Says::Code(0));
    world.call_takes = 3 * SECOND;
    for n in 0..200 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(3 * SECOND);
    // The API server hardly moves while the answers come in.
    world.write_takes = 10 * SECOND;
    world.run(2 * SECOND);
    let written = world.writes.len();
    world.call_takes = 50 * MS;
    world.delete(&old[0]);
    world.run(500 * MS);
    let writes: Vec<_> = world.writes[written..].iter().map(|write| write.name.clone()).collect();
    assert_eq!(writes, old, "a place was free for it");
}

#[test]
fn additions_wait_for_their_room_and_never_slow_deletions() {
    let mut world = World::led();
    world.crowd("team/old", 100, json!({}));
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Code(100_004),
        Operation::DeleteRobot => Says::Code(0),
    });
    for n in 0..100 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(500 * MS);
    for n in 0..100 {
        world.delete(&format!("team/old-{n:04}"));
    }
    world.run(800 * MS);
    assert!(world.robots.keys().all(|key| key.starts_with("team/new")), "the deletions are over");
    world.run(50 * SECOND);
    let additions = world.calls.iter().filter(|call| call.operation == Operation::AddRobot).count();
    assert_eq!(additions, 100, "the next attempt takes minutes");
    assert_eq!(world.condition("team/new-7", "Ready"), Some(("False".into(), "RoomNotFound".into())));
    assert_eq!(world.condition("team/new-7", "Stalled"), None);
    world.healthy();
    world.run(30 * SECOND);
    assert_eq!(world.condition("team/new-7", "Ready"), Some(("True".into(), "Added".into())));
}

/// Each of them has to say that a call may follow, before it does: one a minute, and no other meanwhile.
#[test]
fn while_additions_are_refused_one_robot_at_a_time_is_made_ready_to_probe() {
    let mut world = World::led();
    world.answering(|_, _| Says::Code(60010));
    for n in 0..50 {
        world.robot(&format!("team/r-{n}"), json!({"creationPolicy": "Create"}));
        world.run(SECOND);
    }
    world.write_takes = 500 * MS;
    world.crowd("team/other", 1, json!({}));
    let (calls, writes) = (world.calls.len(), world.writes.len());
    for n in 0..12_000 {
        // The engine is woken all the time.
        world.edit("team/other-0000", json!({"metadata": {"annotations": {"n": n.to_string()}}}));
        world.run(10 * MS);
    }
    let (calls, writes) = (world.calls.len() - calls, world.writes.len() - writes);
    assert!((1..=3).contains(&calls) && writes <= 2 * calls + 2, "{writes} writes, {calls} calls");
}
