//! Events.

use super::*;

#[test]
fn events_keep_their_budget_and_deletions_do_not_wait_for_them() {
    let mut world = World::led();
    world.crowd("team/r", 1000, json!({}));
    world.delete_all();
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    let mut seconds: HashMap<(i64, Reason), usize> = HashMap::new();
    for event in &world.events {
        *seconds.entry((event.at.as_second(), event.reason)).or_default() += 1;
    }
    let most = |reason| seconds.iter().filter(|((_, of), _)| *of == reason).map(|(_, count)| *count).max();
    // What the application has to tell comes out of the same budget as good news of robots.
    assert!(matches!(most(Reason::Adopted), Some(5..=10)), "{seconds:?}");
    assert_eq!(most(Reason::Deleted), Some(10));
    let deleted = world.events.iter().filter(|event| event.reason == Reason::Deleted).count();
    assert!((50..=70).contains(&deleted), "{deleted} in some six seconds");
}

/// An Event about what went well is a write like any other: it does not take the place of one that waits.
#[test]
fn good_news_waits_for_no_write_and_no_write_for_good_news() {
    let mut world = World::led_with(4);
    world.crowd("team/r", 300, json!({}));
    world.run(MINUTE);
    world.events.clear();
    world.write_takes = 50 * MS;
    world.delete_all();
    world.run(4 * SECOND);
    let told = world.events.len();
    assert!(world.gone.len() > 25 && told < 8, "{told} Events beside {} ends", world.gone.len());
    world.run(10 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    world.write_takes = 5 * MS;
    world.crowd("team/s", 5, json!({}));
    world.events.clear();
    world.delete_all();
    world.run(5 * SECOND);
    assert_eq!(world.events.len(), 5, "told where nothing waits");
}

#[test]
fn an_event_is_about_a_change_and_is_stored_where_that_is_possible() {
    events_of_a_change(Duration::ZERO);
}

#[test]
fn an_event_does_not_get_lost_where_the_watch_is_quicker_than_the_reply() {
    events_of_a_change(50 * MS);
}

fn events_of_a_change(reply_takes: Duration) {
    let mut world = World::led();
    world.reply_takes = reply_takes;
    world.namespace("dying", &[], true);
    let keys = world.crowd("team/r", 1, json!({}));
    world.crowd("dying/r", 1, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(2 * MINUTE);
    world.healthy();
    world.run(10 * MINUTE);
    let about = |namespace: &str| -> Vec<_> {
        let of = world.events.iter().filter(|event| event.regarding_namespace.as_deref() == Some(namespace));
        of.map(|event| (&*event.namespace, event.reason, event.warning, event.action)).collect()
    };
    let expected = |stored| {
        vec![
            (stored, Reason::Adopted, false, "AcceptRobot"),
            (stored, Reason::InternalError, true, "DeleteRobot"),
            (stored, Reason::Deleted, false, "DeleteRobot"),
        ]
    };
    assert_eq!(about("team"), expected("team"));
    assert_eq!(about("dying"), expected("operator"), "a namespace that is being deleted takes nothing new");
    let last =
        world.events.iter().rfind(|event| event.regarding_namespace.as_deref() == Some("team")).unwrap();
    assert_eq!(&*last.name, "r-0000");
    assert_eq!(&*last.uid, text(&world.gone[&keys[0]]["metadata"]["uid"]));
    let told = text(&condition(&world.gone[&keys[0]], "RobotDeleted").unwrap()["message"]);
    assert_eq!(last.note, told, "with code and RequestId");
    let applications: Vec<_> = world
        .events
        .iter()
        .filter(|event| event.kind == "RtcApplication")
        .map(|event| (&*event.namespace, event.reason, event.warning))
        .collect();
    let first = ("default", Reason::CredentialsLoaded, false);
    assert_eq!(applications[..2], [first, ("default", Reason::Verified, false)]);
}

#[test]
fn an_event_names_what_was_done() {
    let mut world = World::led();
    world.robot("team/adopted", json!({}));
    world.robot("team/created", json!({"creationPolicy": "Create"}));
    world.robot("team/lost", json!({"creationPolicy": "Create", "applicationRef": {"name": "nowhere"}}));
    world.run(SECOND);
    world.delete("team/adopted");
    world.run(SECOND);
    let about = |name: &str| -> Vec<(Reason, &str)> {
        let events = world.events.iter().filter(|event| &*event.name == name);
        events.map(|event| (event.reason, event.action)).collect()
    };
    assert_eq!(about("adopted"), [(Reason::Adopted, "AcceptRobot"), (Reason::Deleted, "DeleteRobot")]);
    assert_eq!(about("created").last(), Some(&(Reason::Added, "AddRobot")));
    assert_eq!(about("lost"), [(Reason::ApplicationNotFound, "AcceptRobot")]);
}
