//! Pace, and whose turn it is.

use super::*;

#[test]
fn a_drain_keeps_the_quota_in_every_second_and_takes_little_longer_than_it_must() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 2000, json!({}));
    world.delete_all();
    let begun = world.now;
    world.run(15 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    for key in &keys {
        assert_eq!(world.calls_about(key), 1, "{key}");
        assert_eq!(world.changes(key).len(), 4, "{key}");
    }
    let times = world.called_by("app");
    assert_eq!(times.len(), 2000);
    assert!(most_in_a_second(&times) <= 200, "{} in a second", most_in_a_second(&times));
    let took = *times.last().unwrap() - begun;
    assert!(took < Duration::from_millis(10_900), "{took:?} for 2 000 at 200 a second");
}

#[test]
fn a_lower_rate_is_kept_from_the_moment_it_is_set() {
    let mut world = World::led();
    world.crowd("team/r", 300, json!({}));
    world.delete_all();
    world.run(500 * MS);
    world.configure("app", json!({"requestsPerSecond": 10}));
    world.run(500 * MS);
    let from = world.calls.len();
    assert!((80..150).contains(&from), "{from}");
    world.run(10 * SECOND);
    let times = world.called_by("app").split_off(from);
    assert!(most_in_a_second(&times) <= 10 && times.len() >= 90, "{} calls", times.len());
}

