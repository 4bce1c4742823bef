//! Writes to the API server: finalizers, status, Events.
//!
//! Touches the API server and nothing else. One attempt each, with a deadline; the engine decides what follows.

use crate::{
    application::Spec,
    crd::{ROBOT_FINALIZER, RoomRobot, RtcApplication},
    deadline::Deadlines,
    endpoint::Allowed,
    engine::{Announcement, ApplicationWrite, Change, Write, WriteError, of_version},
    lean::LeanLayer,
    printable::{printable, shortened},
    robot::{Robot, Stored},
    telemetry::root_cause,
};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Config, Resource as _,
    api::{Patch, PatchParams, PostParams},
    client::{Body, ClientBuilder, ConfigExt as _},
    config::KubeconfigError,
    core::Status,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, future::Future, time::Duration};
use tower::{BoxError, ServiceBuilder};

/// The manager of the fields that the operator writes, and the reporter of its Events.
pub const FIELD_MANAGER: &str = "roomrobot-operator";

/// The longest a single write may take.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a connection may be silent before its other end is asked for a sign, and until it is asked again.
const KEEPALIVE: Duration = Duration::from_secs(4);

/// The longest note of an Event that the API takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// A client as `kube` makes it, but for two things. Its answers are [lean](crate::lean). And it does not wait for the acknowledgement of a request's head before
/// it sends the body. That wait, of Nagle's algorithm for a delayed acknowledgement, costs 40 ms for each patch.
///
/// # Errors
/// If the configuration cannot be used.
pub fn client(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // Rare, and `kube` knows how, or says why not.
        let client = ClientBuilder::try_from(config)?;
        return Ok(client.with_layer(&Deadlines::default()).with_layer(&LeanLayer).build());
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // A connection whose other end is gone without a word is noticed before a Lease is.
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(KEEPALIVE * 3));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(LeanLayer)
        .layer(Deadlines::default())
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// Writes `write`, and returns the robot as it is stored then.
///
/// # Errors
/// As [`WriteError`] has them.
pub async fn write_robot(client: &Client, write: &Write) -> Result<Robot, WriteError> {
    let api = Api::<Stored>::namespaced(client.clone(), &write.key.namespace);
    change(&api, &write.key.name, &write.uid, &write.change, ROBOT_FINALIZER).await.map(Robot::from)
}

/// Writes `write`, and returns the application as it is stored then.
///
/// # Errors
/// As [`WriteError`] has them.
pub async fn write_application(
    client: &Client,
    write: &ApplicationWrite,
    allowed: &Allowed,
    finalizer: &str,
) -> Result<Spec, WriteError> {
    let api = Api::<RtcApplication>::all(client.clone());
    let stored = change(&api, &write.name, &write.uid, &write.change, finalizer).await?;
    Ok(Spec::read(stored, allowed))
}

async fn change<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    change: &Change,
    finalizer: &str,
) -> Result<K, WriteError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json_patch(operations(uid, change, finalizer))?;
    match change {
        Change::Status(_) => timely(api.patch_status(name, &params, &patch)).await,
        _ => timely(api.patch(name, &params, &patch)).await,
    }
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

fn json_patch(operations: Value) -> Result<Patch<()>, WriteError> {
    serde_json::from_value(operations).map(Patch::Json).map_err(|error| WriteError::Other(error.to_string()))
}

async fn timely<T>(write: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Err(_) => Err(WriteError::Late),
        Ok(result) => result.map_err(|error| match error {
            kube::Error::Api(status) => classify(&status),
            error if is_unreachable(&error) => WriteError::Unreachable(explain(&error)),
            error => WriteError::Other(explain(&error)),
        }),
    }
}

