//! Refusals that concern more than one robot: what they stop, what proves that they are over, and what they cost.

use super::*;

fn additions(world: &World) -> usize {
    world.calls.iter().filter(|call| call.operation == Operation::AddRobot).count()
}

/// One addition that is refused, for each code that is about a permission or the package.
#[test]
fn a_refused_addition_stops_no_deletion() {
    for code in [60017, 60010, 60021, 70398, 72000, 100_007, 100_013] {
        let mut world = World::led();
        world.crowd("team/r", 1000, json!({}));
        world.answering(move |call, _| {
            Says::Code(if call.operation == Operation::AddRobot { code } else { 0 })
        });
        world.robot("other/new", json!({"creationPolicy": "Create"}));
        world.run(SECOND);
        let from = world.now;
        for key in world.robots.keys().filter(|key| key.starts_with("team/")).cloned().collect::<Vec<_>>() {
            world.delete(&key);
        }
        world.run(7 * SECOND);
        assert_eq!(world.robots.len(), 1, "{code}: the drain goes on at the quota");
        let before = additions(&world);
        world.run(10 * MINUTE);
        let more = additions(&world) - before;
        assert!((2..=10).contains(&more), "{code}: {more} additions in ten minutes");
        assert_eq!(world.condition("other/new", "Ready").unwrap().0, "False", "since {from:?}");
        world.healthy();
        world.run(11 * MINUTE);
        assert_eq!(world.condition("other/new", "Ready").unwrap().1, "Added", "{code}");
    }
}

/// Calls that were sent before the refusal prove nothing, whatever they are answered and however late.
#[test]
fn only_a_call_that_was_sent_after_the_refusal_proves_that_it_is_over() {
    for code in [60010, 70009] {
        let mut world = World::led();
        world.crowd("team/r", 2000, json!({}));
        world.crowd("other/r", 1, json!({}));
        world.delete("other/r-0000");
        world.run(SECOND);
        // Every tenth call is refused at once, and the others succeed after two seconds.
        world.call_takes = 2 * SECOND;
        world.answering(move |call, _| Says::Code(if call.key.name.ends_with('7') { code } else { 0 }));
        let looks = world.engine.reconciles;
        world.delete_all();
        world.run(MINUTE);
        // About 400 went out in the two seconds until the first refusal.
        let calls = world.calls.len();
        assert!((150..700).contains(&calls), "{code}: {calls} calls in the first minute");
        let (looks, robots) = (world.engine.reconciles - looks, 2000);
        assert!(looks < robots * 6, "{code}: {looks} looks at {robots} robots");
    }
}

/// The key is answered with one refusal and another in turn: a person reads the same.
#[test]
fn refusals_of_one_reason_are_written_once() {
    let mut world = World::led();
    world.crowd("team/r", 1000, json!({}));
    let mut turn = 0;
    world.answering(move |_, _| {
        turn += 1;
        Says::Code(if turn % 2 == 0 { 70013 } else { 70009 })
    });
    world.delete_all();
    world.run(2 * MINUTE);
    let told = world.robots.keys().filter(|key| world.condition(key, "RobotDeleted").is_some()).count();
    assert_eq!(told, 1000, "each says why it waits");
    let (written, looks) = (world.writes.len(), world.engine.reconciles);
    world.run(20 * MINUTE);
    let probes = 20;
    assert!(world.writes.len() - written <= 2 * probes, "{} writes", world.writes.len() - written);
    assert!(
        world.engine.reconciles - looks <= 10 * u64::try_from(probes).unwrap(),
        "{} looks",
        world.engine.reconciles - looks
    );
}

/// A robot that is refused for itself does not open the breaker again each time that it closes.
#[test]
fn a_robot_that_was_refused_waits_longer_each_time() {
    let mut world = World::led();
    world.crowd("team/r", 3, json!({}));
    world.answering(|call, _| Says::Code(if call.key.name.ends_with("r-0001") { 60017 } else { 0 }));
    world.delete("team/r-0001");
    world.run(30 * MINUTE);
    let calls = world.calls_about("team/r-0001");
    assert!((4..=8).contains(&calls), "{calls} calls in half an hour");
    world.delete_all();
    world.run(11 * MINUTE);
    assert!(world.robots.len() <= 1, "the others do not wait for it");
}