#[test]
fn applications_of_one_sdk_app_id_share_the_lower_rate_by_turns() {
    let mut world = World::led();
    world.application("slow", json!({"requestsPerSecond": 20}));
    world.run(SECOND);
    world.crowd("team/a", 100, json!({}));
    world.crowd("team/b", 100, json!({"applicationRef": {"name": "slow"}}));
    world.delete_all();
    world.run(2 * SECOND);
    let (fast, slow) = (world.called_by("app").len(), world.called_by("slow").len());
    assert!(fast.abs_diff(slow) <= 2 && slow >= 15, "{fast} and {slow}");
    world.run(20 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    let times: Vec<_> = world.calls.iter().map(|call| call.at).collect();
    assert!(most_in_a_second(&times) <= 20);
}

#[test]
fn an_application_of_another_sdk_app_id_has_a_pace_of_its_own() {
    let mut world = World::led();
    world.application("slow", json!({"requestsPerSecond": 1, "sdkAppId": 2}));
    world.run(SECOND);
    world.crowd("team/a", 300, json!({}));
    world.crowd("team/b", 20, json!({"applicationRef": {"name": "slow"}}));
    world.delete_all();
    world.run(3 * SECOND);
    assert_eq!(world.called_by("app").len(), 300);
    assert!((2..=3).contains(&world.called_by("slow").len()));
}

#[test]
fn the_hanging_calls_of_one_application_do_not_slow_another() {
    for same in [false, true] {
        let mut world = World::led();
        let sdk_app_id = if same { 1_400_000_000 } else { 2 };
        world.application("other", json!({"sdkAppId": sdk_app_id}));
        world.run(SECOND);
        world.crowd("team/a", 1000, json!({}));
        world.crowd("team/b", 400, json!({"applicationRef": {"name": "other"}}));
        // The first call proves the application; from then on none is answered.
        let mut answered = false;
        world.answering(move |call, _| match &*call.application {
            "app" if std::mem::replace(&mut answered, true) => Says::Hangs,
            _ => Says::Code(0),
        });
        world.delete_all();
        // Where they share a quota, every other call is the hanging one's until its share of calls hangs.
        let expected = if same { 5 * SECOND } else { 3 * SECOND };
        world.run(expected);
        assert_eq!(world.called_by("other").len(), 400, "same SDKAppID: {same}");
        assert_eq!(world.robots.len(), 999);
        world.run(MINUTE);
        let most = if same { 1 + 100 } else { 1 + 200 };
        let hang = world.called_by("app").len();
        assert!((most - 12..=most).contains(&hang), "{hang} calls that wait for an answer");
    }
}

#[test]
fn the_drain_of_one_namespace_does_not_keep_another_waiting() {
    let mut world = World::led();
    world.crowd("big/r", 1500, json!({}));
    let small = world.crowd("small/r", 10, json!({}));
    for key in world.robots.keys().filter(|key| key.starts_with("big/")).cloned().collect::<Vec<_>>() {
        world.delete(&key);
    }
    world.run(SECOND);
    for key in &small {
        world.delete(key);
    }
    world.run(300 * MS);
    for key in &small {
        world.assert_gone(key, "Deleted");
    }
    assert!(world.robots.len() > 1000);
}

/// The room engine is faster than the API server: what waits in the end are writes.
#[test]
fn writes_that_pile_up_keep_neither_another_application_nor_another_namespace_waiting() {
    let mut world = World::led_with(4);
    world.application("other", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.crowd("big/r", 600, json!({}));
    world.crowd("small/same", 1, json!({}));
    world.crowd("small/other", 1, json!({"applicationRef": {"name": "other"}}));
    // Four at once of 50 ms each are 80 a second, where the calls need 400.
    world.write_takes = 50 * MS;
    for n in 0..600 {
        world.delete(&format!("big/r-{n:04}"));
    }
    world.run(3 * SECOND);
    assert!(world.robots.len() > 450, "writes pile up");
    // The one of the same application also waits until its call is due, as its application has answers enough.
    for (key, within) in [("small/other-0000", 300 * MS), ("small/same-0000", 400 * MS)] {
        world.delete(key);
        world.run(within);
        world.assert_gone(key, "Deleted");
    }
    assert!(world.robots.len() > 400, "the drain is far from over");
}

/// A process that is killed asks again for every answer that is not recorded: there are never many of them.
#[test]
fn calls_do_not_run_ahead_of_what_is_recorded() {
    let mut world = World::led_with(4);
    world.application("other", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.application("app", json!({"requestsPerSecond": 20}));
    let team = world.crowd("team/r", 400, json!({}));
    world.crowd("team/other", 40, json!({"applicationRef": {"name": "other"}}));
    world.write_takes = 100 * MS;
    world.delete_all();
    let mut most = 0;
    while world.robots.len() > 300 {
        world.run(50 * MS);
        let told = |key: &&String| {
            world.robots.get(*key).is_none_or(|robot| condition(robot, "RobotDeleted").is_some())
        };
        most = most.max(world.called_by("app").len() - team.iter().filter(told).count());
    }
    assert_eq!(world.called_by("other").len(), 40, "its answers wait for nobody else's");
    // At most eight, and those of the calls that were out at the room engine then.
    assert!((4..=8 + 2).contains(&most), "{most} answers were not recorded");
    world.write_takes = 5 * MS;
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 440);
}

/// Four writes of 13 ms at once are 308 a second: enough to record every answer, not to let every robot go meanwhile.
#[test]
fn robots_leave_their_rooms_at_the_quota_where_the_api_server_is_slower() {
    let mut world = World::led_with(4);
    world.crowd("team/r", 1000, json!({}));
    world.write_takes = 13 * MS;
    let retained = world.crowd("team/retained", 1, json!({}));
    world.delete_all();
    world.run(4 * SECOND);
    world.edit(&retained[0], json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(300 * MS);
    world.assert_gone(&retained[0], "Retained");
    world.run(1000 * MS);
    assert_eq!(world.calls.len(), 1000);
    let left = world.robots.len();
    assert!((100..500).contains(&left), "{left} are still there, and some had their turn");
    world.run(3 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 1000);
}

/// The API server is slower than the drain for as long as that lasts; whoever asks why another robot is still there, or
/// whether one was added, is told meanwhile, and new robots are taken in charge.
#[test]
fn other_robots_have_their_writes_beside_a_drain_that_the_api_server_cannot_follow() {
    let mut world = World::led_with(4);
    world.application("other", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.crowd("team/r", 1500, json!({}));
    let stuck = world.crowd("team/stuck", 1, json!({"applicationRef": {"name": "other"}}));
    world.answering(|call, _| Says::Code(if &*call.application == "other" { 100_001 } else { 0 }));
    let new = "team/new-0000";
    world.crowd("team/new", 1, json!({"creationPolicy": "Create", "applicationRef": {"name": "other"}}));
    assert_eq!(world.condition(new, "Ready").unwrap().1, "InternalError");
    world.answering(|call, _| Says::Code(if &*call.application == "other" { 100_002 } else { 0 }));
    world.write_takes = 13 * MS;
    for n in 0..1500 {
        world.delete(&format!("team/r-{n:04}"));
    }
    world.run(3 * SECOND);
    world.delete(&stuck[0]);
    world.robot("team/late", json!({}));
    // Its robots are called for anew.
    world.configure("other", json!({"requestsPerSecond": 100}));
    world.run(300 * MS);
    world.assert_waits(&stuck[0], "InvalidParameter");
    assert_eq!(world.condition(new, "Ready").unwrap().1, "InvalidParameter");
    assert_eq!(world.condition("team/late", "Ready").unwrap().1, "Adopted");
    assert!(world.robots.len() > 1000, "{} are still there: the drain is far from over", world.robots.len());
    world.healthy();
    world.run(70 * MINUTE);
    assert_eq!(world.condition(new, "Ready").unwrap().1, "Added");
    assert_eq!(world.robots.len(), 2);
}

#[test]
fn three_quarters_of_the_writes_may_be_of_robots_that_are_not_being_deleted() {
    let mut world = World::led_with(8);
    world.crowd("team/r", 40, json!({}));
    assert_eq!(world.engine.writes.limit(), 8);
    world.write_takes = SECOND;
    let before = world.writes.len();
    for n in 0..40 {
        world.robot(&format!("team/new-{n}"), json!({}));
    }
    world.run(500 * MS);
    assert_eq!(world.writes.len() - before, 6);
}

/// Whoever gives up a thousand robots holds nobody else's calls up.
#[test]
fn a_thousand_released_do_not_hold_the_calls_of_others_back() {
    let mut world = World::led_with(4);
    let given_up = world.crowd("given-up/g", 1000, json!({"suspend": true}));
    let others = world.crowd("team/r", 200, json!({}));
    for key in &given_up {
        world.delete(key);
    }
    world.run(10 * SECOND);
    world.write_takes = 13 * MS;
    for key in &given_up {
        world.edit(key, json!({"spec": {"deletionPolicy": "Retain"}}));
    }
    for key in &others {
        world.delete(key);
    }
    world.run(2 * SECOND);
    assert_eq!(world.calls.len(), 200, "a call for each of the others");
    assert!(world.robots.len() > 500, "{} still wait for their release", world.robots.len());
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
}

/// Where the API server refuses the writes of some robots for long, the others are none of its business.
#[test]
fn answers_that_cannot_be_recorded_hold_nobody_back() {
    let mut world = World::led_with(4);
    world.crowd("refused/r", 100, json!({}));
    world.crowd("team/r", 100, json!({}));
    world.failing(|key, _, _| {
        key.starts_with("refused/").then(|| Fault::Refused(WriteError::Other("a webhook says no".into())))
    });
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.robots.len(), 100, "the others are gone");
    world.healthy();
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 200);
}

/// As behind an admission webhook of one namespace that does not answer.
#[test]
fn writes_that_hang_in_one_namespace_leave_the_others_their_turn() {
    let mut world = World::led_with(32);
    world.crowd("hung/h", 200, json!({}));
    world.crowd("team/r", 200, json!({}));
    world.failing(|key, _, _| key.starts_with("hung/").then_some(Fault::Hangs));
    world.delete_all();
    world.run(10 * SECOND);
    let left = world.robots.keys().filter(|key| key.starts_with("team/")).count();
    assert_eq!(left, 0, "of 200 that nothing hangs for");
    world.healthy();
    world.run(2 * MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 400);
}

/// What is not recorded is lost with the process, and asked for again.
#[test]
fn few_calls_go_out_while_the_api_server_takes_nothing() {
    for error in [WriteError::Unreachable("connection refused".into()), WriteError::Other("503".into())] {
        let mut world = World::led_with(32);
        world.crowd("team/r", 1000, json!({}));
        let told = error.clone();
        world.failing(move |_, _, _| Some(Fault::Refused(told.clone())));
        world.delete_all();
        world.run(12 * SECOND);
        // Those that are under way when the first writes fail, and one in each second.
        assert!((20..80).contains(&world.calls.len()), "{} calls: {error:?}", world.calls.len());
        world.healthy();
        world.run(MINUTE);
        assert!(world.robots.is_empty());
        assert_eq!(world.calls.len(), 1000);
    }
}

/// Each by itself would wait longer and longer, up to half a minute.
#[test]
fn while_there_is_no_way_to_the_api_server_one_write_tries_for_all_and_then_all_go() {
    let mut world = World::led_with(32);
    world.crowd("team/r", 100, json!({}));
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Unreachable("connection refused".into()))));
    world.delete_all();
    world.run(10 * SECOND);
    let (calls, tried) = (world.calls.len(), world.writes.len());
    world.run(MINUTE);
    let tries = world.writes.len() - tried;
    assert!((55..130).contains(&tries), "{tries} writes in a minute");
    world.healthy();
    world.run(1500 * MS);
    assert!(world.gone.len() >= calls, "{} of {calls} that were answered are gone", world.gone.len());
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 100);
}

