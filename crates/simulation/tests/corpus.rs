//! Every story that the search has found, each under what it says, and a minute of stories of the day.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use simulation::{
    search,
    story::{Action::*, *},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells a story, and fails with what happened in it where a promise is broken.
#[track_caller]
fn holds(setup: Setup, steps: &[Step]) {
    let story = Story { setup, steps: steps.to_vec() };
    let report = search::run(&story, false);
    if let Some(why) = report.broken {
        let told = search::run(&story, true).told.join("\n");
        panic!("{told}\n\n{why}");
    }
    assert!(report.events > 100, "nothing happened");
}

/// A RoomRobot with a robot of its own that comes by other means.
const fn adopted(ns: u8, name: u8, app: u8) -> Action {
    of_its_own(ns, name, app, false)
}

/// A RoomRobot with a robot of its own that the operator brings in.
const fn added(ns: u8, name: u8, app: u8) -> Action {
    of_its_own(ns, name, app, true)
}

const fn of_its_own(ns: u8, name: u8, app: u8, create: bool) -> Action {
    Create { ns, name, of: Of::Its, app, create, retain: false, born: false, suspend: false }
}

/// A new leader took what it had learnt of the credentials before for what is so.
#[test]
fn a_new_leader_leaves_what_the_one_before_it_said_of_the_credentials() {
    let setup = Setup { replicas: 2, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-a/r0 is created under app, Create
            Step { after: 0, action: added(0, 0, 0) },
        ],
    );
}

/// Two shards that use one application wrote its status in turn, for ever: each knew its own RoomRobots only.
#[test]
fn of_two_shards_that_use_an_application_one_tells_about_it() {
    let setup = Setup { sharded: true, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-a/r1 is created under twin, Adopt
            Step { after: 0, action: adopted(0, 1, 1) },
            // RoomRobot team-a/r0 is created under twin, Create
            Step { after: 0, action: added(0, 0, 1) },
        ],
    );
}

/// A standby saw that there was no Lease any more and took it at once, while its holder did not know that yet.
#[test]
fn a_lease_that_somebody_deletes_is_not_taken_before_its_holder_knows() {
    let setup = Setup { replicas: 2, lag: 190, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 14_440, action: adopted(0, 0, 0) },
            // The watches of replica 0, which leads, tell nothing for 6 s.
            Step { after: 0, action: Watches { replica: 0, gone: false, mute: 6_000 } },
            // Somebody deletes the Lease.
            Step { after: 0, action: DeleteLease },
        ],
    );
}

/// The application was let go while the write that took a RoomRobot in charge was on its way.
#[test]
fn an_application_stays_for_a_robot_that_is_being_accepted() {
    holds(
        HEALTHY,
        &[
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 0, action: adopted(0, 0, 0) },
            // Application app is deleted.
            Step { after: 17, action: DeleteApplication { app: 0 } },
        ],
    );
}

/// Who holds an application was named in the order of the process's memory, so that the next one had another name to write.
#[test]
fn every_process_names_the_same_robot_that_holds_an_application() {
    holds(
        HEALTHY,
        &[
            // RoomRobot team-b/r0 is created under app, Adopt
            Step { after: 0, action: adopted(1, 0, 0) },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 0, action: adopted(0, 0, 0) },
            // Application app is deleted.
            Step { after: 50, action: DeleteApplication { app: 0 } },
        ],
    );
}

/// `WriteRefused` stayed on an application whose finalizer was stored after all.
#[test]
fn a_refusal_whose_write_arrives_late_is_over() {
    let setup = Setup { replicas: 2, ..HEALTHY };
    holds(
        setup,
        &[
            // The next 1 of the writes to applications is held up on its way.
            Step {
                after: 0,
                action: Writes {
                    ns: 0,
                    which: Which::Applications,
                    how: Refusal::Overtaken,
                    times: 1,
                    time: 44,
                },
            },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 0, action: adopted(0, 0, 0) },
            // The next 1 of the writes to applications is never answered.
            Step {
                after: 0,
                action: Writes {
                    ns: 0,
                    which: Which::Applications,
                    how: Refusal::Hangs,
                    times: 1,
                    time: 20_000,
                },
            },
            // Replica 0 stands still for 0.001 s.
            Step { after: 15_105, action: Pause { replica: 0, time: 1 } },
        ],
    );
}

