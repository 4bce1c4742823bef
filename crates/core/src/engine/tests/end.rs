//! The end of a process.

use super::*;

#[test]
fn after_stop_nothing_is_begun_and_everything_is_recorded() {
    let mut world = World::led();
    world.crowd("team/r", 300, json!({}));
    world.call_takes = 2 * SECOND;
    world.answering(|_, _| Says::Code(0));
    world.delete_all();
    world.run(2500 * MS);
    let calls = world.calls.len();
    assert!(calls > 1 && world.robots.len() > 100);
    world.robot("team/new", json!({}));
    world.input(Input::Stop);
    world.run(100 * MS);
    assert!(!world.engine.drained(), "answers are still to come");
    world.run(5 * SECOND);
    assert!(world.engine.drained());
    assert_eq!(world.calls.len(), calls, "no new call");
    assert_eq!(world.changes("team/new"), [""; 0], "no new charge");
    assert_eq!(world.gone.len(), calls, "what was answered is recorded and let go");
    for key in world.gone.keys() {
        world.assert_gone(key, "Deleted");
    }
}

#[test]
fn after_stop_an_answer_that_was_not_final_is_recorded_too() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.call_takes = 2 * SECOND;
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(SECOND);
    world.input(Input::Stop);
    world.run(20 * SECOND);
    assert!(world.engine.drained());
    world.assert_waits(&keys[0], "InternalError");
    assert_eq!(world.calls.len(), 1, "its next attempt is another process's");
}

/// Else the next process calls `add_robot` again, whose second answer is unknown.
#[test]
fn after_stop_the_answer_to_an_addition_is_recorded_too() {
    let mut world = World::led();
    world.call_takes = 2 * SECOND;
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    assert_eq!(world.calls.len(), 1);
    world.input(Input::Stop);
    world.run(10 * SECOND);
    assert!(world.engine.drained());
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Added".into())));
}

/// Else the next process calls again for a robot that is gone.
#[test]
fn after_stop_a_final_answer_whose_write_failed_is_waited_for() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    let mut failures = 0;
    world.failing(move |_, _, _| {
        failures += 1;
        (failures <= 3).then(|| Fault::Refused(WriteError::Other("restarting".into())))
    });
    world.delete_all();
    world.run(80 * MS);
    assert_eq!(world.calls.len(), 1);
    world.input(Input::Stop);
    world.run(5 * MS);
    assert!(!world.engine.drained(), "an answer is in memory and nowhere else");
    world.run(5 * SECOND);
    world.assert_gone(&keys[0], "Deleted");
    assert!(world.engine.drained());
}

/// Else SIGTERM takes all of its ten seconds.
#[test]
fn after_stop_nothing_is_waited_for_that_no_write_will_record() {
    type Change = fn(&mut World);
    let meanwhile: [(&str, &str, Change); 4] = [
        ("a deletion of a robot that is being added", "Create", |world| world.delete("team/r")),
        ("another policy for one that is being added", "Create", |world| {
            world.edit("team/r", json!({"spec": {"creationPolicy": "Adopt"}}));
        }),
        ("a finalizer that somebody drops", "Adopt", |world| {
            world.edit("team/r", json!({"metadata": {"finalizers": ["example.com/a"]}}));
        }),
        ("an object that goes by force", "Adopt", |world| world.force("team/r", true)),
    ];
    let mut stuck = Vec::new();
    for (what, policy, change) in meanwhile {
        for code in [0, 100_001] {
            let mut world = World::led();
            world.call_takes = 2 * SECOND;
            world.answering(move |_, _| Says::Code(code));
            world.robot("team/r", json!({"creationPolicy": policy}));
            world.run(SECOND);
            if policy == "Adopt" {
                world.delete("team/r");
            }
            world.run(200 * MS);
            assert_eq!(world.calls.len(), 1);
            change(&mut world);
            world.run(200 * MS);
            world.input(Input::Stop);
            world.run(5 * SECOND);
            if !world.engine.drained() {
                stuck.push((what, code));
            }
        }
    }
    assert_eq!(stuck, []);
}

#[test]
fn an_engine_that_never_led_is_drained() {
    let mut world = World::new();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    assert!(world.engine.drained());
    world.input(Input::Stop);
    world.run(SECOND);
    assert!(world.engine.drained());
}

/// A robot's writes and an application's are counted apart.
#[test]
fn a_write_to_an_application_is_waited_for() {
    let mut world = World::led();
    world.run(MINUTE);
    world.write_takes = 5 * SECOND;
    world.configure("app", json!({"suspend": true}));
    world.run(SECOND);
    assert_eq!(world.application_changes("app"), ["status", "status"]);
    world.input(Input::Stop);
    world.run(SECOND);
    assert!(!world.engine.drained());
    world.run(5 * SECOND);
    assert!(world.engine.drained());
}

/// Its answer is told by nobody then, as with every robot that is not this operator's any more.
#[test]
fn after_stop_no_finalizer_is_put_back() {
    let mut world = World::led();
    world.call_takes = 2 * SECOND;
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    assert_eq!(world.calls.len(), 1);
    world.input(Input::Stop);
    world.run(100 * MS);
    world.edit("team/r", json!({"metadata": {"finalizers": null}}));
    world.run(10 * SECOND);
    assert_eq!(world.changes("team/r"), ["hold", "status"]);
}

/// The next process sees that these finalizers may go; thousands of them would keep it waiting.
#[test]
fn after_stop_finalizers_that_many_wait_for_are_left_to_the_next_process() {
    let mut world = World::led_with(4);
    world.crowd("team/r", 200, json!({}));
    world.write_takes = 200 * MS;
    world.delete_all();
    world.run(5 * SECOND);
    let before = world.writes.len();
    world.input(Input::Stop);
    world.run(20 * SECOND);
    assert!(world.engine.drained());
    let dropped = world.writes[before..].iter().filter(|write| word(&write.change) == "drop").count();
    assert!(dropped <= 2 * 4, "{dropped} finalizers were taken off");
}
