//! The reliability matrix: every fault that can be made here, with the promises checked object by object after it.
//!
//! `docs/reliability.md` is the same as a table; a test holds the two together.

pub mod api_server;
mod configuration;
mod matrix;
mod objects;
mod operator;
mod room_engine;

use crate::harness::{PATIENCE, World, condition, is_true, message_of, reason_of};
use kube::ResourceExt as _;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// ErrorCodes that end a deletion.
const FINAL: [i64; 3] = [0, 100_004, 100_005];

impl World {
    /// Compares what the room engine saw with what watchers saw, object by object: no accepted robot left Kubernetes
    /// without a final answer or `Retain`, every last view has its RequestId, and no robot was asked about more than
    /// `again` times after a final answer had been delivered.
    pub fn verify(&self, again: usize) {
        self.verify_calls(again);
        self.verify_audit(0);
    }

    /// As [`World::verify`], where the API server itself was killed and took the last lines of its audit log with it:
    /// up to `lost` of them.
    pub fn verify_with_lost_lines(&self, again: usize, lost: usize) {
        self.verify_calls(again);
        self.verify_audit(lost);
    }

    /// Compares what watchers saw with the API server's audit log: the operator took its finalizer off an accepted
    /// robot only after it had written the very words that the robot left with.
    fn verify_audit(&self, lost: usize) {
        let start = Instant::now();
        loop {
            let unrecorded = self.unrecorded();
            if unrecorded.len() <= lost {
                return;
            }
            // The last lines come a moment after what they tell of.
            assert!(start.elapsed() < PATIENCE, "no record before the finalizer went: {unrecorded:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The accepted robots that left without such a record.
    fn unrecorded(&self) -> Vec<String> {
        let mut told: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut left: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        // Whatever came of it: a write that the API server gave up on may be stored all the same.
        for write in self.attempts().iter().filter(|write| write.object_ref.resource == "roomrobots") {
            let object = (write.object_ref.namespace.clone(), write.object_ref.name.clone());
            let body = &write.request_object;
            if write.object_ref.subresource == "status" {
                let conditions = body["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let deleted = conditions.iter().find(|condition| condition["type"] == "RobotDeleted");
                if let Some(message) = deleted.and_then(|condition| condition["message"].as_str()) {
                    told.insert(object, message.to_owned());
                }
            } else if body.as_array().is_some_and(|patch| patch.iter().any(|step| step["op"] == "remove")) {
                left.entry(object.clone()).or_default().extend(told.remove(&object));
            }
        }
        let deleted = self.all_deleted();
        let accepted = deleted.iter().filter(|robot| is_true(robot, "Accepted"));
        let unrecorded = accepted.filter(|robot| {
            let object = (robot.namespace().unwrap(), robot.name_any());
            let words = message_of(robot, "RobotDeleted");
            !left.get(&object).is_some_and(|all| all.iter().any(|message| message == words))
        });
        unrecorded.map(kube::ResourceExt::name_any).collect()
    }

    fn verify_calls(&self, again: usize) {
        let calls = self.simulator.calls();
        let mut by_request: BTreeMap<&str, &testbed::simulator::Call> = BTreeMap::new();
        for call in &calls {
            by_request.insert(&call.request_id, call);
        }
        for robot in self.all_deleted().iter().filter(|robot| is_true(robot, "Accepted")) {
            let name = robot.name_any();
            let last =
                condition(robot, "RobotDeleted").unwrap_or_else(|| panic!("{name} left without a word"));
            match last.reason.as_str() {
                "Retained" | "StillClaimed" => {}
                "Deleted" | "RoomNotFound" | "NotInRoom" => {
                    let request = robot.status.as_ref().and_then(|status| status.last_request.as_ref());
                    let id = request.and_then(|request| request.request_id.clone());
                    let id = id.unwrap_or_else(|| panic!("{name} left without a RequestId"));
                    let call =
                        by_request.get(id.as_str()).unwrap_or_else(|| panic!("{name}: nobody gave {id}"));
                    assert!(call.code.is_some_and(|code| FINAL.contains(&code)), "{name}: {call:?}");
                    assert_eq!(
                        (&call.room, &call.member),
                        (&robot.spec.room_id, &robot.spec.member_account),
                        "{name}"
                    );
                    assert!(last.message.ends_with(&id), "{name}: {}", last.message);
                }
                other => panic!("{name} left with {other}: {}", last.message),
            }
        }
        let mut after: BTreeMap<(&str, &str), Option<usize>> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.command == "delete_robot") {
            let count = after.entry((&call.room, &call.member)).or_default();
            match count {
                Some(more) => *more += 1,
                None if call.delivered && call.code.is_some_and(|code| FINAL.contains(&code)) => {
                    *count = Some(0);
                }
                None => {}
            }
        }
        for ((room, member), more) in after {
            assert!(
                more.unwrap_or_default() <= again,
                "{room}/{member}: {more:?} calls after a final answer"
            );
        }
        let limit = 200;
        assert!(
            self.simulator.most_in_a_second() <= limit,
            "{} calls in a second",
            self.simulator.most_in_a_second()
        );
        assert_eq!(self.simulator.repeated_randoms(), 0);
    }

    /// The reason that a robot left with.
    pub async fn left_with(&self, name: &str) -> String {
        let last = self.gone(name).await;
        reason_of(&last, "RobotDeleted").unwrap_or_default().to_owned()
    }
}