/// `WriteRefused` stayed on an application that needs no finalizer any more.
#[test]
fn a_refusal_of_what_is_not_needed_any_more_is_over() {
    holds(
        HEALTHY,
        &[
            // The next 1 of the writes to applications is denied by a policy.
            Step {
                after: 0,
                action: Writes {
                    ns: 0,
                    which: Which::Applications,
                    how: Refusal::Policy,
                    times: 1,
                    time: 12,
                },
            },
            // RoomRobot team-a/r0 is created under twin, Adopt
            Step { after: 0, action: adopted(0, 0, 1) },
            // Namespace team-a is removed by force, and made again 0 s later.
            Step { after: 0, action: ForceNamespace { ns: 0, back: 0 } },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 31, action: adopted(0, 0, 0) },
        ],
    );
}

/// A shard that uses an application no more left its last complaint behind.
#[test]
fn a_complaint_about_an_application_that_no_shard_uses_any_more_is_over() {
    let setup = Setup { sharded: true, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-b/r0 is created under app, Adopt
            Step { after: 0, action: adopted(1, 0, 0) },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 0, action: adopted(0, 0, 1) },
            // RoomRobot team-b/r0 is deleted.
            Step { after: 0, action: Delete { ns: 1, name: 0 } },
            // The Secret of application app is now Empty.
            Step { after: 0, action: Change { app: 0, secret: Secret::Empty } },
            // Nothing.
            Step { after: 2_000, action: Wait },
        ],
    );
}

/// A standby counted who holds an application while that was being deleted, and did not count again when it was created anew:
/// as the leader, it never put the finalizer on it, and the RoomRobot waited without a word.
#[test]
fn who_takes_over_counts_again_who_holds_an_application() {
    let setup = Setup { replicas: 3, lag: 731, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-b/r0 is created under app, Adopt
            Step { after: 30_255, action: adopted(1, 0, 0) },
            // Application app is deleted.
            Step { after: 740, action: DeleteApplication { app: 0 } },
            // RoomRobot team-b/r0 is deleted.
            Step { after: 165, action: Delete { ns: 1, name: 0 } },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 484, action: adopted(0, 0, 0) },
            // Replica 0 is ended, the next one starts 3 s later.
            Step { after: 307, action: End { replica: 0, down: 3_000 } },
        ],
    );
}

/// Robots whose last write had met another version were not counted among those whose answers wait for a record.
#[test]
fn answers_wait_for_their_records_within_bounds_whatever_failed_before() {
    let setup = Setup { rate: 20, concurrency: 64, lag: 214, ..HEALTHY };
    holds(
        setup,
        &[
            // 30 RoomRobots are created in team-a under app, Adopt
            Step { after: 0, action: Crowd { ns: 0, tens: 3, app: 0, create: false, shared: false } },
            // Namespace team-a is removed by force, and made again 0 s later.
            Step { after: 173, action: ForceNamespace { ns: 0, back: 0 } },
            // Writes take 1.282 s for the next 0.157 s.
            Step { after: 98, action: SlowWrites { takes: 1_282, time: 157 } },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 156, action: adopted(0, 0, 0) },
        ],
    );
}

/// While no call was answered, an addition went out that had not been foretold; the next leader took it for one that was
/// never sent, and the robot stayed in its room.
#[test]
fn an_addition_is_foretold_though_it_only_finds_out_whether_calls_are_answered() {
    let setup = Setup { replicas: 2, ..HEALTHY };
    holds(
        setup,
        &[
            // RoomRobot team-a/r2 is created under app, Adopt
            Step { after: 1_479, action: adopted(0, 2, 0) },
            // RoomRobot team-a/r1 is created under app, Adopt, born with the finalizer
            Step {
                after: 2_352,
                action: Create {
                    ns: 0,
                    name: 1,
                    of: Of::Its,
                    app: 0,
                    create: false,
                    retain: false,
                    born: true,
                    suspend: false,
                },
            },
            // RoomRobot team-b/r0 is created under app, Adopt
            Step { after: 31_021, action: adopted(1, 0, 0) },
            // Calls are held up for 41.107 s, and arrive at once then.
            Step { after: 21, action: Stall { time: 41_107 } },
            // RoomRobot team-a/r0 is created under twin, Create
            Step { after: 12_837, action: added(0, 0, 1) },
            // RoomRobot team-a/r4 is created under twin, Create, born with the finalizer
            Step {
                after: 8_564,
                action: Create {
                    ns: 0,
                    name: 4,
                    of: Of::Its,
                    app: 1,
                    create: true,
                    retain: false,
                    born: true,
                    suspend: false,
                },
            },
            // RoomRobot team-b/r1 is created under twin, Create
            Step { after: 0, action: added(1, 1, 1) },
            // Replica 0's requests to the API server fail for 20 s.
            Step { after: 1_739, action: Cut { replica: 0, hangs: false, time: 20_000 } },
            // RoomRobot team-a/r0 is created under app, Adopt
            Step { after: 11_328, action: adopted(0, 0, 0) },
        ],
    );
}

