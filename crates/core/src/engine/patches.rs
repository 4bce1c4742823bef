//! The patches that statuses are written by.

use super::Now;
use crate::{plan::Attempt, robot::Robot, status::Wanted};
use serde_json::{Value, json};

/// The patch that makes the stored status say `wanted`, and tells of `attempt` if it is not told yet.
#[must_use]
pub fn status_patch(robot: &Robot, wanted: &[Wanted], attempt: Option<&Attempt>, now: Now) -> Vec<Value> {
    let mut fields = vec![("observedGeneration", json!(robot.generation))];
    if let Some(attempt) = attempt {
        let outcome = &attempt.outcome;
        let time = k8s_openapi::jiff::Timestamp::from_second(attempt.at).unwrap_or(now.wall);
        let mut request = json!({
            "operation": attempt.operation.as_str(),
            "requestId": outcome.request_id(),
            "errorCode": outcome.code(),
            "errorInfo": outcome.info(),
            "httpStatus": outcome.http_status(),
            "time": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time),
        });
        if let Some(fields) = request.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        fields.push(("lastRequest", request));
    }
    let patch = robot.conditions.patch(wanted, robot.generation, fields, now.wall);
    of_version(robot.resource_version, patch)
}

/// The same patch for this version of the object only: the API server answers 409 where there is a newer one.
#[must_use]
pub fn of_version(version: u64, mut patch: Vec<Value>) -> Vec<Value> {
    let version = version.to_string();
    patch.insert(0, json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    patch
}
