//! The breaker.

use super::*;

#[test]
fn a_deletion_goes_before_an_addition_where_only_one_may_go() {
    let mut world = World::led();
    world.crowd("team/old", 5, json!({}));
    world.answering(|_, _| Says::Hangs);
    world.watch_takes = Duration::from_secs(3600);
    for n in 0..5 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
        world.delete(&format!("team/old-000{n}"));
    }
    world.watch_takes = 8 * MS;
    world.restart();
    world.run(5 * SECOND);
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [Operation::DeleteRobot]);
}

#[test]
fn a_refused_application_does_not_stop_another_of_its_sdk_app_id() {
    let mut world = World::led();
    world.secret("other-secret", user_sig("wrong"));
    world.application("other", json!({"credentials": {"secretRef": {"name": "other-secret"}}}));
    world.run(SECOND);
    world.crowd("team/a", 100, json!({}));
    world.crowd("team/b", 100, json!({"applicationRef": {"name": "other"}}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "wrong" => Says::Code(70009),
        _ => Says::Code(0),
    });
    world.delete_all();
    world.run(2 * SECOND);
    assert_eq!((world.called_by("app").len(), world.called_by("other").len()), (100, 1));
    assert_eq!(world.robots.len(), 100);
}

#[test]
fn a_deletion_waits_for_its_applications_secret_and_goes_on_with_it() {
    let mut world = World::led();
    world.secret("app-secret", Credentials::Missing);
    let keys = world.crowd("team/r", 20, json!({}));
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        world.assert_waits(key, "ApplicationNotReady");
        assert_eq!(world.changes(key).len(), 3, "{key} says so once");
    }
    world.secret("app-secret", key("a key"));
    world.run(SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 20);
}

#[test]
fn a_wrong_key_costs_a_call_a_minute_and_a_word_to_each_robot() {
    let mut world = World::new();
    world.secret("app-secret", user_sig("wrong"));
    world.lead();
    let keys = world.crowd("team/r", 500, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70009),
    });
    world.delete_all();
    let begun = world.now;
    world.run(MINUTE);
    assert!((1..=3).contains(&world.calls.len()), "{} calls in the first minute", world.calls.len());
    for key in &keys {
        world.assert_waits(key, "CredentialsRejected");
        assert_eq!(world.changes(key), ["hold", "status", "status"], "{key}");
    }
    let warnings = world.events.iter().filter(|event| event.warning && event.kind == "RoomRobot").count();
    assert!((1..=20).contains(&warnings), "{warnings} Events");
    assert_eq!(world.application_ready("app"), ("False".into(), "CredentialsRejected".into()));
    world.run(3 * MINUTE);
    let probes: Vec<_> = world.calls.iter().map(|call| (call.at - begun).as_secs()).collect();
    assert_eq!(probes, [0, 60, 120, 180]);
    let probed: BTreeSet<_> = world.calls[1..].iter().map(|call| call.robot.clone()).collect();
    assert_eq!(probed.len(), 3, "another robot each time: the trouble could be one robot's");
    let before = world.calls.len();
    world.secret("app-secret", user_sig("right"));
    world.run(3 * SECOND);
    assert_eq!(world.calls.len(), before + 500);
    assert!(most_in_a_second(&world.called_by("app")) <= 200);
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

#[test]
fn what_a_call_teaches_shows_at_once_on_the_application_and_on_its_robots() {
    for (code, ready) in [(0, ("True", "Verified")), (70009, ("False", "CredentialsRejected"))] {
        let mut world = World::led();
        world.crowd("team/r", 1, json!({}));
        world.answering(move |_, _| Says::Code(code));
        world.delete_all();
        world.run(100 * MS);
        assert_eq!(world.application_ready("app"), (ready.0.into(), ready.1.into()));
    }
    // Also where the application itself cannot be written to.
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70009),
    });
    world
        .failing(|name, _, _| (name == "app").then(|| Fault::Refused(WriteError::Other("forbidden".into()))));
    world.delete_all();
    world.run(100 * MS);
    for key in &keys {
        world.assert_waits(key, "CredentialsRejected");
    }
    world.secret("app-secret", user_sig("right"));
    world.run(SECOND);
    assert!(world.robots.is_empty());
}

#[test]
fn a_probe_that_is_accepted_brings_all_back() {
    for code in [60010, 60020] {
        let mut world = World::led();
        world.crowd("team/r", 100, json!({}));
        world.answering(move |_, now| if now < 5 * MINUTE { Says::Code(code) } else { Says::Code(0) });
        world.delete_all();
        world.run(4 * MINUTE);
        assert_eq!(world.robots.len(), 100);
        assert!(world.calls.len() <= 5);
        world.run(2 * MINUTE);
        assert!(world.robots.is_empty());
    }
}

