//! Several RoomRobots that stand for one robot: who answers for its removal.

use super::*;

const SHARED: &str = "shared";

/// A RoomRobot that stands for the shared robot.
fn claim(world: &mut World, key: &str, spec: Value) {
    let mut whole = json!({"roomId": "room", "memberAccount": SHARED});
    merge(&mut whole, &spec);
    world.robot(key, whole);
    world.run(SECOND);
}

fn deletions(world: &World) -> usize {
    world.calls.iter().filter(|call| call.operation == Operation::DeleteRobot).count()
}

/// The addition was held from the start, so that there is nothing that the second could remove.
#[test]
fn who_was_never_added_inherits_nothing() {
    for order in [["team/x", "team/y"], ["team/y", "team/x"]] {
        let mut world = World::led();
        world.configure("app", json!({"suspend": true}));
        claim(&mut world, "team/x", json!({}));
        claim(&mut world, "team/y", json!({"creationPolicy": "Create"}));
        for key in order {
            world.delete(key);
            world.run(SECOND);
        }
        world.configure("app", json!({"suspend": false}));
        world.run(10 * SECOND);
        assert!(world.robots.is_empty());
        assert_eq!(deletions(&world), 1, "deleted in the order {order:?}");
        world.assert_gone("team/x", "Deleted");
    }
}

/// The same by another process, which knows only what is stored.
#[test]
fn who_was_never_added_inherits_nothing_after_a_restart_either() {
    let mut world = World::led();
    world.configure("app", json!({"suspend": true}));
    claim(&mut world, "team/x", json!({}));
    claim(&mut world, "team/y", json!({"creationPolicy": "Create"}));
    world.delete("team/x");
    world.run(SECOND);
    world.restart();
    world.run(SECOND);
    world.delete("team/y");
    world.run(SECOND);
    world.restart();
    world.configure("app", json!({"suspend": false}));
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(deletions(&world), 1);
}

#[test]
fn who_would_retain_inherits_nothing() {
    let mut world = World::led();
    claim(&mut world, "a/x", json!({}));
    claim(&mut world, "b/y", json!({"deletionPolicy": "Retain"}));
    world.delete("a/x");
    world.run(SECOND);
    world.delete("b/y");
    world.run(SECOND);
    world.assert_gone("a/x", "Deleted");
    world.assert_gone("b/y", "Retained");
    assert_eq!(deletions(&world), 1);
}

#[test]
fn who_may_have_been_added_inherits() {
    let mut world = World::led();
    claim(&mut world, "team/x", json!({}));
    claim(&mut world, "team/y", json!({"creationPolicy": "Create"}));
    world.delete("team/x");
    world.run(SECOND);
    world.assert_gone("team/x", "StillClaimed");
    world.delete("team/y");
    world.run(SECOND);
    world.assert_gone("team/y", "Deleted");
    assert_eq!(deletions(&world), 1);
}

/// A deletion that waits is released by the first that would take over; it is looked at again as soon as there is one.
#[test]
fn a_deletion_that_waits_is_released_by_who_becomes_an_heir() {
    let mut world = World::led();
    world.answering(|call, _| Says::Code(if call.operation == Operation::DeleteRobot { 100_002 } else { 0 }));
    claim(&mut world, "team/x", json!({}));
    claim(&mut world, "team/y", json!({"deletionPolicy": "Retain"}));
    world.delete("team/x");
    world.run(SECOND);
    world.assert_waits("team/x", "InvalidParameter");
    world.edit("team/y", json!({"spec": {"deletionPolicy": "Delete"}}));
    world.run(SECOND);
    world.assert_gone("team/x", "StillClaimed");
}

