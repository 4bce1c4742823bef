//! The start, and the life of a robot.

use super::*;

#[test]
fn nothing_happens_before_leading_and_all_lists() {
    let scopes: [Option<Arc<str>>; 2] = [Some("a".into()), Some("b".into())];
    let robot = |key: &str| {
        let mut world = World::new();
        world.robot(key, json!({}));
        Box::new(read(&world.robots[key]))
    };
    let mut application = read_application(&World::new().applications["app"]);
    application.finalizer_names = vec![crate::crd::APPLICATION_FINALIZER.to_owned()];
    // Each gate in its turn is the last to open.
    for last in 0..5 {
        let mut engine = fresh(64, 2);
        let now = Now { since_start: SECOND, wall: Timestamp::from_second(START).unwrap() };
        let mut order: Vec<usize> = (0..5).filter(|gate| *gate != last).collect();
        order.push(last);
        for gate in order {
            let inputs = match gate {
                0 => vec![Input::Leading(Before::Finished)],
                1 => vec![
                    Input::ApplicationsListing(1),
                    Input::Application(Box::new(application.clone())),
                    Input::ApplicationsListed(BTreeSet::from(["app".into()])),
                ],
                2 => vec![Input::NamespacesListed(BTreeSet::new())],
                scope => {
                    let scope = scopes[scope - 3].clone();
                    let key = format!("{}/robot", scope.as_deref().unwrap());
                    vec![
                        Input::RobotsListing(scope.clone(), 1),
                        Input::Robot(robot(&key)),
                        Input::RobotsListed(scope),
                    ]
                }
            };
            for input in inputs {
                engine.handle(input, now);
            }
            let secret = |effect: &Effect| matches!(effect, Effect::WatchSecret(_) | Effect::ListAgain(_));
            let effects = engine.advance(now);
            if gate == last {
                let writes = effects.iter().filter(|effect| matches!(effect, Effect::Write(_))).count();
                assert_eq!(writes, 2, "gate {last}: {effects:?}");
            } else {
                assert!(effects.iter().all(secret), "before gate {last}: {effects:?}");
                assert!(gate == last || !(engine.synced() && last != 0));
            }
        }
        assert!(engine.synced());
    }
}

#[test]
fn a_whole_life_is_four_writes_and_one_call() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    world.run(MINUTE);
    assert_eq!(world.calls.len(), 0, "no call for a robot that is in the room by other means");
    world.delete_all();
    world.run(10 * SECOND);
    for key in &keys {
        assert_eq!(world.changes(key), ["hold", "status", "status", "drop"], "{key}");
        assert_eq!(world.calls_about(key), 1, "{key}");
        world.assert_gone(key, "Deleted");
        let last = &world.gone[key];
        let request = &last["status"]["lastRequest"];
        assert_eq!((&request["operation"], &request["errorCode"]), (&"delete_robot".into(), &0.into()));
        assert_eq!(request["httpStatus"], 200);
        let told = text(&condition(last, "RobotDeleted").unwrap()["message"]);
        let end = format!("ErrorCode 0, RequestId {}", text(&request["requestId"]));
        assert!(told.ends_with(&end), "{told}");
        assert_eq!(last["status"]["observedGeneration"], last["metadata"]["generation"]);
    }
    world.run(10 * MINUTE);
    assert_eq!((world.writes.len(), world.calls.len()), (80, 20));
    assert_eq!(world.engine.robots().len(), 0);
    let mut told: Vec<_> =
        world.events.iter().filter(|event| event.kind == "RoomRobot").map(|event| event.reason).collect();
    told.dedup();
    assert_eq!(told, [Reason::Adopted, Reason::Deleted], "an Event for each change of the reason");
}

/// A policy of the cluster adds the finalizer at creation: one write less.
#[test]
fn finalizers_of_others_and_our_own_from_birth_are_taken_as_they_come() {
    let mut world = World::led();
    world.robot_of("team/born", json!({"finalizers": [ROBOT_FINALIZER]}), json!({}));
    world.robot_of("team/shared", json!({"finalizers": ["example.com/backup"]}), json!({}));
    world.run(SECOND);
    assert_eq!(
        world.robots["team/shared"]["metadata"]["finalizers"],
        json!(["example.com/backup", ROBOT_FINALIZER])
    );
    world.delete_all();
    world.run(SECOND);
    assert_eq!(world.changes("team/born"), ["status", "status", "drop"]);
    assert_eq!(world.changes("team/shared"), ["hold", "status", "status", "drop"]);
    assert_eq!(world.robots["team/shared"]["metadata"]["finalizers"], json!(["example.com/backup"]));
    world.run(MINUTE);
    assert_eq!((world.writes.len(), world.calls.len()), (7, 2), "what others wait for is not ours");
}

#[test]
fn a_finalizer_that_moved_is_dropped_where_it_stands_now() {
    let mut world = World::led();
    world.robot_of("team/r", json!({"finalizers": ["example.com/a", ROBOT_FINALIZER]}), json!({}));
    world.run(SECOND);
    world.delete("team/r");
    while world.changes("team/r").last() != Some(&"drop") {
        world.run(MS);
    }
    // Somebody else's goes while ours is on its way out.
    world.edit("team/r", json!({"metadata": {"finalizers": [ROBOT_FINALIZER]}}));
    world.run(SECOND);
    world.assert_gone("team/r", "Deleted");
    assert_eq!(world.changes("team/r"), ["status", "status", "drop", "drop"]);
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_finalizer_that_was_dropped_is_put_back() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.edit("team/r-0000", json!({"metadata": {"finalizers": null}}));
    world.run(SECOND);
    assert_eq!(world.robots["team/r-0000"]["metadata"]["finalizers"], json!([ROBOT_FINALIZER]));
    assert_eq!(world.changes("team/r-0000"), ["hold", "status", "hold"]);
}
