//! A stored RoomRobot of any age. First line: which status is wanted; then the object.
//!
//! - Reduced as it comes, it reads as it does whole, in an answer, in a list and in an event.
//! - A policy that is not known never deletes or creates.
//! - The finalizer is where it is said to be; patches of the status fit, and soon say what is wanted.

use super::{
    head,
    lean::reduce,
    object_or_none,
    patch::{self, Kept},
    short,
};
use hyper::Method;
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    call::judge,
    codes::Operation,
    crd::{CreationPolicy, DeletionPolicy, ROBOT_FINALIZER},
    engine::{Now, status_patch},
    plan::Attempt,
    robot::{Robot, Stored},
    status::{Conditions, Wanted},
    usersig::Sensitive,
};
use serde_json::{Value, from_slice, from_value};
use std::time::Duration;

const LIST: &str = "/apis/roomrobot.dev/v1alpha1/roomrobots";

pub fn check(bytes: &[u8]) {
    let (wanted, object) = head(bytes);
    let Ok(whole) = from_slice::<Value>(object) else { return };
    if !whole.is_object() {
        return;
    }
    let reduced = reduced("/apis/roomrobot.dev/v1alpha1/namespaces/n/roomrobots/r", object);
    let Ok(robot) = from_slice::<Stored>(object).map(Robot::from) else { return };
    if short(&whole) {
        assert_eq!(from_slice::<Stored>(&reduced).map(Robot::from).unwrap(), robot);
        let list = reduced_in(LIST, r#"{"items":["#, object, "]}");
        assert_eq!(from_value::<Stored>(list["items"][0].clone()).map(Robot::from).unwrap(), robot);
        let watch = format!("{LIST}?watch=true");
        let event = reduced_in(&watch, r#"{"type":"MODIFIED","object":"#, object, "}");
        assert_eq!(from_value::<Stored>(event["object"].clone()).map(Robot::from).unwrap(), robot);
    }
    // A structure may be written as a list as well, which no schema allows.
    let (meta, spec, status) = (&whole["metadata"], &whole["spec"], &whole["status"]);
    if ![meta, spec, status].into_iter().all(object_or_none) {
        return;
    }
    let policy = &spec["deletionPolicy"];
    if robot.deletion_policy == DeletionPolicy::Delete {
        assert!(policy.is_null() || policy == "Delete", "{policy}");
    }
    if robot.creation_policy == CreationPolicy::Create {
        assert_eq!(spec["creationPolicy"], "Create");
    }
    if let Some(last) = &robot.last_request {
        assert!(last.operation.len() <= 256 && last.request_id.as_ref().is_none_or(|id| id.len() <= 256));
    }
    let finalizers = meta["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
    // A number stands for others in a reduced list alone.
    if finalizers.iter().all(Value::is_string) {
        assert_eq!(robot.finalizers.count, finalizers.len());
        let first = finalizers.iter().position(|name| name == ROBOT_FINALIZER);
        assert_eq!(robot.finalizers.ours, first);
    }
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    // The API server has always given it a version, and writes a number as one does.
    let versioned = meta["resourceVersion"].as_str() == Some(&*robot.resource_version.to_string());
    if conditions.iter().all(Value::is_object) && versioned {
        patch::check::<Robot>(whole, wanted);
    }
}

impl Kept for Robot {
    fn read(object: &Value) -> Option<Self> {
        from_value::<Stored>(object.clone()).ok().map(Self::from)
    }

    fn conditions(&self) -> Conditions {
        self.conditions
    }

    fn generation(&self) -> i64 {
        self.generation
    }

    fn patch(&self, wanted: &[Wanted], choice: &[u8]) -> Vec<Value> {
        let now = Now { since_start: Duration::ZERO, wall: Timestamp::from_second(1_800_000_000).unwrap() };
        let outcome = judge(200, choice).without(&Sensitive::new(String::new()));
        let class = outcome.class(Operation::DeleteRobot);
        let attempt = Attempt {
            operation: Operation::DeleteRobot,
            outcome,
            class,
            at: 1_800_000_000,
            recorded: false,
            settled: Duration::ZERO,
        };
        status_patch(self, wanted, Some(&attempt), now)
    }
}

fn reduced(path: &str, object: &[u8]) -> Vec<u8> {
    let reduced = reduce(&Method::GET, path, object, 31).unwrap();
    reduced.unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(object)))
}

fn reduced_in(path: &str, before: &str, object: &[u8], after: &str) -> Value {
    from_slice(&reduced(path, &[before.as_bytes(), object, after.as_bytes()].concat())).unwrap()
}