/// Credentials that are taken and refused by turns: whoever waits stands in line once.
#[test]
fn a_line_does_not_grow_while_its_application_comes_and_goes() {
    let mut world = World::led();
    world.crowd("team/r", 100, json!({}));
    world.answering(|_, _| Says::Hangs);
    world.delete_all();
    for _ in 0..50 {
        world.configure("app", json!({"suspend": true}));
        world.run(SECOND);
        world.configure("app", json!({"suspend": false}));
        world.run(SECOND);
    }
    let mut line = std::mem::take(&mut world.engine.applications.get_mut("app").unwrap().deletions);
    let places = std::iter::from_fn(|| queue::Line::next(&mut line, &[])).count();
    assert!(places <= 100, "{places} places for 100 robots");
}

/// What stands in an application's status is no reason to look at the robots that wait for it.
#[test]
fn a_status_of_an_application_is_no_reason_to_look_at_its_robots() {
    let mut world = World::led();
    world.crowd("team/r", 100, json!({}));
    world.configure("app", json!({"suspend": true}));
    world.delete_all();
    world.run(MINUTE);
    world.assert_waits("team/r-0000", "Suspended");
    let looked = world.engine.reconciles;
    let version = world.next_version();
    let object = world.applications.get_mut("app").unwrap();
    object["status"]["deleting"] = 7.into();
    renew(object, version, false);
    world.show_application("app");
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["status"]["deleting"], 100, "it is put right");
    assert_eq!(world.engine.reconciles, looked, "robots were looked at");
    world.configure("app", json!({"suspend": false}));
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Deleted");
}

