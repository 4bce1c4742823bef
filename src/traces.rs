//! Traces over OTLP: each deletion of a robot is one trace, and its id is the RoomRobot's UID.
//!
//! Touches the collector and nothing else; decides nothing. What cannot be sent is dropped: a collector that is down
//! must never be in the way of a deletion. Without the feature `otlp` nothing is sent, and there is no flag for it.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
use otlp::Exporter;
use roomrobot_core::{
    call::Outcome,
    codes::Operation,
    engine::{Call, Change, StoredObject, Write, WriteError},
    robot::Robot,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Without the feature there is no exporter, nor can there be one.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
enum Exporter {}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    const fn send(&self, _: &str, _: Span) {
        match *self {}
    }

    const fn end(&self, _: Duration) {
        match *self {}
    }
}

/// The traces that can be sent need a collector that can be asked for them.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up traces: {0}; check --otlp-endpoint and the variables OTEL_*")]
pub struct SetupError(String);

/// Where spans go, if anywhere.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Exporter>>);

/// A span, before it has its ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What was done.
    pub name: &'static str,
    /// Its place in the trace.
    pub place: Place,
    /// Whether it is a request to the room engine or to the API server.
    pub request: bool,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What a person asks for.
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// A span's place in the trace of its RoomRobot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The deletion, from the request for it to the removal of the finalizer.
    Deletion,
    /// A part of the deletion.
    OfDeletion,
    /// Before any deletion.
    Alone,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Traces {
    /// Traces that go to the collector at `endpoint`, to its path `/v1/traces`.
    ///
    /// # Errors
    /// If the exporter does not take the configuration.
    #[cfg(feature = "otlp")]
    pub fn to(
        endpoint: &roomrobot_core::endpoint::Endpoint,
        namespace: &str,
        pod: &str,
    ) -> Result<Self, SetupError> {
        Ok(Self(Some(Arc::new(Exporter::new(endpoint, namespace, pod)?))))
    }

    /// Tells of a call that took from `start` until now.
    pub fn called(&self, call: &Call, outcome: &Outcome, start: SystemTime) {
        if let Some(exporter) = &self.0 {
            exporter.send(&call.uid, of_call(call, outcome, start));
        }
    }

    /// Tells of a write to a RoomRobot that took from `start` until now, and of the deletion that it ended, if it did.
    pub fn wrote(&self, write: &Write, result: &Result<StoredObject, WriteError>, start: SystemTime) {
        let (Some(exporter), Some(namespace)) = (&self.0, &write.namespace) else {
            return;
        };
        exporter.send(&write.uid, of_write(write, namespace, result, start));
        if let (Change::DropFinalizer { .. }, Ok(StoredObject::Robot(robot))) = (&write.change, result)
            && let Some(since) = robot.deleting_since
        {
            exporter.send(&write.uid, of_deletion(robot, since));
        }
    }

    /// Sends what is left, for at most `within`; blocks.
    pub fn end(&self, within: Duration) {
        if let Some(exporter) = &self.0 {
            exporter.end(within);
        }
    }
}

fn of_call(call: &Call, outcome: &Outcome, start: SystemTime) -> Span {
    let class = outcome.class(call.operation);
    let mut attributes = vec![
        ("k8s.namespace.name", Value::from(&*call.key.namespace)),
        ("roomrobot.name", Value::from(&*call.key.name)),
        ("roomrobot.application", Value::from(&*call.application)),
        ("roomrobot.room_id", Value::from(call.target.room_id.as_str())),
        ("roomrobot.member_account", Value::from(call.target.member_account.as_str())),
        ("roomrobot.verdict", Value::from(class.as_str())),
    ];
    attributes.extend(outcome.request_id().map(|id| ("roomrobot.request_id", Value::from(id))));
    attributes.extend(outcome.code().map(|code| ("roomrobot.error_code", Value::Number(code))));
    attributes.extend(
        outcome.http_status().map(|status| ("http.response.status_code", Value::Number(status.into()))),
    );
    Span {
        name: call.operation.as_str(),
        place: match call.operation {
            Operation::DeleteRobot => Place::OfDeletion,
            Operation::AddRobot => Place::Alone,
        },
        request: true,
        start,
        end: SystemTime::now(),
        attributes,
        error: (!class.is_final()).then(|| outcome.sentence(call.operation)),
    }
}

fn of_write(
    write: &Write,
    namespace: &str,
    result: &Result<StoredObject, WriteError>,
    start: SystemTime,
) -> Span {
    let name = match write.change {
        Change::FirstFinalizer | Change::MoreFinalizer => "add finalizer",
        Change::DropFinalizer { .. } => "drop finalizer",
        Change::Status(_) => "write status",
    };
    Span {
        name,
        place: if write.deleting { Place::OfDeletion } else { Place::Alone },
        request: true,
        start,
        end: SystemTime::now(),
        attributes: vec![
            ("k8s.namespace.name", Value::from(namespace)),
            ("roomrobot.name", Value::from(&*write.name)),
        ],
        error: match result {
            Ok(_) => None,
            Err(WriteError::NotFound) => Some("it is not there any more".to_owned()),
            Err(error) => error.reason().map(str::to_owned),
        },
    }
}

/// The deletion of `robot`, which was asked for at `since` (Unix seconds), and is over now.
fn of_deletion(robot: &Robot, since: i64) -> Span {
    let end = SystemTime::now();
    let since = Duration::from_secs(u64::try_from(since).unwrap_or_default());
    Span {
        name: "delete RoomRobot",
        place: Place::Deletion,
        request: false,
        // Another machine's clock may have said when.
        start: (SystemTime::UNIX_EPOCH + since).min(end),
        end,
        attributes: vec![
            ("k8s.namespace.name", Value::from(&*robot.key.namespace)),
            ("roomrobot.name", Value::from(&*robot.key.name)),
            ("roomrobot.application", Value::from(&*robot.application)),
            ("roomrobot.reason", Value::from(robot.ended_as())),
        ],
        error: None,
    }
}
