//! What a list, a watch, a reply and another writer can show, and what they cannot.

use super::*;

/// The API server is killed in a drain: the last thing that is known of some objects is the reply to the removal of their
/// finalizer, which came in while a list was under way that does not show them, and whose watch tells nothing of them.
#[test]
fn a_reply_to_an_own_write_is_no_proof_that_a_list_will_show_the_object() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    world.reply_takes = 500 * MS;
    world.delete_all();
    while world.robots.len() > 10 {
        world.run(10 * MS);
    }
    // The list begins: it was taken when the objects were gone. What the watch would have told is lost.
    world.coming.retain(|_, coming| !matches!(coming, Coming::Input(Input::Robot(_) | Input::RobotGone(..))));
    world.input(Input::RobotsListing(None, world.round));
    let robots: Vec<_> = world.robots.values().cloned().collect();
    for robot in robots {
        world.input(Input::Robot(Box::new(read(&robot))));
    }
    // The replies come in before the list is complete.
    world.run(600 * MS);
    world.input(Input::RobotsListed(None));
    world.reply_takes = Duration::ZERO;
    world.list_robots();
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    let known: Vec<String> =
        world.engine.robots().iter().map(|(_, entry)| entry.robot.key.to_string()).collect();
    assert_eq!(known, [""; 0], "of {} robots that are all gone", keys.len());
    world.delete_application("app");
    world.run(10 * SECOND);
    assert!(world.applications.is_empty(), "it waits for robots that do not exist");
}

/// Its finalizers were emptied by force, and what is in it stays without a namespace.
#[test]
fn a_missing_namespace_is_not_a_missing_object() {
    let mut world = World::led();
    world.crowd("team/r", 3, json!({}));
    world
        .failing(|_, _, _| Some(Fault::Refused(WriteError::Refused("namespaces \"team\" not found".into()))));
    world.tell(Input::NamespaceGone("team".into()));
    world.delete_all();
    world.run(10 * MINUTE);
    assert_eq!((world.robots.len(), world.calls.len()), (3, 3));
    world.healthy();
    world.namespace("team", &[], false);
    world.run(SECOND);
    assert!(world.robots.is_empty(), "as soon as the namespace is there again");
    assert_eq!(world.calls.len(), 3, "one call each");
}

/// The status that timed out is on its way still when the final answer is recorded.
#[test]
fn a_status_that_comes_late_never_takes_the_place_of_a_newer_one() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    let mut hung = false;
    world.failing(move |key, _, _| {
        (key != "app" && !std::mem::replace(&mut hung, true)).then_some(Fault::Hangs)
    });
    world.delete("team/r-0000");
    world.run(SECOND);
    let late = world.writes.last().unwrap().change.clone();
    assert!(matches!(late, Change::Status(_)));
    // It is given up, and all goes well from then on.
    world.answering(|_, _| Says::Code(0));
    let refused = WriteError::Other("503".into());
    world.failing(move |_, change, _| {
        matches!(change, Change::DropFinalizer { .. }).then(|| Fault::Refused(refused.clone()))
    });
    world.run(MINUTE);
    world.run(MINUTE);
    assert_eq!(world.condition("team/r-0000", "RobotDeleted"), Some(("True".into(), "Deleted".into())));
    let uid = text(&world.robots["team/r-0000"]["metadata"]["uid"]);
    assert!(matches!(world.store_robot("team/r-0000", &uid, &late), Err(WriteError::Conflict(_))));
    assert_eq!(world.condition("team/r-0000", "RobotDeleted"), Some(("True".into(), "Deleted".into())));
}

/// Another controller writes to the object all the time, to its labels and to conditions of its own.
#[test]
fn other_writers_neither_lose_their_conditions_nor_stop_a_deletion() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.delete("team/r-0000");
    let theirs = |n: usize| {
        json!({"type": format!("Audited-{}", n % 3), "status": "True", "reason": "Ok", "message": n.to_string(),
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    for n in 0..40 {
        if !world.robots.contains_key("team/r-0000") {
            break;
        }
        let object = &world.robots["team/r-0000"];
        let mut list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.retain(|one| one["type"] != theirs(n)["type"]);
        list.insert(n % (list.len() + 1), theirs(n));
        world.edit(
            "team/r-0000",
            json!({"metadata": {"labels": {"n": n.to_string()}}, "status": {"conditions": list}}),
        );
        world.run(15 * MS);
    }
    world.run(10 * SECOND);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 1);
    let last = &world.gone["team/r-0000"];
    let audited = last["status"]["conditions"].as_array().unwrap().iter();
    assert!(audited.filter(|one| text(&one["type"]).starts_with("Audited")).count() >= 1, "{last}");
}
