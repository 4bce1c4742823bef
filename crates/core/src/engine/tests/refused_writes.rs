//! The cluster refuses the operator's own writes: a policy, a webhook, a quota, a missing right.

use super::*;

const WORDS: &str = "the API server answered 422: ValidatingAdmissionPolicy 'team-label' denied request: label team is missing";

fn refusing(world: &mut World, which: impl Fn(&str, &Change) -> bool + 'static) {
    world.failing(move |key, change, _| {
        which(key, change).then(|| Fault::Refused(WriteError::Refused(WORDS.into())))
    });
}

fn events(world: &World) -> usize {
    world.events.iter().filter(|event| event.reason == Reason::WriteRefused).count()
}

/// The finalizer may not be taken off, and the status may be written: it says so beside the record.
#[test]
fn a_deletion_whose_finalizer_may_not_go_says_why_and_ends_when_it_may() {
    let mut world = World::led();
    world.crowd("team/r", 3, json!({}));
    refusing(&mut world, |_, change| matches!(change, Change::DropFinalizer { .. }));
    world.delete_all();
    world.run(10 * MINUTE);
    for key in world.robots.keys() {
        assert_eq!(
            world.condition(key, "RobotDeleted"),
            Some(("True".into(), "Deleted".into())),
            "the record stays"
        );
        assert_eq!(world.condition(key, "Stalled"), Some(("True".into(), "WriteRefused".into())));
        let told = text(&condition(&world.robots[key], "Stalled").unwrap()["message"]);
        assert!(told.contains(WORDS), "{told}");
    }
    assert_eq!((world.calls.len(), events(&world)), (3, 3), "one call and one Event each");
    let tried = |world: &World| world.writes.iter().filter(|write| word(&write.change) == "drop").count();
    let before = tried(&world);
    world.run(5 * MINUTE);
    let more = tried(&world) - before;
    assert!((30..=66).contains(&more), "{more} attempts for three robots in five minutes");
    let statuses = world.writes.iter().filter(|write| word(&write.change) == "status").count();
    assert!(statuses <= 3 * 3, "{statuses} statuses: what is told is not told again");
    world.healthy();
    world.run(31 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 3);
}

/// A change of the object tries at once.
/// A webhook may answer with any number of words.
#[test]
fn a_thousand_characters_of_a_refusal_are_told() {
    let mut world = World::led();
    let words = "é".repeat(5000);
    world.robot("team/r", json!({}));
    world.failing(move |_, _, _| Some(Fault::Refused(WriteError::Refused(words.clone()))));
    world.run(SECOND);
    let told: Vec<&str> = world.events.iter().map(|event| event.note.as_str()).collect();
    assert!(told.iter().any(|note| note.contains("refuses a write")), "{told:?}");
    assert!(told.iter().all(|note| note.matches('é').count() <= 1000), "{told:?}");
}

#[test]
fn a_change_of_the_spec_tries_a_refused_write_at_once() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    refusing(&mut world, |_, change| matches!(change, Change::DropFinalizer { .. }));
    world.delete("team/r-0000");
    world.run(5 * MINUTE);
    world.healthy();
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Deleted");
}

/// Nothing may be written to it at all: an Event and the log have it, it is tried again, and asked for once.
#[test]
fn an_object_that_takes_no_write_is_told_by_an_event() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.crowd("other/r", 200, json!({}));
    refusing(&mut world, |key, _| key.starts_with("team/"));
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.robots.len(), 2, "the others are gone");
    world.run(30 * MINUTE);
    assert_eq!((world.calls_about("team/r-0000"), events(&world)), (1, 2));
    world.healthy();
    world.run(31 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 202);
}

/// The finalizer may go, but no status may be written any more: what was refused before is tried all the same.
#[test]
fn a_status_that_is_refused_does_not_keep_the_finalizer_on() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    refusing(&mut world, |_, change| matches!(change, Change::DropFinalizer { .. }));
    world.delete("team/r-0000");
    world.run(90 * MS);
    refusing(&mut world, |_, _| true);
    world.run(5 * MINUTE);
    refusing(&mut world, |_, change| matches!(change, Change::Status(_)));
    world.run(31 * SECOND);
    world.assert_gone("team/r-0000", "Deleted");
}