/// An heir that changes its mind before the finalizer of the first is off: that one is asked for after all.
#[test]
fn an_heir_that_goes_before_the_finalizer_does_is_none() {
    let mut world = World::led();
    claim(&mut world, "team/x", json!({}));
    claim(&mut world, "team/y", json!({}));
    let refused = WriteError::Other("503".into());
    world.failing(move |key, change, _| {
        (key == "team/x" && matches!(change, Change::DropFinalizer { .. }))
            .then(|| Fault::Refused(refused.clone()))
    });
    world.delete("team/x");
    world.run(SECOND);
    world.assert_waits("team/x", "StillClaimed");
    world.edit("team/y", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.healthy();
    world.run(MINUTE);
    world.assert_gone("team/x", "Deleted");
    assert_eq!(deletions(&world), 1);
}

/// Applications of one SDKAppID mean the same room; of another one, not.
#[test]
fn an_application_of_the_same_sdk_app_id_has_heirs_and_another_has_none() {
    for (sdk_app_id, expected) in [(1_400_000_000, "StillClaimed"), (2, "Deleted")] {
        let mut world = World::led();
        world.application("other", json!({"sdkAppId": sdk_app_id}));
        claim(&mut world, "team/x", json!({}));
        claim(&mut world, "team/y", json!({"applicationRef": {"name": "other"}}));
        world.delete("team/x");
        world.run(SECOND);
        world.assert_gone("team/x", expected);
    }
}

/// However many stand for one robot, each deletion takes the same time.
#[test]
fn thousands_that_stand_for_one_robot_take_as_long_each_as_a_few() {
    let looks = |count: usize| {
        let mut world = World::led_with(1000);
        for n in 0..count {
            world.robot(&format!("team/r-{n}"), json!({"roomId": "room", "memberAccount": SHARED}));
        }
        world.run(20 * SECOND);
        let before = world.engine.reconciles;
        world.delete_all();
        world.run(5 * MINUTE);
        assert!(world.robots.is_empty(), "{} of {count} are left", world.robots.len());
        assert!(world.engine.robots.is_empty());
        (world.engine.reconciles - before) / u64::try_from(count).unwrap()
    };
    assert!(looks(2_000) <= looks(100) + 1);
}

/// A rename in Git while the leader changes: the new object is created and the old one deleted before the view of the one
/// that takes over has caught up.
#[test]
fn who_takes_over_acts_on_a_view_as_new_as_its_lease() {
    let mut world = World::led();
    claim(&mut world, "team/old", json!({}));
    world.input(Input::Lost);
    world.run(SECOND);
    // Another process takes the new one in charge; here the watch is late.
    world.watch_takes = 10 * SECOND;
    world.robot_of(
        "team/new",
        json!({"finalizers": [ROBOT_FINALIZER]}),
        json!({"roomId": "room", "memberAccount": SHARED}),
    );
    world.edit("team/new", json!({"status": {"conditions": [
        {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Ready", "status": "True", "reason": "Adopted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}}));
    world.watch_takes = 8 * MS;
    world.told.clear();
    world.delete("team/old");
    world.list_takes = 300 * MS;
    world.input(Input::Leading(Before::Finished));
    world.run(250 * MS);
    assert_eq!(
        world.writes.iter().filter(|write| write.name == "team/old" && write.at > 2 * SECOND).count(),
        0
    );
    world.run(5 * SECOND);
    assert_eq!(deletions(&world), 0, "the robot of the new one was deleted");
    world.assert_gone("team/old", "StillClaimed");
}

/// Somebody creates the one and deletes the other at the same moment, while one process leads, or while none does.
#[test]
fn a_rename_removes_no_robot_from_its_room() {
    for led in [true, false] {
        let mut world = World::led();
        claim(&mut world, "team/old", json!({}));
        world.write_takes = 12 * MS;
        if !led {
            world.input(Input::Lost);
            world.run(SECOND);
        }
        world.robot("team/new", json!({"roomId": "room", "memberAccount": SHARED}));
        world.run(5 * MS);
        world.delete("team/old");
        world.run(20 * MS);
        if !led {
            world.input(Input::Leading(Before::Finished));
        }
        world.run(5 * SECOND);
        assert_eq!(deletions(&world), 0, "the robot of the new one was deleted");
        world.assert_gone("team/old", "StillClaimed");
    }
}

/// It will not be taken in charge, or would delete nothing: nobody waits for it.
#[test]
fn a_deletion_waits_for_nobody_who_will_not_inherit() {
    type Refused = Option<fn(&Change) -> bool>;
    let cases: [(Value, Refused); 5] = [
        (json!({"applicationRef": {"name": "nowhere"}}), None),
        (json!({"deletionPolicy": "Retain"}), None),
        (json!({"creationPolicy": "Create"}), None),
        (json!({}), Some(|_| true)),
        (json!({}), Some(|change| !matches!(change, Change::Status(_)))),
    ];
    for (spec, refused) in cases {
        let mut world = World::led();
        claim(&mut world, "team/old", json!({}));
        if let Some(refused) = refused {
            let words = WriteError::Refused("denied".into());
            world.failing(move |key, change, _| {
                (key == "team/new" && refused(change)).then(|| Fault::Refused(words.clone()))
            });
        }
        let mut whole = json!({"roomId": "room", "memberAccount": SHARED, "suspend": true});
        merge(&mut whole, &spec);
        world.robot("team/new", whole);
        world.delete("team/old");
        world.run(3 * SECOND);
        world.assert_gone("team/old", "Deleted");
        assert_eq!(deletions(&world), 1, "{spec}");
    }
}

/// A list comes one by one, in the order of names. What it has not shown yet may have changed before what it has.
#[test]
fn a_deletion_that_a_list_shows_waits_until_the_list_is_complete() {
    let mut world = World::led();
    world.crowd("team/old", 1, json!({"roomId": "room", "memberAccount": "robot"}));
    world.crowd(
        "team/young",
        1,
        json!({"roomId": "room", "memberAccount": "robot", "deletionPolicy": "Retain"}),
    );
    let changed = |world: &World, key: &str, change: Value| {
        let mut object = world.robots[key].clone();
        merge(&mut object, &change);
        renew(&mut object, world.version + 10, true);
        Input::Robot(Box::new(read(&object)))
    };
    let deleted =
        changed(&world, "team/old-0000", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let heir = changed(&world, "team/young-0000", json!({"spec": {"deletionPolicy": "Delete"}}));
    let step =
        |world: &World| world.engine.would_do(&read(&world.robots["team/old-0000"]).key, world.moment());
    let now = world.moment();
    world.engine.handle(Input::RobotsListing(None, world.round), now);
    world.engine.handle(deleted, now);
    assert!(world.engine.advance(now).is_empty(), "{:?}", step(&world));
    world.engine.handle(heir, now);
    world.engine.handle(Input::RobotsListed(None), now);
    let Some(Step::Report(wanted)) = step(&world) else { panic!("{:?}", step(&world)) };
    assert!(wanted.iter().any(|want| want.reason == Reason::StillClaimed), "{wanted:?}");
}
