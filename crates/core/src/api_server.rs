//! What goes to the API server, and what its answers mean: patches, names, the meaning of a refusal. Pure.

use crate::{
    engine::{Change, WriteError, of_version},
    printable::printable,
};
use kube::core::Status;
use serde_json::{Value, json};
use std::time::Duration;

/// The manager of the fields that the operator writes, and the reporter of its Events.
pub const FIELD_MANAGER: &str = "roomrobot-operator";

/// The longest a single write may take.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest name of an object, without the point and the 16 digits that make the name of an Event.
const LONGEST_NAME: usize = 253 - 17;

/// A name for an Event about the object `name`, no longer than names may be.
#[must_use]
pub fn event_name(name: &str) -> String {
    let name = name.get(..LONGEST_NAME).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{name}.{:016x}", fastrand::u64(..))
}

/// The operations (JSON Patch) that make `change`. Every patch is bound to the UID: it must not land on another object of
/// the same name.
#[must_use]
pub fn operations(uid: &str, change: &Change, finalizer: &str) -> Value {
    let same = json!({"op": "test", "path": "/metadata/uid", "value": uid});
    let bound = |steps: &[Value]| json!(std::iter::once(&same).chain(steps).collect::<Vec<_>>());
    match change {
        Change::Status(status) => bound(status),
        Change::FirstFinalizer => json!([
            same,
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": [finalizer]},
        ]),
        Change::MoreFinalizer => {
            json!([same, {"op": "add", "path": "/metadata/finalizers/-", "value": finalizer}])
        }
        Change::DropFinalizer { at, version } => {
            let path = format!("/metadata/finalizers/{at}");
            let steps = vec![
                json!({"op": "test", "path": path, "value": finalizer}),
                json!({"op": "remove", "path": path}),
            ];
            bound(&of_version(*version, steps))
        }
    }
}

/// What an answer of the API server means for a write.
#[must_use]
pub fn classify(status: &Status) -> WriteError {
    match status.code {
        // A webhook chooses the code and the reason of its denial freely: neither says anything about what is stored.
        _ if is_webhooks(status) => WriteError::Refused(refusal(status)),
        // The API server has just started and does not know its policies, webhooks or quotas yet.
        403 if status.message.contains("not yet ready to handle request") => {
            WriteError::Other(refusal(status))
        }
        // Not what somebody on the way says, such as a load balancer; nor that the namespace is gone.
        404 if status.reason == "NotFound" && !is_about_namespace(status) => WriteError::NotFound,
        409 | 412 => WriteError::Conflict(refusal(status)),
        422 if is_out_of_date(status) => WriteError::Conflict(refusal(status)),
        // Too many requests, or one that took too long: the next one may be taken.
        408 | 429 => WriteError::Other(refusal(status)),
        400..=499 => WriteError::Refused(refusal(status)),
        _ => WriteError::Other(refusal(status)),
    }
}

/// Whether an admission webhook denied the write, or could not be asked and has to be.
fn is_webhooks(status: &Status) -> bool {
    let message = &status.message;
    message.starts_with("admission webhook \"") && message.contains("\" denied the request")
        || status.code == 500 && message.contains("failed calling webhook")
}

/// Whether there is no such namespace: what is stored in it can be written to only when it is made again.
fn is_about_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Whether a patch does not fit what is stored by now: a test in it failed, or a finalizer came too late.
fn is_out_of_date(status: &Status) -> bool {
    let of_finalizers = |details: &kube::core::response::StatusDetails| {
        details.causes.iter().any(|cause| cause.field == "metadata.finalizers")
    };
    status.message.starts_with("the server rejected our request")
        || status.details.as_ref().is_some_and(of_finalizers)
}