#[test]
fn a_robot_that_may_not_be_taken_in_charge_says_why() {
    let mut world = World::led();
    refusing(&mut world, |_, change| matches!(change, Change::FirstFinalizer | Change::MoreFinalizer));
    world.robot("team/r", json!({}));
    world.run(MINUTE);
    // The application's own finalizer is refused as well: that comes first.
    assert_eq!(world.condition("team/r", "Accepted"), Some(("False".into(), "WriteRefused".into())));
    let told = text(&condition(&world.robots["team/r"], "Accepted").unwrap()["message"]);
    assert!(told.contains("on RtcApplication app") && told.contains(WORDS), "{told}");
    assert_eq!(world.application_ready("app"), ("False".into(), "WriteRefused".into()));
    let written = world.application_writes.len();
    world.run(5 * MINUTE);
    let more = world.application_writes.len() - written;
    assert!((10..=22).contains(&more), "{more} attempts in five minutes");
    refusing(&mut world, |key, change| key != "app" && matches!(change, Change::FirstFinalizer));
    world.run(31 * SECOND);
    assert_eq!(world.application_ready("app"), ("True".into(), "CredentialsLoaded".into()));
    let told = text(&condition(&world.robots["team/r"], "Accepted").unwrap()["message"]);
    assert!(told.contains("on this RoomRobot") && told.contains(WORDS), "{told}");
    world.healthy();
    world.run(31 * SECOND);
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Adopted".into())));
    assert_eq!(world.condition("team/r", "Stalled"), None);
}

/// An application that may not be written to at all still serves its robots.
#[test]
fn an_application_whose_status_is_refused_serves_deletions() {
    let mut world = World::led();
    world.crowd("team/r", 5, json!({}));
    refusing(&mut world, |key, _| key == "app");
    world.delete_all();
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert!(events(&world) <= 1);
}

/// The writes of the finalizer are not answered, as where a webhook hangs for longer than the operator waits: once more
/// than once, that is told as a refusal is.
#[test]
fn a_finalizer_whose_writes_hang_is_told() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.failing(|_, change, _| matches!(change, Change::DropFinalizer { .. }).then_some(Fault::Hangs));
    world.delete("team/r-0000");
    world.run(16 * SECOND);
    assert_eq!(world.condition("team/r-0000", "Stalled"), None, "one alone is an accident");
    world.run(16 * SECOND);
    assert_eq!(world.condition("team/r-0000", "Stalled"), Some(("True".into(), "WriteRefused".into())));
    assert_eq!(world.condition("team/r-0000", "RobotDeleted"), Some(("True".into(), "Deleted".into())));
    let told = text(&condition(&world.robots["team/r-0000"], "Stalled").unwrap()["message"]);
    assert!(told.contains("as where an admission webhook hangs"), "{told}");
    world.run(10 * MINUTE);
    assert_eq!((world.calls.len(), events(&world)), (1, 1));
    world.healthy();
    world.run(46 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 1);
}

/// As with a robot's: once is an accident, and of the status nothing is told in the status.
#[test]
fn an_application_whose_finalizer_hangs_is_told_and_one_whose_status_hangs_is_not() {
    let mut world = World::led();
    world.run(MINUTE);
    world.failing(|name, change, _| {
        (name == "app" && !matches!(change, Change::Status(_))).then_some(Fault::Hangs)
    });
    world.robot("team/r", json!({}));
    world.run(16 * SECOND);
    assert_eq!(world.application_ready("app"), ("True".into(), "CredentialsLoaded".into()));
    world.run(16 * SECOND);
    assert_eq!(world.application_ready("app"), ("False".into(), "WriteRefused".into()));
    let told = text(&condition(&world.applications["app"], "Ready").unwrap()["message"]);
    assert!(told.contains("as where an admission webhook hangs"), "{told}");
    // A refusal and a webhook that hangs say the same thing: it is refused still.
    world.run(5 * MINUTE);
    assert_eq!(world.application_ready("app"), ("False".into(), "WriteRefused".into()));

    let mut world = World::led();
    world.failing(|name, change, _| {
        (name == "app" && matches!(change, Change::Status(_))).then_some(Fault::Hangs)
    });
    world.configure("app", json!({"suspend": true}));
    world.run(5 * MINUTE);
    assert_eq!(events(&world), 0);
}

#[test]
fn the_way_to_the_api_server_is_open_again_with_the_first_write_that_gets_through() {
    let mut world = World::led();
    world.crowd("team/r", 5, json!({}));
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Unreachable("no route".into()))));
    world.delete_all();
    world.run(MINUTE);
    assert!(world.engine.writes.health().next_try().is_some());
    world.healthy();
    world.run(2 * SECOND);
    assert!(world.engine.writes.health().next_try().is_none());
    assert!(world.robots.is_empty());
}