/// Two processes led for a moment, and each put the RequestId of its own `add_robot` into the condition in turn, as fast as it
/// could.
#[test]
fn two_leaders_do_not_write_over_each_other() {
    holds(
        Setup { replicas: 2, ..HEALTHY },
        &[
            // Somebody deletes the Lease.
            Step { after: 0, action: Action::DeleteLease },
            Step { after: 12_018, action: Action::DeleteLease },
            // Replica 0's requests to the API server fail for 3 s.
            Step { after: 23_405, action: Action::Cut { replica: 0, hangs: false, time: 3_000 } },
            Step { after: 353, action: Action::DeleteLease },
            // Replica 1 is ended, the next one starts 0.001 s later.
            Step { after: 0, action: Action::End { replica: 1, down: 1 } },
            // RoomRobot team-a/r2 is created under app, Create, and another one, Adopt
            Step { after: 1_707, action: added(0, 2, 0) },
            Step { after: 32, action: adopted(0, 0, 0) },
        ],
    );
}

/// A standby waited for the end of the Lease that it had seen. By then another replica had taken it, which it had not seen, and
/// somebody had deleted it.
#[test]
fn a_deleted_lease_may_have_been_of_somebody_who_was_never_seen() {
    holds(
        Setup { replicas: 2, lag: 1066, ..HEALTHY },
        &[
            // Replica 0 is killed, the next one starts 1.684 s later.
            Step { after: 0, action: Kill { replica: 0, down: 1_684 } },
            // The watches of replica 1 tell nothing for 0.05 s, then fail.
            Step { after: 13_635, action: Watches { replica: 1, gone: false, mute: 50 } },
            // Somebody deletes the Lease.
            Step { after: 49, action: DeleteLease },
        ],
    );
}

/// `Retain` was taken back while the cluster refused to take the finalizer off, and the robot stayed in its room.
#[test]
fn retain_is_taken_back_before_the_object_goes() {
    holds(
        HEALTHY,
        &[
            // RoomRobot team-a/r3 is created under app, Adopt, Retain
            Step {
                after: 0,
                action: Create {
                    ns: 0,
                    name: 3,
                    of: Of::Its,
                    app: 0,
                    create: false,
                    retain: true,
                    born: false,
                    suspend: false,
                },
            },
            // A policy refuses the next write of a finalizer.
            Step {
                after: 50,
                action: Writes { ns: 0, which: Which::Finalizers, how: Refusal::Policy, times: 1, time: 18 },
            },
            // All RoomRobots in team-a are deleted.
            Step { after: 0, action: DeleteAll { ns: 0 } },
            // deletionPolicy of team-a/r3 is now Delete
            Step { after: 17, action: Retain { ns: 0, name: 3, on: false } },
        ],
    );
}

/// The removal of a finalizer that was given up, because another RoomRobot stood for the same robot, arrived when that one had
/// gone and something else was due.
#[test]
fn a_removal_of_the_finalizer_that_comes_late_does_nothing() {
    let create = |name: u8, suspend: bool| Create {
        ns: 0,
        name,
        of: Of::Shared(1),
        app: 0,
        create: false,
        retain: false,
        born: false,
        suspend,
    };
    holds(
        HEALTHY,
        &[
            // RoomRobots team-a/r4 and team-a/r3 stand for the same robot; r3 is suspended.
            Step { after: 0, action: create(4, false) },
            Step { after: 0, action: create(3, true) },
            // RoomRobot team-a/r3 is deleted
            Step { after: 20_000, action: Delete { ns: 0, name: 3 } },
            // The next write of a finalizer is held up until another one has arrived.
            Step {
                after: 0,
                action: Writes {
                    ns: 0,
                    which: Which::Finalizers,
                    how: Refusal::Overtaken,
                    times: 1,
                    time: 18,
                },
            },
            // All RoomRobots in team-a are deleted.
            Step { after: 795, action: DeleteAll { ns: 0 } },
            Step { after: 14_275, action: Wait },
        ],
    );
}

