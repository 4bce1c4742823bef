//! Restarts.

use super::*;

#[test]
fn a_restart_over_settled_robots_does_nothing_but_watch_secrets() {
    let mut world = World::led();
    world.crowd("team/r", 800, json!({}));
    world.crowd("team/c", 200, json!({"creationPolicy": "Create"}));
    // The counts are told with the next round.
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["status"]["robots"], 1000);
    let before = (world.writes.len(), world.application_writes.len(), world.calls.len(), world.events.len());
    world.restart();
    world.run(Duration::from_secs(3600));
    let after = (world.writes.len(), world.application_writes.len(), world.calls.len(), world.events.len());
    assert_eq!(before, after);
    assert_eq!(world.secret_watches, ["app-secret"]);
    assert_eq!(world.engine.next_due(world.now), None, "nothing is due ever");
    assert_eq!(world.engine.robots().len(), 1000);
}

#[test]
fn a_list_over_settled_robots_does_nothing_either() {
    let mut world = World::led();
    world.crowd("team/r", 50, json!({}));
    world.run(MINUTE);
    let before = (world.writes.len(), world.application_writes.len());
    for _ in 0..3 {
        world.list_robots();
        world.list_others();
        world.run(MINUTE);
    }
    assert_eq!(
        (world.writes.len(), world.application_writes.len(), world.calls.len()),
        (before.0, before.1, 0)
    );
}

#[test]
fn a_restart_repeats_only_the_calls_whose_answers_were_not_recorded() {
    let mut world = World::led_with(16);
    let keys = world.crowd("team/r", 200, json!({}));
    world.write_takes = 200 * MS;
    world.delete_all();
    // Some answers are stored, some are on their way, some calls are out, some wait.
    world.run(700 * MS);
    let told = |world: &World, key: &str| {
        world.robots.get(key).is_none_or(|robot| condition(robot, "RobotDeleted").is_some())
    };
    world.restart();
    let recorded: Vec<bool> = keys.iter().map(|key| told(&world, key)).collect();
    let before: Vec<usize> = keys.iter().map(|key| world.calls_about(key)).collect();
    world.answering(|_, _| Says::Code(100_005));
    world.run(MINUTE);
    assert!(recorded.contains(&true) && recorded.contains(&false));
    for ((key, recorded), before) in keys.iter().zip(recorded).zip(before) {
        assert!(!world.robots.contains_key(key), "{key}");
        assert_eq!(world.calls_about(key), before + usize::from(!recorded), "{key}");
    }
}

#[test]
fn at_start_deletions_go_before_what_is_less_urgent() {
    let mut world = World::led_with(4);
    let ended = world.crowd("team/ended", 50, json!({}));
    let waiting = world.crowd("team/waiting", 20, json!({"suspend": true}));
    for key in &ended {
        // Told by the process before, which ended before it could drop the finalizer.
        world.failing(|_, change, _| match change {
            Change::DropFinalizer { .. } => Some(Fault::Refused(WriteError::Other("later".into()))),
            _ => None,
        });
        world.delete(key);
    }
    world.run(5 * SECOND);
    let live: Vec<String> = (0..100).map(|n| format!("team/live-{n:04}")).collect();
    world.watch_takes = Duration::from_secs(3600);
    for key in &live {
        world.robot(key, json!({}));
    }
    for key in &waiting {
        world.delete(key);
    }
    world.coming.clear();
    world.failing(|_, _, _| None);
    world.watch_takes = 8 * MS;
    let before = world.writes.len();
    world.restart();
    world.run(MINUTE);
    let group = |name: &str| name.trim_start_matches("team/").split('-').next().unwrap().to_owned();
    let order: Vec<String> = world.writes[before..].iter().map(|write| group(&write.name)).collect();
    assert_eq!(order.len(), 50 + 20 + 200);
    // What is less urgent has every eighth turn.
    let turns = [("ended", 7), ("waiting", 1)].into_iter().cycle().take(14);
    let rest = [("ended", 1), ("live", 1), ("waiting", 7), ("live", 1), ("waiting", 6), ("live", 198)];
    let expected: Vec<&str> = turns.chain(rest).flat_map(|(name, n)| vec![name; n]).collect();
    assert_eq!(order, expected);
    // Live robots never take the last quarter of the hands.
    let live = world.writes[before..].iter().filter(|write| group(&write.name) == "live");
    let begun: Vec<Duration> = live.map(|write| write.at).collect();
    for (n, at) in begun.iter().enumerate() {
        let under_way = begun[..=n].iter().filter(|before| **before + world.write_takes > *at).count();
        assert!(under_way <= 3, "{under_way} at once");
    }
}

#[test]
fn a_deletion_overtakes_live_robots_that_wait_for_their_writes() {
    let mut world = World::led_with(4);
    world.write_takes = 50 * MS;
    world.crowd("team/old", 1, json!({}));
    for n in 0..200 {
        world.robot(&format!("team/live-{n:04}"), json!({}));
    }
    world.run(200 * MS);
    world.delete("team/old-0000");
    world.run(500 * MS);
    world.assert_gone("team/old-0000", "Deleted");
    assert!(world.writes.len() < 60, "the live robots are far from done");
}