#[test]
fn a_deletion_costs_as_many_looks_among_five_hundred_robots_as_among_twenty() {
    let looks = |settled: usize| {
        let mut world = World::led();
        world.crowd("team/r", settled, json!({}));
        world.run(MINUTE);
        let before = world.engine.reconciles;
        world.delete("team/r-0000");
        world.run(10 * SECOND);
        world.assert_gone("team/r-0000", "Deleted");
        world.engine.reconciles - before
    };
    let few = looks(20);
    assert!(few > 0 && few < 20, "{few}");
    assert_eq!(few, looks(500));
}

#[test]
fn a_throttle_answer_halves_the_pace_which_then_recovers() {
    let mut world = World::led();
    world.crowd("team/r", 4000, json!({}));
    world.delete_all();
    // Of the way there nothing is known at first.
    world.run(4 * SECOND);
    let rate = |world: &mut World| {
        let before = world.calls.len();
        world.run(SECOND);
        world.calls.len() - before
    };
    let before = rate(&mut world);
    assert!((190..=200).contains(&before), "{before} calls in a second");
    let throttled = world.now;
    world.answering(move |_, now| if now < throttled + 30 * MS { Says::Code(60011) } else { Says::Code(0) });
    // The answers come after 50 ms; all of them speak of the same moment, and halve once.
    world.run(90 * MS);
    let mut waits = world.robots.clone();
    waits.retain(|_, robot| condition(robot, "RobotDeleted").is_some_and(|is| is["reason"] == "Throttled"));
    assert!(waits.len() > 3);
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()), "the pace is no fault");
    let slow = rate(&mut world);
    assert!((90..=115).contains(&slow), "{slow} in the second after");
    let mut before = slow;
    for _ in 0..9 {
        let now = rate(&mut world);
        assert!(now + 2 >= before && now <= before + 22, "from {before} to {now}");
        before = now;
    }
    assert!(rate(&mut world) >= 190, "recovered");
    world.run(20 * SECOND);
    assert_eq!(world.robots.len(), 0);
    assert!(waits.keys().all(|key| world.calls_about(key) == 2), "no robot backs off by itself");
    assert!(most_in_a_second(&world.called_by("app")) <= 200);
}

/// Else a drain that comes later presses an API server that nobody has tried.
#[test]
fn writes_that_nobody_waits_behind_open_the_way_for_no_more_at_once() {
    let mut world = World::led();
    for n in 0..100 {
        world.robot(&format!("team/r-{n}"), json!({}));
        world.run(SECOND);
    }
    assert_eq!(world.engine.writes.limit(), 4);
}

/// Robots that wait need not be looked at because a call of another one was answered.
#[test]
fn an_answer_costs_those_in_line_no_look() {
    let mut world = World::led();
    world.crowd("team/r", 300, json!({}));
    world.configure("app", json!({"requestsPerSecond": 1}));
    world.delete_all();
    world.run(20 * MS);
    let looks = world.engine.reconciles;
    world.run(SECOND);
    assert!(world.calls.len() <= 3);
    assert!(world.engine.reconciles - looks < 30, "{} looks", world.engine.reconciles - looks);
}

#[test]
fn a_call_that_found_nobody_takes_no_place_of_the_quota() {
    let mut world = World::led();
    world.configure("app", json!({"requestsPerSecond": 1}));
    world.application("other", json!({"requestsPerSecond": 1}));
    world.crowd("team/a", 1, json!({}));
    world.crowd("team/b", 1, json!({"applicationRef": {"name": "other"}}));
    // The first endpoint cannot be connected to.
    world.answering(|call, _| {
        if &*call.application == "app" { Says::Fails(TroubleKind::Connect) } else { Says::Code(0) }
    });
    world.call_takes = 900 * MS;
    world.delete("team/a-0000");
    world.run(100 * MS);
    world.delete("team/b-0000");
    world.run(1400 * MS);
    assert_eq!(world.calls.len(), 2, "an answer at 900 ms would keep its place until 1900 ms");
}
