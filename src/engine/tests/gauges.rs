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
