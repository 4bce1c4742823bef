//! The reliability matrix: every fault that can be made here, with the promises checked object by object after it.
//!
//! `docs/reliability.md` is the same as a table; a test holds the two together.

pub mod api_server;
mod configuration;
mod matrix;
mod objects;
mod operator;
mod room_engine;

use crate::harness::{PATIENCE, Seen, World, condition, is_true, reason_of, uid};
use kube::ResourceExt;
use roomrobot_core::crd::RoomRobot;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use testbed::{
    audit::Entry,
    simulator::{Call, Simulator},
};

/// The most calls of a command that an application may make in a second.
const QUOTA: usize = 200;

/// What a test did that may leave its traces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// Calls about a robot after a final answer had been delivered: one for each kill.
    pub again: usize,
    /// Lines that an API server which was killed took with it from its audit log.
    pub lost: usize,
    /// Room engines beside the world's own.
    pub others: &'a [&'a Simulator],
}

impl World {
    /// Compares what the room engine saw, what watchers saw and what the API server's audit log has, object by object:
    /// no accepted robot left Kubernetes, and none lost the operator's finalizer, without a final answer or `Retain`;
    /// the words that it left with were written before and have their RequestId; and no robot was asked about more
    /// than `again` times after a final answer had been delivered.
    pub async fn verify(&self, again: usize) {
        self.verify_but(Allowed { again, ..Allowed::default() }).await;
    }

