//! Writes to the API server: finalizers, status, Events.
//!
//! Touches the API server and nothing else. One attempt each, with a deadline; the engine decides what follows.

use crate::{deadline::Deadlines, lean::LeanLayer};
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
    core::Status,
};
use roomrobot_client::errors::{explain, is_unreachable};
use roomrobot_core::{
    api_server::{FIELD_MANAGER, WRITE_TIMEOUT, classify, event_name, operations},
    application::StoredApplication,
    crd::{ROBOT_FINALIZER, RoomRobot, RtcApplication},
    endpoint::Allowed,
    engine::{Announcement, ObjectRef, StoredObject, Write, WriteError},
    printable::shortened,
    robot::Stored,
    write_trouble::Part,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt::Debug, future::Future, time::Duration};
use tower::{BoxError, ServiceBuilder};

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

/// Writes `write`, and returns the object as it is stored then. `finalizer` is the operator's on RtcApplications, whose
/// endpoints have to be among those `allowed`.
///
/// # Errors
/// As [`WriteError`] has them.
pub async fn write(
    client: &Client,
    write: &Write,
    allowed: &Allowed,
    finalizer: &str,
) -> Result<StoredObject, WriteError> {
    match write.object {
        ObjectRef::Robot(_) => {
            let namespace = write.namespace.as_deref().unwrap_or_default();
            let api = Api::<Stored>::namespaced(client.clone(), namespace);
            let stored = patch(&api, write, ROBOT_FINALIZER).await?;
            Ok(StoredObject::Robot(Box::new(stored.into())))
        }
        ObjectRef::Application(_) => {
            let stored = patch(&Api::<RtcApplication>::all(client.clone()), write, finalizer).await?;
            Ok(StoredObject::Application(Box::new(StoredApplication::read(stored, allowed))))
        }
    }
}

async fn patch<K>(api: &Api<K>, write: &Write, finalizer: &str) -> Result<K, WriteError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let Write { name, uid, change, .. } = write;
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json_patch(operations(uid, change, finalizer))?;
    match change.part() {
        Part::Status => timely(api.patch_status(name, &params, &patch)).await,
        Part::Finalizer => timely(api.patch(name, &params, &patch)).await,
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

/// Whether the API server takes nothing new because the namespace is being deleted.
fn goes(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Publishes an Event, once and without regret: it must never be in the way of a deletion. Where its namespace has just
/// begun to go, which no watch may have told yet, it is published in `own`, the operator's namespace.
///
/// # Errors
/// As [`WriteError`] has them; only to be counted.
pub async fn publish(
    client: &Client,
    announcement: &Announcement,
    pod: &str,
    own: &str,
) -> Result<(), WriteError> {
    let create = |namespace: &str| {
        let mut event = event(announcement, pod);
        event.metadata.namespace = Some(namespace.to_owned());
        let api = Api::<Event>::namespaced(client.clone(), namespace);
        async move { api.create(&PostParams::default(), &event).await }
    };
    let published = async {
        match create(&announcement.namespace).await {
            Err(kube::Error::Api(status)) if goes(&status) => create(own).await,
            result => result,
        }
    };
    let result = timely(published).await.map(drop);
    if let Err(error) = &result {
        tracing::debug!(?error, name = %announcement.name, "could not publish an Event");
    }
    result
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
            reason: roomrobot_core::status::Reason::PermissionDenied,
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
}
