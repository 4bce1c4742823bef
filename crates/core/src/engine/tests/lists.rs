//! Lists.

use super::*;

#[test]
fn a_list_without_a_robot_forgets_it_and_what_it_counted_for() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 10, json!({}));
    world.answering(|_, _| Says::Hangs);
    for key in &keys[..6] {
        world.delete(key);
    }
    world.run(MINUTE);
    let counts = |world: &World| {
        let status = &world.applications["app"]["status"];
        (status["robots"].as_i64().unwrap(), status["deleting"].as_i64().unwrap())
    };
    assert_eq!(counts(&world), (10, 6));
    let snapshot = world.engine.snapshot(world.moment());
    assert_eq!(snapshot.applications[0].robots, 10);
    assert_eq!(snapshot.applications[0].pending, [PendingSnapshot { reason: None, robots: 6, told: 0 }]);
    assert!((50..70).contains(&snapshot.applications[0].oldest));
    for key in &keys[3..] {
        world.force(key, true);
    }
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(world.engine.robots().len(), 3);
    assert_eq!(counts(&world), (3, 3));
    for key in &keys[..3] {
        world.force(key, true);
    }
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(counts(&world), (0, 0));
    let snapshot = world.engine.snapshot(world.moment());
    assert_eq!((snapshot.applications[0].robots, snapshot.applications[0].pending.len()), (0, 0));
    assert_eq!(world.applications["app"]["metadata"].get("finalizers"), None, "nobody holds it any more");
}

/// A list may come from an API server that is behind: it forgets nobody that it shows.
#[test]
fn a_list_that_shows_older_views_forgets_nobody() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    let old = read(&world.robots["team/r"]);
    world.run(SECOND);
    world.input(Input::RobotsListing(None, world.round));
    world.input(Input::Robot(Box::new(old)));
    world.input(Input::RobotsListed(None));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 1);
    assert_eq!(world.changes("team/r"), ["hold", "status"]);
}

#[test]
fn the_list_of_one_namespace_says_nothing_about_another() {
    let mut world = World::new();
    world.scopes = vec![Some("a"), Some("b")];
    world.engine = fresh(64, 2);
    world.robot("a/r", json!({}));
    world.robot("b/r", json!({}));
    world.lead();
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 2);
    for scope in ["a", "b"] {
        world.input(Input::RobotsListing(Some(scope.into()), world.round));
        let robot = read(&world.robots[&format!("{scope}/r")]);
        world.input(Input::Robot(Box::new(robot)));
        world.input(Input::RobotsListed(Some(scope.into())));
        world.run(SECOND);
        assert_eq!(world.engine.robots().len(), 2);
    }
}

/// With several `--watch-namespace` the first lists always do.
#[test]
fn lists_of_two_namespaces_may_come_in_together() {
    let mut world = World::new();
    world.scopes = vec![Some("a"), Some("b")];
    world.engine = fresh(64, 2);
    for key in ["a/1", "a/2", "b/1", "b/2"] {
        world.robot(key, json!({}));
    }
    world.coming.clear();
    let show = |world: &mut World, key: &str| {
        let robot = read(&world.robots[key]);
        world.input(Input::Robot(Box::new(robot)));
    };
    world.list_others();
    world.input(Input::RobotsListing(Some("a".into()), world.round));
    show(&mut world, "a/1");
    world.input(Input::RobotsListing(Some("b".into()), world.round));
    show(&mut world, "b/1");
    show(&mut world, "a/2");
    world.input(Input::RobotsListed(Some("a".into())));
    show(&mut world, "b/2");
    world.input(Input::RobotsListed(Some("b".into())));
    world.input(Input::Leading(Before::Finished));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 4);
}
