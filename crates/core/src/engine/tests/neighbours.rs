//! What one namespace does costs another neither its turn nor the operator's memory.

use super::*;

fn taken(world: &mut World, prefix: &str) -> Duration {
    let from = world.now;
    while world.robots.keys().any(|key| key.starts_with(prefix)) {
        world.run(10 * MS);
        assert!(world.now < from + 10 * MINUTE, "{prefix} never leave");
    }
    world.now - from
}

/// The API server does some 400 writes a second, which is what the drain needs alone.
fn busy() -> World {
    let mut world = World::led_with(4);
    world.write_takes = 9 * MS;
    world
}

#[test]
fn thousands_released_under_invented_applications_keep_no_drain_waiting() {
    let alone = {
        let mut world = busy();
        let keys = world.crowd("team/r", 400, json!({}));
        world.delete_these(&keys);
        taken(&mut world, "team/")
    };
    let mut world = busy();
    let keys = world.crowd("team/r", 400, json!({}));
    for n in 0..3000 {
        world.robot_of(
            &format!("evil/e-{n}"),
            json!({"finalizers": [ROBOT_FINALIZER]}),
            json!({"deletionPolicy": "Retain", "applicationRef": {"name": format!("invented-{n}")}}),
        );
    }
    world.run(MINUTE);
    let evil: Vec<String> = world.robots.keys().filter(|key| key.starts_with("evil/")).cloned().collect();
    assert_eq!(evil.len(), 3000);
    world.delete_these(&evil);
    world.delete_these(&keys);
    let beside = taken(&mut world, "team/");
    assert!(beside <= alone.mul_f64(1.5), "{beside:?} beside them, {alone:?} alone");
    world.run(2 * MINUTE);
    assert!(world.robots.is_empty());
}

#[test]
fn names_are_let_go_with_their_last_holder() {
    let mut world = World::led();
    for n in 0..5_000 {
        let key = format!("team/r-{}", n % 7);
        world.robot(&key, json!({"applicationRef": {"name": format!("invented-{n}-{}", "x".repeat(200))}}));
        world.run(20 * MS);
        world.force(&key, false);
        world.run(20 * MS);
        assert!(
            world.engine.robots.names() <= crate::index::LEAST_NAMES,
            "{} names",
            world.engine.robots.names()
        );
        assert!(world.engine.applications.all_counts().count() <= 1);
    }
}

#[test]
fn names_that_many_hold_are_kept_once_and_let_go_some_time_after_their_last_holder() {
    let mut world = World::led();
    let named = |n: usize| json!({"applicationRef": {"name": format!("invented-{n}")}});
    for n in 0..2 * crate::index::LEAST_NAMES {
        world.robot(&format!("team/r-{n}"), named(n));
    }
    world.robot("team/goes", json!({}));
    world.run(SECOND);
    world.force("team/goes", false);
    world.run(SECOND);
    world.robot("team/again", named(1));
    world.run(SECOND);
    let name = |key: &str| {
        let id = world.engine.robots.find(&read(&world.robots[key]).key).unwrap();
        Arc::clone(&world.engine.robots.get(id).unwrap().robot.application)
    };
    assert!(Arc::ptr_eq(&name("team/r-1"), &name("team/again")));
    for key in world.robots.keys().cloned().collect::<Vec<_>>() {
        world.force(&key, false);
    }
    // As many again come and go, in bunches.
    for bunch in 0..40 {
        let keys: Vec<String> = (0..20).map(|n| format!("team/b-{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            world.robot(key, named((bunch + 50) * 20 + n));
        }
        world.run(20 * MS);
        for key in &keys {
            world.force(key, false);
        }
        world.run(20 * MS);
    }
    assert!(
        world.engine.robots.names() < 2 * crate::index::LEAST_NAMES,
        "{} names",
        world.engine.robots.names()
    );
}

/// In a namespace whose writes hang are more robots than answers may wait.
#[test]
fn a_namespace_whose_writes_hang_takes_nothing_from_the_calls_of_the_others() {
    let alone = {
        let mut world = World::led_with(32);
        let keys = world.crowd("team/r", 400, json!({}));
        world.delete_these(&keys);
        taken(&mut world, "team/")
    };
    let mut world = World::led_with(32);
    world.crowd("hung/h", 400, json!({}));
    world.crowd("team/r", 400, json!({}));
    world.failing(|key, _, _| key.starts_with("hung/").then_some(Fault::Hangs));
    // It has been so for a while.
    for key in world.robots.keys().filter(|key| key.starts_with("hung/")).cloned().collect::<Vec<_>>() {
        world.delete(&key);
    }
    world.run(20 * SECOND);
    for key in world.robots.keys().filter(|key| key.starts_with("team/")).cloned().collect::<Vec<_>>() {
        world.delete(&key);
    }
    let beside = taken(&mut world, "team/");
    assert!(beside <= alone.mul_f64(1.25), "{beside:?} beside it, {alone:?} alone");
}

/// A robot that the application refused is nothing to wait for.
#[test]
fn an_application_is_not_held_by_robots_that_it_refused() {
    let mut world = World::led();
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}});
    world.application("strict", merge_with(json!({"sdkAppId": 2}), &selector));
    world.namespace("good", &[("rtc", "yes")], false);
    world.namespace("bad", &[], false);
    world.robot("bad/r", json!({"applicationRef": {"name": "strict"}}));
    world.robot("good/r", json!({"applicationRef": {"name": "strict"}}));
    world.run(SECOND);
    assert_eq!(world.condition("bad/r", "Accepted"), Some(("False".into(), "NamespaceNotAllowed".into())));
    world.delete_application("strict");
    world.run(MINUTE);
    let told = text(&condition(&world.applications["strict"], "Ready").unwrap()["message"]);
    assert!(told.contains("waits for RoomRobot good/r"), "{told}");
    world.delete("good/r");
    world.run(10 * SECOND);
    assert!(!world.applications.contains_key("strict"), "held by a robot that it refused");
    assert!(world.robots.contains_key("bad/r"));
}

/// The write that takes a robot in charge is on its way when the last other robot goes.
#[test]
fn an_application_is_held_by_a_robot_that_is_being_taken_in_charge() {
    let mut world = World::led();
    world.robot("team/before", json!({}));
    world.run(SECOND);
    world.write_takes = SECOND;
    world.robot("team/r", json!({}));
    world.run(1500 * MS);
    assert_eq!(world.changes("team/r"), ["hold", "status"], "its acceptance is on its way");
    assert_eq!(world.condition("team/r", "Accepted"), None);
    world.delete_application("app");
    world.force("team/before", false);
    world.run(10 * SECOND);
    assert_eq!(world.condition("team/r", "Accepted").unwrap().0, "True");
    assert!(world.applications.contains_key("app"), "let go under a robot that it was to serve");
    world.delete("team/r");
    world.run(10 * SECOND);
    world.assert_gone("team/r", "Deleted");
    assert!(!world.applications.contains_key("app"));
}

fn merge_with(mut value: Value, more: &Value) -> Value {
    merge(&mut value, more);
    value
}
