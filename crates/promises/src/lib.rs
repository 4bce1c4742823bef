//! The promises of README.md, as properties of what anybody can see from outside: stored RoomRobots, and the calls
//! that arrived at the room engine.
//!
//! Pure, and written once: the search over simulated worlds and the reliability matrix on a real control plane ask the same
//! functions. Objects are JSON as the API server has it; an error is a sentence that says which promise is broken, and how.

#![allow(clippy::indexing_slicing, reason = "a field of JSON that is not there is null")]

use serde_json::Value;

/// The ErrorCodes that end a deletion: done, the room is gone, not a member (the vendor's page "Deleting a Robot").
pub const FINAL: [i64; 3] = [0, 100_004, 100_005];

/// A call about one robot that arrived at the room engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// `add_robot`, else `delete_robot`.
    pub add: bool,
    /// The ErrorCode of the answer, where there was one.
    pub code: Option<i64>,
    /// The RequestId of the answer; empty where there was none.
    pub request_id: String,
}

impl Call {
    /// Whether the answer ends the deletion of the robot.
    #[must_use]
    pub fn ends(&self) -> bool {
        !self.add && self.code.is_some_and(|code| FINAL.contains(&code))
    }
}

/// Why an accepted RoomRobot may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The room engine gave a final answer.
    Answered,
    /// A person chose `Retain`.
    Retained,
    /// Another RoomRobot stands for the robot.
    Claimed,
    /// `add_robot` was never sent for it.
    NeverAdded,
}

/// A condition of a stored object.
#[must_use]
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The reason of a condition.
#[must_use]
pub fn reason<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    condition(object, kind)?["reason"].as_str()
}

/// Whether a condition is True.
#[must_use]
pub fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Namespace and name.
#[must_use]
pub fn name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Promises 2 and 4, *nothing lost* and *RequestId kept*: an accepted RoomRobot leaves with the answer that the room engine
/// gave for its robot, and with the RequestId of that answer, or because a person chose so. `last` is its last view, `calls`
/// are all about its robot, in the order of their answers.
///
/// # Errors
/// What is wrong with the way in which it left.
pub fn left(last: &Value, calls: &[Call]) -> Result<End, String> {
    let name = name(last);
    let Some(deleted) = condition(last, "RobotDeleted") else {
        return Err(format!("{name} left without a word"));
    };
    let message = deleted["message"].as_str().unwrap_or_default();
    let reason = deleted["reason"].as_str().unwrap_or_default();
    let is = if reason == "StillClaimed" { "False" } else { "True" };
    if deleted["status"] != is {
        return Err(format!("{name} left with RobotDeleted={}, {reason}", deleted["status"]));
    }
    let id = last["status"]["lastRequest"]["requestId"].as_str().unwrap_or_default();
    match reason {
        "Retained" | "StillClaimed" => {
            // A process that had to stop acting may have recorded an earlier call after that.
            let known = calls.iter().position(|call| call.request_id == id);
            let later = calls.iter().skip(known.unwrap_or(usize::MAX));
            let named =
                message.ends_with(id) || later.into_iter().any(|call| message.ends_with(&call.request_id));
            if !named {
                return Err(format!("{name} left and does not name its last call, {id}: {message}"));
            }
            Ok(if reason == "Retained" { End::Retained } else { End::Claimed })
        }
        "NotInRoom" if message.contains("was never sent") => {
            if calls.iter().any(|call| call.add) {
                return Err(format!("{name} was added, and left as if it had not been"));
            }
            Ok(End::NeverAdded)
        }
        "Deleted" | "RoomNotFound" | "NotInRoom" => {
            let Some(call) = calls.iter().find(|call| call.request_id == id) else {
                return Err(format!("{name} left with the RequestId {id:?}, which nobody gave"));
            };
            if !call.ends() {
                return Err(format!("{name} left with an answer that ends nothing: {call:?}"));
            }
            let ending = if id.is_empty() { "no RequestId" } else { id };
            if !message.ends_with(ending) {
                return Err(format!("{name} left without its RequestId, {ending}: {message}"));
            }
            Ok(End::Answered)
        }
        other => Err(format!("{name} left with {other}: {message}")),
    }
}

/// Promise 3, *nothing stuck in silence*: what a RoomRobot waits for stands in a condition. For one that has waited longer
/// than it takes to write that down.
///
/// # Errors
/// If it does not.
pub fn told(object: &Value) -> Result<(), String> {
    let deleting = object["metadata"].get("deletionTimestamp").is_some();
    let kind = if deleting { "RobotDeleted" } else { "Ready" };
    match condition(object, kind) {
        Some(found) if found["message"].as_str().is_some_and(|message| !message.is_empty()) => Ok(()),
        _ => Err(format!("{} waits, and no {kind} says for what", name(object))),
    }
}