/// The message may hold words of a webhook or of a policy, and names of objects.
#[must_use]
pub fn refusal(status: &Status) -> String {
    format!("the API server answered {}: {}", status.code, printable(&status.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver 1.37 says it; what it means for a write.
    #[test]
    fn what_the_api_server_answers_is_told_apart() {
        let finalizer = json!([{"reason": "FieldValueForbidden", "field": "metadata.finalizers",
            "message": "Forbidden: no new finalizers can be added if the object is being deleted"}]);
        let webhook = "admission webhook \"guard.example.com\" denied the request: no";
        let broken = "Internal error occurred: failed calling webhook \"guard.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/?timeout=1s\": context deadline exceeded";
        let policy = "roomrobots.roomrobot.dev \"r\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: label team is missing";
        let rejected = "the server rejected our request due to an error in our request";
        let invalid = "RoomRobot.roomrobot.dev \"r\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
        let modified = "Operation cannot be fulfilled on roomrobots.roomrobot.dev \"r\": the object has been modified; please apply your changes to the latest version and try again";
        let rights = "roomrobots.roomrobot.dev \"r\" is forbidden: User \"u\" cannot patch resource \"roomrobots\" in API group \"roomrobot.dev\" in the namespace \"n\"";
        let starting = "roomrobots.roomrobot.dev \"r\" is forbidden: not yet ready to handle request";
        let (robot, namespace) = (json!({"kind": "roomrobots"}), json!({"kind": "namespaces"}));
        let of_finalizer = json!({"kind": "RoomRobot", "causes": finalizer});
        for (code, reason, message, details, expected) in [
            (404, "NotFound", "roomrobots.roomrobot.dev \"r\" not found", &robot, "not found"),
            (404, "NotFound", "namespaces \"n\" not found", &namespace, "refused"),
            (404, "", "404 page not found", &json!({}), "refused"),
            (409, "Conflict", modified, &robot, "conflict"),
            (422, "Invalid", rejected, &json!({}), "conflict"),
            (422, "Invalid", invalid, &of_finalizer, "conflict"),
            (422, "Invalid", "status.conditions[0].reason: Required value", &robot, "refused"),
            (422, "Invalid", policy, &robot, "refused"),
            (403, "Forbidden", rights, &robot, "refused"),
            (403, "Forbidden", starting, &robot, "other"),
            (401, "Unauthorized", "Unauthorized", &json!({}), "refused"),
            (
                400,
                "",
                "admission webhook \"g\" denied the request without explanation",
                &json!({}),
                "refused",
            ),
            (403, "", webhook, &json!({}), "refused"),
            (404, "NotFound", webhook, &json!({}), "refused"),
            (409, "Conflict", webhook, &json!({}), "refused"),
            (422, "Invalid", webhook, &of_finalizer, "refused"),
            (429, "", webhook, &json!({}), "refused"),
            (503, "", webhook, &json!({}), "refused"),
            (
                500,
                "InternalError",
                broken,
                &json!({"causes": [{"message": "failed calling webhook"}]}),
                "refused",
            ),
            (500, "InternalError", "Internal error occurred: etcdserver: no leader", &json!({}), "other"),
            (408, "Timeout", "request did not complete within the allotted timeout", &json!({}), "other"),
            (429, "TooManyRequests", "too many requests, please try again later", &json!({}), "other"),
            (504, "Timeout", "request did not complete within requested timeout", &json!({}), "other"),
        ] {
            let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": code, "reason": reason, "message": message, "details": details});
            let status: Status = serde_json::from_value(body).unwrap();
            let is = match classify(&status) {
                WriteError::NotFound => "not found",
                WriteError::Refused(_) => "refused",
                WriteError::Conflict(_) => "conflict",
                WriteError::Unreachable(_) | WriteError::Late => "no answer",
                WriteError::Other(_) => "other",
            };
            assert_eq!(is, expected, "{code} {reason}: {message}");
        }
    }

    #[test]
    fn the_events_of_long_names_have_names_that_are_taken() {
        let long = format!("{}.{}", "a".repeat(LONGEST_NAME - 1), "b".repeat(16));
        let name = event_name(&long);
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert!(event_name("short").starts_with("short."));
    }
}