    /// As [`World::verify`], with more allowed.
    pub async fn verify_but(&self, allowed: Allowed<'_>) {
        let seen = self.seen().await;
        let start = Instant::now();
        let records = loop {
            let records = self.records();
            let unrecorded = unrecorded(&seen, &records);
            if unrecorded.len() <= allowed.lost {
                break records;
            }
            // The last lines come a moment after what they tell of.
            assert!(start.elapsed() < PATIENCE, "no record before the finalizer went: {unrecorded:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let calls = self.calls_with(allowed.others);
        let robots = let_go(&seen, &records);
        println!("{} left, {} of them unseen; {} calls", robots.len(), seen.vanished.len(), calls.len());
        for robot in &robots {
            verify_end(robot, &calls);
        }
        for (robot, more) in calls_after_the_end(&robots, &seen, &calls) {
            assert!(more <= allowed.again, "{robot:?}: {more} calls after a final answer");
        }
        let mut by_quota: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for call in &calls {
            by_quota.entry((call.sdk_app_id, &call.command)).or_default().push(call.at);
        }
        for (quota, times) in by_quota {
            let most = promises::most_in(&times, 1_000_000);
            let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(
                most <= QUOTA,
                "{quota:?}: {most} calls in a second, with these microseconds between: {gaps:?}"
            );
        }
        for simulator in allowed.others.iter().chain([&&self.simulator]) {
            assert_eq!(simulator.repeated_randoms(), 0);
        }
    }

    /// The calls of the world's simulator and of `others`, by its clock and in their order.
    fn calls_with(&self, others: &[&Simulator]) -> Vec<Call> {
        let mut calls = self.simulator.calls();
        for other in others {
            let later = self.simulator.elapsed() - other.elapsed();
            calls.extend(other.calls().into_iter().map(|call| Call { at: call.at + later, ..call }));
        }
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// What the audit log has of each robot, by UID. Whatever came of it: a write that the API server gave up on may be
    /// stored all the same.
    fn records(&self) -> BTreeMap<String, Record> {
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        for write in self.attempts().into_iter().filter(|write| write.object_ref.resource == "roomrobots") {
            // Another writer was first: nothing of it is stored.
            let Some(steps) = write.request_object.as_array().filter(|_| write.response_status.code != 409)
            else {
                continue;
            };
            let tested = steps.iter().find(|step| step["path"] == "/metadata/uid");
            let record = records.entry(text(&tested.unwrap()["value"])).or_default();
            record.name.clone_from(&write.object_ref.name);
            if write.object_ref.subresource == "status" {
                record.written(&write);
            } else if steps.iter().any(|step| step["op"] == "remove") {
                record.left_with.push(text(&record.condition("RobotDeleted")["message"]));
            }
        }
        records
    }

    /// The reason that a robot left with.
    pub async fn left_with(&self, name: &str) -> String {
        let last = self.gone(name).await;
        reason_of(&last, "RobotDeleted").unwrap_or_default().to_owned()
    }
}

/// What the operator wrote to one robot.
#[derive(Debug, Default)]
struct Record {
    name: String,
    /// The status, as its patches have made it.
    status: serde_json::Map<String, Value>,
    /// The words that were stored when the finalizer was taken off, each time.
    left_with: Vec<String>,
}

impl Record {
    /// Takes what a patch writes to the status.
    fn written(&mut self, write: &Entry) {
        for (field, value) in write.status_fields() {
            self.status.insert(field.to_owned(), value.clone());
        }
        let all = self.status.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
        for condition in write.written_conditions() {
            let all = all.as_array_mut().unwrap();
            match all.iter_mut().find(|one| one["type"] == condition["type"]) {
                Some(known) => *known = condition.clone(),
                None => all.push(condition.clone()),
            }
        }
    }

    fn condition(&self, kind: &str) -> &Value {
        let all = self.status.get("conditions").and_then(Value::as_array);
        all.and_then(|all| all.iter().find(|one| one["type"] == kind)).unwrap_or(&Value::Null)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Who lost the finalizer without a record before, and who left without one that says what the last view says.
fn unrecorded(seen: &Seen, records: &BTreeMap<String, Record>) -> Vec<String> {
    let wordless = records.values().filter(|record| {
        record.condition("Accepted")["status"] == "True" && record.left_with.iter().any(String::is_empty)
    });
    let unseen = seen.deleted.iter().chain(seen.vanished.values()).filter(|robot| {
        let words = condition(robot, "RobotDeleted").map(|last| &last.message);
        let record = records.get(&uid(robot));
        let vanished = seen.vanished.contains_key(&uid(robot));
        let told = |record: &Record| record.left_with.iter().any(|left| vanished || Some(left) == words);
        is_true(robot, "Accepted") && !record.is_some_and(told)
    });
    wordless.map(|record| record.name.clone()).chain(unseen.map(ResourceExt::name_any)).collect()
}

/// The accepted robots that the operator let go, each as it was stored last: as the DELETED event had it, else as the
/// audit log has it.
fn let_go(seen: &Seen, records: &BTreeMap<String, Record>) -> Vec<RoomRobot> {
    let unseen = seen.vanished.values().chain(seen.present.values()).filter_map(|robot| {
        let record = records.get(&uid(robot)).filter(|record| !record.left_with.is_empty())?;
        let mut stored = serde_json::to_value(robot).unwrap();
        for (field, value) in &record.status {
            stored["status"][field] = value.clone();
        }
        Some(serde_json::from_value(stored).unwrap())
    });
    seen.deleted.iter().cloned().chain(unseen).filter(|robot| is_true(robot, "Accepted")).collect()
}

/// The RequestId of the answer that a robot left with.
fn last_request(robot: &RoomRobot) -> Option<&str> {
    robot.status.as_ref()?.last_request.as_ref()?.request_id.as_deref()
}

/// A robot leaves with the answer that the room engine gave for it, or because a person chose so.
fn verify_end(robot: &RoomRobot, calls: &[Call]) {
    let about = calls.iter().filter(|call| is_about(call, robot)).map(|call| promises::Call {
        add: call.command == "add_robot",
        code: call.code,
        request_id: call.request_id.clone(),
    });
    let end = promises::left(&serde_json::to_value(robot).unwrap(), &about.collect::<Vec<_>>());
    assert!(end.is_ok(), "{end:?}");
}

fn is_about(call: &Call, robot: &RoomRobot) -> bool {
    (&call.room, &call.member) == (&robot.spec.room_id, &robot.spec.member_account)
}

/// For each robot of a room, the calls that followed a final answer which had been delivered. An answer that is
/// recorded ends the deletion of one RoomRobot; what follows is for the next one of the same robot, if there is one.
fn calls_after_the_end(robots: &[RoomRobot], seen: &Seen, calls: &[Call]) -> Vec<((String, String), usize)> {
    let recorded: BTreeSet<&str> =
        robots.iter().map(|robot| last_request(robot).unwrap_or_default()).collect();
    let mut lives: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let others = seen.present.values().chain(seen.vanished.values());
    for robot in seen.deleted.iter().chain(others) {
        *lives.entry((&robot.spec.room_id, &robot.spec.member_account)).or_default() += 1;
    }
    let mut by_robot: BTreeMap<(u32, &str, &str), Vec<&Call>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.command == "delete_robot") {
        by_robot.entry((call.sdk_app_id, &call.room, &call.member)).or_default().push(call);
    }
    let mut counts = Vec::new();
    for ((_, room, member), calls) in by_robot {
        let (mut left, mut answered, mut more, mut most) = (lives.get(&(room, member)).copied(), false, 0, 0);
        for call in calls {
            more += usize::from(answered);
            most = most.max(more);
            answered |= call.delivered && call.code.is_some_and(|code| promises::FINAL.contains(&code));
            if answered && recorded.contains(call.request_id.as_str()) {
                left = left.map(|left| left.saturating_sub(1));
                (answered, more) = (left == Some(0), 0);
            }
        }
        counts.push(((room.to_owned(), member.to_owned()), most));
    }
    counts
}