/// A list showed the deletion before it showed that the other RoomRobot would delete by then: a call went out in the middle.
#[test]
fn a_list_shows_a_deletion_before_it_shows_who_takes_it_over() {
    let of = |name: u8, retain: bool| Create {
        ns: 0,
        name,
        of: Of::Shared(1),
        app: 0,
        create: false,
        retain,
        born: false,
        suspend: false,
    };
    holds(
        HEALTHY,
        &[
            // RoomRobot team-a/r2 is created under app for the shared robot 1, Retain
            Step { after: 0, action: of(2, true) },
            // RoomRobot team-a/r1 is created under app for the shared robot 1
            Step { after: 0, action: of(1, false) },
            // The watches of replica 0 fail, and are too old to go on.
            Step { after: 50, action: Watches { replica: 0, gone: true, mute: 0 } },
            // deletionPolicy of team-a/r2 is now Delete
            Step { after: 0, action: Retain { ns: 0, name: 2, on: false } },
            // RoomRobot team-a/r1 is deleted
            Step { after: 0, action: Delete { ns: 0, name: 1 } },
        ],
    );
}

/// The record of the leader before arrived while this one had called, too; then the cluster refused to take the finalizer
/// off. `lastRequest` had the one RequestId, and the condition the other.
#[test]
fn the_condition_and_the_last_request_tell_of_the_same_call() {
    let setup = Setup { replicas: 2, list: 544, ..HEALTHY };
    holds(
        setup,
        &[
            Step { after: 0, action: adopted(1, 0, 0) },
            Step { after: 14_856, action: adopted(0, 0, 0) },
            // All requests to the API server hang.
            Step { after: 829, action: Cut { replica: 3, hangs: true, time: 40_485 } },
            Step { after: 31_053, action: SlowWrites { takes: 2_236, time: 29_865 } },
            Step {
                after: 262,
                action: Writes {
                    ns: 0,
                    which: Which::Finalizers,
                    how: Refusal::WebhookFails,
                    times: 1,
                    time: 31_893,
                },
            },
            Step { after: 10_461, action: Crowd { ns: 1, tens: 1, app: 0, create: false, shared: false } },
            Step { after: 28, action: DeleteNamespace { ns: 0 } },
            Step { after: 3_097, action: Cut { replica: 0, hangs: true, time: 10_908 } },
            Step { after: 18_307, action: adopted(0, 0, 0) },
        ],
    );
}

/// What the search finds in a minute, from the first case of this day on; where it finds something, `make search` tells how
/// it goes on.
#[test]
fn the_stories_of_the_day() {
    let minute = Duration::from_secs(SECONDS);
    let day = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() / 86_400;
    let begun = Instant::now();
    let (mut stories, mut deletions) = (0, 0);
    while begun.elapsed() < minute {
        let (report, found) = search::case(day * 1_000_000_000 + stories, minute);
        if let Some(found) = found {
            let test = found.story.as_test(&format!("case_{}", found.seed), &found.why);
            panic!("{}\n\n{}\n\n{test}", found.told.join("\n"), found.why);
        }
        stories += 1;
        deletions += report.deletions;
    }
    println!("{stories} stories, {deletions} deletions");
    assert!(
        stories > 100 && deletions > 1_000,
        "{stories} stories with {deletions} deletions are not much of a search"
    );
}

/// So many seconds of stories that are new each day.
const SECONDS: u64 = 40;

#[test]
fn a_story_goes_the_same_way_each_time() {
    for seed in 0..20 {
        let story = search::story(seed);
        let (first, second) = (search::run(&story, true), search::run(&story, true));
        assert_eq!(first.told, second.told, "case {seed}");
        assert_eq!(first.events, second.events);
    }
}
