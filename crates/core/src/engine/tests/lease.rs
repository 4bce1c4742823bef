//! Who may act, and who may not any more.

use super::*;

/// A world of robots that are being deleted, in which nobody has led since.
fn waiting(count: usize) -> (World, Vec<String>) {
    let mut world = World::led();
    let keys = world.crowd("team/r", count, json!({}));
    world.input(Input::Lost);
    world.delete_all();
    world.run(SECOND);
    (world, keys)
}

#[test]
fn a_process_counts_as_elected_until_it_has_lost() {
    let mut world = World::new();
    assert!(!world.engine.elected());
    world.lead();
    world.run(SECOND);
    assert!(world.engine.elected());
    world.input(Input::Lost);
    world.run(SECOND);
    assert!(!world.engine.elected());
}

#[test]
fn without_an_election_no_call_goes_out_in_the_first_second() {
    let (mut world, _) = waiting(3);
    let from = world.now;
    world.input(Input::Leading(Before::Unknown));
    world.run(10 * SECOND);
    assert_eq!(world.calls.len(), 3);
    let first = world.calls[0].at - from;
    assert!((SECOND..1100 * MS).contains(&first), "{first:?}");
}

#[test]
fn after_one_that_finished_calls_go_out_at_once_and_after_one_that_vanished_two_seconds_later() {
    for (before, wait) in [(Before::Finished, Duration::ZERO), (Before::Vanished, 2 * SECOND)] {
        let (mut world, _) = waiting(3);
        let from = world.now;
        world.input(Input::Leading(before));
        world.run(10 * SECOND);
        assert_eq!(world.calls.len(), 3);
        let first = world.calls[0].at - from;
        assert!((wait..wait + 100 * MS).contains(&first), "{before:?}: {first:?}");
    }
}

#[test]
fn without_the_lease_nothing_is_called_or_begun_and_final_answers_are_recorded() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 40, json!({}));
    world.call_takes = 2 * SECOND;
    world.answering(|call, _| Says::Code(if call.key.name.ends_with('7') { 100_001 } else { 0 }));
    world.delete_all();
    world.run(2100 * MS);
    let (calls, written) = (world.calls.len(), world.writes.len());
    assert!((2..40).contains(&calls));
    world.robot("team/new", json!({}));
    world.input(Input::Lost);
    world.run(MINUTE);
    assert_eq!(world.calls.len(), calls, "no call");
    assert_eq!(world.changes("team/new"), [""; 0], "no new charge");
    for (n, key) in keys.iter().enumerate() {
        let since = world.writes[written..].iter().filter(|write| write.name == *key);
        let since: Vec<_> = since.map(|write| word(&write.change)).collect();
        let called = world.calls_about(key) == 1;
        match world.condition(key, "RobotDeleted") {
            Some((is, reason)) if called && n % 10 != 7 => {
                assert_eq!((is.as_str(), reason.as_str()), ("True", "Deleted"), "{key}");
                assert!(since.iter().all(|change| *change == "status"), "{key}: {since:?}");
            }
            told => {
                assert!(told.is_none() && since.is_empty() && (n % 10 == 7 || !called), "{key}: {told:?}");
            }
        }
    }
    world.input(Input::Leading(Before::Finished));
    world.answering(|_, _| Says::Code(0));
    world.run(MINUTE);
    assert!(world.robots.keys().eq(["team/new"]));
    let again = keys.iter().filter(|key| world.calls_about(key) > 1).count();
    let asked = keys.iter().filter(|key| key.ends_with('7')).filter(|key| world.calls_about(key) == 2);
    assert_eq!(again, asked.count(), "only those whose answer was not final");
}

/// An outage of the API server during which the Lease is lost, and taken again by the same process.
#[test]
fn final_answers_that_nobody_could_record_are_not_asked_for_again_by_the_one_that_has_them() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 300, json!({}));
    world.delete_all();
    world.run(300 * MS);
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Unreachable("connection refused".into()))));
    world.run(12 * SECOND);
    world.input(Input::Lost);
    world.run(MINUTE);
    world.healthy();
    world.input(Input::Leading(Before::Vanished));
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    for key in keys {
        assert_eq!(world.calls_about(&key), 1, "{key}");
    }
}

/// Another may have led meanwhile: waits and refusals that this one knew say nothing any more.
#[test]
fn who_leads_again_starts_afresh() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 5, json!({}));
    world.answering(|_, _| Says::Code(100_006));
    world.delete_all();
    world.run(10 * SECOND);
    world.assert_waits(&keys[0], "PermissionDenied");
    world.answering(|_, _| Says::Code(70009));
    world.robot("team/other", json!({}));
    world.run(SECOND);
    world.delete("team/other");
    world.run(SECOND);
    world.assert_waits("team/other", "CredentialsRejected");
    world.input(Input::Lost);
    world.run(SECOND);
    world.answering(|_, _| Says::Code(0));
    world.input(Input::Leading(Before::Finished));
    world.run(5 * SECOND);
    assert!(world.robots.is_empty(), "an hour's wait, and the minute until a probe");
}

/// A process that was stopped between deciding and sending.
#[test]
fn a_call_that_was_not_sent_goes_out_when_it_may() {
    for policy in ["Adopt", "Create"] {
        let mut world = World::led();
        world.robot("team/r", json!({"creationPolicy": policy, "suspend": true}));
        world.run(SECOND);
        if policy == "Adopt" {
            world.delete("team/r");
        }
        world.answering(|_, _| Says::Unsent);
        world.edit("team/r", json!({"spec": {"suspend": false}}));
        while world.engine.calls.in_flight() == 0 {
            world.run(MS);
        }
        world.input(Input::Lost);
        world.run(MINUTE);
        assert_eq!((world.calls.len(), world.engine.calls.in_flight()), (0, 0), "{policy}");
        world.answering(|_, _| Says::Code(0));
        world.input(Input::Leading(Before::Finished));
        world.run(10 * SECOND);
        assert_eq!(world.calls.len(), 1, "{policy}");
        let breaker = world.engine.applications.get("app").unwrap().application.breaker();
        assert_eq!(breaker, crate::application::Breaker::Closed);
    }
}

/// What a process has forgotten is counted as it was.
#[test]
fn who_leads_again_counts_each_deletion_once() {
    let (mut world, _) = waiting(3);
    world.answering(|_, _| Says::Hangs);
    for _ in 0..2 {
        world.input(Input::Leading(Before::Vanished));
        world.run(2 * MINUTE);
        assert_eq!(world.applications["app"]["status"]["deleting"], 3);
        world.input(Input::Lost);
        world.run(SECOND);
    }
}