/// Promise 8, *good neighbours*: what another tenant calls its objects is not told. `others` are the names of the other
/// namespaces.
///
/// # Errors
/// Which message names one.
pub fn discreet(object: &Value, others: &[&str]) -> Result<(), String> {
    let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let messages = object["status"]["conditions"].as_array().into_iter().flatten();
    for message in messages.filter_map(|condition| condition["message"].as_str()) {
        let told = others.iter().find(|other| **other != own && message.contains(&format!("{other}/")));
        if let Some(told) = told {
            return Err(format!("{} is told of an object in {told}: {message}", name(object)));
        }
    }
    Ok(())
}

/// Promise 7, *quiet*: whether a person who looks at the two reads the same, but for words.
#[must_use]
pub fn reads_the_same(before: &Value, after: &Value) -> bool {
    fn read(object: &Value) -> (Vec<[&Value; 3]>, [&Value; 2]) {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let told = conditions.map(|one| [&one["type"], &one["status"], &one["reason"]]).collect();
        (told, [&object["status"]["lastRequest"], &object["status"]["observedGeneration"]])
    }
    read(before) == read(after)
}

/// Promise 5, *quota kept*: the most of `times`, which ascend, that fall into `span` from one of them on.
#[must_use]
pub fn most_in(times: &[u64], span: u64) -> usize {
    let (mut from, mut most) = (0, 0);
    for (to, time) in times.iter().enumerate() {
        while times.get(from).is_some_and(|first| first + span <= *time) {
            from += 1;
        }
        most = most.max(to + 1 - from);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn robot(reason: &str, status: &str, message: &str, id: Option<&str>) -> Value {
        json!({
            "metadata": {"namespace": "ns", "name": "r", "deletionTimestamp": "now"},
            "status": {
                "conditions": [{"type": "RobotDeleted", "status": status, "reason": reason, "message": message}],
                "lastRequest": id.map(|id| json!({"requestId": id})),
            },
        })
    }

    fn call(add: bool, code: i64, request_id: &str) -> Call {
        Call { add, code: Some(code), request_id: request_id.to_owned() }
    }

    #[test]
    fn an_end_needs_the_answer_that_it_names() {
        let gone = robot("RoomNotFound", "True", "gone; ErrorCode 100004, RequestId Id-7", Some("Id-7"));
        assert_eq!(left(&gone, &[call(false, 100_004, "Id-7")]), Ok(End::Answered));
        assert!(left(&gone, &[call(false, 100_004, "Id-8")]).unwrap_err().contains("nobody gave"));
        assert!(left(&gone, &[call(false, 100_001, "Id-7")]).unwrap_err().contains("ends nothing"));
        assert!(left(&gone, &[call(true, 0, "Id-7")]).unwrap_err().contains("ends nothing"));
        let unnamed = robot("Deleted", "True", "gone", Some("Id-7"));
        assert!(left(&unnamed, &[call(false, 0, "Id-7")]).unwrap_err().contains("without its RequestId"));
        let waits = robot("Throttled", "False", "slow", None);
        assert!(left(&waits, &[]).unwrap_err().contains("Throttled"));
        assert!(left(&json!({}), &[]).unwrap_err().contains("without a word"));
    }

    #[test]
    fn who_is_released_names_its_last_call() {
        let named = robot("Retained", "True", "stays; RequestId Id-3", Some("Id-3"));
        assert_eq!(left(&named, &[]), Ok(End::Retained));
        let silent = robot("StillClaimed", "False", "nothing was called", Some("Id-3"));
        assert!(left(&silent, &[]).unwrap_err().contains("does not name"));
        let never = robot("NotInRoom", "True", "add_robot was never sent for it", None);
        assert_eq!(left(&never, &[]), Ok(End::NeverAdded));
        assert!(left(&never, &[call(true, 100_001, "")]).unwrap_err().contains("was added"));
    }

    #[test]
    fn what_waits_says_for_what_and_names_nobody_else() {
        let waits = robot("Suspended", "False", "team-b/secret-name is claimed", None);
        assert!(told(&waits).is_ok());
        assert!(told(&json!({"metadata": {}})).is_err());
        assert!(discreet(&waits, &["team-b"]).unwrap_err().contains("is told of"));
        assert!(discreet(&waits, &["team-c", "ns"]).is_ok());
        let other_words = robot("Suspended", "False", "other words", None);
        assert!(reads_the_same(&waits, &other_words));
        assert!(!reads_the_same(&waits, &robot("Throttled", "False", "other words", None)));
    }

    #[test]
    fn the_most_in_a_span_is_counted_from_each_time() {
        assert_eq!(most_in(&[], 10), 0);
        assert_eq!(most_in(&[0, 9, 10, 11, 30], 10), 3);
        assert_eq!(most_in(&[0, 10, 20], 10), 1);
    }
}
