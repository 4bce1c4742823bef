//! What gauges show.

use super::*;

#[test]
fn a_snapshot_tells_the_line_the_pace_and_when_it_is_empty() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 400, json!({}));
    world.run(SECOND);
    let at_rest = world.engine.snapshot(world.moment());
    assert!(at_rest.reconciles >= 400);
    let application = &at_rest.applications[0];
    assert_eq!((application.breaker, application.oldest), (Some(crate::application::Breaker::Trial), 0));
    assert_eq!(application.quotas[0].eta, Some(0.0));
    for key in &keys {
        world.delete(key);
    }
    world.run(SECOND);
    let draining = world.engine.snapshot(world.moment());
    let application = &draining.applications[0];
    assert_eq!(application.breaker, Some(crate::application::Breaker::Closed));
    let quota = application.quotas[0];
    assert!((150..=250).contains(&quota.waiting), "{quota:?}");
    assert_eq!((quota.limit, quota.operation), (200, Operation::DeleteRobot));
    assert!((quota.pace - 200.0).abs() < 1e-9);
    assert!(
        (quota.eta.unwrap() - f64::from(u32::try_from(quota.waiting).unwrap()) / 200.0).abs() < 1e-9,
        "{quota:?}"
    );
    assert!(draining.queues.contains(&("call", quota.waiting)), "{draining:?}");
    world.run(MINUTE);
    let over = world.engine.snapshot(world.moment());
    assert_eq!(over.applications[0].quotas[0].waiting, 0);
}

#[test]
fn how_long_a_reason_has_been_told_is_not_how_old_the_deletion_is() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.configure("app", json!({"suspend": true}));
    world.run(SECOND);
    world.delete("team/r-0000");
    world.run(MINUTE);
    world.delete("team/r-0001");
    world.run(MINUTE);
    let snapshot = world.engine.snapshot(world.moment());
    let [suspended] = snapshot.applications[0].pending[..] else { panic!("{snapshot:?}") };
    assert_eq!((suspended.reason, suspended.robots), (Some(Reason::Suspended), 2));
    assert!((119..=121).contains(&suspended.told), "{suspended:?}");
    world.configure("app", json!({"suspend": false}));
    world.answering(|_, _| Says::Hangs);
    world.run(SECOND);
    // One call at a time until the first verdict: the other one is in line, whatever its condition still says.
    let snapshot = world.engine.snapshot(world.moment());
    assert_eq!(snapshot.applications[0].quotas[0].waiting, 1, "{snapshot:?}");
}

/// Anybody who may create a RoomRobot may write any name there.
#[test]
fn names_that_no_application_has_are_counted_together() {
    let mut world = World::led();
    world.crowd("team/r", 3, json!({}));
    for n in 0..20 {
        world.robot(&format!("team/lost-{n}"), json!({"applicationRef": {"name": format!("made-up-{n}")}}));
    }
    world.run(SECOND);
    let snapshot = world.engine.snapshot(world.moment());
    let counts: Vec<_> = snapshot.applications.iter().map(|one| (&*one.name, one.robots)).collect();
    assert_eq!(counts, [(UNKNOWN, 20), ("app", 3)]);
}