#[test]
fn an_application_that_is_refused_is_looked_at_by_additions_too() {
    let mut world = World::led();
    world.answering(|_, now| if now < 5 * MINUTE { Says::Code(60010) } else { Says::Code(0) });
    for n in 0..20 {
        world.robot(&format!("team/r-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(4 * MINUTE);
    assert!((2..=5).contains(&world.calls.len()), "{}", world.calls.len());
    assert_eq!(world.condition("team/r-0", "Ready"), Some(("False".into(), "PermissionDenied".into())));
    // Those that were refused themselves wait for up to ten minutes; the others go on with the first probe that is accepted.
    world.run(2 * MINUTE);
    let added = |world: &World| {
        let ready = |n: &usize| world.condition(&format!("team/r-{n}"), "Ready").unwrap().1 == "Added";
        (0..20).filter(ready).count()
    };
    assert!(added(&world) >= 15, "{}", added(&world));
    world.run(10 * MINUTE);
    for n in 0..20 {
        assert_eq!(world.condition(&format!("team/r-{n}"), "Ready"), Some(("True".into(), "Added".into())));
    }
}

#[test]
fn a_refused_application_without_a_waiting_robot_is_at_rest() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(70009));
    world.delete_all();
    world.run(SECOND);
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(5 * MINUTE);
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.engine.next_due(world.now), None);
    // The next robot is the next probe.
    world.healthy();
    world.crowd("team/s", 1, json!({}));
    world.delete_all();
    world.run(2 * MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

/// It is put back in line, from which nothing is taken while the application is refused: the next probe must find it.
#[test]
fn a_probe_whose_signature_has_expired_is_not_the_last_one() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    let mut codes = vec![0, 70001, 60010];
    world.answering(move |_, _| Says::Code(codes.pop().unwrap_or_default()));
    world.delete_all();
    world.run(5 * MINUTE);
    assert!(world.robots.is_empty(), "{} calls and then none", world.calls.len());
}

#[test]
fn too_many_bad_signatures_hold_the_right_key_off_for_a_minute() {
    let mut world = World::new();
    world.secret("app-secret", user_sig("wrong"));
    world.lead();
    world.crowd("team/r", 5, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70050),
    });
    world.delete_all();
    world.run(5 * SECOND);
    world.secret("app-secret", user_sig("right"));
    world.run(50 * SECOND);
    assert_eq!(world.calls.len(), 1);
    // Nothing else happens that would wake it.
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 6);
}

#[test]
fn a_dead_endpoint_shows_on_every_robot_and_is_tried_again_until_it_lives() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 100, json!({}));
    world.call_takes = 8 * SECOND;
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(8 * SECOND);
    assert_eq!(world.calls.len(), 1, "nothing is proven yet");
    world.run(2 * MINUTE);
    for key in &keys {
        world.assert_waits(key, "Unreachable");
        assert_eq!(world.condition(key, "Stalled"), None);
    }
    world.call_takes = 50 * MS;
    world.healthy();
    world.run(6 * MINUTE);
    assert!(world.robots.is_empty());
}

#[test]
fn the_brake_stops_a_drain_and_lets_it_go_on() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 600, json!({}));
    world.delete_all();
    world.run(SECOND);
    world.configure("app", json!({"suspend": true}));
    world.run(SECOND);
    let calls = world.calls.len();
    assert!((190..210).contains(&calls), "{calls}");
    let left: Vec<_> = keys.iter().filter(|key| world.robots.contains_key(*key)).cloned().collect();
    assert!(left.len() > 380);
    for key in &left {
        world.assert_waits(key, "Suspended");
        assert_eq!(world.changes(key).len(), 3, "{key} says so once");
    }
    world.run(MINUTE);
    assert_eq!(world.calls.len(), calls);
    assert_eq!(world.application_ready("app"), ("False".into(), "Suspended".into()));
    world.configure("app", json!({"suspend": false}));
    world.run(4 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 600);
}

/// What each robot waits for by itself, be it five minutes or an hour, was learnt from another endpoint, identifier or key.
#[test]
fn a_corrected_application_is_tried_at_once_by_every_robot_that_waits() {
    let right = "https://adminapisgp.im.qcloud.com";
    let correct: [fn(&mut World); 2] = [
        |world| world.configure("app", json!({"endpoint": "https://adminapisgp.im.qcloud.com"})),
        |world| world.secret("app-secret", key("another key")),
    ];
    for (n, correct) in correct.into_iter().enumerate() {
        let mut world = World::led();
        world.crowd("team/r", 100, json!({}));
        world.delete_all();
        world.robot("team/new", json!({"creationPolicy": "Create"}));
        world.answering(|call, _| match &*call.target.member_account {
            "r-0000" => Says::Code(100_006),
            _ => Says::Fails(TroubleKind::Name),
        });
        world.run(30 * MINUTE);
        world.assert_waits("team/r-0000", "PermissionDenied");
        world.assert_waits("team/r-0099", "Unreachable");
        world.answering(move |call, _| match n {
            0 if call.caller.endpoint.to_string() != right => Says::Fails(TroubleKind::Name),
            _ => Says::Code(0),
        });
        correct(&mut world);
        world.run(2 * SECOND);
        assert_eq!(world.robots.keys().collect::<Vec<_>>(), ["team/new"]);
        assert_eq!(world.condition("team/new", "Ready").unwrap().1, "Added");
    }
}

/// Nothing that hangs may do so in silence.
#[test]
fn a_secret_that_may_not_be_read_is_told_and_one_that_was_read_stays_in_use() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.secret("app-secret", Credentials::Unreadable("forbidden".into()));
    world.run(MINUTE);
    world.delete("team/r-0000");
    world.run(MINUTE);
    world.assert_gone("team/r-0000", "Deleted");
    // The process after this one has never seen it.
    world.restart();
    world.run(MINUTE);
    world.delete("team/r-0001");
    world.run(MINUTE);
    world.assert_waits("team/r-0001", "ApplicationNotReady");
    let told = text(&condition(&world.robots["team/r-0001"], "RobotDeleted").unwrap()["message"]);
    assert!(
        told.contains("Secret app-secret cannot be read: forbidden; the operator tries again by itself"),
        "{told}"
    );
    assert_eq!(world.application_ready("app"), ("False".into(), "SecretInvalid".into()));
    world.secret("app-secret", key("a key"));
    world.run(SECOND);
    world.assert_gone("team/r-0001", "Deleted");
}