/// What an answer of the API server means for a write.
#[must_use]
pub fn classify(status: &Status) -> WriteError {
    match status.code {
        // A webhook chooses the code and the reason of its denial freely: neither says anything about what is stored.
        _ if is_webhooks(status) => WriteError::Refused(told(status)),
        // The API server has just started and does not know its policies, webhooks or quotas yet.
        403 if status.message.contains("not yet ready to handle request") => WriteError::Other(told(status)),
        // Not what somebody on the way says, such as a load balancer; nor that the namespace is gone.
        404 if status.reason == "NotFound" && !is_about_namespace(status) => WriteError::NotFound,
        409 | 412 => WriteError::Conflict(told(status)),
        422 if is_out_of_date(status) => WriteError::Conflict(told(status)),
        // Too many requests, or one that took too long: the next one may be taken.
        408 | 429 => WriteError::Other(told(status)),
        400..=499 => WriteError::Refused(told(status)),
        _ => WriteError::Other(told(status)),
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

/// Whether the API server takes nothing new because the namespace is being deleted.
fn goes(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Whether there was no way to the API server, or it was lost.
const fn is_unreachable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// The message may hold words of a webhook or of a policy, and names of objects.
fn told(status: &Status) -> String {
    format!("the API server answered {}: {}", status.code, printable(&status.message))
}

/// A `kube` error in one clause and on one line, without the debug output that its own `Display` adds.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => told(status),
        error if is_unreachable(error) => {
            format!("the API server cannot be reached: {}", printable(&root_cause(error)))
        }
        other => printable(&other.to_string()).into_owned(),
    }
}

/// Why there is no configuration of a cluster, in one clause and on one line. A kubeconfig that cannot be read is told by the
/// place, without the lines around it that its own `Display` shows: a token may stand in them.
#[must_use]
pub fn explain_config(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let told = match causes.find_map(|error| error.downcast_ref()) {
        Some(KubeconfigError::Parse(error)) => {
            format!("the kubeconfig cannot be read: {}", error.without_snippet())
        }
        _ => error.to_string(),
    };
    printable(&told).into_owned()
}

/// Publishes an Event, once and without regret: it must never be in the way of a deletion. Where its namespace has just
/// begun to go, which no watch may have told yet, it is published in `own`, the operator's namespace.
///
/// # Errors
/// As [`WriteError`] has them; only to be counted.
pub async fn announce(
    client: &Client,
    announcement: &Announcement,
    pod: &str,
    own: &str,
) -> Result<(), WriteError> {
    let publish = |namespace: &str| {
        let mut event = event(announcement, pod);
        event.metadata.namespace = Some(namespace.to_owned());
        let api = Api::<Event>::namespaced(client.clone(), namespace);
        async move { api.create(&PostParams::default(), &event).await }
    };
    let published = async {
        match publish(&announcement.namespace).await {
            Err(kube::Error::Api(status)) if goes(&status) => publish(own).await,
            result => result,
        }
    };
    let result = timely(published).await.map(drop);
    if let Err(error) = &result {
        tracing::debug!(?error, name = %announcement.name, "could not publish an Event");
    }
    result
}

/// The longest name of an object, without the point and the 16 digits that make the name of an Event.
const LONGEST_NAME: usize = 253 - 17;

/// A name for an Event about the object `name`, no longer than names may be.
#[must_use]
pub fn event_name(name: &str) -> String {
    let name = name.get(..LONGEST_NAME).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{name}.{:016x}", fastrand::u64(..))
}

fn event(announcement: &Announcement, pod: &str) -> Event {
    let api_version = match announcement.kind {
        "RoomRobot" => RoomRobot::api_version(&()),
        _ => RtcApplication::api_version(&()),
    };
    Event {
        metadata: ObjectMeta { name: Some(event_name(&announcement.name)), ..ObjectMeta::default() },
        event_time: Some(MicroTime(announcement.at)),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(pod.to_owned()),
        action: Some(announcement.action.to_owned()),
        reason: Some(announcement.reason.as_str().to_owned()),
        type_: Some(if announcement.warning { "Warning" } else { "Normal" }.to_owned()),
        note: Some(shortened(&announcement.note, NOTE_LIMIT)),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(announcement.kind.to_owned()),
            namespace: announcement.regarding_namespace.as_ref().map(ToString::to_string),
            name: Some(announcement.name.to_string()),
            uid: Some(announcement.uid.to_string()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line_and_ends_with_its_reference() {
        let end = ": ErrorCode 100006, RequestId Id-1";
        let announcement = Announcement {
            namespace: "n".into(),
            kind: "RoomRobot",
            regarding_namespace: Some("n".into()),
            name: "r".into(),
            uid: "u".into(),
            warning: true,
            reason: crate::status::Reason::PermissionDenied,
            action: "DeleteRobot",
            note: format!("a\nb\u{1b}[2J{}{end}", "é".repeat(NOTE_LIMIT)),
            at: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        };
        let note = event(&announcement, "pod").note.unwrap();
        assert!(
            note.len() <= NOTE_LIMIT && note.starts_with(r"a\nb\u{1b}[2Jé") && note.ends_with(end),
            "{note}"
        );
    }

    #[test]
    fn what_the_api_server_says_is_one_line() {
        let status =
            Status { code: 403, message: "denied:\nRtcApplication x\u{1b}[2J".into(), ..Status::default() };
        let said = r"the API server answered 403: denied:\nRtcApplication x\u{1b}[2J";
        assert_eq!(explain(&kube::Error::Api(status.boxed())), said);
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig_shows_nothing_of_it() {
        let text = "users:\n- name: u\n  user: {token: k8s-secret}\nclusters: [\n";
        let error = kube::config::Kubeconfig::from_yaml(text).unwrap_err();
        let said = explain_config(&error);
        assert!(said.starts_with("the kubeconfig cannot be read: ") && said.contains("line "), "{said}");
        assert!(!said.contains("secret") && said.lines().count() == 1, "{said}");
    }

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