/// Nobody who was called for is left, and the others were never foretold a call: one of them becomes the probe.
#[test]
fn a_refused_command_is_probed_by_whoever_is_left() {
    let mut world = World::led();
    world.answering(|call, _| Says::Code(if call.operation == Operation::AddRobot { 60017 } else { 0 }));
    world.robot("team/first", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    for n in 0..5 {
        world.robot(&format!("team/r-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(SECOND);
    world.delete("team/first");
    world.run(SECOND);
    world.healthy();
    world.run(2 * MINUTE);
    for n in 0..5 {
        assert_eq!(world.condition(&format!("team/r-{n}"), "Ready").unwrap().1, "Added");
    }
    // For the probe, too, it was stored before that a call may follow.
    for call in world.calls.iter().filter(|call| call.operation == Operation::AddRobot) {
        let foretells = |write: &&Wrote| {
            let Change::Status(patch) = &write.change else { return false };
            write.name == call.robot && write.at <= call.at && json!(patch).to_string().contains("Adding")
        };
        assert!(world.writes.iter().any(|write| foretells(&write)), "{call:?}");
    }
}

/// After a restart the process knows of the last call only what is stored.
#[test]
fn retain_names_the_last_call_after_a_restart() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(60010));
    world.delete("team/r-0000");
    world.run(SECOND);
    world.restart();
    world.answering(|_, _| Says::Hangs);
    world.run(100 * MS);
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.answering(|_, _| Says::Code(60010));
    world.restart();
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Retained");
    let told = text(&condition(&world.gone["team/r-0000"], "RobotDeleted").unwrap()["message"]);
    assert!(told.ends_with("ErrorCode 60010, RequestId Id-1"), "{told}");
}

/// What is answered and not recorded is lost with a process that is killed, and asked for again.
#[test]
fn few_answers_wait_for_their_records_where_the_api_server_keeps_up() {
    let mut world = World::led();
    world.call_takes = 5 * MS;
    world.write_takes = 12 * MS;
    let keys = world.crowd("team/r", 400, json!({}));
    world.delete_all();
    let from = world.now;
    for _ in 0..3 {
        world.run(500 * MS);
        world.restart();
    }
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert!(world.calls.len() <= 400 + 3 * 20, "{} calls for {} robots", world.calls.len(), keys.len());
    let last = world.calls.last().unwrap().at - from;
    assert!(last < 4 * SECOND, "{last:?}");
}

/// Thousands wait for a room engine that hangs: each says so, though few calls can be made.
#[test]
fn a_room_engine_that_hangs_is_told_by_every_robot_that_waits() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1000, json!({}));
    world.delete(&keys[0]);
    world.run(SECOND);
    world.call_takes = 8 * SECOND;
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(MINUTE);
    let first = world.calls[1].at;
    assert!(world.calls.len() <= 200, "{} calls may still arrive", world.calls.len());
    for key in &keys[1..] {
        world.assert_waits(key, "Unreachable");
        assert_eq!(world.condition(key, "Stalled"), None, "nobody has to act yet");
    }
    world.call_takes = 50 * MS;
    world.healthy();
    world.run(6 * MINUTE);
    assert!(world.robots.is_empty(), "{} are left since {first:?}", world.robots.len());
}

/// Some come while nothing is refused, and then the same refusal is back.
#[test]
fn who_came_between_two_refusals_is_told_of_the_second() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 300, json!({}));
    world.answering(|_, _| Says::Code(70009));
    world.delete_these(&keys[..100]);
    world.run(30 * SECOND);
    world.assert_waits(&keys[99], "CredentialsRejected");
    // The probe is accepted; meanwhile the others come, and wait in line for their turn.
    let mut accepted = 0;
    world.answering(move |_, _| {
        accepted += 1;
        Says::Code(if accepted < 20 { 0 } else { 70009 })
    });
    world.run(30 * SECOND + 100 * MS);
    world.delete_these(&keys[100..]);
    world.run(20 * SECOND);
    let untold: Vec<_> =
        world.robots.keys().filter(|key| world.condition(key, "RobotDeleted").is_none()).collect();
    assert_eq!(untold, [""; 0]);
    assert!(world.robots.len() > 200);
}

/// After a restart many say already why they wait; who does not say so is told in the same go.
#[test]
fn who_was_not_told_yet_is_told_beside_many_who_were() {
    let mut world = World::led();
    world.answering(|_, _| Says::Code(70009));
    world.crowd("team/a", 300, json!({}));
    world.crowd("team/b", 5, json!({}));
    let told = |world: &World, key: &str| world.condition(key, "RobotDeleted").is_some();
    for n in 0..300 {
        world.delete(&format!("team/a-{n:04}"));
    }
    world.run(MINUTE);
    assert!((0..300).all(|n| told(&world, &format!("team/a-{n:04}"))));
    world.input(Input::Lost);
    world.run(SECOND);
    for n in 0..5 {
        world.delete(&format!("team/b-{n:04}"));
    }
    world.run(SECOND);
    world.restart();
    world.run(5 * SECOND);
    assert!((0..5).all(|n| told(&world, &format!("team/b-{n:04}"))));
}
